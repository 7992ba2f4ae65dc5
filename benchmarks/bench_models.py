"""Every preset from a uint8 picture to final boxes at batch 1, and where the time goes.

The peer of each row is the same network without us: plain torch for everything, as far as torchvision offers the model.
"""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from benchmarks.peers import torchvision
from benchmarks.race import human, synchronize
from pyrcnn import models

# (height, width) of the picture; the published speed in ms, on hardware that its table does not name
PICTURES = {"faster_rcnn": (800, 1088), "centernet": (512, 512)}
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
PEERS = {
    "faster_rcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn",
    "faster_rcnn_resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2",
}


def picture(name: str, device: torch.device) -> torch.Tensor:
    size = next(s for family, s in PICTURES.items() if name.startswith(family))
    g = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, *size), dtype=torch.uint8, generator=g).to(device)


def split(model: Any, image: torch.Tensor, device: torch.device, rounds: int = 3) -> dict[str, float]:
    """Seconds of preprocessing, of the padded network with its tail, and of what forward adds."""
    best = {"preprocess": float("inf"), "network and tail": float("inf"), "whole": float("inf")}
    for _ in range(rounds):
        start = time.perf_counter()
        pixels, sizes, _ = model.preprocess([image])
        synchronize(device)
        middle = time.perf_counter()
        model.predict_padded(pixels, sizes)
        synchronize(device)
        end = time.perf_counter()
        model([image])
        synchronize(device)
        parts = (middle - start, end - middle, time.perf_counter() - end)
        best = {name: min(best[name], seconds) for name, seconds in zip(best, parts, strict=True)}
    return best


@pytest.mark.parametrize("name", models.names())
def bench_model(duel, benchmark, device, name: str, capsys) -> None:
    # Checked only, not timed (--benchmark-disable): the same code on small pictures.
    small = {"input_size": 128} if name.startswith("centernet") else {"min_size": 128, "max_size": 192}
    model = models.build(name, **(small if benchmark.disabled else {})).eval().to(device)
    image = picture(name, device)
    tv = torchvision()
    peers: dict[str, Any] = {}
    with torch.inference_mode():
        if tv is not None and name in PEERS:
            builder = getattr(tv.models.detection, PEERS[name])
            theirs = builder(weights=None, weights_backbone=None).eval().to(device)
            floats = image.float() / 255
            peers["torchvision"] = lambda: theirs([floats])
        duel(lambda: model([image]), peers)
        if not benchmark.disabled:
            parts = split(model, image, device)
            benchmark.extra_info["split"] = parts
            benchmark.extra_info["published_ms"] = PUBLISHED.get(name)
            with capsys.disabled():
                print(f"\n{name}: " + ", ".join(f"{k} {human(v)}" for k, v in parts.items()))
