"""What random directions and units come to, and that few of the former are taken for the latter."""

import pytest
import torch

import tl_dream as td
from tests.support.portraits import CORPUS, TOKEN, A, B, C, goal
from tl_dream.models import attached
from tl_dream.portraits.comparison import MEASURES, Compared, Nearness, compare, peaks, standing
from tl_dream.portraits.placebos import directions, sampled, word_values


def test_nearness_is_one_for_the_same_tokens(known: torch.nn.Module) -> None:
    with attached(known) as host:
        near = Nearness(host)
        ids = host.vocabulary.encode(f"{A} {B} {C} dog cat")[1:-1]
        assert near(ids, ids) == pytest.approx(1) and near(ids[:1], ids[:1] * 2) == pytest.approx(1)
        assert near(ids[:2], ids[3:]) == near(ids[3:], ids[:2]) < 0.5
        assert near(ids, []) == near([], ids) == 0
        half = near(ids[3:4], ids[3:])
        assert near(ids[3:4], ids[4:]) < half < 1


def test_the_measures_of_a_planted_unit(known: torch.nn.Module) -> None:
    with attached(known) as host:
        sentences = sampled(host, CORPUS, 100, 0)
        best = td.corpus_search(host, [goal(TOKEN)], CORPUS, top=1)
        values = word_values(host, [goal(TOKEN)], sentences).double()
        options = {"budget": 800, "allowed": "no_special", "seed": 0}
        (own,) = compare(host, [goal(TOKEN)], [["the dog", "a red cat"]], values, best, **options)
        assert [one.tokens for one in own.dreams] == [(A,), (A,)]
        height, count, agree, people = own.values
        values = torch.tensor(
            [v for h in td.corpus_search(host, goal(TOKEN), CORPUS, top=99).top for v in h.activations[1:-1]]
        )
        score = max(one.whole.score for one in own.dreams)
        assert height == pytest.approx(((score - values.mean()) / values.std(correction=0)).item(), rel=1e-3)
        assert count == 1 and agree == pytest.approx(1) and 0.3 < people < 1
        assert A in host.vocabulary.tokens(peaks(best[0])) and len(peaks(best[0])) == 3


@pytest.mark.slow
def test_a_random_direction_is_seldom_taken_for_a_unit(known: torch.nn.Module) -> None:
    """Of 100, each among 20 others; the planted unit is told apart."""
    with attached(known) as host:
        sentences = sampled(host, CORPUS, 100, 0)
        unit = td.neuron("block_out", layer=0, unit=3)
        every = directions(host, unit, sentences[0], 120, "random", 3, 1)
        best = td.corpus_search(host, every, CORPUS, top=4)
        values = word_values(host, every, sentences).double()
        starts = [["the red dog sees a cat", "she can read the letter"]] * len(every)
        found = compare(host, every, starts, values, best, budget=600, allowed="no_special", seed=0)
        taken = sum(standing(found[i], [found[(i + k) % 120] for k in range(1, 21)]).distinguished for i in range(100))
        assert taken <= 5


def test_a_standing_counts_every_measure_in_its_own_direction() -> None:
    others = [Compared((), (float(i), 5.0 + i, 0.1 * i, 0.0)) for i in range(5)]
    one_more = 1.2 * 2.5  # the variance of 0 to 4, of one more direction
    placed = standing(Compared((), (2 + 4.1 * one_more**0.5, 1.0, 0.9, 0.0)), others)
    assert [one.beyond for one in placed.measures] == [0, 0, 0, 5]
    far = [one.deviations for one in placed.measures]
    assert far == pytest.approx([4.1, 6 / one_more**0.5, 7 / one_more**0.5, 0]) and placed.deviations == max(far)
    assert [one.name for one in placed.by] == [MEASURES[0][0], MEASURES[2][0]] and placed.distinguished
    assert "stands out from 5 random directions by: best dream" in str(placed)
    worse = standing(Compared((), (2 + 3.9 * one_more**0.5, 15.0, -0.9, 0.0)), others)
    assert not worse.by and worse.measures[1].deviations < -4 and "nothing distinguishes this unit" in str(worse)
    same = standing(others[0], [others[0]] * 3)
    assert same.deviations == 0 and not same.distinguished
