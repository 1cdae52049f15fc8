"""Projected gradient ascent: the steps are those of moving embeddings, and what must stand still does."""

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tl_dream.dreaming.projection import PEZ, _Motion, moved, project
from tl_dream.models.host import Host, attached
from tl_dream.objectives.objective import Objective
from tl_dream.search.batch import Batch
from tl_dream.search.budgets import Budget
from tl_dream.search.engine import run
from tl_dream.search.swap_search import SwapSearch

START = "i do see the sun"


GOAL = td.neuron("block_out", layer=1, unit=5, pos=2)


def searching(
    host: Host, *texts: str, goal: Objective = GOAL, allowed: torch.Tensor | None = None, budget: int = 100_000
) -> SwapSearch:
    """A search of some sentences; what it scores is not repaired."""
    mask = host.vocabulary.allowed() if allowed is None else allowed
    batch = Batch.of(host, [host.vocabulary.read(text) for text in texts], mask, False)
    return run(host, SwapSearch.of(host, goal, batch, Budget(host.meter, budget)))


def scored(search: SwapSearch, row: int = 0) -> list[tuple[int, ...]]:
    """All that was scored of a row, in order."""
    return list(search.seen._known[row])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_it_is_what_moving_embeddings_do(encoder: torch.nn.Module, momentum: float) -> None:
    """The same texts as an ascent that moves vectors and looks for the nearest token of each."""
    settings = PEZ(steps=12, learning_rate=0.02, momentum=momentum)
    with attached(encoder) as host:
        search = searching(host, START)
        assert run(host, project(search, settings)) == "steps"
        W_E, allowed = host.W_E, search.batch.allowed
        sentence = search.batch.sentences[0]
        free = list(sentence.free)
        length = 0.02 * W_E.shape[1] * W_E.var(0, correction=0).mean()
        ids = torch.tensor([sentence.ids])
        moving, push = W_E[ids[0, free]], torch.zeros(len(free), W_E.shape[1])
        texts: list[tuple[int, ...]] = []
        while len(texts) < 12:
            distance = torch.cdist(moving, W_E).masked_fill(~allowed, torch.inf)
            ids[0, free] = distance.argmin(1)
            if tuple(ids[0].tolist()) not in texts[-1:]:
                texts.append(tuple(ids[0].tolist()))
            embeddings = W_E[ids].requires_grad_()
            name = host.resolve("block_out", 1)
            acts = td.models.forward(host, ids, [name], embeddings=embeddings)
            (pull,) = torch.autograd.grad(acts[name][0, 2, 5], embeddings)
            (steep,) = run(host, search.slopes([(0, tuple(ids[0].tolist()))]))
            push = momentum * push + (1 - momentum) * pull[0, free] / steep.std(1, keepdim=True)
            moving = moving + length * push
    assert scored(search) == list(dict.fromkeys(texts)) and len(scored(search)) > 5


def test_positions_that_do_not_move_keep_their_word(encoder: torch.nn.Module) -> None:
    with attached(encoder) as host:
        search = searching(host, START)
        moves = torch.tensor([[True, False, False, True, False]])
        run(host, project(search, PEZ(steps=15), moves=moves))
        start, *others = scored(search)
        assert len(others) > 5
        changed = {at for ids in others for at, (new, old) in enumerate(zip(ids, start, strict=True)) if new != old}
        assert changed == {1, 4}


def test_rows_that_are_not_meant_are_left_alone(encoder: torch.nn.Module) -> None:
    """A row alone, of another length than the rest, ascends as it does by itself."""
    with attached(encoder) as host:
        search, alone = searching(host, START, "the red dog", START), searching(host, "the red dog")
        for one, rows in ((search, [1]), (alone, None)):
            run(host, project(one, PEZ(steps=10), rows=rows))
        assert len(scored(search, 0)) == len(scored(search, 2)) == 1
        assert scored(search, 1) == scored(alone) and len(scored(alone)) > 5
        assert search.seen.best[1] == alone.seen.best[0] and search.seen.best[0] == search.seen.starts[0]
        records = search.seen.runs()[1].history
        assert records.hard_score[-1] == search.seen.best[1].score > search.seen.starts[1].score


def test_a_word_that_is_not_allowed_may_stay(encoder: torch.nn.Module) -> None:
    """The start's words are no choice of the search; they are not thrown out for that."""
    with attached(encoder) as host:
        words = torch.zeros(len(VOCAB), dtype=torch.bool)
        words[[VOCAB.index(word) for word in ("moon", "dog", "fire", "red")]] = True
        search = searching(host, START, allowed=words)
        run(host, project(search, PEZ(steps=20, learning_rate=0.02)))
        start = search.batch.sentences[0].ids
        count = [sum(new != old for new, old in zip(ids, start, strict=True)) for ids in scored(search)]
        assert count[0] == 0 and 1 in count
        assert {i for ids in scored(search) for i in ids} <= {*start, *words.nonzero().flatten().tolist()}


def test_it_climbs_what_reads_the_words_themselves(encoder: torch.nn.Module) -> None:
    """Bigrams have no gradient in embedding space: "red dog" is likelier than any other end of the sentence."""
    judge = td.fluency(td.count_bigrams(encoder, ["the red dog", "the red dog ran", "red dog"]))
    found = td.dream(encoder, judge, "the moon fire", method=td.PEZ(steps=40))
    assert found.best.text == "the red dog"
    both = td.dream(encoder, GOAL + 5.0 * judge, "i see the moon", method=td.PEZ(steps=60), max_changes=2)
    alone = td.dream(encoder, GOAL, "i see the moon", method=td.PEZ(steps=60), max_changes=2)
    fluent = td.score(encoder, judge, [both.best.text, alone.best.text])
    assert fluent[0] > fluent[1] and both.best.score > both.start.score


def test_why_it_ends(encoder: torch.nn.Module) -> None:
    with attached(encoder) as host:
        assert run(host, project(searching(host, START), PEZ(steps=200, patience=3))) == "still"
        few = searching(host, START, budget=200)
        assert run(host, project(few, PEZ())) == "budget" and few.budget.spent <= 200
        flat = searching(host, START, goal=0.0 * GOAL)
        assert run(host, project(flat, PEZ())) == "flat" and scored(flat) == [flat.batch.sentences[0].ids]
        assert run(host, project(searching(host, START), PEZ(), callback=lambda progress: True)) == "callback"


def test_settings_out_of_range() -> None:
    with says("learning_rate = 0: give a number above 0"):
        PEZ(learning_rate=0)
    with says("momentum = 1.0"):
        PEZ(momentum=1.0)
    with says("steps = 0"):
        PEZ(steps=0)


def test_searches_move_together_as_alone(encoder: torch.nn.Module) -> None:
    """As on a GPU: rows of other lengths, one along new slopes and one without any."""
    texts = ["i do see the sun", "the dog", "a small cat is here ."]
    with attached(encoder) as host:

        def motions() -> list[_Motion]:
            searches = [searching(host, text, goal=td.neuron("block_out", layer=1, unit=5, pos=1)) for text in texts]
            return [_Motion.of(one, [0], [one.seen.leads[0][0]], td.PEZ(learning_rate=2.0)) for one in searches]

        draw = torch.Generator().manual_seed(0)
        slopes = [[torch.randn(m.near.shape, generator=draw).to(m.near)] for m in motions()]
        slopes[1] = [torch.zeros_like(slopes[1][0])]
        alone, together = motions(), motions()
        for steps in (None, slopes, None, None):
            given = [None] * 3 if steps is None else steps
            one = [moved([item])[0] for item in zip(alone, given, strict=True)]
            both = moved(list(zip(together, given, strict=True)))
            assert [place.tokens for place in one] == [place.tokens for place in both]
            assert [place.flat for place in both] == [steps is not None and n == 1 for n in range(3)]
            for a, b in zip(alone, together, strict=True):
                torch.testing.assert_close(a.near, b.near)
        home = [host.vocabulary.encode(text)[1:-1] for text in texts]
        assert tuple(both[1].tokens) == home[1] and tuple(both[0].tokens) != home[0]
