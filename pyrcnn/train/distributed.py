"""The processes that train together: one, or those that ``torchrun`` started on one or many machines."""

from __future__ import annotations

import atexit
import functools
import os
import signal
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..data.loader import signal_at_end_of_parent
from ..errors import InputError, require

T = TypeVar("T")
# How long a process waits for the others: rank 0 scores and writes meanwhile. A process that ends is noticed at once.
TIME_LIMIT = timedelta(minutes=30)
_BY_LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # torchrun and compatible launchers set them


@dataclass(frozen=True)
class World:
    """The place of this process among those that train together.

    ``control`` is their group for messages between hosts, which no device waits for.
    """

    device: torch.device
    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def first(self) -> bool:
        """Whether this process prints, scores and writes."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Which of ``count`` items are this process's."""
        return range(self.rank, count, self.size)

    def highest(self, *values: int) -> list[int]:
        """Return the highest of each of ``values`` among the processes."""
        if self.size == 1:
            return list(values)
        found = torch.tensor([int(value) for value in values])
        dist.all_reduce(found, dist.ReduceOp.MAX, group=self.control)
        return found.tolist()

    def add_(self, values: Tensor) -> Tensor:
        """Replace ``values`` by their sum over the processes; the host does not wait for a GPU."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def on_first(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function`` in the first process alone. Every process returns its result or raises its error."""
        if self.size == 1:
            return function(*arguments)
        outcome: list[Any] = [None]
        if self.first:
            try:
                outcome = [(function(*arguments), None)]
            except Exception as error:
                outcome = [(None, error)]
        dist.broadcast_object_list(outcome, group=self.control)
        result, failure = outcome[0]
        if failure is not None:
            raise failure
        return result

    def gather(self, value: T) -> list[T]:
        """Return the values of all processes in the first one, and an empty list in the others."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size if self.first else []
        dist.gather_object(value, values or None, group=self.control)
        return values

    def copy_from_first_(self, tensors: list[Tensor]) -> None:
        """Replace ``tensors`` by those of the first process."""
        if self.size > 1:
            for values in tensors:
                dist.broadcast(values, 0)

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            dist.monitored_barrier(self.control, TIME_LIMIT, wait_all_ranks=True)


def join(device: str) -> World:
    """Join the processes that train together: those of torch's process group, which is created under ``torchrun``.

    The group remains until the process ends, for the next call.

    Raises:
        pyrcnn.InputError: for a device that does not exist, or one that several processes would share.
    """
    launched = all(name in os.environ for name in _BY_LAUNCHER)
    size = dist.get_world_size() if dist.is_initialized() else int(os.environ["WORLD_SIZE"]) if launched else 1
    place = _device(device, size)
    if size == 1:
        return World(place)
    gpu = place.type == "cuda"
    if job():  # without torchrun, nobody would start a lost process again: write a checkpoint and end
        signal_at_end_of_parent(signal.SIGTERM)
    if not dist.is_initialized():
        meeting: dict[str, Any] = {}
        if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
            rank = int(os.environ["RANK"])
            meeting = {"store": _store_of_this_attempt(rank, size), "rank": rank, "world_size": size}
        backend = "nccl" if gpu else "gloo"
        dist.init_process_group(backend, timeout=TIME_LIMIT, device_id=place if gpu else None, **meeting)
        atexit.register(_leave)
    return World(place, dist.get_rank(), dist.get_world_size(), _control_group(dist.group.WORLD))


def _store_of_this_attempt(rank: int, size: int) -> dist.Store:
    """Return the store of ``torchrun``, under a name that no earlier attempt has used.

    ``torchrun`` keeps its store when it starts the processes again: some of them would read the addresses of processes
    that have ended. The first process names the attempt, and answers the others, which a name of the past does not.
    """
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), timeout=TIME_LIMIT)
    mine = uuid.uuid4().hex
    if rank == 0:
        store.set("pyrcnn", mine)
        for other in range(1, size):
            question = store.get(f"{mine}/{other}").decode()
            store.set(f"{mine}/{other}/{question}", "")
        return dist.PrefixStore(mine, store)
    while True:
        attempt = store.get("pyrcnn").decode()
        store.set(f"{attempt}/{rank}", mine)
        for _ in range(20):
            if store.check([f"{attempt}/{rank}/{mine}"]):
                return dist.PrefixStore(attempt, store)
            time.sleep(0.05)


@functools.cache
def _control_group(whole: Any) -> Any:
    return whole if dist.get_backend() == "gloo" else dist.new_group(backend="gloo", timeout=TIME_LIMIT)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _device(name: str, size: int) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"device must be cpu or cuda, got {name!r}") from None
    require(device.type != "cuda" or torch.cuda.is_available(), f"device {name} is not available here, use cpu")
    if device.type != "cuda" or size == 1:
        return device
    require(device.index is None, f"device must be cuda, of which each of the {size} processes takes one, got {name}")
    local, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    require(local < count, f"device cuda must exist for each process: got process {local} and {count} devices; "
                           f"use torchrun --nproc-per-node {count}")  # fmt: skip
    torch.cuda.set_device(local)
    return torch.device("cuda", local)


def job() -> str | None:
    """A name that all attempts of one ``torchrun`` have in common and no others; None without it.

    ``torchrun`` starts the processes again when one of them or a machine is lost, possibly in another number.
    """
    run = os.environ.get("TORCHELASTIC_RUN_ID")
    if run in (None, "none"):  # without --rdzv-id the parent, which lives as long as the job, tells it from others
        return run and f"{socket.gethostname()}:{os.getppid()}"
    return run


class Norms:
    """The batch norms that learn statistics, while several processes train.

    On GPUs they take the statistics of the whole batch (``nn.SyncBatchNorm``). torch has none for CPUs: there each
    process normalizes by its own images, and the running statistics are those of the first process.
    """

    def __init__(self, model: nn.Module, world: World):
        self.model, self.world = model, world
        self.own = {name: m for name, m in model.named_modules()
                    if isinstance(m, _BatchNorm) and m.training and m.track_running_stats}  # fmt: skip
        learning, gpu = world.size > 1 and bool(self.own), world.device.type == "cuda"
        self.synchronized, self.local = learning and gpu, learning and not gpu
        self.shared = {name: nn.SyncBatchNorm.convert_sync_batchnorm(m) for name, m in self.own.items()
                       if self.synchronized}  # fmt: skip

    def train(self) -> None:
        """Let the norms take the statistics of the whole batch, as far as they can."""
        for name, norm in self.shared.items():
            self.model.set_submodule(name, norm.train())

    def restore(self) -> None:
        """Put the model's own norms back, with the statistics so far, the same in all processes."""
        if self.synchronized:
            for name, norm in self.own.items():
                self.model.set_submodule(name, norm)
        elif self.local:
            self.world.copy_from_first_([b for norm in self.own.values() for b in norm.buffers()])
