"""Compile all host code with clang, with the flags of the build below ``build/``, and fail on an error.

Without optimization and without output, but past the syntax: clang checks that a function may use an instruction set
only when it generates code.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

GCC_ONLY = re.compile(r"-Wno-psabi|-O\d|-MD|-MT|-MF|-o|-c")


def find_clang() -> str:
    """Return $CLANG or the first clang on PATH; install the distribution's if there is none."""
    names = [os.environ.get("CLANG", "clang++"), *(f"clang++-{version}" for version in range(30, 13, -1))]
    if not any(map(shutil.which, names)):
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", "clang"], check=True)
    return next(name for name in names if shutil.which(name))


def main(database: Path) -> int:
    """Compile every C++ file of a compilation database; return 0 if clang accepts all."""
    clang = find_clang()
    print(subprocess.check_output([clang, "--version"], text=True).splitlines()[0])
    units = [
        unit for unit in json.loads(database.read_text()) if "/csrc/" in unit["file"] and unit["file"].endswith(".cpp")
    ]

    def check(unit: dict[str, str]) -> str:
        words = shlex.split(unit["command"])[1:]
        flags = [
            w
            for i, w in enumerate(words)
            if not GCC_ONLY.fullmatch(w) and words[i - 1] not in {"-o", "-c", "-MF", "-MT"}
        ]
        command = [clang, *flags, "-O0", "-w", "-c", unit["file"], "-o", os.devnull]
        result = subprocess.run(command, cwd=unit["directory"], capture_output=True, text=True, check=False)
        return f"{shlex.join(command)}\n{result.stderr}" if result.returncode else ""

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        failures = list(filter(None, pool.map(check, units)))
    print("\n".join(failures) or f"clang accepts {len(units)} compilations")
    return bool(failures) or not units


if __name__ == "__main__":
    databases = sorted(Path(sys.argv[1]).glob("cmake-*/compile_commands.json"))
    sys.exit(main(databases[0]) if databases else f"no compile_commands.json below {sys.argv[1]}: build first")
