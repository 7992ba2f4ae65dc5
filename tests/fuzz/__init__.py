"""Seeded fuzzers: random calls and random files. Nothing that they make may crash, hang or be used wrongly."""
