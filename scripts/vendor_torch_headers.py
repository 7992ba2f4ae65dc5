"""Copy the headers of torch's stable interface that ``csrc`` includes into ``third_party/torch``.

Run it with the Python of an environment that has the newest supported torch, after ``csrc`` includes another header of
torch or when a newer torch is supported::

    python scripts/vendor_torch_headers.py
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
from pathlib import Path

ROOT = Path(__file__).parent.parent
TO = ROOT / "third_party" / "torch"
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"](.+?)[>"]', re.M)


def needed(include: Path) -> set[Path]:
    """Return the headers below ``include`` that the native sources include, directly or indirectly."""
    sources = [path for path in (ROOT / "csrc").rglob("*") if path.suffix in {".h", ".cpp", ".cu", ".cuh"}]
    names = {name for path in sources for name in INCLUDE.findall(path.read_text()) if not name.startswith("pybind11")}
    found: set[Path] = set()
    while names:
        path = Path(names.pop())
        if path in found or not (include / path).is_file():
            continue
        found.add(path)
        for name in INCLUDE.findall((include / path).read_text()):  # relative to a folder of headers, or to this file
            names |= {name, os.path.normpath(path.parent / name)}
    return found


def main() -> None:
    """Replace the copies by those of the installed torch."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit("torch must be installed")
    home = Path(spec.origin).parent
    shutil.rmtree(TO / "include", ignore_errors=True)
    headers = needed(home / "include")
    for path in headers:
        (TO / "include" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / "include" / path, TO / "include" / path)
    distribution = importlib.metadata.distribution("torch")
    licence = next(file for file in distribution.files or [] if file.name == "LICENSE")
    shutil.copyfile(str(distribution.locate_file(licence)), TO / "LICENSE")
    version = distribution.version.partition("+")[0]
    size = sum((TO / "include" / path).stat().st_size for path in headers)
    (TO / "README.md").write_text(
        f"The {len(headers)} headers of torch {version} ({size // 1000} kB) that pyrcnn compiles against: torch's\n"
        "stable C interface, which every torch from 2.10 on has. They are unchanged; LICENSE is torch's.\n"
        "`scripts/vendor_torch_headers.py` copies them.\n"
    )


if __name__ == "__main__":
    main()
