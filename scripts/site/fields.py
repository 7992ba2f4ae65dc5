"""What the code says about values: the comments of a class's fields and of a module's constants."""

from __future__ import annotations

import ast
import inspect
import re
from types import ModuleType
from typing import NamedTuple


class Field(NamedTuple):
    """One field as the code writes it."""

    name: str
    type: str
    default: str
    meaning: str


def comment(lines: list[str], first: int, last: int) -> str:
    """The comment on the lines ``first`` to ``last`` (from 1) of a source, or on the lines just above."""
    found = [_after_code(line) for line in lines[first - 1 : last]]
    if any(found):
        return " ".join(part for part in found if part)
    above: list[str] = []
    for line in reversed(lines[: first - 1]):
        if not line.strip().startswith("#"):
            break
        above.insert(0, line.strip().lstrip("# "))
    return " ".join(above)


def _after_code(line: str) -> str:
    match = re.search(r"""(?:[^"'#]|"[^"]*"|'[^']*')*?\s#\s*(.*)""", line)
    return re.sub(r"\s*(fmt: skip|noqa\b.*|type: ignore\S*)\s*$", "", match[1]).strip() if match else ""


def fields(cls: type) -> list[Field]:
    """The fields of a dataclass in order, each with its comment in the source."""
    lines = inspect.getsource(cls).splitlines()
    body = next(node for node in ast.parse("\n".join(lines)).body if isinstance(node, ast.ClassDef)).body
    found = []
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            default = "" if node.value is None else ast.unparse(node.value)
            default = re.sub(r"^field\(default_factory=(.*)\)$", r"\1()", default)
            meaning = comment(lines, node.lineno, node.end_lineno or node.lineno)
            found.append(Field(node.target.id, ast.unparse(node.annotation), default, meaning))
    return found


def constant(module: ModuleType, name: str) -> str:
    """The comment of a module's constant, wherever the module imports it from; empty if there is none."""
    source = inspect.getsource(module)
    for node in ast.parse(source).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        named = [one for target in targets for one in getattr(target, "elts", [target])]
        if any(isinstance(one, ast.Name) and one.id == name for one in named):
            return comment(source.splitlines(), node.lineno, node.lineno)
        if isinstance(node, ast.ImportFrom) and any((n.asname or n.name) == name for n in node.names):
            package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
            package = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            target = f"{package}.{node.module}" if node.module else package
            return constant(__import__(target, fromlist=["_"]), name)
    return ""
