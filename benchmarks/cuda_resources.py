"""Registers, stack and shared memory of each CUDA kernel.

``python -m benchmarks.cuda_resources [LIBRARY] > benchmarks/cuda_resources.md``.
Reads the built ``libpyrcnn_cuda.so`` with the CUDA toolkit's ``cuobjdump`` (or ``$CUOBJDUMP``) and needs no GPU.
Registers decide how many blocks share a multiprocessor; a stack means an array or spilled registers in local memory.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

USAGE = re.compile(r"REG:(\d+) STACK:(\d+) SHARED:(\d+)")
FUNCTOR = re.compile(r"each_kernel<pyrcnn::([\w:]+)")  # one launcher for many functors, whose name it gets


def listing(library: Path) -> str:
    """The output of ``cuobjdump`` with demangled names."""
    tool = os.environ.get("CUOBJDUMP", "cuobjdump")
    dump = subprocess.run([tool, "--dump-resource-usage", library], capture_output=True, text=True, check=True)
    return subprocess.run(["c++filt"], input=dump.stdout, capture_output=True, text=True, check=True).stdout


def kernel_name(signature: str) -> str:
    """``roi_align::Forward`` of a demangled signature, without types; "" for kernels that are not ours."""
    name = signature.replace("(anonymous namespace)::", "")
    if found := FUNCTOR.search(name):
        return found[1]
    found = re.match(r"(?:void )?pyrcnn::([\w:]+)", name)
    return found[1] if found else ""


def kernels(text: str) -> dict[str, dict[str, list[tuple[int, int, int]]]]:
    """Kernel → architecture → (registers, stack, shared memory) of each of its types."""
    found: dict[str, dict[str, list[tuple[int, int, int]]]] = defaultdict(lambda: defaultdict(list))
    architecture = name = ""
    for line in text.splitlines():
        if line.startswith("arch = "):
            architecture = line.removeprefix("arch = ")
        elif line.startswith(" Function "):
            name = kernel_name(line.removeprefix(" Function "))
        elif (usage := USAGE.search(line)) and name:
            found[name][architecture].append((int(usage[1]), int(usage[2]), int(usage[3])))
    return found


def table(found: dict[str, dict[str, list[tuple[int, int, int]]]]) -> str:
    """A row per kernel: the largest of its types, ``registers`` or ``registers + stack`` per architecture."""
    architectures = sorted({a for by in found.values() for a in by}, key=lambda a: int(re.sub(r"\D", "", a)))
    lines = [
        "Registers per thread of a kernel, the largest over its types (`+ n`: with n bytes of stack), shared memory.",
        "Made by `python -m benchmarks.cuda_resources` from a built library.",
        "",
        "| kernel | " + " | ".join(architectures) + " | shared bytes |",
        "|---|" + "---|" * (len(architectures) + 1),
    ]
    for name in sorted(found):
        cells = []
        for architecture in architectures:
            rows = found[name].get(architecture, [(0, 0, 0)])
            stack = max(row[1] for row in rows)
            cells.append(f"{max(row[0] for row in rows)}" + (f" + {stack}" if stack else ""))
        shared = max(row[2] for rows in found[name].values() for row in rows)
        lines.append(f"| `{name}` | " + " | ".join(cells) + f" | {shared} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    if len(sys.argv) > 1:
        library = Path(sys.argv[1])
    else:
        import pyrcnn

        library = Path(pyrcnn.__file__).with_name("libpyrcnn_cuda.so")
    print(table(kernels(listing(library))))


if __name__ == "__main__":
    main()
