"""``pyrcnn convert``: another program's weights into a file of ours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from .. import checkpoints, models, settings
from ..atomic import check_outputs
from ..checkpoints import zoo
from ..errors import require
from . import terminal
from .common import check_name, published_weights


def run(source: str, out: Path, name: str, changes: Sequence[str], half: bool, overwrite: bool) -> None:
    """Read ``source`` into the model ``name``, write it, and print the report of what was used."""
    check_name(name)
    require(out.suffix == ".safetensors", f"the file to write must end in .safetensors, got {out}")
    (of_model,) = settings.parse(changes, models.PRESETS[name])
    check_outputs([out], "out", overwrite=overwrite, inputs=[source])
    if source == zoo.ZOO:
        source = published_weights(name)
    model, report = checkpoints.build(name, source, **of_model)
    checkpoints.save(model, out, torch.float16 if half else None, overwrite=overwrite)
    terminal.show(*str(report).split("\n"), out)
