"""Hooks of mkdocs: pages that are made from the code and from other files when the site is built."""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]


def on_config(config: Any) -> None:
    """Let Python find ``scripts`` and ``tests``, behind the installed package; mkdocs undoes it after the import."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))


on_config(None)
from scripts.site import dialect, drawings, links, operators, reference  # noqa: E402


def on_files(files: Any, config: Any) -> Any:
    """Add the files of the repository, the reference, and the drawings."""
    for source, page in links.PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for source, page in links.COPIED.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    for name, text in reference.pages().items():
        files.append(File.generated(config, f"reference/{name}", content=text))
    for name, draw in drawings.DRAWINGS.items():
        files.append(File.generated(config, f"operators/{name}.svg", content=draw()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Fill in what a page asks for, and turn links between files into links between pages."""
    source = page.file.src_uri
    markdown = operators.DIRECTIVE.sub(lambda match: _directive(*match.groups(), source), markdown)
    return dialect.adapted(links.rewrite(markdown, source))


def _directive(kind: str, name: str | None, page: str) -> str:
    if kind == "operator" and name:
        return operators.section(name)
    if kind == "operators":
        return operators.index()
    if kind == "drawing" and name:
        there = posixpath.relpath(f"operators/{name}.svg", posixpath.dirname(page))
        return f"![{drawings.alt(name)}]({there}){{ .drawing }}"
    if kind == "extras":
        return reference.extras()
    if kind == "platforms":
        match = re.search(r"(?:^\| platform \|.*\n)(?:^\|.*\n)+", (ROOT / "README.md").read_text(), re.MULTILINE)
        assert match is not None, "README.md must hold the table of platforms"
        return match[0]
    raise ValueError(f"{page}: there is no <!-- site: {kind} {name or ''} -->")
