"""The checkpoint of a training run: one file with everything that resuming needs."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..atomic import check_folder, replacing
from ..errors import InputError, require
from .config import TrainConfig
from .distributed import job

# Settings that may differ when a run is resumed, because they do not change its results.
_FREE = frozenset(
    {"out", "resume", "overwrite", "device", "workers", "evaluate_every", "checkpoint_minutes", "log_every", "bf16"}
) | {"epochs", "steps"}  # or because a run that is continued may be made longer: its schedule gets the new length


# What a run writes: what it needs, and what tells about it (see run_folder, curves and contact_sheet).
CHECKPOINT, BEST, LAST, LOG = ("checkpoint.pt", "best.safetensors", "last.safetensors", "metrics.jsonl")
CONFIG, TABLE, CURVES, SHEET = ABOUT = ("config.json", "metrics.csv", "curves.png", "first_batches.jpg")
FILES = (CHECKPOINT, BEST, LAST, LOG, *ABOUT)


def check_folder_of_run(out: str | Path, resume: bool | str, overwrite: bool) -> None:
    """Raise :class:`pyrcnn.InputError` unless ``out`` is, or can become, the folder of this run.

    It must hold the run to ``resume``, otherwise no files of another run, unless ``overwrite`` lets them be removed.
    Of processes that train together, only the first looks: it may have begun to write.
    """
    if os.environ.get("RANK", "0") == "0":
        _resumes(Path(out), resume, overwrite)


def open_folder(config: TrainConfig) -> tuple[Path | None, bool]:
    """Create ``config.out``, unless it exists; return it, and whether the run in it is to be continued.

    A run is also continued if the same ``torchrun`` began it: it restarts its processes when one of them is lost.

    Raises:
        pyrcnn.InputError: see :func:`check_folder_of_run`.
    """
    if config.out is None:
        require(
            config.resume is not True,
            "resume must be False without out, got True; set out to the folder of the run to continue",
        )
        return None, False
    folder = Path(config.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"out must be a folder that can be created, got {folder} ({reason})") from None
    return folder, _resumes(folder, config.resume, config.overwrite)


def _resumes(folder: Path, resume: bool | str, overwrite: bool) -> bool:
    check_folder(folder, "out")
    present = [name for name in FILES if (folder / name).exists()]
    checkpoint = folder / CHECKPOINT
    require(
        resume is not True or CHECKPOINT in present,
        f"resume must be False, got True: there is no {checkpoint} to continue",
    )
    if CHECKPOINT in present and (resume or _began_in_this_job(checkpoint)):
        return True
    if present and not overwrite:
        remedy = "resume=True (--resume) continues its run, " if CHECKPOINT in present else ""
        found = f"out must be a folder without a run, got {folder} with {', '.join(present)}"
        raise InputError(f"{found}; {remedy}overwrite=True (--overwrite) replaces it")
    return False


def _began_in_this_job(checkpoint: Path) -> bool:
    mine = job()
    if mine is None:
        return False
    try:
        return torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)["job"] == mine
    except Exception:  # damaged, or none; whoever reads it says so
        return False


def remove_run(folder: Path) -> None:
    """Remove the files of a run."""
    for name in FILES:
        (folder / name).unlink(missing_ok=True)


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


def trim_log(path: Path, step: int, scored: int) -> None:
    """Remove the lines after ``step``, and scores after those of step ``scored``: the checkpoint lacks both."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            values = json.loads(line)
        except ValueError:
            continue  # truncated when the process was killed
        if values.get("step", 0) <= (scored if "val_AP" in values else step):
            kept.append(line)
    with replacing(path, argument="out") as temporary:
        temporary.write_text("".join(line + "\n" for line in kept))
