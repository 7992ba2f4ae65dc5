"""Reference weights under TensorFlow's keys, and their way into our modules.

The fixtures hold small variables by key; kernels are drawn from a seed made of the key, so they need no storage.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

FIXTURES = Path(__file__).parent.parent / "fixtures"
NECK = "model/_feature_extractor/_feature_extractor_model/layer_with_weights-{}"
BASE = "model/_feature_extractor/_base_model/layer_with_weights-{}"
HOURGLASS = "model/_feature_extractor/_network/"
HEADS = {
    "heatmap": "object_center",
    "size": "box.Sscale",
    "offset": "box.Soffset",
    "keypoint_heatmap": "human_pose.Skeypoint.Sheatmap",
    "keypoint_regression": "human_pose.Skeypoint.Sregression",
    "keypoint_offset": "human_pose.Skeypoint.Soffset",
}
TRANSPOSED = {NECK.format(i) + "/kernel" for i in (3, 7, 11)}  # the keys whose kernels are scaled as transposed ones


def fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


def kernel(key: str, shape: tuple[int, ...], small: Mapping[str, np.ndarray]) -> np.ndarray:
    """The reference model's kernel ``key`` in TensorFlow's layout."""
    random = np.random.RandomState(zlib.crc32(key.encode()))
    values = random.standard_normal(int(np.prod(shape))).reshape(shape)
    area = shape[0] * shape[1]
    if key.endswith("depthwise_kernel"):
        deviation = np.sqrt(2.0 / area)
    elif "#mult:" + key in small:
        deviation = float(small["#mult:" + key]) / np.sqrt(area * shape[2])
    elif key in TRANSPOSED:
        deviation = np.sqrt(2.0 / (area * shape[3] / 4.0))
    else:
        deviation = np.sqrt(2.0 / (area * shape[2]))
    return (values * deviation).astype(np.float32)


def _mobilenet_layers(model: nn.Module) -> Iterator[str]:
    yield from ("stem.conv", "stem.norm")
    for index in range(17):
        for part in ("expand", "depthwise", "project")[index == 0 :]:
            yield from (f"blocks.{index}.{part}.conv", f"blocks.{index}.{part}.norm")
    yield from ("last.conv", "last.norm")


def _resnet_layers(model: nn.Module) -> Iterator[str]:
    """Keras numbers layers by depth: a stage's first shortcut stands beside the block's third convolution."""
    modules = dict(model.backbone.named_modules())
    second = "preact" in "".join(modules)
    yield from ["conv1"] if second else ["conv1.conv", "conv1.norm"]
    for stage, blocks in enumerate(model.backbone.stages[1:], start=2):
        for block in range(len(blocks)):
            name = f"conv{stage}.{block}."
            if second:
                yield name + "preact"
            yield from (name + "conv1.conv", name + "conv1.norm", name + "conv2.conv", name + "conv2.norm")
            last = ["shortcut", "conv3"] if second else ["shortcut.conv", "conv3.conv", "shortcut.norm", "conv3.norm"]
            for part in last:
                if name + part in modules and not isinstance(modules[name + part], nn.Identity):
                    yield name + part


def routes(model: nn.Module) -> dict[str, str]:
    """Our layer → TensorFlow's, for every layer with weights."""
    kind = model.config.backbone
    found: dict[str, str] = {}
    if kind == "hourglass104":
        for name, layer in model.backbone.named_modules():
            if isinstance(layer, nn.Conv2d | nn.BatchNorm2d):
                found["backbone." + name] = HOURGLASS + name.replace(".", "/")
    else:
        layers = _mobilenet_layers(model) if kind == "mobilenet_v2" else _resnet_layers(model)
        found |= {"backbone." + name: BASE.format(n) for n, name in enumerate(layers)}
    if model.config.neck == "fpn":
        found["neck.top"] = NECK.format(1)
        for i in range(3):
            found[f"neck.laterals.{i}"] = NECK.format(2 + 3 * i)
            found[f"neck.merges.{i}.conv"] = NECK.format(3 + 3 * i)
            found[f"neck.merges.{i}.norm"] = NECK.format(4 + 3 * i)
    if model.config.neck == "deconv":
        for i in range(3):
            for n, name in enumerate(("convs.{}.conv", "convs.{}.norm", "ups.{}.conv", "ups.{}.norm")):
                found["neck." + name.format(i)] = NECK.format(1 + 4 * i + n)
    for name, head in model.head.items():
        for stack in range(len(head)):
            for n, layer in enumerate(("conv", "out")):
                route = f"model/_prediction_head_dict/{HEADS[name]}/{stack}/layer_with_weights-{n}"
                found[f"head.{name}.{stack}.{layer}"] = route
    return found


def fill(model: nn.Module, small: Mapping[str, np.ndarray]) -> nn.Module:
    """Copy the reference weights into ``model``; every parameter and statistic must be met."""
    state = model.state_dict()
    left = {name for name in state if not name.endswith("num_batches_tracked")}
    modules = dict(model.named_modules())

    def put(name: str, key: str, axes: tuple[int, ...] | None = None) -> None:
        shape = state[name].shape
        if axes:  # kernels: TensorFlow's shape is ours, permuted back
            array = kernel(key, tuple(shape[axes.index(i)] for i in range(4)), small).transpose(axes)
        else:
            array = small[key]
        assert array.shape == shape, (name, key)
        state[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))
        left.discard(name)

    for name, key in routes(model).items():
        layer = modules[name]
        if isinstance(layer, nn.BatchNorm2d):
            put(name + ".weight", key + "/gamma")
            put(name + ".bias", key + "/beta")
            put(name + ".running_mean", key + "/moving_mean")
            put(name + ".running_var", key + "/moving_variance")
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            depthwise = layer.groups > 1
            put(
                name + ".weight",
                key + ("/depthwise_kernel" if depthwise else "/kernel"),
                (2, 3, 0, 1) if depthwise else (3, 2, 0, 1),
            )
            if layer.bias is not None:
                put(name + ".bias", key + "/bias")
        else:  # separable
            put(name + ".depthwise.weight", key + "/depthwise_kernel", (2, 3, 0, 1))
            put(name + ".pointwise.weight", key + "/pointwise_kernel", (3, 2, 0, 1))
            put(name + ".pointwise.bias", key + "/bias")
    assert not left, sorted(left)
    return model.eval()
