"""Checkpoints that lie: files of a few MB or less whose numbers claim what they do not hold, one function each.

``write(folder)`` makes all of them; ``main(folder)`` also loads them under a limit of memory and prints one JSON line
per file. A function gets a folder of its own and returns the path to load.
"""

from __future__ import annotations

import functools
import importlib
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pyrcnn import InputError, checkpoints, models

ADDRESS_SPACE = 3 << 30  # bytes that loading may map beyond what the process has when it starts
Maker = Callable[[Path], Path]
ALL_SECONDS = 600  # of processor time; all files take about 60
MAKERS: dict[str, Maker] = {}


def hostile(maker: Maker) -> Maker:
    """Register a function that writes one file."""
    assert maker.__name__ not in MAKERS
    MAKERS[maker.__name__] = maker
    return maker


def several(prefix: str, contents: dict[str, bytes], file: str) -> None:
    """Register files that differ in their content alone."""
    for name, content in contents.items():

        def maker(folder: Path, content: bytes = content) -> Path:
            (folder / file).write_bytes(content)
            return folder / file

        maker.__name__ = f"{prefix}_{name}"
        hostile(maker)


@functools.lru_cache
def names() -> list[str]:
    """The names of the model's entries."""
    return list(model().state_dict())


def model() -> torch.nn.Module:
    """The model that is loaded into."""
    return models.build("centernet_mobilenet_v2_fpn_512", num_classes=2, input_size=64)


def write(folder: Path) -> dict[str, Path]:
    """Every hostile file, by name."""
    for module in ("archives", "bundles", "pickles", "safetensors"):
        importlib.import_module(f"tests.checkpoints.hostile.{module}")  # which registers its makers
    found = {}
    for name, maker in MAKERS.items():
        (folder / name).mkdir(parents=True)
        found[name] = maker(folder / name)
    return found


def main(folder: Path) -> None:
    """Load every file and report what came of it."""
    files = write(folder)
    built = model()
    checkpoints.load(built, dict(built.state_dict()))  # what is imported late is not the files'
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (ALL_SECONDS,) * 2)  # a file that never ends
    for name, file in files.items():
        Path("/proc/self/clear_refs").write_text("5")  # the peak of memory starts anew
        began = time.process_time()  # what others do on the machine is not counted
        outcomes = [outcome(checkpoints.load, built, file)]
        if file.suffix == ".safetensors":
            outcomes.append(outcome(models.load, file))
        seconds = time.process_time() - began
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        line = {"name": name, "seconds": seconds, "megabytes": int(peak.split()[1]) // 1024, "outcomes": outcomes}
        print(json.dumps(line), flush=True)


def outcome(load: Callable[..., object], *arguments: object) -> str:
    """The exception that loading raises, as text."""
    try:
        load(*arguments)
    except InputError as error:
        return f"InputError: {error}"
    except BaseException as error:  # whatever it is, it must be reported
        return f"{type(error).__name__}: {error}"
    return "loaded"


class Attack:
    """Pickles as a call."""

    def __init__(self, function: object, *arguments: object):
        self.call = function, arguments

    def __reduce__(self) -> object:
        return self.call
