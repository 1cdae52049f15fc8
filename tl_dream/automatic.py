"""The default search: a gradient ascent as a proposal, merged swaps of a batch that widens, kicks, and a last sweep.

What each part is for: projected gradient ascent gets far on few forward-tokens and then stays; narrow batches of swaps
climb fastest and wide ones get further, so the batch widens while nothing better comes; a kick leaves a local optimum;
a sweep tries the swaps of the best text one after the other, steepest slope first, and where it comes to its end
without a better one the text is a certified optimum: no single swap is better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from tl_dream.ascent import Annealing, Callback, ascend
from tl_dream.batches import Batch
from tl_dream.hosts import Budget
from tl_dream.projection import Projecting, project
from tl_dream.prompts import Prompt
from tl_dream.rows import TOKENS
from tl_dream.scans import token_search
from tl_dream.swapping import Ids, Swaps, Walker

NARROW, WIDE = 16, 64
"""Sentences a step: at first, and at most."""

TOP_K = 32
"""Tokens a position that are proposed."""

PATIENCE = 8
"""Steps without a new best, at full width, before the search turns to something else."""

KICK = 4
"""Words exchanged at once to leave a local optimum."""

SWEPT = 64
"""Sentences a sweep scores at once."""

PROPOSING = 0.2
"""Share of the budget that proposals to start from may cost."""

STEPS, FEWEST = 40, 20
"""Gradient steps of a proposal, and sentences it is at least worth while for."""

ANNEALING = Annealing(candidates=32, evaluate_every=4, top_k=1)
"""The annealing that proposes."""


def automatic(
    search: Swaps, *, seed: int = 0, callback: Callback | None = None, tick: Callable[[], object] | None = None
) -> str:
    """Search until the budget is spent, or no single swap is better than the best text.

    Returns:
        Why it stopped: "budget", "optimum" (every text that differs from the best in one word was scored, and none is
        better), or "callback".
    """
    stop = _Stop(search, callback, tick)
    _propose(search, seed)
    order = sorted(range(len(search.batch.sentences)), key=lambda row: -search.seen.best[row].score)
    walker = search.walker(order.pop(0))
    while not stop.asked():
        _climb(search, walker, stop)
        leader = search.walker(_leader(search))
        if not stop.why and _sweep(search, leader, stop):
            return "optimum"
        if search.seen.best[leader.row].ids != leader.ids:  # the sweep found better: on from there
            walker = search.walker(leader.row)
        elif order:
            walker = search.walker(order.pop(0))
        elif not stop.why:
            walker = leader
            search.step([walker], NARROW, TOP_K, swaps=KICK)
    return stop.why


class _Stop:
    """Whether to stop, asked after every step, and why."""

    def __init__(self, search: Swaps, callback: Callback | None, tick: Callable[[], object] | None) -> None:
        self._search, self._callback, self._tick = search, callback, tick
        self.why = ""

    def asked(self) -> bool:
        """Whether to stop now."""
        if self.why:
            return True
        if self._tick is not None:
            self._tick()
        if not self._search.goes_on(3):  # a gradient and one sentence
            self.why = "budget"
        elif self._search.progress(self._callback):
            self.why = "callback"
        return bool(self.why)


def _leader(search: Swaps) -> int:
    return max(range(len(search.batch.sentences)), key=lambda row: (search.seen.best[row].score, -row))


def _propose(search: Swaps, seed: int) -> None:
    """Texts to climb on from: projected gradient ascent of the best rows, as many as a share of the budget pays for.
    Where the objective reads the words themselves, which moving embeddings do not see, annealing takes its place."""
    batch, seen = search.batch, search.seen
    budget = Budget(search.host.meter, PROPOSING * search.budget.limit)
    count = min(len(batch.sentences), int(budget.limit / search.sentence_cost / STEPS / 3))
    rows = sorted(range(len(batch.sentences)), key=lambda row: -seen.starts[row].score)[: max(1, count)]
    if budget.limit / search.sentence_cost < FEWEST * len(rows):
        return
    sentences = [batch.sentences[row] for row in rows]
    some = Batch.of(search.host, sentences, batch.allowed, batch.retokenize, batch.max_changes)
    if TOKENS in search.objective.reads:
        steps = int(min(STEPS, budget.limit / search.sentence_cost / 2.5 / len(rows)))
        settings = replace(ANNEALING, steps=steps, warmup=steps // 10)
        best = [run.best for run in ascend(search.host, search.objective, some, settings, seed=seed).runs]
    else:
        scout = Swaps(search.host, search.objective, some, budget, seed)
        project(scout, Projecting(steps=STEPS))
        best = scout.seen.best
    search.steps += STEPS
    search.score([(row, found.ids) for row, found in zip(rows, best, strict=True)])


def _climb(search: Swaps, walker: Walker, stop: _Stop) -> None:
    """Merged swaps until nothing better comes for a while."""
    width, stale = float(NARROW), 0
    while stale < PATIENCE:
        better = search.step([walker], round(width), TOP_K, merge=True)
        if stop.asked() or better is None:
            return
        width = max(NARROW, width / 1.2) if better[0] else min(WIDE, width * 1.2)
        stale = 0 if better[0] else stale + (width >= WIDE)


def _sweep(search: Swaps, walker: Walker, stop: _Stop) -> bool:
    """Try the swaps of a row's best text, steepest first, until one is better or a tenth of the budget is spent;
    whether all were tried and none is better."""
    row = walker.row
    count = len(search.batch.sentences[row].free) * int(search.batch.allowed.sum())
    if search.affordable(count) < count:
        return False
    (slope,) = search.slopes([(row, walker.ids)])
    gains = search.gains(row, walker.ids, slope)
    free, width = search.batch.sentences[row].free, gains.shape[1]
    order = gains.flatten().argsort(descending=True)[: int((gains > -torch.inf).sum())]
    for part in order.split(4 * SWEPT):
        fresh: list[Ids] = []
        for pick in part.tolist():
            ids = list(walker.ids)
            ids[free[pick // width]] = pick % width
            if not search.seen.knows(row, tuple(ids)):
                fresh.append(tuple(ids))
        batch = [ids for ids, good in zip(fresh, search.seen.returnable(row, fresh), strict=True) if good]
        for at in range(0, len(batch), SWEPT):
            some = batch[at : at + SWEPT]
            if search.affordable(len(some)) < len(some):
                return False
            search.score([(row, ids) for ids in some])
            if stop.asked() or search.seen.best[row].ids != walker.ids:
                return False
    return True


def best_words(search: Swaps) -> str:
    """The exact best token where each row has one free position (`token_search`).

    Returns:
        "optimum".
    """
    host, batch = search.host, search.batch
    for row, sentence in enumerate(batch.sentences):
        (at,) = sentence.free
        tokens = batch.allowed.nonzero().flatten()
        prompt = Prompt(ids=sentence.ids, free=at)
        top = min(64, len(tokens))
        while True:
            table = token_search(host, search.objective, prompt, pos=at, top=top, allowed=batch.allowed, progress=False)
            found = [(*sentence.ids[:at], token.id, *sentence.ids[at + 1 :]) for token in table.top]
            good = [ids for ids, ok in zip(found, search.seen.returnable(row, found), strict=True) if ok]
            if good or top == len(tokens):
                break
            top = min(8 * top, len(tokens))
        search.steps += 1
        search.score([(row, ids) for ids in good[:1]])
    return "optimum"
