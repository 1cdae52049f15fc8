"""The room concepts.shifts."""

from dataclasses import replace
from fractions import Fraction

import numpy
import pytest
import torch

import tl_dream as td
from tests.support.concepts import FRAMES, QUICK, SETS, collected
from tl_dream.concepts.examples import read_examples
from tl_dream.concepts.vectors import ConceptVector
from tl_dream.results.concepts import Carrying, carrying_lines


@pytest.mark.parametrize(
    ("pos", "moved"), [(2, [2]), (-1, [8]), ([1, -3], [1, 6]), (slice(3, 5), [3, 4]), (None, list(range(9)))]
)
def test_a_shift_moves_by_natural_units_at_these_positions_alone(
    concept: ConceptVector, pos: object, moved: list[int]
) -> None:
    activation = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
    found = concept.shift(activation, pos, -1.5)
    change = found - activation
    still = [i for i in range(9) if i not in moved]
    assert torch.equal(found[:, still], activation[:, still])
    assert torch.allclose(
        change[:, moved], (-1.5 * concept.scale * concept.direction).expand(2, len(moved), 24), atol=1e-5
    )
    assert torch.allclose(
        concept.coordinate(found) - concept.coordinate(activation),
        change @ concept.direction / concept.scale,
        atol=1e-5,
    )
    assert torch.allclose(
        (concept.coordinate(found) - concept.coordinate(activation))[:, moved], torch.tensor(-1.5), atol=1e-5
    )
    assert torch.equal(concept.shift(activation[0], pos, -1.5), found[0])  # without a batch axis


def test_a_shift_of_nothing_and_along_another_direction(concept: ConceptVector) -> None:
    activation = torch.randn(9, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(concept.shift(activation, 2, 0), activation)
    for two in (numpy.float32(2), numpy.array(2), torch.tensor(2.0), Fraction(2)):
        assert torch.equal(concept.shift(activation, 2, two), concept.shift(activation, 2, 2))
    other = concept.shift(activation, 2, 2.0, along=concept.control)
    assert torch.allclose((other - activation)[2], 2 * concept.scale * concept.control, atol=1e-5)
    heads = concept.shift(activation.reshape(9, 4, 6), 2, 1)
    assert torch.equal(heads.reshape(9, 24), concept.shift(activation, 2, 1))


def test_one_pair_of_words_is_carried_over_from_half_of_the_way(encoder: torch.nn.Module) -> None:
    """In the embeddings a natural unit is exactly the way from "he" to "she"; the sentences are what is held out."""
    found = td.fit_concept(encoder, SETS, hook="embed", **QUICK)
    carrying = found.evidence.carrying
    assert carrying is not None and (carrying.pairs, carrying.words) == (12, 1)
    assert carrying.length == pytest.approx(found.scale, rel=1e-5)
    assert carrying.share(1.0) == 1 and carrying.least <= 0.5 + 1e-6  # before half of the way a token between the two
    assert carrying.advised == 1 and "! layer" not in str(found)


NOUNS, VERBS = ("dog", "cat", "bird", "king", "sun"), ("run", "walk", "sing", "see", "love")


def test_words_are_held_out_where_there_are_many(encoder: torch.nn.Module) -> None:
    """Pairs by line, in frames that all share: each is moved along the mean of the other pairs, by hand."""
    frames = ("we {} here", "the {} is small", "i {} so")
    lines = [(frame, *pair) for frame in frames for pair in zip(NOUNS, VERBS, strict=True)]
    sets = read_examples(
        [frame.format(f"{{{verb}}}") for frame, _, verb in lines],
        [frame.format(f"{{{noun}}}") for frame, noun, _ in lines],
    )
    rows = collected(encoder, sets, hook="embed", layers=[None])
    told = {(sets.items[i].word, sets.items[j].word) for i, j in rows.pairs}
    assert told == set(zip(NOUNS, VERBS, strict=True)) and len(rows.pairs) == 15
    carrying = td.fit_concept(encoder, sets, hook="embed", **QUICK).evidence.carrying
    assert carrying is not None and (carrying.pairs, carrying.words) == (15, 5)
    own = {sets.items[i].word: rows.activations[0][i] for pair in rows.pairs for i in pair}
    ways = torch.stack([own[verb] - own[noun] for noun, verb in zip(NOUNS, VERBS, strict=True)])
    assert carrying.length == pytest.approx(float(ways.norm(dim=1).median()), rel=1e-5)
    texts = torch.stack(list(own.values()))
    right = []
    for k, (noun, verb) in enumerate(zip(NOUNS, VERBS, strict=True)):
        step = ways[[i for i in range(5) if i != k]].mean(0)
        for start, end, turn in ((noun, verb, 1), (verb, noun, -1)):
            moved = own[start] + turn * 16 * step
            near = list(own)[int((texts - moved).norm(dim=1).argmin())]
            right.append(near == end)
    assert carrying.share(16.0) <= sum(right) / 10 < 1  # tokens of no example are rivals too


def test_what_a_receipt_says_of_words_that_are_not_carried_over(encoder: torch.nn.Module) -> None:
    evidence = td.fit_concept(encoder, SETS, layer=1, **QUICK).evidence

    def told(shares: tuple[float, ...]) -> str:
        made = Carrying(30, 20, 6.4, (1.0, 2.0, 4.0, 8.0), shares, 0.9, 3.7)
        return "\n".join(carrying_lines([replace(evidence, carrying=made)], [3.6]))

    far, none = "! layer(s) 1: natural magnitudes of 1 or 2", "Exchange the word's own activation"
    near = told((0.2, 0.97, 0.98, 0.4))
    assert "3.6 / 6.4 = 0.56" in near and "2: 97%" in near and "!" not in near
    assert "4: 95%" in told((0.0, 0.1, 0.95, 0.96)) and far in told((0.0, 0.1, 0.95, 0.96))
    assert none in told((0.0, 0.1, 0.3, 0.49)) and far not in told((0.0, 0.1, 0.3, 0.49))
    assert carrying_lines([replace(evidence, carrying=None)], [3.6]) == []


def test_sets_without_pairs_are_told_nothing_of(encoder: torch.nn.Module) -> None:
    he = [frame.format("{he}") for frame in FRAMES[:6]]
    she = [frame.format("{she}").replace("can see", "and") for frame in FRAMES[6:]]
    assert td.fit_concept(encoder, read_examples(she, he), layer=1, **QUICK).evidence.carrying is None
