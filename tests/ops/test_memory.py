"""Large results use memory from a cache: live tensors never share it, and they behave as any other tensor."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from pyrcnn import ops

MAP = torch.randn(1, 64, 40, 40, generator=torch.Generator().manual_seed(0))
CHANNELS_LAST = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def pool_many(count: int = 600, layout: str = "nchw") -> Tensor:
    """Return [count, 64, 7, 7]: 7.5 MB for 600."""
    rois = torch.tensor([[0, 4.0, 4, 200, 150]]).repeat(count, 1)
    rois[:, 1] += torch.arange(count) * 0.1
    return ops.roi_align(MAP.contiguous(memory_format=CHANNELS_LAST[layout]), rois, 7, 0.25, 2)


@pytest.mark.parametrize("layout", CHANNELS_LAST)
def test_live_results_have_memory_of_their_own(layout: str) -> None:
    first = pool_many(layout=layout)
    expected = first.clone()
    second = pool_many(layout=layout)
    assert first.data_ptr() != second.data_ptr()
    view = first[3]
    del first
    third = pool_many(layout=layout)  # the view still uses the first one's memory
    third.zero_()
    assert torch.equal(view, expected[3])
    assert torch.equal(second, expected)
    assert second.device == torch.device("cpu")
    assert second.is_contiguous(memory_format=CHANNELS_LAST[layout])


def test_old_contents_of_the_memory_do_not_show() -> None:
    expected = pool_many().clone()
    for count in (600, 560, 610):
        pool_many(count).fill_(torch.nan)
        assert torch.equal(pool_many(600), expected)


def test_results_are_ordinary_tensors() -> None:
    with torch.inference_mode():
        assert pool_many().is_inference()
    out = pool_many()
    assert out.untyped_storage().nbytes() == out.numel() * 4
    leaf = MAP.clone().requires_grad_()
    ops.roi_align(leaf, torch.tensor([[0, 4.0, 4, 200, 150]]).repeat(600, 1), 7, 0.25, 2).mul_(2).sum().backward()
    assert leaf.grad is not None
    assert torch.equal(torch.from_numpy(out.numpy()), out)


def test_threads_allocate_and_free_concurrently() -> None:
    expected, wrong = pool_many().clone(), []

    def work() -> None:
        wrong.extend(i for i in range(5) if not torch.equal(pool_many(), expected))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
