"""A step of training on a device: the host never waits for it, and a compiler sees few shapes.

No GPU is needed. Tensors on the "meta" device have no values, so that whatever would wait for a value raises; copies
between the host and the device are seen by a dispatch mode.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from pyrcnn.data.loader import SeededBatch
from pyrcnn.models.detector import Detector
from pyrcnn.models.training import Truth
from pyrcnn.train import TrainConfig, schedule
from pyrcnn.train.distributed import World
from pyrcnn.train.losses import OBJECTS, Losses

from .processes import Rectangles, make_model

FAMILIES = ("faster_rcnn", "centernet")


class Copies(TorchDispatchMode):
    """Collects the copies from the host to the device that the host would wait for, and operators that look at values.

    A pageable copy waits, and so does one that is not asked to be asynchronous.
    """

    LOOKS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.copied = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = op.overloadpacket.__name__
        devices = {a.device.type for a in args if isinstance(a, Tensor)}
        target = str(kwargs.get("device") or (args[0].device.type if args and isinstance(args[0], Tensor) else ""))
        if name in ("_to_copy", "copy_") and "cpu" in devices and "meta" in target:
            self.copied += 1
            asynchronous = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            if not asynchronous:
                self.found.append(f"{name} from the host, which waits")
        masks = name == "index" and any(getattr(i, "dtype", None) == torch.bool for i in args[1] if i is not None)
        if (name in self.LOOKS or masks) and "meta" in devices:
            self.found.append(name)
        return op(*args, **kwargs)


class Constants(TorchFunctionMode):
    """Collects tensors that are made on the device from Python's numbers: copies that the host waits for."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        made = function in (torch.tensor, torch.as_tensor) and "meta" in str(kwargs.get("device"))
        if made or (function is Tensor.new_tensor and args[0].device.type == "meta"):
            self.found.append(function.__name__)
        return function(*args, **kwargs)


@pytest.mark.parametrize(("name", "optimizer"), [("faster_rcnn", "sgd"), ("centernet", "adamw")])
def test_the_host_never_waits_in_a_step(name: str, optimizer: str) -> None:
    config, device = TrainConfig(optimizer=optimizer), torch.device("meta")
    model = make_model(name).to(device).train()
    data = Rectangles(4, joints=3 * (name == "centernet"))
    images, targets = zip(*(data[i] for i in range(4)), strict=True)
    optimize, average = schedule.make_optimizer(model, config), schedule.Average(model, 0.9)
    losses = Losses(model, model, config, World(device), "float32")
    with Copies() as copies, Constants() as constants:
        batch = SeededBatch(list(images), list(targets), torch.arange(4) * 2**33)
        means = losses.backward(batch, 4, torch.amp.GradScaler("cpu", enabled=False), 1.0, last=True)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimize.step()
        average.update(model, 3)
    assert {value.device.type for value in means.values()} == {"meta"}
    assert copies.copied >= len(images) + 2 + len(Truth._fields)  # the copies are seen
    assert not copies.found + constants.found
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("looks", [
    lambda t, mask: t[mask], lambda t, mask: t.sum().item(), lambda t, mask: t.new_tensor([1.0, 2.0]),
    lambda t, mask: torch.tensor([1, 2], device="meta"), lambda t, mask: torch.zeros(3).to("meta"),
    lambda t, mask: mask.nonzero(), lambda t, mask: bool(mask.any()),
])  # fmt: skip
def test_what_makes_the_host_wait_is_found(looks: Any) -> None:
    t = torch.zeros(4, device="meta")
    with Copies() as copies, Constants() as constants:
        try:
            looks(t, t > 0)
        except RuntimeError:  # there is no value to look at
            return
    assert copies.found + constants.found


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_batches_with_other_numbers_of_objects_use_the_same_compiled_graph(name: str) -> None:
    model = make_model(name)
    assert isinstance(model, Detector)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(model.loss_terms, backend=counter, fullgraph=True)
    data = Rectangles(16, joints=3 * (name == "centernet"))
    counts = []
    for first in range(5):
        images, targets = zip(*(data[i] for i in (2 * first, 2 * first + 2)), strict=True)
        counts.append(sum(map(len, targets)))
        terms = compiled(*model.preprocess(images), model.pad_targets(targets, multiple=OBJECTS))
        torch.stack([t.total for t in terms.values()]).sum().backward()
    assert len(set(counts)) > 1
    assert counter.frame_count == 1
