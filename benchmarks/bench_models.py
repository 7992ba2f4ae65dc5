"""Every preset from a uint8 picture to final boxes at batch 1, optimized, beside the plain model and the peers.

The peers are torchvision's own model with the same weights, and ONNX Runtime and OpenVINO running the same network with
a tail in their own operators (``benchmarks.portable``); pictures are prepared for these two by our ``preprocess``.
``--rows`` keeps for each row where its time goes and the speed that was published; ``benchmarks.report`` makes tables
of them and ``benchmarks.plot`` a picture.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks.peers import OnnxRuntime, OpenVinoModel, openvino_has_bfloat16, optional, torchvision
from benchmarks.portable import onnx_file, portable
from benchmarks.timing import human
from benchmarks.stages import split
from benchmarks.calibration import calibrate_
from pyrcnn import Detections, checkpoints, deploy, models, ops

# (height, width) of the picture
PICTURES = {"faster_rcnn_vgg16": (600, 1000), "faster_rcnn": (800, 1088), "centernet": (512, 512)}
# milliseconds, as the TF2 model zoo and (VGG-16, on a K40) the paper state them
PUBLISHED = {
    "centernet_hg104_512": 70,
    "centernet_hg104_512_kpts": 76,
    "centernet_hg104_1024": 197,
    "centernet_hg104_1024_kpts": 211,
    "centernet_resnet50_v1_fpn_512": 27,
    "centernet_resnet50_v1_fpn_512_kpts": 30,
    "centernet_resnet101_v1_fpn_512": 34,
    "centernet_resnet50_v2_512": 27,
    "centernet_resnet50_v2_512_kpts": 30,
    "centernet_mobilenet_v2_fpn_512": 6,
    "centernet_mobilenet_v2_fpn_512_kpts": 6,
    "faster_rcnn_vgg16": 198,
}


def picture(name: str, device: torch.device) -> torch.Tensor:
    size = next(s for start, s in PICTURES.items() if name.startswith(start))
    g = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, *size), dtype=torch.uint8, generator=g).to(device)


def agree(ours: Any, theirs: Any, peer: str) -> None:
    """Nearly every object that we find they find too, where it is, as sure of it; on the edge of a cut some change."""
    close = "bfloat16" not in peer and "float16" not in peer
    (a,), (b,) = ours, theirs
    same = (a.labels[:, None] == b.labels) & ((a.scores[:, None] - b.scores).abs() < (0.02 if close else 0.2))
    same &= ops.box_iou(a.boxes.float(), b.boxes.float()) > (0.9 if close else 0.6)
    found = same.any(1).float().mean()
    assert len(a), "nothing found, nothing compared"
    assert found > (0.6 if close else 0.3), f"{peer} finds {found:.0%} of our {len(a)} objects"


def torchvisions(name: str, sizes: dict[str, int]) -> Any:
    """torchvision's model of the numerics of ``name``, or None."""
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


def runtimes(model: Any, image: torch.Tensor) -> tuple[dict[str, Callable[[], Any]], str]:
    """ONNX Runtime and OpenVINO, and what is left out and why."""
    if image.device.type != "cpu" or not all(map(optional, ("onnx", "onnxruntime", "openvino"))):
        return {}, "without onnx, onnxruntime and openvino"
    pixels, sizes, _ = model.preprocess([image])
    module = portable(model, pixels, tuple(sizes[0].tolist()))  # type: ignore[arg-type]
    if module is None:
        return {}, "no other runtime has operators for its tail"
    file = onnx_file(module, pixels)
    engines: dict[str, Any] = {"onnxruntime": OnnxRuntime(file), "openvino": OpenVinoModel(file)}
    if openvino_has_bfloat16():
        engines["openvino bfloat16"] = OpenVinoModel(file, "bf16")

    def contender(engine: Any) -> Callable[[], Any]:
        def detect() -> list[Detections]:
            pixels, _, scales = model.preprocess([image])
            boxes, scores, labels, *_ = engine(pixels)
            return [Detections(boxes / scales.flip(-1).repeat(1, 2), scores, labels)]

        return detect

    joints = "onnxruntime and openvino do not match joints" if getattr(model.config, "joints", 0) else ""
    return {name: contender(engine) for name, engine in engines.items()}, joints


def autocast(model: Any, image: torch.Tensor) -> Callable[[], Any]:
    """The plain model as PyTorch's manual says."""

    def detect() -> Any:
        with torch.autocast(image.device.type, torch.bfloat16):
            return model([image])

    return detect


@pytest.mark.parametrize("name", models.names())
def bench_model(compare, benchmark, device, name: str, capsys, pytestconfig) -> None:
    # Checked only, not timed (--benchmark-disable): the same code on small pictures, with few proposals.
    small: dict[str, Any] = {"input_size": 128}
    sizes: dict[str, int] = {}
    if name.startswith("faster_rcnn"):
        small = {"min_size": 128, "max_size": 192, "rpn": {"after_nms": (100, 100)}}
        sizes = {"min_size": 128, "max_size": 192, "rpn_post_nms_top_n_test": 100} if benchmark.disabled else {}
    model: Any = models.build(name, **(small if benchmark.disabled else {})).eval()
    image = picture(name, device)
    peers: dict[str, Any] = {}
    theirs, floats = torchvisions(name, sizes), image.float() / 255
    if theirs is None:
        behave(model, image.cpu()).to(device)
    else:
        checkpoints.load(model, behave(theirs, floats.cpu()).state_dict())
        model.to(device)
        theirs.to(device)
        peers["torchvision"] = lambda: [Detections(f["boxes"], f["scores"], f["labels"] - 1) for f in theirs([floats])]
    fast = deploy.optimize(model, "auto")
    peers["plain"] = lambda: model([image])
    low = fast.dtype != torch.float32
    with torch.inference_mode():
        if low:
            single = deploy.optimize(model)
            peers["float32"] = lambda: single([image])
            peers["bfloat16 autocast"] = autocast(model, image)
        # exporting the largest takes minutes, too long for a check alone
        large = sum(p.numel() for p in model.parameters()) > 1e8
        wanted = any(re.search(pytestconfig.getoption("--peers"), name) for name in ("onnxruntime", "openvino"))
        alone = not wanted or (benchmark.disabled and large)
        others, note = ({}, "no other runtimes") if alone else runtimes(model, image)
        peers |= others
        rounds = 0 if benchmark.disabled else min(3, pytestconfig.getoption("--rounds"))
        parts = split(fast, image, device, rounds if rounds > 1 else 0)
        published = PUBLISHED.get(name)
        facts = {"split": parts, "published": published and published / 1e3, "dtype": str(fast.dtype), "note": note}
        compare(lambda: fast([image]), peers, lambda a, b, peer: agree(a, b, str(fast.dtype) + peer), **facts)
        if not benchmark.disabled:
            with capsys.disabled():
                print(f"\n{name}: " + ", ".join(f"{k} {human(v)}" for k, v in parts.items()))
