"""Default class names and category ids by class count, and the check of ground truth before training."""

from __future__ import annotations

from collections.abc import Iterable

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


def check_truth(targets: Iterable[Targets], num_classes: int) -> None:
    """Raise :class:`pyrcnn.InputError` for labels outside 0..``num_classes`` - 1 and for boxes that are not finite.

    Crowd boxes are not checked, because training ignores them. Targets on a GPU are not checked either: reading their
    values would make the host wait.
    """
    for one in targets:
        counted = slice(None) if one.crowd is None else ~one.crowd
        labels = one.labels[counted]
        if labels.device.type == "cpu" and len(labels):
            low, high = (int(label) for label in labels.aminmax())
            known = low >= 0 and high < num_classes
            require(known, f"targets must have labels in 0..{num_classes - 1}, got {low}..{high}")
            require(bool(one.boxes[counted].isfinite().all()), "targets must have finite boxes")
