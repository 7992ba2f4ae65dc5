"""Speed, measured: ``pytest benchmarks/`` (see README.md in this folder)."""
