"""Every preset from a uint8 image to boxes at batch 1, beside other ways to run it (``detectors.contenders``).

``pyrcnn`` is ``deploy.optimize(model, "auto")``; its row names the engine and dtype that this chose. Before a row is
timed, all contenders must find the same clear objects (``detectors.agreement``). With ``--benchmark-disable`` nothing
is timed, and images and numbers of proposals are small. ``--rows`` stores each row, its stages and the published speed;
``benchmarks.report`` makes tables of them and ``benchmarks.measuring.plot`` a chart.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from benchmarks.detectors import contenders
from benchmarks.detectors.agreement import check_agreement, tolerance
from benchmarks.detectors.calibration import calibrate_, example_image
from benchmarks.measuring.timing import format_seconds
from benchmarks.stages import split
from pyrcnn import Detections, checkpoints, deploy, models

# (height, width) of the image
IMAGE_SIZES = {"faster_rcnn_vgg16": (600, 1000), "faster_rcnn": (800, 1088), "centernet": (512, 512)}
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
# --benchmark-disable: small images and few proposals
SMALL = {
    "faster_rcnn_vgg16": {
        "min_size": 256,
        "max_size": 384,
        "rpn": {"after_nms": (100, 100)},
    },  # anchors from 128 pixels
    "faster_rcnn_resnet50_v1_640": {"min_size": 128, "max_size": 192},
    "faster_rcnn": {"min_size": 128, "max_size": 192, "rpn": {"after_nms": (100, 100)}},
    "centernet": {"input_size": 128},
}
SMALL_TORCHVISION = {"min_size": 128, "max_size": 192, "rpn_post_nms_top_n_test": 100}
LARGE = 100_000_000  # parameters; converting such a network for a runtime takes minutes, too long for a check


def by_prefix(table: dict[str, Any], name: str) -> Any:
    """The first entry whose key ``name`` begins with."""
    return next(value for start, value in table.items() if name.startswith(start))


def image_for(name: str, device: torch.device) -> torch.Tensor:
    """The image that the preset ``name`` is measured on."""
    return example_image(*by_prefix(IMAGE_SIZES, name)).to(device)


def make_calibrated(name: str, small: bool, image: torch.Tensor) -> tuple[Any, Any]:
    """The preset with calibrated weights, and torchvision's model with the same weights or None."""
    model = models.build(name, **(by_prefix(SMALL, name) if small else {})).eval()
    theirs = contenders.torchvision_model(name, SMALL_TORCHVISION if small else {})
    if theirs is None:
        return calibrate_(model, image.cpu()).to(image.device), None
    checkpoints.load(model, calibrate_(theirs, image.cpu().float() / 255).state_dict())
    return model.to(image.device), theirs.to(image.device)


@pytest.mark.parametrize("name", models.names())
def bench_model(compare, benchmark, device, name: str, capsys, pytestconfig) -> None:
    def wanted(contender: str) -> Any:
        return re.search(pytestconfig.getoption("--peers"), contender)

    image, notes = image_for(name, device), []
    model, theirs = make_calibrated(name, benchmark.disabled, image)
    fast = deploy.optimize(model, "auto")
    low = fast.dtype != torch.float32
    dtypes = [torch.float32, *[fast.dtype] * low]
    peers: dict[str, Any] = {"plain": contenders.plain_contender(model, image, autocast=False)}
    if low:
        peers["plain, bfloat16 autocast"] = contenders.plain_contender(model, image, autocast=True)
    if theirs is not None:
        floats = image.float() / 255
        peers["torchvision"] = lambda: [Detections(f["boxes"], f["scores"], f["labels"] - 1) for f in theirs([floats])]
    peers |= contenders.build_wanted(contenders.engines(model, image, dtypes), wanted, notes)
    if benchmark.disabled and sum(p.numel() for p in model.parameters()) > LARGE:
        notes.append("whole runtimes left out of the check")
    else:
        peers |= contenders.build_wanted(contenders.runtimes(model, image), wanted, notes)
    with torch.inference_mode():
        reference = model([image])[0]
        check_agreement(reference, fast([image])[0], f"pyrcnn in {fast.dtype}", tolerance(str(fast.dtype)))
        rounds = 0 if benchmark.disabled else min(3, pytestconfig.getoption("--rounds"))
        parts = split(fast, image, device, rounds if rounds > 1 else 0)
        published = PUBLISHED.get(name)
        compare(
            lambda: fast([image]),
            peers,
            lambda _, found, peer: check_agreement(reference, found[0], peer, tolerance(peer)),
            split=parts,
            published=published and published / 1e3,
            dtype=str(fast.dtype),
            engine=fast.engine,
            note="; ".join(notes),
        )
        if not benchmark.disabled:
            with capsys.disabled():
                print(f"\n{name}, {fast.dtype}: " + ", ".join(f"{k} {format_seconds(v)}" for k, v in parts.items()))
