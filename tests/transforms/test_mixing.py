"""Transforms that join several images: their pixels, their targets, and where the other images come from."""

from __future__ import annotations

import pytest
import torch

from pyrcnn import InputError, Targets, data
from pyrcnn.data.transforms.mixing import beta

from . import extent, painted_image, run

MOSAIC = data.Mosaic(size=(96, 112), fill=0)


def one_object(channel: int, size: tuple[int, int], box: list[float]) -> tuple[torch.Tensor, Targets]:
    image = torch.zeros(3, *size, dtype=torch.uint8)
    x1, y1, x2, y2 = map(int, box)
    image[channel, y1:y2, x1:x2] = 255
    keypoints = torch.tensor([[[box[0], box[1], 2.0]]])
    return image, Targets(torch.tensor([box]), torch.tensor([channel]), keypoints, torch.tensor([channel == 1]))


@pytest.mark.parametrize("seed", range(10))
def test_mosaic_places_four_images_around_a_point(seed: int) -> None:
    sources = [
        one_object(0, (60, 80), [20.0, 10.0, 70.0, 50.0]), one_object(1, (90, 50), [5.0, 20.0, 45.0, 80.0]),
        one_object(2, (40, 40), [8.0, 4.0, 30.0, 36.0]), one_object(0, (60, 80), [20.0, 10.0, 70.0, 50.0]),
    ]  # fmt: skip
    canvas, joined = MOSAIC(*sources[0], torch.Generator().manual_seed(seed), sources[1:])
    assert canvas.shape == (3, 96, 112)
    generator = torch.Generator().manual_seed(seed)
    torch.rand((), generator=generator)
    y = int(torch.randint(24, 96 - 24 + 1, (), generator=generator))
    x = int(torch.randint(28, 112 - 28 + 1, (), generator=generator))
    quarters = {0: (slice(0, y), slice(0, x)), 1: (slice(0, y), slice(x, 112)),
                2: (slice(y, 96), slice(0, x)), 3: (slice(y, 96), slice(x, 112))}  # fmt: skip
    found = 0
    for number, (rows, columns) in quarters.items():
        channel = int(sources[number][1].labels)
        part = torch.zeros_like(canvas[0])
        part[rows, columns] = canvas[channel, rows, columns]
        seen = extent(part)
        h, w = sources[number][0].shape[1:]
        scale = min(48 / h, 56 / w)
        new_h, new_w = round(h * scale), round(w * scale)
        top, left = y - new_h if number < 2 else y, x - new_w if number % 2 == 0 else x
        x1, y1, x2, y2 = sources[number][1].boxes[0].tolist()
        wanted = torch.tensor(
            [left + x1 * new_w / w, top + y1 * new_h / h, left + x2 * new_w / w, top + y2 * new_h / h]
        )
        clipped = torch.minimum(wanted.clamp(min=0), torch.tensor([112.0, 96.0, 112.0, 96.0]))
        share = (clipped[2:] - clipped[:2]).clamp(min=0).prod() / (wanted[2:] - wanted[:2]).prod()
        rows_of = [i for i in range(len(joined)) if torch.allclose(joined.boxes[i], clipped, atol=1e-3)]
        if channel == 1 or share > 0.301:
            assert len(rows_of) == 1
            assert joined.labels[rows_of[0]] == channel
            assert bool(joined.crowd[rows_of[0]]) == (channel == 1)
            assert seen is not None
            assert torch.allclose(joined.boxes[rows_of[0]], seen, atol=1.01)
            corner = joined.keypoints[rows_of[0], 0]
            assert corner[2] == 0 or torch.allclose(corner[:2], clipped[:2], atol=1e-3)
            found += 1
        elif share < 0.299:
            assert not rows_of
    assert found == len(joined)


def test_mixup_blends_and_keeps_all_objects() -> None:
    first, second = one_object(0, (30, 50), [3.0, 4.0, 20.0, 25.0]), one_object(1, (40, 36), [10.0, 8.0, 30.0, 39.0])
    shares = []
    for seed in range(8):
        blend, joined = data.MixUp(1.0)(*first, torch.Generator().manual_seed(seed), [second])
        assert blend.shape == (3, 40, 50)
        share = blend[0, 10, 10].item() / 255
        shares.append(share)
        for y in range(0, 40, 3):
            for x in range(0, 50, 3):
                a = first[0][:, y, x].double() if y < 30 else torch.zeros(3).double()
                b = second[0][:, y, x].double() if x < 36 else torch.zeros(3).double()
                assert (blend[:, y, x] - (share * a + (1 - share) * b)).abs().max() <= 1.01
        assert torch.equal(joined.boxes, torch.cat([first[1].boxes, second[1].boxes]))
        assert joined.labels.tolist() == [0, 1]
        assert joined.crowd.tolist() == [False, True]
        assert torch.equal(joined.keypoints, torch.cat([first[1].keypoints, second[1].keypoints]))
    assert max(shares) - min(shares) > 0.3


@pytest.mark.parametrize("alpha", [0.5, 1.5, 8.0])
def test_beta_has_the_moments_of_its_distribution(alpha: float) -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor([beta(alpha, generator) for _ in range(3000)])
    assert drawn.mean() == pytest.approx(0.5, abs=0.02)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_targets_with_and_without_crowd_or_keypoints_join() -> None:
    plain = torch.zeros(3, 60, 80, dtype=torch.uint8), Targets(torch.tensor([[1.0, 1, 9, 9]]), torch.tensor([7]))
    _, joined = run(data.MixUp(1.0), *painted_image(), 0, plain)
    assert joined.labels.tolist() == [0, 1, 2, 7]
    assert joined.crowd.tolist() == [False, False, True, False]
    assert (joined.keypoints[3] == 0).all()


def test_others_must_be_given() -> None:
    with pytest.raises(InputError, match=r"^others must be 3 \(image, targets\), got 0"):
        MOSAIC(*painted_image(), torch.Generator())
    with pytest.raises(InputError, match="draw must return other items for Mosaic"):
        data.transforms.apply((MOSAIC,), *painted_image(), torch.Generator())
