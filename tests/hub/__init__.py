"""Tests of models in folders and on the Hub."""
