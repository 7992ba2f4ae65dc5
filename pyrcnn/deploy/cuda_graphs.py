"""One CUDA graph per input size: the whole detector in one launch, without the cost of issuing its kernels."""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError, require

Function = Callable[..., NamedTuple]

REMEMBERED = 256  # sizes that could not be captured

_one_at_a_time = threading.Lock()  # a process may capture one graph at a time, whichever model it is of


def numerics() -> tuple[Any, ...]:
    """The settings of the process and the thread that choose kernels: a graph keeps those it was captured under.

    Gradient and inference mode are not among them: captures are made under their own.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    return (
        torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else None,
        matmul.fp32_precision,
        cudnn.conv.fp32_precision,
        torch.are_deterministic_algorithms_enabled(),
        cudnn.deterministic,
        cudnn.enabled,
    )


def check_out(out: Any, results: NamedTuple) -> None:
    """``out`` must be tensors like ``results``, else :class:`pyrcnn.InputError`."""
    require(type(out) is type(results), f"out must be {type(results).__name__}, got {type(out).__name__}")
    for name, to, x in zip(results._fields, out, results, strict=True):
        require((to.shape, to.dtype, to.device) == (x.shape, x.dtype, x.device),
                f"out.{name} must be {list(x.shape)}, {x.dtype} on {x.device}, "
                f"got {list(to.shape)}, {to.dtype} on {to.device}")  # fmt: skip


def written(results: Any, out: Any) -> Any:
    """``results`` copied into ``out``, which has been checked."""
    with torch.inference_mode():  # where tensors may be written to whether or not they were made in it
        for to, x in zip(out, results, strict=True):
            to.copy_(x)
    return out


def call(function: Function, *inputs: Tensor, out: Any = None) -> Any:
    """``function(*inputs)``, copied into ``out`` where it is given."""
    results = function(*inputs)
    if out is None:
        return results
    check_out(out, results)
    return written(results, out)


@contextmanager
def _own_casts() -> Iterator[None]:
    """Autocast's casts of weights belong into the graph: those that it keeps are freed when its region ends."""
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)


class CudaCaptures:
    """How :class:`Replayed` captures and gives up CUDA graphs of one model.

    The graphs share one memory pool, so they run one after the other. Each owns the tensors that its inputs are copied
    to and those that its results are copied from, so neither the caller's inputs nor earlier results are ever aliased.
    With ``out`` a replay allocates nothing; without, only the results, from torch's cache.
    """

    def __init__(self) -> None:
        self.pool = torch.cuda.graph_pool_handle()
        self.done = torch.cuda.Event()  # of the replay before, which another thread may have issued to another stream

    def settle(self) -> None:
        """Wait until no graph runs: the memory of one that is given up is free for any stream from then on."""
        self.done.synchronize()

    def capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        """``function`` for inputs like these, to be called on the device that is current now."""
        # Tensors made in inference mode could not be written to outside it.
        with _one_at_a_time, torch.inference_mode(False), torch.no_grad(), _own_casts():
            return self._capture(function, inputs)

    def _capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Function:
        here = torch.cuda.current_stream()
        here.wait_event(self.done)
        held = tuple(torch.empty_like(x).copy_(x) for x in inputs)  # the graph reads from these addresses
        aside = torch.cuda.Stream()  # of this device: torch's own capture stream is on the one that captured first
        aside.wait_stream(here)
        try:
            with torch.cuda.stream(aside):
                for _ in range(2):  # libraries choose their algorithms and make their workspaces outside the graph
                    function(*held)
        finally:
            here.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=aside, capture_error_mode="thread_local"):
            outputs = function(*held)

        def replay(*given: Tensor, out: Any = None) -> NamedTuple:
            if out is not None:
                check_out(out, outputs)
            torch.cuda.current_stream().wait_event(self.done)
            for to, x in zip(held, given, strict=True):
                to.copy_(x)
            graph.replay()
            results = type(outputs)(*(x.clone() for x in outputs)) if out is None else written(outputs, out)
            self.done.record()
            return results

        return replay


class Replayed:
    """``function`` of tensors, captured once per shapes of its arguments and replayed from then on.

    At most ``capacity`` captures are kept. While there is room a size is captured when it first comes. Later a new size
    runs uncaptured until it comes again while still remembered; it then takes the place of the one unused for longest:
    pictures that are all of different sizes do not push out what is used. A size that cannot be captured (the memory
    does not suffice, say) runs uncaptured ever after, with one warning. Threads take turns. ``settle`` is called before
    a capture is given up. Here a size is the arguments' shapes, dtypes, memory formats and devices, together with the
    settings under which a call comes (:func:`numerics`).

    Results are fresh tensors, or those given as ``out``: of an earlier call of the same size, say.
    """

    def __init__(
        self,
        function: Function,
        capacity: int,
        capture: Callable[[Function, tuple[Tensor, ...]], Function],
        settle: Callable[[], None] = lambda: None,
    ):
        self.function, self.capacity, self.capture, self.settle = function, capacity, capture, settle
        self.captured: OrderedDict[Any, Function] = OrderedDict()  # least recently used first
        self.seen: OrderedDict[Any, None] = OrderedDict()  # sizes that found no room, oldest first
        self.refused: OrderedDict[Any, None] = OrderedDict()  # oldest first
        self.lock = threading.Lock()

    def __call__(self, *inputs: Tensor, out: Any = None) -> NamedTuple:
        """What ``function`` returns, in ``out`` where it is given."""
        key = (*((x.shape, x.stride(), x.dtype, x.device) for x in inputs), numerics())
        with self.lock:
            run = self.captured.get(key) or self._admit(key, inputs)
            if run is not None:
                self.captured.move_to_end(key)
                return run(*inputs, out=out)
        return call(self.function, *inputs, out=out)

    def _admit(self, key: Any, inputs: tuple[Tensor, ...]) -> Function | None:
        if key in self.refused or self.capacity <= 0:
            return None
        if len(self.captured) >= self.capacity and key not in self.seen:
            self.seen[key] = None
            if len(self.seen) > self.capacity:
                self.seen.popitem(last=False)
            return None
        self.seen.pop(key, None)
        if len(self.captured) >= self.capacity:
            self.settle()
            self.captured.popitem(last=False)
        try:
            self.captured[key] = self.capture(self.function, inputs)
        except InputError:  # the arguments are wrong, captured or not
            raise
        except RuntimeError as error:
            self.refused[key] = None
            if len(self.refused) > REMEMBERED:
                self.refused.popitem(last=False)
            warnings.warn(f"no CUDA graph for inputs {[list(x.shape) for x in inputs]}, they run without: {error}",
                          stacklevel=4)  # fmt: skip
            return None
        return self.captured[key]
