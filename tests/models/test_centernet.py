"""CenterNet as a user meets it: presets, detection, training, compilation, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pyrcnn import Detections, InputError, Targets, models
from pyrcnn.models.backbones.mobilenet_v2 import torchvision_names

# numbers of the published models: all variables with moving statistics, and the trainable ones
PARAMETERS = {
    "centernet_hg104_512": (191_406_652, 191_289_148),
    "centernet_hg104_512_kpts": (194_990_822, 194_873_318),
    "centernet_hg104_1024": (191_406_652, 191_289_148),
    "centernet_hg104_1024_kpts": (194_990_822, 194_873_318),
    "centernet_resnet50_v1_fpn_512": (25_330_846, 25_277_214),
    "centernet_resnet50_v1_fpn_512_kpts": (25_795_827, 25_742_195),
    "centernet_resnet101_v1_fpn_512": (44_401_310, 44_295_454),
    # less the 2 x 4096 of a final norm that the published file holds and no network uses
    "centernet_resnet50_v2_512": (29_897_950 - 8192, 29_850_718 - 4096),
    "centernet_resnet50_v2_512_kpts": (30_362_931 - 8192, 30_315_699 - 4096),
    "centernet_mobilenet_v2_fpn_512": (2_394_662, 2_360_390),
    "centernet_mobilenet_v2_fpn_512_kpts": (2_413_482, 2_379_210),
}
PRESETS = [name for name in models.names() if name.startswith("centernet_")]
SMALL: dict[str, dict[str, Any]] = {
    "centernet_mobilenet_v2_fpn_512": {"num_classes": 3, "input_size": 128},
    "centernet_mobilenet_v2_fpn_512_kpts": {"input_size": 128},
    "centernet_hg104_512_kpts": {"input_size": 128, "stem": 8, "dims": (16, 16, 24, 24, 24, 32), "num_classes": 3},
}


def small(name: str, **changes: Any) -> nn.Module:
    return models.build(name, **SMALL[name], **changes)


def example_images() -> list[torch.Tensor]:
    return [torch.randint(0, 256, (3, 100, 120), dtype=torch.uint8), torch.rand(3, 64, 50)]


def targets(joints: int = 0) -> list[Targets]:
    boxes = torch.tensor([[10.0, 10, 50, 60], [30, 30, 90, 80]])
    keypoints = torch.rand(2, joints, 3) * torch.tensor([50.0, 50, 2]) if joints else None
    none = torch.zeros(0, joints, 3) if joints else None
    return [Targets(boxes, torch.tensor([0, 0]), keypoints), Targets(torch.zeros(0, 4), torch.zeros(0).long(), none)]


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        model = models.build(name)
    everything = sum(v.numel() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked"))
    assert (everything, sum(p.numel() for p in model.parameters())) == PARAMETERS[name]


def test_every_published_preset_is_there() -> None:
    assert set(PRESETS) == set(PARAMETERS)


@pytest.mark.parametrize("name", SMALL)
def test_detections_are_in_each_images_pixels(name: str) -> None:
    model = small(name).eval()
    with torch.inference_mode():
        found = model(example_images())
    for detections, image in zip(found, example_images(), strict=True):
        assert isinstance(detections, Detections)
        assert len(detections) == model.config.max_detections
        assert (detections.scores.diff() <= 0).all()
        assert detections.boxes.min() >= 0
        assert (detections.boxes[:, 2:] <= torch.tensor(image.shape[:0:-1]) + 1e-3).all()
        assert detections.labels.max() < len(model.classes) == len(model.category_ids)
        joints = model.config.joints
        assert (
            detections.keypoints is None if not joints else detections.keypoints.shape == (len(detections), joints, 3)
        )


def test_no_images_give_no_detections() -> None:
    assert small("centernet_mobilenet_v2_fpn_512").eval()([]) == []


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    model = small("centernet_mobilenet_v2_fpn_512").eval()
    with torch.inference_mode():
        together, alone = model(example_images()[:1] * 2), model(example_images()[:1])
    images = example_images()
    with torch.inference_mode():
        together, alone = model(images), model(images[1:])
    assert torch.allclose(together[1].scores, alone[0].scores, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_one_step_of_training_has_finite_losses_and_gradients(name: str) -> None:
    model = small(name).train()
    losses = model(example_images(), targets(model.config.joints))
    assert set(losses) == set(model.head)
    torch.stack(list(losses.values())).sum().backward()
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


def test_losses_do_not_need_training_mode() -> None:
    model = small("centernet_mobilenet_v2_fpn_512").eval()
    assert set(model(example_images(), targets())) == {"heatmap", "size", "offset"}


def test_targets_must_be_one_per_image() -> None:
    with pytest.raises(InputError, match="targets must be one per image, got 1 for 2"):
        small("centernet_mobilenet_v2_fpn_512")(example_images(), targets()[:1])


def test_padding_has_label_minus_one_and_zero_boxes() -> None:
    model = small("centernet_mobilenet_v2_fpn_512", max_detections=4000).eval()
    pixels, sizes, _ = model.preprocess(example_images())
    with torch.inference_mode():
        found = model.predict_padded(pixels, sizes)
    pads = torch.arange(4000) >= found.counts[:, None]
    assert pads.any()
    assert (found.labels[pads] == -1).all()
    assert found.boxes[pads].abs().max() == 0
    assert found.scores[pads].max() == 0


def test_files_that_hold_no_model_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"no such file: .*model\.safetensors"):
        models.load(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(InputError, match=r"model\.safetensors names no pyrcnn model"):
        models.load(path)
    model = small("centernet_mobilenet_v2_fpn_512")
    save_file({"weight": torch.zeros(2)}, path, models.metadata(model))
    with pytest.raises(InputError, match="does not fit its own configuration"):
        models.load(path)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=r"model\.safetensors is damaged"):
        models.load(path)


def test_torchvisions_mobilenet_has_a_place_for_every_layer() -> None:
    backbone = small("centernet_mobilenet_v2_fpn_512").backbone
    names = torchvision_names()
    layers = [n for n, m in backbone.named_modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    assert list(names) == layers
    assert len(set(names.values())) == len(names)


def test_lower_stages_freeze() -> None:
    model = small("centernet_mobilenet_v2_fpn_512", trainable_layers=2)
    frozen = {n.split(".")[2] for n, p in model.backbone.named_parameters() if not p.requires_grad and "blocks" in n}
    assert not any(p.requires_grad for p in model.backbone.stem.parameters())
    assert all(p.requires_grad for p in [*model.backbone.last.parameters(), *model.head.parameters()])
    assert frozen


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "colour must be a field of CenterNetConfig"),
        ({"backbone": "resnet7"}, "backbone must be one of"),
        ({"neck": "giraffe"}, "neck must be fpn, deconv or none"),
        ({"input_size": 100}, "input_size must be a multiple of 32"),
    ],
)
def test_configurations_that_cannot_be_built_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        models.build("centernet_mobilenet_v2_fpn_512", **changes)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match=r"name must be one of .*centernet_hg104_512"):
        models.build("centernet_hg105")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["centernet_mobilenet_v2_fpn_512", "centernet_mobilenet_v2_fpn_512_kpts"])
def test_training_learns_four_images_by_heart(name: str) -> None:
    model = small(name, norm_momentum=0.1, neck_momentum=0.1).train()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    images, wanted = example_images() * 2, targets(model.config.joints) * 2
    history = []
    for _ in range(26):
        losses = model(images, wanted)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append((losses["heatmap"].item(), total.item()))
    (first_peaks, first), (last_peaks, last) = history[0], history[-1]
    assert last_peaks < 0.3 * first_peaks  # where the objects are comes first, their sizes take longer
    assert last < 0.8 * first
