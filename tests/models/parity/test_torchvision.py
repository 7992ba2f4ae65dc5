"""torchvision's Faster R-CNNs against ours with the same weights, which arrive by torchvision's names.

The numbers are those of ``tests/fixtures/make_torchvision.py``, which ran torchvision itself.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrcnn import Targets, checkpoints, models
from pyrcnn.checkpoints.formats.torchvision import DETECTOR
from pyrcnn.checkpoints.report import renamed

from .compare import assert_learns_the_same, assert_same
from .torchvision_cases import CASES, Case, example_image, truth, weights

FILE = Path(__file__).parents[2] / "fixtures" / "torchvision_faster_rcnn.npz"
LOSSES = [case for case in CASES if case.losses]


@cache
def arrays() -> dict[str, np.ndarray]:
    with np.load(FILE) as file:
        return {key: file[key] for key in file.files}


def build(case: Case, folder: Path) -> models.FasterRCNN:
    """Our detector, with torchvision's weights out of a file as torchvision would have written it."""
    shapes = json.loads(str(arrays()[f"{case.name}:state"]))
    file = folder / "fasterrcnn.pth"
    torch.save(weights({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, arrays()), file)
    model = models.build(
        case.preset,
        min_size=case.min_size,
        max_size=case.max_size,
        trainable_layers=3,
        # every anchor and every proposal is learnt from
        rpn={"after_nms": (100, case.proposals), "samples": 10**6},
        roi={"max_detections": case.detections, "samples": 4096, "positives": 0.5},
    )
    assert isinstance(model, models.FasterRCNN)
    report = checkpoints.load(model, file)
    assert (report.missing, report.unexpected, report.reshaped, report.notes) == ((), (), (), ())
    return model


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[] if c.losses else pytest.mark.slow, id=c.name) for c in CASES]
)
def test_detections_are_torchvisions(case: Case, tmp_path: Path) -> None:
    model = build(case, tmp_path).eval()
    with torch.inference_mode():
        detections = model([example_image(name) for name in case.images])
    assert sum(map(len, detections)) >= 100
    for name, found in zip(case.images, detections, strict=True):
        boxes, scores, labels = (
            torch.from_numpy(arrays()[f"{case.name}:{name}:{key}"]) for key in ("boxes", "scores", "labels")
        )
        assert_same(found, boxes, scores, labels - 1)


@pytest.mark.parametrize("case", LOSSES, ids=[case.name for case in LOSSES])
def test_losses_and_gradients_are_torchvisions(case: Case, tmp_path: Path) -> None:
    model = build(case, tmp_path).train()
    for module in model.backbone.modules():  # in torchvision, norms of frozen stages learn statistics all the same
        if isinstance(module, torch.nn.BatchNorm2d):
            module.train()
    losses = model([example_image(name) for name in case.losses], [Targets(*truth(name)) for name in case.losses])
    stored = {name: arrays()[f"{case.name}:{name}"] for name in losses}
    start = f"{case.name}:gradient:"
    gradients = {name.removeprefix(start): value for name, value in arrays().items() if name.startswith(start)}
    assert_learns_the_same(model, losses, stored, renamed(gradients, DETECTOR))
