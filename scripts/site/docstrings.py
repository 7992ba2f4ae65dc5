"""The extension of griffe, which reads the docstrings for mkdocstrings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.append(str(Path(__file__).parents[2]))  # last: the installed package comes first

from scripts.site import docstrings_text


class Docstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Adapt a docstring. Deprecated members lose theirs, and are not shown."""
        if obj.docstring is not None and obj.docstring.value.startswith("Deprecated name of"):
            obj.docstring = None
        elif obj.docstring is not None:
            obj.docstring.value = docstrings_text.adapted(obj.docstring.value, obj.module.path)
