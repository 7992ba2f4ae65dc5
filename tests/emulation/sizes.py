"""Suppression and proposals around the sizes at which their CUDA kernels change what they do.

``python -m tests.emulation.sizes FILE`` saves what the operators give; whoever calls it says by the environment
(see tests/conftest.py) whether those are the CPU's or the emulated ones.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from pyrcnn.ops import batched_nms, generate_proposals, nms, nms_padded
from tests.cases import Inputs
from tests.cases.nms import random_boxes, random_scores
from tests.cases.proposals import rpn_inputs

Results = dict[str, tuple[Tensor, ...]]
WORD = (0, 1, 31, 32, 33, 63, 64, 65)  # boxes around a word of the bit matrix, and two
BLOCK = (1023, 1024, 1025, 2047, 2048, 2049)  # around a chunk, and two
ODD = (math.nan, math.inf, -math.inf, 1e38, -1e38, 1e-40, -0.0)


def made_odd(generator: torch.Generator, values: Tensor, share: float = 0.1) -> Tensor:
    odd = torch.tensor(ODD, dtype=torch.float64)[torch.randint(0, len(ODD), values.shape, generator=generator)]
    return torch.where(torch.rand(values.shape, generator=generator) < share, odd, values)


def suppression(results: Results) -> None:
    for n in (*WORD, *BLOCK):
        generator = torch.Generator().manual_seed(n)
        boxes, scores = random_boxes(generator, 3, n), random_scores(generator, 3, n)  # scores have many ties
        spread = (boxes + 200 * torch.randint(0, 1 + n // 40, (3, n, 1), generator=generator)).float()
        groups = torch.randint(-2, 3, (3, n), generator=generator) * 10**15
        results[f"nms {n}"] = (nms(spread[0], scores[0].float(), 0.4),)
        results[f"nms of equal scores {n}"] = (nms(spread[0], torch.ones(n), 0.4),)
        results[f"padded {n}"] = nms_padded(spread[1:2], scores[1:2].float(), 0.4, n // 5, score_threshold=0.1)
        if n > 1025:
            continue
        odd_boxes, odd_scores = made_odd(generator, boxes[0]).float(), made_odd(generator, scores[0]).float()
        results[f"nms of odd numbers {n}"] = (nms(odd_boxes, odd_scores, 0.4),)
        results[f"nms in float64 {n}"] = (nms(boxes[0], scores[0], 0.4),)
        results[f"batched {n}"] = (batched_nms(spread[0].half(), scores[0].half(), groups[0], 0.4),)
        valid = torch.tensor([n, n // 2, -1])
        results[f"all of padded {n}"] = nms_padded(spread, scores.float(), 0.4, n + 3, groups, 0.2, valid)


def low_where_sampled(logits: Tensor) -> None:
    """What a bar is guessed from tells nothing about the rest."""
    count = logits[0].numel()
    logits.view(len(logits), -1)[:, (torch.arange(4096) * 2654435769 % 2**32) * count // 2**32] -= 50


def high_where_sampled(logits: Tensor) -> None:
    low_where_sampled(logits.neg_())
    logits.neg_()


def sparse(logits: Tensor) -> None:
    logits.view(-1)[17:] = -math.inf


def mixed(logits: Tensor) -> None:
    logits.view(-1)[::2], logits.view(-1)[1::8] = math.nan, math.inf


EDITS: dict[str, Callable[[Tensor], object]] = {
    "all equal": lambda t: t.fill_(0.25),
    "many equal": lambda t: t.mul_(2).round_().div_(2),
    "sigmoid of one": lambda t: t.mul_(30).add_(60),
    "mixed with what is not finite": mixed,
    "few finite": sparse,
    "low where sampled": low_where_sampled,
    "high where sampled": high_where_sampled,
}


def proposals(results: Results) -> None:
    def add(name: str, changes: Inputs | None = None, dtype: torch.dtype = torch.float32, **shape: object) -> Inputs:
        generator = torch.Generator().manual_seed(len(results))
        inputs = {**rpn_inputs(generator, torch.device("cpu"), dtype, shape), **(changes or {})}
        results[name] = generate_proposals(**inputs)
        return inputs

    two = [(9, 13, 3), (5, 7, 3)]
    for n in WORD:
        add(f"{n} anchors", images=2, levels=[(1, n, 1), (3, 3, 2)], pre=1000, post=60)
        add(f"{n} let in", images=2, levels=two, pre=n, post=50)
        add(f"{n} let out", images=2, levels=two, pre=200, post=n)
    for n in (1023, 1024, 1025, 2049):
        add(f"{n} anchors", images=1, levels=[(1, n, 1)], pre=2000, post=2000)
        add(f"{n} let in", images=1, levels=[(33, 65, 1), (20, 20, 1)], pre=n, post=1000)
    add("more than one launch takes", images=1, levels=[(40, 37, 3), (6, 7, 3)], pre=4100, post=300)
    add("sixteen levels", images=2, levels=[(5, 5, 2)] * 16, pre=40, post=300)
    for dtype in (torch.float64, torch.bfloat16):
        add(f"{dtype}", dtype=dtype, images=2, levels=[(31, 33, 3), (16, 17, 3)], pre=300, post=200, min_size=3.0)
    add("no threshold", {"nms_threshold": math.nan}, images=2, levels=two, pre=100, post=100)
    for name, edit in EDITS.items():
        shape = {"images": 2, "levels": [(61, 67, 3), (6, 7, 3)], "pre": 100, "post": 130}
        inputs = add(f"before: {name}", **shape)
        for layout in (torch.contiguous_format, torch.channels_last):
            logits = [t.contiguous() for t in inputs["objectness"]]
            for level in logits:
                edit(level)
            changed = {"objectness": [t.contiguous(memory_format=layout) for t in logits]}
            results[f"{name}, {layout}"] = generate_proposals(**{**inputs, **changed})


def all_results() -> Results:
    results: Results = {}
    suppression(results)
    proposals(results)
    return results


if __name__ == "__main__":
    if "PYRCNN_EMULATION" in os.environ:
        torch.ops.load_library(os.environ["PYRCNN_EMULATION"])
    torch.save(all_results(), sys.argv[1])
