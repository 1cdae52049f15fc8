"""Which tokens lie close to a free embedding, in the directions that the target can tell apart."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream.models import Host, forward
from tl_dream.reconstruction.targets import Target

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
        latest: the metric made last.
        weight: curvature of the mean squared error along an average direction, under `latest`.
        pulls: the random projections that `latest` was made of: gradients of random sums of the target's numbers.
    """

    def __init__(self, host: Host, target: Target, allowed: Bool[Tensor, " vocab"]) -> None:
        self.allowed = allowed.to(host.device)
        self._host, self._target = host, target
        self._W = host.W_E.to(target.values.dtype)
        self.normed = host.bert
        self.offset = torch.zeros(len(target.sentence.free), self._W.shape[1], dtype=self._W.dtype, device=host.device)
        if self.normed:
            self._W = self._W - self._W.mean(1, keepdim=True)
            self.offset = self._offsets()
        self.identity = torch.eye(self._W.shape[1], dtype=self._W.dtype, device=host.device)
        self.latest = self.identity
        self.weight = 1.0
        self.pulls: Float[Tensor, "draw free d_model"] | None = None
        self._stretched: tuple[Tensor, Tensor, Tensor] | None = None

    @torch.no_grad()
    def _offsets(self) -> Float[Tensor, "free d_model"]:
        """Position and segment embedding at the free positions, centred."""
        host, sentence = self._host, self._target.sentence
        ids, _ = host.pad([sentence.ids])
        names = [host.resolve("pos_embed"), host.resolve("token_type_embed")]
        found = forward(host, ids, names)
        shape = (len(sentence), self._W.shape[1])
        total = torch.stack([found[name].reshape(-1, *shape)[0].to(self._W) for name in names]).sum(0)
        offset = total[list(sentence.free)]
        return offset - offset.mean(1, keepdim=True)

    def direction(self, embeddings: Float[Tensor, "*rows free d_model"]) -> Float[Tensor, "*rows free d_model"]:
        """Embeddings as the model sees them: of a BERT the centred sum at unit root mean square."""
        if not self.normed:
            return embeddings
        total = embeddings - embeddings.mean(-1, keepdim=True) + self.offset
        return total / total.square().mean(-1, keepdim=True).sqrt()

    def embeddings(self, direction: Float[Tensor, "*rows free d_model"]) -> Float[Tensor, "*rows free d_model"]:
        """The inverse of `direction`, at the length that words have there."""
        if not self.normed:
            return direction
        direction = direction - direction.mean(-1, keepdim=True)
        direction = direction / direction.square().mean(-1, keepdim=True).sqrt()
        length = (self._W.square().mean() + self.offset.square().mean(-1, keepdim=True)).sqrt()
        return direction * length - self.offset

    def _stretch(self, metric: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens times the metric, and their squared lengths under it."""
        if metric is self.identity:
            return self._W, self._W.square().sum(1)
        if self._stretched is None or self._stretched[0] is not metric:
            stretched = self._W @ metric
            self._stretched = (metric, stretched, (stretched * self._W).sum(1))
        return self._stretched[1:]

    @torch.no_grad()
    def likeness(
        self, embeddings: Float[Tensor, "free d_model"], metric: Float[Tensor, "d_model d_model"]
    ) -> Float[Tensor, "free vocab"]:
        """How like every token is to each free embedding under a metric; -inf for tokens that are not allowed."""
        stretched, lengths = self._stretch(metric)
        x = embeddings.to(self._W)
        if self.normed:
            x = self.direction(x)
            xm, om = x @ metric, self.offset @ metric
            inner = x @ stretched.T + (xm * self.offset).sum(1, keepdim=True)
            norms = lengths + 2 * self.offset @ stretched.T + (om * self.offset).sum(1, keepdim=True)
            found = inner / (norms.clamp_min(1e-12) * (xm * x).sum(1, keepdim=True).clamp_min(1e-12)).sqrt()
        else:
            found = 2 * x @ stretched.T - lengths - ((x @ metric) * x).sum(1, keepdim=True)
        return found.masked_fill(~self.allowed, -torch.inf)

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
        stretched, lengths = self._stretch(metric)
        here, pull = self._W[tokens], gradient.to(self._W)
        first = pull @ self._W.T - (pull * here).sum(1, keepdim=True)
        second = lengths - 2 * here @ stretched.T + lengths[tokens, None]
        found = -first - self.weight * second
        return found.masked_fill(~self.allowed, -torch.inf).scatter(1, tokens[:, None], -torch.inf)

    def metric(
        self, embeddings: Float[Tensor, "free d_model"], generator: torch.Generator
    ) -> Float[Tensor, "d_model d_model"]:
        """How strongly the target sees each direction of the embeddings, averaged over the free positions.

        With J the Jacobian of the activation at these embeddings, an estimate of the mean over positions of J'J from
        random projections, plus a floor for what they miss.
        """
        host, target = self._host, self._target
        free = list(target.sentence.free)
        count = max(8, min(48, 400 // max(1, len(free))))
        size = max(1, 1024 // len(target.sentence))
        total = torch.zeros_like(self.identity)
        pulls = []
        done = 0
        while done < count:
            rows = min(size, count - done)
            ids = torch.tensor(target.sentence.ids, device=host.device).repeat(rows, 1)
            with torch.enable_grad():
                x = host.W_E[ids].to(self._W.dtype)
                x[:, free] = embeddings.to(x)
                x.requires_grad_()
                found = target.chosen(forward(host, ids, [target.name], embeddings=x)[target.name])
                draw = torch.randn(found.shape, generator=generator, dtype=torch.float32).to(found)
            (pull,) = torch.autograd.grad((found * draw).sum(), x)
            pulls.append(pull[:, free])
            pull = pulls[-1].flatten(0, 1)
            total += pull.T @ pull
            done += rows
        self.pulls = torch.cat(pulls)
        share = total.diagonal().mean().clamp_min(1e-30)
        self.weight = float(share) / (count * max(1, len(free)) * target.values.numel())
        self.latest = total / share + FLOOR * self.identity
        return self.latest


def closest(likeness: Float[Tensor, "free vocab"], count: int) -> Int[Tensor, "free count"]:
    """The `count` most like tokens at every free position, best first."""
    return likeness.topk(min(count, likeness.shape[1]), dim=1).indices
