"""Joins the classes and keypoints of a model and its data before training: by name, never by chance."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from ..data import CocoDataset, Transform, as_coco, flip_pairs
from ..data.wrappers import Mapped, labels_of, with_labels
from ..errors import InputError, require
from ..models.detector import Detector
from ..models.labels import all_unnamed, class_labels, default_labels, is_unnamed, match_classes
from ..texts import listed

_log = logging.getLogger("pyrcnn.train")


def join(model: nn.Module, train_data: Any, val_data: Any) -> tuple[Any, CocoDataset | None]:
    """Return the data with the model's labels, after a model with as many classes has taken over the data's.

    Classes that both have keep the model's labels, and with them its weights, wherever the data's file lists them.

    Raises:
        pyrcnn.InputError: if classes or keypoints of model, training and validation data do not agree.
    """
    train_data = _with_labels_of_model(model, with_labels(train_data))
    train_data = _with_keypoints_of_model(model, train_data, "train_data")
    if val_data is None:
        return train_data, None
    scored = as_coco(val_data)
    if scored is None:
        kind = type(val_data).__name__
        raise InputError(f"val_data must be from data.coco, or a Subset or ConcatDataset of such, got {kind}")
    ids, names = class_labels(model)
    if not (all_unnamed(names, ids) and len(ids) in (0, len(scored.classes))):  # else joined by their order
        missing = scored.without_counterpart(match_classes(scored.classes, scored.category_ids, names, ids))
        require(not missing, f"val_data must have the classes of the model, got {listed(missing)} beside "
                             f"{listed(names)}; set model.classes if they mean the same")  # fmt: skip
    scored = _with_keypoints_of_model(model, scored, "val_data")
    _check_same_keypoints(getattr(train_data, "keypoint_names", None) or [], scored.keypoint_names)
    return train_data, scored


def _check_same_keypoints(names: list[str], others: list[str]) -> None:
    numbered = [f"keypoint {i}" for i in range(1, len(names) + 1)]  # of files that do not name them
    require(
        not names or not others or names == others or numbered in (names, others),
        f"val_data must have the keypoints of train_data, got {listed(others)} beside {listed(names)}",
    )


def _with_labels_of_model(model: nn.Module, data: Any) -> Any:
    if isinstance(data, CocoDataset):
        learnable = sum(int((~record.crowd).sum()) for record in data.records)
        require(
            learnable > 0, f"train_data must hold at least one box that is not a crowd, got none: {data.report.brief()}"
        )
    data_ids, classes = labels_of(data)
    if not data_ids:
        return data  # its labels are taken as the model's
    own_ids, names = class_labels(model)
    if not own_ids:
        model.category_ids, model.classes = data_ids, classes  # type: ignore[assignment]
        return data
    count = len(classes)
    found = match_classes(classes, data_ids, names, own_ids)
    missing = [name for name, label in zip(classes, found, strict=True) if label is None]
    needed = data.without_counterpart(found) if isinstance(data, CocoDataset) else missing
    if len(own_ids) == count and (all_unnamed(names, own_ids) or needed or not missing):
        table = _take_over(model, classes, data_ids, names)
    else:
        require(
            not needed,
            f"model must have the {count} classes of train_data, got {len(own_ids)} others without {listed(needed)}; "
            f"build it with num_classes={count}",
        )
        table = [-1 if label is None else label for label in found]
        named = {label: name for name, label in zip(classes, found, strict=True)}
        model.classes = [  # type: ignore[assignment]
            named.get(label, name) if is_unnamed(name, i) else name
            for label, (name, i) in enumerate(zip(names, own_ids, strict=True))
        ]
    if table == list(range(count)) and len(own_ids) == count:
        return data
    if isinstance(data, CocoDataset):
        ids, names = class_labels(model)
        return data.relabel(ids, names)
    return Mapped(data, table)


def _take_over(model: nn.Module, classes: list[str], data_ids: list[Any], names: list[str]) -> list[int]:
    """Give the model the data's classes; return the label of each. Those that it has already keep their label."""
    count = len(classes)
    found = match_classes(classes, [None] * count, names, [None] * count)
    unclaimed = sorted(set(range(count)) - set(found))  # type: ignore[arg-type]
    if unclaimed and names != default_labels(count)[0]:
        new = [name for name, label in zip(classes, found, strict=True) if label is None]
        _log.warning("the model's classes %s become %s; its weights for them are trained on",
                     listed([names[label] for label in unclaimed]), listed(new))  # fmt: skip
    free = iter(unclaimed)
    table = [next(free) if label is None else label for label in found]
    order = sorted(range(count), key=table.__getitem__)
    model.classes = [classes[i] for i in order]  # type: ignore[assignment]
    model.category_ids = [data_ids[i] for i in order]  # type: ignore[assignment]
    return table


def joints_of(model: nn.Module) -> int | None:
    """Return how many keypoints per object the model predicts; None if that is not known."""
    return getattr(model.config, "joints", 0) if isinstance(model, Detector) else None


def _with_keypoints_of_model(model: nn.Module, data: Any, name: str) -> Any:
    """Return the data, without keypoints if the model predicts none; refuse another skeleton than the model's."""
    joints = joints_of(model)
    if joints == 0:
        if isinstance(data, CocoDataset):
            return data.without_keypoints() if data.keypoint_names else data
        return Mapped(data, keypoints=False)
    if joints is None or not isinstance(data, CocoDataset) or not data.keypoint_names:
        return data
    given = len(data.keypoint_names)
    require(given == joints, f"{name} must have the model's {joints} keypoints, got {given} "
                             f"({listed(data.keypoint_names, 4)}); build the model with joints={given}")  # fmt: skip
    person = getattr(model.config, "keypoint_class", None)
    classes = [str(c.get("name", c["id"])) for c in data.categories if "keypoints" in c]
    own: list[str] = list(model.classes)  # type: ignore[arg-type]
    if isinstance(person, int) and 0 <= person < len(own):
        labels = match_classes(classes, [None] * len(classes), own, [None] * len(own))
        require(
            person in labels or not classes,
            f"{name} must have keypoints of the model's class {person} ({own[person]}), got them of {listed(classes)}; "
            f"build the model with keypoint_class={next((label for label in labels if label is not None), 0)}",
        )
    return data


def with_flip_pairs(transforms: Sequence[Transform], data: Any) -> tuple[Transform, ...]:
    """Return the transforms; one that mirrors, without ``pairs``, gets those that the keypoints' names tell.

    Raises:
        pyrcnn.InputError: if the data have keypoints whose names tell none, apart from 17, which are taken as COCO's.
    """
    names = getattr(data, "keypoint_names", None)
    if not names:
        return tuple(transforms)
    pairs = flip_pairs(names)
    mirrored = [replace(t, pairs=pairs) if getattr(t, "pairs", ()) is None and pairs else t  # type: ignore[type-var]
                for t in transforms]  # fmt: skip
    unknown = any(getattr(t, "pairs", ()) is None for t in mirrored)
    require(
        not unknown or len(names) == 17,
        f"augment must tell which keypoints swap in a mirror image, because their names ({listed(names, 4)}) do not: "
        "use HorizontalFlip(pairs=...), with () for none",
    )
    return tuple(mirrored)
