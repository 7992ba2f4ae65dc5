"""The committed model cards are those that the models give."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from pyrcnn import models
from pyrcnn.checkpoints import cards

spec = importlib.util.spec_from_file_location("model_cards", Path(__file__).parents[2] / "scripts/site/model_cards.py")
model_cards = importlib.util.module_from_spec(spec)
spec.loader.exec_module(model_cards)
CHEAP = ("centernet_mobilenet_v2_fpn_512", "faster_rcnn_mobilenet_v2_fpn", "faster_rcnn_vgg16")


def committed() -> dict[str, dict[str, float]]:
    return json.loads(cards.MEASURED.read_text())


def test_the_document_is_generated() -> None:
    assert model_cards.DOCUMENT.read_text() == model_cards.markdown(), "run python scripts/site/model_cards.py"


@pytest.mark.parametrize("name", models.names())
def test_parameters_are_the_models(name: str) -> None:
    got = model_cards.measure(name, flops=False)
    assert got == {key: committed()[name][key] for key in got}


@pytest.mark.parametrize(
    "name", [name if name in CHEAP else pytest.param(name, marks=pytest.mark.slow) for name in models.names()]
)
def test_flops_are_the_models(name: str) -> None:
    assert model_cards.measure(name) == committed()[name]


def test_flops_are_twice_the_multiply_adds() -> None:
    """VGG-16's convolutions at 600 × 800 by hand, as far as conv5_3, are what the whole detector must exceed."""
    height, width = (committed()["faster_rcnn_vgg16"][side] for side in ("height", "width"))
    assert (height, width) == (608, 800)
    total, inputs = 0, 3
    for scale, widths in enumerate(((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))):
        for outputs in widths:
            total += 2 * 9 * inputs * outputs * (height >> scale) * (width >> scale)
            inputs = outputs
    head = 2 * 300 * (512 * 49 * 4096 + 4096 * 4096 + 4096 * (21 + 80))
    rpn = 2 * (height >> 4) * (width >> 4) * (9 * 512 * 512 + 512 * 9 * 5)
    assert committed()["faster_rcnn_vgg16"]["gflops"] == round((total + head + rpn) / 1e9, 1)


@pytest.mark.parametrize("name", models.names())
def test_every_card_says_where_weights_come_from(name: str) -> None:
    entry = cards.card(name)
    assert entry["name"] == name
    if "zoo" in entry["weights"]:
        assert entry["url"].startswith("http")
        assert entry["licence"]
        fixture = entry["proof"].split()[1]
        assert list((Path(__file__).parents[1] / "fixtures").glob(f"{fixture}*.npz"))
        assert cards.accuracy(entry)
