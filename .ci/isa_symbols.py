"""Fail if an object that was compiled for one instruction set has a symbol that the linker may merge with another's.

A weak function (an inline function or template instantiation that was not inlined) compiled with AVX-512 could become
the one copy that the portable path calls, and crash on a machine without AVX-512. Symbols inside namespace isa_* are
different ones per instruction set and cannot be merged.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(build: Path) -> int:
    """Check every kernel object below ``build``; return 0 if all are clean."""
    objects = [o for o in build.rglob("*.o") if any(p.startswith("kernels_") for p in o.parts)]
    if not objects:
        print(f"no kernel objects below {build}")
        return 1
    bad = set()
    for path in objects:
        for line in subprocess.check_output(["nm", "-C", path], text=True).splitlines():
            kind, _, name = line[17:].partition(" ")
            if kind in {"W", "V", "u"} and "isa_" not in name:
                bad.add(f"{path.name}: {name}")
    print("\n".join(sorted(bad)) or f"{len(objects)} objects are clean")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
