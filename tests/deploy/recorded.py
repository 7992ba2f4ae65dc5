"""torch.cuda's graphs on a CPU: a capture notes what runs, operator by operator; a replay runs it again."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves


class Recording(TorchDispatchMode):
    def __init__(self, calls: list[Any]):
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        out = operator(*args, **(kwargs or {}))
        self.calls.append((operator, args, kwargs or {}, out))
        return out


@torch.no_grad()
def run_again(calls: list[Any]) -> None:
    """The same operators on the same tensors, results written to where they were written before."""
    for operator, args, kwargs, out in calls:
        for to, x in zip(tree_leaves(out), tree_leaves(operator(*args, **kwargs)), strict=True):
            if isinstance(to, Tensor) and to.untyped_storage().data_ptr() != x.untyped_storage().data_ptr():
                to.copy_(x)


def run_unseen(calls: list[Any]) -> None:
    """The same, unseen by a :class:`Recording` around it: a GPU runs a graph without the host's operators."""
    with _disable_current_modes():
        run_again(calls)


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace what :class:`pyrcnn.deploy.cuda_graphs.CudaCaptures` uses; returns the log of its calls."""
    log: list[str] = []

    class Graph:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def replay(self) -> None:
            log.append("replay")
            run_again(self.calls)

    class Event:
        def record(self) -> None:
            log.append("done")

        def synchronize(self) -> None:
            log.append("settle")

    def stream(name: str) -> Any:
        return SimpleNamespace(
            wait_event=lambda event: log.append("wait"), wait_stream=lambda other: log.append(f"{name} waits")
        )

    @contextmanager
    def graph(into: Graph, pool: Any, stream: Any, capture_error_mode: str):
        assert pool == "pool"
        log.append("begin")
        with Recording(into.calls):
            yield
        log.append("end")

    @contextmanager
    def on_stream(to: Any):
        yield

    here = stream("here")
    for name, stand_in in {
        "graph_pool_handle": lambda: "pool",
        "Event": Event,
        "Stream": lambda: stream("aside"),
        "CUDAGraph": Graph,
        "graph": graph,
        "stream": on_stream,
        "current_stream": lambda: here,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return log
