"""A peer that needs another torch: it runs in a process of its own, under another Python.

The last release of IPEX needs torch 2.8, with which our library does not load. ``--ipex-python PYTHON`` names a Python
with IPEX, its torch and torchvision. A call sends a line to that process and reads one back, which takes about 50 µs.
Inputs are sent once; the result comes back after the first call only, for comparison.

Run as a script, this file is that process. It imports nothing of pyrcnn or of its benchmarks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

IPEX = "torch.ops.torch_ipex.ROIAlign_forward(x, rois, scale, size, size, sampling, False)"


class OtherProcess:
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
        self._wait()  # it has started

    def _wait(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError(f"the benchmarks' other process ended with {self.process.wait()}")

    def _send(self, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        self._wait()

    def __call__(self) -> Any:
        """The result of the first call, then None, so that copying results is not timed."""
        self._send("call")
        if self.compared:
            return None
        self.compared = True
        self._send("save")
        return torch.load(Path(self.folder.name) / "result.pt")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


def serve(folder: Path, module: str, expression: str, threads: int) -> None:
    """Answer requests on standard input and output until the input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # where libraries print
    __import__(module)
    torch.set_num_threads(threads)
    names = {"torch": torch, **torch.load(folder / "inputs.pt")}
    run = eval(f"lambda: {expression}", names)  # the expression comes from our own command line
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
