"""A judge, and the encoder in double precision."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import _guarded
from tl_dream.objectives.bigrams import BigramModel


@pytest.fixture(scope="module")
def encoder64(tiny_folder: Path) -> Iterator[torch.nn.Module]:
    yield from _guarded(td.load_model(str(tiny_folder), dtype=torch.float64))


@pytest.fixture(scope="module")
def bigrams(encoder64: torch.nn.Module) -> BigramModel:
    return td.count_bigrams(encoder64, ["the red dog", "the red cat", "a red dog", "", "   "], strength=2.0)
