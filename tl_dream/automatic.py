"""The default search: projected gradient ascent, merged swaps of a batch that widens, ascent again, and a last sweep.

What each part is for: projected gradient ascent gets far on few forward-tokens, each round from the best text so far,
and ends in texts that swaps still improve. Narrow batches of swaps climb fastest and wide ones get further, so the
batch widens while nothing better comes. Half of it takes what the gradient ranks first, averaged over the way; half
takes tokens of the best texts so far, one or two at a time. A round that leaves some positions alone is the kick out of
a local optimum, and where that does not help the search starts anew from the first sentence. A sweep tries the swaps of
the best text one after the other, steepest slope first, and where it comes to its end without a better one the text is
a certified optimum: no single swap is better.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tl_dream._errors import DreamError
from tl_dream.ascent import Callback
from tl_dream.projection import Projecting, project
from tl_dream.prompts import Sentence
from tl_dream.screening import exact_best
from tl_dream.substitutions import Substitution, numbered
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

INERTIA = 0.8
"""Weight of the slopes on the way to a text against its own."""

RECALLED = 0.5
"""Share of a step's sentences that take tokens of the best texts so far."""

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
        better = search.step([walker], round(width), TOP_K, merge=True, remembered=RECALLED, inertia=INERTIA)
        if stop.asked() or better is None:
            return
        width = max(NARROW, width / 1.2) if better[0] else min(WIDE, width * 1.2)
        stale = 0 if better[0] else stale + (width >= WIDE)


def _sweep(search: Swaps, row: int, stop: _Stop) -> bool:
    """Try the swaps of a row's best text, steepest first, until one is better;
    whether all were tried and none is better."""
    best = search.seen.best[row]
    count = int(search.open_swaps(row, best.ids).sum())
    if search.affordable(count + 2, [row]) < count + 2:  # and a gradient
        return False
    (slope,) = search.slopes([(row, best.ids)])
    gains = search.gains(row, best.ids, slope)
    free, width = search.batch.sentences[row].free, gains.shape[1]
    order = gains.flatten().argsort(descending=True)[:count]  # all that are open, whatever their slopes
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
            if search.affordable(len(some), [row]) < len(some):
                return False
            search.score([(row, ids) for ids in some])
            if stop.asked() or search.seen.best[row] is not best:
                return False
    return True


def best_words(search: Swaps, *, callback: Callback | None = None, tick: Callable[[], object] | None = None) -> str:
    """The exact best token where each row has one free position, found as `token_search` finds it; rows of the same
    sentence are searched once. The callback is called before every row and after the last.

    Returns:
        Why it stopped: "optimum", "callback", or "failure" where an allowed token scores NaN or infinity.
    """
    found: dict[Sentence, list[Ids]] = {}
    for row, sentence in enumerate(search.batch.sentences):
        if search.failure is not None:
            return "failure"
        if search.progress(callback):
            return "callback"
        if sentence not in found:
            found[sentence] = _best_word(search, row)
        search.steps += 1
        search.score([(row, ids) for ids in found[sentence]])
        if tick is not None:
            tick()
    if search.failure is not None:
        return "failure"
    return "callback" if search.progress(callback) else "optimum"


def _best_word(search: Swaps, row: int) -> list[Ids]:
    """The row with the best token that may be returned at its one free position; no row where none may be.

    Every exact score is taken in, so that one that is no number ends the search as it does elsewhere: screens pass such
    a token on, and the shortlist would rank it last.
    """
    sentence = search.batch.sentences[row]
    (at,) = sentence.free
    tokens = search.batch.allowed.cpu().nonzero().flatten()
    swap = Substitution(search.host, search.objective, sentence, at)
    _, screens = swap.screens()

    def placed(token: int) -> Ids:
        return (*sentence.ids[:at], token, *sentence.ids[at + 1 :])

    def exact(numbers: Tensor) -> Tensor:
        values = swap.exact(tokens[numbers])
        for token, value in zip(tokens[numbers].tolist(), values.tolist(), strict=True):
            search.seen.learn(row, placed(token), value)
        return values

    top = min(64, len(tokens))
    while True:
        try:
            best = exact_best(len(tokens), top, [numbered(tokens, screen) for screen in screens], exact).best
        except DreamError:
            if search.failure is None:
                raise
            return []  # too few tokens score a number
        rows = [placed(token) for token in tokens[list(best)].tolist()]
        good = [ids for ids, ok in zip(rows, search.seen.returnable(row, rows), strict=True) if ok]
        if good or top == len(tokens):
            return good[:1]
        top = min(8 * top, len(tokens))
