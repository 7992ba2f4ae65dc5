"""Weights from and to files: ``save`` writes our own format, ``load`` reads every format in ``READERS``."""

from ..models.saved import save
from .imagenet import load_backbone
from .reading import READERS, build, load
from .report import Report

__all__ = ["READERS", "Report", "build", "load", "load_backbone", "save"]
