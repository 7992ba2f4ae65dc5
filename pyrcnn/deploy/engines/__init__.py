"""Engines: what runs the networks of an optimized detector. Operators between the networks are pyrcnn's with each."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ...errors import require
from ...models.detector import Detector
from ..machine import machine
from .base import Engine, Options
from .inductor import Inductor
from .native import Native
from .onnxruntime import OnnxRuntime
from .openvino import OpenVino

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (Native, Inductor, OpenVino, OnnxRuntime)}


class Fastest(NamedTuple):
    """One row of :data:`FASTEST`; None means any."""

    device: str | None
    dtype: torch.dtype | None
    bfloat16: bool | None  # whether the processor multiplies bfloat16 in hardware
    engine: str


# What "auto" uses: the first row that applies and whose engine is installed and can run the model.
# Times are milliseconds per call for one image.
FASTEST = (
    # AMD Zen 4, AVX512_BF16, two threads, native and OpenVINO: centernet_resnet50_v1_fpn_512 173 and 144,
    # centernet_mobilenet_v2_fpn_512 38 and 20, faster_rcnn_resnet50_fpn 935 and 872.
    Fastest("cpu", torch.bfloat16, True, "openvino"),
    # The same machine and models in float32: 230 and 290, 31 and 36, 1160 and 1710; with ONNX Runtime 291, 37, 1860.
    Fastest(None, None, None, "native"),
)


def choose_engine(name: str, model: Detector, options: Options) -> type[Engine]:
    """The engine called ``name``, or the fastest for "auto".

    Raises :class:`pyrcnn.InputError` if that engine cannot run ``model``.
    """
    require(name == "auto" or name in ENGINES, f"engine must be auto, {', '.join(ENGINES)}, got {name!r}")
    if name != "auto":
        ENGINES[name].check(model, options)
        return ENGINES[name]
    for row in FASTEST:
        applies = row.device in (None, options.device.type) and row.dtype in (None, options.dtype)
        applies = applies and row.bfloat16 in (None, machine().bfloat16)
        if applies and ENGINES[row.engine].refusal(model, options) is None:
            return ENGINES[row.engine]
    return Native
