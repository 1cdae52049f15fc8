"""Projected gradient ascent, PEZ (Wen et al. 2023): embeddings that move, real tokens that are scored.

The gradient is taken at the tokens nearest to the moving embeddings and applied to these, so every step scores real
tokens, and small pushes add up until another token is nearer. Steps that change no token cost no forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tl_dream._errors import require
from tl_dream.proposals import at_free, gradients, nearest_tokens
from tl_dream.rows import TOKENS
from tl_dream.scoring import evaluate
from tl_dream.swapping import Swaps


@dataclass(frozen=True)
class Projecting:
    """The settings of projected gradient ascent.

    Attributes:
        steps: gradient steps.
        learning_rate: of Adam, in standard deviations of the embeddings' numbers a step.
    """

    steps: int = 400
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        require(
            isinstance(self.steps, int) and self.steps >= 1,
            f"steps = {self.steps!r}: give a whole number of at least 1",
        )
        require(
            self.learning_rate > 0 and math.isfinite(self.learning_rate),
            f"learning_rate = {self.learning_rate!r}: give a number above 0",
        )


def project(
    search: Swaps,
    settings: Projecting,
    *,
    callback: Callable[..., object] | None = None,
    tick: Callable[[], object] | None = None,
) -> str:
    """Projected gradient ascent of every row, until its steps are done or the budget is spent.

    An objective of the words themselves (fluency) counts in the scores; it has no gradient in embedding space.

    Returns:
        Why it stopped: "steps", "budget" or "callback".
    """
    host, batch = search.host, search.batch
    wide = torch.promote_types(host.W_E.dtype, torch.float32)
    moving = torch.nn.Parameter(host.W_E[batch.ids.gather(1, batch.free)].to(wide))
    optimizer = torch.optim.Adam([moving], lr=settings.learning_rate * float(host.W_E.float().std()))
    home = moving.detach().clone()
    reads_words = TOKENS in search.objective.reads
    half_norms = host.W_E.to(wide).square().sum(1) / 2
    before: Tensor | None = None
    for _ in range(settings.steps):
        moved = (moving.detach() - home).norm(dim=2)
        tokens = nearest_tokens(moving.detach(), host.W_E, half_norms, batch.allowed)
        filled = batch.within_limit(batch.fill(tokens), moved)
        if before is None or not torch.equal(filled, before):  # the same tokens have the same gradient
            before = filled
            if not search.goes_on(3 * len(batch.sentences)):
                return "budget"
            weights = None
            with torch.enable_grad():
                embeddings = host.W_E[filled].requires_grad_()
                if reads_words:
                    weights = torch.nn.functional.one_hot(filled, host.d_vocab).to(host.W_E.dtype).requires_grad_()
                scores = evaluate(host, search.objective, filled, batch.rows, embeddings=embeddings, weights=weights)
            pull, _ = gradients(scores, embeddings, weights, search.objective)
            moving.grad = -at_free(pull, batch.free).to(wide)  # Adam minimises
            search.observe(filled, scores.tolist())
            if tick is not None:
                tick()
            if search.progress(callback):
                return "callback"
        optimizer.step()
    return "steps"
