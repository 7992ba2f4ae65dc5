"""Which sizes are captured, kept and given up; with captures that need no GPU, and on one with real graphs."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, deploy
from pyrcnn.deploy.graphs import Replayed
from pyrcnn.models.outputs import PaddedDetections
from tests.deploy.small import pictures, small


class Recorder:
    """Counts what is captured, replayed and run eagerly; sizes in ``failing`` cannot be captured."""

    def __init__(self, capacity: int = 2, failing: tuple[int, ...] = (), error: type[Exception] = RuntimeError):
        self.log: list[tuple[str, int]] = []
        self.failing, self.error = failing, error
        self.run = Replayed(self.function, capacity, self.capture)

    def function(self, x: Tensor) -> PaddedDetections:
        self.log.append(("eager", len(x)))
        return PaddedDetections(x + 1, x, x, x)

    def capture(self, function: Any, inputs: tuple[Tensor, ...]) -> Any:
        size = len(inputs[0])
        if size in self.failing:
            raise self.error("out of memory")
        self.log.append(("capture", size))

        def replay(x: Tensor) -> PaddedDetections:
            assert len(x) == size
            self.log.append(("replay", size))
            return PaddedDetections(x + 1, x, x, x)

        return replay

    def __call__(self, *sizes: int) -> list[tuple[str, int]]:
        """What happens when inputs of these sizes come."""
        self.log.clear()
        for size in sizes:
            x = torch.randn(size)
            assert torch.equal(self.run(x).boxes, x + 1)
        return self.log


def test_a_size_is_captured_once_and_replayed() -> None:
    assert Recorder()(5, 5, 6, 5) == [
        ("capture", 5), ("replay", 5), ("replay", 5), ("capture", 6), ("replay", 6), ("replay", 5),
    ]  # fmt: skip


def test_sizes_that_come_once_do_not_push_out_the_kept() -> None:
    record = Recorder()
    record(1, 2)
    assert record(3, 4, 5, 6, 1, 2) == [*(("eager", n) for n in (3, 4, 5, 6)), ("replay", 1), ("replay", 2)]
    assert len(record.run.seen) == 2  # memory does not grow with the number of sizes


def test_a_size_that_returns_takes_the_longest_unused_place() -> None:
    record = Recorder()
    record(1, 2, 1)
    assert record(3, 3) == [("eager", 3), ("capture", 3), ("replay", 3)]  # instead of 2
    assert record(1, 2) == [("replay", 1), ("eager", 2)]
    assert len(record.run.captured) == 2


def test_dtype_and_memory_format_are_part_of_the_size() -> None:
    record = Recorder(capacity=4)
    for x in (torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4).to(memory_format=torch.channels_last),
              torch.zeros(2, 3, 4, 4, dtype=torch.float64)):  # fmt: skip
        record.run(x)
    assert [what for what, _ in record.log] == ["capture", "replay"] * 3


def test_what_cannot_be_captured_runs_without_and_warns_once() -> None:
    record = Recorder(failing=(7,))
    with pytest.warns(UserWarning, match=r"no CUDA graph for inputs \[\[7\]\].*out of memory"):
        assert record(7) == [("eager", 7)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert record(7, 7, 8) == [("eager", 7), ("eager", 7), ("capture", 8), ("replay", 8)]


def test_bad_arguments_are_errors_not_warnings() -> None:
    with pytest.raises(InputError, match="out of memory"):
        Recorder(failing=(7,), error=InputError)(7)


def test_no_capacity_means_no_capture() -> None:
    assert Recorder(capacity=0)(1, 1) == [("eager", 1), ("eager", 1)]


def test_threads_take_turns() -> None:
    record = Recorder(capacity=1)
    inside: list[int] = []

    def capture(function: Any, inputs: tuple[Tensor, ...]) -> Any:
        def replay(x: Tensor) -> PaddedDetections:
            inside.append(1)
            assert len(inside) == 1
            threading.Event().wait(0.002)
            inside.pop()
            return PaddedDetections(x, x, x, x)

        return replay

    record.run.capture = capture
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(5):
                record.run(torch.zeros(3))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["centernet_mobilenet_v2_fpn_512", "faster_rcnn_mobilenet_v2_fpn"])
def test_replays_equal_the_eager_model_and_allocate_nothing(name: str) -> None:
    model = small(name).cuda()
    fast, eager = deploy.optimize(model), deploy.optimize(model, graphs=0)
    pixels, sizes, _ = fast.preprocess(pictures())
    first = fast.predict_padded(pixels, sizes)
    kept = [x.clone() for x in first]
    fast.predict_padded(pixels.flip(0), sizes)
    assert all(torch.equal(x, y) for x, y in zip(first, kept, strict=True))  # results are fresh tensors
    for x, y in zip(first, eager.predict_padded(pixels, sizes), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)
    del first, kept
    torch.cuda.synchronize()
    segments = torch.cuda.memory_stats()["num_alloc_retries"], torch.cuda.memory_reserved()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            fast.predict_padded(pixels, sizes)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert segments == (torch.cuda.memory_stats()["num_alloc_retries"], torch.cuda.memory_reserved())
