"""Plots of what the other wings give."""

from tests.reconstruction.conftest import layers  # noqa: F401
