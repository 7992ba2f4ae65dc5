"""The operators: torchvision's names with torchvision's behaviour, and what no peer has beside them."""

# boxes
from .decode_boxes import decode_boxes

# regions of interest
from .roi_align import RoIAlign, roi_align, roi_align_levels

__all__ = ["RoIAlign", "decode_boxes", "roi_align", "roi_align_levels"]
