"""Files of the repository as pages of the site: which ones, and how links between files become links between pages."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = {  # a file outside docs/ → the page that shows it
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "performance/method.md",
    "benchmarks/FIGURES.md": "performance/figures.md",
    "csrc/README.md": "understanding/native_code.md",
    "pyrcnn/assets/TRAINING.md": "models/bundled.md",
}
COPIED = {"benchmarks/figures/zen3-avx2.svg": "performance/zen3-avx2.svg"}  # images that those files show
ALSO = {"README.md": "index.md", **COPIED}  # linked to, and not made from the file
ORIGINS = {page: file for file, page in PAGES.items()}

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]\n]*)\]\((?P<target>[^)#\s]+)(?P<anchor>#[^)\s]*)?\)")


def origin(page: str) -> str:
    """The file, relative to the repository, whose text the page has."""
    return ORIGINS.get(page, f"docs/{page}")


def rewrite(text: str, page: str) -> str:
    """Return the Markdown ``text`` with links between files as links from ``page`` to other pages.

    A link to a file that has no page becomes its text and the file's path. Others stay, for mkdocs to check.
    """
    folder = posixpath.dirname(origin(page))

    def replaced(match: re.Match[str]) -> str:
        target = match["target"]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        found = {**PAGES, **ALSO}.get(path)
        if found is None and path.startswith("docs/"):
            found = path.removeprefix("docs/")
        if found is not None:
            there = posixpath.relpath(found, posixpath.dirname(page) or ".")
            return f"{match['image']}[{match['text']}]({there}{match['anchor'] or ''})"
        if not (ROOT / path).exists():
            return match[0]
        shown = match["text"].strip("`")
        return f"`{path}`" if shown in path else f"{match['text']} (`{path}`)"

    return _LINK.sub(replaced, text)
