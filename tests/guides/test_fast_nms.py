"""Each step of examples/fast_nms gives the boxes of the reference, and the page shows all of them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from tests.guides.pages import ROOT
from tests.reference.nms import nms as reference

spec = importlib.util.spec_from_file_location("fast_nms_run", ROOT / "examples/fast_nms/run.py")
assert spec is not None
assert spec.loader is not None
run: ModuleType = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


def inputs() -> list[tuple[Tensor, Tensor]]:
    """Loose and crowded boxes, equal scores, boxes that are equal or have no area, negative scores, and few boxes."""
    cases = [run.loose(400), run.crowded(600), run.loose(1), run.loose(17), (torch.zeros(0, 4), torch.zeros(0))]
    boxes, scores = run.crowded(300)
    cases.append((boxes.round(), (scores * 4).round() / 4 - 0.5))
    cases.append((boxes[:100].repeat(2, 1), scores[:200]))
    odd = run.loose(200)[0]
    odd[::5, 2:] = odd[::5, :2]  # no area
    odd[1::5, 2] = odd[1::5, 0] - 3  # inverted
    odd[2::5] *= 1e-3
    cases.append((odd, scores[:200]))
    return [(boxes.contiguous(), scores.contiguous()) for boxes, scores in cases]


@pytest.mark.slow
@pytest.mark.parametrize("step", run.IDEAS)
def test_step(step: str, tmp_path: Path) -> None:
    nms = run.compiled(step, tmp_path, "-O1", "-Wall", "-Wextra", "-Werror")
    for boxes, scores in inputs():
        for threshold in (0.1, 0.5, 0.75):
            wanted = reference(boxes, scores, threshold).tolist()
            for threads in (1, 3):
                assert nms(boxes, scores, threshold, threads).tolist() == wanted


def test_the_page_has_every_step() -> None:
    page = (ROOT / "docs/understanding/fast_nms.md").read_text()
    table = re.findall(r"^\| (\d?) \| (.+?) \|", page.split("<!-- fast_nms -->")[1], re.M)
    shown = [idea for number, idea in table if number and "threads" not in idea]
    assert shown == list(run.IDEAS.values())
    assert {path.stem for path in (ROOT / "examples/fast_nms").glob("step*.cpp")} == {*run.IDEAS}
