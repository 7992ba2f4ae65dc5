"""The pages of the reference, made from the code: packages, configurations and the command line."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from pyrcnn import models, train
from pyrcnn.models.faster_rcnn.config import RoIConfig, RPNConfig
from scripts.site import names
from scripts.site.fields import constant, fields
from scripts.site.links import ROOT

CONFIGURATIONS = (models.CenterNetConfig, models.FasterRCNNConfig, RPNConfig, RoIConfig, train.TrainConfig)
ELSEWHERE = {"pyrcnn.ops"}  # the docstrings of its functions are on the operators' pages


def pages() -> dict[str, str]:
    """The pages below ``reference/``, by file name."""
    found = {f"{package.rpartition('.')[2]}.md": package_page(package) for package in names.PACKAGES}
    return {"index.md": index(), **found, "configurations.md": configurations(), "command_line.md": command_line()}


def index() -> str:
    """The list of packages with the first sentence of each."""
    lines = ["# Reference", "", "Public names are those listed here; everything else may change.",
             "", "| package | |", "|---|---|"]  # fmt: skip
    for package in names.PACKAGES:
        page = package.rpartition(".")[2]
        lines.append(f"| [`{package}`]({page}.md) | {cell(summary(importlib.import_module(package), package))} |")
    lines += ["| [configurations](configurations.md) | The fields of models' and trainings' settings. |",
              "| [command line](command_line.md) | The commands of `pyrcnn`. |"]  # fmt: skip
    return "\n".join([*lines, "", "## Conventions", "", *_conventions()]) + "\n"


def _conventions() -> Iterator[str]:
    """The conventions and the letters of shapes, which ``pyrcnn.structures`` defines."""
    text = (inspect.getdoc(importlib.import_module("pyrcnn.structures")) or "").partition("\n\n")[2]
    rule = re.compile(r"^=+ =+$", re.MULTILINE)
    before, table, _ = rule.split(text)
    yield from (before.partition("\n\n")[2].strip(), "", "| letter | |", "|---|---|")
    for line in table.strip().splitlines():
        letter, meaning = re.split(r"\s{2,}", line, maxsplit=1)
        yield f"| {letter} | {meaning} |"


def package_page(package: str) -> str:
    """One package: its docstring, its functions and classes, and its constants."""
    module = importlib.import_module(package)
    lines = [f"# {package}", "", names.linked(inspect.getdoc(module) or "", package), ""]
    documented = names.documented(package)
    if package in ELSEWHERE:
        lines += ["| name | |", "|---|---|"]
        for name, value in documented.items():
            lines.append(f"| {names.link(package, name)} | {cell(summary(value, value.__module__))} |")
    else:
        lines += [names.block(package, name) for name in documented]
    lines += list(_constants(package, module))
    return "\n".join(lines) + "\n"


def _constants(package: str, module: ModuleType) -> Iterator[str]:
    found = names.constants(package)
    if not found:
        return
    yield from ("", "## Values", "", "| name | value | meaning |", "|---|---|---|")
    for name, value in found.items():
        meaning = summary(value, value.__name__) if isinstance(value, ModuleType) else constant(module, name)
        yield f"| `{name}` | {cell(_value(value))} | {cell(meaning)} |"


def _value(value: Any) -> str:
    if isinstance(value, ModuleType):
        return f"module `{value.__name__}`"
    if isinstance(value, str):
        return "text"
    parts = list(value) if isinstance(value, (tuple, dict)) else str(value).split(" | ")
    return ", ".join(f"`{_plain(part)}`" for part in parts)


def _plain(part: Any) -> str:
    if isinstance(part, ModuleType):
        return part.__name__.rpartition(".")[2]
    return getattr(part, "__name__", None) or str(part).rpartition("pyrcnn.")[2].rpartition(".")[2] or str(part)


def summary(value: Any, module: str) -> str:
    """The first sentence of a docstring."""
    text = " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split())
    sentence = re.match(r".*?[.:](?=\s[A-Z]|$)", text)
    return names.linked(sentence[0] if sentence else text, module)


def cell(text: str) -> str:
    """Return ``text`` for a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("\n", " ")


def configurations() -> str:
    """The tables of all configurations, from their source."""
    lines = ["# Configurations", "", "Fields of the frozen dataclasses that define a model or a training run."]
    for cls in CONFIGURATIONS:
        text = names.linked((inspect.getdoc(cls) or "").partition("\n\n")[0], cls.__module__)
        lines += ["", f"## {cls.__name__}", "", text, "", "| field | type | default | meaning |", "|---|---|---|---|"]
        for f in fields(cls):
            meaning = _with_names(cls, f.meaning)
            lines.append(f"| `{f.name}` | `{cell(f.type)}` | `{cell(f.default)}` | {cell(meaning)} |")
    return "\n".join(lines) + "\n"


def _with_names(cls: type, meaning: str) -> str:
    """Return a field's meaning with the names that it may have, where it is "a name of" a dict of the code."""

    def listed(match: re.Match[str]) -> str:
        module, _, name = match[1].rpartition(".")
        package = cls.__module__.rpartition(".")[0]
        homes = [f"{package}.{module or 'model'}", f"pyrcnn.models.{module}"]
        for home in homes:
            with contextlib.suppress(ModuleNotFoundError):
                found = getattr(importlib.import_module(home), name, None)
                if found is not None:
                    return ", ".join(f"`{key}`" for key in found)
        raise ValueError(f"{cls.__name__}: no dict {match[1]} in {' or '.join(homes)}")

    return re.sub(r"\ba name of ([\w.]*[A-Z]{2}\w+)", listed, meaning)


def command_line() -> str:
    """All commands with their arguments and options, from the parser itself."""
    import typer

    from pyrcnn import cli

    lines = ["# Command line", "", "Exit codes: 0 done, 1 some inputs failed, 2 bad input or usage, 130 interrupted."]
    for path, command in _commands("pyrcnn", typer.main.get_command(cli.app)):
        given = [p for p in command.params if not getattr(p, "hidden", False)]
        usage = [
            path,
            *(_argument(p) for p in given if not _is_option(p)),
            *["[OPTIONS]"] * any(map(_is_option, given)),
        ]
        usage += ["COMMAND …"] * hasattr(command, "commands")
        lines += ["", f"## {path}", "", inspect.cleandoc(command.help or ""), "", "```", " ".join(usage), "```", ""]
        lines += ["| argument or option | default | meaning |", "|---|---|---|"] if given else []
        lines += [_parameter(p) for p in given]
    return "\n".join(lines) + "\n"


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from _commands(f"{path} {name}", inner)


def _is_option(parameter: Any) -> bool:
    return parameter.opts[0].startswith("-")


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    name = name if parameter.nargs == 1 else f"{name}…"
    return name if parameter.required else f"[{name}]"


def _parameter(parameter: Any) -> str:
    shown = _argument(parameter)
    if _is_option(parameter):
        shown = ", ".join([*parameter.opts, *parameter.secondary_opts])
        shown += "" if parameter.is_flag else f" {parameter.metavar or parameter.name.upper()}"
    default = parameter.default
    known = default not in (None, False, (), []) and not callable(default) and not parameter.secondary_opts
    text = "required" if parameter.required else f"`{default}`" if known else ""
    return f"| `{cell(shown)}` | {cell(text)} | {cell(getattr(parameter, 'help', '') or '')} |"


def extras() -> str:
    """The table of optional dependencies, with the comments of ``pyproject.toml``."""
    lines = ["| extra | for |", "|---|---|"]
    text = (ROOT / "pyproject.toml").read_text()
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    for name, rest in re.findall(r"^([\w-]+) = \[(.*?)$", section, re.MULTILINE):
        lines.append(f"| `{name}` | {cell(rest.partition('#')[2].strip())} |")
    return "\n".join(lines)
