"""The real text nearest to a moved activation: swaps of words, chosen to first order and measured exactly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream._errors import require
from tl_dream.editing.sentence_pool import SentencePool
from tl_dream.search import Ids, Look, Search

Swap = tuple[int, int]
"""A position and the token put there."""

NEAR, RANDOM = 6, 6
"""Tokens tried at every position before the search: nearest ones, and random ones."""

WIDTH = 32
"""Swaps measured for every aim and start in a round, over all positions. Of MiniLM's 30,000 tokens in the moved
position the best was among the first three, at every layer."""

EACH = 2
"""Of these, at least so many at every position."""

ROUNDS = 6
"""Rounds at most; a start ends when no swap improves it."""


@dataclass
class _Start:
    """One aim's way from one sentence."""

    aim: int
    row: Ids
    done: bool = False


def search(pool: SentencePool, *, starts: int, width: int = WIDTH, seed: int, tick: Callable[[], None]) -> Search[None]:
    """Fill the pool with the most promising sentences for every aim; `pool.best()` then tells the nearest.

    Every aim starts at the original sentence, at the sentence with [MASK] where the aim differs most from it, and at
    sentences with random neighbours of its words. From each, the swaps that a second-order model of the loss holds for
    best are measured, together with their combinations, until none improves (or it is late).

    Args:
        starts: of every aim, 1 or more.
        width: swaps measured for every aim and start in a round.
        seed: of the random ones.
        tick: called after every batch of work.

    Raises:
        DreamError: no single-word neighbour.
    """
    draw = torch.Generator().manual_seed(seed)
    yield from _surround(pool, draw)
    require(
        pool.near > 0,
        f"there is nothing to compare {pool.sentence.text!r} with: no sentence that differs from it in one word may be "
        "tried. Free more words (free= of the Prompt), or allow tokens other than its own (allowed=)",
    )
    tick()
    model = _Model(pool)
    near = list(model.singles.values())
    running = [_Start(aim, row) for aim in range(len(pool.aims)) for row in _starts(pool, aim, starts, near, draw)]
    yield from pool.add([start.row for start in running])
    for _ in range(ROUNDS):
        if pool.host.late:
            return
        running = [start for start in running if not start.done and pool.find(start.row) is not None]
        if not running:
            break
        swaps = yield from model.propose(running, width)
        yield from pool.add(
            [_with(start.row, *swap) for start, some in zip(running, swaps, strict=True) for swap in some]
        )
        tick()
        singles = [_ranked(pool, start, some) for start, some in zip(running, swaps, strict=True)]
        more = [_together(pool, start, ranked) for start, ranked in zip(running, singles, strict=True)]
        yield from pool.add([row for rows in more for row in rows])
        tick()
        for start, ranked, rows in zip(running, singles, more, strict=True):
            _advance(pool, start, [_with(start.row, *swap) for _, swap in ranked[:1]] + rows)


def _surround(pool: SentencePool, draw: torch.Generator) -> Search[None]:
    """Measure sentences that differ in one word: near tokens first, random ones after."""
    W, ids = pool.W, pool.sentence.ids
    pick = pool.allowed.nonzero()[:, 0]
    near: list[Ids] = []
    far: list[Ids] = []
    for at in pool.sentence.free:
        away = (W[pick.to(W.device)] - W[ids[at]]).norm(dim=1).cpu()
        away[pick == ids[at]] = torch.inf
        count = min(NEAR, int(away.isfinite().sum()))
        close = pick[away.topk(count, largest=False).indices].tolist() if count > 0 else []
        near += [_with(ids, at, token) for token in close]
        far += [_with(ids, at, int(pick[i])) for i in torch.randint(len(pick), (RANDOM,), generator=draw)]
    yield from pool.add(near)
    pool.near = len(pool.rows) - 1
    yield from pool.add(far)


def _with(row: Ids, at: int, token: int) -> Ids:
    return (*row[:at], token, *row[at + 1 :])


def _starts(pool: SentencePool, aim: int, count: int, near: Sequence[Swap], draw: torch.Generator) -> list[Ids]:
    """The sentences one aim starts from.

    Args:
        near: swaps of the original that were measured.
    """
    ids, free = pool.sentence.ids, pool.sentence.free
    found = [ids]
    blank = pool.host.vocabulary.mask_id
    if count > 1 and blank is not None:
        size = pool.aims[aim].change.square().sum(1)
        found.append(_with(ids, max(free, key=lambda at: float(size[at])), int(blank)))
    while len(found) < count and near:
        row = ids
        for i in torch.randint(len(near), (max(1, len(free) // 3),), generator=draw).tolist():
            row = _with(row, *near[i])
        found.append(row)
    return found


class _Model:
    """The loss of an aim to second order in the word embeddings, the second order fitted to what was measured."""

    def __init__(self, pool: SentencePool) -> None:
        self.pool = pool
        self.W = pool.W
        self.tokens = pool.allowed.nonzero()[:, 0].to(self.W.device)
        self.allowed = self.W[self.tokens]
        self.lengths = self.allowed.square().sum(1)
        self.singles = pool.singles()
        self._curvature: dict[int, float] = {}

    def propose(self, starts: Sequence[_Start], width: int) -> Search[list[list[Swap]]]:
        """For every start the most promising swaps (position, token), best first."""
        wanted = {(start.aim, start.row) for start in starts}
        wanted |= {(start.aim, self.pool.sentence.ids) for start in starts if start.aim not in self._curvature}
        pulls = yield from self._gradients(sorted(wanted))
        for aim in {start.aim for start in starts} - self._curvature.keys():
            self._curvature[aim] = self._fit(aim, pulls[aim, self.pool.sentence.ids])
        return [self._top(start, pulls[start.aim, start.row], width) for start in starts]

    def _gradients(self, wanted: Sequence[tuple[int, Ids]]) -> Search[dict[tuple[int, Ids], Tensor]]:
        """Of the loss with respect to the free words' embeddings, Float[free, d_model]."""
        pool, free = self.pool, list(self.pool.sentence.free)
        found: dict[tuple[int, Ids], Tensor] = {}
        for name in pool.names:
            mine = [key for key in wanted if pool.aims[key[0]].name == name]

            def read(got: Mapping[str, Tensor], which: list[int], name: str = name, mine: Any = mine) -> Tensor:
                change = torch.stack([pool.aims[mine[i][0]].change for i in which])
                return (pool.units(got, name) - pool.origin[name] - change).square().mean((1, 2))[:, None]

            rows = [row for _, row in mine]
            soft = [pool.W[list(row)] for row in rows]
            if rows:
                answer = yield Look(pool.host, (name,), rows, read, soft=soft)
                found.update(zip(mine, [pull[free] for pull in answer.pulls], strict=True))
        return found

    def _fit(self, aim: int, pull: Float[Tensor, "free d_model"]) -> float:
        """Curvature along an average swap, by least squares on the single swaps of the original that were measured."""
        pool, free = self.pool, self.pool.sentence.free
        if not self.singles:
            return 0.0
        numbers = torch.tensor(list(self.singles))
        places, tokens = torch.tensor(list(self.singles.values())).T
        step = self.W[tokens.to(self.W.device)] - self.W[torch.tensor(pool.sentence.ids)[places].to(self.W.device)]
        slot = torch.tensor([free.index(int(at)) for at in places])
        first = (pull[slot.to(pull.device)] * step).sum(1).double().cpu()
        square = step.square().sum(1).double().cpu()
        excess = pool.losses[numbers, aim] - pool.losses[0, aim] - first
        return max(0.0, float((excess * square).sum() / square.square().sum()))

    def _top(self, start: _Start, pull: Float[Tensor, "free d_model"], width: int) -> list[Swap]:
        free = list(self.pool.sentence.free)
        here = self.W[[start.row[at] for at in free]]
        bend = self._curvature[start.aim]
        # minus pull . (e - here) - bend |e - here|^2, as one matrix product
        gain = (2 * bend * here - pull) @ self.allowed.T - bend * self.lengths
        gain += (pull * here).sum(1, keepdim=True) - bend * here.square().sum(1, keepdim=True)
        own = torch.tensor([start.row[at] for at in free], device=gain.device)
        gain.masked_fill_(own[:, None] == self.tokens, -torch.inf)
        size = gain.shape[1]
        top = gain.topk(min(width, size), dim=1)
        order = top.values.flatten().argsort(descending=True, stable=True)
        slots, chosen = order // top.values.shape[1], top.indices.flatten()[order]
        rank = (order % top.values.shape[1]).tolist()
        found: list[Swap] = []
        for i, (slot, token) in enumerate(zip(slots.tolist(), self.tokens[chosen].tolist(), strict=True)):
            if (i < width or rank[i] < EACH) and gain[slot, chosen[i]] > -torch.inf:
                found.append((free[slot], token))
        return found


def _ranked(pool: SentencePool, start: _Start, swaps: Sequence[Swap]) -> list[tuple[float, Swap]]:
    """The swaps that were measured with their losses, best first."""
    known = [(number, swap) for swap in swaps if (number := pool.find(_with(start.row, *swap))) is not None]
    losses = pool.of(start.aim, [number for number, _ in known])
    return sorted(zip(losses, [swap for _, swap in known], strict=True))


def _together(pool: SentencePool, start: _Start, ranked: Sequence[tuple[float, Swap]]) -> list[Ids]:
    """The best swap together with each of the best swaps elsewhere, and all of those that help at once."""
    if not ranked:
        return []
    number = pool.find(start.row)
    assert number is not None
    (here,) = pool.of(start.aim, [number])
    first = ranked[0][1]
    base = _with(start.row, *first)
    pairs = [_with(base, *swap) for _, swap in ranked[1:] if swap[0] != first[0]][:EACH]
    row, taken = start.row, set()
    for loss, swap in ranked:
        if loss < here and swap[0] not in taken:
            taken.add(swap[0])
            row = _with(row, *swap)
    return [*pairs, row]


def _advance(pool: SentencePool, start: _Start, rows: Sequence[Ids]) -> None:
    """Move a start to the best of what was measured from it, or end it."""
    numbers = [number for row in (start.row, *rows) if (number := pool.find(row)) is not None]
    losses = pool.of(start.aim, numbers)
    best = min(range(len(losses)), key=lambda i: losses[i])
    start.done = losses[best] >= losses[0]
    start.row = pool.rows[numbers[best]]
