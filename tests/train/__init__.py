"""Tests of training: results, signals, several processes, devices."""
