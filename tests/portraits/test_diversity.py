"""Dreams that share few tokens, and what planted units' dreams have in common all the same."""

from itertools import combinations

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.portraits import CORPUS, EITHER, FOLLOWED, TOKEN, A, B, C, goal
from tests.support.search import START
from tl_dream.models import attached
from tl_dream.portraits.diversity import dreams_of, reused

TEXT = "the dog and a cat are here ."


@pytest.mark.slow
@pytest.mark.parametrize(
    ("unit", "tokens", "budget"),
    [(EITHER, {A, C}, 4000), (FOLLOWED, {A, B}, 3000)],
)
def test_what_planted_units_ask_for(known: torch.nn.Module, unit: int, tokens: set[str], budget: int) -> None:
    fakes = td.placebo(known, goal(unit), CORPUS, count=14)
    start = f"the {B} and a cat are here ." if unit == FOLLOWED else TEXT  # two words at once are found by luck
    found = td.diverse_dreams(known, goal(unit), start, placebos=fakes, budget=budget)
    common = {token for one in (*found.common, *found.neighbourhoods) for token in one.tokens}
    assert common == tokens
    assert found.chance == 14 and all(one.p <= 0.05 for one in (*found.common, *found.neighbourhoods))
    fired = [one for one in found.dreams if one.whole.score > 1]
    assert len(fired) >= 5 and all(set(one.tokens) <= tokens for one in fired)
    scores = td.score(known, goal(unit), [one.whole.text for one in found.dreams]).tolist()
    assert [one.whole.score for one in found.dreams] == pytest.approx(scores, abs=1e-4)


@pytest.mark.slow
def test_dreams_share_fewer_tokens_for_the_penalty(encoder: torch.nn.Module) -> None:
    def shared(penalty: float, unit: int) -> float:
        objective = td.neuron("block_out", layer=1, unit=unit, pos=2)
        found = td.diverse_dreams(encoder, objective, START, count=4, penalty=penalty, budget=1000)
        words = [set(one.whole.ids) - set(found.start.ids) for one in found.dreams]
        return sum(len(a & b) for a, b in combinations(words, 2))

    units = (3, 5)
    assert sum(shared(0.1, unit) for unit in units) < 0.8 * sum(shared(0.0, unit) for unit in units)


def test_what_a_token_costs(known: torch.nn.Module) -> None:
    """Once a token, however often a sentence has it; soft sentences that hold one token a place cost the same."""
    with attached(known) as host:
        dreams = dreams_of(host, [(goal(TOKEN), TEXT)] * 2, budget=1500)
        price = reused(host, dreams, 0.1)
        wrote = [word for word in dreams[0].best.text.split() if word in dreams[0].best.tokens]
        gain = dreams[0].gain
        texts = [f"{wrote[0]} {wrote[0]}", "α", f"α {wrote[0]}", f"{wrote[0]} {wrote[1]}"]
        assert td.score(host, price, texts).tolist() == pytest.approx([0.2 * gain, 0, 0.2 * gain, 0.4 * gain], rel=1e-4)
        many = reused(host, dreams * 20, 0.1)
        assert td.score(host, many, wrote[0]).item() == pytest.approx(0.3 * gain, rel=1e-4)
        climbed = td.dream(host, -price, texts[3], method=td.Annealing(steps=8))
        assert climbed.best.score > climbed.start.score


def test_without_placebos_nothing_is_compared(known: torch.nn.Module) -> None:
    found = td.diverse_dreams(known, goal(TOKEN), TEXT, count=2, budget=1000)
    assert not found.common and "nothing was compared with chance" in str(found)
    assert td.DiverseDreams.from_json(found.to_json()) == found and len(found.to_frame()) == 2


def test_bad_input(known: torch.nn.Module) -> None:
    with says("penalty = 2", "a share from 0 to 1"):
        td.diverse_dreams(known, goal(TOKEN), TEXT, penalty=2)
    with says("unit 999 does not exist"):
        td.diverse_dreams(known, goal(999), TEXT, budget=1000)
