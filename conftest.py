"""Lets ``pytest`` and ``python -m pytest`` test the same pyrcnn.

``python -m pytest`` puts this folder first on Python's path. After ``pip install .``, its ``pyrcnn`` has no compiled
library, and the installed one is meant; after ``pip install -e .`` it has one, and both commands test the sources.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parent

if not (ROOT / "pyrcnn" / "libpyrcnn.so").exists():
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != ROOT] + [str(ROOT)]


def pytest_report_header() -> str:
    """Name the package under test."""
    import pyrcnn

    return f"pyrcnn: {Path(pyrcnn.__file__).parent}"
