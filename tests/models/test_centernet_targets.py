"""CenterNet's targets, losses and gradients against TensorFlow's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, Targets
from pyrcnn.models.centernet import targets as t
from pyrcnn.models.training import mean_losses, pad_truth

from .parity.tf_weights import fixture

NAMES = {
    "object_center": "heatmap",
    "box/scale": "size",
    "box/offset": "offset",
    "human_pose/keypoint/heatmap": "keypoint_heatmap",
    "human_pose/keypoint/regression": "keypoint_regression",
    "human_pose/keypoint/offset": "keypoint_offset",
}
HEIGHT, WIDTH = 64, 80


@pytest.fixture(scope="module")
def stored() -> dict[str, Tensor]:
    return {k: torch.from_numpy(v) for k, v in fixture("ops_targets").items() if isinstance(v, np.ndarray) and v.ndim}


@pytest.fixture(scope="module")
def objects(stored: dict[str, Tensor]) -> t.Objects:
    extent = torch.tensor([WIDTH, HEIGHT], dtype=torch.float32)
    boxes = stored["in_boxes"][..., [1, 0, 3, 2]] * extent.repeat(2)
    points = stored["in_keypoints"]
    seen = ~points.isnan().any(-1, keepdim=True) * 2.0
    keypoints = torch.cat([points.nan_to_num().flip(-1) * extent, seen], -1)
    weights = stored["in_weights"] * (stored["in_classes"].sum(-1) > 0)
    return t.Objects(boxes, stored["in_classes"].argmax(-1), weights, keypoints)


def test_sigma_of_every_box_size(stored: dict[str, Tensor]) -> None:
    for iou in ("0.5", "0.7", "0.9"):
        sigma = t.gaussian_sigma(stored["radius_heights"], stored["radius_widths"], float(iou))
        assert torch.equal(sigma, stored[f"sigma_{iou}"])


def test_box_targets(stored: dict[str, Tensor], objects: t.Objects) -> None:
    got = t.box_targets(objects, 5, HEIGHT, WIDTH)
    assert (got.heatmap.permute(0, 2, 3, 1)[:, ::2] - stored["center_heatmap"]).abs().max() < 1e-6
    assert torch.equal(got.cells.flip(-1).reshape(-1, 2), stored["box_indices"][:, 1:].long())
    assert torch.equal(got.size.reshape(-1, 2), stored["box_height_width"])
    assert (got.offset.reshape(-1, 2) - stored["box_offset"]).abs().max() < 1e-5
    assert torch.equal(got.weights.flatten(), stored["box_weights"])


def test_joint_targets(stored: dict[str, Tensor], objects: t.Objects) -> None:
    got = t.joint_targets(objects, 0, HEIGHT, WIDTH)
    assert (got.heatmap.permute(0, 2, 3, 1)[:, ::3] - stored["r3_kpt_heatmap"]).abs().max() < 1e-6
    assert torch.equal(got.valid.permute(0, 2, 3, 1), stored["r3_kpt_valid_mask"].float())
    assert got.labelled == stored["r3_kpt_num_instances"].sum()
    for name, cells, displacement, weights in (
        ("reg", got.regression_cells, got.regression, got.regression_weights),
        ("off", got.offset_cells, got.offset, got.offset_weights),
    ):
        ours = _rows(cells, displacement, weights)
        index = stored[f"r3_kpt_{name}_indices"].double()
        theirs = torch.cat([index[:, [0, 3, 1, 2]], stored[f"r3_kpt_{name}_offsets"].double()], 1)
        assert ours.shape == theirs.shape
        assert np.abs(ours - _sorted(theirs)).max() < 2e-5


def _rows(cells: Tensor, displacement: Tensor, weights: Tensor) -> np.ndarray:
    """Image, joint, y, x and displacement of every cell with weight."""
    where = (weights > 0).nonzero()
    index = cells[weights > 0]
    place = torch.stack([index // WIDTH, index % WIDTH], 1)
    return _sorted(torch.cat([where[:, :2].double(), place.double(), displacement[weights > 0].double()], 1))


def _sorted(rows: Tensor) -> np.ndarray:
    return np.array(sorted(rows.round(decimals=3).tolist()))


@pytest.fixture(scope="module")
def predictions(stored: dict[str, Tensor], objects: t.Objects) -> list[dict[str, Tensor]]:
    """The reference's maps where they matter for what is compared, zeros elsewhere."""
    numbers = fixture("ops_losses")
    channels = {"heatmap": 5, "size": 2, "offset": 2, "keypoint_heatmap": 17}
    stacks = []
    for stack in (0, 1):
        maps = {}
        for key, name in NAMES.items():
            value = torch.zeros(3, HEIGHT, WIDTH, channels.get(name, 34))
            if f"pred:{key}:{stack}" in numbers:
                _view(value, name, stored)[...] = 0
                _assign(value, name, stored, torch.from_numpy(numbers[f"pred:{key}:{stack}"]))
            maps[name] = value.permute(0, 3, 1, 2).contiguous().requires_grad_()
        stacks.append(maps)
    return stacks


def _place(name: str, stored: dict[str, Tensor]) -> tuple:
    """Where the stored numbers of a head stand in its map [N, H, W, C]."""
    if name == "heatmap":
        return (slice(None), slice(None, None, 2), slice(None, None, 2), slice(1, 2))
    if name == "keypoint_heatmap":
        return (slice(None), slice(None, None, 2), slice(None, None, 2), slice(None, None, 6))
    if name in ("size", "offset"):
        return tuple(stored["box_indices"].long().T)
    n, y, x, joint = stored[f"r3_kpt_{'reg' if name == 'keypoint_regression' else 'off'}_indices"].long().T
    pair = torch.stack([2 * joint, 2 * joint + 1], 1)
    return (n[:, None], y[:, None], x[:, None], pair)


def _view(value: Tensor, name: str, stored: dict[str, Tensor]) -> Tensor:
    return value[_place(name, stored)]


def _assign(value: Tensor, name: str, stored: dict[str, Tensor], numbers: Tensor) -> None:
    value[_place(name, stored)] = numbers


def test_losses_and_gradients(
    stored: dict[str, Tensor], objects: t.Objects, predictions: list[dict[str, Tensor]]
) -> None:
    numbers = fixture("ops_losses")
    valid = t.valid_cells(stored["in_true_image_shapes"][:, :2], HEIGHT, WIDTH, 4)
    boxes = t.box_targets(objects, 5, HEIGHT, WIDTH)
    joints = t.joint_targets(objects, 0, HEIGHT, WIDTH)
    total: dict[str, Tensor] = {}
    for maps in predictions:
        for name, loss in mean_losses(t.box_losses(maps, boxes, valid) | t.joint_losses(maps, joints, valid)).items():
            total[name] = total.get(name, torch.zeros(())) + loss / 2
    torch.stack(list(total.values())).sum().backward()
    for key, name in NAMES.items():
        if "heatmap" not in name:  # a heat map's loss needs every cell; its terms are compared below
            assert total[name].item() == pytest.approx(float(numbers[f"loss:Loss/{key}"]), rel=1e-5)
        for stack, maps in enumerate(predictions):
            if f"grad:{key}:{stack}" in numbers:
                wanted = torch.from_numpy(numbers[f"grad:{key}:{stack}"])
                got = _view(maps[name].grad.permute(0, 2, 3, 1), name, stored)
                assert (got - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_focal_loss_with_extreme_logits() -> None:
    numbers = fixture("ops_losses")
    logits = torch.from_numpy(numbers["focal_logits"]).requires_grad_()
    loss = t.focal_loss(logits, torch.from_numpy(numbers["focal_targets"]))
    loss.sum().backward()
    assert (loss - torch.from_numpy(numbers["focal_loss"])).abs().max() < 1e-3  # an ulp of the sigmoid near the clip
    assert (logits.grad - torch.from_numpy(numbers["focal_grad"])).abs().max() < 1e-5


def test_crowd_and_outlying_boxes_are_not_learnt() -> None:
    boxes = torch.tensor([[0.0, 0, 40, 40], [8, 8, 24, 24], [300, 300, 340, 340]])
    crowd = torch.tensor([True, False, False])
    targets = [Targets(boxes, torch.tensor([0, 1, 1]), crowd=crowd), Targets(torch.zeros(0, 4), torch.zeros(0).long())]
    objects = t.objects_of(pad_truth(targets, 2), torch.ones(2, 2), 4)
    got = t.box_targets(objects, 2, 16, 16)
    assert got.weights.tolist() == [[1, 0], [0, 0]]
    assert (got.heatmap[0] == 1).nonzero().tolist() == [[1, 4, 4]]
    assert got.heatmap[1].max() == 0


def test_targets_that_do_not_fit_the_model_are_refused() -> None:
    one = Targets(torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([2]), torch.zeros(1, 5, 3))
    with pytest.raises(InputError, match=r"targets must have labels in 0\.\.1"):
        pad_truth([one], 2)
    with pytest.raises(InputError, match="targets must have 17 joints, got 5"):
        pad_truth([one], 3, joints=17)


def test_the_former_way_to_pad_targets() -> None:
    given = [Targets(torch.tensor([[8.0, 4, 16, 12]]), torch.tensor([1]))]
    with pytest.deprecated_call():
        got = t.pad_targets(given, torch.ones(1, 2), 4, 2, 0)
    assert got.boxes.tolist() == [[[2.0, 1, 4, 3]]]
    assert (got.labels.tolist(), got.weights.tolist()) == ([[1]], [[1.0]])
