"""What is published for each preset: the weights' address, accuracy, speed, licence, and the test of equality."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..errors import InputError, require
from ..models.presets import NO_AREA
from .download import Progress, cache_folder, fetch

ZOO = "zoo"  # in place of a file: the published weights
TENSORFLOW = "http://download.tensorflow.org/models/object_detection/tf2"
TORCHVISION = "https://download.pytorch.org/models"
DETECTRON2 = "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection"


@dataclass(frozen=True)
class Published:
    """One preset's published weights and figures.

    ``changes``: the fields of the preset's configuration that these weights were trained with. ``ap``: mAP of boxes on
    COCO val2017 in percent; ``keypoint_ap``: likewise for keypoints; ``voc_ap``: mAP on Pascal VOC 2007 test;
    ``milliseconds``: per image on the publisher's machine. ``proof``: the fixture or test that compares the results.
    """

    url: str
    licence: str
    ap: float | None
    proof: str
    keypoint_ap: float | None = None
    milliseconds: float | None = None
    voc_ap: float | None = None
    changes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def _tensorflow(file: str, milliseconds: float, ap: float | None, proof: str, keypoint_ap: float | None = None) -> Any:
    url = f"{TENSORFLOW}/{file}.tar.gz"
    return Published(url, "Apache-2.0", ap, proof, keypoint_ap, milliseconds)


# detectron2's numerics, for the presets that have torchvision's
_OF_DETECTRON2 = MappingProxyType(
    {
        "stride_in_1x1": True,
        "resize": "detectron2",
        "normalization": "detectron2",
        "rpn": {"anchors": "detectron2", "min_size": NO_AREA, "beta": 0, "after_nms": (1000, 1000)},
        "roi": {"aligned": True, "sampling_ratio": 0, "min_size": NO_AREA, "beta": 0},
    }
)
HOURGLASS = "fixture hg104tiny_kpts (1/16 of the widths)"
PUBLISHED: dict[str, Published] = {
    "centernet_hg104_512": _tensorflow("20200713/centernet_hg104_512x512_coco17_tpu-8", 70, 41.9, HOURGLASS),
    "centernet_hg104_512_kpts": _tensorflow(
        "20200711/centernet_hg104_512x512_kpts_coco17_tpu-32", 76, 40.0, HOURGLASS, 61.4
    ),
    "centernet_hg104_1024": _tensorflow("20200713/centernet_hg104_1024x1024_coco17_tpu-32", 197, 44.5, HOURGLASS),
    "centernet_hg104_1024_kpts": _tensorflow(
        "20200711/centernet_hg104_1024x1024_kpts_coco17_tpu-32", 211, 42.8, HOURGLASS, 64.5
    ),
    "centernet_resnet50_v1_fpn_512": _tensorflow(
        "20200711/centernet_resnet50_v1_fpn_512x512_coco17_tpu-8", 27, 31.2, "fixture r50v1fpn_kpts (with keypoints)"
    ),
    "centernet_resnet50_v1_fpn_512_kpts": _tensorflow(
        "20200711/centernet_resnet50_v1_fpn_512x512_kpts_coco17_tpu-8", 30, 29.3, "fixture r50v1fpn_kpts", 50.7
    ),
    "centernet_resnet101_v1_fpn_512": _tensorflow(
        "20200711/centernet_resnet101_v1_fpn_512x512_coco17_tpu-8", 34, 34.2, "fixture r50v1fpn_kpts (fewer layers)"
    ),
    "centernet_resnet50_v2_512": _tensorflow(
        "20200711/centernet_resnet50_v2_512x512_coco17_tpu-8", 27, 29.5, "fixture r50v2"
    ),
    "centernet_resnet50_v2_512_kpts": _tensorflow(
        "20200711/centernet_resnet50_v2_512x512_kpts_coco17_tpu-8", 30, 27.6, "fixture r50v2 (boxes)", 48.2
    ),
    "centernet_mobilenet_v2_fpn_512": _tensorflow(
        "20210210/centernet_mobilenetv2fpn_512x512_coco17_od", 6, 23.4, "fixture mbv2_od"
    ),
    "centernet_mobilenet_v2_fpn_512_kpts": _tensorflow(
        "20210210/centernet_mobilenetv2fpn_512x512_coco17_kpts", 6, None, "fixture mbv2_od (boxes)", 41.7
    ),
    "faster_rcnn_resnet50_v1_640": _tensorflow(
        "20200711/faster_rcnn_resnet50_v1_640x640_coco17_tpu-8", 53, 29.3, "fixture ops_frcnn (its pieces)"
    ),
    "faster_rcnn_resnet50_fpn": Published(
        f"{TORCHVISION}/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
        "BSD-3-Clause",
        37.0,
        "fixture torchvision_faster_rcnn",
        changes=MappingProxyType({"norm_eps": 0.0}),
    ),
    "faster_rcnn_resnet50_fpn_v2": Published(
        f"{TORCHVISION}/fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
        "BSD-3-Clause",
        46.7,
        "fixture torchvision_faster_rcnn",
    ),
    "faster_rcnn_resnet50_fpn_detectron2": Published(
        f"{DETECTRON2}/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
        "CC-BY-SA-3.0",
        40.2,
        "fixture detectron2_faster_rcnn",
        milliseconds=38,
    ),
    "faster_rcnn_resnet50_c4_detectron2": Published(
        f"{DETECTRON2}/faster_rcnn_R_50_C4_3x/137849393/model_final_f97cb7.pkl",
        "CC-BY-SA-3.0",
        38.4,
        "fixture detectron2_faster_rcnn",
        milliseconds=104,
    ),
    "faster_rcnn_resnet101_fpn": Published(
        f"{DETECTRON2}/faster_rcnn_R_101_FPN_3x/137851257/model_final_f6e8b1.pkl",
        "CC-BY-SA-3.0",
        42.0,
        "fixture detectron2_faster_rcnn (fewer layers)",
        milliseconds=51,
        changes=_OF_DETECTRON2,
    ),
    "faster_rcnn_resnet101_c4": Published(
        f"{DETECTRON2}/faster_rcnn_R_101_C4_3x/138204752/model_final_298dad.pkl",
        "CC-BY-SA-3.0",
        41.1,
        "fixture detectron2_faster_rcnn (fewer layers)",
        milliseconds=139,
        changes=MappingProxyType({**_OF_DETECTRON2, "size_divisor": 1}),
    ),
    # the paper's; no reader here for its Caffe weights
    "faster_rcnn_vgg16": Published("", "", None, "", milliseconds=198, voc_ap=73.2),
}
URLS = {name: entry.url for name, entry in PUBLISHED.items() if entry.url}


def published(name: str | None) -> Published:
    """The entry of a preset; :class:`InputError` if no weights are published for it."""
    require(name is not None, f"weights '{ZOO}' needs the name of a model: name it with --model")
    if name not in URLS:
        raise InputError(f"model {name} has no published weights; models that have: {', '.join(URLS)}")
    return PUBLISHED[name]  # type: ignore[index]


def with_settings(name: str, source: Any, changes: Mapping[str, Any]) -> dict[str, Any]:
    """``changes``, and those that the preset's published weights need if ``source`` has their file name."""
    file = os.path.basename(source) if isinstance(source, str | os.PathLike) else ""
    needed = PUBLISHED[name].changes if file and file == os.path.basename(URLS.get(name, "")) else {}
    return _merged(needed, changes)


def with_numerics_of_detectron2(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """``changes``, and those that weights from detectron2 need in a preset that has torchvision's numerics."""
    published = PUBLISHED.get(name)
    of_preset = published is not None and published.url.startswith(DETECTRON2)
    return _merged(published.changes if of_preset else _OF_DETECTRON2, changes)  # type: ignore[union-attr]


def _merged(needed: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(needed)
    for field_name, value in changes.items():
        below = merged.get(field_name)
        merged[field_name] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def weights(name: str | None, progress: Progress = lambda done, total: None) -> Path:
    """The preset's published weights in the cache (see ``download.cache_folder``), downloaded by the first call.

    ``progress(done, total)`` is called with bytes while it downloads; ``total`` is None if the server does not tell.
    """
    return fetch(published(name).url, cache_folder() / "weights", progress)
