"""Tests of ``pyrcnn detect``: what it reads, and the forms of its results."""
