"""Reference weights under TensorFlow's keys.

The fixtures hold small variables by key; kernels are drawn from a seed made of the key, so they need no storage.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import nn

from pyrcnn import checkpoints, models

FIXTURES = Path(__file__).parents[2] / "fixtures"
NECK = "model/_feature_extractor/_feature_extractor_model/layer_with_weights-{}"
TRANSPOSED = {NECK.format(i) + "/kernel" for i in (3, 7, 11)}  # the keys whose kernels are scaled as transposed ones
# preset → the published checkpoint whose variables the fixtures list
PUBLISHED = {
    "centernet_hg104_512": "hg104_512",
    "centernet_hg104_512_kpts": "hg104_512_kpts",
    "centernet_hg104_1024": "hg104_512",
    "centernet_hg104_1024_kpts": "hg104_512_kpts",
    "centernet_resnet50_v1_fpn_512": "r50v1fpn",
    "centernet_resnet50_v1_fpn_512_kpts": "r50v1fpn_kpts",
    "centernet_resnet101_v1_fpn_512": "r101v1fpn",
    "centernet_resnet50_v2_512": "r50v2",
    "centernet_resnet50_v2_512_kpts": "r50v2_kpts",
    "centernet_mobilenet_v2_fpn_512": "mbv2_od",
    "centernet_mobilenet_v2_fpn_512_kpts": "mbv2_kpts",
    "faster_rcnn_resnet50_v1_640": "frcnn_r50_640",
}


@dataclass(frozen=True)
class Variable:
    """A variable of a published checkpoint: shape in TensorFlow's layout, and its name in the object graph."""

    shape: tuple[int, ...]
    full_name: str


def fixture(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}.npz") as arrays:
        return {key: arrays[key] for key in arrays.files}


@lru_cache
def variables(name: str) -> dict[str, Variable]:
    """key → variable of the checkpoint ``name``, as TensorFlow lists them."""
    with np.load(FIXTURES / "tf_variables.npz") as lists:
        lines = lists[name].tobytes().decode().splitlines()
    found = {}
    for line in lines:
        key, shape, full_name = line.split("|")
        found[key] = Variable(tuple(json.loads(shape)), full_name)
    return found


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


def weights(name: str) -> dict[str, np.ndarray]:
    """TensorFlow's key → array, for every variable of the reference model ``name``."""
    small = fixture(f"{name}_vec")
    shapes = {key: variable.shape for key, variable in variables(name).items()}
    return {key: small[key] if len(shape) < 2 else kernel(key, shape, small) for key, shape in shapes.items()}


def loaded(preset: str, name: str, **changes: object) -> nn.Module:
    """The preset with the weights of the reference model ``name``."""
    model = models.build(preset, **changes)
    checkpoints.load(model, weights(name))
    return model.eval()
