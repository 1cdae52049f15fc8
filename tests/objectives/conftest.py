"""A judge."""

import pytest
import torch

import tl_dream as td
from tl_dream.objectives.bigrams import BigramModel


@pytest.fixture(scope="module")
def bigrams(encoder64: torch.nn.Module) -> BigramModel:
    return td.count_bigrams(encoder64, ["the red dog", "the red cat", "a red dog", "", "   "], strength=2.0)
