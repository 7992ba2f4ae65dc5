"""Alternating training of a Faster R-CNN in four steps (Ren et al. 2015, section 3.2).

1. The proposal network and the backbone learn, from the model's initial weights.
2. The RoI head and a fresh backbone, with the initial weights, learn from the proposals of step 1.
3. The proposal network of step 1 is fine-tuned on the backbone of step 2, which stays as it is.
4. The RoI head of step 2 is fine-tuned on the proposals of step 3; the backbone stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..atomic import replacing
from ..data import CocoDataset
from ..errors import InputError, needing, require
from ..images import ImageError
from ..models import unwrap
from ..models.wrapping import Objective
from ..structures import Targets
from . import labels
from . import state as files
from .config import TrainConfig
from .loop import Result

GIVEN = -1  # the label of a target that is no object but a proposal
STATE = "alternating.json"


class Step(NamedTuple):
    """A step of alternating training: the parts of the model that learn, and those that start afresh."""

    learns: tuple[str, ...]
    fresh: tuple[str, ...] = ()

    @property
    def on_proposals(self) -> bool:
        """Whether the RoI head learns, from stored proposals; else the proposal network does."""
        return "roi" in self.learns


STEPS = (Step(("backbone", "rpn")), Step(("backbone", "roi"), fresh=("backbone",)), Step(("rpn",)), Step(("roi",)))


class WithProposals(Dataset[tuple[Tensor, Targets]]):
    """A data set whose targets hold proposals beside the objects, with the label ``GIVEN``, so that both are augmented.

    Proposals are marked as crowds: what is visible of them is kept. The labels are those of ``model``.
    """

    def __init__(self, dataset: Any, proposals: Sequence[Tensor], model: Any):
        self.dataset, self.proposals = dataset, proposals
        self.classes, self.category_ids = list(model.classes), list(model.category_ids)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, Targets]:
        image, targets = self.dataset[index]
        proposals = self.proposals[index]
        crowd = torch.zeros(len(targets), dtype=torch.bool) if targets.crowd is None else targets.crowd
        return image, Targets(
            torch.cat([targets.boxes, proposals]),
            torch.cat([targets.labels, torch.full((len(proposals),), GIVEN)]),
            None,
            torch.cat([crowd, torch.ones(len(proposals), dtype=torch.bool)]),
        )


def split(targets: Sequence[Targets]) -> tuple[list[Targets], list[Tensor]]:
    """Return the objects and the proposals of :class:`WithProposals`, per image."""
    objects, proposals = [], []
    for one in targets:
        given = one.labels == GIVEN
        crowd = None if one.crowd is None else one.crowd[~given]
        objects.append(Targets(one.boxes[~given], one.labels[~given], None, crowd))
        proposals.append(one.boxes[given])
    return objects, proposals


def fit_alternating(model: nn.Module, train_data: Any, val_data: Any = None,
                    configs: TrainConfig | Sequence[TrainConfig] = TrainConfig(), *, quiet: bool = False,
                    ) -> Result:  # fmt: skip
    """Train a Faster R-CNN in the four steps of Ren et al. 2015, and return the :class:`Result` of the last one.

    Each step is a run of :func:`pyrcnn.train.fit` in a folder of its own: ``step1`` to ``step4`` of the folder ``out``,
    which also keeps the proposals, the weights after each step and, in ``alternating.json``, the number of the step.
    The model is scored in the last step. A run that is resumed ends with the same weights as an uninterrupted one.

    Args:
        model: a Faster R-CNN, whose backbone usually has ImageNet's weights.
        train_data, val_data: as for :func:`pyrcnn.train.fit`.
        configs: the settings of each of the four steps, or of all. ``out``, ``resume``, ``overwrite`` and ``device``
            are those of the first.
        quiet: print neither progress nor scores.

    Raises:
        pyrcnn.InputError: for a model without two stages, and as :func:`pyrcnn.train.fit`.

    Example::

        recipe = train.recipes.CATALOG["paper_vgg16_alternating"]
        train.fit_alternating(model, data.coco("images", "train.json"), configs=recipe.stages)
    """
    given = [configs] * len(STEPS) if isinstance(configs, TrainConfig) else list(configs)
    require(len(given) == len(STEPS), f"configs must be one TrainConfig or {len(STEPS)}, got {len(given)}")
    inner: Any = unwrap(model)
    require(all(hasattr(inner, part) for part in ("backbone", "rpn", "roi")),
            f"model must be a Faster R-CNN, got {type(inner).__name__}")  # fmt: skip
    train_data, val_data = labels.join(inner, train_data, val_data)
    return _Alternation(inner, train_data, val_data, given, quiet).go()


def check_folder(out: str | Path, resume: bool | str, overwrite: bool) -> bool:
    """Return whether the run in the folder ``out`` is resumed.

    Raises :class:`pyrcnn.InputError` unless ``out`` holds the alternating training to ``resume``, otherwise none,
    unless ``overwrite`` lets it be removed.
    """
    state = Path(out) / STATE
    if resume == "auto":
        return state.exists()
    if resume:
        require(state.exists(), f"resume must be False, got True: there is no {state} to continue")
    elif state.exists() and not overwrite:
        remedy = "resume=True (--resume) continues its run, overwrite=True (--overwrite) replaces it"
        raise InputError(f"out must be a folder without a run, got {out} with {STATE}; {remedy}")
    return bool(resume)


class _Alternation:
    """The state of one call of :func:`fit_alternating`."""

    def __init__(self, model: Any, train_data: Any, val_data: Any, configs: list[TrainConfig], quiet: bool):
        self.model, self.train_data, self.val_data = model, train_data, val_data
        self.configs, self.quiet, self.first = configs, quiet, configs[0]
        self.learnable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.identity = [files.identity(config, model, len(train_data)) for config in configs]
        self.memory: dict[str, Any] = {}  # what is kept where there is no folder
        self.resumed = False
        self.out = None if self.first.out is None else Path(self.first.out)
        if self.out is None:
            require(not self.first.resume, "resume must be False without out, got True")
            return
        self.resumed = check_folder(self.out, self.first.resume, self.first.overwrite)
        if self.resumed:
            found = json.loads((self.out / STATE).read_text())["runs"]
            different = found != self.identity
            require(not different, f"resume must find the same run, got {self.out} of another one: its model, data or "
                                   "settings differ")  # fmt: skip
        else:
            files.check_folder_of_run(self.out, resume=False, overwrite=self.first.overwrite)
            for name in ("weights", "proposals"):
                for number in range(len(STEPS) + 1):
                    (self.out / f"{name}{number}.pt").unlink(missing_ok=True)

    def go(self) -> Result:
        """Make the steps that are not done."""
        initial = self._kept("weights0", self._weights)
        done = max(number for number in range(len(STEPS)) if number == 0 or self._has(f"weights{number}"))
        self._load(self._kept(f"weights{done}", self._weights))
        try:
            for number in range(done + 1, len(STEPS) + 1):
                result = self._step(number, STEPS[number - 1], initial)
                self._keep(f"weights{number}", self._weights())
        finally:
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(name in self.learnable)
        return result

    def _step(self, number: int, step: Step, initial: dict[str, Tensor]) -> Result:
        from . import fit

        if self.out:
            with replacing(self.out / STATE, argument="out") as temporary:
                temporary.write_text(json.dumps({"step": number, "runs": self.identity}))
        if step.on_proposals:
            proposals = self._kept(f"proposals{number - 1}", self._propose)
            data: Any = WithProposals(self.train_data, list(proposals["boxes"].split(proposals["counts"].tolist())),
                                      self.model)  # fmt: skip
        elif isinstance(self.train_data, CocoDataset):
            data = self.train_data
        else:  # the labels are the model's by now
            data = WithProposals(self.train_data, [torch.zeros(0, 4)] * len(self.train_data), self.model)
        self._load({k: v for k, v in initial.items() if k.partition(".")[0] in step.fresh})
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(name in self.learnable and name.partition(".")[0] in step.learns)
        model, last = self.model, number == len(STEPS)

        def losses(images: Any, targets: Any) -> dict[str, Tensor]:
            if step.on_proposals:
                return model.detection_loss(images, *split(targets))
            return model.proposal_loss(images, targets)

        folder = self.out / f"step{number}" if self.out else None
        resume = self.resumed and folder is not None and (folder / files.CHECKPOINT).exists()
        config = replace(
            self.configs[number - 1], out=str(folder) if folder else None, resume=resume, device=self.first.device,
            overwrite=(self.first.overwrite or self.resumed) and not resume,
            freeze_norm=self.configs[number - 1].freeze_norm or "backbone" not in step.learns,
        )  # fmt: skip
        if not self.quiet:
            _rich()[0].print(f"step {number} of {len(STEPS)}: {' and '.join(step.learns)}", highlight=False)
        return fit(Objective(model, losses), data, self.val_data if last else None, config, quiet=self.quiet)

    def _propose(self) -> dict[str, Tensor]:
        """Return the proposals of all images: boxes [sum of counts, 4] in pixels of the images, and counts."""
        device = torch.device(self.first.device)
        self.model.to(device).eval()
        boxes = []
        console, track = _rich()
        for index in track(range(len(self.train_data)), "proposals", console=console, disable=self.quiet):
            try:
                image = self.train_data[index][0]
            except ImageError:  # training leaves it out, too
                boxes.append(torch.zeros(0, 4))
                continue
            found = self.model.training_proposals([image.to(device)])[0].float().cpu()
            limit = torch.tensor([image.shape[2], image.shape[1]] * 2)
            found = found.clamp(min=0).minimum(limit)  # what rounding left outside
            boxes.append(found[(found[:, 2:] > found[:, :2]).all(1)])
        return {"boxes": torch.cat(boxes), "counts": torch.tensor([len(b) for b in boxes])}

    # ---- what is kept between the steps ------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def _load(self, weights: dict[str, Tensor]) -> None:
        own = self.model.state_dict()
        with torch.no_grad():
            for name, value in weights.items():
                own[name].copy_(value)

    def _has(self, name: str) -> bool:
        return name in self.memory or (self.out is not None and (self.out / f"{name}.pt").exists())

    def _keep(self, name: str, value: dict[str, Tensor]) -> None:
        if self.out is None:
            self.memory[name] = value
            return
        self.out.mkdir(parents=True, exist_ok=True)
        with replacing(self.out / f"{name}.pt", argument="out") as temporary:
            torch.save(value, temporary)

    def _kept(self, name: str, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return what is kept under ``name``, or make and keep it."""
        if not self._has(name):
            self._keep(name, make())
        if self.out is None:
            return self.memory[name]
        return torch.load(self.out / f"{name}.pt", map_location="cpu", weights_only=True)


def _rich() -> tuple[Any, Any]:
    """A console for standard error, and ``rich.progress.track``."""
    with needing("rich", "showing the progress of a training"):
        from rich.console import Console
        from rich.progress import track
    return Console(stderr=True), track
