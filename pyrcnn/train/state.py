"""What a run needs to go on exactly where it was, in one file that is always whole."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..atomic import replacing
from ..errors import InputError, require
from .config import TrainConfig

# Settings that may change when a run is continued: they do not change what it computes.
_FREE = frozenset({"out", "resume", "device", "workers", "evaluate_every", "checkpoint_minutes", "log_every"})


def random_state() -> dict[str, Any]:
    """The state of every generator that training may draw from."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state = {"torch": torch.get_rng_state(), "python": random.getstate(),
             "numpy": (kind, np.asarray(keys).tolist(), position, has_gauss, gauss)}  # fmt: skip
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Put every generator back."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def identity(config: TrainConfig, model: Any, pictures: int) -> dict[str, str]:
    """What must agree for a checkpoint to belong to a run: field → its value as text."""
    run = {k: repr(v) for k, v in vars(config).items() if k not in _FREE}
    model_config = getattr(model, "config", None)
    return run | {"model": type(model).__name__, "pictures": str(pictures),
                  "model config": json.dumps(asdict(model_config), default=repr) if model_config else ""}  # fmt: skip


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; killed at any moment, ``path`` holds the previous or the new one, never a part."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def read(path: Path, expected: dict[str, str]) -> dict[str, Any]:
    """A checkpoint of the run that ``expected`` describes; :class:`InputError` names a damaged or foreign file."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception as error:  # zip, pickle and key errors alike: the file is not one of ours, or not all of it
        raise InputError(f"resume: {path} is damaged or no training checkpoint ({error})") from None
    different = [f"{k} is {v}, there it was {found.get(k)}" for k, v in expected.items() if found.get(k) != v]
    require(not different, f"resume: {path} belongs to another run: {'; '.join(different)}")
    return state


def trim_log(path: Path, step: int) -> None:
    """Drop the lines after ``step``: they were logged by work that the checkpoint does not hold."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line).get("step", 0) <= step:
                kept.append(line)
        except ValueError:
            continue  # cut off when the process was killed
    with replacing(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept))
