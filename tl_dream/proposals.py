"""Which tokens to try: ranked by how much they raise the score to first order (HotFlip, Ebrahimi et al. 2018)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._errors import require
from tl_dream.batches import Batch
from tl_dream.hosts import Host
from tl_dream.inputs import GumbelSoftmaxInput
from tl_dream.objectives import Objective
from tl_dream.scoring import evaluate


def embedding_gradient(scores: Float[Tensor, " batch"], embeddings: Tensor, objective: Objective) -> Tensor:
    """The gradient of every row's score with respect to the soft embeddings it was made from; the graph is kept.

    Raises:
        DreamError: the scores do not depend on the embeddings.
    """
    gradient = None
    if scores.requires_grad:
        (gradient,) = torch.autograd.grad(scores.sum(), embeddings, retain_graph=True, allow_unused=True)
    require(
        gradient is not None,
        f"the objective {objective} does not change with the words, so it has no gradient: read a hook that sees them, "
        "and detach nothing in a function of your own",
    )
    assert gradient is not None
    return gradient


def start_gradient(host: Host, climb: Objective, batch: Batch) -> Float[Tensor, "batch free d_model"]:
    """The gradient of the score with respect to the word embeddings at the free positions of the real sentences."""
    with torch.enable_grad():
        embeddings = host.W_E[batch.ids].requires_grad_()
        scores = evaluate(host, climb, batch.ids, batch.rows, embeddings=embeddings)
    gradient = embedding_gradient(scores, embeddings, climb)
    return gradient.gather(1, batch.free.unsqueeze(-1).expand(-1, -1, gradient.shape[-1]))


def top_candidates(
    pull: Float[Tensor, "batch free d_model"],
    W_E: Float[Tensor, "vocab d_model"],
    allowed: Bool[Tensor, " vocab"],
    count: int,
    keep: Int[Tensor, "batch free kept"],
) -> Int[Tensor, "batch free {count}"]:
    """The `count` allowed tokens that raise the score most to first order, those in `keep` first, all different.

    Tokens in `keep` stay even if they are not allowed (the sentence's own): a mask forbids them as a choice.
    """
    first_order = (pull @ W_E.T).masked_fill_(~allowed, -math.inf).scatter_(2, keep, math.inf)
    return first_order.topk(count, dim=2).indices


def renew_candidates(
    soft: GumbelSoftmaxInput,
    weights: Float[Tensor, "batch free choice"],
    pull: Float[Tensor, "batch free d_model"],
    W_E: Float[Tensor, "vocab d_model"],
    allowed: Bool[Tensor, " vocab"],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Keep the heavier half of every position's candidates, and put the most promising other tokens in place of the
    lighter half, with the lightest kept logit and no momentum."""
    assert soft.candidates is not None
    count = soft.candidates.shape[2]
    half = count // 2
    order = weights.argsort(dim=2, descending=True, stable=True)[..., :half]
    kept = soft.candidates.gather(2, order)
    first_order = (pull @ W_E.T).masked_fill_(~allowed, -math.inf).scatter_(2, kept, -math.inf)
    fresh = first_order.topk(count - half, dim=2).indices
    state, logits = optimizer.state[soft.logits], soft.logits.data
    for values in (logits, state["exp_avg"], state["exp_avg_sq"]):
        old = values.gather(2, order)
        fill = old.amin(2, keepdim=True) if values is logits else torch.zeros_like(old[..., :1])
        values.copy_(torch.cat([old, fill.expand(-1, -1, count - half)], 2))
    soft.candidates.copy_(torch.cat([kept, fresh], 2))
    soft.forbidden.copy_(~allowed[soft.candidates])
