"""The room reconstruction.inversion."""

import pytest
import torch

import tl_dream as td
from tests.support.objectives import raw
from tests.support.reconstruction import QUICK, TEXT, tensor_of


@pytest.mark.slow
def test_minilm_gives_its_sentences_back(minilm):
    text = "The hearing took place in Blythe 's absence ."
    for layer in (1, 5):
        result = td.reconstruct(minilm, text, layer=layer, **QUICK)
        assert result.exact and result.certified, str(result)
    noisy = td.damaged(raw(minilm, text, "block_out", 3), "noise 0.05")
    result = td.reconstruct(minilm, noisy, layer=3, patience=0, truth=text, **QUICK)
    assert result.exact and not result.certified and result.gap == pytest.approx(0.05, rel=0.1)


def test_more_starts_are_never_worse_and_a_seed_is_a_seed(model):
    target = tensor_of(model).clone()
    target[3] += torch.randn(24, generator=torch.Generator().manual_seed(3))
    first, again, more = (
        td.reconstruct(model, target, TEXT, layer=0, patience=0, starts=n, seed=4, **QUICK) for n in (1, 1, 3)
    )
    assert first.to_json() | {"seconds": 0} == again.to_json() | {"seconds": 0}
    assert more.loss <= first.loss * 1.0001


def test_the_budget_holds(model):
    small = td.reconstruct(model, TEXT, layer=2, budget=300, rivals=0, **QUICK)
    assert small.stopped == "budget" and small.cost.forwards < 300 + 300
    least = td.reconstruct(model, TEXT, layer=2, budget=1, rivals=0, **QUICK)
    assert least.stopped == "budget" and len(least.tokens) == 8


def test_patience(model):
    target = torch.randn(4, 24, generator=torch.Generator().manual_seed(0))
    costs = []
    for patience in (0, 1):
        result = td.reconstruct(model, target, layer=0, patience=patience, rivals=0, budget=100_000, **QUICK)
        assert result.stopped == "settled"
        costs.append(result.cost.forwards)
    assert costs[1] > 1.5 * costs[0]
