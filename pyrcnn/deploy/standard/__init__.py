"""pyrcnn's operators from standard operators, for runtimes that have no others."""

from __future__ import annotations

from typing import Any

import torch

from ...errors import InputError
from . import boxes, centers, regions, suppress

_MODULES = {
    suppress: ("nms_padded",),
    boxes: ("decode_boxes", "grid_anchors", "generate_proposals", "roi_detections"),
    regions: ("roi_align", "crop_and_resize"),
    centers: ("heatmap_peaks", "decode_centers", "match_keypoints"),
}
# native operator → the function that computes the same; NotImplemented from it leaves the operator as it is
FROM_STANDARD = {
    getattr(torch.ops.pyrcnn, name).default: getattr(module, name)
    for module, names in _MODULES.items()
    for name in names
}
# operators that another runtime's converter translates
LEFT = ("pyrcnn._accept_images", "pyrcnn.roi_align", "pyrcnn.roi_pool", "pyrcnn_standard.suppress")


def to_standard(program: Any) -> Any:
    """A ``torch.export`` program without pyrcnn's operators, but for those in :data:`LEFT`.

    Raises :class:`pyrcnn.InputError` that names an operator which standard ones cannot compute as it is called.
    """
    program = program.run_decompositions(FROM_STANDARD)
    for node in program.graph.nodes:
        name = str(node.target).removesuffix(".default")
        if name.startswith("pyrcnn") and name not in LEFT:
            raise InputError(f"model must not use the operator {name} in a way that ONNX has no operators for")
    return program
