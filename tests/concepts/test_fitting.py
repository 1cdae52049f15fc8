"""Fitting a concept: planted directions are found, the split is honest, chance is chance, bad input is told."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.concepts import FRAMES, HE, QUICK, SETS, SHE, collected
from tl_dream.concepts.estimators import ESTIMATORS
from tl_dream.concepts.examples import read_examples
from tl_dream.concepts.significance import wilson


def test_a_concept_and_its_evidence(encoder: torch.nn.Module) -> None:
    concept = td.fit_concept(encoder, SETS, layer=1, **QUICK)
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


def test_the_natural_scale_is_the_distance_between_the_means(encoder: torch.nn.Module) -> None:
    """By hand, from all sentences: every pair moves by about the same."""
    concept = td.fit_concept(encoder, SETS, layer=0, **QUICK)
    rows = collected(encoder, SETS, layers=[0]).activations[0]
    sides = torch.tensor([item.positive for item in SETS.items])
    assert concept.scale == pytest.approx(float((rows[sides].mean(0) - rows[~sides].mean(0)).norm()), rel=0.2)
    assert float(concept.coordinate(rows[sides]).mean()) == pytest.approx(0.5, abs=0.1)
    assert float(concept.coordinate(rows[~sides]).mean()) == pytest.approx(-0.5, abs=0.1)


@pytest.mark.parametrize("estimator", ["mean", "logistic"])
def test_the_same_seed_and_any_order_give_the_same_concept_to_the_bit(
    encoder: torch.nn.Module, tmp_path: Path, estimator: str
) -> None:
    def digest(positives: list[str], negatives: list[str], seed: int = 0) -> str:
        sets = read_examples(positives, negatives)
        td.fit_concept(encoder, sets, layer=1, estimator=estimator, seed=seed, **QUICK).save(tmp_path / "c")
        return hashlib.sha256((tmp_path / "c").read_bytes()).hexdigest()

    one = digest(SHE, HE)
    assert digest(SHE[::-1], HE[5:] + HE[:5]) == one
    assert digest(SHE, HE, seed=1) != one
    turned = td.fit_concept(encoder, read_examples(HE, SHE), layer=1, estimator=estimator, **QUICK)
    straight = td.fit_concept(encoder, SETS, layer=1, estimator=estimator, **QUICK)
    assert torch.equal(turned.direction, -straight.direction) and turned.threshold == -straight.threshold
    assert turned.name == "she -> he" and replace(turned.evidence, layer=0) == replace(straight.evidence, layer=0)


@pytest.mark.parametrize("estimator", ["mean", "logistic", "lda"])
def test_what_the_sets_are_called_does_not_matter_where_they_are_no_pairs(
    encoder: torch.nn.Module, estimator: str
) -> None:
    """Nothing but signs turns: not the split, the bootstrap or the random labels; with some pairs and with none."""
    he = [f"the {noun} and {{he}} {verb}" for noun in ("dog", "cat", "sun", "moon") for verb in ("run", "walk", "see")]
    she = [frame.format("{she}") for frame in FRAMES[:7]]
    for negatives in (he, [frame.format("{he}") for frame in FRAMES[:4]] + he[:6]):
        one = td.fit_concept(encoder, read_examples(she, negatives), layer=1, estimator=estimator, **QUICK)
        other = td.fit_concept(encoder, read_examples(negatives, she), layer=1, estimator=estimator, **QUICK)
        assert one.evidence == other.evidence and one.scale == other.scale
        assert torch.equal(one.direction, -other.direction) and one.threshold == -other.threshold
        assert torch.equal(one.control, -other.control)


def test_layers_and_hooks(encoder: torch.nn.Module) -> None:
    every = td.fit_concepts(encoder, SETS, **QUICK)
    assert every.layers == (0, 1, 2) and len(every) == 3 and every[2].layer == 2
    assert [e.layer for e in every.evidence] == [0, 1, 2]
    assert td.fit_concepts(encoder, SETS, layers=2, **QUICK).layers == (2,)
    some = td.fit_concepts(encoder, SETS, layers=[2, 0, 2], **QUICK)
    assert some.layers == (0, 2) and torch.equal(some[2].direction, every[2].direction)
    whole = td.fit_concept(encoder, SETS, hook="full_embed", **QUICK)
    assert whole.layer is None and whole.place == "full_embed"
    wide = td.fit_concept(encoder, SETS, hook="mlp_post", layer=2, **QUICK)
    assert wide.width == 40
    full = td.fit_concept(encoder, SETS, hook=wide.hook_name, **QUICK)
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
        (lambda m: td.fit_concept(m, SETS, layer=1, random_concepts=49), ("random_concepts = 49", "at least 50")),
        (lambda m: td.fit_concept(m, SETS, layer=1, bootstraps=0), ("bootstraps = 0",)),
        (lambda m: td.fit_concept(m, SETS, layer=1, seed=-1), ("seed = -1",)),
        (lambda m: td.fit_concept(m, read_examples(SHE[:1], HE[:1]), layer=1), ("at least 3 are needed",)),
        (lambda m: td.fit_concept(m, SETS, layer=1, test_share=0.0), ("test_share = 0.0",)),
        (lambda m: td.fit_concepts(m, SETS, layers="some"), ("layers = 'some'",)),
        (lambda m: td.fit_concepts(m, SETS, layers=[]), ("no layer given",)),
    ],
)
def test_what_fit_refuses(
    encoder: torch.nn.Module, call: Callable[[torch.nn.Module], object], parts: tuple[str, ...]
) -> None:
    with says(*parts):
        call(encoder)


@pytest.mark.slow
def test_he_and_she_on_minilm(minilm: torch.nn.Module) -> None:
    found = td.fit_concepts(minilm)
    assert found.layers == tuple(range(6))
    for evidence in found.evidence:
        assert evidence.accuracy > 0.95 and evidence.interval[0] > 0.9 and evidence.p_corrected < 0.05
        assert evidence.stability_low > 0.9
