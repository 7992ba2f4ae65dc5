"""Detectors as files for serving: PyTorch programs, AOTInductor packages, ONNX."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn

from ..atomic import check_outputs, replacing
from ..errors import path_of, require
from ..models import metadata
from .networks import check_model, replace_networks
from .programs import aoti
from .programs.accept import ANY
from .programs.maps import Maps
from .programs.modules import FromImages, FromPixels, Shape, program
from .quiet import without_warnings
from .standard import onnx

Writer = Callable[[Path], object]  # writes the exported program to a new file
INSTRUCTION_SET = "pyrcnn.instruction_set"  # the entry of a compiled package that :func:`load` checks
METADATA = "pyrcnn.json"  # the entry with family, config, classes and category ids, as in a weights file, and the input
FORMATS = {"torch": ".pt2", "aoti": ".pt2", "onnx": ".onnx"}  # name → the file's suffix


def _through_memory(write: Callable[[io.BytesIO], object]) -> Writer:
    """A writer for torch's archives, whose own code ends the process (``std::terminate``) when the disk is full."""

    def to_file(path: Path) -> None:
        archive = io.BytesIO()
        write(archive)
        path.write_bytes(archive.getbuffer())

    return to_file


def _torch_writer(exported: FromImages | FromPixels, about: str) -> Writer:
    made = program(exported)

    def write(archive: io.BytesIO) -> None:
        with without_warnings():  # about weights in channels_last, which are written right
            torch.export.save(made, archive, extra_files={METADATA: about})

    return _through_memory(write)


def _aoti_writer(exported: FromImages | FromPixels, about: str) -> Writer:
    from torch._inductor import aoti_compile_and_package

    made, isa = program(exported), exported.wanted.isa
    options = aoti.options(isa, {METADATA: about, INSTRUCTION_SET: isa})

    def write(archive: io.BytesIO) -> None:
        with without_warnings(), torch.no_grad(), aoti.sizes_from_data():
            aoti_compile_and_package(made, package_path=archive, inductor_configs=options)

    return _through_memory(write)


def _maps_writer(model: Maps, size: tuple[int, int], batch: int, about: str) -> Writer:
    pixels = torch.zeros(batch, 3, *size)
    with torch.no_grad(), without_warnings():
        names = list(model(pixels))
        made = torch.onnx.export(model, (pixels,), input_names=["pixels"], output_names=names, dynamo=True,
                                 verbose=False)  # fmt: skip
    assert made is not None
    made.model.metadata_props[METADATA] = about
    return lambda path: made.save(path, external_data=False)


def _check_onnx() -> None:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    require(not missing, f"format onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}")


def _shape(model: Any, format: str, size: tuple[int, int] | None, batch: int | None, whole: bool,
           dynamic: bool | None) -> Shape:  # fmt: skip
    """The sizes of the program's input."""
    if format == "onnx" and not whole:
        require(not dynamic, "dynamic must be False for networks alone in ONNX")
        dynamic = False
    given = size is not None or batch is not None
    require(not (dynamic and given), "dynamic must be False where size or batch is given")
    if dynamic or (dynamic is None and not given):
        return Shape()
    require(size is not None or not whole, "size must be the height and width of the images for dynamic=False")
    height, width = size or model.input_size()
    multiple = 1 if whole else model.size_multiple()
    require(height % multiple == 0 and width % multiple == 0,
            f"size must be two positive multiples of {multiple}, got ({height}, {width})")  # fmt: skip
    return Shape(batch or 1, height, width)


def _about(model: nn.Module, whole: bool, shape: Shape, isa: str | None) -> str:
    """The file's entry :data:`METADATA`."""
    about = json.loads(next(iter(metadata(model).values())))
    sizes = {name: None if size == ANY else size for name, size in shape._asdict().items()}
    about["input"] = {"name": "images" if whole else "pixels", **sizes}
    if isa is not None:
        about["instruction_set"] = isa
    return json.dumps(about)


def export(
    model: nn.Module,
    path: str | Path,
    format: str = "torch",
    size: tuple[int, int] | None = None,
    *,
    whole: bool = True,
    dynamic: bool | None = None,
    batch: int | None = None,
    dtype: torch.dtype | None = None,
    channels_last: bool = True,
    fold: bool = True,
    overwrite: bool = True,
) -> Path:
    """Write ``model`` for inference to ``path``; returns the path. If writing fails, no partial file is left.

    A whole detector takes ``images`` [N, 3, H, W], RGB, uint8 (0..255) or floating point (0..1), in any memory layout.
    It returns boxes [N, D, 4] in the pixels of the images, scores [N, D], labels [N, D], counts [N] (and keypoints
    [N, D, J, 3]): in image n, the first ``counts[n]`` rows are what ``model([image])`` detects, the others padding.
    ``docs/guides/export.md`` shows how programs in Python and C++ call each format.

    Args:
        model: a CenterNet or Faster R-CNN; it is left unchanged. Optimized models cannot be exported.
        path: ends in ``.pt2``, for "onnx" in ``.onnx``.
        format: "torch": a ``torch.export`` program, to be run by ``torch.export.load(path).module()``. "aoti": the same
            compiled by AOTInductor for the device of ``model`` (this needs a C++ compiler, running it does not), to be
            run by ``torch._inductor.aoti_load_package(path)``. Both need pyrcnn's operators: ``import pyrcnn``, or its
            native library. "onnx": standard operators alone.
        size: (height, width) of the images that a file with ``dynamic=False`` takes; with ``whole=False`` those of the
            network input, two multiples of ``model.size_multiple()``; None: ``model.input_size()``.
        whole: False leaves preprocessing to the caller: the program takes ``pixels`` [N, 3, height, width], floating
            point, and ``sizes`` [N, 2] int64, which ``model.preprocess`` returns, and returns what
            ``model.predict_padded`` does. "onnx": the networks alone, from ``pixels`` to what ``CenterNet.heads``
            returns, or to Faster R-CNN's ``features0…``, ``objectness0…`` and ``deltas0…`` per level.
        dynamic: True: any number of images of any size; False: ``batch`` images of ``size``, which AOTInductor compiles
            to a faster program, and the only way for networks alone in ONNX. None: True unless ``size`` or ``batch`` is
            given.
        batch: images per call of a file with ``dynamic=False``; None: 1.
        dtype: of the network, as for :func:`~pyrcnn.deploy.optimize`.
        channels_last, fold: as for :func:`~pyrcnn.deploy.optimize`; ONNX has no memory formats.
        overwrite: replace a file that exists.

    Programs in the formats "torch" and "aoti" refuse other input, with a message that names the argument. The file's
    extra entry ``pyrcnn.json`` holds class names, category ids, configuration, the input's sizes, and the instruction
    set that an AOTInductor package needs.

    Raises:
        pyrcnn.InputError: for another model, format or suffix, a size that the network does not take, a path that
            cannot be written, missing packages, and models that the format cannot hold.

    Example::

        deploy.export(pyrcnn.load_model(), "detector.pt2")
    """
    known = isinstance(format, str) and format in FORMATS
    require(known, f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    path, suffix = Path(path_of(path, "path")), FORMATS[format]
    require(path.suffix == suffix, f"path must end in {suffix} for format {format}, got {path}")
    require(batch is None or (isinstance(batch, int) and batch > 0), f"batch must be a positive integer, got {batch!r}")
    check_outputs([path], "path", overwrite=overwrite)  # before minutes of work
    check_model(model, dtype, size)
    detector: Any = model
    shape = _shape(detector, format, size, batch, whole, dynamic)
    if format == "onnx":
        _check_onnx()
        write = _onnx_writer(detector, shape, whole, dtype, fold)
    else:
        own = format == "aoti" and detector.device.type == "cpu" and channels_last
        faster = replace_networks(
            detector,
            dtype,
            channels_last=channels_last,
            fold=fold,
            size=None if whole else size,
            build=aoti.use_own_convolutions if own else None,
        )
        isa = aoti.instruction_set(faster.device) if format == "aoti" else ""
        exported = (FromImages if whole else FromPixels)(faster, shape, channels_last, isa)
        about = _about(model, whole, shape, isa if format == "aoti" else None)
        write = (_torch_writer if format == "torch" else _aoti_writer)(exported, about)
    with replacing(path, overwrite=overwrite) as temporary:
        write(temporary)
    return path


def _onnx_writer(model: Any, shape: Shape, whole: bool, dtype: torch.dtype | None, fold: bool) -> Writer:
    about = _about(model, whole, shape, None)
    if whole:
        faster = replace_networks(model, dtype, fold=fold)
        return onnx.writer(FromImages(faster, shape, False, ""), {METADATA: about})
    graphs: dict[str, fx.GraphModule] = {}

    def keep(name: str, graph: fx.GraphModule, example: tuple[int, ...]) -> fx.GraphModule:
        return graphs.setdefault(name, graph)

    faster = replace_networks(model, dtype, fold=fold, build=keep)
    return _maps_writer(Maps(graphs, faster.dtype).eval(), shape[1:], shape.batch, about)
