"""The ways to run one detector that ``bench_models`` compares: engines, runtimes, torchvision, plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.detectors.portable import make_portable, onnx_file
from benchmarks.peers import OnnxRuntime, OpenVinoModel, openvino_has_bfloat16, optional, torchvision
from pyrcnn import Detections, InputError, deploy

Contender = Callable[[], Any]
Builder = Callable[[], Contender]
ENGINES = {"native": None, "openvino": "openvino", "onnxruntime": "onnxruntime"}  # engine → the package it needs


def engines(model: Any, image: torch.Tensor, dtypes: list[torch.dtype]) -> Iterator[tuple[str, Builder]]:
    """``deploy.optimize`` with each installed engine in each dtype; the name says which engine runs the networks."""

    def build(engine: str, dtype: torch.dtype) -> Contender:
        fast = deploy.optimize(model, dtype, engine=engine)
        return lambda: fast([image])

    for engine, package in ENGINES.items():
        if package is None or (image.device.type == "cpu" and optional(package)):
            for dtype in dtypes:
                label = str(dtype).removeprefix("torch.")
                yield f"engine {engine}, {label}", lambda engine=engine, dtype=dtype: build(engine, dtype)


def runtimes(model: Any, image: torch.Tensor) -> Iterator[tuple[str, Builder]]:
    """The whole detector in OpenVINO and ONNX Runtime, with their operators behind the network.

    Our ``preprocess`` makes their input. They do not match keypoints. Nothing is yielded where no operators of theirs
    do what the detector does.
    """
    if image.device.type != "cpu" or not all(map(optional, ("onnx", "onnxruntime", "openvino"))):
        return
    pixels, sizes, _ = model.preprocess([image])
    module = make_portable(model, pixels, tuple(sizes[0].tolist()))  # type: ignore[arg-type]
    if module is None:
        return
    files: list[bytes] = []

    def build(make: Callable[[bytes], Any]) -> Contender:
        if not files:
            files.append(onnx_file(module, pixels))
        runtime = make(files[0])

        def detect() -> list[Detections]:
            pixels, _, scales = model.preprocess([image])
            boxes, scores, labels, *_ = runtime(pixels)
            return [Detections(boxes / scales.flip(-1).repeat(1, 2), scores, labels)]

        return detect

    yield "onnxruntime", lambda: build(OnnxRuntime)
    yield "openvino", lambda: build(OpenVinoModel)
    if openvino_has_bfloat16():
        yield "openvino bfloat16", lambda: build(lambda file: OpenVinoModel(file, "bf16"))


def plain_contender(model: Any, image: torch.Tensor, autocast: bool) -> Contender:
    """The model as built, under bfloat16 autocast if asked."""

    def detect() -> Any:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=autocast):
            return model([image])

    return detect


def torchvision_model(name: str, sizes: dict[str, int]) -> Any:
    """torchvision's model with the numerics of the preset ``name``, or None."""
    tv = torchvision()
    if tv is None:
        return None
    detection, options = tv.models.detection, {"weights": None, "weights_backbone": None, **sizes}
    if name == "faster_rcnn_resnet50_fpn":
        return detection.fasterrcnn_resnet50_fpn(**options).eval()
    if name == "faster_rcnn_resnet50_fpn_v2":
        return detection.fasterrcnn_resnet50_fpn_v2(**options).eval()
    if name == "faster_rcnn_resnet101_fpn":
        body = detection.backbone_utils.resnet_fpn_backbone(backbone_name="resnet101", weights=None)
        return detection.FasterRCNN(body, 91, **sizes).eval()
    return None


def build_wanted(
    builders: Iterator[tuple[str, Builder]], wanted: Callable[[str], Any], notes: list[str]
) -> dict[str, Contender]:
    """Build the contenders whose names are wanted; what an engine refuses is noted."""
    found = {}
    for name, builder in builders:
        if wanted(name):
            try:
                found[name] = builder()
            except InputError as error:
                notes.append(f"without {name}: {error}")
    return found
