"""A steered model, read at every layer."""

import pytest
import torch

import tl_dream as td
from tests.support.editing import TEXT
from tl_dream.concepts.vectors import ConceptVectors
from tl_dream.editing.steering import read_steered
from tl_dream.models.host import attached
from tl_dream.models.isolation import owned_hook
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


def test_a_steered_position_may_lie_beyond_the_sentences_of_our_own_checks(
    encoder: torch.nn.Module, concepts: ConceptVectors
) -> None:
    """Whatever runs while a hook of the user's asks for a late position is as long as the user's text."""
    text, at = "he can see a dog and a cat and the sun and he run", 13
    found = read_steered(encoder, concepts, text, pos=at, at=[concepts[1]])
    assert [row["value"] - row["before"] for row in found.rows][:2] == pytest.approx([0, 1], abs=1e-4)
    target = td.replaced_activation(encoder, text, "she", pos=at, layer=2)
    hook, function = concepts[1].steer(1.0, pos=at)
    with attached(encoder) as host, owned_hook(host.point(hook), function):
        concepts[2].steer(1.0, pos=at, model=encoder)
        assert td.classify(encoder, concepts[1], text, pos=at).rows[0].value == pytest.approx(
            found.rows[1]["value"], abs=1e-4
        )
        td.sensitivity(encoder, concepts[2].objective(pos=at), text, concept=concepts[1], random_directions=50)
        td.edit_concept(encoder, concepts[1], text, pos=at, magnitudes=1, starts=1, width=2)
        td.certify(encoder, text, target, layer=2, rivals=1)
