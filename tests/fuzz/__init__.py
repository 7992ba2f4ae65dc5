"""Seeded random tests of what comes from outside."""
