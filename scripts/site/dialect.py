"""Markdown as GitHub reads it, rewritten for Python-Markdown, which mkdocs uses.

Python-Markdown nests lists by four spaces, wants an empty line before a list, and shows the backslash of ``\\|`` inside
code in a table.
"""

from __future__ import annotations

import re

_ITEM = re.compile(r"^( *)([-*]|\d+\.) +")
_FENCE = re.compile(r"^ *(```|~~~)")


def adapted(text: str) -> str:
    """Return ``text`` with lists and tables that Python-Markdown shows as GitHub does."""
    out: list[str] = []
    open_items: list[int] = []  # the columns where the text of each open list item begins
    shift, fence = 0, False
    for line in text.split("\n"):
        column = len(line) - len(line.lstrip())
        if _FENCE.match(line):
            fence = not fence
            if fence:
                open_items = [begin for begin in open_items if begin <= column]
                shift = _shift(open_items)
            out.append(" " * max(0, column + shift) + line.lstrip())
            continue
        item = None if fence else _ITEM.match(line)
        if fence:
            out.append(" " * max(0, column + shift) + line.lstrip() if line.strip() else line)
        elif item:
            open_items = [begin for begin in open_items if begin <= column]
            if not open_items and out and out[-1].strip() and not _in_list(out):
                out.append("")
            out.append(" " * (4 * len(open_items)) + line.lstrip())
            open_items.append(len(item[0]))
        elif line.strip() and column == 0 and (not out or not out[-1].strip()):
            open_items = []
            out.append(_table_row(line))
        elif open_items and line.strip() and not out[-1].strip():  # a new paragraph inside an item
            open_items = [begin for begin in open_items if begin <= column]
            out.append(" " * (column + _shift(open_items)) + line.lstrip())
        else:
            out.append(_table_row(line))
    return "\n".join(out)


def _shift(open_items: list[int]) -> int:
    """How much farther right the content of the innermost open item belongs."""
    return 4 * len(open_items) - open_items[-1] if open_items else 0


def _in_list(lines: list[str]) -> bool:
    """Whether the paragraph that ends with the last line is a list item."""
    for line in reversed(lines):
        if not line.strip():
            return False
        if _ITEM.match(line):
            return True
    return False


def _table_row(line: str) -> str:
    if not line.startswith("|"):
        return line
    return re.sub(r"`[^`]+`", lambda code: code[0].replace("\\|", "|"), line)
