"""Tests of scores, analyses and reports."""
