"""The native resize of images has Pillow's bits."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError
from pyrcnn.models.preprocess import resize_as_pillow
from tests.reference.preprocess import resize_by_pillow


def some(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def sizes(count: int) -> list[tuple[int, int]]:
    rng = random.Random(0)
    return [(rng.choice([1, 2, 3, rng.randint(1, 90)]), rng.choice([1, 2, rng.randint(1, 300)])) for _ in range(count)]


@pytest.mark.parametrize(("old", "new"), zip(sizes(60), reversed(sizes(60)), strict=True), ids=str)
def test_the_bits_are_pillows(old: tuple[int, int], new: tuple[int, int]) -> None:
    image = some(*old)
    wanted = resize_by_pillow(image, *new)
    strided = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # as an image of a file lies in memory
    for given in (image, strided, image.flip(2).flip(2), image / 255, (image / 255).double()):
        assert torch.equal(resize_as_pillow(given, *new), wanted)
    assert resize_as_pillow(image, *new).is_contiguous()


def test_extreme_images() -> None:
    for value in (0, 255):
        image = torch.full((3, 70, 50), value, dtype=torch.uint8)
        assert (resize_as_pillow(image, 33, 81) == value).all()
    checks = (torch.arange(64)[:, None] + torch.arange(96)).remainder(2).mul(255).byte().expand(3, -1, -1)
    for new in ((7, 5), (63, 97), (128, 192)):
        assert torch.equal(resize_as_pillow(checks, *new), resize_by_pillow(checks, *new))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_numbers_become_the_nearest_byte(dtype: torch.dtype) -> None:
    row = torch.tensor([0.0, 1.0, 0.5, -3.0, 9.0, float("inf"), float("-inf"), float("nan")], dtype=dtype)
    got = resize_as_pillow(row.expand(3, 1, -1), 1, 8)
    assert got[0, 0].tolist() == [0, 255, 128, 0, 255, 255, 0, 0]


def test_threads_give_the_same() -> None:
    image, threads = some(300, 400), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = resize_as_pillow(image, 800, 1066)
        torch.set_num_threads(3)
        assert torch.equal(resize_as_pillow(image, 800, 1066), one)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("image", "size", "message"),
    [
        (some(4, 4)[:2], (2, 2), r"image must be \[3, H, W\] and not empty, got \[2, 4, 4\]"),
        (some(4, 0), (2, 2), r"image must be \[3, H, W\] and not empty, got \[3, 4, 0\]"),
        (some(4, 4)[None], (2, 2), r"image must be \[3, H, W\]"),
        (some(4, 4).int(), (2, 2), "images must be uint8 or floating point, got Int"),
        (some(4, 4), (0, 2), r"size must be positive, got \(0, 2\)"),
        (some(4, 4), (1 << 40, 1 << 40), "size must give a result"),
        (some(1, 1).expand(3, 1 << 20, 1 << 20), (2, 2), r"image must have fewer than 2\^31 elements"),
    ],
)
def test_bad_arguments(image: Tensor, size: tuple[int, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resize_as_pillow(image, *size)


def test_the_fake_kernel_agrees() -> None:
    for image in (some(5, 7), some(5, 7) / 255):
        torch.library.opcheck(torch.ops.pyrcnn._resize_as_pillow.default, (image, 9, 4),
                              test_utils=("test_schema", "test_faketensor"))  # fmt: skip
