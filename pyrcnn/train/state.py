"""The checkpoint of a training run: one file with everything that resuming needs."""

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

# Settings that may differ when a run is resumed, because they do not change its results.
_FREE = frozenset({"out", "resume", "device", "workers", "evaluate_every", "checkpoint_minutes", "log_every"})


def random_state() -> dict[str, Any]:
    """Return the state of every random generator that training may use."""
    kind, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state = {"torch": torch.get_rng_state(), "python": random.getstate(),
             "numpy": (kind, np.asarray(keys).tolist(), position, has_gauss, gauss)}  # fmt: skip
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the state of every random generator."""
    torch.set_rng_state(state["torch"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state_all(state["cuda"])


def identity(config: TrainConfig, model: Any, images: int) -> dict[str, str]:
    """Return what must be equal for a checkpoint to belong to a run: field → value as text."""
    run = {k: repr(v) for k, v in vars(config).items() if k not in _FREE}
    model_config = getattr(model, "config", None)
    return run | {"model": type(model).__name__, "images": str(images),
                  "model config": json.dumps(asdict(model_config), default=repr) if model_config else ""}  # fmt: skip


def write(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint. If the process is killed at any moment, ``path`` holds the previous one or the new one."""
    with replacing(path) as temporary:
        torch.save(state, temporary)


def read(path: Path, expected: dict[str, str]) -> dict[str, Any]:
    """Return the checkpoint of the run that ``expected`` describes.

    Raises:
        pyrcnn.InputError: if the file is damaged, or belongs to another run.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        found = state["identity"]
    except Exception as error:  # zip, pickle or key errors: the file is not a checkpoint, or is truncated
        raise InputError(
            f"resume must find a training checkpoint, got {path}, which is damaged or none ({error})"
        ) from None
    different = [f"{k} is {v}, in the checkpoint {found.get(k)}" for k, v in expected.items() if found.get(k) != v]
    require(not different, f"resume must find the same run, got {path} of another one: {'; '.join(different)}")
    return state


def trim_log(path: Path, step: int) -> None:
    """Remove the lines after ``step``: the checkpoint does not contain their steps."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line).get("step", 0) <= step:
                kept.append(line)
        except ValueError:
            continue  # truncated when the process was killed
    with replacing(path) as temporary:
        temporary.write_text("".join(line + "\n" for line in kept))
