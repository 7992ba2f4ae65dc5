"""A detector of pyrcnn for SAHI, which cuts large images into overlapping slices and joins what is found in them.

    pip install sahi
    python examples/sahi_model.py IMAGE

As a module:

    from sahi.predict import get_sliced_prediction
    detector = SahiModel(model=pyrcnn.load_model(), confidence_threshold=0.5, device="cpu")
    get_sliced_prediction("large.jpg", detector, slice_height=512, slice_width=512, batch_size=4)
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from sahi.models.base import DetectionModel
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction

import pyrcnn
from pyrcnn import deploy


class SahiModel(DetectionModel):
    """What SAHI calls: ``model_path`` is what ``pyrcnn.load_model`` takes, ``model`` a detector that is open."""

    def load_model(self) -> None:
        """Load the detector that ``model_path`` names."""
        self.set_model(pyrcnn.load_model(self.model_path, device=self.device))

    def set_model(self, model: Any, **_: Any) -> None:
        """Take an open detector, and run an optimized copy of it."""
        self.model = deploy.optimize(model)
        self.category_mapping = {str(label): name for label, name in enumerate(model.classes)}

    def perform_inference(self, image: np.ndarray) -> None:
        """Detect in one RGB image [H, W, 3]."""
        self.perform_batch_inference([image])

    def perform_batch_inference(self, images: list[np.ndarray]) -> None:
        """Detect in a batch of slices in one call."""
        with torch.inference_mode():
            self._original_predictions = self.model(images)
        self._original_shapes = [image.shape for image in images]

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        count = len(self._original_predictions)
        shifts, shapes = _each(shift_amount_list, count, [0, 0]), _each(full_shape_list, count, None)
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(box, label, self.category_mapping[str(label)], None, score, shift, shape)
                for box, label, score in zip(
                    found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
                )
                if score > self.confidence_threshold
            ]
            for found, shift, shape in zip(self._original_predictions, shifts, shapes, strict=True)
        ]


def _each(given: Any, count: int, default: Any) -> list[Any]:
    """One entry per image; SAHI gives a single one without a list around it, or none."""
    if given is None:
        return [default] * count
    return list(given) if isinstance(given[0], list | tuple) else [given] * count


if __name__ == "__main__":
    detector = SahiModel(confidence_threshold=0.5, device="cpu")
    found = get_sliced_prediction(sys.argv[1], detector, slice_height=256, slice_width=256, batch_size=4)
    for one in found.object_prediction_list:
        print(one.category.name, f"{one.score.value:.2f}", [round(v) for v in one.bbox.to_xyxy()])
