"""The checkpoint of a training run: one file with everything that resuming needs."""

from __future__ import annotations

import json
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..atomic import check_folder, replacing
from ..errors import InputError, require
from .config import TrainConfig

# Settings that may differ when a run is resumed, because they do not change its results.
_FREE = frozenset(
    {"out", "resume", "overwrite", "device", "workers", "evaluate_every", "checkpoint_minutes", "log_every"}
)


# What a run writes.
CHECKPOINT, BEST, LAST, LOG = FILES = ("checkpoint.pt", "best.safetensors", "last.safetensors", "metrics.jsonl")


def check_folder_of_run(out: str | Path, resume: bool, overwrite: bool) -> None:
    """Raise :class:`pyrcnn.InputError` unless ``out`` is, or can become, the folder of this run.

    It must hold the run to ``resume``, otherwise no files of another run, unless ``overwrite`` lets them be removed.
    """
    check_folder(out, "out")
    present = [name for name in FILES if (Path(out) / name).exists()]
    if resume:
        checkpoint = Path(out) / CHECKPOINT
        require(CHECKPOINT in present, f"resume must be False, got True: there is no {checkpoint} to continue")
    elif present and not overwrite:
        remedy = "resume=True (--resume) continues its run, " if CHECKPOINT in present else ""
        found = f"out must be a folder without a run, got {out} with {', '.join(present)}"
        raise InputError(f"{found}; {remedy}overwrite=True (--overwrite) replaces it")


def make_folder(out: str, resume: bool, overwrite: bool) -> Path:
    """Create the folder of a run, unless it exists, and return it; see :func:`check_folder_of_run`."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"out must be a folder that can be created, got {out} ({reason})") from None
    check_folder_of_run(folder, resume, overwrite)
    return folder


def remove_run(folder: Path) -> None:
    """Remove the files of a run."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


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
    with replacing(path, argument="out") as temporary:
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
    with replacing(path, argument="out") as temporary:
        temporary.write_text("".join(line + "\n" for line in kept))
