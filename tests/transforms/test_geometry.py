"""Boxes, keypoints, labels and crowd follow the pixels of every transform; crops agree with plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyrcnn import InputError, Targets, data
from pyrcnn.data.transforms.parsing import TRANSFORMS
from tests.reference import transforms as oracle

from . import EMPTY, HEIGHT, WIDTH, extent, painted_image, run

PAIRS = ((0, 1),)
MOVING = (
    data.HorizontalFlip(1.0, PAIRS), data.VerticalFlip(1.0), data.Resize(120, 400), data.Pad(64, 0),
    data.ScaleJitter(1.2, 1.5, fill=0), data.ScaleJitter(0.5, 0.8, fill=0), data.ScaleJitter(1, 1, (120, 100), 0),
    data.RandomCrop(0.8, 0.9, 1.0), data.RandomCenterCrop(border=20), data.RandomCenterCrop(0.3, 0.5, 3, 8),
    data.RandomCropTF(1.0), data.RandomPad(30), data.ShortSide((40, 60, 90), 200), data.ShortSide((30, 70), 85, True),
    data.LargeScaleJitter(0.5, 1.0, (100, 90), 0), data.LargeScaleJitter(1.0, 2.0, (70, 70), 0),
)  # fmt: skip
# how to leave an image as it is; None: there is a test of its own
SAME = {
    "HorizontalFlip": "0", "VerticalFlip": "0", "Resize": "60, 80", "Pad": "20", "RandomCrop": "probability=0",
    "ScaleJitter": "1, 1", "RandomCenterCrop": None, "RandomCropTF": "0", "RandomPad": "0",
    "ShortSide": "(60,), 80", "LargeScaleJitter": "1, 1, (60, 80)", "ColorJitter": None, "ColorJitterTF": None,
    "LightingNoise": "0", "PatchGaussian": "deviation=0", "Mosaic": "0", "MixUp": "0",
}  # fmt: skip
ANY = {name: f"{name}({'8, 10' if name == 'Resize' else ''})" for name in TRANSFORMS}


@pytest.mark.parametrize("transform", MOVING, ids=repr)
def test_objects_follow_their_pixels(transform: data.Transform) -> None:
    least = getattr(transform, "min_visible", 0.3)
    for seed in range(12):
        image, targets = painted_image()
        before = image.clone()
        changed, moved = run(transform, image, targets, seed)
        assert torch.equal(image, before)
        assert changed.dtype == torch.uint8
        assert moved.keypoints is not None
        assert moved.crowd is not None
        assert (moved.crowd == (moved.labels == 2)).all()
        for label in range(3):
            seen = extent(changed[label])
            rows = (moved.labels == label).nonzero()[:, 0]
            if seen is None or not len(rows):  # gone, or hardly visible
                if seen is not None and label != 2:
                    shown = (seen[2:] - seen[:2]).prod()
                    assert shown < max(0.4, least + 0.1) * 20 * 20 * 1.3**2 or (seen[2:] - seen[:2]).min() <= 2
                continue
            assert torch.allclose(moved.boxes[rows[0]], seen, atol=1.01)
            x, y, v = moved.keypoints[rows[0]].unbind(1)
            assert v[2] == 0
            top = seen[3] if isinstance(transform, data.VerticalFlip) else seen[1]
            for joint, side in ((0, seen[0]), (1, seen[2])):  # left and right swap when mirrored
                if v[joint] > 0:
                    assert torch.allclose(torch.stack([x[joint], y[joint]]), torch.stack([side, top]), atol=1.01)
            inside = (seen[0] > 1) & (seen[1] > 1) & (seen[2] < changed.shape[2] - 1) & (seen[3] < changed.shape[1] - 1)
            if inside:
                assert v[:2].tolist() == ([1, 2] if isinstance(transform, data.HorizontalFlip) else [2, 1])


def test_each_transform_has_an_identity_and_all_are_listed() -> None:
    assert SAME.keys() == TRANSFORMS.keys()
    image, targets = painted_image()
    for name, arguments in SAME.items():
        if arguments is not None:
            (transform,) = data.parse_transforms(f"{name}({arguments})")
            changed, kept = run(transform, image, targets, 0)
            assert torch.equal(changed, image), name
            assert torch.equal(kept.boxes, targets.boxes), name
            assert torch.equal(kept.keypoints, targets.keypoints), name


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_a_seed_decides_the_result(name: str) -> None:
    (transform,) = data.parse_transforms(ANY[name])
    image, targets = painted_image()
    image = image // 2 + torch.arange(WIDTH, dtype=torch.uint8)
    targets = Targets(targets.boxes, targets.labels, None, targets.crowd)
    other = (image.flip(1), targets)
    results = [run(transform, image, targets, seed, other)[0] for seed in (3, 3, *range(4, 12))]
    assert torch.equal(results[0], results[1])
    if name not in ("Resize", "Pad"):
        assert not all(torch.equal(results[0], r) for r in results)


@pytest.mark.parametrize("name", list(TRANSFORMS))
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (3, 5)])
def test_tiny_images_and_empty_targets(name: str, size: tuple[int, int]) -> None:
    (transform,) = data.parse_transforms(ANY[name])
    whole = Targets(torch.tensor([[0.0, 0.0, size[1], size[0]]]), torch.tensor([0]))
    for targets in (EMPTY, whole):
        for seed in range(5):
            image = torch.full((3, *size), 100, dtype=torch.uint8)
            changed, kept = run(transform, image, targets, seed)
            assert min(changed.shape) > 0
            assert changed.dtype == torch.uint8
            limit = torch.tensor([changed.shape[2], changed.shape[1]] * 2)
            assert (kept.boxes <= limit).all()
            assert len(kept.labels) == len(kept.boxes) <= 4 * len(targets)


def check(changed: torch.Tensor, moved: Targets, window: tuple[int, int, int, int], least: float, fill: int) -> None:
    """Compare with the window that plain loops cut."""
    image, targets = painted_image()
    wanted = oracle.window_of(image.tolist(), *window, fill)
    assert changed.tolist() == wanted
    boxes, labels = [], []
    for box, label, crowd in zip(targets.boxes.tolist(), range(3), targets.crowd.tolist(), strict=True):
        found = oracle.visible(box, *window, 0.0 if crowd else least)
        if found is not None:
            boxes.append(found)
            labels.append(label)
    np.testing.assert_allclose(moved.boxes.tolist(), np.array(boxes).reshape(-1, 4), atol=1e-5)
    assert moved.labels.tolist() == labels
    for row, label in enumerate(labels):
        for (x, y, v), (gx, gy, gv) in zip(
            targets.keypoints[label].tolist(), moved.keypoints[row].tolist(), strict=True
        ):
            px, py = x - window[1], y - window[0]
            inside = v > 0 and 0 <= px <= window[3] and 0 <= py <= window[2]
            assert (gx, gy, gv) == ((px, py, v) if inside else (0, 0, 0))


def whole(generator: torch.Generator, low: int, high: int) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


@pytest.mark.parametrize("most", [128, 20, 0])
def test_center_crop_is_centernets(most: int) -> None:
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        changed, moved = run(data.RandomCenterCrop(border=most), *painted_image(), seed)
        scale = 0.6 + 0.1 * whole(generator, 0, 7)
        side = int(scale * WIDTH + 1e-9)
        borders = [oracle.border(most, length) if most else 0 for length in (HEIGHT, WIDTH)]
        assert most != 128 or borders == [16, 32]
        y, x = (whole(generator, b, n - b) for b, n in zip(borders, (HEIGHT, WIDTH), strict=True))
        top, left = min(y - side // 2, HEIGHT - 1), min(x - side // 2, WIDTH - 1)
        check(changed, moved, (top, left, side, side), 0.0, 0)


def test_pad_is_a_window_around_the_image() -> None:
    seen = set()
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        changed, moved = run(data.RandomPad(25, 7), *painted_image(), seed)
        down, right = whole(generator, 0, 25), whole(generator, 0, 25)
        top, left = whole(generator, 0, down), whole(generator, 0, right)
        check(changed, moved, (-top, -left, HEIGHT + down, WIDTH + right), 0.0, 7)
        seen.add((down, right))
    assert len(seen) > 10


@pytest.mark.parametrize("area", [(0.1, 1.0), (0.3, 0.34)])
def test_tensorflows_crop_holds_an_object(area: tuple[float, float]) -> None:
    """The crop is that of plain loops; each keeps one object whole."""
    crops = 0
    for seed in range(60):
        generator = torch.Generator().manual_seed(seed)
        image, targets = painted_image()
        changed, moved = run(data.RandomCropTF(area=area), image, targets, seed)
        window = (0, 0, HEIGHT, WIDTH)
        if torch.rand((), generator=generator).item() < 0.75:
            for _ in range(100):
                aspect = 0.5 + 1.2 * torch.rand((), generator=generator).item()
                size = oracle.crop_size(HEIGHT, WIDTH, aspect, area, lambda a, b: whole(generator, a, b))
                if size is None:
                    continue
                top, left = whole(generator, 0, HEIGHT - size[0]), whole(generator, 0, WIDTH - size[1])
                cut = [oracle.visible(box, top, left, *size, 1.0) for box in targets.boxes.tolist()]
                if any(box is not None for box in cut):
                    window = (top, left, *size)
                    crops += 1
                    break
        check(changed, moved, window, 0.3, 0)
    assert crops > 30


def test_tensorflows_crop_leaves_images_whose_objects_do_not_fit() -> None:
    image = torch.zeros(3, 20, 90, dtype=torch.uint8)  # no crop of at most 1.7 is as wide as the object
    targets = Targets(torch.tensor([[1.0, 1.0, 89.0, 19.0]]), torch.tensor([0]))
    changed, _ = run(data.RandomCropTF(1.0), image, targets, 0)
    assert changed.shape == image.shape


def test_short_sides_are_drawn_from_all_that_are_given() -> None:
    image, targets = painted_image()
    listed = {run(data.ShortSide((40, 60, 90), 200), image, targets, seed)[0].shape[1:] for seed in range(40)}
    assert listed == {(40, 53), (60, 80), (90, 120)}
    ranged = {run(data.ShortSide((40, 45), 200, True), image, targets, seed)[0].shape[1] for seed in range(60)}
    assert ranged == set(range(40, 46))
    limited, _ = run(data.ShortSide((600,), 100), image, targets, 0)
    assert limited.shape[1:] == (75, 100)


def test_large_scale_jitter_has_one_size_and_all_scales() -> None:
    image, targets = painted_image()
    widths = []
    for seed in range(40):
        changed, moved = run(data.LargeScaleJitter(0.1, 2.0, (64, 64)), image, targets, seed)
        assert changed.shape == (3, 64, 64)
        generator = torch.Generator().manual_seed(seed)
        scale = (0.1 + 1.9 * torch.rand((), generator=generator).item()) * min(64 / HEIGHT, 64 / WIDTH)
        scaled = round(HEIGHT * scale), round(WIDTH * scale)
        top, left = (whole(generator, 0, max(0, side - 64)) for side in scaled)
        for box, label in zip(moved.boxes.tolist(), moved.labels.tolist(), strict=True):
            x1, y1, x2, y2 = targets.boxes[label].tolist()
            fx, fy = scaled[1] / WIDTH, scaled[0] / HEIGHT
            wanted = oracle.visible([x1 * fx, y1 * fy, x2 * fx, y2 * fy], top, left, 64, 64, 0.0)
            assert wanted == pytest.approx(box, abs=1e-3)
        if scaled[0] < 64:
            assert (changed[:, scaled[0] :] == 128).all()
        widths.append(scaled[1])
    assert min(widths) < 20
    assert max(widths) > 100


@pytest.mark.parametrize("wrong", [
    "RandomCrop(0.9, 0.5)", "ScaleJitter(0, 1)", "RandomCenterCrop(steps=0)", "RandomCropTF(aspect=(2, 1))",
    "RandomCropTF(area=(0.5, 2))", "RandomPad(-1)", "ShortSide(())", "ShortSide((3, 2), 9, True)", "Pad(0)",
    "LargeScaleJitter(size=(0, 4))", "Mosaic(size=(1, 1))", "MixUp(alpha=0)", "ColorJitter(hue=-1)",
    "PatchGaussian(5, 5)", "LightingNoise(-1)", "Resize(9, 3)", "ColorJitterTF(contrast=(0, 1))",
])  # fmt: skip
def test_arguments_are_checked_when_the_transform_is_made(wrong: str) -> None:
    with pytest.raises(InputError, match=r"^augment: "):
        data.parse_transforms(wrong)


def test_pairs_must_be_of_the_keypoints() -> None:
    with pytest.raises(InputError, match=r"pairs must be of the 3 keypoints, from 0 to 2, got \(0, 5\)"):
        run(data.HorizontalFlip(1.0, ((0, 5),)), *painted_image(), 0)
