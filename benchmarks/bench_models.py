"""Every preset from a uint8 picture to final boxes at batch 1, optimized, beside the plain model and torchvision's.

``--rows`` keeps for each row where its time goes and the speed that was published; ``benchmarks.report`` makes tables
of them and ``benchmarks.plot`` a picture.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.peers import torchvision
from benchmarks.race import human
from benchmarks.stages import split
from pyrcnn import deploy, models

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
PEERS = {
    "faster_rcnn_resnet50_fpn": "fasterrcnn_resnet50_fpn",
    "faster_rcnn_resnet50_fpn_v2": "fasterrcnn_resnet50_fpn_v2",
}


def picture(name: str, device: torch.device) -> torch.Tensor:
    size = next(s for start, s in PICTURES.items() if name.startswith(start))
    g = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, *size), dtype=torch.uint8, generator=g).to(device)


def agree(ours: Any, theirs: Any, peer: str) -> None:
    """The optimized model's scores are the plain one's; with random weights boxes of equal scores change places."""
    if peer == "plain":
        assert len(ours[0]) == len(theirs[0])
        torch.testing.assert_close(ours[0].scores, theirs[0].scores, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("name", models.names())
def bench_model(duel, benchmark, device, name: str, capsys) -> None:
    # Checked only, not timed (--benchmark-disable): the same code on small pictures.
    small = {"input_size": 128} if name.startswith("centernet") else {"min_size": 128, "max_size": 192}
    model = models.build(name, **(small if benchmark.disabled else {})).eval().to(device)
    image = picture(name, device)
    fast = deploy.optimize(model, "auto")
    tv = torchvision()
    peers: dict[str, Any] = {"plain": lambda: model([image])}
    with torch.inference_mode():
        if fast.dtype != torch.float32:
            single = deploy.optimize(model)
            peers["float32"] = lambda: single([image])
        if tv is not None and name in PEERS:
            builder = getattr(tv.models.detection, PEERS[name])
            theirs = builder(weights=None, weights_backbone=None).eval().to(device)
            floats = image.float() / 255
            peers["torchvision"] = lambda: theirs([floats])
        parts = split(fast, image, device, rounds=0 if benchmark.disabled else 3)
        published = PUBLISHED.get(name)
        facts = {"split": parts, "published": published and published / 1e3, "dtype": str(fast.dtype)}
        duel(lambda: fast([image]), peers, agree, **facts)
        if not benchmark.disabled:
            with capsys.disabled():
                print(f"\n{name}: " + ", ".join(f"{k} {human(v)}" for k, v in parts.items()))
