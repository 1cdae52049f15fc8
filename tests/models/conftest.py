"""Fixtures of several rooms (models)."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copied(tiny_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint that a test may break."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "copy"))
