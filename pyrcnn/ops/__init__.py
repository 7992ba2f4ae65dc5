"""The operators: torchvision's, with the same names and results, and those that torchvision does not have.

Shapes use the letters defined in :mod:`pyrcnn.structures`. Bad arguments raise :class:`pyrcnn.InputError`.
"""

# non-maximum suppression
from .nms import batched_nms, nms, nms_padded

# isort: split
# RoI pooling
from .crop_and_resize import crop_and_resize
from .poolers import MultiScaleRoIAlign
from .roi_align import RoIAlign, roi_align, roi_align_levels
from .roi_pool import RoIPool, roi_pool

# isort: split
# postprocessing of an RPN and of a RoI head
from .generate_proposals import generate_proposals
from .roi_detections import roi_detections

# isort: split
# boxes
from .boxes import (
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    complete_box_iou,
    distance_box_iou,
    generalized_box_iou,
    masks_to_boxes,
    remove_small_boxes,
)
from .decode_anchors import decode_anchors
from .decode_boxes import decode_boxes
from .encode_boxes import encode_boxes
from .grid_anchors import grid_anchors
from .match_boxes import Matches, match_boxes

# isort: split
# heatmaps
from .decode_centers import decode_centers
from .draw_gaussians import draw_gaussians
from .heatmap_peaks import Peaks, heatmap_peaks
from .match_keypoints import match_keypoints

# isort: split
# images
from .preprocess import preprocess

# isort: split
# layers and losses
from .feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from .losses import complete_box_iou_loss, distance_box_iou_loss, generalized_box_iou_loss, sigmoid_focal_loss
from .misc import FrozenBatchNorm2d

__all__ = [
    "FeaturePyramidNetwork",
    "FrozenBatchNorm2d",
    "LastLevelMaxPool",
    "Matches",
    "MultiScaleRoIAlign",
    "Peaks",
    "RoIAlign",
    "RoIPool",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "clip_boxes_to_image",
    "complete_box_iou",
    "complete_box_iou_loss",
    "crop_and_resize",
    "decode_anchors",
    "decode_boxes",
    "decode_centers",
    "distance_box_iou",
    "distance_box_iou_loss",
    "draw_gaussians",
    "encode_boxes",
    "generalized_box_iou",
    "generalized_box_iou_loss",
    "generate_proposals",
    "grid_anchors",
    "heatmap_peaks",
    "masks_to_boxes",
    "match_boxes",
    "match_keypoints",
    "nms",
    "nms_padded",
    "preprocess",
    "remove_small_boxes",
    "roi_align",
    "roi_align_levels",
    "roi_detections",
    "roi_pool",
    "sigmoid_focal_loss",
]
