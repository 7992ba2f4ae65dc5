"""Recipes: settings of :func:`pyrcnn.train.fit` that are known to work.

``CATALOG`` has them by name, with what each reproduces; ``RECIPES`` has their settings alone.
"""

from __future__ import annotations

from ..config import TrainConfig
from .base import Recipe
from .differences import differences
from .general import GENERAL
from .published import PUBLISHED

CATALOG: dict[str, Recipe] = GENERAL | PUBLISHED
# Name → the settings of a training; `pyrcnn models --recipes` lists them.
RECIPES: dict[str, TrainConfig] = {name: recipe.config for name, recipe in CATALOG.items()}

__all__ = ["CATALOG", "RECIPES", "Recipe", "differences"]
