"""The fewest of some things that still do: greedily from both ends, then every set of up to four."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, islice
from math import comb

Slots = frozenset[int]
"""Some of the things, by their number."""
Scores = Callable[[Iterable[Slots]], list[float]]
"""What sets score; each costs a forward pass, unless it was asked before."""

EXACT = 4
"""Sets of up to so many are all tried."""

AT_ONCE = 4096


def fewest(scores: Scores, count: int, wanted: float, affordable: int) -> tuple[Slots, float, bool]:
    """The smallest set of 0 to `count` - 1 that scores at least `wanted`; of those of its size the best that was tried.

    Args:
        scores: of sets; that of all of them reaches `wanted`.
        affordable: sets that may be tried, besides the greedy ones (as many as `count` squared).

    Returns:
        The set, its score, and whether it is certain that no smaller one does: all of them were tried.
    """
    every = frozenset(range(count))
    forward = _grown(scores, every, wanted)
    backward = _shrunk(scores, every, wanted)
    best = min((forward, backward), key=lambda one: (len(one[0]), -one[1]))
    left, tried = affordable, -1
    for size in range(min(EXACT, len(best[0])) + 1):
        if comb(count, size) > left:
            break
        left -= comb(count, size)
        found = _best_of(scores, combinations(range(count), size))
        tried = size
        if found[1] >= wanted:
            return (*found, True)
    return (*best, tried >= len(best[0]) - 1)


def _best_of(scores: Scores, sets: Iterable[Iterable[int]]) -> tuple[Slots, float]:
    best: tuple[Slots, float] = (frozenset(), -float("inf"))
    waiting = iter(sets)
    while part := [frozenset(one) for one in islice(waiting, AT_ONCE)]:
        for one, value in zip(part, scores(part), strict=True):
            if value > best[1]:
                best = one, value
    return best


def _grown(scores: Scores, every: Slots, wanted: float) -> tuple[Slots, float]:
    """Add what helps most, until it does."""
    kept: Slots = frozenset()
    (value,) = scores([kept])
    while value < wanted:
        kept, value = _best_of(scores, [kept | {i} for i in sorted(every - kept)])
    return kept, value


def _shrunk(scores: Scores, every: Slots, wanted: float) -> tuple[Slots, float]:
    """Leave out what is missed least, as long as it does."""
    kept = every
    (value,) = scores([kept])
    while kept:
        smaller, less = _best_of(scores, [kept - {i} for i in sorted(kept)])
        if less < wanted:
            break
        kept, value = smaller, less
    return kept, value
