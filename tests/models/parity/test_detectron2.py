"""detectron2's Faster R-CNNs against ours with the same weights, which arrive by detectron2's names.

The numbers are those of ``tests/fixtures/make_detectron2.py``, which ran detectron2 itself.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pyrcnn import Targets, checkpoints, models
from pyrcnn.checkpoints.formats import detectron2
from pyrcnn.models.preprocess import shorter_side_rounded

from .compare import assert_learns_the_same, assert_same
from .detectron2_cases import CASES, LOSSES, MAX_SIZE, MIN_SIZE, TRAINING_PROPOSALS, Case, weights
from .torchvision_cases import NAMES, example_image, truth

FILE = Path(__file__).parents[2] / "fixtures" / "detectron2_faster_rcnn.npz"
each_case = pytest.mark.parametrize("case", CASES, ids=[case.config for case in CASES])


@cache
def arrays() -> dict[str, np.ndarray]:
    with np.load(FILE) as file:
        return {key: file[key] for key in file.files}


def build(case: Case, folder: Path) -> models.FasterRCNN:
    """Our detector, with detectron2's weights out of a file as its checkpointer writes them."""
    shapes = json.loads(str(arrays()[f"{case.preset}:state"]))
    file = folder / "model_final.pth"
    state = weights({name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, arrays())
    torch.save({"model": state}, file)
    model = models.build(
        case.preset,
        min_size=MIN_SIZE,
        max_size=MAX_SIZE,
        trainable_layers=case.trainable_layers,
        # every anchor and every proposal is learnt from
        rpn={"after_nms": (TRAINING_PROPOSALS, case.proposals), "samples": 10**6},
        roi={"samples": 4096, "positives": 0.5},
    )
    assert isinstance(model, models.FasterRCNN)
    report = checkpoints.load(model, file)
    assert (report.missing, report.unexpected, report.reshaped, report.notes) == ((), (), (), ())
    return model


@each_case
def test_detections_are_detectron2s(case: Case, tmp_path: Path) -> None:
    model = build(case, tmp_path).eval()
    with torch.inference_mode():
        detections = model([example_image(name) for name in NAMES])
    assert sum(map(len, detections)) >= 100
    for name, found in zip(NAMES, detections, strict=True):
        stored = (torch.from_numpy(arrays()[f"{case.preset}:{name}:{key}"]) for key in ("boxes", "scores", "labels"))
        assert_same(found, *stored)


@each_case
def test_losses_and_gradients_are_detectron2s(case: Case, tmp_path: Path) -> None:
    model = build(case, tmp_path).train()
    losses = model([example_image(name) for name in LOSSES], [Targets(*truth(name)) for name in LOSSES])
    stored = {name: arrays()[f"{case.preset}:{name}"] for name in losses}
    start = f"{case.preset}:gradient:"
    norms = {name.removeprefix(start): value for name, value in arrays().items() if name.startswith(start)}
    gradients = detectron2.read(model, {name: torch.from_numpy(value)[None] for name, value in norms.items()})
    assert_learns_the_same(model, losses, stored, gradients)


def test_sizes_are_detectron2s() -> None:
    ours = [shorter_side_rounded(h, w, 800, 1333) for h, w in arrays()["sizes"].tolist()]
    assert ours == [tuple(size) for size in arrays()["resized"].tolist()]
