"""Search among real tokens: every candidate is measured, and the best ever seen is kept."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream.models import Host
from tl_dream.reconstruction.targets import Target
from tl_dream.reconstruction.token_space import TokenSpace
from tl_dream.search import Search

NEAR, WIDE = 8, 32
"""Tokens a position that a search among neighbours tries: on the way, and at the end of a round."""

CHUNK, QUICK = 64, 128
"""Swaps measured before the best of them are taken, and those that a quick search measures at most."""


class Solved(Exception):
    """Raised when tokens that match the target, or are good enough, were measured."""


class Spent(Exception):
    """Raised when the budget of forward passes is spent."""


@dataclass
class TokenLedger:
    """Measures real tokens, each only once, and keeps the best ever seen.

    Attributes:
        host, target: the model, and what to meet.
        budget: forwards (the meter's) after which it stops the search.
        enough: a loss that ends the search, as a match does.
        ends: when it stops it at the latest, by `time.perf_counter()`.
        best: the tokens of lowest loss at the free positions; None before the first.
        loss: theirs.
        solved: whether they match the target to numerical precision, or are good enough.
    """

    host: Host
    target: Target
    budget: float
    enough: float = -math.inf
    ends: float = math.inf
    tick: Callable[[float], object] = lambda loss: None
    best: Int[Tensor, " free"] | None = None
    loss: float = math.inf
    solved: bool = False
    known: dict[tuple[int, ...], float] = field(default_factory=dict)

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return time.perf_counter() >= self.ends

    def check_budget(self) -> None:
        """Raise `Spent` where nothing is left."""
        if self.host.meter.forwards >= self.budget or self.late:
            raise Spent

    def see(self, tokens: Int[Tensor, "batch free"]) -> Search[Float[Tensor, " batch"]]:
        """The mean squared error of rows of tokens.

        Raises:
            Solved: a row matches the target to numerical precision.
            Spent: the budget is spent.
        """
        keys = [tuple(row) for row in tokens.tolist()]
        new = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self.known}
        if new:
            rows = tokens[sorted(new.values())]
            found = yield from self.target.compare(self.host, rows)
            losses = self.target.loss(found.errors)
            self.known.update(zip(map(tuple, rows.tolist()), losses.tolist(), strict=True))
            first = int(losses.nan_to_num(math.inf).argmin())
            if float(losses[first]) < self.loss or self.best is None:
                self.best, self.loss = rows[first].clone(), float(losses[first])
                self.solved = bool(self.target.matched(found)[first]) or self.loss <= self.enough
            self.tick(self.loss)
            if self.solved:
                raise Solved
            self.check_budget()
        return torch.tensor([self.known[key] for key in keys], dtype=torch.float64)


def joint(
    judge: TokenLedger, tokens: Int[Tensor, " free"], loss: float, swaps: Sequence[tuple[int, int]]
) -> Search[Int[Tensor, " free"] | None]:
    """The tokens after the swaps that help, each measured alone and then the best of them together; None if none do."""
    if not swaps:
        return None
    rows = tokens.repeat(len(swaps), 1)
    for i, (slot, token) in enumerate(swaps):
        rows[i, slot] = token
    found = yield from judge.see(rows)
    together, taken, candidates = tokens.clone(), set(), []
    for i in found.argsort().tolist():
        slot, token = swaps[i]
        if float(found[i]) >= loss:
            break
        if slot not in taken:
            taken.add(slot)
            together[slot] = token
            candidates.append(together.clone())
    if not candidates:
        return None
    stacked = torch.stack(candidates)
    losses = yield from judge.see(stacked)
    return stacked[int(losses.argmin())]


def polish(judge: TokenLedger, tokens: Int[Tensor, " free"], likeness: Float[Tensor, "free vocab"]) -> Search[None]:
    """Two sweeps of swaps with the nearest tokens, at the least sure third of the positions (four at least): `CHUNK` of
    them at most, the least sure, so that a long sentence does not pay for every position."""
    top = likeness.topk(min(NEAR, likeness.shape[1]), dim=1)
    behind = top.values[:, :1] - top.values
    certain = behind[:, min(1, behind.shape[1] - 1)].nan_to_num(posinf=torch.inf)
    unsure = certain.argsort()[: max(4, len(tokens) // 3)].tolist()
    order = sorted((float(behind[s, k]), s, int(top.indices[s, k])) for s in unsure for k in range(behind.shape[1]))
    for _ in range(2):
        (loss,) = yield from judge.see(tokens[None])
        swaps = [(slot, token) for far, slot, token in order if far < torch.inf and token != int(tokens[slot])]
        better = yield from joint(judge, tokens, float(loss), swaps[:CHUNK])
        if better is None:
            return
        tokens = better


def search_swaps(judge: TokenLedger, space: TokenSpace, most: int | None = None) -> Search[None]:
    """Swap single tokens of the best sentence, the most promising first, until none of `most` (None: of all that are
    near) helps. What is promising the space's latest metric says."""
    while True:
        assert judge.best is not None
        tokens, loss = judge.best, judge.loss
        swaps = (yield from promising(judge, space, tokens))[:most]
        for first in range(0, len(swaps), CHUNK):
            if (yield from joint(judge, tokens, loss, swaps[first : first + CHUNK])) is not None:
                break
        else:
            return


def promising(judge: TokenLedger, space: TokenSpace, tokens: Int[Tensor, " free"]) -> Search[list[tuple[int, int]]]:
    """Single swaps (slot, token), those first that should lower the loss most to second order (Gauss-Newton)."""
    host, target = judge.host, judge.target
    here = host.W_E[tokens].to(target.values)[None]
    _, gradient = yield from target.slopes(host, here, lambda found, _: target.error(found))
    gain = space.gain(tokens, gradient[0] * target.scale**2, space.latest)
    top = gain.topk(min(WIDE, gain.shape[1]), dim=1)
    gains, choices = top.values.flatten(), top.indices.tolist()
    order = gains.argsort(descending=True)
    width = top.values.shape[1]
    return [(i // width, choices[i // width][i % width]) for i in order[torch.isfinite(gains[order])].tolist()]
