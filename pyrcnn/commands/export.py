"""``pyrcnn export``: a detector as a PyTorch program, an AOTInductor package, or in ONNX."""

from __future__ import annotations

from pathlib import Path

import torch

from .. import deploy
from ..atomic import check_outputs
from . import terminal
from .common import open_model, parse_dtype


def run(out: Path, model: str | None, weights: str, format: str, size: tuple[int, int] | None, batch: int | None,
        pixels: bool, dtype: str | None, device: str, overwrite: bool) -> None:  # fmt: skip
    """Write the model in one of ``deploy.FORMATS`` and print the file's name."""
    check_outputs([out], "out", overwrite=overwrite, inputs=[weights])
    precision = parse_dtype(dtype)
    if isinstance(precision, str):
        precision = deploy.fastest_dtype(torch.device(device))
    opened = open_model(model, weights, device)
    terminal.show(deploy.export(opened, out, format, size, whole=not pixels, batch=batch, dtype=precision,
                                overwrite=overwrite))  # fmt: skip
