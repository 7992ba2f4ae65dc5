"""Class names and category ids: the defaults, joining two sets of classes, and the check of labels before training."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..errors import require
from ..structures import Targets

# COCO's eighty thing categories under their ids: ten of the ids 1..90 were never used
COCO = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip

VOC = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip


def default_labels(num_classes: int) -> tuple[list[str], list[int]]:
    """Names and category ids of ``num_classes`` classes, for models that no data set has named.

    90: COCO's ids 1..90, label + 1 = id, unused ids named "unused 12" and so on; 80: COCO's used ids in order; 20:
    Pascal VOC; 1: person; else "class 1" … with ids 1….
    """
    if num_classes == 90:
        return [COCO.get(i, f"unused {i}") for i in range(1, 91)], list(range(1, 91))
    if num_classes == 80:
        return list(COCO.values()), list(COCO)
    if num_classes == 20:
        return list(VOC), list(range(1, 21))
    if num_classes == 1:
        return ["person"], [1]
    return [f"class {i}" for i in range(1, num_classes + 1)], list(range(1, num_classes + 1))


class Names:
    """Finds classes by name: equal up to case, spaces, hyphens and underscores, where that is unambiguous.

    Ids count only for a class without a name of its own: "class 3", "unused 3", or its id as text.
    """

    def __init__(self, classes: Sequence[str], category_ids: Sequence[Any]):
        self.classes = [str(name) for name in classes]
        self.exact, self.folded = _unique(self.classes), _unique([_folded(name) for name in self.classes])
        self.by_id = {category: label for label, category in enumerate(category_ids)}

    def find(self, name: str, category_id: Any = None, only_exact: bool = False) -> int | None:
        """The label of the class ``name``; None if there is none."""
        label = self.exact.get(name)
        if label is None and not only_exact:
            label = self.folded.get(_folded(name))
        if label is None and (other := self.by_id.get(category_id)) is not None:
            own = self.classes[other]
            same = name == own or is_unnamed(name, category_id) or is_unnamed(own, category_id)
            label = other if same else None
        return label


def match_classes(
    classes: Sequence[str], category_ids: Sequence[Any], known: Sequence[str], known_ids: Sequence[Any]
) -> list[int | None]:
    """The position in ``known`` of the class with the same name, for each of ``classes``; None where there is none.

    :class:`Names` says when names are the same. No position is given twice.

    >>> match_classes(["Cat", "dog"], [1, 2], ["dog", "cat"], [1, 2])
    [1, 0]
    >>> match_classes(["cat", "dog"], [7, 3], ["class 3", "class 7"], [3, 7])
    [1, 0]
    """
    names = Names(known, known_ids)
    classes = [str(name) for name in classes]
    mine = _unique([_folded(name) for name in classes])
    found = [names.find(name, category, _folded(name) not in mine)
             for name, category in zip(classes, category_ids, strict=True)]  # fmt: skip
    counts = Counter(found)
    return [label if counts[label] == 1 else None for label in found]


def class_labels(model: Any) -> tuple[list[Any], list[str]]:
    """``category_ids`` and ``classes`` of a model: without ids Nones, without names the ids as text, or both empty."""
    names = [str(name) for name in getattr(model, "classes", None) or ()]
    ids = list(getattr(model, "category_ids", None) or [None] * len(names))
    return ids, names if len(names) == len(ids) else [str(i) for i in ids]


def is_unnamed(name: str, category_id: int | str) -> bool:
    """Whether a class has no name but a number, as :func:`default_labels` and files without names give."""
    return name in (str(category_id), f"class {category_id}", f"unused {category_id}")


def all_unnamed(classes: Sequence[str], category_ids: Sequence[Any]) -> bool:
    """Whether no class has a name, as in a model that neither a data set nor a file has named."""
    return all(map(is_unnamed, classes, category_ids))


def _folded(name: str) -> str:
    return " ".join(re.split(r"[\s_-]+", name.strip().casefold()))


def _unique(names: Sequence[str]) -> dict[str, int]:
    counts = Counter(names)
    return {name: label for label, name in enumerate(names) if counts[name] == 1}


def check_truth(targets: Iterable[Targets], num_classes: int) -> None:
    """Raise :class:`pyrcnn.InputError` for labels outside 0..``num_classes`` - 1.

    Crowds are not checked, because training ignores them. Targets on a GPU are not checked either: reading their
    values would make the host wait.
    """
    for one in targets:
        labels = one.labels if one.crowd is None else one.labels[~one.crowd]
        if labels.device.type == "cpu" and len(labels):
            low, high = (int(label) for label in labels.aminmax())
            known = low >= 0 and high < num_classes
            require(known, f"targets must have labels in 0..{num_classes - 1}, got {low}..{high}")
