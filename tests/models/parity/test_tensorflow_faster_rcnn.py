"""The pieces of ``faster_rcnn_resnet50_v1_640`` against numbers that the TF Object Detection API gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pyrcnn.models import PRESETS
from pyrcnn.models.backbones.resnet import max_pool_same
from pyrcnn.models.faster_rcnn import FasterRCNNConfig
from pyrcnn.models.faster_rcnn.roi_head import RoIHead, crop_and_pool
from pyrcnn.models.faster_rcnn.rpn import RPN
from pyrcnn.models.faster_rcnn.suppression import suppress_then_clip
from pyrcnn.models.faster_rcnn.targets import masked_smooth_l1
from pyrcnn.ops import decode_boxes, encode_boxes, match_boxes

FILE = np.load(Path(__file__).parents[2] / "fixtures" / "ops_frcnn.npz")
CONFIG = PRESETS["faster_rcnn_resnet50_v1_640"]
assert isinstance(CONFIG, FasterRCNNConfig)
IMAGE = torch.tensor([[600, 640]])


def array(key: str) -> Tensor:
    return torch.from_numpy(FILE[key])


def boxes(key: str) -> Tensor:
    """TF's (y, x, y, x) as x1 y1 x2 y2; its codes (ty, tx, th, tw) as dx dy dw dh likewise."""
    return array(key)[..., [1, 0, 3, 2]]


@pytest.fixture(scope="module")
def rpn() -> RPN:
    return RPN(CONFIG.rpn, 1024, (16,))


def test_anchors(rpn: RPN) -> None:
    got = rpn.anchors([torch.zeros(1, 1, 40, 40)], 640, 640)
    torch.testing.assert_close(got, boxes("anchors_c4_640").clamp(0, 640), rtol=1e-6, atol=1e-4)


def test_box_code() -> None:
    anchors, codes = boxes("coder_anchors"), boxes("coder_codes")
    decoded = decode_boxes(codes, anchors, CONFIG.rpn.weights, CONFIG.rpn.clip)
    torch.testing.assert_close(decoded, boxes("coder_decoded"), rtol=1e-5, atol=1e-3)
    encoded = encode_boxes(decoded, anchors, CONFIG.rpn.weights)
    torch.testing.assert_close(encoded, boxes("coder_encoded"), rtol=1e-4, atol=1e-3)


def test_proposals() -> None:
    c = CONFIG.rpn
    got, scores, _, counts = suppress_then_clip(
        boxes("coder_decoded")[None], array("rpn_nms_scores")[None, None], IMAGE, c.nms_threshold, *c.after_nms
    )
    count = int(FILE["rpn_nms_num"][0])
    assert counts.tolist() == [count]
    torch.testing.assert_close(got[0, :count], boxes("rpn_nms_boxes_out")[0, :count], rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(scores[0, :count], array("rpn_nms_scores_out")[0, :count])
    assert not scores[0, count:].any()


def test_assignment_of_anchors() -> None:
    truth, counts = boxes("assign_gt")[None], torch.tensor([4])
    indices, states, ious = match_boxes(boxes("anchors_c4_640"), truth, 0.7, 0.3, allow_low_quality=True, counts=counts)
    matched = array("assign_first_match")  # -1 background, -2 ignored
    assert torch.equal(indices[0][matched >= 0], matched[matched >= 0].long())
    assert (states[0][matched >= 0] == 1).all()
    # Where several anchors tie for a ground truth's best, TensorFlow takes the first of them, the paper's rule all.
    differ = (states[0] != (matched >= 0).to(torch.int8) - (matched == -2).to(torch.int8)).nonzero().flatten()
    best = ious[0][matched >= 0].unique()
    assert (states[0][differ] == 1).all()
    assert torch.isin(ious[0][differ], best).all()


def test_crops() -> None:
    features = array("crop_features").permute(0, 3, 1, 2)
    size = 640
    got = crop_and_pool(features, boxes("crop_boxes") * size, size, size, 14)
    torch.testing.assert_close(
        got.unflatten(0, (2, 20)).permute(0, 1, 3, 4, 2), array("crop_maxpool7"), atol=1e-4, rtol=1e-4
    )


def test_smooth_l1() -> None:
    everywhere = torch.ones(1, 50, dtype=torch.bool)
    got = masked_smooth_l1(array("sl1_pred"), array("sl1_target"), everywhere, CONFIG.roi.beta)
    torch.testing.assert_close(got, array("sl1").sum(), rtol=1e-5, atol=1e-5)


def test_detections() -> None:
    head = RoIHead(CONFIG.roi, 1024, (16,), 90, torch.nn.Identity())
    proposals, still = boxes("coder_decoded")[None], torch.zeros(1, 400, 4)
    got, scores, labels, counts = head.detect(array("det_logits"), still, proposals, torch.tensor([400]), IMAGE)
    wanted = boxes("det_boxes_out")[0] * torch.tensor([640, 600, 640, 600])
    assert counts.tolist() == FILE["det_num"].tolist()
    assert torch.equal(labels[0], array("det_classes_out")[0].long())
    torch.testing.assert_close(scores, array("det_scores_out"), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got[0], wanted, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("size", [(8, 6), (7, 6), (8, 5), (7, 5)])
def test_the_stem_pools_as_tensorflow_pads(size: tuple[int, int]) -> None:
    x = torch.randn(1, 2, *size)
    (top, bottom), (left, right) = ((1, 1) if side % 2 else (0, 1) for side in size)
    padded = torch.nn.functional.pad(x, (left, right, top, bottom), value=float("-inf"))
    windows = padded.unfold(2, 3, 2).unfold(3, 3, 2)
    assert torch.equal(max_pool_same(x), windows.amax((-2, -1)))


def test_boxes_suppress_each_other_before_they_are_clipped() -> None:
    """The first two overlap only outside the image, the third and fourth only after clipping."""
    boxes = torch.tensor([[[-90.0, 0, 10, 10], [-90, 0, 9, 10], [50, 0, 60, 10], [50, 0, 160, 10]]])
    scores = torch.tensor([[[0.9, 0.8, 0.7, 0.6]]])
    got, best, labels, counts = suppress_then_clip(boxes, scores, torch.tensor([[10, 60]]), 0.5, 4, 5)
    assert counts.tolist() == [3]
    assert got[0].tolist() == [[0, 0, 10, 10], [50, 0, 60, 10], [50, 0, 60, 10], [0] * 4, [0] * 4]
    torch.testing.assert_close(best[0], torch.tensor([0.9, 0.7, 0.6, 0, 0]))
    assert labels[0].tolist() == [0, 0, 0, -1, -1]


def test_a_box_without_area_takes_no_place_among_the_best() -> None:
    """Both classes' first box lies outside the image; the limits count per class before clipping, in all after it."""
    boxes = torch.tensor([[[-20.0, 0, -10, 10], [0, 0, 10, 10], [20, 0, 30, 10]]])
    scores = torch.tensor([[[0.9, 0.5, 0.4], [0.8, 0.6, 0.1]]])
    got, best, labels, counts = suppress_then_clip(boxes, scores, torch.tensor([[10, 60]]), 0.5, 2, 2)
    assert counts.tolist() == [2]
    assert got[0].tolist() == [[0, 0, 10, 10], [0, 0, 10, 10]]
    torch.testing.assert_close(best[0], torch.tensor([0.6, 0.5]))
    assert labels[0].tolist() == [1, 0]
    _, _, _, none = suppress_then_clip(boxes, scores, torch.tensor([[10, 60]]), 0.5, 1, 2)
    assert none.tolist() == [0]
