"""Tests, and the programs beside them that ``python -m tests.NAME`` starts.

The latter puts the checkout first on Python's path. After ``pip install .``, its ``pyrcnn`` has no compiled library,
and the installed one is meant.
"""

import sys
from pathlib import Path

_ROOT = Path(__file__).parent.parent
if not (_ROOT / "pyrcnn" / "libpyrcnn.so").exists():
    sys.path[:] = [folder for folder in sys.path if Path(folder).resolve() != _ROOT] + [str(_ROOT)]
