"""A steered model, read at every layer."""

import pytest
import torch

import tl_dream as td
from tests.support.concept_edits import TEXT
from tl_dream.concepts.vectors import ConceptVectors
from tl_dream.editing.steering import read_steered
from tl_dream.results.edits import Steering


def test_a_word_moves_from_the_steered_layer_on(encoder: torch.nn.Module, concepts: ConceptVectors, tmp_path) -> None:
    found = read_steered(encoder, concepts, TEXT, pos="he", at=[concepts[1]], magnitude=-1.5)
    assert [row["layer"] for row in found.rows] == [0, 1, 2] and {row["steered"] for row in found.rows} == {1}
    moved = [row["value"] - row["before"] for row in found.rows]
    assert moved[:2] == pytest.approx([0, -1.5], abs=1e-4) and abs(moved[2]) > 1e-3
    assert "moved by -1.5 natural units" in str(found) and found.guesses == {}
    found.save(tmp_path / "steering.json")
    assert Steering.load(tmp_path / "steering.json") == found


def test_an_erased_word_lies_on_the_boundary(encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    found = read_steered(encoder, concepts, TEXT, pos="he", at=list(concepts), magnitude=None)
    own = [row["value"] for row in found.rows if row["steered"] == row["layer"]]
    assert own == pytest.approx([0, 0, 0], abs=1e-4) and "erased" in str(found)


def test_masks_are_predicted_where_the_head_is_trained(encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    found = read_steered(encoder, concepts, TEXT.replace("see", "[MASK]"), pos="he", at=[concepts[0]], magnitude=9.0)
    assert list(found.guesses) == ["not steered", "steered at layer 0"] and len(set(found.guesses.values())) == 2
    plain = td.predict_masked(encoder, TEXT.replace("see", "[MASK]"), top=1).predictions[0][0]
    assert found.guesses["not steered"].startswith(f"{plain.token} {plain.probability:.3f}")
