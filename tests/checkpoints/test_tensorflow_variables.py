"""Every variable of every published TensorFlow checkpoint has its place in the preset, and none is left over.

Names and shapes alone: the arrays hold one number each and the models are on the ``meta`` device.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyrcnn import InputError, checkpoints, models
from pyrcnn.checkpoints.formats.tensorflow_names import TABLES
from tests.models.parity.tf_weights import PUBLISHED, variables


def placeholders(name: str) -> dict[str, np.ndarray]:
    return {key: np.broadcast_to(np.float32(0), variable.shape) for key, variable in variables(name).items()}


def on_meta(preset: str) -> torch.nn.Module:
    with torch.device("meta"):
        return models.build(preset)


def test_every_preset_of_the_zoo_is_checked() -> None:
    from_tensorflow = {name for name in models.names() if name.startswith("centernet_") or name.endswith("_v1_640")}
    assert set(PUBLISHED) == from_tensorflow


@pytest.mark.parametrize(("preset", "published"), PUBLISHED.items(), ids=list(PUBLISHED))
def test_every_variable_is_used(preset: str, published: str) -> None:
    model = on_meta(preset)
    report = checkpoints.load(model, placeholders(published))
    assert (report.missing, report.reshaped) == ((), ())
    expected = {n for n in model.state_dict() if not n.endswith("num_batches_tracked")}
    assert set(report.used) == expected
    assert len(report.used) + len(report.unexpected) == len(variables(published))
    names = {variables(published)[key].full_name.split("/")[0] for key in report.unexpected}
    assert names == ({"post_bn"} if "resnet50_v2" in preset else set())  # ResNet V2's last norm, which nothing reads


@pytest.mark.parametrize(("preset", "published"), PUBLISHED.items(), ids=list(PUBLISHED))
def test_keras_names_are_those_in_the_graph(preset: str, published: str) -> None:
    """Backbone layers can be found by either name; both must mean the same layer."""
    model = on_meta(preset)
    listed = variables(published)
    named = 0
    for layer in TABLES[type(model).__name__](model):
        if layer.keras_name is None:
            continue
        for variable in ("kernel", "depthwise_kernel", "bias", "gamma", "moving_variance"):
            if (key := f"{layer.route}/{variable}") in listed:
                assert listed[key].full_name == f"{layer.keras_name}/{variable}"
                named += 1
    assert named > 0 or "hg104" in preset


@pytest.mark.parametrize(
    ("published", "into", "fits"),
    [
        ("hg104_512", "centernet_resnet50_v2_512", "centernet_hg104_512 or centernet_hg104_1024"),
        ("r50v1fpn", "centernet_resnet101_v1_fpn_512", "centernet_resnet50_v1_fpn_512"),
        ("r101v1fpn", "centernet_resnet50_v1_fpn_512", "centernet_resnet101_v1_fpn_512"),
        ("r50v2", "centernet_resnet50_v1_fpn_512", "centernet_resnet50_v2_512"),
        ("r50v1fpn_kpts", "centernet_resnet50_v1_fpn_512", "centernet_resnet50_v1_fpn_512_kpts"),
        ("r50v2", "centernet_resnet50_v2_512_kpts", "centernet_resnet50_v2_512"),
        ("mbv2_kpts", "centernet_mobilenet_v2_fpn_512", "centernet_mobilenet_v2_fpn_512_kpts"),
        ("mbv2_od", "faster_rcnn_resnet50_v1_640", "centernet_mobilenet_v2_fpn_512"),
        ("frcnn_r50_640", "centernet_mobilenet_v2_fpn_512", "faster_rcnn_resnet50_v1_640"),
        ("frcnn_r50_640", "faster_rcnn_resnet50_c4", "faster_rcnn_resnet50_v1_640"),
    ],
)
def test_another_models_checkpoint_is_refused_with_the_preset_that_fits(published: str, into: str, fits: str) -> None:
    with pytest.raises(InputError) as error:
        checkpoints.load(on_meta(into), placeholders(published))
    message = str(error.value)
    assert message.endswith(f"; it fits {fits}")
    assert any(word in message for word in ("lacks", "other shapes", "has layers that the model lacks"))
    assert len(message) < 1500
    assert "\n" not in message


@pytest.mark.parametrize("preset", ["centernet_resnet50_v2_512", "centernet_mobilenet_v2_fpn_512"])
def test_one_variable_of_another_shape_is_named(preset: str) -> None:
    arrays = placeholders(PUBLISHED[preset])
    key = "model/_prediction_head_dict/box.Soffset/0/layer_with_weights-1/kernel"
    arrays[key] = np.broadcast_to(np.float32(0), (1, 1, 256, 3))
    with pytest.raises(InputError, match=r"head\.offset\.0\.out\.weight \[3, 256, 1, 1\] instead of \[2, 256, 1, 1\]"):
        checkpoints.load(on_meta(preset), arrays)
    del arrays[key]
    with pytest.raises(InputError, match=r"lacks head\.offset\.0\.out\.weight"):
        checkpoints.load(on_meta(preset), arrays)
