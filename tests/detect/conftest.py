"""A small model's weights, as in the tests of the other commands."""

from tests.test_cli import weights  # noqa: F401
