"""Projected gradient ascent, after PEZ (Wen et al. 2023): embeddings that move, real tokens that are scored.

The gradient is taken at the tokens nearest to the moving embeddings and applied to these, so every step scores real
tokens, and small pushes add up until another token is nearer. All that a moving embedding x is asked is how near each
token e is to it, e·x - |e|²/2, and a step along the gradient g adds e·g to that. So this is what is kept and moved, a
number a token; what has no gradient in embedding space (fluency, which reads the words themselves) moves it as well.
Steps that change no token cost no forward pass.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tl_dream._arguments import NumberField, WholeField, finite_fields, whole_fields
from tl_dream.models import Host, steady_linear
from tl_dream.search import Search, SwapSearch

IDLE = 40
"""Steps in a row that change no token, after which none will."""


@dataclass(frozen=True)
class PEZ:
    """The settings of projected gradient ascent.

    Against the paper, whose Adam takes steps of a fixed size for every number: every position's slopes are scaled to a
    standard deviation of 1 over the vocabulary, so that positions of small gradients move as well.

    Attributes:
        steps: sentences scored a row, each with its gradient.
        learning_rate: by how much a step brings nearer a token whose slope is a standard deviation above the mean, in
            mean squared distances between tokens (halved).
        momentum: share of the last step that goes on in the next, 0 to below 1.
        patience: steps in which no row gets a new lead, after which it ends; None: never.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3, pos=2)
        >>> found = td.dream(bert, goal, "the red dog", method=td.PEZ(steps=5), budget=1_000)
    """

    steps: WholeField = 400
    learning_rate: NumberField = 0.2
    momentum: NumberField = 0.5
    patience: WholeField | None = None

    def __post_init__(self) -> None:
        whole_fields(self, steps=1, **({} if self.patience is None else {"patience": 1}))
        finite_fields(self, "a number above 0", lambda number: number > 0, "learning_rate")
        finite_fields(self, "a number from 0 to below 1", lambda number: 0 <= number < 1, "momentum")


def project(
    search: SwapSearch,
    settings: PEZ,
    *,
    rows: Sequence[int] | None = None,
    moves: Bool[Tensor, "some free"] | None = None,
    callback: Callable[..., object] | None = None,
    tick: Callable[[], object] | None = None,
) -> Search[str]:
    """Projected gradient ascent from the tokens that lead the rows.

    Args:
        rows: those of the batch that ascend; None for all.
        moves: which of their free positions move; None for all.

    Returns:
        Why it stopped: "steps", "still" (no token changes any more, or no better text comes), "flat" (there is no slope
        to go by), "budget", "seconds" or "callback".
    """
    host = search.host
    rows = range(len(search.batch.sentences)) if rows is None else rows
    batch = search.batch.part(host, rows)
    wide = torch.promote_types(host.W_E.dtype, torch.float32)
    W_E = host.W_E.to(wide)
    home = host.pad([search.seen.leads[row][0] for row in rows])[0].gather(1, batch.free)
    sizes, length = _sizes(host, W_E)
    near = steady_linear(W_E[home], W_E) - sizes / 2
    closed = (~batch.allowed).expand_as(near).scatter(2, home[..., None], False)  # what stands may stay
    length = settings.learning_rate * length
    velocity = torch.zeros_like(near)
    before: Tensor | None = None
    scored = waited = idle = 0
    while scored < settings.steps and idle < IDLE and waited != settings.patience:
        nearest, tokens = near.masked_fill(closed, -math.inf).max(2)
        ahead = nearest - near.gather(2, batch.ids.gather(1, batch.free)[..., None])[..., 0]
        if moves is not None:
            tokens = torch.where(moves, tokens, home)
        filled = batch.within_limit(batch.fill(tokens), ahead)
        if before is None or not torch.equal(filled, before):  # the same tokens have the same gradient
            before, idle, scored = filled, 0, scored + 1
            if not search.goes_on(len(rows)):
                return search.budget.why
            states = [(row, batch.row_ids(filled, i)) for i, row in enumerate(rows)]
            scores, heights, slopes = yield from search.scored_slopes(states)
            steep = pad_sequence(slopes, batch_first=True)
            better = yield from search.observe(rows, filled, scores, heights)
            if not bool(steep.any()):
                return "flat"
            steep = _scaled(steep.to(wide))
            waited = 0 if any(better) else waited + 1
            if tick is not None:
                tick()
            if search.progress(callback):
                return "callback"
        else:
            idle += 1
        velocity = velocity.lerp_(steep, 1 - settings.momentum)
        near = near.add_(velocity, alpha=length)
    return "steps" if scored >= settings.steps else "still"


def _sizes(host: Host, W_E: Float[Tensor, "vocab d"]) -> tuple[Float[Tensor, " vocab"], float]:
    """Every embedding's squared length, and the variances of the embeddings' numbers, summed."""
    if "sizes" not in host.tables:
        host.tables["sizes"] = W_E.square().sum(1)
        host.tables["spread"] = host.tables["sizes"].mean() - W_E.mean(0).square().sum()
    return host.tables["sizes"], float(host.tables["spread"])


def _scaled(steep: Float[Tensor, "batch free vocab"]) -> Float[Tensor, "batch free vocab"]:
    """Every position's slopes scaled to a standard deviation of 1; by the greatest first, whose square is no number
    too small for its format."""
    steep = steep / steep.abs().amax(2, keepdim=True).clamp_min(torch.finfo(steep.dtype).tiny)
    count = steep.shape[2]
    squares = torch.linalg.vector_norm(steep, dim=2, keepdim=True).square()
    variance = (squares - count * steep.mean(2, keepdim=True).square()) / (count - 1)
    return steep / variance.sqrt().nan_to_num().clamp_min(1e-6)
