"""``pyrcnn info``: what was built and what runs."""

from __future__ import annotations

from .. import __version__
from .._library import HERE
from .._native import build_info
from . import terminal


def run(as_json: bool) -> None:
    """Print the facts that a bug report needs."""
    terminal.print_pairs("pyrcnn", {"pyrcnn": __version__, "folder": str(HERE), **build_info()}, as_json)
