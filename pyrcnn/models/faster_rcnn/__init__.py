"""Faster R-CNN: region proposals by a network that shares the detector's features (Ren et al. 2015)."""

from .model import FasterRCNN, FasterRCNNConfig
from .roi_head import RoIConfig
from .rpn import RPNConfig

__all__ = ["FasterRCNN", "FasterRCNNConfig", "RPNConfig", "RoIConfig"]
