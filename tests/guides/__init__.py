"""Runs what the pages of docs/guides and docs/understanding show, and compares the output."""
