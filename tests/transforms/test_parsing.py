"""Augmentation as text: what it may name, and that nothing of it is run."""

from __future__ import annotations

import dataclasses

import pytest

from pyrcnn import InputError, data
from pyrcnn.data.transforms.parsing import TRANSFORMS


def test_names_and_arguments() -> None:
    parsed = data.parse_transforms("HorizontalFlip,ScaleJitter(0.6, 1.3),\n ColorJitter(hue=0.02, brightness=0)")
    assert parsed == (data.HorizontalFlip(), data.ScaleJitter(0.6, 1.3), data.ColorJitter(0, hue=0.02))
    assert data.parse_transforms(" ") == ()
    assert data.parse_transforms("ShortSide([640, 800], between=True),") == (data.ShortSide((640, 800), between=True),)
    assert hash(data.parse_transforms("HorizontalFlip(pairs=[[0, 1]])")[0])  # lists become tuples


@pytest.mark.parametrize("name", list(TRANSFORMS))
def test_the_text_of_a_transform_gives_it_back(name: str) -> None:
    (transform,) = data.parse_transforms(name + ("(8, 10)" if name == "Resize" else ""))
    assert getattr(data, name) is type(transform)
    assert dataclasses.is_dataclass(transform)
    assert data.parse_transforms(repr(transform)) == (transform,)


@pytest.mark.parametrize(("text", "message"), [
    ("Blur", r"^augment must name transforms \(ColorJitter, ColorJitterTF, HorizontalFlip, .*\), got 'Blur'$"),
    ("__import__('os').system('touch /tmp/x')", "^augment must be transforms such as"),
    ("exec('1')", "^augment must name transforms"),
    ("ScaleJitter(foo=1)", r"^augment: ScaleJitter takes low, high, size, fill, min_visible, got 'foo'$"),
    ("ScaleJitter(1, 2, None, 4, 0.5, 6)", "takes low, high, size, fill, min_visible, got 6 arguments"),
    ("ScaleJitter(1, low=2)", "takes low once, got it twice"), ("ScaleJitter(**{})", r"got '\*\*'"),
    ("ScaleJitter(low=open('x'))", "ScaleJitter's low must be a literal such as 0.5"),
    ("ScaleJitter('a')", "ScaleJitter.low must be float, got 'a'"), ("ScaleJitter(high=1e999)", "high must be finite"),
    ("Resize", "Resize must have values for short, long, got 0"), ("Resize(3, 3.5)", "Resize.long must be int"),
    ("HorizontalFlip(2)", r"HorizontalFlip's probability must be in \[0, 1\], got 2"),
    ("HorizontalFlip HorizontalFlip", "^augment must be transforms such as"), ("(", "^augment must be transforms"),
    ("data.Pad", "^augment must be"), ("[Pad]", "^augment must be"), ("Pad if 1 else Pad", "^augment must be"),
    ("Pad(" + "-" * 100_000 + "1)", "^augment"), ("(" * 5000, "^augment"), ("Pad\0", "^augment"),
])  # fmt: skip
def test_mistakes_are_one_line(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        data.parse_transforms(text)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
