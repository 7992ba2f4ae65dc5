"""Detectors as files for serving: PyTorch programs, AOTInductor packages, ONNX networks."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..atomic import replacing
from ..errors import require
from ..models import CenterNet, metadata
from .network import check, input_size, prepared

METADATA = (
    "pyrcnn.json"  # in PyTorch's files: family, config, classes, category ids, as in a weights file, and the input
)


class _Detector(nn.Module):
    """From float32 pixels of any memory format to padded detections."""

    def __init__(self, model: Any, layout: torch.memory_format):
        super().__init__()
        self.model, self.layout = model, layout

    def forward(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        pixels = pixels.to(self.model.precision.dtype).contiguous(memory_format=self.layout)
        return tuple(self.model.predict_padded(pixels, sizes))


class _Network(nn.Module):
    """What ONNX can express: from pixels to the maps that the detector's own operators turn into boxes."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        pixels = pixels.to(self.model.precision.dtype)
        if isinstance(self.model, CenterNet):
            return {name: value.float() for name, value in self.model.heads(pixels).items()}
        features = self.model.backbone(pixels)
        logits, deltas = self.model.rpn.head(features)
        parts = {"features": features, "objectness": logits, "deltas": deltas}
        return {f"{name}{level}": x.float() for name, xs in parts.items() for level, x in enumerate(xs)}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' warnings, which are about their own matters."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _program(model: Any, pixels: Tensor, sizes: Tensor, channels_last: bool) -> Any:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    with torch.no_grad():
        return torch.export.export(_Detector(model, layout), (pixels, sizes))


def _save_torch(model: Any, path: Path, pixels: Tensor, sizes: Tensor, channels_last: bool, about: str) -> None:
    program = _program(model, pixels, sizes, channels_last)
    with replacing(path) as temporary, _quiet():  # it warns about weights in channels_last, and writes them right
        torch.export.save(program, temporary, extra_files={METADATA: about})


def _save_aoti(model: Any, path: Path, pixels: Tensor, sizes: Tensor, channels_last: bool, about: str) -> None:
    from torch._inductor import aoti_compile_and_package

    program = _program(model, pixels, sizes, channels_last)
    configs = {"aot_inductor.metadata": {METADATA: about}}
    with replacing(path) as temporary:
        aoti_compile_and_package(program, package_path=str(temporary), inductor_configs=configs)


def _save_onnx(model: Any, path: Path, pixels: Tensor, sizes: Tensor, channels_last: bool, about: str) -> None:
    lacking = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    require(not lacking, f"format onnx needs {' and '.join(lacking)}: pip install {' '.join(lacking)}")
    network = _Network(model).eval()
    with torch.no_grad(), _quiet():
        names = list(network(pixels))
        program = torch.onnx.export(network, (pixels,), input_names=["pixels"], output_names=names, dynamo=True,
                                    verbose=False)  # fmt: skip
    assert program is not None
    program.model.metadata_props[METADATA] = about
    with replacing(path) as temporary:
        program.save(temporary, external_data=False)


Writer = Callable[[Any, Path, Tensor, Tensor, bool, str], None]
FORMATS: dict[str, tuple[str, Writer]] = {  # name → the file's suffix and who writes it
    "torch": (".pt2", _save_torch),
    "aoti": (".pt2", _save_aoti),
    "onnx": (".onnx", _save_onnx),
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
) -> Path:
    """Write ``model`` for inference to ``path``, which is whole or not there; returns the path.

    Args:
        model: a CenterNet or Faster R-CNN; it is left as it is. Not an optimized one: that is bound to its process.
        path: ends in ``.pt2``, for "onnx" in ``.onnx``.
        format: "torch": the whole detector as a ``torch.export`` program; ``torch.export.load(path).module()`` runs it
            where pyrcnn is imported. "aoti": the same compiled by AOTInductor for the device that the model is on
            (a C++ compiler is needed here, not there); ``torch._inductor.aoti_load_package(path)``, also with pyrcnn
            imported. "onnx": the network alone, for ONNX has no operators equal to ours: from ``pixels`` to what
            ``CenterNet.heads`` gives, or Faster R-CNN's ``features0…``, ``objectness0…`` and ``deltas0…`` per level;
            its second stage, which takes regions from them, is not in the file.
        size: (height, width) of the input; None: what the model's configuration leads to. Pictures are padded to it
            at the bottom and right, as ``preprocess`` does.
        batch: pictures at a time.
        dtype: what the network computes in, as for :func:`~pyrcnn.deploy.optimize`.
        channels_last, fold: as for :func:`~pyrcnn.deploy.optimize`; ONNX has no memory formats.

    The program takes ``pixels`` [batch, 3, height, width] float32 as ``model.preprocess`` gives them, and ``sizes``
    [batch, 2] int64, and returns boxes, scores, labels, counts (and keypoints) as ``model.predict_padded``. The file's
    extra entry ``pyrcnn.json`` holds class names, category ids and configuration.

    Raises :class:`pyrcnn.InputError` for another model, format or suffix, a size that the network does not take, a path
    that cannot be written, and packages that are missing.
    """
    require(format in FORMATS, f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    suffix, write = FORMATS[format]
    path = Path(path)
    require(path.suffix == suffix, f"path must end in {suffix} for format {format}, got {path}")
    require(batch > 0, f"batch must be positive, got {batch}")
    check(model, size)
    faster = prepared(model, dtype, channels_last and format != "onnx", fold, packed=False)
    height, width = size or input_size(faster.config)
    multiple = 128 if faster.config.backbone == "hourglass104" else 32
    fits = height % multiple == 0 and width % multiple == 0
    require(fits, f"size must be two positive multiples of {multiple}, got ({height}, {width})")
    device = faster.precision.device
    pixels = torch.zeros(batch, 3, height, width, device=device)
    sizes = torch.tensor([[height, width]] * batch, device=device)
    about = json.loads(next(iter(metadata(model).values())))
    about["input"] = {"batch": batch, "height": height, "width": width}
    write(faster, path, pixels, sizes, channels_last, json.dumps(about))
    return path
