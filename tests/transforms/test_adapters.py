"""Pipelines of torchvision and albumentations: labels, keypoints and crowd follow; runs are deterministic."""

from __future__ import annotations

import pickle
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from pyrcnn import InputError, data, train
from tests.detector import TinyDetector, dataset

from . import EMPTY, extent, painted_image, run

LIBRARIES = ("torchvision", "albumentations")
PAIRS = ((0, 1),)


def adapted(library: str, kind: str, **options: Any) -> data.Transform:
    """A pipeline of each library with one meaning."""
    if library == "torchvision":
        pytest.importorskip("torchvision", minversion="0.23")  # the first with keypoints
        from torchvision.transforms import v2

        steps = {
            "flip": [v2.RandomHorizontalFlip(1.0)],
            "turn": [v2.RandomHorizontalFlip(1.0), v2.RandomVerticalFlip(1.0)],
            "crop": [v2.RandomCrop((45, 50)), v2.SanitizeBoundingBoxes()],
            "resize": [v2.Resize((120, 160)), v2.RandomHorizontalFlip(1.0)],
            "mixed": [v2.RandomHorizontalFlip(), v2.RandomZoomOut(side_range=(1, 1.5)), v2.RandomCrop((50, 60)),
                      v2.ColorJitter(0.1)],
            "noise": [v2.ColorJitter(0.5, 0.5, 0.5, 0.1)],
            "float": [v2.ToDtype(torch.float32, scale=True)],
        }[kind]  # fmt: skip
        return data.from_torchvision(v2.Compose(steps), **options)
    A = pytest.importorskip("albumentations", minversion="2.0")
    steps = {
        "flip": [A.HorizontalFlip(p=1.0)],
        "turn": [A.HorizontalFlip(p=1.0), A.VerticalFlip(p=1.0)],
        "crop": [A.RandomCrop(45, 50, p=1.0)],
        "resize": [A.Resize(120, 160), A.HorizontalFlip(p=1.0)],
        "mixed": [A.HorizontalFlip(p=0.5), A.RandomScale((-0.3, 0.3), p=1.0),
                  A.PadIfNeeded(70, 90, border_mode=0), A.RandomCrop(50, 60, p=1.0)],
        "noise": [A.RandomBrightnessContrast(0.5, 0.5, p=1.0)],
        "float": [A.Normalize()],
    }[kind]  # fmt: skip
    return data.from_albumentations(A.Compose(steps), **options)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("kind", ["flip", "turn", "crop", "resize", "mixed"])
def test_labels_follow_the_pixels(library: str, kind: str) -> None:
    transform = adapted(library, kind, pairs=PAIRS)
    gone = 0
    for seed in range(12):
        image, targets = painted_image()
        before = image.clone()
        changed, moved = run(transform, image, targets, seed)
        assert torch.equal(image, before)
        for label in range(3):
            seen = extent(changed[label])
            rows = (moved.labels == label).nonzero()[:, 0]
            if seen is None or (seen[2:] - seen[:2]).min() <= 2:
                gone += 1
                continue
            assert len(rows) == 1
            assert torch.allclose(moved.boxes[rows[0]], seen, atol=1.5)
            assert bool(moved.crowd[rows[0]]) == (label == 2)
            x, y, v = moved.keypoints[rows[0]].unbind(1)
            assert v[2] == 0
            top = seen[3] if kind == "turn" else seen[1]
            # keypoint 0 is the left one again after a mirror image; a half turn is none
            sides = (seen[2], seen[0]) if kind == "turn" else (seen[0], seen[2])
            for joint, side in enumerate(sides):
                if v[joint] > 0:
                    assert torch.allclose(torch.stack([x[joint], y[joint]]), torch.stack([side, top]), atol=1.5)
            if kind in ("flip", "turn", "resize"):
                assert (v[:2] > 0).all()
    assert gone < 20


@pytest.mark.parametrize("library", LIBRARIES)
def test_mirror_images_are_exact(library: str) -> None:
    image, targets = painted_image()
    changed, moved = run(adapted(library, "flip", pairs=PAIRS), image, targets, 0)
    wanted_image, wanted = run(data.HorizontalFlip(1.0, PAIRS), image, targets, 0)
    assert torch.equal(changed, wanted_image)
    assert torch.allclose(moved.boxes, wanted.boxes, atol=1e-3)
    assert torch.allclose(moved.keypoints, wanted.keypoints, atol=1e-3)


@pytest.mark.parametrize("library", LIBRARIES)
def test_pairs_come_from_the_names_of_the_keypoints_in_training(library: str) -> None:
    transform = adapted(library, "flip")
    with pytest.raises(InputError, match="pairs must be the left-right pairs of 3 keypoints, got None"):
        run(transform, *painted_image(), 0)
    named = type("Named", (), {"keypoint_names": ["left_corner", "right_corner", "middle"]})
    (known,) = train.labels.with_flip_pairs((transform,), named)
    image, targets = painted_image()
    _, wanted = run(data.HorizontalFlip(1.0, PAIRS), image, targets, 0)
    assert torch.allclose(run(known, image, targets, 0)[1].keypoints, wanted.keypoints, atol=1e-3)
    with pytest.raises(InputError, match="augment must tell which keypoints swap"):
        train.labels.with_flip_pairs((transform,), type("Named", (), {"keypoint_names": ["a", "b"]}))


@pytest.mark.parametrize("library", LIBRARIES)
def test_seeds_decide_and_global_generators_are_left_alone(library: str) -> None:
    transform = adapted(library, "noise")
    image, targets = painted_image()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    wanted = torch.rand(2), random.random(), np.random.rand()
    torch.manual_seed(5), random.seed(5), np.random.seed(5)
    results = [run(transform, image, targets, seed)[0] for seed in (1, 2, 1)]
    assert torch.equal(torch.rand(2), wanted[0])
    assert (random.random(), np.random.rand()) == wanted[1:]
    assert torch.equal(results[0], results[2])
    assert not torch.equal(results[0], results[1])
    assert torch.equal(run(pickle.loads(pickle.dumps(transform)), image, targets, 1)[0], results[0])


@pytest.mark.parametrize("library", LIBRARIES)
def test_text_is_stable_and_tells_the_settings(library: str) -> None:
    assert repr(adapted(library, "mixed")) == repr(adapted(library, "mixed"))
    assert repr(adapted(library, "flip")) != repr(adapted(library, "mixed"))
    text = repr(adapted(library, "flip", pairs=PAIRS))
    assert text.startswith(f"from_{library}(")
    assert "0x" not in text
    assert "\n" not in text
    transform = adapted(library, "mixed", pairs=PAIRS)
    before = repr(transform)
    run(transform, *painted_image(), 3)
    assert repr(transform) == before  # a resumed run is recognised


@pytest.mark.parametrize("library", LIBRARIES)
def test_empty_targets_and_float_images(library: str) -> None:
    image, _ = painted_image()
    changed, kept = run(adapted(library, "mixed"), image, EMPTY, 0)
    assert changed.shape == (3, 50, 60)
    assert len(kept) == 0
    with pytest.raises(InputError, match=r"pipeline must return a uint8 RGB image, got torch\.float32"):
        run(adapted(library, "float"), *painted_image(), 0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_run_with_a_pipeline_resumes_bit_for_bit(library: str, tmp_path) -> None:
    config = train.TrainConfig(epochs=4, batch_size=2, augment=(adapted(library, "noise"),), out=str(tmp_path / "a"))

    def trained(settings: train.TrainConfig, stop: int | None = None) -> TinyDetector:
        torch.manual_seed(0)
        model, steps = TinyDetector(), 0

        def count(*_: Any) -> None:
            nonlocal steps
            steps += 1
            if steps == stop:
                raise StopIteration

        model.register_forward_pre_hook(count)
        train.fit(model, dataset(tmp_path), None, settings, quiet=True)
        return model

    through = trained(config)
    config = replace(config, out=str(tmp_path / "b"), checkpoint_minutes=0)
    with pytest.raises(StopIteration):
        trained(config, 7)
    again = replace(config, resume=True, augment=(adapted(library, "noise"),))
    resumed = trained(again)
    pairs = zip(through.state_dict().values(), resumed.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_pipelines_must_be_of_their_library() -> None:
    pytest.importorskip("albumentations", minversion="2.0")
    with pytest.raises(InputError, match=r"pipeline must be an albumentations.Compose .*, got int"):
        data.from_albumentations(3)
    with pytest.raises(InputError, match=r"pipeline must be of torchvision.transforms.v2, got int"):
        data.from_torchvision(3)


def test_limits_of_a_compose_are_kept() -> None:
    A = pytest.importorskip("albumentations", minversion="2.0")
    params = A.BboxParams(format="coco", label_fields=["classes"], min_area=350)
    _, kept = run(data.from_albumentations(A.Compose([A.NoOp()], bbox_params=params)), *painted_image(), 0)
    assert kept.labels.tolist() == [0, 2]  # 20x20 and 16x28; 12x20 is too small
