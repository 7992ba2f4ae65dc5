"""CenterNet's operators, crops and preprocessing against results of TensorFlow's Object Detection API."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, ops

FIXTURES = Path(__file__).parents[1] / "fixtures"
POST = np.load(FIXTURES / "centernet_post.npz")
TARGETS = np.load(FIXTURES / "centernet_targets.npz")
IMAGES = np.load(FIXTURES / "tf_preprocess.npz")
CROPS = np.load(FIXTURES / "tf_crops.npz")
FORMATS = pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
SPREADS = [0.26, *[0.25] * 2, *[0.35] * 2, *[0.79] * 2, *[0.72] * 2, *[0.62] * 2, *[1.07] * 2, *[0.89] * 4]


def maps(array: np.ndarray, nhwc: bool) -> Tensor:
    """Return a stored NHWC array as [N, C, H, W], in NHWC or NCHW memory format."""
    nchw = torch.from_numpy(array).permute(0, 3, 1, 2)
    return nchw if nhwc else nchw.contiguous()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("width", [1, 3, 8, 15, 16, 17, 31, 32, 33, 100])
def test_both_memory_formats_find_the_same_peaks_at_the_ends_of_rows(width: int, dtype: torch.dtype, generator) -> None:
    """NCHW compares whole SIMD packs of a row; plateaus, NaN and row ends must not change results."""
    x = torch.randint(-3, 4, (2, 3, 7, width), generator=generator).to(dtype)
    x[torch.rand(x.shape, generator=generator) < 0.1] = torch.nan
    for k in (5, 40, 3 * 7 * width):
        planes = ops.heatmap_peaks(x, k)
        pixels = ops.heatmap_peaks(x.contiguous(memory_format=torch.channels_last), k)
        highest = torch.nn.functional.max_pool2d(x.nan_to_num(-torch.inf), 3, 1, 1)
        assert int((planes[0] > 0).sum()) == int((x == highest).flatten(1).sum(1).clamp(max=k).sum())
        for ours, theirs in zip(planes, pixels, strict=True):
            assert torch.equal(ours, theirs)


@FORMATS
@pytest.mark.parametrize("name", "abcdefg")
def test_peaks_are_tensorflows(name: str, nhwc: bool) -> None:
    options = ast.literal_eval(str(POST[f"topk_{name}_args"]))
    found = ops.heatmap_peaks(
        maps(POST["topk_map"], nhwc),
        options["k"],
        kernel=options["max_pool_kernel_size"],
        sigmoid=False,
        tolerance=1e-6,
        per_class=options.get("per_channel", False),
    )
    scores, classes, ys, xs = (t.reshape(2, -1).numpy() for t in found)
    real = POST[f"topk_{name}_scores"] > 0
    assert (scores == POST[f"topk_{name}_scores"]).all()
    for got, key in ((classes, "c"), (ys, "y"), (xs, "x")):
        assert (got == POST[f"topk_{name}_{key}"])[real].all()


@FORMATS
@pytest.mark.parametrize("model", ["multi", "single"])
def test_detections_are_tensorflows(model: str, nhwc: bool) -> None:
    heatmap, size, offset = (
        maps(POST[f"pp_{model}_head:{head}"], nhwc) for head in ("object_center", "box/scale", "box/offset")
    )
    scores, classes, ys, xs = ops.heatmap_peaks(heatmap, int(POST[f"pp_{model}_max_boxes"]), tolerance=1e-6)
    assert np.abs(scores.numpy() - POST[f"pp_{model}_default:detection_scores"]).max() < 2e-7
    assert (classes.numpy() == POST[f"pp_{model}_default:detection_classes"]).all()
    boxes = ops.decode_centers(ys, xs, size, offset, stride=1.0)[..., [1, 0, 3, 2]]
    assert (boxes.numpy() == POST[f"pp_{model}_default:detection_boxes_strided"]).all()


RANKINGS = {
    "min": {},
    "sdr": {"ranking": "score_by_distance"},
    "ssdr": {"ranking": "score_by_scaled_distance"},
    "gauss": {"ranking": "gaussian", "spreads": SPREADS},
    "nobox": {},
    "wide": {"box_scale": 2.0, "max_distance": 1.0, "unmatched_score": 0.05},
}


def match(nhwc: bool, boxes: bool = True, **options: object) -> tuple[Tensor, Tensor]:
    ys, xs = (torch.from_numpy(POST[f"box_{axis}"]).long() for axis in "yx")
    heatmap, regression, offset = (maps(POST[name], nhwc) for name in ("kp_heat", "kp_reg", "kp_off_per"))
    given = torch.from_numpy(POST["box_strided"])[..., [1, 0, 3, 2]].contiguous() if boxes else None
    options = {"stride": 1.0, "candidates": 20, "sigmoid": False, "tolerance": 1e-6, **options}
    return ops.match_keypoints(ys, xs, heatmap, regression, offset, given, **options)  # type: ignore[arg-type]


@FORMATS
@pytest.mark.parametrize("name", RANKINGS)
def test_keypoints_are_tensorflows(name: str, nhwc: bool) -> None:
    keypoints, scores = match(nhwc, boxes=name != "nobox", **RANKINGS[name])
    assert (keypoints.flip(-1).numpy() == POST[f"refine_{name}_yx"]).all()
    assert np.abs(scores.numpy() - POST[f"refine_{name}_scores"]).max() < 1e-6


def test_keypoints_outside_the_image_are_clipped_as_in_tensorflow() -> None:
    sizes = torch.from_numpy(POST["box_true_shapes"])[:, :2]
    keypoints, scores = match(nhwc=False, image_sizes=sizes / 4, **RANKINGS["wide"])
    normalised = keypoints.flip(-1) * 4 / sizes[:, None, None]
    assert np.abs(normalised.numpy() - POST["kpnorm_clip1_yx"]).max() < 1e-6
    assert (scores.numpy() == POST["kpnorm_clip1_scores"]).all()


def sigma_of(height: Tensor, width: Tensor, overlap: float = 0.7) -> Tensor:
    area, total = height * width, height + width

    def root(a: float, b: Tensor, c: Tensor) -> Tensor:
        return (-b + torch.sqrt(b * b - 4 * a * c)) / 2

    first = root(1, -total, area * (1 - overlap) / (1 + overlap))
    second = root(4, -2 * total, (1 - overlap) * area)
    third = root(4 * overlap, 2 * overlap * total, (overlap - 1) * area)
    return (2 * torch.floor(first.minimum(second).minimum(third).clamp(min=0)) + 1) / 6


@FORMATS
def test_target_maps_are_tensorflows(nhwc: bool) -> None:
    height, width = TARGETS["center_heatmap"].shape[1:3]
    boxes = torch.from_numpy(TARGETS["in_boxes"]) * torch.tensor([height, width, height, width])
    centers = ((boxes[..., :2] + boxes[..., 2:]) / 2).flip(-1)
    sigmas = sigma_of(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])
    one_hot, weights = (torch.from_numpy(TARGETS[name]) for name in ("in_classes", "in_weights"))
    drawn = ops.draw_gaussians((3, 5, height, width), centers, sigmas, one_hot.argmax(-1), weights, channels_last=nhwc)
    assert np.abs(drawn.permute(0, 2, 3, 1).numpy() - TARGETS["center_heatmap"]).max() < 1e-6

    points = torch.from_numpy(TARGETS["in_keypoints"])[:1].flip(-1) * torch.tensor([width, height])
    spread = (sigmas[:1, :, None] * torch.from_numpy(TARGETS["in_keypoint_std"])).flatten(1)
    people = (weights[:1] * one_hot[:1, :, 0])[..., None].expand(-1, -1, 17).flatten(1)
    channel = torch.arange(17).expand(1, 12, 17).flatten(1)
    drawn = ops.draw_gaussians((1, 17, height, width), points.flatten(1, 2), spread, channel, people, nhwc)
    assert np.abs(drawn.permute(0, 2, 3, 1).numpy() - TARGETS["kpt_heatmap_0"]).max() < 1e-6


def image(index: int) -> Tensor:
    return torch.from_numpy(IMAGES[f"img{index}"]).permute(2, 0, 1)


@pytest.mark.parametrize("index", [0, 1, 3, 5])
def test_legacy_resize_equals_tensorflows_bit_for_bit(index: int) -> None:
    size = tuple(int(v) for v in IMAGES[f"shape{index}"][:2])
    batch = ops.preprocess([image(index)], (64, 64), (0,) * 3, (1,) * 3, [size], white=255.0, legacy=True)
    assert (batch[0].permute(1, 2, 0).numpy() == IMAGES[f"resized{index}"]).all()


@pytest.mark.parametrize(
    ("name", "mean", "std", "options"),
    [
        ("mbv2_od", (0,) * 3, (127.5,) * 3, {"shift": 1.0}),
        ("r50v1fpn", (103.939, 116.779, 123.68), (1,) * 3, {"bgr": True}),
        (
            "hg104tiny_kpts",
            (104.01362025, 114.03422265, 119.9165958),
            (73.6027665, 69.89082075, 70.9150767),
            {"bgr": True},
        ),
    ],
)
def test_normalization_equals_tensorflows_bit_for_bit(name: str, mean, std, options) -> None:
    size = tuple(int(v) for v in IMAGES["shape0"][:2])
    batch = ops.preprocess([image(0)], (64, 64), mean, std, [size], white=255.0, legacy=True, **options)
    assert (batch.permute(0, 2, 3, 1).numpy() == IMAGES[f"norm:{name}"]).all()


@FORMATS
def test_crops_equal_tensorflows_bit_for_bit(nhwc: bool) -> None:
    features = maps(CROPS["crop_features"], nhwc)
    boxes = torch.from_numpy(CROPS["crop_boxes"]).reshape(-1, 4)
    crops = ops.crop_and_resize(features, boxes, torch.arange(2).repeat_interleave(20), 14)
    assert (crops.permute(0, 2, 3, 1).numpy().reshape(CROPS["crop_out14"].shape) == CROPS["crop_out14"]).all()


@pytest.mark.parametrize("sizes", [(0, 4, 4), (2, 0, 4)], ids=["no images", "no rows"])
def test_empty_maps_have_gradients(sizes: tuple[int, int, int], device) -> None:
    n, height, width = sizes
    maps = torch.zeros(n, 2, height, width, device=device, requires_grad=True)
    peaks = ops.heatmap_peaks(maps, 3)
    boxes = ops.decode_centers(peaks.ys, peaks.xs, maps, maps, 4.0)
    (grad,) = torch.autograd.grad(peaks.scores.sum() + boxes.sum(), maps)
    assert grad.shape == maps.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_crops_have_second_derivatives(dtype: torch.dtype, device) -> None:
    features = torch.rand(2, 3, 5, 4, dtype=torch.float64, device=device, requires_grad=True)
    boxes = torch.tensor([[0.1, 0.2, 0.9, 1.3], [1.0, 0.8, 0.0, 0.3]], dtype=dtype, device=device)
    index = torch.tensor([1, 0], device=device)
    torch.autograd.gradgradcheck(lambda x: ops.crop_and_resize(x, boxes, index, (2, 3), 7.0), features)


@FORMATS
def test_a_map_has_no_more_candidates_than_cells(nhwc: bool, device) -> None:
    """A larger ``candidates`` needs no more memory."""
    generator = torch.Generator().manual_seed(0)
    heatmap, regression, offset = (
        maps(torch.randn(2, 6, 5, channels, generator=generator).numpy(), nhwc).to(device) for channels in (3, 6, 2)
    )
    cells, boxes = torch.ones(2, 4, dtype=torch.int64, device=device), torch.tensor([0.0, 0, 24, 20], device=device)
    arguments = (cells, cells, heatmap, regression, offset, boxes.expand(2, 4, 4), 4)
    wanted = ops.match_keypoints(*arguments, candidates=30)
    assert all(map(torch.equal, ops.match_keypoints(*arguments, candidates=2**40), wanted))


@pytest.mark.parametrize("ranking", ["distance", "score_by_distance", "score_by_scaled_distance", "gaussian"])
def test_without_candidates_the_regressed_keypoint_stays(ranking: str, device) -> None:
    cell, nothing = torch.tensor([[1]], device=device), torch.full((1, 1, 4, 4), -torch.inf, device=device)
    half, boxes = torch.full((1, 2, 4, 4), 0.5, device=device), torch.tensor([[[-8.0, -8, 16, 16]]], device=device)
    spreads = (1.0,) if ranking == "gaussian" else ()
    keypoints, scores = ops.match_keypoints(
        *(cell, cell, nothing, half, half, boxes, 4),
        ranking=ranking,  # type: ignore[arg-type]
        spreads=spreads,
        score_threshold=-2.0,
        max_distance=torch.inf,
    )
    assert keypoints.flatten().tolist() == [6.0, 6.0]
    assert scores.flatten().tolist() == pytest.approx([0.1])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float64, torch.bfloat16])
def test_image_sizes_of_all_number_dtypes(dtype: torch.dtype, device) -> None:
    generator = torch.Generator().manual_seed(0)
    cells = [torch.randint(0, 8, (1, 5), generator=generator).to(device) for _ in range(2)]
    maps = [3 * torch.randn(1, c, 8, 8, generator=generator).to(device) for c in (2, 4, 4)]
    sizes = torch.tensor([[20, 24]], device=device)
    wanted = ops.match_keypoints(*cells, *maps, None, 4.0, sizes.float())
    found = ops.match_keypoints(*cells, *maps, None, 4.0, sizes.to(dtype))
    for x, y in zip(found, wanted, strict=True):
        assert torch.equal(x, y)
    with pytest.raises(InputError, match="image_sizes must be floating, int32 or int64"):
        ops.match_keypoints(*cells, *maps, None, 4.0, sizes.bool())
