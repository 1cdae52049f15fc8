"""Real tokens: which lie close to a free embedding, in the directions that the target can tell apart, and the search
among them, in which every candidate is measured and the best ever seen is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream.models import Host, forward
from tl_dream.reconstruction.targets import Target
from tl_dream.search import Search

FLOOR = 0.3
"""How much a direction counts that the target does not see, as a share of the average direction's weight."""


class TokenSpace:
    """The embedding matrix as a set of points to decode to.

    A BERT puts LayerNorm on the sum of word, position and segment embedding, and so sees neither the sum's mean nor its
    length: there, likeness is the cosine between centred sums. Elsewhere it is minus the squared distance.

    Args:
        host: the model.
        target: what is searched for; it gives the free positions.
        allowed: tokens that may be chosen.

    Attributes:
        identity: the metric that sees all directions alike.
        sizes: every token's squared length under it.
        latest: the metric made last.
        weight: curvature of the mean squared error along an average direction, under `latest`.
        pulls: the random projections that `latest` was made of: gradients of random sums of the target's numbers.
    """

    def __init__(self, host: Host, target: Target, allowed: Bool[Tensor, " vocab"]) -> None:
        self.allowed = allowed.to(host.device)
        self._host, self._target = host, target
        self.normed = host.bert
        self._W, self.sizes, self._places = _tables(host, target.values.dtype)
        self.offset = self._places[list(target.sentence.free)]
        self.identity = torch.eye(self._W.shape[1], dtype=self._W.dtype, device=host.device)
        self.latest = self.identity
        self.weight = 1.0
        self.pulls: Float[Tensor, "draw free d_model"] | None = None
        self._lengths = (self.identity, self.sizes)

    def average(self) -> Float[Tensor, "free d_model"]:
        """The mean embedding of all allowed tokens at every free position."""
        key = f"average {self._W.dtype} {hash(self.allowed.cpu().numpy().tobytes())}"
        if key not in self._host.tables:
            self._host.tables[key] = self._host.W_E[self.allowed].to(self._W.dtype).mean(0)
        return self._host.tables[key].repeat(len(self.offset), 1)

    def direction(
        self, embeddings: Float[Tensor, "*rows free d_model"], free: Sequence[int] | None = None
    ) -> Float[Tensor, "*rows free d_model"]:
        """Embeddings as the model sees them: of a BERT the centred sum at unit root mean square.

        Args:
            free: their positions; None for the target's.
        """
        if not self.normed:
            return embeddings
        offset = self.offset if free is None else self._places[list(free)]
        total = embeddings - embeddings.mean(-1, keepdim=True) + offset
        return total / total.square().mean(-1, keepdim=True).sqrt()

    def embeddings(self, direction: Float[Tensor, "*rows free d_model"]) -> Float[Tensor, "*rows free d_model"]:
        """The inverse of `direction`, at the length that words have there."""
        if not self.normed:
            return direction
        direction = direction - direction.mean(-1, keepdim=True)
        direction = direction / direction.square().mean(-1, keepdim=True).sqrt()
        length = (self.sizes.mean() / self._W.shape[1] + self.offset.square().mean(-1, keepdim=True)).sqrt()
        return direction * length - self.offset

    def _seen(self, x: Tensor, metric: Tensor) -> tuple[Tensor, Float[Tensor, " vocab"]]:
        """Some vectors times a metric, and every token's squared length under it."""
        if metric is self.identity:
            return x, self.sizes
        if self._lengths[0] is not metric:
            self._lengths = (metric, ((self._W @ metric) * self._W).sum(1))
        return x @ metric, self._lengths[1]

    @torch.no_grad()
    def likeness(
        self, embeddings: Float[Tensor, "free d_model"], metric: Float[Tensor, "d_model d_model"]
    ) -> Float[Tensor, "free vocab"]:
        """How like every token is to each free embedding under a metric; -inf for tokens that are not allowed."""
        x = self.direction(embeddings.to(self._W))
        through, lengths = self._seen(x, metric)
        here = (through * x).sum(1, keepdim=True)
        if self.normed:
            offset, _ = self._seen(self.offset, metric)
            inner = through @ self._W.T + (through * self.offset).sum(1, keepdim=True)
            norms = (2 * offset @ self._W.T).add_(lengths).add_((offset * self.offset).sum(1, keepdim=True))
            found = inner.div_(norms.clamp_min_(1e-12).mul_(here.clamp_min(1e-12)).sqrt_())
        else:
            found = (2 * through @ self._W.T).sub_(lengths).sub_(here)
        return found.masked_fill_(~self.allowed, -torch.inf)

    @torch.no_grad()
    def gain(
        self,
        tokens: Int[Tensor, " free"],
        gradient: Float[Tensor, "free d_model"],
        metric: Float[Tensor, "d_model d_model"],
    ) -> Float[Tensor, "free vocab"]:
        """What the mean squared error would fall by with each single swap, to second order (Gauss-Newton); -inf for
        tokens that are not allowed or stand there already.

        Args:
            tokens: the sentence's.
            gradient: of the mean squared error with respect to their embeddings.
            metric: from `metric`, at these tokens.
        """
        here, pull = self._W[tokens], gradient.to(self._W)
        through, lengths = self._seen(here, metric)
        first = pull @ self._W.T - (pull * here).sum(1, keepdim=True)
        second = lengths - 2 * through @ self._W.T + lengths[tokens, None]
        found = -first - self.weight * second
        return found.masked_fill(~self.allowed, -torch.inf).scatter(1, tokens[:, None], -torch.inf)

    def metric(
        self, embeddings: Float[Tensor, "free d_model"], generator: torch.Generator
    ) -> Search[Float[Tensor, "d_model d_model"]]:
        """How strongly the target sees each direction of the embeddings, averaged over the free positions.

        With J the Jacobian of the activation at these embeddings, an estimate of the mean over positions of J'J from
        random projections, plus a floor for what they miss.
        """
        target, free = self._target, max(1, len(self.offset))
        count = max(8, min(48, 400 // free))
        draw = torch.randn(count, *target.values.shape, generator=generator, dtype=torch.float32).to(target.values)
        _, self.pulls = yield from target.slopes(
            self._host, embeddings.expand(count, -1, -1), lambda found, which: (found * draw[which]).sum((1, 2))
        )
        pulls = self.pulls.flatten(0, 1)
        total = pulls.T @ pulls
        share = total.diagonal().mean().clamp_min(1e-30)
        self.weight = float(share) / (count * free * target.values.numel())
        self.latest = total / share + FLOOR * self.identity
        return self.latest


@torch.no_grad()
def _tables(
    host: Host, dtype: torch.dtype
) -> tuple[Float[Tensor, "vocab d_model"], Float[Tensor, " vocab"], Float[Tensor, "pos d_model"]]:
    """The tokens as the model sees them (of a BERT centred), their squared lengths, and what is added to them at every
    position: the same for all searches."""
    key = f"words {dtype}"
    if key not in host.tables:
        W = host.W_E.to(dtype)
        places = torch.zeros(host.n_ctx, W.shape[1], dtype=dtype, device=host.device)
        if host.bert:
            W = W - W.mean(1, keepdim=True)
            ids = torch.full((1, host.n_ctx), host.vocabulary.pad_id, device=host.device)
            names = [host.resolve("pos_embed"), host.resolve("token_type_embed")]
            found = forward(host.apart(whole=False), ids, names)  # no block is run
            total = torch.stack([found[name].reshape(-1, *places.shape)[0].to(W) for name in names]).sum(0)
            places = total - total.mean(1, keepdim=True)
        host.tables[key] = (W, W.square().sum(1), places)
    return host.tables[key]


def closest(likeness: Float[Tensor, "free vocab"], count: int) -> Int[Tensor, "free count"]:
    """The `count` most like tokens at every free position, best first."""
    return likeness.topk(min(count, likeness.shape[1]), dim=1).indices


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
        solved: whether they match the target to numerical precision, or are good enough.
    """

    host: Host
    target: Target
    budget: float
    enough: float = -math.inf
    tick: Callable[[float], object] = lambda loss: None
    best: Int[Tensor, " free"] | None = None
    loss: float = math.inf
    solved: bool = False
    known: dict[tuple[int, ...], float] = field(default_factory=dict)

    def check_budget(self) -> None:
        """Raise `Spent` where nothing is left."""
        if self.host.meter.forwards >= self.budget or self.host.late:
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
