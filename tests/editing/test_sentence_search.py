"""The room editing.sentence_search."""

import itertools

import pytest
import torch

from tests.support.editing import activation, aims_of
from tl_dream.editing.sentence_pool import MovedTarget, SentencePool
from tl_dream.editing.sentence_search import search
from tl_dream.models.host import attached
from tl_dream.results.edits import ConceptEdit
from tl_dream.search.engine import run

WORDS = "dog cat sun moon he she red warm".split()


@pytest.mark.parametrize("layer", [0, 2])
def test_the_search_finds_the_best_of_all_single_and_double_swaps(encoder: torch.nn.Module, layer: int) -> None:
    text = "the dog was red"
    with attached(encoder) as host:
        name = host.resolve("block_out", layer)
        sentence = host.vocabulary.read(text)
        ids = [host.vocabulary.token_id(word) for word in WORDS]
        hits = 0
        for seed in range(3):
            aims = aims_of(encoder, text, [name], seed)
            pool = SentencePool(host, sentence, aims, host.vocabulary.allowed(WORDS))
            run(host, search(pool, starts=3, seed=0, tick=lambda: None))
            every = SentencePool(host, sentence, aims, host.vocabulary.allowed(WORDS))
            rows = []
            for i, j in itertools.combinations(sentence.free, 2):
                for a, b in itertools.product([*ids, None], repeat=2):
                    row = list(sentence.ids)
                    row[i], row[j] = a or row[i], b or row[j]
                    rows.append(tuple(row))
            run(host, every.add(rows))
            found, best = float(pool.losses[pool.best()[0], 0]), float(every.losses.min())
            assert found <= float(every.losses[0, 0])
            hits += found <= best + 1e-9
        assert hits >= 2


@pytest.mark.parametrize(("goal", "layer"), [("the moon was red", 2), ("the moon was warm", 0)])
def test_a_reachable_target_is_reached_exactly(encoder: torch.nn.Module, goal: str, layer: int) -> None:
    """The activation of another text, of one other word and of two."""
    with attached(encoder) as host:
        name = host.resolve("block_out", layer)
        sentence, ids = host.vocabulary.read("the dog was red"), host.vocabulary.encode(goal)
        change = activation(encoder, name, list(ids)) - activation(encoder, name, list(sentence.ids))
        for starts in (1, 3):
            pool = SentencePool(host, sentence, [MovedTarget(name, change)], host.vocabulary.allowed())
            run(host, search(pool, starts=starts, width=600 if layer else 32, seed=0, tick=lambda: None))
            (best,) = pool.best()
            assert pool.rows[best] == tuple(ids) and pool.exact(best, 0) < 1e-10


def test_magnitude_zero_changes_nothing(edit: ConceptEdit) -> None:
    rows = [row for row in edit.rows if row.magnitude == 0]
    assert [row.layer for row in rows] == [0, 2]
    assert all(row.tokens == edit.tokens and not row.changed and row.loss == row.gap == 0 for row in rows)
