"""The weights and images that come with the package."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parent.parent / "assets"
DEFAULT = "faster_rcnn_mobilenet_v2_fpn"  # the model that detects when none is named


def weights() -> dict[str, Path]:
    """The models with bundled weights: name → file."""
    return {path.stem: path for path in sorted(ASSETS.glob("*.safetensors"))}


def images() -> list[Path]:
    """The bundled images."""
    return sorted(ASSETS.glob("*.jpg"))
