"""The default search: projected gradient ascent, merged swaps of a batch that widens, other starts.

What each part is for: projected gradient ascent gets far on few forward-tokens, each round from the best text so far,
and ends in texts that swaps still improve; then it brings little more, and on a CPU a forward-token of it is far
dearer (one sentence at a time, with a gradient). Narrow batches of swaps climb fastest and wide ones get further, so
the batch widens while nothing better comes. Half of it takes what the gradient ranks first, averaged over the way; half
takes tokens of the best texts so far, one or two at a time. Where a climb from the best text brings nothing the search
starts anew, from the first sentence and from other texts in turn; from other texts at once where its own has no slope
or gains nothing. A sweep tries the swaps of the best text one after the other, steepest slope first; where it comes to
its end without a better one the text is a certified optimum: no single swap is better. That is a fact about the text,
and the search goes on elsewhere while there is budget. Where the budget covers every text there is, all are scored.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from tl_dream._arguments import NumberField, WholeField, finite_fields, whole_fields
from tl_dream._errors import require
from tl_dream.dreaming.projection import PEZ, project
from tl_dream.search import Callback, Ids, OtherStarts, Search, SwapSearch, Walker, every_text


@dataclass(frozen=True)
class Auto:
    """The settings of the default search.

    Attributes:
        round: a round of projected gradient ascent.
        rounds: rounds from the best start, before swaps; a start anew has one.
        held: share of the positions that do not move in a round, from the second one on.
        proposing: share of the budget that the first rounds may cost.
        narrow, wide: sentences a step of swaps, at first and at most.
        top_k: tokens a position that are proposed.
        inertia: weight of the slopes on the way to a text against its own.
        recalled: share of a step's sentences that take tokens of the best texts so far.
        patience: steps of swaps without a new best, at full width, before the search turns to something else.
        failed: climbs in a row without a new lead, after which the search starts anew.
        swept: sentences a sweep scores at once.
        exhausted: starts anew in a row that score no new text, after which there is nothing left to look at.

    Examples:
        >>> td.Auto(wide=32).wide
        32
    """

    round: PEZ = PEZ(steps=40, patience=12)
    rounds: WholeField = 3
    held: NumberField = 0.4
    proposing: NumberField = 0.2
    narrow: WholeField = 16
    wide: WholeField = 64
    top_k: WholeField = 32
    inertia: NumberField = 0.8
    recalled: NumberField = 0.5
    patience: WholeField = 6
    failed: WholeField = 1
    swept: WholeField = 64
    exhausted: WholeField = 20

    def __post_init__(self) -> None:
        require(isinstance(self.round, PEZ), f"round = {self.round!r}: give PEZ(...)")
        whole_fields(self, rounds=1, narrow=1, wide=1, top_k=1, patience=1, failed=1, swept=1, exhausted=1)
        finite_fields(
            self, "a share, 0 to 1", lambda number: 0 <= number <= 1, "held", "proposing", "inertia", "recalled"
        )


def search_automatically(
    search: SwapSearch,
    settings: Auto,
    *,
    seed: int = 0,
    callback: Callback | None = None,
    tick: Callable[[], object] | None = None,
) -> Search[str]:
    """Search until the budget is spent or there is nothing left to look at.

    Returns:
        Why it stopped: "budget", "seconds", "complete" (every text that may be returned was scored), "exhausted" (the
        search finds no text that it has not scored), or "callback".
    """
    stop = _Stop(search, settings, callback, tick)
    if stop.asked():
        return stop.why
    if (yield from every_text(search, stop.asked)):
        return "complete"
    others, draw = OtherStarts(search), torch.Generator().manual_seed(seed)
    order = sorted(range(len(search.batch.sentences)), key=lambda row: -_standing(search, row))
    for row in order:  # at least one: a round is the best use of any budget
        if not stop.why and search.budget.share <= settings.proposing:
            yield from _round(search, row, stop)
    row = _leader(search)
    for _ in range(settings.rounds - 1):
        if not (yield from _round(search, row, stop, draw)):
            break
    if _gained_nothing(search, row):
        yield from _start_anew(search, row, stop, draw, others, 0)
    order.sort(key=lambda row: -_standing(search, row))
    row, failed, lead, turns, idle = order.pop(0), 0, None, 0, 0
    while not stop.asked() and idle < settings.exhausted:
        count = search.seen.count
        yield from _climb(search, search.walker(row), stop)
        failed = failed + 1 if search.seen.leads[row] is lead else 0
        leader = _leader(search)
        best = search.seen.best[leader]
        certain = (leader, best.ids) in search.optima or not stop.why and (yield from _sweep(search, leader, stop))
        lead = search.seen.leads[row]
        idle = idle + 1 if search.seen.count == count else 0
        if search.seen.best[leader] is not best:  # the sweep found better: on from there
            row = leader
        elif order:
            row, failed, lead = order.pop(0), 0, None
        elif failed >= settings.failed or certain and lead[0] == best.ids or _gained_nothing(search, row):
            row, failed, lead, turns = leader, 0, None, turns + 1
            yield from _start_anew(search, row, stop, draw, None if turns % 2 else others, turns)
    return stop.why or "exhausted"


class _Stop:
    """Whether to stop, asked after every step, and why; the settings that all steps go by."""

    def __init__(
        self, search: SwapSearch, settings: Auto, callback: Callback | None, tick: Callable[[], object] | None
    ) -> None:
        self._search, self.settings, self.callback, self.tick = search, settings, callback, tick
        self.why = ""

    def asked(self) -> bool:
        """Whether to stop now."""
        if self.why:
            return True
        if self.tick is not None:
            self.tick()
        if not self._search.goes_on():
            self.why = self._search.budget.why
        elif self._search.progress(self.callback):
            self.why = "callback"
        return bool(self.why)


def _standing(search: SwapSearch, row: int) -> float:
    """What a row's best scores; of a unit that is off, how far it is from firing."""
    best, off = search.seen.best[row].score, search.objective.off
    return best if off is None or best > off else min(off, search.seen.leads[row][1])


def _leader(search: SwapSearch) -> int:
    return max(range(len(search.batch.sentences)), key=lambda row: (_standing(search, row), -row))


def _gained_nothing(search: SwapSearch, row: int) -> bool:
    """Whether a row's search has come to nothing so far: no better text than the start, or a unit that is off."""
    best, off = search.seen.best[row], search.objective.off
    return best is search.seen.starts[row] or off is not None and best.score <= off


def _start_anew(
    search: SwapSearch, row: int, stop: _Stop, draw: torch.Generator, others: OtherStarts | None, turn: int
) -> Search[None]:
    """A round from the row's start, or from one of `others`. Of a unit that is off, every other pair of turns goes by
    the score itself."""
    if not stop.why:
        off = search.objective.off
        by_score = off is not None and search.seen.best[row].score <= off and turn % 4 >= 2
        other = (yield from others.best_of(row, draw)) if others else None
        search.seen.start_anew(row, other, by_score)
        yield from _round(search, row, stop, draw)


def _round(search: SwapSearch, row: int, stop: _Stop, draw: torch.Generator | None = None) -> Search[bool]:
    """Projected gradient ascent from a row's lead; with `draw`, some positions stand still. Whether there is a slope to
    go by."""
    why = ""
    if not stop.why:
        moves = None
        if draw is not None:
            moves = torch.rand(1, len(search.batch.sentences[row].free), generator=draw) >= stop.settings.held
            moves = moves | ~moves.any()
        why = yield from project(
            search, stop.settings.round, rows=[row], moves=moves, callback=stop.callback, tick=stop.tick
        )
        stop.why = why if why in ("budget", "seconds", "callback") else ""
    return why != "flat"


def _climb(search: SwapSearch, walker: Walker, stop: _Stop) -> Search[None]:
    """Merged swaps until nothing better comes for a while. Where there are few, no step tries most of them."""
    settings = stop.settings
    width, stale = float(settings.narrow), 0
    few = int(search.open_swaps(walker.row, walker.ids).sum()) // 2
    wide = max(settings.narrow, min(settings.wide, few))
    kept: dict[str, Any] = {"remembered": settings.recalled, "inertia": settings.inertia}
    while stale < settings.patience:
        better = yield from search.step([walker], round(width), settings.top_k, merge=True, **kept)
        if stop.asked() or better is None:
            return
        width = max(settings.narrow, width / 1.2) if better[0] else min(wide, width * 1.2)
        stale = 0 if better[0] else stale + (width >= wide)


def _sweep(search: SwapSearch, row: int, stop: _Stop) -> Search[bool]:
    """Try the swaps of a row's best text, steepest first, until one is better; whether all were tried and none is: then
    it is one of the `optima`."""
    best = search.seen.best[row]
    count = int(search.open_swaps(row, best.ids).sum())
    if search.affordable(count + 2, [row]) < count + 2:  # and a gradient
        return False
    (slope,) = yield from search.slopes([(row, best.ids)])
    gains = search.gains(row, best.ids, slope)
    free, width = search.batch.sentences[row].free, gains.shape[1]
    order = gains.flatten().argsort(descending=True)[:count]  # all that are open, whatever their slopes
    for part in order.split(4 * stop.settings.swept):
        fresh: list[Ids] = []
        for pick in part.tolist():
            ids = list(best.ids)
            ids[free[pick // width]] = pick % width
            if not search.seen.knows(row, tuple(ids)):
                fresh.append(tuple(ids))
        back = yield from search.seen.returnable(row, fresh)
        batch = [ids for ids, good in zip(fresh, back, strict=True) if good]
        for at in range(0, len(batch), stop.settings.swept):
            some = batch[at : at + stop.settings.swept]
            if search.affordable(len(some), [row]) < len(some):
                return False
            yield from search.score([(row, ids) for ids in some])
            if stop.asked() or search.seen.best[row] is not best:
                return False
    search.optima.add((row, best.ids))
    return True
