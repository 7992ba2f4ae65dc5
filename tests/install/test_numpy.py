"""pyrcnn.numpy gives the results of pyrcnn.ops, reads arrays where they lie, and does not import torch."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import pyrcnn
import pyrcnn.numpy as pn
from pyrcnn import ops
from tests.pages import blocks

Array = NDArray[Any]
FUNCTIONS = [name for name in pn.__all__ if name != "Peaks"]


def boxes(*shape: int, seed: int = 0) -> Array:
    g = np.random.default_rng(seed)
    corner = g.uniform(0, 80, (*shape, 2))
    return np.concatenate([corner, corner + g.uniform(1, 40, (*shape, 2))], -1)


def numbers(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def calls(dtype: str) -> dict[str, tuple[Any, ...]]:
    """Arguments of each function; floating-point arrays have this dtype."""

    def cast(array: Array) -> Array:
        return array.astype(dtype)

    cells = np.array([[0, 5, 2], [7, 1, 3]])
    return {
        "nms": (cast(boxes(300)), cast(numbers(300)), 0.3),
        "batched_nms": (cast(boxes(300)), cast(numbers(300)), np.arange(300) % 3, 0.3),
        "nms_padded": (cast(boxes(2, 90)), cast(numbers(2, 90)), 0.3, 40, np.arange(180).reshape(2, 90) % 2, -0.5,
                       np.array([80, 90])),
        "box_iou": (cast(boxes(2, 30)), cast(boxes(2, 20, seed=2))),
        "heatmap_peaks": (cast(numbers(2, 3, 16, 12)), 7),
        "decode_centers": (cells, cells, cast(numbers(2, 2, 8, 8)), cast(numbers(2, 2, 8, 8, seed=3)), 4.0),
        "roi_detections": (cast(numbers(2, 50, 4)), cast(numbers(2, 50, 12)), cast(boxes(2, 50)), np.array([50, 40]),
                           np.array([[100, 120], [90, 120]])),
    }  # fmt: skip


def equal(found: Any, wanted: Any) -> None:
    if isinstance(wanted, torch.Tensor):
        found, wanted = (found,), (wanted,)
    assert len(found) == len(wanted)
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.numpy().dtype
        np.testing.assert_array_equal(a, b.numpy())


def as_tensors(arguments: tuple[Any, ...]) -> list[Any]:
    return [torch.from_numpy(np.ascontiguousarray(a)) if isinstance(a, np.ndarray) else a for a in arguments]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_results_are_those_of_ops(name: str, dtype: str) -> None:
    arguments = calls(dtype)[name]
    equal(getattr(pn, name)(*arguments), getattr(ops, name)(*as_tensors(arguments)))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_and_defaults_are_those_of_ops(name: str) -> None:
    def described(function: Callable[..., Any]) -> dict[str, Any]:
        return {p.name: p.default for p in inspect.signature(function).parameters.values() if p.name != "fmt"}

    assert described(getattr(pn, name)) == described(getattr(ops, name))


@pytest.mark.parametrize("how", ["every second", "reversed", "read-only", "unaligned", "Fortran"])
def test_any_memory_layout(how: str) -> None:
    given = boxes(100).astype(np.float32)
    changed = {
        "every second": lambda: np.repeat(given, 2, 0)[::2],
        "reversed": lambda: given[::-1].copy()[::-1],
        "read-only": lambda: np.frombuffer(given.tobytes(), np.float32).reshape(given.shape),
        "unaligned": lambda: np.frombuffer(b"x" + given.tobytes(), np.float32, offset=1).reshape(given.shape),
        "Fortran": lambda: np.asfortranarray(given),
    }[how]()
    scores = numbers(100).astype(np.float32)
    np.testing.assert_array_equal(pn.nms(changed, scores, 0.3), pn.nms(given, scores, 0.3))


def test_results_outlive_their_arguments_and_are_writable() -> None:
    result = pn.box_iou(boxes(50), boxes(60))
    wanted = ops.box_iou(torch.from_numpy(boxes(50)), torch.from_numpy(boxes(60))).numpy()
    result += 1
    np.testing.assert_array_equal(result, wanted + 1)


def test_categories_of_any_number_type() -> None:
    b, s, category = boxes(60), numbers(60), np.arange(60) % 3
    wanted = pn.batched_nms(b, s, category, 0.3)
    for kind in (np.uint8, np.int32, np.float32, bool):
        expected = wanted if kind is not bool else pn.batched_nms(b, s, (category > 0).astype(int), 0.3)
        np.testing.assert_array_equal(pn.batched_nms(b, s, category.astype(kind), 0.3), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pn.nms(boxes(3), numbers(4), 0.5), "scores must"),
        (lambda: pn.nms(boxes(3)[:, :3], numbers(3), 0.5), "boxes must be"),
        (lambda: pn.nms(boxes(3).astype(complex), numbers(3), 0.5), "boxes must be an array of float32"),
        (lambda: pn.nms(boxes(3).astype(">f4"), numbers(3), 0.5), "boxes must be an array of float32"),
        (lambda: pn.nms([[0, 1], [2]], numbers(3), 0.5), "boxes must be an array"),
        (lambda: pn.heatmap_peaks(numbers(1, 1, 4, 4), -1), "k must"),
        (lambda: pn.box_iou(np.float32(1), boxes(2)), "boxes1 must"),
        (lambda: pn.box_iou(boxes(2, 3), boxes(4, 3)), "shape mismatch"),
    ],
)
def test_bad_arguments(call: Callable[[], object], message: str) -> None:
    with pytest.raises(pyrcnn.InputError, match=message) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_empty_arrays() -> None:
    assert pn.nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 0.5).shape == (0,)
    assert pn.box_iou(boxes(0), boxes(3)).shape == (0, 3)


def test_other_threads_run_meanwhile() -> None:
    """Calls from several threads give what one call gives."""
    b, s = boxes(2000).astype(np.float32), numbers(2000).astype(np.float32)
    wanted, found = pn.nms(b, s, 0.5), []
    threads = [threading.Thread(target=lambda: found.extend(pn.nms(b, s, 0.5) for _ in range(20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    for result in found:
        np.testing.assert_array_equal(result, wanted)


def test_torch_is_not_imported_and_can_be_later() -> None:
    code = """
import sys
import numpy as np
import pyrcnn.numpy
b = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
assert pyrcnn.numpy.nms(b, np.array([0.8, 0.9], np.float32), 0.5).tolist() == [1]
assert not [name for name in sys.modules if name.partition(".")[0] == "torch"]
import torch
assert torch.ops.pyrcnn.nms(torch.from_numpy(b), torch.tensor([0.8, 0.9]), 0.5).tolist() == [1]
"""
    folder = Path(pyrcnn.__file__).parents[1]
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder, check=False)
    assert run.returncode == 0, run.stderr


def test_the_page_runs() -> None:
    names: dict[str, Any] = {}
    for snippet in blocks("guides/numpy.md", "python"):
        exec(snippet, names)
    assert names["boxes"].shape == (1, 100, 4)
