"""Readers of other programs' weights, one file per format: ``matches(source)`` and ``read(model, entries)``."""
