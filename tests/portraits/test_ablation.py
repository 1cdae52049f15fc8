"""Words replaced, each set of them scored once."""

import random
from collections.abc import Iterable
from itertools import combinations

import pytest
import torch

import tl_dream as td
from tests.support.portraits import EITHER, TOKEN, A, goal
from tests.support.search import outcome_of
from tl_dream.models import attached
from tl_dream.portraits.ablation import Ablation, Slots, fewest
from tl_dream.search import Search, run


def test_sets_score_what_their_text_does(known: torch.nn.Module) -> None:
    with attached(known) as host:
        sentence = host.vocabulary.read(td.Prompt("the moon and the bread", free=[2, 3, 5]))
        scores = Ablation(host, goal(EITHER, "and"), sentence, sentence.ids, "mask")
        texts = {
            (): "the [MASK] [MASK] the [MASK]",
            (0,): "the moon [MASK] the [MASK]",
            (0, 2): "the moon [MASK] the bread",
        }
        found = run(host, scores(frozenset(kept) for kept in texts))
        assert found == pytest.approx(td.score(known, goal(EITHER, 3), list(texts.values())).tolist(), abs=1e-5)
        spent = host.meter.forwards
        assert outcome_of(scores([frozenset((0,))] * 2)) == found[1:2] * 2 and host.meter.forwards == spent


def test_the_indifferent_word_is_the_median_of_its_sample(known: torch.nn.Module) -> None:
    with attached(known) as host:
        sentence = host.vocabulary.read("the moon")
        for seed in range(5):
            scores = Ablation(host, td.neuron("block_out", layer=1, unit=3), sentence, sentence.ids, seed=seed)
            (found,) = run(host, scores([frozenset()]))
            word = scores.told.split("'")[1]
            again = td.score(known, td.neuron("block_out", layer=1, unit=3), f"{word} {word}").item()
            assert found == pytest.approx(again, abs=1e-5) and "median of 32" in scores.told
            other = Ablation(host, goal(TOKEN), sentence, sentence.ids, seed=seed)
            run(host, other([frozenset()]))
            assert other.told.split("'")[1] != A


@pytest.mark.parametrize("seed", range(30))
def test_no_smaller_set_does(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(1, 6)
    every = [frozenset(one) for size in range(count + 1) for one in combinations(range(count), size)]
    table = {one: draw.random() * len(one) for one in every}
    table[every[-1]] = max(table.values())
    wanted = 0.9 * table[every[-1]]

    def scores(sets: Iterable[Slots]) -> Search[list[float]]:
        yield from ()
        return [table[one] for one in sets]

    found, value, certain = outcome_of(fewest(scores, count, wanted, 10_000))
    enough = [one for one in every if table[one] >= wanted]
    size = min(map(len, enough))
    assert table[found] == value >= wanted
    if certain:
        assert len(found) == size
    if size <= 4:
        assert certain and value == max(table[one] for one in enough if len(one) == size)
    greedy, value, certain = outcome_of(fewest(scores, count, wanted, 0))
    assert table[greedy] == value >= wanted and len(greedy) >= size and (not certain or not greedy)
