"""The default search: projected gradient ascent, merged swaps of a batch that widens, ascent again, and a last sweep.

What each part is for: projected gradient ascent gets far on few forward-tokens, each round from the best text so far,
and ends in texts that swaps still improve. Narrow batches of swaps climb fastest and wide ones get further, so the
batch widens while nothing better comes; a round that leaves some positions alone is the kick out of a local optimum,
and where that does not help the search starts anew from the first sentence. A sweep tries the swaps of the best text
one after the other, steepest slope first, and where it comes to its end without a better one the text is a certified
optimum: no single swap is better.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from tl_dream.ascent import Callback
from tl_dream.projection import Projecting, project
from tl_dream.prompts import Prompt
from tl_dream.scans import token_search
from tl_dream.swapping import Ids, Swaps, Walker

ROUND = Projecting(steps=40, patience=12)
"""A round of projected gradient ascent."""

ROUNDS = 3
"""Rounds from the best start, before swaps."""

HELD = 0.4
"""Share of the positions that do not move in a round, from the second one on."""

PROPOSING = 0.2
"""Share of the budget that the first rounds may cost."""

NARROW, WIDE = 16, 64
"""Sentences a step of swaps: at first, and at most."""

TOP_K = 32
"""Tokens a position that are proposed."""

PATIENCE = 6
"""Steps of swaps without a new best, at full width, before the search turns to something else."""

FAILED = 1
"""Climbs in a row without a new lead, after which the search starts anew."""

SWEPT = 64
"""Sentences a sweep scores at once."""


def automatic(
    search: Swaps, *, seed: int = 0, callback: Callback | None = None, tick: Callable[[], object] | None = None
) -> str:
    """Search until the budget is spent, or no single swap is better than the best text.

    Returns:
        Why it stopped: "budget", "optimum" (every text that differs from the best in one word was scored, and none is
        better), or "callback".
    """
    stop = _Stop(search, callback, tick)
    draw = torch.Generator().manual_seed(seed)
    order = sorted(range(len(search.batch.sentences)), key=lambda row: -search.seen.best[row].score)
    for row in order:  # at least one: a round is the best use of any budget
        if not stop.why and search.budget.share <= PROPOSING:
            _round(search, row, stop)
    _rounds(search, _leader(search), stop, draw, ROUNDS - 1)
    order.sort(key=lambda row: -search.seen.best[row].score)
    row, failed, lead = order.pop(0), 0, None
    while not stop.asked():
        _climb(search, search.walker(row), stop)
        failed = failed + 1 if search.seen.leads[row] is lead else 0
        leader = _leader(search)
        best = search.seen.best[leader]
        if not stop.why and _sweep(search, leader, stop):
            return "optimum"
        lead = search.seen.leads[row]
        if search.seen.best[leader] is not best:  # the sweep found better: on from there
            row = leader
        elif order:
            row, failed, lead = order.pop(0), 0, None
        elif failed >= FAILED:
            row, failed, lead = leader, 0, None
            search.seen.start_anew(row)
            _rounds(search, row, stop, draw, ROUNDS)
        else:
            _round(search, row, stop, draw)
    return stop.why


class _Stop:
    """Whether to stop, asked after every step, and why."""

    def __init__(self, search: Swaps, callback: Callback | None, tick: Callable[[], object] | None) -> None:
        self._search, self.callback, self.tick = search, callback, tick
        self.why = ""

    def asked(self) -> bool:
        """Whether to stop now."""
        if self.why:
            return True
        if self.tick is not None:
            self.tick()
        if not self._search.goes_on(3):  # a gradient and one sentence
            self.why = "budget"
        elif self._search.progress(self.callback):
            self.why = "callback"
        return bool(self.why)


def _leader(search: Swaps) -> int:
    return max(range(len(search.batch.sentences)), key=lambda row: (search.seen.best[row].score, -row))


def _rounds(search: Swaps, row: int, stop: _Stop, draw: torch.Generator, count: int) -> None:
    for _ in range(count):
        _round(search, row, stop, draw)


def _round(search: Swaps, row: int, stop: _Stop, draw: torch.Generator | None = None) -> None:
    """Projected gradient ascent from a row's lead; with `draw`, some positions stand still."""
    if not stop.why:
        moves = None
        if draw is not None:
            moves = torch.rand(1, len(search.batch.sentences[row].free), generator=draw) >= HELD
            moves = (moves | ~moves.any()).to(search.host.device)
        why = project(search, ROUND, rows=[row], moves=moves, callback=stop.callback, tick=stop.tick)
        stop.why = why if why in ("budget", "callback") else ""


def _climb(search: Swaps, walker: Walker, stop: _Stop) -> None:
    """Merged swaps until nothing better comes for a while."""
    width, stale = float(NARROW), 0
    while stale < PATIENCE:
        better = search.step([walker], round(width), TOP_K, merge=True)
        if stop.asked() or better is None:
            return
        width = max(NARROW, width / 1.2) if better[0] else min(WIDE, width * 1.2)
        stale = 0 if better[0] else stale + (width >= WIDE)


def _sweep(search: Swaps, row: int, stop: _Stop) -> bool:
    """Try the swaps of a row's best text, steepest first, until one is better;
    whether all were tried and none is better."""
    best = search.seen.best[row]
    count = len(search.batch.sentences[row].free) * int(search.batch.allowed.sum())
    if search.affordable(count) < count:
        return False
    (slope,) = search.slopes([(row, best.ids)])
    gains = search.gains(row, best.ids, slope)
    free, width = search.batch.sentences[row].free, gains.shape[1]
    order = gains.flatten().argsort(descending=True)[: int((gains > -torch.inf).sum())]
    for part in order.split(4 * SWEPT):
        fresh: list[Ids] = []
        for pick in part.tolist():
            ids = list(best.ids)
            ids[free[pick // width]] = pick % width
            if not search.seen.knows(row, tuple(ids)):
                fresh.append(tuple(ids))
        batch = [ids for ids, good in zip(fresh, search.seen.returnable(row, fresh), strict=True) if good]
        for at in range(0, len(batch), SWEPT):
            some = batch[at : at + SWEPT]
            if search.affordable(len(some)) < len(some):
                return False
            search.score([(row, ids) for ids in some])
            if stop.asked() or search.seen.best[row] is not best:
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
