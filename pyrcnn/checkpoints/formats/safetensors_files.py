"""Reads foreign ``.safetensors`` files, and weights in several files with an index (``*.index.json``)."""

from __future__ import annotations

import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

from torch import Tensor

from ...errors import InputError, require
from ...models import saved
from ...texts import one_line
from . import pickles
from .raw.containers import Entry, entries_of

MOST_INDEX = 32 << 20  # bytes of an index: 300,000 names
MOST_SHARDS = 1000  # files


def matches(source: Any) -> bool:
    """Whether ``source`` is the path of a safetensors file or of the index of several weights files."""
    return isinstance(source, str | os.PathLike) and os.fspath(source).endswith((".safetensors", ".index.json"))


def entries(source: str | os.PathLike[str]) -> tuple[dict[str, Any] | None, list[Entry]]:
    """Our metadata, if the file has them, and its tensors.

    Raises :class:`pyrcnn.InputError` naming the file that is missing or damaged, or the tensor that is missing.
    """
    path = os.fspath(source)
    if path.endswith(".index.json"):
        return None, entries_of(_sharded(Path(path)))
    entry, tensors = saved.opened(path, "source")
    return entry, entries_of(tensors)


def _sharded(path: Path) -> dict[str, Tensor]:
    """The tensors that an index lists, from the files beside it."""
    require(path.is_file(), f"source: no such file: {path}")
    require(path.stat().st_size <= MOST_INDEX, f"source: {path} is no index: it is larger than {MOST_INDEX >> 20} MB")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"source: {path} is damaged or no index: {one_line(error)}") from None
    names = content.get("weight_map") if isinstance(content, dict) else None
    good = isinstance(names, dict) and names and all(isinstance(file, str) for file in names.values())
    require(bool(good), f"source: {path} must have a weight_map of tensor and file names")
    by_file: dict[str, list[str]] = {}
    for name, file in names.items():  # type: ignore[union-attr]
        by_file.setdefault(file, []).append(name)
    require(len(by_file) <= MOST_SHARDS, f"source: {path} names {len(by_file)} files, the limit is {MOST_SHARDS}")
    found = {}
    for file, wanted in by_file.items():
        plain = PurePosixPath(file).name == file and "\0" not in file and file not in (".", "..")
        require(plain, f"source: {path} names {one_line(file)!r}, which is no file beside it")
        tensors = _shard(path.with_name(file))
        lacking = [name for name in wanted if name not in tensors]
        require(not lacking, f"source: {path.with_name(file)} lacks {one_line(lacking[:1])}, which {path.name} lists")
        found.update({name: tensors[name] for name in wanted})
    return found


def _shard(path: Path) -> dict[str, Any]:
    """The tensors of one file by name, not yet read if it is a pickle."""
    if path.suffix == ".safetensors":
        return saved.opened(os.fspath(path), "source")[1]
    require(path.is_file(), f"source: no such file: {path}")
    require(pickles.matches(path), f"source: {path} is damaged or no weights file")
    return {entry.name: entry.value for entry in pickles.entries(path)}
