"""The room concepts.significance."""

import numpy
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.concepts import cloud
from tl_dream.concepts.examples import read_examples
from tl_dream.concepts.significance import (
    deal,
    interval,
    p_values,
    random_accuracies,
    shuffle,
    split,
    stability,
    wilson,
)

VERBS = ("run", "walk", "sing", "see", "love")


def test_the_split_parts_no_group_and_keeps_both_sets() -> None:
    labels = numpy.arange(40) % 2 == 1
    groups = numpy.arange(40) // 2
    test = split(groups, labels, 0.25, numpy.random.default_rng(0))
    assert test.sum() == 10 and labels[test].sum() == 5
    assert all(test[groups == group].all() or not test[groups == group].any() for group in groups)
    assert not numpy.array_equal(test, split(groups, labels, 0.25, numpy.random.default_rng(1)))
    alone = split(numpy.arange(40), labels, 0.25, numpy.random.default_rng(0))  # no pairs: of each set a quarter
    assert alone.sum() == 10 and labels[alone].sum() == 5
    mixed = numpy.minimum(numpy.arange(40) // 2, 10 + numpy.arange(40) // 4)  # pairs, and more of one set alone
    some = labels | (numpy.arange(40) >= 30)
    for kinds, sides in ((numpy.arange(40), numpy.arange(40) < 15), (mixed, some)):
        one, other = (split(kinds, s, 0.25, numpy.random.default_rng(5)) for s in (sides, ~sides))
        assert numpy.array_equal(one, other)  # whatever the sets are called
    with says("the negative set has 1 sentence(s)", "at least 3"):
        split(numpy.arange(5), numpy.array([False, True, True, True, True]), 0.25, numpy.random.default_rng(0))
    with says("test_share = 1.5"):
        split(groups, labels, 1.5, numpy.random.default_rng(0))


def test_intervals() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Brown, Cai and DasGupta (2001)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    right = numpy.array([True] * 8 + [False] * 2)
    assert interval(right, numpy.arange(10)) == wilson(8, 10)
    assert interval(right, numpy.arange(10) // 2) == wilson(4, 5)
    low, high = interval(numpy.array([True] * 59 + [False]), numpy.arange(60) // 2)
    assert low < 59 / 60 < high < 1


def test_p_values_count_and_are_corrected_by_the_best_layer() -> None:
    chance = numpy.array([[0.5, 0.6], [0.9, 0.5], [0.4, 0.7]])
    assert p_values([0.9, 0.7], chance) == [(0.5, 0.5), (0.5, 0.75)]
    assert p_values([1.0, 0.95], chance) == [(0.25, 0.25), (0.25, 0.25)]


def test_random_labels_reach_chance_where_there_is_a_concept_too() -> None:
    units, labels = cloud(80)
    test = numpy.arange(80) >= 60
    chance = random_accuracies("mean", [units, units[:, ::-1].copy()], labels, test, 200, numpy.random.default_rng(0))
    assert chance.shape == (200, 2) and numpy.allclose(chance.mean(0), 0.5, atol=0.05)
    dealt = shuffle(labels, test, numpy.random.default_rng(0))
    assert dealt[test].sum() == labels[test].sum() and dealt.sum() == labels.sum()
    assert not numpy.array_equal(dealt, labels)
    turned = shuffle(~labels, test, numpy.random.default_rng(0))
    assert numpy.array_equal(turned, ~dealt)


def test_labels_without_a_concept_are_not_significant(encoder: torch.nn.Module) -> None:
    """Pure noise: of many fits few have a small corrected p-value."""
    words = "dog cat bird fish horse house tree river sea sun moon star rain snow wind fire".split()
    small = 0
    for seed in range(6):
        draw = numpy.random.default_rng(seed)
        texts = [f"the {a} and the {b} ." for a in words[:6] for b in words[8:14]]
        draw.shuffle(texts)
        sets = read_examples(texts[:14], texts[14:28], positive_pos=1, negative_pos=1)
        found = td.fit_concepts(encoder, sets, layers=[0, 1, 2], seed=seed, random_concepts=50, bootstraps=1)
        small += any(evidence.p_corrected < 0.1 for evidence in found.evidence)
    assert small <= 3


def test_bootstrap_samples_on_which_nothing_is_found_are_left_out_and_told(encoder: torch.nn.Module) -> None:
    """Of three sentences a side a sample often holds one alone, over and over: no spread, and no LDA."""
    sets = read_examples([f"she {verb}" for verb in VERBS], [f"he {verb}" for verb in VERBS])
    found = td.fit_concept(encoder, sets, layer=1, estimator="lda", random_concepts=50, bootstraps=40)
    e = found.evidence
    assert 0 < e.bootstraps < e.bootstraps_drawn == 40 and -1 <= e.stability_low <= e.stability <= 1
    assert f"{e.bootstraps} bootstrap samples of 40, no direction on the others" in str(found)
    units, labels = numpy.eye(2)[[0, 1, 0, 1]], numpy.array([False, True, False, True])
    draw = numpy.random.default_rng(0)
    with says("from 4 sentences in 2 groups", "no bootstrap sample", "'lda' needs sets"):
        stability("lda", units, labels, numpy.array([0, 0, 1, 1]), units[1], 5, draw)
    with says("every one lacked one of the two sets", "Give more sentences"):
        stability("mean", units[:2], labels[:2], numpy.array([0, 1]), units[1], 1, AlwaysFirst(numpy.random.PCG64()))


class AlwaysFirst(numpy.random.Generator):
    """A generator of samples that hold the first group alone."""

    def integers(self, count: int, size: int) -> numpy.ndarray:  # type: ignore[override]
        return numpy.zeros(size, dtype=int)


def test_dealt_labels_are_even_in_both_sets() -> None:
    import numpy

    labels = numpy.arange(20) < 8
    dealt = deal(labels, numpy.random.default_rng(0))
    assert dealt[labels].sum() == 4 and dealt[~labels].sum() == 6
    assert not numpy.array_equal(dealt, deal(labels, numpy.random.default_rng(1)))
    assert numpy.array_equal(~deal(~labels, numpy.random.default_rng(0)), dealt)
