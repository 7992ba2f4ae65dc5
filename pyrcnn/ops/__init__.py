"""The operators: torchvision's names with torchvision's behaviour, and what no peer has beside them."""

# boxes
from .decode_boxes import decode_boxes

# heat maps
from .decode_centers import decode_centers
from .draw_gaussians import draw_gaussians
from .encode_boxes import encode_boxes

# whole tails of detectors
from .generate_proposals import generate_proposals
from .grid_anchors import grid_anchors
from .heatmap_peaks import Peaks, heatmap_peaks
from .match_boxes import Matches, match_boxes

# regions of interest
from .roi_align import RoIAlign, roi_align, roi_align_levels

__all__ = [
    "Matches",
    "Peaks",
    "RoIAlign",
    "decode_boxes",
    "decode_centers",
    "draw_gaussians",
    "encode_boxes",
    "generate_proposals",
    "grid_anchors",
    "heatmap_peaks",
    "match_boxes",
    "roi_align",
    "roi_align_levels",
]
