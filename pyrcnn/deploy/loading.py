"""Exported files back into functions; whether this machine can run them is checked before anything of them runs."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .._library import instruction_set_error
from ..errors import needing, path_of, require
from .exporting import INSTRUCTION_SET, METADATA

Run = Callable[..., tuple[Tensor, ...]]


class Exported:
    """A detector from a file, as :func:`load` returns it: call it with the tensors that the file takes.

    Args:
        run: computes the outputs.
        about: the file's metadata: ``family``, ``config``, ``classes``, ``category_ids``, ``input`` and, for compiled
            packages, ``instruction_set``.

    Attributes:
        about: as above.
        classes: the name of each label.

    Raises:
        InputError: when called with another shape, dtype or device than the file takes, if it is not in ONNX.

    Example::

        run = deploy.load("detector.pt2")
        boxes, scores, labels, counts = run(images)
        names = [run.classes[label] for label in labels[0, : counts[0]]]
    """

    def __init__(self, run: Run, about: dict[str, Any]):
        self._run = run
        self.about = about
        self.classes: list[str] = about["classes"]

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return boxes [N, D, 4], scores [N, D], labels [N, D], counts [N] (and keypoints [N, D, J, 3])."""
        return self._run(*inputs)


def load(path: str | Path) -> Exported:
    """Return the detector in a file that :func:`~pyrcnn.deploy.export` wrote, in any of its formats.

    Args:
        path: a ``torch.export`` program or an AOTInductor package (``.pt2``), or an ONNX file, which ONNX Runtime runs.
            A ``.pt2`` file holds code: load only files that you trust.

    Raises:
        InputError: for a file that does not exist or was written by something else, for a package that was compiled
            for an instruction set that this processor lacks, and for a missing onnxruntime.

    Example:
        >>> import tempfile
        >>> from pyrcnn import deploy, models
        >>> model = models.build("centernet_mobilenet_v2_fpn_512", num_classes=3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = deploy.load(deploy.export(model, f"{folder}/detector.pt2"))
        >>> boxes, scores, labels, counts = run(torch.zeros(1, 3, 48, 64, dtype=torch.uint8))
        >>> boxes.shape
        torch.Size([1, 20, 4])
    """
    file = Path(path_of(path, "path"))
    require(file.is_file(), f"path must be a file, got {file}")
    if file.suffix == ".onnx":
        return _from_onnx(file)
    require(zipfile.is_zipfile(file), f"path must be a file of deploy.export, got {file}")
    with zipfile.ZipFile(file) as archive:
        compiled = any("/aotinductor/" in name for name in archive.namelist())
    return (_from_package if compiled else _from_program)(file)


def _about(file: Path, text: str | None) -> dict[str, Any]:
    require(bool(text), f"path must be a file of deploy.export, got {file} without the entry {METADATA}")
    return json.loads(text)  # type: ignore[arg-type]


def _from_program(file: Path) -> Exported:
    extra = {METADATA: ""}
    module = torch.export.load(file, extra_files=extra).module()
    return Exported(lambda *inputs: tuple(module(*inputs)), _about(file, extra[METADATA]))


def _from_package(file: Path) -> Exported:
    loader: Any = torch._C._aoti.AOTIModelPackageLoader
    entries = loader.load_metadata_from_package(str(file), "model")
    about = _about(file, entries.get(METADATA))
    problem = instruction_set_error(entries.get(INSTRUCTION_SET, ""))
    require(not problem, f"{file} {problem}")
    run = torch._inductor.aoti_load_package(str(file))
    return Exported(lambda *inputs: tuple(run(*inputs)), about)


def _from_onnx(file: Path) -> Exported:
    with needing("onnxruntime", "running ONNX files"):
        import onnxruntime
    try:
        session = onnxruntime.InferenceSession(str(file))
    except Exception as error:
        require(False, f"{file} must be an ONNX file: {str(error).strip().splitlines()[0]}")
    names = [entry.name for entry in session.get_inputs()]

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        given = {name: value.contiguous().numpy() for name, value in zip(names, inputs, strict=True)}
        return tuple(torch.from_numpy(value) for value in session.run(None, given))

    return Exported(run, _about(file, session.get_modelmeta().custom_metadata_map.get(METADATA)))
