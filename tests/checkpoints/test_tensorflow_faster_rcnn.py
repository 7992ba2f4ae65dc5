"""``faster_rcnn_resnet50_v1_640`` in TensorFlow's names and layouts: made-up weights, the layers computed both ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyrcnn import InputError, checkpoints, models

NAME = "faster_rcnn_resnet50_v1_640"
EXTRACTOR = "model/_feature_extractor_for_"
FIRST = "model/_first_stage_box_predictor/_prediction_heads"
SCORES = f"{FIRST}/class_predictions_with_background/0/_class_predictor_layers/0"
CODES = f"{FIRST}/box_encodings/0/_box_encoder_layers/0"
RPN = "model/_first_stage_box_predictor_first_conv/layer_with_weights-0"
CLASSES = "model/_mask_rcnn_box_predictor/_class_prediction_head/_class_predictor_layers/1"
BOXES = "model/_mask_rcnn_box_predictor/_box_prediction_head/_box_encoder_layers/1"


def residual(blocks: int, inputs: int, width: int) -> list[tuple[int, ...]]:
    """Shapes of one stage's layers in the order in which Keras saves them: kernels have four numbers, norms one."""
    layers: list[tuple[int, ...]] = []
    for block in range(blocks):
        layers += [(1, 1, inputs if block == 0 else 4 * width, width), (width,), (3, 3, width, width), (width,)]
        if block == 0:  # the projected shortcut just before the third convolution, its norm before the third
            layers += [(1, 1, inputs, 4 * width), (1, 1, width, 4 * width), (4 * width,), (4 * width,)]
        else:
            layers += [(1, 1, width, 4 * width), (4 * width,)]
    return layers


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    trunk = [(7, 7, 3, 64), (64,), *residual(3, 64, 64), *residual(4, 256, 128), *residual(6, 512, 256)]
    found = {}
    for part, layers in (("proposal_features", trunk), ("box_classifier_features", residual(3, 1024, 512))):
        for index, shape in enumerate(layers):
            base = f"{EXTRACTOR}{part}/layer_with_weights-{index}"
            names = ("kernel",) if len(shape) == 4 else ("gamma", "beta", "moving_mean", "moving_variance")
            found |= {f"{base}/{name}": shape for name in names}
    for base, shape in ((RPN, (3, 3, 1024, 512)), (SCORES, (1, 1, 512, 24)), (CODES, (1, 1, 512, 48)),
                        (CLASSES, (2048, 91)), (BOXES, (2048, 4))):  # fmt: skip
        found |= {f"{base}/kernel": shape, f"{base}/bias": shape[-1:]}
    return {key: rng.random(shape, np.float32) + np.float32(0.5) for key, shape in found.items()}


@pytest.fixture(scope="module")
def model(arrays: dict[str, np.ndarray]) -> nn.Module:
    model = models.build(NAME)
    report = checkpoints.load(model, arrays)
    assert (report.missing, report.unexpected) == ((), ())
    assert len(arrays) == 275  # of the 277 in the published checkpoint: the graph and the save counter are no weights
    return model.eval()


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array)


def test_the_trunk_is_in_kerass_order(model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    for layer, key in (
        ("backbone.body.conv1", "proposal_features/layer_with_weights-0"),
        ("backbone.body.layer1.0.downsample.0", "proposal_features/layer_with_weights-6"),
        ("backbone.body.layer1.0.conv3", "proposal_features/layer_with_weights-7"),
        ("backbone.body.layer3.5.conv3", "proposal_features/layer_with_weights-84"),
        ("roi.head.layer4.0.downsample.0", "box_classifier_features/layer_with_weights-4"),
    ):
        kernel = tensor(arrays[f"{EXTRACTOR}{key}/kernel"]).permute(3, 2, 0, 1)
        assert torch.equal(model.get_submodule(layer).weight, kernel), layer
    norm = model.get_submodule("backbone.body.layer1.0.bn3")
    assert torch.equal(
        norm.running_var, tensor(arrays[f"{EXTRACTOR}proposal_features/layer_with_weights-9/moving_variance"])
    )


def test_proposal_scores_and_boxes_are_tensorflows(model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    """A softmax over (background, object) and codes (y, x, h, w) per anchor, as TensorFlow reads its own outputs."""
    features = torch.rand(1, 1024, 3, 5) - 0.5
    kernel = tensor(arrays[f"{RPN}/kernel"]).permute(3, 2, 0, 1)
    hidden = F.relu6(F.conv2d(features, kernel, tensor(arrays[f"{RPN}/bias"]), padding=1)).permute(0, 2, 3, 1)
    scores = hidden @ tensor(arrays[f"{SCORES}/kernel"])[0, 0] + tensor(arrays[f"{SCORES}/bias"])
    codes = hidden @ tensor(arrays[f"{CODES}/kernel"])[0, 0] + tensor(arrays[f"{CODES}/bias"])
    with torch.no_grad():
        logits, deltas = model.rpn.head(features)
    expected = scores.reshape(3 * 5 * 12, 2).softmax(1)[:, 1]
    got = logits.permute(0, 2, 3, 1).reshape(-1).sigmoid()
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    ty, tx, th, tw = codes.reshape(3 * 5 * 12, 4).unbind(1)
    got = deltas.permute(0, 2, 3, 1).reshape(-1, 4)
    torch.testing.assert_close(got, torch.stack([tx, ty, tw, th], 1), rtol=1e-4, atol=1e-2)


def test_classes_and_shared_boxes_are_tensorflows(model: nn.Module, arrays: dict[str, np.ndarray]) -> None:
    regions = torch.rand(6, 2048)
    with torch.no_grad():
        logits, deltas = model.roi.predictor(regions)
    expected = regions @ tensor(arrays[f"{CLASSES}/kernel"]) + tensor(arrays[f"{CLASSES}/bias"])
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-2)
    codes = regions @ tensor(arrays[f"{BOXES}/kernel"]) + tensor(arrays[f"{BOXES}/bias"])
    torch.testing.assert_close(deltas, codes[:, [1, 0, 3, 2]], rtol=1e-4, atol=1e-2)


def test_a_pyramid_is_no_place_for_it(arrays: dict[str, np.ndarray]) -> None:
    with torch.device("meta"):
        model = models.build("faster_rcnn_resnet50_fpn")
    with pytest.raises(InputError, match=rf"lacks backbone\.body\.conv1\.weight.*; it fits {NAME}$"):
        checkpoints.load(model, arrays)
