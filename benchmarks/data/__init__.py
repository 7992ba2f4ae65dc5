"""Measurements of data sets."""
