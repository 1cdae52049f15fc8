"""A concept of the tiny encoder on every backend."""

import pytest
import torch

import tl_dream as td
from tests.support.concepts import QUICK, SETS
from tl_dream.concepts.vectors import ConceptVector, ConceptVectors


@pytest.fixture(scope="module")
def concepts(tiny_encoder: torch.nn.Module) -> ConceptVectors:
    return td.fit_concepts(tiny_encoder, SETS, **QUICK)


@pytest.fixture(scope="module")
def concept(concepts: ConceptVectors) -> ConceptVector:
    return concepts[1]
