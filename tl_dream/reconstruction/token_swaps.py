"""Search among real tokens: every candidate is measured, and the best ever seen is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream.models import Host
from tl_dream.reconstruction.targets import Target
from tl_dream.reconstruction.token_space import TokenSpace

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
        best: the tokens of lowest loss at the free positions; None before the first.
        loss: theirs.
    """

    host: Host
    target: Target
    budget: int
    enough: float = -float("inf")
    tick: Callable[[float], object] = lambda loss: None
    best: Int[Tensor, " free"] | None = None
    loss: float = float("inf")
    known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def check_budget(self) -> None:
        """Raise `Spent` where nothing is left."""
        if self.host.meter.forwards >= self.budget:
            raise Spent

    def see(self, tokens: Int[Tensor, "batch free"]) -> Float[Tensor, " batch"]:
        """The mean squared error of rows of tokens.

        Raises:
            Solved: a row matches the target to numerical precision.
            Spent: the budget is spent.
        """
        keys = [tuple(row) for row in tokens.tolist()]
        new = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self.known}
        if new:
            ids = self.target.fill(self.host, tokens[sorted(new.values())])
            losses = (-self.target.score(self.host, ids)).tolist()
            for i, loss in zip(sorted(new.values()), losses, strict=True):
                self.known[keys[i]] = loss
                if loss < self.loss or self.best is None:
                    self.best, self.loss = tokens[i].clone(), loss
            self.tick(self.loss)
            if self.matched() or self.loss <= self.enough:
                raise Solved
            self.check_budget()
        return torch.tensor([self.known[key] for key in keys], dtype=torch.float64)

    def matched(self) -> bool:
        """Whether the best tokens' own activation equals the target to numerical precision."""
        target = self.target
        if self.best is None or self.loss**0.5 > (target.tolerance + target.rounded) * target.scale:
            return False
        return bool(target.matched(target.compare(self.host, target.fill(self.host, self.best[None])))[0])


def joint(
    judge: TokenLedger, tokens: Int[Tensor, " free"], loss: float, swaps: Sequence[tuple[int, int]]
) -> Int[Tensor, " free"] | None:
    """The tokens after the swaps that help, each measured alone and then the best of them together; None if none do."""
    if not swaps:
        return None
    rows = tokens.repeat(len(swaps), 1)
    for i, (slot, token) in enumerate(swaps):
        rows[i, slot] = token
    found = judge.see(rows)
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
    return stacked[int(judge.see(stacked).argmin())]


def polish(judge: TokenLedger, tokens: Int[Tensor, " free"], likeness: Float[Tensor, "free vocab"]) -> None:
    """Two sweeps of swaps with the nearest tokens, at the least sure third of the positions (four at least): `CHUNK` of
    them at most, the least sure, so that a long sentence does not pay for every position."""
    top = likeness.topk(min(NEAR, likeness.shape[1]), dim=1)
    behind = top.values[:, :1] - top.values
    certain = behind[:, min(1, behind.shape[1] - 1)].nan_to_num(posinf=torch.inf)
    unsure = certain.argsort()[: max(4, len(tokens) // 3)].tolist()
    order = sorted((float(behind[s, k]), s, int(top.indices[s, k])) for s in unsure for k in range(behind.shape[1]))
    for _ in range(2):
        loss = float(judge.see(tokens[None])[0])
        swaps = [(slot, token) for far, slot, token in order if far < torch.inf and token != int(tokens[slot])]
        better = joint(judge, tokens, loss, swaps[:CHUNK])
        if better is None:
            return
        tokens = better


def search_swaps(judge: TokenLedger, space: TokenSpace, most: int | None = None) -> None:
    """Swap single tokens of the best sentence, the most promising first, until none of `most` (None: of all that are
    near) helps. What is promising the space's latest metric says."""
    while True:
        assert judge.best is not None
        tokens, loss = judge.best, judge.loss
        swaps = promising(judge, space, tokens)[:most]
        for first in range(0, len(swaps), CHUNK):
            if joint(judge, tokens, loss, swaps[first : first + CHUNK]) is not None:
                break
        else:
            return


def promising(judge: TokenLedger, space: TokenSpace, tokens: Int[Tensor, " free"]) -> list[tuple[int, int]]:
    """Single swaps (slot, token), those first that should lower the loss most to second order (Gauss-Newton)."""
    host, target = judge.host, judge.target
    ids = target.fill(host, tokens[None])
    with torch.enable_grad():
        embeddings = host.W_E[ids].to(target.values.dtype).requires_grad_()
        loss = -target.score(host, ids, embeddings)
    (gradient,) = torch.autograd.grad(loss.sum(), embeddings)
    gain = space.gain(tokens, gradient[0, list(target.sentence.free)], space.latest)
    top = gain.topk(min(WIDE, gain.shape[1]), dim=1)
    gains, choices = top.values.flatten(), top.indices.tolist()
    order = gains.argsort(descending=True)
    width = top.values.shape[1]
    return [(i // width, choices[i // width][i % width]) for i in order[torch.isfinite(gains[order])].tolist()]
