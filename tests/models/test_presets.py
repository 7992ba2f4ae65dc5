"""What every preset of the zoo must do: build, detect, learn, be saved, compile whole and be exported."""

from __future__ import annotations

from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyrcnn import Targets, checkpoints, models

SIDE = 128  # of the images and of the networks' inputs, what Hourglass's sides must be multiples of
EVERY = pytest.mark.parametrize("name", models.names())


def changes(name: str) -> dict[str, Any]:
    """Fewer, narrower and smaller everything that costs time, the same structure."""
    config = models.PRESETS[name]
    if isinstance(config, models.CenterNetConfig):
        narrow = {"stem": 8, "dims": (16, 16, 24, 24, 24, 32)} if config.backbone == "hourglass104" else {}
        return {"input_size": SIDE, "num_classes": min(config.num_classes, 3), "max_detections": 20, **narrow}
    return {
        "num_classes": 3, "min_size": SIDE, "max_size": SIDE, "fpn_channels": min(config.fpn_channels, 32),
        "rpn": {"before_nms": (60, 40), "after_nms": (40, 10), "channels": 32},
        "roi": {"width": 32, "samples": 8, "max_detections": 20},
    }  # fmt: skip


def small(name: str) -> nn.Module:
    torch.manual_seed(0)
    return models.build(name, **changes(name))


def example_images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (3, SIDE, SIDE), dtype=torch.uint8, generator=generator) for _ in range(2)]


def truth(model: nn.Module) -> list[Targets]:
    joints = getattr(model.config, "joints", 0)
    keypoints = torch.tensor([30.0, 40.0, 2.0]).expand(1, joints, 3) if joints else None
    return [Targets(torch.tensor([[20.0, 20.0, 90.0, 70.0]]), torch.tensor([0]), keypoints)] * 2


class Padded(nn.Module):
    """What torch.export takes: a module whose forward is the padded detector."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model.predict_padded(pixels, sizes))


@EVERY
def test_it_detects_and_learns(name: str) -> None:
    model = small(name).train()
    trained = {key: p for key, p in model.named_parameters() if p.requires_grad}
    before = {key: value.detach().clone() for key, value in trained.items()}
    losses = model(example_images(), truth(model))
    assert all(loss.isfinite() and loss >= 0 for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad.isfinite().all() for p in trained.values() if p.grad is not None)
    torch.optim.Adam(trained.values(), lr=1e-5).step()
    assert any(not torch.equal(value, before[key]) for key, value in trained.items())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    with torch.inference_mode():
        found = model.eval()(example_images())
    assert len(found) == 2
    for detections in found:
        assert detections.boxes.isfinite().all()
        assert ((detections.boxes >= 0) & (detections.boxes <= SIDE + 1e-3)).all()
        assert len(detections) <= 20


@EVERY
def test_its_file_holds_all_of_it(name: str, tmp_path: Path) -> None:
    model = small(name).eval()
    checkpoints.save(model, tmp_path / "m.safetensors")
    again = models.load(tmp_path / "m.safetensors")
    assert (again.config, again.classes, again.category_ids) == (model.config, model.classes, model.category_ids)
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


@lru_cache(maxsize=1)
def padded(config: models.Config) -> tuple[nn.Module, tuple[Tensor, Tensor], tuple[Tensor, ...]]:
    """The model, an input for it, and what it says about that."""
    torch.manual_seed(0)
    model = Padded(models.from_config(config)).eval()
    torch._dynamo.reset()  # dynamo counts recompilations over presets: they share their code
    given = torch.randn(1, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE]])
    with torch.no_grad():
        return model, given, model(*given)


@cache
def in_one_graph(config: models.Config, how: str) -> list[Tensor]:
    """What the compiled or exported detector says; presets that differ in the image size alone share it."""
    model, given, _ = padded(config)
    with torch.no_grad():
        if how == "export":
            return list(torch.export.export(model, given).module()(*given))
        return list(torch.compile(model, fullgraph=True, backend=how)(*given))


def shallow(name: str) -> models.Config:
    """:func:`changes`, and less depth, as tracing takes long: ResNet-50 for 101, Hourglass nested twice, not five."""
    config = models.changed(models.PRESETS[name], **changes(name))
    config = models.changed(config, backbone=config.backbone.replace("101", "50"))
    return models.changed(config, dims=(16, 16, 24)) if "hg104" in name else config


@pytest.mark.parametrize("how", ["aot_eager", "export"])
@EVERY
def test_it_is_one_graph(name: str, how: str) -> None:
    config = shallow(name)
    wanted, got = padded(config)[2], in_one_graph(config, how)
    assert torch.equal(got[2], wanted[2])  # labels, padding included
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-2)


@EVERY
@pytest.mark.slow
def test_inductor_compiles_it(name: str) -> None:
    config = shallow(name)
    wanted, got = padded(config)[2], in_one_graph(config, "inductor")
    # its convolutions round otherwise, and random weights give scores so close that ranks change places
    torch.testing.assert_close(got[1], wanted[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(got[3], wanted[3])
    assert got[0].isfinite().all()
