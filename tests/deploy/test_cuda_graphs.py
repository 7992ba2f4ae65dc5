"""Which sizes are captured, kept and dropped: with captures that need no GPU, and on a GPU with real graphs."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pyrcnn import InputError, deploy
from pyrcnn.deploy.cuda_graphs import REMEMBERED, CudaCaptures, Replayed, copy_into_, numerics
from pyrcnn.models.outputs import PaddedDetections
from tests.deploy.recorded import Recording, recorded, run_unseen
from tests.deploy.small import images, small


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

        def replay(x: Tensor, out: PaddedDetections | None = None) -> PaddedDetections:
            assert len(x) == size
            self.log.append(("replay", size))
            results = PaddedDetections(x + 1, x, x, x)
            return results if out is None else copy_into_(out, results)

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


SETTINGS = {
    "autocast": lambda: torch.set_autocast_enabled("cuda", True),
    "autocast_dtype": lambda: torch.set_autocast_dtype("cuda", torch.bfloat16),
    "matmul_precision": lambda: torch.set_float32_matmul_precision("high"),
    "matmul_tf32": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "convolution_tf32": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "deterministic": lambda: torch.use_deterministic_algorithms(True),
    "cudnn_deterministic": lambda: setattr(torch.backends.cudnn, "deterministic", True),
    "cudnn": lambda: setattr(torch.backends.cudnn, "enabled", False),
}


@pytest.fixture
def settings() -> Iterator[None]:
    """Restores what :data:`SETTINGS` change."""
    cudnn = torch.backends.cudnn
    kept = torch.get_autocast_dtype("cuda"), torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.enabled
    yield
    torch.set_autocast_enabled("cuda", False)
    torch.set_autocast_dtype("cuda", kept[0])
    torch.set_float32_matmul_precision(kept[1])
    cudnn.allow_tf32, cudnn.enabled, cudnn.deterministic = kept[2], kept[3], False
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_that_choose_kernels_are_part_of_the_size(name: str, settings: None) -> None:
    record = Recorder(capacity=4)
    before = numerics()
    if name == "autocast_dtype":
        torch.set_autocast_enabled("cuda", True)
    record(3)
    SETTINGS[name]()
    assert record(3, 3) == [("capture", 3), ("replay", 3), ("replay", 3)]
    assert numerics() != before
    with torch.inference_mode(), torch.no_grad():  # not these: captures are made under their own
        assert record(3) == [("replay", 3)]


def test_results_are_written_where_the_caller_wants_them() -> None:
    record = Recorder(capacity=1)
    with torch.inference_mode():  # tensors made in it may be written to outside
        out = record.run(torch.zeros(3))
    for x in (torch.ones(3), torch.full((3,), 2.0)):
        assert record.run(x, out=out) is out
        assert torch.equal(out.boxes, x + 1)
        assert torch.equal(out.scores, x)
    size = record.run(torch.zeros(4))  # finds no room
    record.log.clear()
    assert Recorder(capacity=0).run(torch.ones(4), out=size) is size
    assert torch.equal(size.boxes, torch.full((4,), 2.0))


def test_what_cannot_be_captured_is_remembered_within_bounds() -> None:
    record = Recorder(failing=tuple(range(REMEMBERED + 5)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record(*range(REMEMBERED + 5))
    assert len(record.run.refused) == REMEMBERED


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
        def replay(x: Tensor, out: None) -> PaddedDetections:
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


def test_what_is_given_up_has_run_before() -> None:
    record = Recorder(capacity=1)
    record.run.settle = lambda: record.log.append(("settle", len(record.run.captured)))
    record(1)
    assert record(2, 2) == [("eager", 2), ("settle", 1), ("capture", 2), ("replay", 2)]


@pytest.mark.parametrize("name", ["centernet_mobilenet_v2_fpn_512", "faster_rcnn_mobilenet_v2_fpn"])
def test_a_graph_is_right_for_other_images(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels recorded for one batch must compute the next batch: nothing may be decided on the host."""
    log = recorded(monkeypatch)
    model = small(name)
    captures = CudaCaptures()
    run = Replayed(torch.no_grad()(model.predict_padded), 1, captures.capture, captures.settle)
    pixels, sizes, _ = model.preprocess(images())
    with torch.inference_mode():
        first = run(pixels, sizes)
    kept = [x.clone() for x in first]
    for other in (pixels.flip(0, 3), torch.zeros_like(pixels), torch.randn_like(pixels)):
        expected = model.predict_padded(other, sizes.flip(0))
        log.clear()
        found = run(other, sizes.flip(0))
        assert log == ["wait", "replay", "done"]
        for x, y in zip(found, expected, strict=True):
            assert torch.equal(x, y)
    assert all(torch.equal(x, y) for x, y in zip(first, kept, strict=True))  # results are fresh tensors


def test_a_replay_into_given_tensors_only_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operator that the host issues for a replay, the graph's own apart: none makes a tensor."""
    recorded(monkeypatch)
    model = small("centernet_mobilenet_v2_fpn_512")
    captures = CudaCaptures()
    run = Replayed(torch.no_grad()(model.predict_padded), 1, captures.capture)
    pixels, sizes, _ = model.preprocess(images())
    out = run(pixels, sizes)
    places = [x.data_ptr() for x in out]
    issued: list[Any] = []
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: run_unseen(graph.calls))
    other = pixels.flip(0, 3)
    with Recording(issued):
        assert run(other, sizes, out=out) is out
    assert {call[0] for call in issued} == {torch.ops.aten.copy_.default}
    assert [x.data_ptr() for x in out] == places
    for x, y in zip(out, model.predict_padded(other, sizes), strict=True):
        assert torch.equal(x, y)
    wrong = (
        (tuple(out), "out must be PaddedDetections, got tuple"),
        (out._replace(boxes=out.boxes[:1]), r"out.boxes must be \[2, 10, 4\].*got \[1, 10, 4\]"),
        (out._replace(counts=out.counts.int()), "out.counts must be .*torch.int64.*got .*torch.int32"),
    )
    for bad, message in wrong:
        with pytest.raises(InputError, match=message):
            run(pixels, sizes, out=bad)


def test_a_capture_keeps_its_own_casts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under autocast a weight's cast that was kept from before the capture would be freed with autocast's region."""
    recorded(monkeypatch)
    kept: list[bool] = []
    captures = CudaCaptures()
    run = Replayed(lambda x: kept.append(torch.is_autocast_cache_enabled()) or PaddedDetections(x, x, x, x), 1,
                   captures.capture)  # fmt: skip
    run(torch.zeros(2))
    assert kept == [False] * 3
    assert torch.is_autocast_cache_enabled()


def test_the_order_of_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    log = recorded(monkeypatch)
    captures = CudaCaptures()
    run = Replayed(lambda x: log.append("run") or PaddedDetections(x + 1, x, x, x), 1, captures.capture,
                   captures.settle)  # fmt: skip
    run(torch.zeros(2))
    capture = ["wait", "aside waits", "run", "run", "here waits", "begin", "run", "end"]
    assert log == [*capture, "wait", "replay", "done"]
    log.clear()
    run(torch.zeros(3))
    run(torch.zeros(3))
    assert log == ["run", "settle", *capture, "wait", "replay", "done"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["centernet_mobilenet_v2_fpn_512", "faster_rcnn_mobilenet_v2_fpn"])
def test_replays_equal_the_eager_model_and_allocate_nothing(name: str) -> None:
    model = small(name).cuda()
    fast, eager = deploy.optimize(model), deploy.optimize(model, graphs=0)
    pixels, sizes, _ = fast.preprocess(images())
    first = fast.predict_padded(pixels, sizes)
    kept = [x.clone() for x in first]
    fast.predict_padded(pixels.flip(0), sizes)
    assert all(torch.equal(x, y) for x, y in zip(first, kept, strict=True))  # results are fresh tensors
    for x, y in zip(first, eager.predict_padded(pixels, sizes), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)
    del first, kept
    torch.cuda.synchronize()
    kept_of_memory = ("num_alloc_retries", "num_device_alloc", "num_device_free", "segment.all.allocated",
                      "reserved_bytes.all.current", "allocated_bytes.all.current")  # fmt: skip
    out = fast.predict_padded(pixels, sizes)
    for kept_too, given in (((), None), (("allocation.all.allocated", "requested_bytes.all.allocated"), out)):
        before = torch.cuda.memory_stats()
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(5):
                fast.predict_padded(pixels, sizes, out=given)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        after = torch.cuda.memory_stats()
        for kind in (*kept_of_memory, *kept_too):
            assert after.get(kind) == before.get(kind), kind
    for x, y in zip(out, eager.predict_padded(pixels, sizes), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["centernet_mobilenet_v2_fpn_512", "faster_rcnn_mobilenet_v2_fpn"])
def test_inference_never_waits_and_can_be_captured(name: str) -> None:
    """The model itself, without what deploy adds: no synchronisation, and its kernels alone decide the results."""
    model = small(name).cuda()
    pixels, sizes, _ = model.preprocess(images())
    with torch.no_grad():
        model.predict_padded(pixels, sizes)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            model.predict_padded(pixels, sizes)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        captures = CudaCaptures()
        replay = captures.capture(model.predict_padded, (pixels, sizes))
        other = pixels.flip(0, 3)
        for x, y in zip(replay(other, sizes), model.predict_padded(other, sizes), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_keep_the_settings_of_their_capture() -> None:
    model = small("centernet_mobilenet_v2_fpn_512").cuda()
    fast, eager = deploy.optimize(model), deploy.optimize(model, graphs=0)
    pixels, sizes, _ = fast.preprocess(images())
    for _ in range(2):  # captured, then replayed after autocast's casts were freed
        for lower in (False, True):
            with torch.autocast("cuda", torch.bfloat16, enabled=lower):
                found, wanted = (m.predict_padded(pixels, sizes) for m in (fast, eager))
            torch.testing.assert_close(found.scores, wanted.scores, rtol=1e-2 if lower else 1e-4, atol=1e-3)
    assert len(fast.run.captured) == 2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_sizes_come_and_go_on_several_streams() -> None:
    model = small("centernet_mobilenet_v2_fpn_512").cuda()
    fast, eager = deploy.optimize(model, graphs=1), deploy.optimize(model, graphs=0)
    batches = [fast.preprocess(images()[:n])[:2] for n in (1, 2)]
    for turn in range(12):
        pixels, sizes = batches[turn // 2 % 2]
        with torch.cuda.stream(torch.cuda.Stream()), torch.inference_mode(turn % 3 == 0):
            torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
            found = fast.predict_padded(pixels, sizes)
            torch.cuda.current_stream().synchronize()
        for x, y in zip(found, eager.predict_padded(pixels, sizes), strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-3)
