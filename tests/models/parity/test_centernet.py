"""CenterNet against TensorFlow: the same weights give the same maps and the same detections."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyrcnn.models.centernet.decode import decode

from ..test_centernet_targets import NAMES
from .tf_weights import fixture, loaded

TINY_HOURGLASS = {"stem": 8, "dims": (16, 16, 24, 24, 24, 32)}
# the references leave joints outside the image where they are; stored maps: every so many channels, every second cell
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("mbv2_od", "centernet_mobilenet_v2_fpn_512", {}),
    ("hg104tiny_kpts", "centernet_hg104_512_kpts", {"clip_keypoints": False, **TINY_HOURGLASS}),
    ("r50v1fpn_kpts", "centernet_resnet50_v1_fpn_512_kpts", {"clip_keypoints": False}),
    ("r50v2", "centernet_resnet50_v2_512", {}),
]
# Scores of these networks are known this well: in float32 both TensorFlow's and ours differ from the same network in
# float64 by up to 3e-5 (ResNet-50 V2; 1e-5 the others). Ranks mean something where scores are further apart. One pair
# in the references is closer (9e-7), and there TensorFlow's order is not that of float64.
NETWORK_NOISE = 6e-5
DECODER_NOISE = 1e-6  # of the decoder alone, given the same maps


@pytest.mark.parametrize(("reference", "preset", "changes"), CASES, ids=[case[0] for case in CASES])
def test_maps_and_detections_are_tensorflows(reference: str, preset: str, changes: dict[str, Any]) -> None:
    stored = fixture(f"{reference}_small")
    model = loaded(preset, reference, **changes)
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
    same_detections(found, {k.removeprefix("post:"): v for k, v in stored.items()}, sizes, NETWORK_NOISE)


def same_detections(found: Any, stored: dict[str, np.ndarray], sizes: Tensor, noise: float) -> None:
    """The same objects in the same order: boxes within 0.01 px, joints within 0.02, scores within 1e-4.

    A rank may differ only by changing places with one whose stored score is less than ``noise`` away.
    """
    scale = sizes.numpy()[:, None]  # (h, w)
    boxes = (stored["detection_boxes"] * np.tile(scale, 2))[..., [1, 0, 3, 2]]
    labels, scores = stored["detection_classes"], stored["detection_scores"]
    assert found.counts.tolist() == stored["num_detections"].tolist()
    np.testing.assert_allclose(found.scores.numpy(), scores, rtol=0, atol=1e-4)
    for n in range(len(labels)):
        free = np.ones(len(labels[n]), dtype=bool)
        for rank in range(len(labels[n])):
            same = free & (labels[n] == int(found.labels[n, rank]))
            same &= np.abs(boxes[n] - found.boxes[n, rank].numpy()).max(-1) < 0.01
            match = rank if same[rank] else int(same.argmax())
            assert same[match], (n, rank)
            assert match == rank or abs(scores[n, match] - scores[n, rank]) < noise, (n, rank)
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
    if "rescored" in options:  # TensorFlow leaves them in the order of the old scores
        order = np.argsort(-wanted["detection_scores"], axis=1, kind="stable")
        wanted = {
            k: v if v.ndim == 1 else np.stack([row[o] for row, o in zip(v, order, strict=True)])
            for k, v in wanted.items()
        }
    found = decode(maps, sizes, 4, wanted["detection_scores"].shape[1], **options)
    same_detections(found, wanted, sizes, DECODER_NOISE)
