"""Writes docs/MODELS.md, and pyrcnn/assets/models.json with the models' sizes, which it takes from the models."""

from __future__ import annotations

import json
from pathlib import Path

from pyrcnn import models
from pyrcnn.checkpoints import cards

if __name__ == "__main__":
    measured = {name: cards.measure(name) for name in models.names()}
    cards.MEASURED.write_text(json.dumps(measured, indent=1) + "\n")
    (Path(__file__).parent / "MODELS.md").write_text(cards.markdown())
