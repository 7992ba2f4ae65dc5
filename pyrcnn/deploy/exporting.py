"""Detectors as files for serving: PyTorch programs, AOTInductor packages, ONNX networks."""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..atomic import check_outputs, replacing
from ..errors import path_of, require
from ..models import metadata
from .networks import check_model, replace_networks
from .quiet import without_warnings

Writer = Callable[[Path], object]  # writes the exported program to a new file
METADATA = "pyrcnn.json"  # the entry with family, config, classes and category ids, as in a weights file, and the input


class _Detector(nn.Module):
    """From float32 pixels of any memory format to padded detections."""

    def __init__(self, model: Any, layout: torch.memory_format):
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        pixels = pixels.to(self.model.dtype).contiguous(memory_format=self.layout)
        return tuple(self.model.predict_padded(pixels, sizes))


class _Maps(nn.Module):
    """What ONNX can express: from pixels to the maps that pyrcnn's operators turn into boxes, by name.

    ``networks``: the networks of a detector, by name. The first one reads the pixels, "proposals" each of its maps.
    """

    def __init__(self, networks: dict[str, fx.GraphModule], dtype: torch.dtype):
        super().__init__()
        self.first, self.dtype = next(iter(networks.values())), dtype
        self.proposals = networks.get("proposals")

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        maps = self.first(pixels.to(self.dtype))
        if self.proposals is None:
            return {name: value.float() for name, value in maps.items()}
        logits, deltas = zip(*(self.proposals(x) for x in maps), strict=True)
        parts = {"features": maps, "objectness": logits, "deltas": deltas}
        return {f"{name}{level}": x.float() for name, levels in parts.items() for level, x in enumerate(levels)}


def _through_memory(write: Callable[[io.BytesIO], object]) -> Writer:
    """A writer for torch's archives, whose own code ends the process (``std::terminate``) when the disk is full."""

    def to_file(path: Path) -> None:
        archive = io.BytesIO()
        write(archive)
        path.write_bytes(archive.getbuffer())

    return to_file


def _program(model: Any, pixels: Tensor, sizes: Tensor, channels_last: bool) -> Any:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with torch.no_grad():
        return torch.export.export(_Detector(model, layout), (pixels, sizes))


def _torch_writer(model: Any, pixels: Tensor, sizes: Tensor, channels_last: bool, about: str) -> Writer:
    program = _program(model, pixels, sizes, channels_last)

    def write(archive: io.BytesIO) -> None:
        with without_warnings():  # about weights in channels_last, which are written right
            torch.export.save(program, archive, extra_files={METADATA: about})

    return _through_memory(write)


def _aoti_writer(model: Any, pixels: Tensor, sizes: Tensor, channels_last: bool, about: str) -> Writer:
    from torch._inductor import aoti_compile_and_package

    program = _program(model, pixels, sizes, channels_last)
    configs = {"aot_inductor.metadata": {METADATA: about}}
    return _through_memory(
        lambda archive: aoti_compile_and_package(program, package_path=archive, inductor_configs=configs)
    )


def _onnx_writer(model: Any, pixels: Tensor, sizes: Tensor, channels_last: bool, about: str) -> Writer:
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    require(not missing, f"format onnx needs {' and '.join(missing)}: pip install {' '.join(missing)}")
    with torch.no_grad(), without_warnings():
        names = list(model(pixels))
        program = torch.onnx.export(model, (pixels,), input_names=["pixels"], output_names=names, dynamo=True,
                                    verbose=False)  # fmt: skip
    assert program is not None
    program.model.metadata_props[METADATA] = about
    return lambda path: program.save(path, external_data=False)


# name → the file's suffix, and the function that makes the program and returns what writes it
FORMATS: dict[str, tuple[str, Callable[[Any, Tensor, Tensor, bool, str], Writer]]] = {
    "torch": (".pt2", _torch_writer),
    "aoti": (".pt2", _aoti_writer),
    "onnx": (".onnx", _onnx_writer),
}


def export(
    model: nn.Module,
    path: str | Path,
    format: str = "torch",
    size: tuple[int, int] | None = None,
    *,
    batch: int = 1,
    dtype: torch.dtype | None = None,
    channels_last: bool = True,
    fold: bool = True,
    overwrite: bool = True,
) -> Path:
    """Write ``model`` for inference to ``path``; returns the path. If writing fails, no partial file is left.

    Args:
        model: a CenterNet or Faster R-CNN; it is left unchanged. Optimized models cannot be exported.
        path: ends in ``.pt2``, for "onnx" in ``.onnx``.
        format: "torch": the detector as a ``torch.export`` program, to be run by
            ``torch.export.load(path).module()``. "aoti": the same compiled by AOTInductor for the device of ``model``
            (this needs a C++ compiler, running it does not), to be run by
            ``torch._inductor.aoti_load_package(path)``. Programs that run either import pyrcnn for its operators.
            "onnx": the networks alone, because ONNX has no operators equal to pyrcnn's: from ``pixels`` to what
            ``CenterNet.heads`` returns, or to Faster R-CNN's ``features0…``, ``objectness0…`` and ``deltas0…`` per
            level; Faster R-CNN's second stage is not in the file.
        size: (height, width) of the network input, two multiples of ``model.size_multiple()``; None:
            ``model.input_size()``. Images are padded to it at the bottom and right, as ``preprocess`` does.
        batch: images per call.
        dtype: of the network, as for :func:`~pyrcnn.deploy.optimize`.
        channels_last, fold: as for :func:`~pyrcnn.deploy.optimize`; ONNX has no memory formats.
        overwrite: replace a file that exists.

    The program computes boxes from preprocessed pixels: it takes ``pixels`` [batch, 3, height, width] float32 and
    ``sizes`` [batch, 2] int64, which ``model.preprocess`` returns, and returns boxes, scores, labels, counts (and
    keypoints) as ``model.predict_padded`` does. The file's extra entry ``pyrcnn.json`` holds class names, category ids
    and configuration.

    Raises :class:`pyrcnn.InputError` for another model, format or suffix, a size that the network does not take, a path
    that cannot be written, and missing packages.
    """
    require(
        isinstance(format, str) and format in FORMATS, f"format must be one of {', '.join(FORMATS)}, got {format!r}"
    )
    suffix, make_writer = FORMATS[format]
    path = Path(path_of(path, "path"))
    require(path.suffix == suffix, f"path must end in {suffix} for format {format}, got {path}")
    require(isinstance(batch, int) and batch > 0, f"batch must be a positive integer, got {batch!r}")
    check_outputs([path], "path", overwrite=overwrite)  # before minutes of work
    check_model(model, dtype, size)
    detector: Any = model
    height, width = size or detector.input_size()
    multiple = detector.size_multiple()
    require(height % multiple == 0 and width % multiple == 0,
            f"size must be two positive multiples of {multiple}, got ({height}, {width})")  # fmt: skip
    graphs: dict[str, fx.GraphModule] = {}

    def keep(name: str, graph: fx.GraphModule, example: tuple[int, ...]) -> fx.GraphModule:
        return graphs.setdefault(name, graph)

    faster = replace_networks(detector, dtype, channels_last=channels_last and format != "onnx", fold=fold, build=keep)
    device = faster.device
    pixels = torch.zeros(batch, 3, height, width, device=device)
    sizes = torch.tensor([[height, width]] * batch, device=device)
    about = json.loads(next(iter(metadata(model).values())))
    about["input"] = {"batch": batch, "height": height, "width": width}
    exported = _Maps(graphs, faster.dtype).eval() if format == "onnx" else faster
    write = make_writer(exported, pixels, sizes, channels_last, json.dumps(about))
    with replacing(path, overwrite=overwrite) as temporary:
        write(temporary)
    return path
