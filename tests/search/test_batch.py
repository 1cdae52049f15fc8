"""The room search.batch."""

from dataclasses import replace

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.search import ALL, GOAL, METHODS, START, TEXTS, goal_of
from tl_dream.models.host import Host
from tl_dream.search.batch import Batch, row_generators

# Limits


@pytest.mark.parametrize("method", ["anneal", *METHODS])
def test_max_changes_and_banned_words(seeded: torch.nn.Module, method: str) -> None:
    goal = goal_of(1) + goal_of(2) + goal_of(3)
    few = {"anneal": td.Annealing(steps=30), "pez": td.PEZ(steps=30)}
    options = {"method": few[method]} if method in few else {"method": method, "budget": 3000}
    free = td.dream(seeded, goal, START, allowed="no_special whole_words", **options)
    some = td.dream(seeded, goal, START, allowed="no_special whole_words", max_changes=1, **options)
    changed = [a != b for a, b in zip(some.start.tokens, some.best.tokens, strict=True)]
    assert sum(changed) == 1 and free.best.score >= some.best.score > some.start.score
    most = [token for token in free.best.tokens if token not in free.start.tokens]
    none = td.dream(seeded, goal, START, banned=most, allowed="no_special whole_words", **options)
    assert most and not set(most) & set(none.best.tokens) and (none.gain > 0 or method == "anneal")


def test_the_predicted_word_is_not_written(encoder: torch.nn.Module) -> None:
    goal = td.logit("moon", pos=3)
    assert (
        goal.answers == ("moon",) and (2 * goal + td.logit("dog")).answers == ("moon", "dog") and (-goal).answers == ()
    )
    options = {"free": [3], "allowed": ["moon", "dog", "sun"]}
    kept = td.dream(encoder, goal, START, **options)
    assert "moon" not in kept.best.tokens
    freed = td.dream(encoder, goal, START, banned=(), **options)
    scores = {w: td.score(encoder, goal, f"i do {w} the sun").item() for w in ("moon", "dog", "sun", "see")}
    assert freed.best.score == pytest.approx(max(scores.values()), abs=1e-5)
    assert kept.best.score == pytest.approx(max(scores[w] for w in ("dog", "sun", "see")), abs=1e-5)


def test_a_corpus_search_starts_a_dream(encoder: torch.nn.Module) -> None:
    texts = [f"the {word} dog sees" for word in VOCAB if word.isalpha() and len(word) > 2][:30]
    corpus = td.corpus_search(encoder, GOAL, texts, top=12)
    found = td.dream(encoder, GOAL, corpus, budget=8000)
    starts = {run.start.text for run in (found, *found.others)}
    assert starts == set(corpus.texts(10)) and found.best.score > corpus.top[0].score
    annealed = td.dream(encoder, GOAL, corpus, method=td.Annealing(steps=5))
    assert annealed.best.score >= corpus.top[0].score and len(annealed.others) == 9
    with says("no sentence to start from"):
        td.dream(encoder, GOAL, None)


def test_bad_input(encoder: torch.nn.Module) -> None:
    with says("unknown method 'gcq'", "gcg"):
        td.dream(encoder, GOAL, START, method="gcq")
    for bad in (0, -3):
        with says(f"budget = {bad!r}: give a whole number of at least 1"):
            td.dream(encoder, GOAL, START, budget=bad)
        with says(f"max_changes = {bad!r}"):
            td.dream(encoder, GOAL, START, max_changes=bad)
        with says(f"candidates = {bad!r}"):
            td.gcg(encoder, GOAL, START, method=td.GCG(candidates=bad))
    with says("early = 2"):
        td.gcg(encoder, GOAL, START, method=td.GCG(early=2))
    with says("penalty = -1.0"):
        td.epo(encoder, GOAL, START, method=td.EPO(penalties=[-1.0]))
    with says("the banned tokens leave nothing"):
        td.dream(encoder, GOAL, START, allowed=["dog"], banned=["dog"])
    with says("banned = 'dog': give a list of tokens"):
        td.dream(encoder, GOAL, START, banned="dog")
    with says("'doqs' is not one token"):
        td.dream(encoder, GOAL, START, banned=["doqs"])
    with says("learning_rate = -1"):
        td.dream(encoder, GOAL, START, method=td.PEZ(learning_rate=-1))


def test_a_batch_fills_free_positions_only(host: Host) -> None:
    sentences = [
        host.vocabulary.read(td.Prompt(text, free)) for text, free in zip(TEXTS, ([2, 4], None, 1), strict=True)
    ]
    batch = Batch.of(host, sentences, ALL, True)
    assert batch.free.tolist() == [[2, 4], [1, 2], [1, 0]]
    assert batch.valid.tolist() == [[True, True], [True, True], [True, False]]
    filled = batch.fill(torch.full((3, 2), 9))
    for row, sentence in enumerate(sentences):
        ids = batch.row_ids(filled, row)
        assert len(ids) == len(sentence)
        assert [i for i, (new, old) in enumerate(zip(ids, sentence.ids, strict=True)) if new != old] == list(
            sentence.free
        )
    assert torch.equal(batch.ids, host.pad([sentence.ids for sentence in sentences])[0])  # the start is untouched


def test_of_too_many_changes_the_strongest_are_kept(host: Host) -> None:
    """A word that is not changed uses nothing up, however strong it is."""
    batch = Batch.of(host, [host.vocabulary.read(START)], ALL, True, max_changes=1)
    filled = batch.ids.clone()
    filled[0, [2, 4]] = 9
    kept = batch.within_limit(filled, torch.tensor([[9.0, 1.0, 9.0, 5.0, 9.0]]))
    assert (kept != batch.ids).nonzero().tolist() == [[0, 4]]
    assert torch.equal(replace(batch, max_changes=2).within_limit(filled, torch.zeros(1, 5)), filled)


def test_a_batch_needs_free_positions(host: Host) -> None:
    sentence = replace(host.vocabulary.read("the dog"), free=())
    with says("no position of 'the dog' is free: free at least one word"):
        Batch.of(host, [sentence], ALL, True)


def test_a_rows_draws_are_its_own() -> None:
    def draw(*key: int, row: int = 1) -> list[float]:
        return torch.rand(3, generator=row_generators(*key)[row]).tolist()

    assert draw(0, 2) == draw(0, 5)
    different = [draw(0, 2), draw(0, 2, row=0), draw(1, 2), draw(0, 2, 1), draw(2, 2), draw(0, 2, 2)]
    assert len({tuple(d) for d in different}) == len(different)
