"""Docstrings in our style, rewritten for mkdocstrings."""

from __future__ import annotations

import re

from scripts.site import names

_LITERAL = re.compile(r"^( *)(.*)::\n\n((?:\1    .*\n|\n)+)", re.MULTILINE)  # text, ending in ::, with indented code

_ARGUMENTS = re.compile(r"^(?:Args|Attributes):\n(?:    .*\n|\n)+", re.MULTILINE)
_SEVERAL = re.compile(r"^    (\w+(?:, \w+)+):(.*\n(?:     .*\n)*)", re.MULTILINE)  # "ys, xs: [N, k] int64 cells."


def _one_by_one(section: re.Match[str]) -> str:
    """Return a section with one entry for each of several arguments that share one."""
    return _SEVERAL.sub(lambda m: "".join(f"    {name}:{m[2]}" for name in m[1].split(", ")), section[0])


def adapted(text: str, module: str) -> str:
    """Return a docstring with links for references, examples as a section, and code blocks with their language."""
    text = names.linked(text, module)

    def fenced(match: re.Match[str]) -> str:
        indent, head, code = match.groups()
        language = "sh" if re.search(r"torchrun|^\s*pyrcnn ", code) else "python"
        if head == "Example":  # a section, whose text follows in the next line
            lines = code.strip("\n")
            return f"{indent}Examples:\n{indent}    ```{language}\n{lines}\n{indent}    ```\n\n"
        lines = re.sub(r"^    ", "", code, flags=re.MULTILINE).strip("\n")
        return f"{indent}{head}:\n\n{indent}```{language}\n{lines}\n{indent}```\n\n"

    text = _ARGUMENTS.sub(_one_by_one, text + "\n")
    text = _LITERAL.sub(fenced, text).rstrip()
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)
    text = re.sub(r"^Source: ", "**Source:** ", text, flags=re.MULTILINE)
    return re.sub(r"^Raises :?(\[)", r"Raises \1", text, flags=re.MULTILINE)
