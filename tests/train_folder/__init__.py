"""Tests of what a training run leaves in its folder, and of continuing it from there."""
