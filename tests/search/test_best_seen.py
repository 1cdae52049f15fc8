"""The room search.best_seen."""

import math
from dataclasses import replace

import numpy
import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB
from tests.support.search import ALL, GOAL, batch_of, searching
from tl_dream.models.host import Host
from tl_dream.objectives.objective import Objective
from tl_dream.search.batch import Batch
from tl_dream.search.best_seen import KEPT, REMEMBERED, BestSeen, Memory
from tl_dream.search.engine import run

# The best ever seen


def tokens(host: Host, batch: Batch, words: list[str]) -> list[tuple[int, ...]]:
    """One row with `words` at its free positions."""
    return batch.texts(batch.fill(torch.tensor([[VOCAB.index(word) for word in words]])))


def test_best_seen_keeps_the_best_and_scores_nothing_twice(host: Host) -> None:
    batch = batch_of(host, "i do see the sun", free=[2])
    seen = run(host, BestSeen.of(host, GOAL, batch))
    assert host.meter.forwards == 1 and seen.best == seen.starts
    values = {}
    for step, word in enumerate(["red", "cat", "moon", "red", "do", "love"], 1):
        (values[word],) = run(host, seen.see(tokens(host, batch, [word]), step))
        assert seen.best[0].score == max(*values.values(), seen.starts[0].score)
    assert host.meter.forwards == 5 + 1 - 1  # "red" came twice, and "do" is the start
    best = max(values, key=values.get)
    shown = seen.shown(0, seen.best[0])
    assert shown.text == f"i {best} see the sun" and shown.retokenizes and shown.score == seen.best[0].score
    assert shown.tokens[2] == best and shown.step == ["red", "cat", "moon", "", "do", "love"].index(best) + 1
    assert values["moon"] == pytest.approx(td.score(host, GOAL, "i moon see the sun").item(), abs=1e-12)


def like(host: Host, pos: int, word: str) -> Objective:
    """0 where `word` stands at `pos`, below 0 elsewhere."""
    mark = host.W_E[VOCAB.index(word)]
    return td.custom(lambda acts: -(acts["x"][:, pos] - mark).abs().amax(-1), {"x": "embed"}, name=f"like {word}")


def test_best_seen_returns_only_what_retokenizes(host: Host) -> None:
    """ "do" and "##g" are read as "dog", which is one token: too short to stand for the sentence that was scored."""
    batch = batch_of(host, "i do see the sun", free=[3])
    for retokenize, kept in ((True, "see"), (False, "##g")):
        seen = run(host, BestSeen.of(host, like(host, 3, "##g"), replace(batch, retokenize=retokenize)))
        assert run(host, seen.see(tokens(host, batch, ["##g"]), 1)) == [0.0]
        shown = seen.shown(0, seen.best[0])
        assert shown.tokens[3] == kept and shown.retokenizes == retokenize


def test_best_seen_tries_what_the_text_tokenizes_to(host: Host) -> None:
    """ "." and "##s" are read as "." and "s", as many and at free positions only: real tokens, scored too."""
    odd, goal = [".", "##s"], like(host, 4, "s")
    batch = batch_of(host, "i see red cat", free=[3, 4])
    seen = run(host, BestSeen.of(host, goal, batch))
    assert run(host, seen.see(tokens(host, batch, odd), 1))[0] < 0
    shown = seen.shown(0, seen.best[0])
    assert shown.tokens == ("[CLS]", "i", "see", ".", "s", "[SEP]")
    assert shown.score == 0 and shown.retokenizes
    forbidden = ALL.clone()
    forbidden[VOCAB.index("s")] = False
    for other in (replace(batch, allowed=forbidden), replace(batch, retokenize=False)):
        strict = run(host, BestSeen.of(host, goal, other))
        run(host, strict.see(tokens(host, batch, odd), 1))
        assert VOCAB.index("s") not in strict.best[0].ids


@pytest.mark.parametrize("free", [[3], [3, 4]])
def test_what_the_text_tokenizes_to_leaves_fixed_words_alone(host: Host, free: list[int]) -> None:
    """ ".s" is read as "." and "s": where "##s" is fixed that is another sentence."""
    start, odd, again = (
        tuple(VOCAB.index(word) for word in ("[CLS]", "i", "see", *words, "[SEP]"))
        for words in (("red", "##s"), (".", "##s"), (".", "s"))
    )
    batch = Batch.of(host, [host.vocabulary.read(td.Prompt(ids=start, free=free))], ALL, True)
    assert run(host, run(host, BestSeen.of(host, GOAL, batch)).repaired(0, [odd])) == ([again] if 4 in free else [])


def test_the_memory_is_of_the_best_text_that_had_a_token_there(host: Host) -> None:
    batch = batch_of(host, "i do see the sun", free=[2, 3])
    seen = run(host, BestSeen.of(host, GOAL, batch))
    red, moon, cat = (VOCAB.index(word) for word in ("red", "moon", "cat"))

    def learn(first: int, second: int, height: float) -> None:
        ids = list(batch.sentences[0].ids)
        ids[2:4] = first, second
        seen.learn(0, tuple(ids), -height, height)

    for first, second, height in ((red, moon, 1.0), (red, cat, 3.0), (moon, cat, 2.0), (cat, red, math.nan)):
        learn(first, second, height)
    here = list(batch.sentences[0].ids[2:4])

    def remembered(own: list[int]) -> list[list[int]]:
        memory = seen.memory(0)
        found, live = memory.best(own, numpy.zeros_like(memory.tokens, dtype=bool))
        return [row[good].tolist() for row, good in zip(found, live, strict=True)]

    first, second = remembered([0, 0])
    assert [t for t in first if t in (red, moon)] == [red, moon] and cat not in first and here[0] in first
    assert [t for t in second if t in (cat, moon)] == [cat, moon] and red not in second
    learn(moon, moon, 5.0)
    first, second = remembered([here[0], moon])
    assert first[:2] == [moon, red] and here[0] not in first
    assert cat in second and moon not in second, "what stands there is no swap"


@pytest.mark.parametrize("pieces", [1, 7, 60])
def test_the_memory_is_exact_however_texts_come(pieces: int) -> None:
    draw = numpy.random.default_rng(3)
    texts = [tuple(row) for row in draw.integers(0, 25, (60, 5)).tolist()]
    heights = draw.normal(size=60).tolist()
    heights[4], heights[9] = math.inf, math.nan
    memory = Memory([1, 3])
    for at in range(0, 60, 60 // pieces):
        memory.take(texts[at : at + 60 // pieces], heights[at : at + 60 // pieces])
    own, closed = [texts[0][1], texts[0][3]], {2, 7}
    found, live = memory.best(own, numpy.isin(memory.tokens, [*closed]))
    for slot, pos in enumerate((1, 3)):
        best = {}
        for ids, height in zip(texts, heights, strict=True):
            if math.isfinite(height):
                best[ids[pos]] = max(height, best.get(ids[pos], -math.inf))
        kept = sorted(best, key=lambda token: -best[token])[:KEPT]
        expected = [token for token in kept if token != own[slot] and token not in closed][:REMEMBERED]
        assert found[slot][live[slot]].tolist() == expected


def test_where_nothing_can_retokenize_nothing_is_asked_to(host: Host) -> None:
    """A freed [CLS], or a start given as ids that no text has: else the start would always be returned."""
    freed = batch_of(host, "i do see the sun", free=[0, 2])
    odd = [VOCAB.index(word) for word in ("[CLS]", "d", "##o", "##g", "is", "red", "[SEP]")]
    by_hand = Batch.of(host, [host.vocabulary.read(td.Prompt(ids=odd, free=5))], ALL, True)
    for batch, pos, words in ((freed, 0, ["cat", "cat"]), (by_hand, 5, ["cat"])):
        seen = run(host, BestSeen.of(host, like(host, pos, "cat"), batch))
        run(host, seen.see(tokens(host, batch, words), 1))
        assert seen.best[0].score == 0 and seen.best[0].step == 1 and not seen.best[0].again


def test_scores_that_are_no_numbers_are_never_the_best(host: Host) -> None:
    batch = batch_of(host, "i do see the sun", free=[2])
    for value in (math.nan, math.inf):
        marked = td.custom(
            lambda a, value=value: torch.where(a["x"][:, 2, 0] == host.W_E[VOCAB.index("cat"), 0], value, 0.0),
            {"x": "embed"},
        )
        seen = run(host, BestSeen.of(host, marked, batch))
        assert seen.broken is None
        run(host, seen.see(tokens(host, batch, ["cat"]), 1))
        assert seen.best == seen.starts and str(seen.broken) == str(value)


@pytest.mark.parametrize("off", [0.25, -0.25, 100.0])
def test_the_score_that_is_returned_is_the_models_own(host: Host, off: float) -> None:
    """Whatever the trunk that stood in for it had said; what is no better than the start is not returned."""
    search = searching(host, -GOAL)
    assert search.seen.trunk is not None
    start = search.seen.starts[0]
    texts = ["i red see the sun", "i moon see the sun", "i love see the sun"]
    real = dict(zip(texts, td.score(host, -GOAL, texts).tolist(), strict=True))
    for text, score in real.items():
        ids = host.vocabulary.read(text).ids
        search.seen.learn(0, ids, score + off, score + off)
        if search.seen.keep(0, ids, 1):
            search.seen.record(0, 1, 5)
    kept = search.seen.best[0]
    run(host, search.settle())
    best = search.seen.best[0]
    text = search.seen.shown(0, kept).text
    assert best.score == pytest.approx(max(real.get(text, start.score), start.score), abs=1e-9)
    assert best is start or best.ids == kept.ids
    assert search.seen.runs()[0].history.hard_score[-1] == (best.score if best.ids == kept.ids else kept.score)
