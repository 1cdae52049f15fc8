"""`minimal_dream`: the fewest words, of planted units to the last one, of random units against every text there is."""

from itertools import product

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.portraits import COUNT, EITHER, FOLLOWED, TOKEN, A, B, C, goal

TEXT = "the dog and a cat are cold ."
FEW = [A, B, C, *"dog cat red blue small old house tree sun".split()]
WORDS = ["moon", "river", "bread", "dog", "cat", "red"]


def changes(found: td.MinimalDream) -> set[str]:
    return {found.best.tokens[i] for i in found.changed}


@pytest.mark.slow
def test_of_planted_units_it_is_exactly_right(known: torch.nn.Module) -> None:
    one = td.minimal_dream(known, goal(TOKEN), TEXT, above=3.0, budget=6000, allowed=FEW)
    assert one.reached and one.minimal and len(one.changed) == 1 and changes(one) == {A}
    either = td.minimal_dream(known, goal(EITHER), TEXT, above=3.0, budget=6000, allowed=FEW)
    assert either.minimal and len(either.changed) == 1 and changes(either) <= {A, C}
    two = td.minimal_dream(known, goal(FOLLOWED), TEXT, above=3.0, budget=6000, allowed=FEW)
    assert two.reached and two.minimal and changes(two) == {A, B}
    first, second = two.changed
    assert second == first + 1 and two.best.tokens[first] == A
    best = td.score(known, goal(COUNT), "the dog and moon cat are moon .").item()
    count = td.minimal_dream(known, goal(COUNT), TEXT, above=0.99 * best, budget=60_000, allowed=FEW)
    assert count.reached and count.minimal and len(count.changed) == 2 and changes(count) == {A}


def test_half_a_pair_in_the_sentence_leaves_one_to_change(known: torch.nn.Module) -> None:
    found = td.minimal_dream(known, goal(FOLLOWED), "the river and a cat are here", above=3.0, budget=3000, allowed=FEW)
    assert found.minimal and [(i, found.best.tokens[i]) for i in found.changed] == [(1, A)]


@pytest.mark.parametrize("unit", [3, 8])
def test_no_text_with_fewer_changes_does(encoder: torch.nn.Module, unit: int) -> None:
    start = "dog cat red dog"
    objective = td.neuron("block_out", layer=1, unit=unit, pos=2)
    every = {
        " ".join(words): sum(a != b for a, b in zip(words, start.split(), strict=True))
        for words in product(WORDS, repeat=4)
    }
    scores = dict(zip(every, td.score(encoder, objective, list(every)).tolist(), strict=True))
    ranked = sorted(scores.values())
    for wanted in (ranked[-1], ranked[-40], ranked[-400], scores[start]):
        wanted -= 1e-5
        fewest = min(every[text] for text, score in scores.items() if score >= wanted)
        found = td.minimal_dream(encoder, objective, start, above=wanted, allowed=WORDS, budget=40_000)
        assert found.reached and found.minimal and len(found.changed) == fewest
        assert found.best.score == pytest.approx(scores[found.best.text], abs=1e-5)
        if fewest == 1:
            assert found.best.score == pytest.approx(max(s for t, s in scores.items() if every[t] <= 1), abs=1e-5)


@pytest.mark.parametrize(("unit", "words"), [(TOKEN, [A]), (FOLLOWED, [A, B])])
def test_the_shortest_text_from_nothing(known: torch.nn.Module, unit: int, words: list[str]) -> None:
    dream = td.dream(known, goal(unit), f"{A} {B}", free=[2], allowed=[B, "cat"])
    found = td.minimal_dream(known, goal(unit), above=dream, share=0.8, longest=3, budget=3000, allowed=FEW)
    assert found.reached and found.minimal and found.start is None
    assert [found.best.tokens[i] for i in found.changed] == words == found.best.text.split()


def test_where_one_word_does_no_longer_text_is_searched(known: torch.nn.Module) -> None:
    one, three = (
        td.minimal_dream(known, goal(TOKEN), above=3.0, longest=longest, budget=3000, allowed=FEW) for longest in (1, 3)
    )
    assert one.minimal and three.minimal and one.best.text == three.best.text == A
    assert one.cost.forward_tokens == three.cost.forward_tokens


def test_a_position_asks_for_as_many_words(known: torch.nn.Module) -> None:
    found = td.minimal_dream(known, goal(TOKEN, 3), above=3.0, longest=4, budget=2000)
    assert found.reached and len(found.changed) == 3 and found.best.tokens[3] == A and not found.minimal


def test_what_cannot_be_reached(encoder: torch.nn.Module) -> None:
    objective = td.neuron("block_out", layer=1, unit=3, pos=2)
    from_text = td.minimal_dream(encoder, objective, "dog cat red", above=1e6, budget=1000)
    assert not from_text.reached and not from_text.minimal and "not reached" in str(from_text)
    nothing = td.minimal_dream(encoder, objective, above=1e6, budget=500, longest=3)
    assert not nothing.reached and len(nothing.to_frame()) == len(nothing.changed)
    assert td.MinimalDream.from_json(nothing.to_json()) == nothing
    assert td.MinimalDream.from_json(from_text.to_json()) == from_text


def test_bad_input(known: torch.nn.Module) -> None:
    corpus = td.corpus_search(known, goal(TOKEN), ["the dog", f"the {A}"])
    assert td.minimal_dream(known, goal(TOKEN), f"a {A}", above=corpus, budget=3000).above == corpus.top[0].score
    with says("above = nan", "a score, a corpus search or a dream"):
        td.minimal_dream(known, goal(TOKEN), TEXT, above=float("nan"))
    with says("a share of that says nothing"):
        td.minimal_dream(known, goal(TOKEN), above=td.dream(known, -goal(TOKEN), TEXT, budget=300))
    with says("reads the word 'dog'", "no sentence"):
        td.minimal_dream(known, goal(TOKEN, "dog"), above=1.0)
    with says("reads a place that no text of up to 2 words has"):
        td.minimal_dream(known, goal(TOKEN, 5), above=1.0, longest=2)
    with says("share = 0", "above 0"):
        td.minimal_dream(known, goal(TOKEN), TEXT, above=1.0, share=0)
