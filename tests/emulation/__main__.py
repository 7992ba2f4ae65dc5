"""``python -m tests.emulation [--operators NAME ...] [--order backward|SEED] [pytest's arguments]``."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import OPERATORS, build

parser = argparse.ArgumentParser(prog="python -m tests.emulation", description=__doc__)
parser.add_argument("--order", default="forward", help="of the threads of a block: forward, backward or a seed")
parser.add_argument(
    "--operators", metavar="NAME", action="append", choices=OPERATORS, help="folder in csrc to compile; default: all"
)
parser.add_argument("--library", type=Path, help="built before")
options, arguments = parser.parse_known_args()
with tempfile.TemporaryDirectory() as folder:
    library = options.library or build(Path(folder), tuple(options.operators or OPERATORS))
    environment = {**os.environ, "PYRCNN_EMULATION": str(library), "PYRCNN_EMULATION_ORDER": options.order}
    sys.exit(subprocess.call([sys.executable, "-m", "pytest", "-n", "0", *arguments], env=environment))
