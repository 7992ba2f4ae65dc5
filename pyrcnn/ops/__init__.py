"""The operators: torchvision's names with torchvision's behaviour, and what no peer has beside them."""

# boxes
from .decode_boxes import decode_boxes

__all__ = ["decode_boxes"]
