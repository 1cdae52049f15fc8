"""The room concepts.readings."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.concepts import QUICK, SENTENCE, SETS, read
from tl_dream.concepts.readings import vectors_of
from tl_dream.concepts.vectors import ConceptVector, ConceptVectors
from tl_dream.results.concepts import ConceptReading


def test_classify(tiny_encoder: torch.nn.Module, concepts: ConceptVectors, tmp_path: Path) -> None:
    found = td.classify(tiny_encoder, concepts, SENTENCE, pos="he")
    assert [(row.layer, row.pos, row.token, row.label) for row in found.rows] == [(i, 6, "he", "he") for i in range(3)]
    she = td.classify(tiny_encoder, concepts, "the dog can see she run", pos="she")
    assert [row.label for row in she.rows] == ["she"] * 3 and all(row.value > 0 for row in she.rows)
    whole = td.classify(tiny_encoder, concepts[1], SENTENCE)
    assert [row.pos for row in whole.rows] == list(range(1, 8))
    values = (read(tiny_encoder, concepts[1].hook_name)[0] @ concepts[1].direction - concepts[1].threshold) / concepts[
        1
    ].scale
    assert [row.value for row in whole.rows] == pytest.approx(values[1:-1].tolist(), abs=1e-5)
    assert "he -> she at block_out" in str(whole) and "coordinate" in str(whole)
    whole.save(tmp_path / "r.json")
    assert ConceptReading.load(tmp_path / "r.json") == whole
    with says("a concept was expected, not str"):
        vectors_of("he")
    with says("the word 'she' is not in the sentence"):
        td.classify(tiny_encoder, concepts, SENTENCE, pos="she")


def test_concept_to_text(tiny_encoder: torch.nn.Module, concept: ConceptVector) -> None:
    """The sentence furthest along the concept, in real tokens."""
    found = td.dream(tiny_encoder, concept.objective(pos=2), SENTENCE, method=td.Annealing(steps=20), progress=False)
    assert found.best.score > found.start.score
    assert found.best.score == pytest.approx(
        float(td.score(tiny_encoder, concept.objective(pos=2), found.best.text)), abs=1e-4
    )


def test_sensitivity_is_the_derivative(fresh_encoder: Callable[..., torch.nn.Module], backend: str) -> None:
    model = fresh_encoder(dtype=torch.float64)
    concept = td.fit_concept(model, SETS, layer=0, **QUICK)
    goal = td.neuron("mlp_post", layer=2, unit=5, pos=3)
    texts = [SENTENCE, "she was warm and red", "the cat and he run"]
    found = td.sensitivity(model, goal, texts, concept=concept, pos=[2, 3])
    step = 1e-5
    base = td.score(model, goal, texts)
    model.add_hook(*concept.steer(step, pos=[2, 3]))
    moved = td.score(model, goal, texts)
    model.reset_hooks()
    assert found.values == pytest.approx(((moved - base) / step).tolist(), rel=1e-2, abs=1e-5)
    assert found.share == sum(v > 0 for v in found.values) / 3
    assert 0 <= found.interval[0] <= found.share <= found.interval[1] <= 1
    assert 0.2 < found.random_share < 0.8 and 0 < found.p_value <= 1
    assert "a natural unit on average over 3 text(s)" in str(found)
    words = td.sensitivity(model, goal, SENTENCE, concept=concept)
    model.add_hook(*concept.steer(step, pos=slice(1, -1)))
    moved = td.score(model, goal, SENTENCE)
    model.reset_hooks()
    assert words.values[0] == pytest.approx(float((moved - base[:1]) / step), rel=1e-2, abs=1e-5)
    fewer = [texts[1], texts[1].replace("warm", "[SEP]")]  # as long, and has a word less
    together = td.sensitivity(model, goal, fewer, concept=concept)
    alone = [td.sensitivity(model, goal, text, concept=concept).values[0] for text in fewer]
    assert together.values == pytest.approx(alone, rel=1e-6)


def test_a_planted_dependence_is_significant_and_its_absence_is_not(tiny_encoder: torch.nn.Module) -> None:
    concept = td.fit_concept(tiny_encoder, SETS, layer=1, **QUICK)
    along = td.sensitivity(tiny_encoder, concept.objective(pos=2), SENTENCE, concept=concept, pos=2)
    assert along.values == pytest.approx((1.0,), abs=1e-5) and along.p_value == pytest.approx(1 / 1001)
    across = torch.randn(24, generator=torch.Generator().manual_seed(1))
    across -= (across @ concept.direction) * concept.direction
    goal = td.direction(across, "block_out", layer=1, pos=2)
    blind = td.sensitivity(tiny_encoder, goal, SENTENCE, concept=concept, pos=2, random_directions=100, seed=3)
    assert abs(blind.values[0]) < 1e-3 and blind.p_value > 0.9 and blind.random_directions == 100


def test_what_sensitivity_refuses(tiny_encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    before = td.neuron("block_out", layer=0, unit=1, pos=1)
    with says("does not depend on block_out, layer 1", "behind it"):
        td.sensitivity(tiny_encoder, before, SENTENCE, concept=concepts[1])
    with says("random_directions = 10"):
        td.sensitivity(tiny_encoder, before, SENTENCE, concept=concepts[0], random_directions=10)
    with says("no text given"):
        td.sensitivity(tiny_encoder, before, [], concept=concepts[0])
    with says("the concept has the layers [0, 1, 2]", "such as concept[0]"):
        td.sensitivity(tiny_encoder, before, SENTENCE, concept=concepts)
    goal = concepts[1].objective(pos=2)
    alone = td.sensitivity(tiny_encoder, goal, SENTENCE, concept=ConceptVectors((concepts[1],)), pos=2)
    assert alone.values == td.sensitivity(tiny_encoder, goal, SENTENCE, concept=concepts[1], pos=2).values
