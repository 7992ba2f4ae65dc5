"""What the folder of a run tells: ``config.json``, a table, curves, and a picture of the first batches."""

from __future__ import annotations

from . import contact_sheet, curves
from .configuration import file_entry, model_of, read, settings_of, write

__all__ = ["contact_sheet", "curves", "file_entry", "model_of", "read", "settings_of", "write"]
