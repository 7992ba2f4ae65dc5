"""CenterNet against TensorFlow: the same weights give the same maps and the same detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyrcnn import models
from pyrcnn.models.centernet.decode import decode

from .test_centernet_targets import NAMES
from .tf_weights import fill, fixture

TINY_HOURGLASS = {"stem": 8, "dims": (16, 16, 24, 24, 24, 32)}
# the references leave joints outside the picture where they are; stored maps: every so many channels, every second cell
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("mbv2_od", "centernet_mobilenet_v2_fpn_512", {}),
    ("hg104tiny_kpts", "centernet_hg104_512_kpts", {"clip_keypoints": False, **TINY_HOURGLASS}),
    ("r50v1fpn_kpts", "centernet_resnet50_v1_fpn_512_kpts", {"clip_keypoints": False}),
    ("r50v2", "centernet_resnet50_v2_512", {}),
]


@pytest.mark.parametrize(("reference", "preset", "changes"), CASES, ids=[case[0] for case in CASES])
def test_maps_and_detections_are_tensorflows(reference: str, preset: str, changes: dict[str, Any]) -> None:
    stored = fixture(f"{reference}_small")
    model = fill(models.build(preset, **changes), fixture(f"{reference}_vec"))
    pixels = torch.from_numpy(stored["input"]).permute(0, 3, 1, 2)
    sizes = torch.tensor([[128, 128]])
    with torch.inference_mode():
        maps = model.heads(pixels)
        found = model.predict_padded(pixels, sizes)
    heads = {key: value for key, value in stored.items() if key.startswith("head:")}
    assert len(heads) == len(maps)
    for key, wanted in heads.items():
        name = NAMES[key.split(":")[1]]
        step = 9 if name == "heatmap" else 1 if maps[name].shape[1] == 2 else 5
        got = maps[name].permute(0, 2, 3, 1)[:, ::2, ::2, ::step].numpy()
        assert np.abs(got - wanted).max() <= 1e-4 * np.abs(wanted).max(), name
    same_detections(found, {k.removeprefix("post:"): v for k, v in stored.items()}, sizes)


def same_detections(found: Any, stored: dict[str, np.ndarray], sizes: Tensor) -> None:
    """Boxes within 0.01 px, joints within 0.02; ranks may change places only where scores differ by less than 1e-4."""
    scale = sizes.numpy()[:, None]  # (h, w)
    boxes = (stored["detection_boxes"] * np.tile(scale, 2))[..., [1, 0, 3, 2]]
    labels, scores = stored["detection_classes"], stored["detection_scores"]
    assert found.counts.tolist() == stored["num_detections"].tolist()
    for n in range(len(labels)):
        free = np.ones(len(labels[n]), dtype=bool)
        for rank in range(len(labels[n])):
            near = (
                free
                & (np.abs(scores[n] - float(found.scores[n, rank])) < 1e-4)
                & (labels[n] == int(found.labels[n, rank]))
            )
            error = np.abs(boxes[n] - found.boxes[n, rank].numpy()).max(-1)
            match = np.where(near, error, np.inf).argmin()
            assert near[match], (n, rank)
            assert error[match] < 0.01, (n, rank)
            free[match] = False
            if "detection_keypoints" in stored:
                joints = (stored["detection_keypoints"][n, match] * scale[n])[:, ::-1]
                got = found.keypoints[n, rank].numpy()
                assert np.abs(got[:, :2] - joints).max() < 0.02, (n, rank)
                assert np.abs(got[:, 2] - stored["detection_keypoint_scores"][n, match]).max() < 1e-4, (n, rank)


@pytest.mark.parametrize(
    ("kind", "variant", "options"),
    [
        ("multi", "default", {}),
        ("multi", "clip", {"clip": True}),
        ("multi", "rescore", {"clip": True, "rescored": True}),
        ("multi", "ssdr", {"ranking": "score_by_scaled_distance"}),
        ("single", "default", {}),
    ],
)
def test_post_processing_is_tensorflows(kind: str, variant: str, options: dict[str, Any]) -> None:
    stored = fixture("ops_post")
    heads = f"pp_{kind}_head:"
    maps = {
        NAMES[key.removeprefix(heads)]: torch.from_numpy(value).permute(0, 3, 1, 2)
        for key, value in stored.items()
        if key.startswith(heads)
    }
    sizes = torch.from_numpy(stored[f"pp_{kind}_true_shapes"][:1, :2])
    prefix = f"pp_{kind}_{variant}:"
    wanted = {key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)}
    found = decode(maps, sizes, 4, wanted["detection_scores"].shape[1], **options)
    same_detections(found, wanted, sizes)
