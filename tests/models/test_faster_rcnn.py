"""Faster R-CNN: its anchors, its two stages, what goes in and what comes out."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyrcnn import Detections, InputError, Targets, ops
from pyrcnn.models import PRESETS, FasterRCNN, FasterRCNNConfig, build
from pyrcnn.models.faster_rcnn.rpn import ANCHORS, RPN, RPNConfig
from pyrcnn.models.presets import changed
from tests.reference.roi_align import level_of

NAMES = [name for name in PRESETS if name.startswith("faster_rcnn")]
SMALL = {
    "num_classes": 3, "fpn_channels": 16, "min_size": 64, "max_size": 128,
    "rpn": {"sizes": ((8,), (16,), (32,), (48,), (64,)), "before_nms": (100, 60), "after_nms": (80, 40)},
    "roi": {"width": 32, "samples": 16, "score_threshold": 0.2, "max_detections": 10},
}  # fmt: skip
TRUTH = [
    Targets(torch.tensor([[4.0, 4.0, 40.0, 30.0], [30.0, 20.0, 70.0, 60.0]]), torch.tensor([0, 2])),
    Targets(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)),
]


def small(**more: Any) -> FasterRCNN:
    torch.manual_seed(0)
    model = build("faster_rcnn_mobilenet_v2_fpn", **(SMALL | more))
    assert isinstance(model, FasterRCNN)
    return model


def example_images(*sizes: tuple[int, int]) -> list[Tensor]:
    return [torch.randint(0, 256, (3, h, w), dtype=torch.uint8) for h, w in sizes]


def padded_input(images: int = 2, height: int = 64, width: int = 96) -> tuple[Tensor, Tensor]:
    return torch.randn(images, 3, height, width), torch.tensor([[height, width]] * images)


@pytest.fixture(scope="module")
def model() -> FasterRCNN:
    return small().eval()


# ---- arguments -------------------------------------------------------------------------------------------------------


BOX, CLASS = torch.tensor([[4.0, 4.0, 40.0, 30.0]]), torch.tensor([0])


@pytest.mark.parametrize("name", ["faster_rcnn_mobilenet_v2_fpn", "centernet_mobilenet_v2_fpn_512"])
@pytest.mark.parametrize(
    ("target", "message"),
    [
        (Targets(BOX, CLASS + 3), r"targets must have labels in 0\.\.2, got 3\.\.3"),
        (Targets(BOX, CLASS - 1), r"targets must have labels in 0\.\.2, got -1\.\.-1"),
        ({"boxes": BOX, "labels": CLASS}, "targets must hold pyrcnn.Targets, got dict"),
    ],
)
def test_what_cannot_be_learnt_is_refused(name: str, target: Any, message: str) -> None:
    model = build(name, **(SMALL if name.startswith("faster") else {"num_classes": 3, "input_size": 64}))
    with pytest.raises(InputError, match=f"^{message}"):
        model(example_images((40, 50)), [target])
    with pytest.raises(InputError, match=r"^images must hold at least one image"):
        model([], [])


def test_crowds_may_hold_anything() -> None:
    crowd = Targets(torch.cat([BOX, BOX * torch.inf]), torch.tensor([0, 99]), crowd=torch.tensor([False, True]))
    assert all(loss.isfinite() for loss in small()(example_images((40, 50)), [crowd]).values())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes must be a positive integer, got 0"),
        ({"num_classes": "3"}, "num_classes must be a positive integer, got '3'"),
        ({"trainable_layers": -1}, "trainable_layers must be 0 to"),
        ({"trainable_layers": 99}, "trainable_layers must be 0 to"),
    ],
)
def test_no_such_model(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        small(**changes)


# ---- anchors ---------------------------------------------------------------------------------------------------------


def test_torchvision_anchors_are_rounded() -> None:
    got = ANCHORS["torchvision"]((32,), (0.5, 1.0, 2.0))
    assert got.tolist() == [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    two = ANCHORS["torchvision"]((32, 64), (0.5, 1.0))  # the size is fastest
    assert two[:, 2].tolist() == [23, 45, 16, 32]


def test_detectron2_anchors_are_exact() -> None:
    got = ANCHORS["detectron2"]((32, 64), (0.5, 1.0))  # the ratio is fastest
    root = 2**0.5
    torch.testing.assert_close(got[0], torch.tensor([-16 * root, -8 * root, 16 * root, 8 * root]))
    assert got[1].tolist() == [-16, -16, 16, 16]
    assert (got[:, 2:] - got[:, :2]).prod(1).tolist() == pytest.approx([1024, 1024, 4096, 4096])


def test_paper_anchors_are_the_published_table() -> None:
    published = [
        [-84, -40, 99, 55], [-176, -88, 191, 103], [-360, -184, 375, 199],
        [-56, -56, 71, 71], [-120, -120, 135, 135], [-248, -248, 263, 263],
        [-36, -80, 51, 95], [-80, -168, 95, 183], [-168, -344, 183, 359],
    ]  # fmt: skip
    got = ANCHORS["paper"]((128, 256, 512), (0.5, 1.0, 2.0))
    got[:, 2:] -= 1  # the published boxes end at their last pixel
    assert got.tolist() == published


def test_tensorflow_ratios_are_width_over_height() -> None:
    got = ANCHORS["tensorflow"]((64, 128), (0.25,))
    assert got.tolist() == [[-16, -64, 16, 64], [-32, -128, 32, 128]]


def test_torchvision_spaces_anchors_by_the_map_not_by_the_stride() -> None:
    features = [torch.zeros(1, 8, 25, 32), torch.zeros(1, 8, 13, 16)]
    config = RPNConfig(sizes=((32,), (64,)))
    assert RPN(config, 8, (32, 64)).spacing(features, 800, 1024) == [(32, 32), (61, 64)]
    fixed = changed(config, anchors="detectron2")
    assert RPN(fixed, 8, (32, 64)).spacing(features, 800, 1024) == [(32, 32), (64, 64)]


def test_anchors_stay_float32_when_the_network_does_not() -> None:
    rpn = RPN(RPNConfig(sizes=((33,),), anchors="detectron2"), 8, (16,))
    before = rpn.cells[0].clone()
    assert rpn.half().cells[0].dtype == torch.float32
    assert torch.equal(rpn.cells[0], before)
    with torch.device("meta"):
        rpn = RPN(RPNConfig(sizes=((33,),), anchors="detectron2"), 8, (16,))
    assert torch.equal(rpn.to_empty(device="cpu").cells[0], before)


# ---- in and out ------------------------------------------------------------------------------------------------------


def test_predictions_are_detections_inside_each_image(model: FasterRCNN) -> None:
    sizes = [(60, 90), (100, 50), (40, 40)]
    found = model(example_images(*sizes))
    assert len(found) == 3
    for detections, (height, width) in zip(found, sizes, strict=True):
        assert isinstance(detections, Detections)
        assert 0 < len(detections) <= 10
        assert (detections.boxes >= 0).all()
        assert (detections.boxes <= torch.tensor([width, height, width, height]) + 1e-3).all()
        assert (detections.scores.diff() <= 0).all()
        assert set(detections.labels.tolist()) <= {0, 1, 2}
    assert model([]) == []


def test_padded_detections_have_fixed_shapes(model: FasterRCNN) -> None:
    with torch.no_grad():
        found = model.predict_padded(*padded_input(3))
    assert [tuple(x.shape) for x in found] == [(3, 10, 4), (3, 10), (3, 10), (3,)]
    beyond = torch.arange(10) >= found.counts[:, None]
    assert (found.labels[beyond] == -1).all()
    assert (found.scores[beyond] == 0).all()
    assert (found.boxes[beyond] == 0).all()
    assert (found.labels[~beyond] >= 0).all()


def test_proposals_are_sorted_boxes_inside_the_image(model: FasterRCNN) -> None:
    with torch.no_grad():
        boxes, scores, counts = model.proposals(*padded_input(2))
    assert boxes.shape == (2, 40, 4)
    assert counts.min() > 0
    for n, count in enumerate(counts.tolist()):
        assert (scores[n, :count].diff() <= 0).all()
        assert (boxes[n, :count, 2:] > boxes[n, :count, :2]).all()
        assert (boxes[n].amax(0)[2:] <= torch.tensor([96.0, 64.0])).all()


def test_an_image_does_not_depend_on_its_batch(model: FasterRCNN) -> None:
    pixels, sizes = padded_input(3)
    with torch.no_grad():
        whole = model.predict_padded(pixels, sizes)
        for n in range(3):
            alone = model.predict_padded(pixels[n : n + 1], sizes[n : n + 1])
            assert torch.equal(alone.labels[0], whole.labels[n])
            torch.testing.assert_close(alone.boxes[0], whole.boxes[n], rtol=1e-4, atol=1e-3)


def test_the_targets_decide_not_the_mode(model: FasterRCNN) -> None:
    images = example_images((60, 90), (64, 64))
    losses = model(images, TRUTH)  # in eval mode
    assert set(losses) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    assert isinstance(small().train()(images)[0], Detections)


def test_every_parameter_learns() -> None:
    model = small().train()
    losses = model(example_images((60, 90), (64, 64)), TRUTH)
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    sum(losses.values()).backward()  # type: ignore[union-attr]
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_lower_stages_can_be_frozen() -> None:
    model = small(trainable_layers=2)
    trained = {name.split(".")[2] for name, p in model.backbone.named_parameters("backbone") if p.requires_grad}
    assert not model.backbone.body.stem.conv.weight.requires_grad
    assert model.backbone.body.last.conv.weight.requires_grad
    assert "inner_blocks" in trained


@pytest.mark.parametrize(
    "narrow",
    [
        {"top": False, "fpn_extra": False, "rpn": {"sizes": ((8,), (16,), (32,), (64,))}},
        {"rpn": {"channels": 12, "ratios": (1.0,)}, "roi": {"width": 20, "fcs": 1, "convs": 1}},
        {"norm": "frozen", "roi": {"class_agnostic": True}},
    ],
)
def test_the_mobile_model_can_be_narrowed(narrow: dict[str, Any]) -> None:
    merged = {
        key: {**SMALL[key], **value} if isinstance(value, dict) else value  # type: ignore[dict-item]
        for key, value in narrow.items()
    }
    model = small(**merged)
    losses = model(example_images((60, 90), (64, 64)), TRUTH)
    assert all(loss.isfinite() for loss in losses.values())
    assert len(model.eval()(example_images((64, 64)))) == 1
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)] or narrow.get("norm") != "frozen"


def test_bad_configurations_name_the_field() -> None:
    with pytest.raises(InputError, match=r"^sizes must be one per level"):
        small(rpn={"sizes": ((8,),)})
    with pytest.raises(InputError, match=r"^backbone must be one of"):
        small(backbone="alexnet")
    with pytest.raises(InputError, match=r"^targets must be one per image"):
        small()(example_images((64, 64)), TRUTH)


@pytest.mark.parametrize("name", NAMES)
def test_configurations_survive_json(name: str) -> None:
    config = PRESETS[name]
    assert isinstance(config, FasterRCNNConfig)
    assert changed(FasterRCNNConfig(), **json.loads(json.dumps(asdict(config)))) == config


# ---- compile and export ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_losses_are_one_graph() -> None:
    model = small().eval()
    pixels, sizes = padded_input()
    compiled = torch.compile(model.loss_terms, fullgraph=True, backend="aot_eager")
    terms = compiled(pixels, sizes, torch.ones(2, 2), model.pad_targets(TRUTH))
    assert all(term.total.isfinite() for term in terms.values())


# ---- learning --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_images_are_learnt_by_heart() -> None:
    model = small(fpn_channels=32, roi={"width": 64, "samples": 64}).train()
    images = [torch.full((3, 64, 96), 40, dtype=torch.uint8) for _ in range(2)]
    images[0][0, 10:40, 10:50] = 250
    images[1][1, 20:60, 40:90] = 250
    truth = [
        Targets(torch.tensor([[10.0, 10.0, 50.0, 40.0]]), torch.tensor([0])),
        Targets(torch.tensor([[40.0, 20.0, 90.0, 60.0]]), torch.tensor([2])),
    ]
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    totals = []
    for _ in range(60):
        losses = model(images, truth)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total))
    assert sum(totals[-5:]) < 0.3 * sum(totals[:5])
    # With the batch's own statistics: after sixty steps the running ones are still those of other weights.
    with torch.no_grad():
        detections = model(images)
    for found, wanted in zip(detections, truth, strict=True):
        assert found.labels[0] == wanted.labels[0]
        assert (found.boxes[0] - wanted.boxes[0]).abs().max() < 8


# ---- pooling from a pyramid ------------------------------------------------------------------------------------------


def test_roi_pool_reads_the_level_of_each_box() -> None:
    """RoIPool with a pyramid: each region is that of its own level, by the loops of Lin et al. 2017, eq. 1."""
    pooled = small(roi={"pool": "max", "width": 32}).roi
    strides = [round(1 / scale) for scale in pooled.scales]
    assert strides == [4, 8, 16, 32]
    features = [torch.randn(2, 16, 512 // s, 640 // s, requires_grad=True) for s in (*strides, 2 * strides[-1])]
    sides = torch.tensor([5.0, 60.0, 111.0, 113.0, 150.0, 223.0, 225.0, 300.0, 447.0, 449.0, 500.0])
    boxes = torch.stack([torch.cat([torch.full((2,), 3.0), torch.full((2,), 3.0 + side)]) for side in sides])
    boxes = torch.stack([boxes, boxes.flip(0)])  # [2, K, 4]
    regions = pooled.pool(features, boxes, 512, 640)
    levels = set()
    for k, box in enumerate(boxes.flatten(0, 1)):
        level = level_of(box.tolist(), pooled.scales, 224, 4)
        levels.add(level)
        rois = torch.cat([torch.tensor([float(k // len(sides))]), box])[None]
        assert torch.equal(regions[k], ops.roi_pool(features[level], rois, 7, pooled.scales[level])[0])
    assert levels == {0, 1, 2, 3}
    regions.sum().backward()
    assert all(f.grad is not None and bool(f.grad.any()) for f in features[:4])


def test_roi_pool_with_a_pyramid_trains_and_detects() -> None:
    model = small(roi={"pool": "max", "width": 32, "samples": 16})
    losses = model(example_images((64, 96), (70, 80)), TRUTH)
    sum(losses.values()).backward()
    assert model.backbone.fpn.layer_blocks[2][0].weight.grad.any()
    assert len(model.eval()(example_images((64, 96)))) == 1


def test_tensorflows_pooling_refuses_a_pyramid() -> None:
    with pytest.raises(InputError, match=r"^pool must be align or max with a pyramid \(fpn_channels\), got 'crop'"):
        small(roi={"pool": "crop", "resolution": 14})
