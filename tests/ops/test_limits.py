"""No argument crashes an operator: sizes, devices, coordinates and types beyond all bounds are errors that name it."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, ops
from tests.cases import OpCase, all_cases
from tests.ops import checks

P = torch.ops.pyrcnn
CASES = [pytest.param(case, id=case.name) for case in all_cases()]
ONES = [1.0] * 4
UNIT = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
INVERSE_OF_7 = 0x6DB6DB6DB6DB6DB7  # 7 times this is 1 modulo 2^64
INDEPENDENT = {"grid_anchors"}  # its levels may be on different devices


def boxes(*size: int) -> Tensor:
    corner = torch.rand(*size, 2) * 10
    return torch.cat([corner, corner + 1], -1)


def hollow(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return a tensor without elements whose other sizes are as large as they may be in no real one."""
    return torch.zeros(1, dtype=dtype).as_strided(size, [0] * len(size))


def centers(k: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    return torch.rand(1, k, 2), torch.rand(1, k) + 1, torch.zeros(1, k, dtype=torch.int64)


# name → (call, the argument that the error names); public functions and what exported programs call
OVERFLOWS: dict[str, tuple[Callable[[], Any], str]] = {
    "grid": (lambda: ops.grid_anchors([(2**31, 2**31)], [8.0], [torch.zeros(4, 4)]), "feature_sizes"),
    "native grid": (lambda: P.grid_anchors(torch.zeros(4, 4), 2**31, 2**31, 8.0, 8.0, 0.0), "feature_sizes"),
    "grid of one cell too many": (lambda: P.grid_anchors(torch.zeros(1, 4), 2**62, 4, 8.0, 8.0, 0.0), "feature_sizes"),
    "grid without anchors": (lambda: P.grid_anchors(torch.zeros(0, 4), 2**62, 4, 8.0, 8.0, 0.0), "feature_sizes"),
    "negative grid": (lambda: P.grid_anchors(torch.zeros(4, 4), -(2**63), 2, 8.0, 8.0, 0.0), "feature_sizes"),
    **{
        f"{name} {repeat}": (lambda call=call, repeat=repeat: call(repeat), argument)
        for repeat in (INVERSE_OF_7, 2**61, 2**62, 2**63 - 1)
        for name, call, argument in (
            ("decode", lambda r: P.decode_boxes(torch.ones(5, 4), boxes(7), r, ONES, 4.0, []), "repeat"),
            ("encode", lambda r: P.encode_boxes(torch.ones(5, 4), boxes(7), r, ONES), "repeat"),
            (
                "decode backward",
                lambda r: P._decode_boxes_backward(torch.ones(5, 4), torch.ones(5, 4), boxes(7), r, ONES, 4.0, True),
                "repeat",
            ),
            (
                "encode backward",
                lambda r: P._encode_boxes_backward(torch.ones(5, 4), torch.ones(5, 4), boxes(7), r, ONES, True),
                "repeat",
            ),
        )
    },
    "peaks": (lambda: ops.heatmap_peaks(torch.rand(4, 1, 9, 9), 2**62), "k"),
    "peaks per class": (lambda: P.heatmap_peaks(torch.rand(4, 3, 9, 9), 2**60, 3, True, 0.0, True), "k"),
    "kept boxes": (lambda: ops.nms_padded(boxes(3, 5), torch.rand(3, 5), 0.5, 2**62), "max_output"),
    "kept boxes of no image": (lambda: ops.nms_padded(boxes(0, 5), torch.rand(0, 5), 0.5, 2**62), "max_output"),
    "gaussians": (lambda: ops.draw_gaussians((1, 2**31, 2**31, 4), *centers()), "shape"),
    "crops": (
        lambda: P.crop_and_resize(torch.rand(1, 3, 9, 9), boxes(2), torch.zeros(2).long(), 2**62, 4, 0.0),
        "rows",
    ),
    "gradient of crops": (
        lambda: P._crop_and_resize_backward(
            torch.ones(2, 3, 4, 4), boxes(2), torch.zeros(2).long(), 2**32, 2**31, 2**31, False
        ),
        "height",
    ),
    "gradient of RoIAlign": (
        lambda: P._roi_align_backward(
            torch.ones(2, 3, 4, 4), torch.zeros(2, 5), [2**29], [2**29], 2**40, [1.0], 2, False, 1.0, 1, False, False
        ),
        "heights",
    ),
    "gradient of RoIPool": (
        lambda: P._roi_pool_backward(
            torch.ones(2, 3, 4, 4), torch.zeros(2, 3, 4, 4).int(), torch.zeros(2, 5), 1.0, 1, 2**33, 2**33, False, False
        ),
        "height",
    ),
    "batch": (lambda: ops.preprocess([torch.rand(3, 4, 4)], (2**61, 2**61), *UNIT, sizes=[(4, 4)]), "size"),
    "IoU without boxes": (lambda: P.box_iou(hollow(0, 2**62, 4), hollow(0, 2**62, 4)), "boxes1"),
    "IoU of too many": (lambda: P.box_iou(boxes(1).expand(2**40, 4), boxes(1).expand(2**40, 4)), "boxes2"),
    "matches": (
        lambda: P.match_boxes(hollow(0, 2**62, 4), hollow(0, 9, 4), None, None, 0.5, 0.4, True, 0.5), "anchors"
    ),
    "suppression": (lambda: P.nms_padded(hollow(0, 2**62, 4), hollow(0, 2**62), 0.5, 0, None, 0.0, None), "boxes"),
    "channels of a chain": (
        lambda: P._conv_chains([torch.rand(1, 4, 5, 5)], [torch.zeros(1, 5, 16)],
                               [0, -1, 1, 0, 4, 2**63 - 1, 2**63 - 1, 1] + [0] * 9, [0.0] * 8), "channels",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", OVERFLOWS)
def test_sizes_whose_product_overflows_are_refused(kind: str) -> None:
    call, argument = OVERFLOWS[kind]
    with pytest.raises((ValueError, RuntimeError)) as error:
        call()
    assert str(error.value).startswith(argument), str(error.value)


FITS_NOT: dict[str, tuple[Callable[[], Any], str]] = {
    "kept boxes": (lambda: ops.nms_padded(boxes(1, 5), torch.rand(1, 5), 0.5, 10**13), "max_output"),
    "peaks": (lambda: ops.heatmap_peaks(torch.rand(1, 1, 9, 9), 10**13), "k"),
    "gaussians": (lambda: ops.draw_gaussians((1, 1, 10**7, 10**7), *centers()), "shape"),
    "crops": (
        lambda: ops.crop_and_resize(torch.rand(1, 3, 9, 9), boxes(5), torch.zeros(5).long(), (10**6, 10**6)),
        "output_size",
    ),
    "anchors": (lambda: ops.grid_anchors([(10**6, 10**7)], [8.0], [torch.zeros(4, 4)]), "feature_sizes"),
    "batch": (lambda: ops.preprocess([torch.rand(3, 4, 4)], (10**6, 10**8), *UNIT, sizes=[(4, 4)]), "size"),
    "IoU": (lambda: ops.box_iou(boxes(1).expand(10**6, 4), boxes(1).expand(10**8, 4)), "boxes2"),
    "detections": (
        lambda: ops.roi_detections(torch.rand(1, 2, 3), torch.rand(1, 2, 4), boxes(1, 2), torch.tensor([2]),
                                   torch.tensor([[9, 9]]), max_detections=10**13), "max_detections",
    ),
    "a dense copy": (
        lambda: ops.nms(boxes(1).expand(2**30, 4), torch.rand(1).expand(2**30), 0.5), "nms is out of memory for boxes ["
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FITS_NOT)
def test_results_that_do_not_fit_into_memory_name_the_argument(kind: str) -> None:
    call, argument = FITS_NOT[kind]
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30), limits[1]))  # so that no machine has enough
    try:
        with pytest.raises((ValueError, RuntimeError)) as error:
            call()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    assert str(error.value).startswith(argument), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("case", CASES)
def test_a_tensor_on_another_device_is_named(case: OpCase, generator: torch.Generator) -> None:
    for shape in case.shapes.values():
        inputs = case.inputs(generator, torch.device("cpu"), case.dtypes[0], shape)
        if len(checks.tensors(inputs)) == 1 or case.name in INDEPENDENT:
            continue
        for name, value in inputs.items():
            for wrong in range(len(checks.tensors(value))):
                count = iter(range(len(checks.tensors(value))))
                mixed = checks.map_tensors(lambda t: t.to("meta") if next(count) == wrong else t, value)
                with pytest.raises(InputError, match=r"^\w+(\[\d+\])? must be on the device of \w+(\[\d+\])?, .*got"):
                    case.call(**{**inputs, name: mixed})


@pytest.mark.parametrize("case", [p for p in CASES if p.values[0].native])
def test_native_operators_name_a_tensor_on_another_device(case: OpCase, generator: torch.Generator) -> None:
    assert case.native
    inputs = case.inputs(generator, torch.device("cpu"), case.dtypes[0], next(iter(case.shapes.values())))
    overload, arguments = case.native(inputs)
    total = len(checks.tensors(arguments))
    for wrong in range(total if total > 1 else 0):
        count = iter(range(total))
        mixed = checks.map_tensors(lambda t: t.to("meta") if next(count) == wrong else t, arguments)
        with pytest.raises(InputError, match="must be on the device of"):
            overload(*mixed)


WIDE = [2**24 - 1, 2**24, 2**24 + 1, 2**24 + 2, 2**24 + 3, 2**24 + 11, 2**25 + 3]


@pytest.mark.parametrize("width", WIDE)
def test_crops_of_maps_wider_than_float32_counts(width: int) -> None:
    features = torch.zeros(1, 1, 1, width)
    features[..., -1], features[..., 0] = 2.0, 1.0
    crop = ops.crop_and_resize(features, torch.tensor([[0, 0.0, 1, 1.0]]), torch.tensor([0]), (1, 3))
    assert crop.flatten().tolist() == [1.0, 0.0, 2.0]


@pytest.mark.parametrize("width", WIDE[1::2])
def test_gaussians_on_maps_wider_than_float32_counts(width: int) -> None:
    for x in (2.0**24 - 2, 1e30, math.nan):
        maps = ops.draw_gaussians(
            (1, 1, 1, width), torch.tensor([[[x, 0.0]]]), torch.full((1, 1), 2.0), torch.zeros(1, 1).long()
        )
        distance = torch.arange(width - 40, width, dtype=torch.float64) - x
        wanted = torch.exp(-0.5 * distance**2 / 4).nan_to_num(0).float()
        torch.testing.assert_close(maps.flatten()[-40:], wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("width", "legacy"), [(2**24 + 3, False), (2**24 + 11, True)])
def test_images_wider_than_float32_counts_keep_their_pixels(width: int, legacy: bool) -> None:
    image = torch.zeros(1, 1, width, dtype=torch.uint8)
    image[..., -300:] = torch.arange(300) % 251
    same = ops.preprocess(
        [image.expand(3, 1, width)], (1, width), *UNIT, legacy=legacy, white=255.0, dtype=torch.float16
    )
    assert torch.equal(same[0, 0, 0, -300:], image[0, 0, -300:].half())


@pytest.mark.parametrize("width", [2**24 + 1, 2**24 + 2])
def test_regions_at_the_end_of_maps_wider_than_float32_counts(width: int) -> None:
    features = torch.zeros(1, 1, width, 2, dtype=torch.float16).permute(0, 3, 1, 2)
    features[..., -4:] = 1.0
    far = torch.tensor([[0, width - 3.0, 0, width + 90.0, 1], [0, 1e30, 0, 2e30, 1], [0, -1e30, 0, -1e29, 1]])
    assert ops.roi_pool(features, far, (1, 1))[:, 0].flatten().tolist() == [1.0, 0.0, 0.0]
    pooled = ops.roi_align(features, far, (1, 2), sampling_ratio=2)[:, 0].flatten()
    assert pooled[2:].tolist() == [0.0] * 4
    assert 0 <= pooled[0] <= 1


WASTEFUL: dict[str, Callable[[], Any]] = {
    "RoIAlign, no channels": lambda: ops.roi_align(torch.rand(1, 0, 9, 9), torch.zeros(99, 5), 65536),
    "RoIPool, no channels": lambda: ops.roi_pool(torch.rand(1, 0, 9, 9), torch.zeros(99, 5), 65536),
    "RoIAlign's gradient": lambda: P._roi_align_backward(
        torch.zeros(99, 0, 65536, 65536), torch.zeros(99, 5), [9], [9], 2**40, [1.0], 2, False, 1.0, 1, False, False
    ),
    "RoIPool's gradient": lambda: P._roi_pool_backward(
        torch.zeros(99, 0, 65536, 65536), torch.zeros(99, 0, 65536, 65536).int(), torch.zeros(99, 5), 1.0, 2**40, 9, 9,
        False, False,
    ),
    "crops, no channels": lambda: ops.crop_and_resize(
        torch.rand(1, 0, 9, 9), boxes(99), torch.zeros(99).long(), (2**20, 2**20)
    ),
    "anchors, none per cell": lambda: ops.grid_anchors([(2**25, 2**25)], [1.0], [torch.zeros(0, 4)]),
    "decoded, none per cell": lambda: ops.decode_anchors(
        [hollow(1, 0, 2**25, 2**25)], [torch.zeros(0, 4)], [1.0], torch.tensor([[9, 9]])
    ),
    "IoU with none": lambda: ops.box_iou(boxes(1).expand(2**40, 4), torch.zeros(0, 4)),
    "matches of no anchors": lambda: ops.match_boxes(torch.zeros(0, 4), hollow(2**40, 0, 4), 0.5, 0.4),
    "crops of no boxes": lambda: ops.crop_and_resize(
        torch.rand(1).expand(1, 1, 2**20, 2**20), torch.zeros(0, 4), torch.zeros(0).long(), (2, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WASTEFUL)
def test_results_without_elements_cost_nothing(kind: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    result = WASTEFUL[kind]()
    assert all(t.numel() == 0 for t in checks.tensors(result))
    assert time.perf_counter() - began < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 << 10  # KiB


@pytest.mark.parametrize("ratio", [257, 32768, 65536, 2**31, 2**63 - 1])
def test_more_samples_than_anyone_needs_are_refused(ratio: int) -> None:
    with pytest.raises(InputError, match=r"^sampling_ratio must be at most 256, got"):
        ops.roi_align(torch.rand(1, 1, 9, 9), torch.zeros(1, 5), 7, sampling_ratio=ratio)
    with pytest.raises(InputError, match=r"^sampling_ratio must be at most 256, got"):
        ops.roi_align_levels([torch.rand(1, 1, 9, 9)], torch.zeros(1, 5), 7, [1.0], sampling_ratio=ratio)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("wrong", [object(), "text", {}], ids=["object", "str", "dict"])
def test_arguments_of_a_wrong_type_are_named(case: OpCase, wrong: object, generator: torch.Generator) -> None:
    inputs = case.inputs(generator, torch.device("cpu"), case.dtypes[0], next(iter(case.shapes.values())))
    for name, value in inputs.items():
        if isinstance(value, (bool, str)) or value is None:
            continue
        with pytest.raises(InputError) as error:
            case.call(**{**inputs, name: wrong})
        assert str(error.value).startswith(name), str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [2**63, 2**64, -(2**70)])
def test_integers_beyond_64_bits_are_named(size: int) -> None:
    with pytest.raises(InputError, match=r"^max_output must be an integer of at most 64 bits, got"):
        ops.nms_padded(boxes(1, 5), torch.rand(1, 5), 0.5, size)
    with pytest.raises(InputError, match=r"^k must be an integer of at most 64 bits, got"):
        ops.heatmap_peaks(torch.rand(1, 1, 9, 9), size)


@pytest.mark.parametrize("size", [(2**40, 37, 0, 5), (2**31, 37, 6, 0), (0, 37, 2**20, 2**20)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_crops_of_maps_without_cells_are_outside_at_once(size: tuple[int, ...], dtype: torch.dtype) -> None:
    """The work depends on the number of boxes, not on that of the maps."""
    began = time.process_time()
    out = P.crop_and_resize(hollow(*size, dtype=dtype), boxes(3), torch.zeros(3, dtype=torch.int64), 3, 3, -1.5)
    assert out.eq(-1.5).all()
    assert time.process_time() - began < 10  # with a loop over all maps, a minute


@pytest.mark.parametrize("pool", [ops.roi_pool, ops.roi_align])
@pytest.mark.parametrize("size", [(2**40, 37, 0, 5), (2**31, 37, 6, 0)])
def test_memory_of_pooling_depends_on_the_regions_alone(pool: Callable[..., Tensor], size: tuple[int, ...]) -> None:
    rois = torch.tensor([[5.0, 0, 0, 4, 4], [2.0**30, 1, 1, 3, 3], [5.0, 1, 1, 2, 2]])
    assert not pool(hollow(*size), rois, 2).any()


@pytest.mark.parametrize("given", [torch.zeros(0, 5, 4, device="meta"), torch.zeros(100_000, 4), torch.ones(2)])
def test_a_tensor_is_no_sequence_of_numbers(given: Tensor) -> None:
    """Its elements would be read, and put into the error message, one by one."""
    with pytest.raises(InputError, match=r"^size must be a sequence .*, got Tensor$"):
        ops.decode_boxes(torch.ones(3, 4), boxes(3), size=given)
    with pytest.raises(InputError, match=r"^weights must be a sequence .*, got Tensor$"):
        ops.encode_boxes(boxes(3), boxes(3), weights=given)
