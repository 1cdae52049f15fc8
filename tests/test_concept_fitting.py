"""Fitting a concept: planted directions are found, the split is honest, chance is chance, bad input is told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from conftest import says

import tl_dream as td
from tl_dream.concept_collection import collect
from tl_dream.concept_estimators import CLASSIFIERS, ESTIMATORS, fit_boundary
from tl_dream.concept_estimators import _logistic as logistic
from tl_dream.concept_examples import read_examples
from tl_dream.concept_tests import interval, p_values, random_accuracies, shuffle, split, stability, wilson
from tl_dream.hosts import attached

QUICK = {"random_concepts": 50, "bootstraps": 3}
FRAMES = [
    f"the {noun} can see {{}} {verb}" for noun in ("dog", "cat", "bird", "king") for verb in ("run", "walk", "sing")
]
HE, SHE = [frame.format("he") for frame in FRAMES], [frame.format("she") for frame in FRAMES]
SETS = read_examples(SHE, HE)
VERBS = ("run", "walk", "sing", "see", "love")


@pytest.fixture(scope="module")
def tiny_encoder(tiny_folder: Path) -> torch.nn.Module:
    """On one backend: test_concepts and test_no_trace go through all of them."""
    return td.load_model(str(tiny_folder))


def cloud(count: int = 60, width: int = 12, gap: float = 6.0) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Two clouds that lie apart along unit 3, the negative mean at unit 3 = 1."""
    draw = numpy.random.default_rng(0)
    labels = numpy.arange(count) % 2 == 1
    units = draw.normal(size=(count, width))
    units[:, 3] += 1 + gap * labels
    return units, labels


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_finds_a_planted_direction(estimator: str) -> None:
    units, labels = cloud()
    found = fit_boundary(estimator, units, labels)
    assert numpy.linalg.norm(found.direction) == pytest.approx(1)
    assert found.direction[3] > 0.7
    assert found.right(units, labels).mean() > 0.95
    assert abs(found.threshold - units.mean(0) @ found.direction) < 1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_which_set_is_called_positive_turns_the_sign_and_nothing_else(estimator: str) -> None:
    units, labels = cloud()
    one, other = fit_boundary(estimator, units, labels), fit_boundary(estimator, units, ~labels)
    assert numpy.array_equal(one.direction, -other.direction) and one.threshold == -other.threshold


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_boundary_moves_with_the_data(estimator: str) -> None:
    """An offset and a change of unit change the threshold alone."""
    units, labels = cloud()
    one, other = fit_boundary(estimator, units, labels), fit_boundary(estimator, 5 * units + 2, labels)
    assert numpy.allclose(one.direction, other.direction, atol=1e-3)
    assert other.threshold == pytest.approx(5 * one.threshold + 2 * other.direction.sum(), abs=0.1)


def test_mean_and_pattern_by_hand() -> None:
    units, labels = cloud()
    labels = labels & (numpy.arange(60) < 30)  # not as many of each
    gap = units[labels].mean(0) - units[~labels].mean(0)
    covariance = ((units - units.mean(0)) * (labels - labels.mean())[:, None]).mean(0)
    assert numpy.allclose(fit_boundary("mean", units, labels).direction, gap / numpy.linalg.norm(gap))
    assert numpy.allclose(fit_boundary("pattern", units, labels).direction, covariance / numpy.linalg.norm(covariance))
    middle = (units[labels].mean(0) + units[~labels].mean(0)) / 2
    found = fit_boundary("mean", units, labels)
    assert found.threshold == pytest.approx(middle @ found.direction)


def test_the_threshold_is_the_classifiers_own() -> None:
    """On sets of unequal size, whose boundary is not midway; against scikit-learn on the raw numbers."""
    from sklearn.covariance import LedoitWolf
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    draw = numpy.random.default_rng(3)
    labels = numpy.arange(200) < 30
    units = 2 * draw.normal(size=(200, 5)) + 3 + labels[:, None]
    lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf())
    expected = lda.fit(units, labels).predict(units)
    found = fit_boundary("lda", units, labels)
    assert numpy.array_equal(found.right(units, expected), numpy.ones(200, dtype=bool))
    middle = (units[labels].mean(0) + units[~labels].mean(0)) @ found.direction / 2
    for estimator in ("logistic", "lda"):
        assert fit_boundary(estimator, units, labels).threshold > middle + 0.5


def test_estimators_refuse() -> None:
    units, labels = cloud()
    with says("unknown estimator 'sgd'", "svm"):
        fit_boundary("sgd", units, labels)
    with says("examples of both sets"):
        fit_boundary("mean", units, labels | True)
    with says("'mean' found no direction", "the same mean activation"):
        fit_boundary("mean", numpy.ones_like(units), labels)
    apart = numpy.where(labels[:, None], units[1], units[0]) * (1 + 1e-8 * units)
    with says("'lda' needs sets whose sentences differ", "try 'mean'"):  # but for float32's rounding all are the same
        fit_boundary("lda", apart, labels)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_unit_that_is_constant_but_for_rounding_gets_no_weight(estimator: str) -> None:
    """As MiniLM's last layer has one."""
    units, labels = cloud()
    units[:, 7] = 0.3 + 1e-7 * numpy.random.default_rng(1).normal(size=60)
    found = fit_boundary(estimator, units, labels)
    assert abs(found.direction[7]) < 1e-5
    assert found.direction @ fit_boundary("mean", units, labels).direction > 0.7


def test_lda_is_a_direction_at_minilms_last_layer(minilm: torch.nn.Module) -> None:
    """On a tenth of the templates: no unit has the weight, and it goes the way that the means go."""
    every = td.load_templates("he_she")
    frames = [item for item in every.items if item.positive][::10]
    texts = {item.text[: item.span[0]] + "{%s}" + item.text[item.span[1] :] for item in frames}
    sets = read_examples([text % "she" for text in texts], [text % "he" for text in texts])
    concept = td.fit_concept(minilm, sets, layer=5, estimator="lda", random_concepts=50, bootstraps=3)
    assert float(concept.direction.abs().max()) < 0.3
    assert concept.evidence.agreement["lda"]["mean"] > 0.3
    assert concept.evidence.accuracy > 0.9 and concept.evidence.stability > 0.5


def test_one_thread_is_what_fitting_takes(tiny_encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for each other took 36 times as long on these small matrices; the user's number comes back."""
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    seen: list[set[int]] = []
    monkeypatch.setitem(
        CLASSIFIERS, "logistic", lambda units, labels: (seen.append(threads()), logistic(units, labels))[1]
    )
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        td.fit_concept(tiny_encoder, SETS, layer=1, **QUICK)
        assert threads() == before
    assert seen and all(found == {1} for found in seen)


# ---------------------------------------------------------------- collecting


def collected(model: torch.nn.Module, examples: td.concept_examples.Examples, **options: object) -> object:
    with attached(model) as host:
        return collect(host, examples, options.get("hook", "block_out"), options.get("layers", [1]))  # type: ignore[arg-type]


def test_activations_are_those_of_the_word(tiny_encoder: torch.nn.Module) -> None:
    found = collected(tiny_encoder, SETS, layers=[0, 2])
    assert [x.shape for x in found.activations] == [(24, 24)] * 2
    for i, item in enumerate(SETS.items):
        pos = 1 + item.text.split().index(item.word)
        for layer, rows in zip((0, 2), found.activations, strict=True):
            unit = td.score(tiny_encoder, td.neuron("block_out", layer=layer, unit=5, pos=pos), item.text)
            assert rows[i, 5] == pytest.approx(float(unit), abs=1e-5)


@pytest.mark.parametrize(
    ("pos", "expected"), [("dog", [2]), (-2, [4]), ([1, 3], [1, 3]), (slice(1, 3), [1, 2]), ("all", [1, 2, 3, 4])]
)
def test_activations_by_position_and_their_mean(
    tiny_encoder: torch.nn.Module, pos: object, expected: list[int]
) -> None:
    sets = read_examples(["the dog was red"], ["my dog can see"], positive_pos=pos, negative_pos=pos)  # type: ignore[arg-type]
    found = collected(tiny_encoder, sets, hook="z")
    assert found.activations[0].shape == (2, 24)  # heads counted through
    for i, item in enumerate(sets.items):
        units = [
            float(td.score(tiny_encoder, td.neuron("z", layer=1, head=2, unit=3, pos=at), item.text)) for at in expected
        ]
        assert found.activations[0][i, 2 * 6 + 3] == pytest.approx(sum(units) / len(units), abs=1e-5)


def test_activations_at_a_mask_and_of_a_word_of_several_pieces(tiny_encoder: torch.nn.Module) -> None:
    masks = read_examples(["a warm [MASK] ."], ["a cold [MASK] ."], positive_pos="[MASK]", negative_pos="[MASK]")
    found = collected(tiny_encoder, masks)
    unit = td.score(tiny_encoder, td.neuron("block_out", layer=1, unit=2, pos=3), "a cold [MASK] .")
    assert found.activations[0][0, 2] == pytest.approx(float(unit), abs=1e-5)
    pieces = read_examples(["i hate {kicks} ."], ["i hate {dogs} ."])  # k ##i ##c ##k ##s; dog ##s
    found = collected(tiny_encoder, pieces)
    for i, (text, places) in enumerate([("i hate dogs .", [3, 4]), ("i hate kicks .", [3, 4, 5, 6, 7])]):
        units = [float(td.score(tiny_encoder, td.neuron("block_out", layer=1, unit=2, pos=p), text)) for p in places]
        assert found.activations[0][i, 2] == pytest.approx(sum(units) / len(units), abs=1e-5)
    assert len(set(found.groups)) == 1  # the same but for the concept word


def test_sentences_that_differ_in_the_concept_word_share_a_group(tiny_encoder: torch.nn.Module) -> None:
    groups = collected(tiny_encoder, SETS).groups
    frames = [item.text.replace(f" {item.word} ", " _ ") for item in SETS.items]
    assert len(set(groups)) == len(FRAMES)
    assert all((groups[i] == groups[j]) == (frames[i] == frames[j]) for i in range(24) for j in range(24))
    whole = read_examples(SHE, HE, positive_pos="all", negative_pos="all")
    assert len(set(collected(tiny_encoder, whole).groups)) == len(FRAMES)
    grid = read_examples(
        ["a dog ran", "a cat ran"], ["my dog ran", "my cat sat"], positive_pos="all", negative_pos="all"
    )
    assert len(set(collected(tiny_encoder, grid).groups)) == 3
    many = [f"the {a} and the {b}" for a in ("dog", "cat", "bird") for b in ("sea", "sun", "moon")]
    apart = read_examples(many[::2], many[1::2], positive_pos=1, negative_pos=1)
    assert len(set(collected(tiny_encoder, apart).groups)) > 5
    start = read_examples(SHE, HE, positive_pos=0, negative_pos=0)
    assert len(set(collected(tiny_encoder, start).groups)) == len(FRAMES)


def test_what_can_not_be_collected(tiny_encoder: torch.nn.Module) -> None:
    with says("is an attention pattern"):
        collected(tiny_encoder, SETS, hook="pattern")
    with says("unknown hook 'block_uot'", "block_out"):
        collected(tiny_encoder, SETS, hook="block_uot")
    with says("layer 7 does not exist"):
        collected(tiny_encoder, SETS, layers=[7])
    repeated = read_examples([*SHE, "she said she ran"], HE, positive_pos="she", negative_pos="he")
    with says("can't be read in 1 of 25 sentences", "positives, item 13", "2 times, at positions 1, 3"):
        collected(tiny_encoder, repeated)
    long = "she said she ran " + "and the dog " * 6
    repeated = read_examples([*SHE, long], HE, positive_pos="she", negative_pos="he")
    with says(
        "positives, item 13, 'she said she ran and the dog and the dog and the dog and...': the word 'she'",
        "at positions 1, 3: give the position instead",
        "Mark the word with braces ({she} is a doctor), or leave these sentences out",
    ):
        collected(tiny_encoder, repeated)
    missing = read_examples(SHE, [*HE, "it is cold"], positive_pos="she", negative_pos="he")
    with says("in 1 of 25", "negatives, item 13", "'he' is not in the sentence"):
        collected(tiny_encoder, missing)
    beyond = read_examples(SHE, HE, positive_pos=9, negative_pos=3)
    with says("in 12 of 24", "position 9 is outside", "and 4 more"):
        collected(tiny_encoder, beyond)
    constant = read_examples([s + " ." for s in SHE], [h + " ." for h in HE], positive_pos=0, negative_pos=0)
    with says("are constant"):
        collected(tiny_encoder, constant, hook="embed", layers=[None])
    same = read_examples(SHE, HE, positive_pos=2, negative_pos=2)
    with says("the two sets have the same mean activation"):
        collected(tiny_encoder, same, hook="embed", layers=[None])


# ---------------------------------------------------------------- tests of a concept


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


def test_labels_without_a_concept_are_not_significant(tiny_encoder: torch.nn.Module) -> None:
    """Pure noise: of many fits few have a small corrected p-value."""
    words = "dog cat bird fish horse house tree river sea sun moon star rain snow wind fire".split()
    small = 0
    for seed in range(6):
        draw = numpy.random.default_rng(seed)
        texts = [f"the {a} and the {b} ." for a in words[:6] for b in words[8:14]]
        draw.shuffle(texts)
        sets = read_examples(texts[:14], texts[14:28], positive_pos=1, negative_pos=1)
        found = td.fit_concepts(tiny_encoder, sets, layers=[0, 1, 2], seed=seed, random_concepts=50, bootstraps=1)
        small += any(evidence.p_corrected < 0.1 for evidence in found.evidence)
    assert small <= 3


# ---------------------------------------------------------------- fit_concept


def test_a_concept_and_its_evidence(tiny_encoder: torch.nn.Module) -> None:
    concept = td.fit_concept(tiny_encoder, SETS, layer=1, **QUICK)
    e = concept.evidence
    assert (concept.layer, concept.hook, concept.name, concept.estimator) == (1, "block_out", "he -> she", "mean")
    assert float(concept.direction.norm()) == pytest.approx(1, abs=1e-6)
    assert float(concept.control.norm()) == pytest.approx(1, abs=1e-6)
    assert abs(float(concept.control @ concept.direction)) < 0.9
    assert (e.held_out, e.held_out_groups, e.fitted, e.random_concepts, e.bootstraps) == (6, 3, 18, 50, 3)
    assert e.accuracy == 1.0 and e.interval == wilson(3, 3) and e.p_value <= e.p_corrected < 0.2
    assert set(e.agreement) == set(e.accuracies) == set(e.intervals) == set(ESTIMATORS)
    assert e.agreement["mean"]["pattern"] == pytest.approx(1) and e.agreement["svm"]["svm"] == pytest.approx(1)
    assert e.agreement["lda"]["svm"] == e.agreement["svm"]["lda"] < 1
    assert 0.5 < e.stability_low <= e.stability <= 1
    text = str(concept)
    for part in ("he -> she at block_out", "12 he and 12 she sentences in 12 groups", "50 random-label", "seed 0"):
        assert part in text


def test_the_natural_scale_is_the_distance_between_the_means(tiny_encoder: torch.nn.Module) -> None:
    """By hand, from all sentences: every pair moves by about the same."""
    concept = td.fit_concept(tiny_encoder, SETS, layer=0, **QUICK)
    rows = collected(tiny_encoder, SETS, layers=[0]).activations[0]
    sides = torch.tensor([item.positive for item in SETS.items])
    assert concept.scale == pytest.approx(float((rows[sides].mean(0) - rows[~sides].mean(0)).norm()), rel=0.2)
    assert float(concept.coordinate(rows[sides]).mean()) == pytest.approx(0.5, abs=0.1)
    assert float(concept.coordinate(rows[~sides]).mean()) == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize("estimator", ["mean", "logistic"])
def test_the_same_seed_and_any_order_give_the_same_concept_to_the_bit(
    tiny_encoder: torch.nn.Module, tmp_path: Path, estimator: str
) -> None:
    def digest(positives: list[str], negatives: list[str], seed: int = 0) -> str:
        sets = read_examples(positives, negatives)
        td.fit_concept(tiny_encoder, sets, layer=1, estimator=estimator, seed=seed, **QUICK).save(tmp_path / "c")
        return hashlib.sha256((tmp_path / "c").read_bytes()).hexdigest()

    one = digest(SHE, HE)
    assert digest(SHE[::-1], HE[5:] + HE[:5]) == one
    assert digest(SHE, HE, seed=1) != one
    turned = td.fit_concept(tiny_encoder, read_examples(HE, SHE), layer=1, estimator=estimator, **QUICK)
    straight = td.fit_concept(tiny_encoder, SETS, layer=1, estimator=estimator, **QUICK)
    assert torch.equal(turned.direction, -straight.direction) and turned.threshold == -straight.threshold
    assert turned.name == "she -> he" and replace(turned.evidence, layer=0) == replace(straight.evidence, layer=0)


@pytest.mark.parametrize("estimator", ["mean", "logistic", "lda"])
def test_what_the_sets_are_called_does_not_matter_where_they_are_no_pairs(
    tiny_encoder: torch.nn.Module, estimator: str
) -> None:
    """Nothing but signs turns: not the split, the bootstrap or the random labels; with some pairs and with none."""
    he = [f"the {noun} and {{he}} {verb}" for noun in ("dog", "cat", "sun", "moon") for verb in ("run", "walk", "see")]
    she = [frame.format("{she}") for frame in FRAMES[:7]]
    for negatives in (he, [frame.format("{he}") for frame in FRAMES[:4]] + he[:6]):
        one = td.fit_concept(tiny_encoder, read_examples(she, negatives), layer=1, estimator=estimator, **QUICK)
        other = td.fit_concept(tiny_encoder, read_examples(negatives, she), layer=1, estimator=estimator, **QUICK)
        assert one.evidence == other.evidence and one.scale == other.scale
        assert torch.equal(one.direction, -other.direction) and one.threshold == -other.threshold
        assert torch.equal(one.control, -other.control)


def test_bootstrap_samples_on_which_nothing_is_found_are_left_out_and_told(tiny_encoder: torch.nn.Module) -> None:
    """Of three sentences a side a sample often holds one alone, over and over: no spread, and no LDA."""
    sets = read_examples([f"she {verb}" for verb in VERBS], [f"he {verb}" for verb in VERBS])
    found = td.fit_concept(tiny_encoder, sets, layer=1, estimator="lda", random_concepts=50, bootstraps=40)
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


def test_layers_and_hooks(tiny_encoder: torch.nn.Module) -> None:
    every = td.fit_concepts(tiny_encoder, SETS, **QUICK)
    assert every.layers == (0, 1, 2) and len(every) == 3 and every[2].layer == 2
    assert [e.layer for e in every.evidence] == [0, 1, 2]
    assert td.fit_concepts(tiny_encoder, SETS, layers=2, **QUICK).layers == (2,)
    some = td.fit_concepts(tiny_encoder, SETS, layers=[2, 0, 2], **QUICK)
    assert some.layers == (0, 2) and torch.equal(some[2].direction, every[2].direction)
    whole = td.fit_concept(tiny_encoder, SETS, hook="full_embed", **QUICK)
    assert whole.layer is None and whole.place == "full_embed"
    wide = td.fit_concept(tiny_encoder, SETS, hook="mlp_post", layer=2, **QUICK)
    assert wide.width == 40
    full = td.fit_concept(tiny_encoder, SETS, hook=wide.hook_name, **QUICK)
    assert torch.equal(full.direction, wide.direction)
    with says("has no layer 5", "(0, 1, 2)"):
        every[5]


def test_shipped_templates_can_be_named(tiny_checkpoint: Callable[..., Path]) -> None:
    model = td.load_model(str(tiny_checkpoint(context=64, layers=1)))
    found = td.fit_concept(model, "he_she", hook="embed", test_share=0.5, **QUICK)
    assert found.examples["positives"] == found.evidence.held_out == 234
    assert "lda" not in found.evidence.accuracies  # "he" is always the same there: no spread
    assert found.evidence.agreement["mean"]["pattern"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda m: td.fit_concept(m, SETS, layer=1, estimator="sgd"), ("unknown estimator 'sgd'", "svm")),
        (lambda m: td.fit_concept(m, "he_shee", layer=1), ("unknown concept 'he_shee'", "he_she")),
        (lambda m: td.fit_concept(m, SETS), ("the hook 'block_out' is one of every layer: give layer=",)),
        (lambda m: td.fit_concept(m, SETS, layer=1, random_concepts=49), ("random_concepts = 49", "50 or more")),
        (lambda m: td.fit_concept(m, SETS, layer=1, bootstraps=0), ("bootstraps = 0",)),
        (lambda m: td.fit_concept(m, SETS, layer=1, seed=-1), ("seed = -1",)),
        (lambda m: td.fit_concept(m, read_examples(SHE[:1], HE[:1]), layer=1), ("at least 3 are needed",)),
        (lambda m: td.fit_concept(m, SETS, layer=1, test_share=0.0), ("test_share = 0.0",)),
        (lambda m: td.fit_concepts(m, SETS, layers="some"), ("layers = 'some'",)),
        (lambda m: td.fit_concepts(m, SETS, layers=[]), ("no layer given",)),
    ],
)
def test_what_fit_refuses(
    tiny_encoder: torch.nn.Module, call: Callable[[torch.nn.Module], object], parts: tuple[str, ...]
) -> None:
    with says(*parts):
        call(tiny_encoder)


@pytest.mark.slow
def test_he_and_she_on_minilm(minilm: torch.nn.Module) -> None:
    found = td.fit_concepts(minilm)
    assert found.layers == tuple(range(6))
    for evidence in found.evidence:
        assert evidence.accuracy > 0.95 and evidence.interval[0] > 0.9 and evidence.p_corrected < 0.05
        assert evidence.stability_low > 0.9
