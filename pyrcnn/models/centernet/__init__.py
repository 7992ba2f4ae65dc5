"""CenterNet: objects as points (Zhou, Wang, Krähenbühl 2019)."""

from .model import CenterNet, CenterNetConfig

__all__ = ["CenterNet", "CenterNetConfig"]
