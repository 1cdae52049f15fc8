"""The encoder, and sentences read back from its layers."""

import pytest
import torch

import tl_dream as td
from tests.support.reconstruction import TEXT
from tl_dream.results.layers import LayerReconstructions


@pytest.fixture(scope="session")
def model(encoder: torch.nn.Module) -> torch.nn.Module:
    """One backend will do for most."""
    return encoder


@pytest.fixture(scope="module")
def layers(encoder: torch.nn.Module) -> LayerReconstructions:
    """Layer 0 as it is, and layer 2 with too little time."""
    good = td.reconstruct_layers(encoder, TEXT, layers=[0], progress=False)
    poor = td.reconstruct_layers(encoder, TEXT, layers=[2], budget=120, patience=0, progress=False)
    return LayerReconstructions(good.text, None, (*good.layers, *poor.layers))
