"""Which tokens lie close to a free embedding, in the directions that the target can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

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
