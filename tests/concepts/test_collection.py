"""The room concepts.collection."""

import numpy
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.concepts import FRAMES, HE, SETS, SHE, collected
from tl_dream.concepts.collection import _counterparts
from tl_dream.concepts.examples import read_examples
from tl_dream.models.host import attached


def test_activations_are_those_of_the_word(encoder: torch.nn.Module) -> None:
    found = collected(encoder, SETS, layers=[0, 2])
    assert [x.shape for x in found.activations] == [(24, 24)] * 2
    for i, item in enumerate(SETS.items):
        pos = 1 + item.text.split().index(item.word)
        for layer, rows in zip((0, 2), found.activations, strict=True):
            unit = td.score(encoder, td.neuron("block_out", layer=layer, unit=5, pos=pos), item.text)
            assert rows[i, 5] == pytest.approx(float(unit), abs=1e-5)


@pytest.mark.parametrize(
    ("pos", "expected"), [("dog", [2]), (-2, [4]), ([1, 3], [1, 3]), (slice(1, 3), [1, 2]), ("all", [1, 2, 3, 4])]
)
def test_activations_by_position_and_their_mean(encoder: torch.nn.Module, pos: object, expected: list[int]) -> None:
    sets = read_examples(["the dog was red"], ["my dog can see"], positive_pos=pos, negative_pos=pos)  # type: ignore[arg-type]
    found = collected(encoder, sets, hook="z")
    assert found.activations[0].shape == (2, 24)  # heads counted through
    for i, item in enumerate(sets.items):
        units = [
            float(td.score(encoder, td.neuron("z", layer=1, head=2, unit=3, pos=at), item.text)) for at in expected
        ]
        assert found.activations[0][i, 2 * 6 + 3] == pytest.approx(sum(units) / len(units), abs=1e-5)


def test_activations_at_a_mask_and_of_a_word_of_several_pieces(encoder: torch.nn.Module) -> None:
    masks = read_examples(["a warm [MASK] ."], ["a cold [MASK] ."], positive_pos="[MASK]", negative_pos="[MASK]")
    found = collected(encoder, masks)
    unit = td.score(encoder, td.neuron("block_out", layer=1, unit=2, pos=3), "a cold [MASK] .")
    assert found.activations[0][0, 2] == pytest.approx(float(unit), abs=1e-5)
    pieces = read_examples(["i hate {kicks} ."], ["i hate {dogs} ."])  # k ##i ##c ##k ##s; dog ##s
    found = collected(encoder, pieces)
    for i, (text, places) in enumerate([("i hate dogs .", [3, 4]), ("i hate kicks .", [3, 4, 5, 6, 7])]):
        units = [float(td.score(encoder, td.neuron("block_out", layer=1, unit=2, pos=p), text)) for p in places]
        assert found.activations[0][i, 2] == pytest.approx(sum(units) / len(units), abs=1e-5)
    assert len(set(found.groups)) == 1  # the same but for the concept word


def test_sentences_that_differ_in_the_concept_word_share_a_group(encoder: torch.nn.Module) -> None:
    groups = collected(encoder, SETS).groups
    frames = [item.text.replace(f" {item.word} ", " _ ") for item in SETS.items]
    assert len(set(groups)) == len(FRAMES)
    assert all((groups[i] == groups[j]) == (frames[i] == frames[j]) for i in range(24) for j in range(24))
    whole = read_examples(SHE, HE, positive_pos="all", negative_pos="all")
    assert len(set(collected(encoder, whole).groups)) == len(FRAMES)
    grid = read_examples(
        ["a dog ran", "a cat ran"], ["my dog ran", "my cat sat"], positive_pos="all", negative_pos="all"
    )
    assert len(set(collected(encoder, grid).groups)) == 3
    many = [f"the {a} and the {b}" for a in ("dog", "cat", "bird") for b in ("sea", "sun", "moon")]
    apart = read_examples(many[::2], many[1::2], positive_pos=1, negative_pos=1)
    assert len(set(collected(encoder, apart).groups)) > 5
    start = read_examples(SHE, HE, positive_pos=0, negative_pos=0)
    assert len(set(collected(encoder, start).groups)) == len(FRAMES)


def test_what_can_not_be_collected(encoder: torch.nn.Module) -> None:
    with says("is an attention pattern"):
        collected(encoder, SETS, hook="pattern")
    with says("unknown hook 'block_uot'", "block_out"):
        collected(encoder, SETS, hook="block_uot")
    with says("layer 7 does not exist"):
        collected(encoder, SETS, layers=[7])
    repeated = read_examples([*SHE, "she said she ran"], HE, positive_pos="she", negative_pos="he")
    with says("can't be read in 1 of 25 sentences", "positives, item 13", "2 times, at positions 1, 3"):
        collected(encoder, repeated)
    long = "she said she ran " + "and the dog " * 6
    repeated = read_examples([*SHE, long], HE, positive_pos="she", negative_pos="he")
    with says(
        "positives, item 13, 'she said she ran and the dog and the dog and the dog and...': the word 'she'",
        "at positions 1, 3: give the position instead",
        "Mark the word with braces ({she} is a doctor), or leave these sentences out",
    ):
        collected(encoder, repeated)
    missing = read_examples(SHE, [*HE, "it is cold"], positive_pos="she", negative_pos="he")
    with says("in 1 of 25", "negatives, item 13", "'he' is not in the sentence"):
        collected(encoder, missing)
    beyond = read_examples(SHE, HE, positive_pos=9, negative_pos=3)
    with says("in 12 of 24", "position 9 is outside", "and 4 more"):
        collected(encoder, beyond)
    constant = read_examples([s + " ." for s in SHE], [h + " ." for h in HE], positive_pos=0, negative_pos=0)
    with says("are constant"):
        collected(encoder, constant, hook="embed", layers=[None])
    same = read_examples(SHE, HE, positive_pos=2, negative_pos=2)
    with says("the two sets have the same mean activation"):
        collected(encoder, same, hook="embed", layers=[None])


def test_counterparts_differ_in_one_word_and_have_one_another_alone(encoder: torch.nn.Module) -> None:
    texts = ["a big dog", "a big cat", "the red dog", "the red cat", "the red bird", "we love it"]
    with attached(encoder) as host:
        sentences = [host.vocabulary.read(text) for text in texts]
    assert _counterparts(sentences, numpy.array([True, False, True, True, False, False])) == [(0, 1)]
