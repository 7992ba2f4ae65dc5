"""Writes the parts of docs/understanding that come from the code: ``python scripts/site/from_code.py``.

architecture.md shows the floors of the contract that ``lint-imports`` checks, in pyproject.toml, each module with the
first sentence of its docstring. glossary.md shows the letters that ``pyrcnn/structures.py`` defines.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNDERSTANDING = ROOT / "docs/understanding"
WIDTH = 110


def floors() -> list[list[str]]:
    """Return the modules of each floor, the highest first."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.search(r'^type = "layers"$.*?^layers = \[(.*?)^\]', text, re.M | re.S)
    assert found is not None
    return [[name.strip() for name in floor.split("|")] for floor in re.findall(r'"(.+?)"', found[1])]


def purpose(module: str) -> str:
    """Return the first sentence of a module's docstring."""
    path = ROOT / "pyrcnn" / module
    source = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    text = " ".join((ast.get_docstring(ast.parse(source)) or "").split())
    return re.split(r"(?<=[.:;])\s", text.replace("``", ""))[0].rstrip(".:;")


def diagram() -> str:
    """Return the floors as text, numbered from the lowest."""
    names = max(len(name) for floor in floors() for name in floor)
    room = WIDTH - names - 6
    lines = []
    for number, floor in zip(range(len(floors()), 0, -1), floors(), strict=True):
        for module in floor:
            said = purpose(module)
            said = said if len(said) <= room else said[: room - 1].rsplit(" ", 1)[0] + " …"
            lines.append(f"{number if module == floor[0] else '':>2}  {module:{names}}  {said}".rstrip())
    return "\n".join(lines)


def letters() -> str:
    """Return the letters of shapes as a Markdown table."""
    text = ast.get_docstring(ast.parse((ROOT / "pyrcnn/structures.py").read_text())) or ""
    rows = re.findall(r"^([A-Z](?:, [A-Z])*) {2,}(.+)$", text, re.M)
    return "\n".join(
        ["| letter | stands for |", "|---|---|", *(f"| {letter} | {meaning} |" for letter, meaning in rows)]
    )


def pages() -> dict[Path, str]:
    """Return the pages as they must be."""
    contents = {"architecture.md": ("floors", f"```text\n{diagram()}\n```"), "glossary.md": ("letters", letters())}
    result = {}
    for name, (mark, content) in contents.items():
        between = re.compile(rf"(?<=<!-- {mark} -->\n).*?(?=<!-- /{mark} -->)", re.S)
        page = UNDERSTANDING / name
        result[page] = between.sub(lambda _, content=content: content + "\n", page.read_text())
    return result


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text)
