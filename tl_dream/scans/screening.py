"""Find the exact best of many candidates with few exact scores: cheap screens first, their error measured as we go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tl_dream._errors import keeping, require

Scores = Callable[[Tensor], Tensor]
"""Scores of candidates, Float[candidate], given by their numbers, Int[candidate]."""

SAFETY = 4.0
"""The bound on a screen's error is this often the largest error that was measured: a margin, not a proof. Of 30,000
tokens the largest bf16 error is at most 3.0 times the largest of 64 of them, 2.7 times that of 128 (MiniLM, 9,600 pairs
of unit and sample). That holds for scores that are continuous in what the screen gets wrong; a score that jumps may be
off by any amount on one candidate and not at all on the sample."""

CROWD = 32
"""So many exact scores that agree speak for all candidates that share a value on the finest screen."""


@dataclass(frozen=True)
class Shortlist:
    """The exact best.

    Attributes:
        best: candidates, best first, equal scores in the order of their numbers.
        scores: their exact scores.
        scored: how many candidates were scored exactly.
        passed: how many the last screen saw (or `exact`, where there is one screen).
        bound: by how much the first screen was taken to be off at most, in score units.
        screened: how many candidates the first screen saw: all, where the search came to its end.
        whole: whether it came to its end.
    """

    best: tuple[int, ...]
    scores: tuple[float, ...]
    scored: int
    passed: int
    bound: float
    screened: int
    whole: bool = True


AT_ONCE = 2048
"""Candidates that go to the first screen together: what is known, should the search be interrupted."""


class _Level:
    """What one screen, or the exact score as the last, has said so far. No answer (NaN) counts as the best on a screen,
    which passes it on, and as the worst in the end."""

    def __init__(self, count: int, scores: Scores, exact: bool) -> None:
        self._scores = scores
        self._nothing = -math.inf if exact else math.inf
        self.values = torch.zeros(count, dtype=torch.float64)
        self.known = torch.zeros(count, dtype=torch.bool)
        self.runs = 0
        self.bound = self.centre = 0.0

    def learn(self, candidates: Tensor) -> bool:
        new = candidates[~self.known[candidates]].unique()
        if len(new):
            values = self._scores(new).detach().to("cpu", torch.float64)
            self.values[new] = values.where(~values.isnan(), self._nothing)
            self.known[new] = True
            self.runs += len(new)
        return bool(len(new))

    def best(self, top: int) -> Tensor:
        """The known candidates with the highest values."""
        ranked = self.values.masked_fill(~self.known, -math.inf)
        return ranked.topk(min(top, int(self.known.sum()))).indices

    def measure(self, finer: _Level) -> None:
        """Bound the error, from every candidate that both levels know."""
        both = self.known & finer.known
        error = (self.values - finer.values)[both]
        error = error[error.isfinite()]
        self.centre, self.bound = 0.0, math.inf
        if len(error):
            self.centre = float(error.max() + error.min()) / 2
            self.bound = SAFETY * float((error - self.centre).abs().max())


def exact_best(
    count: int,
    top: int,
    screens: Sequence[Scores],
    exact: Scores,
    *,
    sample: int = 256,
    last_sample: int = CROWD,
    seed: int = 0,
    late: Callable[[], bool] = lambda: False,
) -> Shortlist:
    """The `top` best of `count` candidates as `exact` ranks them.

    Every screen's error is measured against the next finer one, on a random sample and on all that passed so far: the
    offset common to all is taken off, and `SAFETY` times the largest deviation left is the bound. A candidate is
    dropped only where it lies below the cut by more than the bounds; what passes widens the measurement, until nothing
    new passes. So the result is that of `exact` on all of them if no candidate that was dropped is off by more than
    `SAFETY` times the worst of those that were measured.

    Args:
        screens: coarse to fine; may be empty. One that would pass most of a sample to the next is left out.
        exact: what counts; scored one at a time, so seldom.
        sample: candidates drawn to measure a screen's error; `last_sample` where `exact` measures it.
        late: whether the time is up. What is known then is the result, of those that look best so far.

    Raises:
        DreamError: fewer than `top` candidates have a score.
        DreamError, KeyboardInterrupt: `error.partial` is the exact best of those that look best so far.
    """
    levels = [_Level(count, scores, False) for scores in screens] + [_Level(count, exact, True)]
    drawn = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    with keeping(lambda _, why: _so_far(levels, top)):
        for at in reversed(range(len(screens) - 1)):
            if _passes_most(levels[at], levels[at + 1], drawn[:sample], top / count):
                del levels[at]
        if not _search(levels, top, drawn, sample, last_sample, late):
            found = _so_far(levels, top)
            assert found is not None
            return found
        found = _shortlist(levels, top)
        require(
            len(found.best) == top,
            f"only {len(found.best)} of {count} candidates have a score, and the best {top} were asked for",
        )
    return found


def _search(
    levels: Sequence[_Level], top: int, drawn: Tensor, sample: int, last_sample: int, late: Callable[[], bool]
) -> bool:
    """Score candidates until none is left that might be among the best, or it is late: False; `drawn` are all of them
    in random order."""
    for part in torch.arange(len(drawn)).split(AT_ONCE):
        levels[0].learn(part)
        if late():
            return False
    for level, finer in zip(levels, levels[1:], strict=False):
        finer.learn(drawn[: last_sample if finer is levels[-1] else sample])
        for part in level.best(top).split(AT_ONCE if finer is not levels[-1] else CROWD):
            finer.learn(part)
            if late():
                return False
    more = len(levels) > 1
    while more:
        more = False
        for level, finer in zip(levels, levels[1:], strict=False):
            level.measure(finer)
        for at, (level, finer) in enumerate(zip(levels, levels[1:], strict=False)):
            last = finer is levels[-1]
            if last:
                _infer(level, finer)
            cut = float(finer.values[finer.best(top)[-1]])
            reach = level.bound + 2 * sum(deeper.bound for deeper in levels[at + 1 :])
            dropped = level.values - level.centre < cut - reach
            passing = (level.known & ~finer.known & ~dropped).nonzero().flatten()
            if last:  # one at a time is dear: the best few, then the cut anew
                passing = passing[level.values[passing].argsort(descending=True)][:CROWD]
            more = finer.learn(passing) or more
            if late():
                return False
    return True


def _so_far(levels: Sequence[_Level], top: int) -> Shortlist | None:
    """What a search that is cut short has found: of every screen the best (few: each takes a pass), scored exactly."""
    for level in levels[:-1]:
        if bool(level.known.any()):
            levels[-1].learn(level.best(min(top, CROWD)))
    found = _shortlist(levels, top)
    return replace(found, bound=math.inf, whole=False) if found.best else None


def _shortlist(levels: Sequence[_Level], top: int) -> Shortlist:
    final = levels[-1]
    ranked = sorted(
        (-value, i)
        for i, (value, known) in enumerate(zip(final.values.tolist(), final.known.tolist(), strict=True))
        if known and value > -math.inf
    )[:top]
    return Shortlist(
        best=tuple(i for _, i in ranked),
        scores=tuple(-value for value, _ in ranked),
        scored=final.runs,
        passed=levels[-2 if len(levels) > 2 else -1].runs,
        bound=levels[0].bound,
        screened=levels[0].runs,
    )


def _passes_most(screen: _Level, finer: _Level, drawn: Tensor, share: float) -> bool:
    """Whether a screen would drop less than half of a sample, `share` of which is wanted."""
    for level in (screen, finer):
        level.learn(drawn)
    screen.measure(finer)
    cut = finer.values[drawn].topk(max(1, round(share * len(drawn)))).values[-1]
    return bool((screen.values[drawn] - screen.centre >= cut - screen.bound).double().mean() > 0.5)


def _infer(screen: _Level, exact: _Level) -> None:
    """A crowd that shares one value on the finest screen (a unit that is off, a score the token can't reach) has one
    exact score once `CROWD` of it have; to score it one by one would take as long as the loop."""
    crowds, sizes = screen.values[screen.known & ~exact.known].unique(return_counts=True)
    for crowd in crowds[sizes > CROWD]:
        members = screen.known & (screen.values == crowd)
        seen = exact.values[members & exact.known]
        if len(seen) >= CROWD and bool((seen == seen[0]).all()):
            exact.values[members] = seen[0]
            exact.known |= members
