"""A concept of the tiny encoder, and an edit along it."""

import pytest
import torch

import tl_dream as td
from tests.support.concepts import QUICK, SETS
from tests.support.editing import TEXT
from tl_dream.concepts.vectors import ConceptVectors
from tl_dream.results.edits import ConceptEdit


@pytest.fixture(scope="module")
def concepts(encoder: torch.nn.Module) -> ConceptVectors:
    return td.fit_concepts(encoder, SETS, **QUICK)


@pytest.fixture(scope="module")
def edit(encoder: torch.nn.Module, concepts: ConceptVectors) -> ConceptEdit:
    return td.edit_concept(
        encoder, concepts, TEXT, pos="he", magnitudes=[-1, 0, 2], layers=[0, 2], controls=True, width=8
    )
