"""Operators and models in several threads and worker processes at once, and copies of models."""

from __future__ import annotations

import copy
import pickle
import random
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pyrcnn import deploy, ops
from tests.cases import all_cases
from tests.conftest import python
from tests.deploy.small import images, small
from tests.ops import checks

CENTERNET, FASTER = "centernet_mobilenet_v2_fpn_512", "faster_rcnn_mobilenet_v2_fpn"


def found(model: Any, given: list[Tensor]) -> list[Tensor]:
    return [value for one in model(given) for value in (one.boxes, one.scores, one.labels)]


def test_eight_threads_get_what_one_gets() -> None:
    jobs: dict[str, Callable[[], Any]] = {}
    for case in all_cases():
        shape = next(iter(case.shapes.values()))
        inputs = case.inputs(torch.Generator().manual_seed(0), torch.device("cpu"), case.dtypes[0], shape)
        jobs[case.name] = lambda case=case, inputs=inputs: case.call(**inputs)
    given = images()
    for name in (CENTERNET, FASTER):
        model = small(name)
        fast = deploy.optimize(model)
        jobs[name] = lambda model=model: found(model, given)
        jobs[f"optimized {name}"] = lambda fast=fast: found(fast, given)
    expected = {name: job() for name, job in jobs.items()}
    start, problems = threading.Barrier(8), []

    def work(seed: int) -> None:
        order = [*jobs] * 2
        random.Random(seed).shuffle(order)
        start.wait()
        for name in order:
            try:
                checks.identical(jobs[name](), expected[name])
            except Exception as error:
                problems.append(f"{name}: {error}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


class Work(Dataset[list[Tensor]]):
    """Each item is what operators and a detector give."""

    def __init__(self, model: Any):
        self.model, self.images = model, images()

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[Tensor]:
        boxes = torch.rand(500, 4, generator=torch.Generator().manual_seed(index)) * 50
        boxes[:, 2:] += boxes[:, :2]
        pooled = ops.roi_align(torch.ones(1, 8, 60, 60), [boxes[:50]], 7)
        return [ops.nms(boxes, boxes[:, 0].contiguous(), 0.5), pooled, *found(self.model, self.images)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_worker_processes_get_what_their_parent_gets(method: str) -> None:
    data = Work(small(FASTER))
    expected = [data[i] for i in range(len(data))]  # the parent's threads have worked before
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context=method, timeout=120)
    checks.identical(list(loader), expected)


def test_a_process_forked_after_work_on_several_threads_computes() -> None:
    code = """
import os, torch
from pyrcnn import ops
features, rois = torch.ones(1, 256, 50, 50), torch.tensor([[0.0, 1.0, 2.0, 30.0, 40.0]]).repeat(300, 1)
torch.set_num_threads(2)
expected = ops.roi_align(features, rois, 7)
torch.set_num_threads(1)  # OpenMP's threads do not survive a fork
child = os.fork()
if child == 0:
    os._exit(0 if torch.equal(ops.roi_align(features, rois, 7), expected) else 1)
torch.set_num_threads(2)
assert os.waitpid(child, 0)[1] == 0
assert torch.equal(ops.roi_align(features, rois, 7), expected)
"""
    command, folder = python(code)
    subprocess.run(command, cwd=folder, check=True, timeout=120)


@pytest.mark.parametrize("name", [CENTERNET, FASTER])
def test_copies_of_a_model_find_the_same(name: str) -> None:
    model, given = small(name), images()
    expected = found(model, given)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        checks.identical(found(other, given), expected)
        assert (other.classes, other.config) == (model.classes, model.config)
        assert all(mine is not theirs for mine, theirs in zip(other.parameters(), model.parameters(), strict=True))
