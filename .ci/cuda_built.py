"""Fail unless the installed CUDA library holds machine code for the given architectures (80 90 …)."""

from __future__ import annotations

import sys
from pathlib import Path

import pyrcnn

built = pyrcnn.build_info()["cuda"]
missing = [sm for sm in sys.argv[1:] if f"{sm}-real" not in built]
library = Path(pyrcnn.__file__).with_name("libpyrcnn_cuda.so")
print(f"{library.name}: {library.stat().st_size >> 10} KiB, {built}")
sys.exit(f"no machine code for {missing}" if missing else 0)
