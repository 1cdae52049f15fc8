"""The room reconstruction.inversion."""

from types import SimpleNamespace

import pytest
import torch

import tl_dream as td
from tests.support.objectives import raw
from tests.support.reconstruction import QUICK, TEXT, tensor_of
from tl_dream.models import attached, forward
from tl_dream.reconstruction.inversion import whitening
from tl_dream.reconstruction.targets import frame
from tl_dream.reconstruction.token_swaps import TokenSpace
from tl_dream.search.engine import run


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


def test_whitened_units_are_about_equally_strong(encoder: torch.nn.Module, unchecked: None) -> None:
    """Those of sentences that the map was not made of."""
    with attached(encoder) as host:
        name, sentence = host.resolve("block_out", 1), frame(host, 8)
        target = SimpleNamespace(
            name=name, sentence=sentence, units=None, values=torch.zeros(8, 24), columns=lambda activation: activation
        )
        space = TokenSpace(host, target, host.vocabulary.allowed("no_special"))
        stretch = run(host, whitening(host, target, space, 0))
        draw = torch.Generator().manual_seed(1)
        ids = torch.tensor(sentence.ids).repeat(200, 1)
        pool = space.allowed.nonzero()[:, 0]
        ids[:, 1:-1] = pool[torch.randint(len(pool), (200, 6), generator=draw)]
        units = forward(host, ids, [name])[name][:, 1:-1].flatten(0, 1)
        units = (units - units.mean(0)).detach()

    def spread(values: torch.Tensor) -> float:
        strong = torch.linalg.svdvals(values)[:16]  # LayerNorm takes some away, and the ridge holds back the weakest
        return float(strong[0] / strong[-1])

    assert spread(units @ stretch) < 0.5 * spread(units)
