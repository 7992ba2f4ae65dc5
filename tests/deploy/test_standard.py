"""pyrcnn's operators from standard ones compute the same, so that ONNX holds the same detector."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyrcnn import InputError, deploy, ops
from pyrcnn.deploy import standard
from pyrcnn.deploy.programs.accept import accept_images
from pyrcnn.deploy.programs.modules import FromImages, Shape, program
from pyrcnn.deploy.standard import FROM_STANDARD, to_standard
from pyrcnn.deploy.standard.suppress import NONE, suppress
from tests.cases import OpCase, all_cases
from tests.deploy.small import small
from tests.deploy.test_whole import BATCHES, FASTER, MOBILE, TENSORFLOW, batch, check, detector

HAVE_RUNTIMES = all(importlib.util.find_spec(name) for name in ("onnxscript", "onnxruntime"))


def native_calls(case: OpCase) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The operator and its arguments, for each shape of the case."""
    assert case.native is not None
    for shape in case.shapes.values():
        generator = torch.Generator().manual_seed(1)
        yield case.native(case.inputs(generator, torch.device("cpu"), torch.float32, shape))


CASES = [
    case
    for case in all_cases()
    if case.native is not None
    and any(op in FROM_STANDARD for op, _ in native_calls(case))
    # what programs of detectors do not do: anchors repeated, crops of images in any order, levels of other sizes
    and case.name not in {"decode_boxes", "crop_and_resize", "roi_align", "roi_align_levels"}
]


@pytest.fixture
def _stable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let equal scores keep their order, as in ONNX and in the native operators; ``torch.topk`` does not promise it."""

    def best(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
        if scores.shape[-1] < k:
            scores = F.pad(scores, (0, k), value=NONE)
        values, index = torch.sort(scores, dim=-1, descending=True, stable=True)
        return values[..., :k], index[..., :k]

    for module in (standard.suppress, standard.boxes, standard.centers):
        monkeypatch.setattr(module, "best", best)


@pytest.mark.usefixtures("_stable")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_operator_computes_the_same(case: OpCase) -> None:
    compared = 0
    for op, arguments in native_calls(case):
        got = FROM_STANDARD[op](*arguments)
        if got is NotImplemented:
            continue
        wanted = op(*arguments)
        compared += 1
        pairs = [(got, wanted)] if isinstance(wanted, Tensor) else zip(got, wanted, strict=True)
        for ours, theirs in pairs:
            assert ours.dtype == theirs.dtype
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert compared


def test_boxes_of_all_images_have_the_same_anchors() -> None:
    g = torch.Generator().manual_seed(0)
    deltas, anchors = torch.randn(2, 9, 4, generator=g), torch.tensor([[1.0, 2, 9, 7]]).repeat(9, 1)
    arguments = (deltas, anchors, 1, [10.0, 10.0, 5.0, 5.0], 1e9, [])
    op = torch.ops.pyrcnn.decode_boxes.default
    torch.testing.assert_close(FROM_STANDARD[op](*arguments), op(*arguments))


def test_levels_are_pooled_apart() -> None:
    g = torch.Generator().manual_seed(0)
    features = [torch.randn(2, 8, 64 // s, 96 // s, generator=g) for s in (1, 2, 4)]
    corners = torch.rand(40, 2, 2, generator=g) * 350
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    rois = torch.cat([torch.arange(40)[:, None] % 2, boxes], 1)
    arguments = (features, rois, [1 / 4, 1 / 8, 1 / 16], 5, 5, 2, False, 224.0, 4)
    op = torch.ops.pyrcnn.roi_align.default
    torch.testing.assert_close(FROM_STANDARD[op](*arguments), op(*arguments))


def test_crops_of_equally_many_boxes() -> None:
    g = torch.Generator().manual_seed(0)
    boxes = torch.rand(6, 4, generator=g) * 1.2 - 0.1
    index = torch.arange(2).repeat_interleave(3)
    op = torch.ops.pyrcnn.crop_and_resize.default
    for rows, columns in ((4, 5), (1, 1)):
        arguments = (torch.randn(2, 7, 9, 11, generator=g), boxes, index, rows, columns, 0.0)
        torch.testing.assert_close(FROM_STANDARD[op](*arguments), op(*arguments), rtol=1e-4, atol=1e-4)


def test_strides_of_zero_are_those_of_torchvision() -> None:
    g = torch.Generator().manual_seed(0)
    maps = [(24, 36), (3, 5)]
    logits = [torch.randn(1, 3, h, w, generator=g) for h, w in maps]
    deltas = [torch.randn(1, 12, h, w, generator=g) * 0.1 for h, w in maps]
    cells = [torch.tensor([[-16.0, -16, 16, 16], [-8, -16, 8, 16], [-16, -8, 16, 8]])] * 2
    size = torch.tensor([[90, 140]])
    wanted = ops.generate_proposals(logits, deltas, cells, [(4, 4), (96 // 3, 144 // 5)], size, 50, 20, 0.7)
    got = ops.generate_proposals(logits, deltas, cells, [(4, 4), (0, 0)], size, 50, 20, 0.7)
    from_standard = FROM_STANDARD[torch.ops.pyrcnn.generate_proposals.default](
        logits, deltas, cells, [4.0, 4.0, 0.0, 0.0], size, 50, 20, 0.7, 0.0, [1.0] * 4, 4.0, 0.0
    )
    for ours, others, theirs in zip(got, from_standard, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        torch.testing.assert_close(others, theirs, rtol=1e-4, atol=1e-4)


def test_suppression_keeps_as_many_as_it_may() -> None:
    boxes = torch.tensor([[[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 0, 29, 9], [40, 0, 49, 9], [60, 0, 69, 9]]])
    scores = torch.tensor([[0.5, 0.9, 0.8, NONE, 0.1]])
    assert suppress(boxes, scores, 0.5, 5).tolist() == [[False, True, True, False, True]]
    assert suppress(boxes, scores, 0.5, 2).tolist() == [[False, True, True, False, False]]


def test_what_standard_operators_cannot_do_is_refused(tmp_path: Path) -> None:
    model = small("centernet_mobilenet_v2_fpn_512_kpts", keypoint_ranking="gaussian")
    with pytest.raises(InputError, match=r"model must not use the operator pyrcnn.match_keypoints in a way"):
        to_standard(program(FromImages(deploy.networks.replace_networks(model), Shape(), False, "")))


@pytest.mark.slow
@pytest.mark.skipif(not HAVE_RUNTIMES, reason="needs onnxscript and onnxruntime")
@pytest.mark.parametrize("name", [MOBILE, FASTER, TENSORFLOW])
def test_onnx_takes_images_of_any_size(name: str, tmp_path: Path) -> None:
    import onnx
    import onnxruntime

    model = detector(name)
    path = deploy.export(model, tmp_path / "model.onnx", "onnx")
    file = onnx.load(path)
    onnx.checker.check_model(file)
    assert {(o.domain, o.version) for o in file.opset_import if o.domain in ("", "ai.onnx")} == {("", 18)}
    assert {node.domain for node in file.graph.node} == {""}
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def in_onnxruntime(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(value) for value in session.run(None, {"images": images.contiguous().numpy()})]

    check(in_onnxruntime, model, batches=BATCHES)
    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def in_openvino(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(value.copy()) for value in compiled([images.contiguous().numpy()]).values()]

    within = 0.1 if name == TENSORFLOW else 0.01  # random weights multiply what rounding changes
    check(in_openvino, model, within, BATCHES)


class Preprocessing(FromImages):
    """The first operator of a whole detector alone."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return accept_images(images, self.wanted, self.resizing)


@pytest.mark.skipif(not HAVE_RUNTIMES, reason="needs onnxscript and onnxruntime")
def test_pillows_resize_has_the_same_bits_in_onnx(tmp_path: Path) -> None:
    import onnxruntime

    model = deploy.networks.replace_networks(small("faster_rcnn_resnet50_fpn_detectron2"))
    module = Preprocessing(model, Shape(), False, "")
    standard.onnx.onnx_program(module).save(tmp_path / "pixels.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "pixels.onnx"))
    for sizes in (*BATCHES, (2, 128, 192)):
        images = batch(*sizes).contiguous()
        for got, wanted in zip(session.run(None, {"images": images.numpy()}), module(images), strict=True):
            torch.testing.assert_close(torch.from_numpy(got), wanted, rtol=0, atol=0)
