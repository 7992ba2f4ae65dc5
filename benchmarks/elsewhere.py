"""Peers that need another torch than ours: they run in a process of their own, under another Python.

IPEX stopped at torch 2.8, which our library does not load in. ``--ipex-python PYTHON`` names a Python that has IPEX,
its torch and torchvision. A call is a line to that process and a line back, some 50 µs; inputs are sent once, and the
result comes back on the first call alone, to be compared.

Run as a script, this file is that process. It uses nothing of pyrcnn or of its benchmarks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

IPEX = "torch.ops.torch_ipex.ROIAlign_forward(x, rois, scale, size, size, sampling, False)"


class Elsewhere:
    """``expression`` of the named ``inputs``, evaluated in no-grad mode by ``python`` after importing ``module``."""

    def __init__(self, python: Path, module: str, expression: str, inputs: dict[str, Any]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="pyrcnn-bench-")
        folder = Path(self.folder.name)
        torch.save(inputs, folder / "inputs.pt")
        command = [str(python), __file__, self.folder.name, module, expression, str(torch.get_num_threads())]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.compared = False
        self._wait()  # until it has started

    def _wait(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError(f"the benchmarks' other process ended with {self.process.wait()}")

    def _ask(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        self._wait()

    def __call__(self) -> Any:
        """The result the first time, then None: only the work is to be timed."""
        self._ask("call")
        if self.compared:
            return None
        self.compared = True
        self._ask("save")
        return torch.load(Path(self.folder.name) / "result.pt")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def serve(folder: Path, module: str, expression: str, threads: int) -> None:
    """Answer on standard input and output until the input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # whatever libraries print
    __import__(module)
    torch.set_num_threads(threads)
    names = {"torch": torch, **torch.load(folder / "inputs.pt")}
    run = eval(f"lambda: {expression}", names)  # from our own command line
    result = None
    with torch.no_grad():
        print("done", file=answers, flush=True)
        for line in sys.stdin:
            if line.strip() == "save":
                torch.save(result, folder / "result.pt")
            else:
                result = run()
            print("done", file=answers, flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
