"""FeaturePyramidNetwork and FrozenBatchNorm2d."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import nn

from pyrcnn import InputError, ops
from pyrcnn.ops.feature_pyramid_network import LastLevelP6P7


def maps() -> dict[str, torch.Tensor]:
    return {"a": torch.rand(2, 3, 17, 19), "b": torch.rand(2, 4, 9, 10), "c": torch.rand(2, 5, 5, 5)}


def test_a_pyramid_adds_the_coarser_level() -> None:
    pyramid, inputs = ops.FeaturePyramidNetwork([3, 4, 5], 6), maps()
    got = pyramid(inputs)
    top = pyramid.inner_blocks[2](inputs["c"])
    below = pyramid.inner_blocks[1](inputs["b"])
    rows, columns = (torch.arange(n) * 5 // n for n in (9, 10))  # nearest
    torch.testing.assert_close(got["b"], pyramid.layer_blocks[1](below + top[:, :, rows][..., columns]))
    torch.testing.assert_close(got["c"], pyramid.layer_blocks[2](top))
    assert {k: tuple(v.shape) for k, v in got.items()} == {"a": (2, 6, 17, 19), "b": (2, 6, 9, 10), "c": (2, 6, 5, 5)}


@pytest.mark.parametrize(("block", "added"), [(ops.LastLevelMaxPool(), ["pool"]), (LastLevelP6P7(5, 6), ["p6", "p7"])])
def test_extra_levels_follow(block: nn.Module, added: list[str]) -> None:
    got = ops.FeaturePyramidNetwork([3, 4, 5], 6, block)(maps())
    assert list(got) == ["a", "b", "c", *added]
    assert tuple(got[added[0]].shape) == (2, 6, 3, 3)
    if added == ["pool"]:
        assert torch.equal(got["pool"], got["c"][..., ::2, ::2])


def test_names_of_parameters_are_torchvisions() -> None:
    plain = ops.FeaturePyramidNetwork([3], 6).state_dict()
    assert list(plain) == [f"{b}.0.0.{k}" for b in ("inner_blocks", "layer_blocks") for k in ("weight", "bias")]
    normed = ops.FeaturePyramidNetwork([3], 6, norm_layer=nn.BatchNorm2d).state_dict()
    assert "inner_blocks.0.0.bias" not in normed
    assert "layer_blocks.0.1.running_mean" in normed


def test_states_of_the_older_naming_load() -> None:
    pyramid = ops.FeaturePyramidNetwork([3, 4, 5], 6)
    old = {k.replace(".0.weight", ".weight").replace(".0.bias", ".bias"): v for k, v in pyramid.state_dict().items()}
    assert "inner_blocks.2.weight" in old
    other = ops.FeaturePyramidNetwork([3, 4, 5], 6)
    other.load_state_dict(old)
    assert torch.equal(other.layer_blocks[1][0].weight, pyramid.layer_blocks[1][0].weight)


def test_bad_pyramids_raise() -> None:
    with pytest.raises(InputError, match="in_channels_list"):
        ops.FeaturePyramidNetwork([3, 0], 6)
    with pytest.raises(TypeError, match="extra_blocks"):
        ops.FeaturePyramidNetwork([3], 6, nn.Identity())  # type: ignore[arg-type]


def test_frozen_norm_is_batch_norm_at_inference() -> None:
    norm = nn.BatchNorm2d(8)
    norm(torch.randn(4, 8, 5, 5))
    frozen = ops.FrozenBatchNorm2d(8)
    frozen.load_state_dict(norm.state_dict())
    x = torch.randn(2, 8, 7, 7)
    torch.testing.assert_close(frozen(x), norm.eval()(x))
    assert not list(frozen.parameters())
    assert repr(frozen) == "FrozenBatchNorm2d(8, eps=1e-05)"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_frozen_norm_scales_and_shifts_every_dtype(dtype: torch.dtype, eps: float) -> None:
    frozen = ops.FrozenBatchNorm2d(3, eps)
    for value in frozen.buffers():
        value.uniform_(0.5, 1.5)
    x = torch.randn(2, 3, 4, 5, dtype=dtype, requires_grad=True)
    scale, mean = (frozen.weight / (frozen.running_var + eps).sqrt()), frozen.running_mean
    wanted = (x.detach() - mean[:, None, None]) * scale[:, None, None] + frozen.bias[:, None, None]
    got = frozen(x)
    assert got.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    got.sum().backward()
    torch.testing.assert_close(x.grad, scale[:, None, None].expand_as(x).to(dtype))
    assert frozen(x[:0]).shape == (0, 3, 4, 5)


def test_a_pyramid_compiles_as_one_graph() -> None:
    pyramid = ops.FeaturePyramidNetwork([3, 4, 5], 6, ops.LastLevelMaxPool(), ops.FrozenBatchNorm2d)
    inputs = maps()
    compiled = torch.compile(pyramid, fullgraph=True, backend="aot_eager")(inputs)
    for name, value in pyramid(inputs).items():
        torch.testing.assert_close(compiled[name], value)


def test_names_are_also_where_torchvision_has_them() -> None:
    """Code that imports from torchvision's modules needs to change the package name only."""
    for module, names in {
        "boxes": "nms batched_nms box_area box_convert box_iou clip_boxes_to_image remove_small_boxes masks_to_boxes",
        "feature_pyramid_network": "ExtraFPNBlock FeaturePyramidNetwork LastLevelMaxPool LastLevelP6P7",
        "misc": "FrozenBatchNorm2d",
        "poolers": "MultiScaleRoIAlign",
    }.items():
        there = importlib.import_module(f"pyrcnn.ops.{module}")
        for name in names.split():
            assert getattr(there, name) is getattr(ops, name, getattr(there, name))


def test_empty_feature_maps_raise() -> None:
    pool = ops.MultiScaleRoIAlign(["0"], 7, 2)
    for empty in (torch.rand(1, 3, 0, 4), torch.rand(1, 3, 4, 0)):
        with pytest.raises(InputError, match="x must hold feature maps that are not empty"):
            pool({"0": empty}, [torch.rand(2, 4)], [(64, 64)])
