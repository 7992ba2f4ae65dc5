"""Faster R-CNN: region proposals by a network that shares the detector's features (Ren et al. 2015)."""

from .config import FasterRCNNConfig, RoIConfig, RPNConfig
from .model import FasterRCNN

__all__ = ["FasterRCNN", "FasterRCNNConfig", "RPNConfig", "RoIConfig"]
