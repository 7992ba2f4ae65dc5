"""The first operators of exported programs refuse wrong tensors and convert others."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor

import pyrcnn
from pyrcnn import InputError
from pyrcnn.deploy.programs.accept import ANY, Wanted, accept_images, accept_pixels
from pyrcnn.models import preprocess
from pyrcnn.models.preprocess import Resizing
from tests.reference import preprocess as reference

FIXED = Wanted((2, 3, 8, 12), torch.float32, False, "cpu")
FREE = Wanted((ANY, 3, ANY, ANY), torch.float32, True, "cpu")


def some(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=str)
def test_pixels_of_other_strides_and_dtypes_are_converted(dtype: torch.dtype, layout: torch.memory_format) -> None:
    pixels = torch.randn(2, 3, 8, 12).to(dtype).contiguous(memory_format=layout)
    sizes = torch.tensor([[8, 12], [7, 9]], dtype=torch.int32)
    for wanted in (FIXED, FREE):
        got, got_sizes = accept_pixels(pixels, sizes, wanted, multiple=4)
        torch.testing.assert_close(got, pixels.float(), rtol=0, atol=0)
        torch.testing.assert_close(got_sizes, sizes.long(), rtol=0, atol=0)
        assert got.is_contiguous(memory_format=torch.channels_last if wanted.channels_last else torch.contiguous_format)


def test_results_are_copies() -> None:
    pixels, sizes = torch.randn(2, 3, 8, 12), torch.tensor([[8, 12]] * 2)
    got, got_sizes = accept_pixels(pixels, sizes, FIXED)
    assert got.data_ptr() != pixels.data_ptr()
    assert got_sizes.data_ptr() != sizes.data_ptr()


SIZES = torch.zeros(2, 2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("pixels", "sizes", "wanted", "message"),
    [
        (torch.zeros(1, 3, 8, 12), SIZES[:1], FIXED, r"pixels must be \[2, 3, 8, 12\], .*got \[1, 3, 8, 12\]"),
        (torch.zeros(2, 3, 8, 8), SIZES, FIXED, r"pixels must be \[2, 3, 8, 12\]"),
        (torch.zeros(3, 8, 12), SIZES, FIXED, r"pixels must be .*got \[3, 8, 12\]"),
        (torch.zeros(2, 3, 8, 10), SIZES, FREE, r"pixels must be \[N, 3, H, W\] with H and W multiples of 4, "),
        (torch.zeros(2, 3, 8, 12, dtype=torch.int32), SIZES, FIXED, "pixels must be float32, .*got Int"),
        (torch.zeros(2, 3, 8, 12), SIZES[:1], FIXED, r"sizes must be \[2, 2\]"),
        (torch.zeros(2, 3, 8, 12), SIZES.float(), FIXED, "sizes must be int64 or int32, got Float"),
        (torch.zeros(2, 3, 8, 12), SIZES, FIXED._replace(device="cuda"), "pixels must be on cuda, .*got cpu"),
        (
            torch.zeros(2, 3, 8, 12),
            SIZES,
            FIXED._replace(isa="avx1024"),
            "pixels must be computed with default, .*got avx1024",
        ),
    ],
)
def test_other_pixels_are_refused(pixels: Tensor, sizes: Tensor, wanted: Wanted, message: str) -> None:
    with pytest.raises(InputError, match=message):
        accept_pixels(pixels, sizes, wanted, multiple=4)


@pytest.mark.parametrize("isa", ["default", "avx2", "avx512"])
def test_a_program_for_a_better_processor_is_refused(isa: str) -> None:
    order, best = ["default", "avx2", "avx512"], pyrcnn.build_info()["cpu_best"]
    arguments = some(1, 3, 4, 4), FREE._replace(isa=isa), Resizing("none", 1, 1, 1, "raw")
    if order.index(isa) <= order.index(best):
        accept_images(*arguments)
        return
    message = f"images must be computed by a processor with {isa}, .*got one with {best}"
    with pytest.raises(InputError, match=message):
        accept_images(*arguments)


CASES = [
    Resizing("square", 40, 40, 1, "caffe"),
    Resizing("torchvision", 24, 40, 8, "imagenet"),
    Resizing("detectron2", 24, 40, 8, "detectron2"),
    Resizing("paper", 24, 40, 8, "paper"),
    Resizing("none", 1, 1, 16, "unit"),
]


def expected(images: Tensor, r: Resizing) -> tuple[Tensor, ...]:
    """By the reference implementation, with Python's rules for the size."""
    old = (images.shape[2], images.shape[3])
    square = r.rule == "square"
    new = preprocess.keep_aspect(*old, r.longer) if square else preprocess.RESIZES[r.rule][0](*old, r.shorter, r.longer)
    padded = (r.longer, r.longer) if square else tuple(-(-side // r.multiple) * r.multiple for side in new)
    n = preprocess.normalization(r.convention)
    if r.rule == "detectron2":
        images = torch.stack([reference.resize_by_pillow(image, *new) for image in images])
    pixels = reference.preprocess(list(images), padded, n.mean, n.std, [new] * len(images), n.shift, n.white,
                                  legacy=square, bgr=n.bgr, pad_normalized=not square)  # fmt: skip
    scales = torch.tensor([new[0] / old[0], new[1] / old[1]])
    return pixels, torch.tensor([new] * len(images)), scales.expand(len(images), 2)


@pytest.mark.parametrize("resizing", CASES, ids=lambda r: r.rule)
@pytest.mark.parametrize("channels_last", [False, True])
def test_images_equal_the_reference(resizing: Resizing, channels_last: bool) -> None:
    for shape in ((2, 3, 19, 30), (1, 3, 33, 7)):
        images = some(*shape)
        strided = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # as an image of a file lies in memory
        wanted = FREE._replace(channels_last=channels_last)
        for given in (images, strided):
            pixels, sizes, scales = accept_images(given, wanted, resizing)
            for got, want in zip((pixels, sizes, scales), expected(images, resizing), strict=True):
                torch.testing.assert_close(got.double(), want.double(), rtol=2e-5, atol=1e-3)  # of 0..255
            layout = torch.channels_last if channels_last else torch.contiguous_format
            assert pixels.is_contiguous(memory_format=layout)


def test_sizes_are_those_of_the_models() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        old = (rng.randint(1, 60), rng.randint(1, 60))
        shorter = rng.randint(1, 12)
        for rule in ("square", "torchvision", "detectron2", "paper"):
            r = Resizing(rule, shorter, shorter + rng.randint(0, 12), 1, "raw")
            new = (preprocess.keep_aspect(*old, r.longer) if rule == "square"
                   else preprocess.RESIZES[rule][0](*old, r.shorter, r.longer))  # fmt: skip
            _, sizes, _ = accept_images(torch.zeros(1, 3, *old, dtype=torch.uint8), FREE, r)
            assert tuple(sizes[0].tolist()) == new, (rule, old, r)


@pytest.mark.parametrize(
    ("images", "changes", "message"),
    [
        (some(1, 4, 8, 8), {}, r"images must be \[N, 3, H, W\], .*got \[1, 4, 8, 8\]"),
        (some(3, 8, 8), {}, r"images must be \[N, 3, H, W\], .*got \[3, 8, 8\]"),
        (some(1, 3, 0, 8), {}, r"images must be .*got \[1, 3, 0, 8\]"),
        (some(1, 3, 8, 8).int(), {}, "images must be uint8 or floating point, got Int"),
        (some(1, 3, 8, 8), {"rule": "pillow"}, "resize must be square, torchvision, detectron2, paper or none"),
        (some(1, 3, 8, 8), {"longer": 0}, r"shorter, longer and multiple must be from 1 to 2\^31, got 40, 0 and 1"),
        (some(1, 3, 8, 8), {"rule": "paper", "multiple": 2**63 - 1}, "shorter, longer and multiple must be from 1 to"),
        (some(1, 3, 8, 8), {"rule": "none", "longer": 2**31}, "shorter, longer and multiple must be from 1 to"),
    ],
)
def test_other_images_are_refused(images: Tensor, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        accept_images(images, FREE, CASES[0]._replace(**changes))


@pytest.mark.parametrize("resizing", CASES, ids=lambda r: r.rule)
def test_fake_kernels_agree(resizing: Resizing) -> None:
    n = preprocess.normalization(resizing.convention)
    arguments = (*resizing[:4], n.mean, n.std, n.shift, n.white, n.bgr, torch.float32, True, "cpu", "")
    torch.library.opcheck(torch.ops.pyrcnn._accept_images.default, (some(2, 3, 9, 13), [2, 3, 9, 13], *arguments),
                          test_utils=("test_schema", "test_faketensor"))  # fmt: skip
    pixels = (torch.rand(2, 3, 8, 12), SIZES, [2, 3, 8, 12], 4, torch.float16, True, "cpu", "")
    torch.library.opcheck(
        torch.ops.pyrcnn._accept_pixels.default, pixels, test_utils=("test_schema", "test_faketensor")
    )
