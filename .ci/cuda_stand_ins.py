"""Write stand-ins for NVIDIA's libraries, so that a CUDA build of torch runs on the CPU without them.

The torch wheels on PyPI are CUDA builds, whose NVIDIA packages are several gigabytes. Importing torch only needs the
libraries to exist and to define the symbols that torch's libraries ask for; no CPU code calls them. Every function
of a stand-in returns 100, which is ``cudaErrorNoDevice``.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path


def output(*command: object) -> str:
    """Return what a command prints."""
    return subprocess.check_output([str(part) for part in command], text=True)


def write_stand_ins(folder: Path) -> list[str]:
    """Write a library for every one that those in ``folder`` need and that is missing; return their names."""
    needed, versions, undefined = set(), {}, set()
    for library in folder.glob("*.so*"):
        needed |= set(re.findall(r"NEEDED.*\[(.+?)\]", output("readelf", "-d", library)))
        file = ""
        for kind, name in re.findall(r"(File|Name): (\S+)", output("readelf", "-VW", library)):
            file = name if kind == "File" else file
            versions[name] = file  # the file that a version of a symbol belongs to
        for line in output("nm", "-D", "--undefined-only", library).splitlines():
            kind, symbol = line.split()[-2:]
            if kind == "U":
                undefined.add(symbol)
    known = {line.split()[0] for line in output("/sbin/ldconfig", "-p").splitlines()[1:]}
    missing = needed - known - {path.name for path in folder.iterdir()}
    symbols: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, _, version in (symbol.partition("@") for symbol in undefined):
        if versions.get(version) in missing:
            symbols[versions[version]][version].add(name)
    defined = set()
    for library in folder.glob("*.so*"):
        listing = output("nm", "-D", "--defined-only", library).splitlines()
        defined |= {line.split()[-1].partition("@")[0] for line in listing}
    # A symbol without a version does not say which library has it, and the loader does not ask: one has them all.
    for name in {symbol for symbol in undefined - defined if re.match(r"cu|nccl|nv", symbol)}:
        if "@" not in name:
            symbols[min(missing)][""].add(name)
    with tempfile.TemporaryDirectory() as work:
        for soname in sorted(missing):
            names = [name for group in symbols[soname].values() for name in sorted(group)]
            source, script = Path(work, "source.c"), Path(work, "versions")
            source.write_text("\n".join(f"int {name}(void) {{ return 100; }}" for name in names) + "\n")
            groups = {version: sorted(group) for version, group in symbols[soname].items() if version}
            script.write_text("".join(f"{version} {{ {'; '.join(group)}; }};\n" for version, group in groups.items()))
            versioned = [f"-Wl,--version-script={script}"] if groups else []
            command = ["cc", "-shared", "-fPIC", "-w", "-fno-builtin", f"-Wl,-soname,{soname}", *versioned]
            subprocess.run([*command, "-o", folder / soname, source], check=True)
    return sorted(missing)


if __name__ == "__main__":
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise SystemExit("torch must be installed")
    print("stand-ins for", ", ".join(write_stand_ins(Path(spec.origin).parent / "lib")))
