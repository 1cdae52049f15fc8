"""The room search.exhaustive."""

import math
from itertools import product

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.search import GOAL, START, UNIT, searching, spoiled
from tl_dream.models.host import attached
from tl_dream.search.exhaustive import texts_of


def same_as_token_search(model: torch.nn.Module, unit: int, at: int) -> td.Dream:
    """A dream with one free word, checked against the best returnable token of a token search."""
    goal = td.neuron("block_out", layer=1, unit=unit, pos=2)
    found = td.dream(model, goal, START, free=[at], progress=False)
    table = td.token_search(model, goal, START, pos=at, top=100, progress=False)
    with attached(model) as host:
        rows = [(*found.start.ids[:at], row.id, *found.start.ids[at + 1 :]) for row in table.top]
        best = next(row for row, ok in zip(table.top, host.vocabulary.retokenizes(rows), strict=True) if ok)
    assert found.best.ids[at] == best.id and found.best.score == pytest.approx(best.score, abs=1e-6)
    assert found.stopped == "complete" and found.optimum
    return found


@pytest.mark.parametrize("unit", range(2))
def test_one_free_word_is_the_token_searchs(encoder: torch.nn.Module, unit: int) -> None:
    found = same_as_token_search(encoder, unit, 3)
    goal = td.neuron("block_out", layer=1, unit=unit, pos=2)
    within = td.dream(encoder, goal, START, free=[3], budget=100_000)  # by swaps: the same, and certified
    assert within.best.ids == found.best.ids and within.stopped == "complete"


def test_one_free_word_tells_of_scores_that_are_no_numbers(encoder: torch.nn.Module) -> None:
    plain = td.dream(encoder, GOAL, START, free=[3])
    assert plain.stopped == "complete"
    for goal in (spoiled(math.nan, "moon"), spoiled(math.nan, *VOCAB[60:200]), spoiled(math.nan, "see")):
        with says("the score of real tokens became nan") as caught:
            td.dream(encoder, goal, START, free=[3])
        assert isinstance(caught.value.partial, td.Dream) and caught.value.partial.stopped == "failure"
    assert caught.value.partial.cost.forwards == 1  # of the last, whose start is none: it was not searched
    assert td.dream(encoder, spoiled(math.nan, "[MASK]"), START, free=[3]).stopped == "complete"  # it is not allowed


def test_one_free_word_tells_its_callback(encoder: torch.nn.Module) -> None:
    told: list[td.Progress] = []
    found = td.dream(encoder, GOAL, [START, "the dog"], free=[2], callback=lambda progress: told.append(progress))
    assert found.stopped == "complete" and [progress.step for progress in told] == [0, 1, 2]
    stopped = td.dream(encoder, GOAL, START, free=[2], callback=lambda progress: True)
    assert stopped.stopped == "callback" and stopped.cost.forwards == 2  # before the search


def test_one_free_word_is_searched_once_for_all_starts(encoder: torch.nn.Module) -> None:
    one, three = (td.dream(encoder, GOAL, START, free=[3], starts=count) for count in (1, 3))
    assert three.cost.forwards <= one.cost.forwards + 2 * 3  # their starts, their best, and this by the model itself
    assert len(three.others) == 2 and {run.best.ids for run in three.others} == {one.best.ids}


@pytest.mark.slow
def test_one_free_word_is_the_token_searchs_everywhere(encoder: torch.nn.Module) -> None:
    for unit, at in enumerate(range(1, 6)):
        same_as_token_search(encoder, unit, at)


@pytest.mark.parametrize("free, limit", [([2, 4], None), ([1, 2, 3], 2), ([1, 2, 3, 4], 1)])
def test_every_text_is_scored_where_the_budget_covers_all(
    encoder: torch.nn.Module, free: list[int], limit: int | None
) -> None:
    words = [word for word in VOCAB if word.isalpha() and len(word) > 2][:12]
    ids = encoder.tokenizer(START)["input_ids"]
    choices = [[*(VOCAB.index(word) for word in words), ids[at]] for at in free]
    rows = []
    for chosen in product(*choices):
        row = list(ids)
        for at, token in zip(free, chosen, strict=True):
            row[at] = token
        if limit is None or sum(new != old for new, old in zip(row, ids, strict=True)) <= limit:
            rows.append(td.Prompt(ids=row))
    scores = td.score(encoder, UNIT, rows)
    found = td.dream(encoder, UNIT, [START, START], free=free, allowed=words, max_changes=limit, budget=100_000)
    assert found.stopped == "complete" and found.optimum and "every text that may be returned" in str(found)
    assert found.best.score == pytest.approx(scores.max().item(), abs=1e-5)
    with attached(encoder) as host:
        search = searching(host, UNIT, free=free, allowed=host.vocabulary.allowed(words), max_changes=limit)
        assert texts_of(search, 0) >= len({tuple(row.ids) for row in rows})
