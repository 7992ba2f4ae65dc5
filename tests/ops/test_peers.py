"""Suppression and RoIAlign against stored results of torchvision and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pyrcnn.ops import batched_nms, nms, nms_padded, roi_align
from tests.ops.peer_inputs import BINS, FILE, MODES, RATIOS, SCALE, Suppression, regions, suppressions

RESULTS = np.load(FILE)


@pytest.mark.parametrize("case", list(suppressions()), ids=lambda case: case.name)
def test_kept_boxes_and_their_order_are_torchvisions(case: Suppression, device) -> None:
    expected = torch.from_numpy(RESULTS[f"kept/{case.name}"].astype(np.int64))
    boxes, scores = case.boxes.to(device), case.scores.to(device)
    for dtype in {case.boxes.dtype, torch.float32}:  # few digits: the IoU is the same in float32
        b, s = boxes.to(dtype), scores.to(dtype)
        if case.idxs is None:
            assert torch.equal(nms(b, s, case.threshold).cpu(), expected)
            groups = None
        else:
            assert torch.equal(batched_nms(b, s, case.idxs.to(device), case.threshold).cpu(), expected)
            groups = case.idxs.to(device)[None]
        if len(b) <= 20_000:
            indices, counts = nms_padded(b[None], s[None], case.threshold, len(expected) + 3, groups)
            assert counts.tolist() == [len(expected)]
            assert torch.equal(indices[0, : len(expected)].cpu(), expected)


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize(("mode", "aligned"), MODES)
def test_roi_align_is_onnx_runtimes(mode: str, aligned: bool, ratio: int, device) -> None:
    features, rois = (t.to(device) for t in regions())
    expected = torch.from_numpy(RESULTS[f"pooled/{mode}/{ratio}"])
    for layout in (torch.contiguous_format, torch.channels_last):
        got = roi_align(features.to(memory_format=layout), rois, BINS, SCALE, ratio, aligned).cpu()
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
