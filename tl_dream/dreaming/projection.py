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

from tl_dream._arguments import NumberField, WholeField, finite_fields, whole_fields
from tl_dream.models import Host, steady_linear
from tl_dream.search import Ids, Search, SwapSearch, Together, joined

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
    rows = range(len(search.batch.sentences)) if rows is None else rows
    texts = [search.seen.leads[row][0] for row in rows]
    motion = _Motion.of(search, rows, texts, settings)
    still = None if moves is None else (~moves).tolist()
    before: list[Ids] | None = None
    scored = waited = idle = 0
    place: _Place = yield motion.step(None)
    while scored < settings.steps and idle < IDLE and waited != settings.patience:
        filled = [
            _filled(search, row, place.of(i), texts[i], None if still is None else still[i])
            for i, row in enumerate(rows)
        ]
        slopes: list[Tensor] | None = None
        if filled != before:  # the same tokens have the same gradient
            before, idle, scored = filled, 0, scored + 1
            if not search.goes_on(len(rows)):
                return search.budget.why
            scores, heights, slopes = yield from search.scored_slopes(list(zip(rows, filled, strict=True)))
            better = yield from search.observe(rows, filled, scores, heights)
        else:
            idle += 1
        place = yield motion.step(slopes)
        if place.flat:
            return "flat"
        if slopes is not None:
            waited = 0 if any(better) else waited + 1
            if tick is not None:
                tick()
            if search.progress(callback):
                return "callback"
    return "steps" if scored >= settings.steps else "still"


def _filled(search: SwapSearch, row: int, found: list[tuple[int, float]], home: Ids, still: list[bool] | None) -> Ids:
    """A row's text with the tokens of its place; with no more words changed than may be, those that are furthest ahead.

    Args:
        home: where the row ascends from.
        still: which free positions do not move.
    """
    sentence, most = search.batch.sentences[row], search.batch.max_changes
    ids = list(sentence.ids)
    changed: list[tuple[float, int, int]] = []
    for slot, (at, (token, ahead)) in enumerate(zip(sentence.free, found, strict=True)):
        token = home[at] if still is not None and still[slot] else token
        if token != ids[at]:
            changed.append((-ahead, at, token))
    if most is not None:
        changed = sorted(changed)[:most]
    for _, at, token in changed:
        ids[at] = token
    return tuple(ids)


@dataclass(eq=False)
class _Motion:
    """How near every token is at the free positions of some rows, one below the other, and where that is going.

    Attributes:
        near, velocity: Float[slot, vocab].
        home: the tokens that it set out from, which may stay; Int[slot, 1].
        start: those of the start; Int[slot, 1].
        allowed: Bool[1, vocab].
        sizes: free positions of each row.
        length: of a step.
        momentum: share of the last step that goes on in the next.
        steep: the slopes of the last text, scaled.
    """

    near: Tensor
    velocity: Tensor
    home: Tensor
    start: Tensor
    allowed: Tensor
    sizes: list[int]
    length: float
    momentum: float
    steep: Tensor | None = None

    @classmethod
    def of(cls, search: SwapSearch, rows: Sequence[int], texts: Sequence[Ids], settings: PEZ) -> _Motion:
        host = search.host
        W_E = host.W_E.to(torch.promote_types(host.W_E.dtype, torch.float32))
        sizes, spread = _sizes(host, W_E)
        sentences = [search.batch.sentences[row] for row in rows]
        places = [(i, at) for i, sentence in enumerate(sentences) for at in sentence.free]
        home, start = (
            torch.tensor([ids[i][at] for i, at in places], device=host.device)[:, None]
            for ids in (texts, [sentence.ids for sentence in sentences])
        )
        near = steady_linear(W_E[home[:, 0]], W_E) - sizes / 2
        length = settings.learning_rate * spread
        counts = [len(sentence.free) for sentence in sentences]
        return cls(
            near, torch.zeros_like(near), home, start, search.batch.allowed[None], counts, length, settings.momentum
        )

    def step(self, slopes: Sequence[Tensor] | None) -> Together:
        """Move along new slopes, or along the last ones."""
        return Together(
            moved, (self, slopes), (self.length, self.momentum, slopes is None, self.steep is None), large=True
        )


@dataclass(frozen=True, eq=False)
class _Place:
    """The nearest tokens.

    Attributes:
        tokens: at every slot.
        ahead: by how much each is nearer than the start's.
        flat: whether there was no slope to go by.
        sizes: free positions of each row.
    """

    tokens: list[int]
    ahead: list[float]
    flat: bool
    sizes: list[int]

    def of(self, i: int) -> list[tuple[int, float]]:
        """Token and lead at the free positions of the i-th row."""
        first = sum(self.sizes[:i])
        mine = slice(first, first + self.sizes[i])
        return list(zip(self.tokens[mine], self.ahead[mine], strict=True))


def moved(items: Sequence[tuple[_Motion, Sequence[Tensor] | None]]) -> list[_Place]:
    """Where embeddings are after a step along their last slopes, or along new ones; at first, where they are. Of the
    same settings, all with new slopes or none, all at first or none."""
    motions = [motion for motion, _ in items]
    first, counts = motions[0], [sum(motion.sizes) for motion in motions]
    near = joined([motion.near for motion in motions])
    peaks: list[bool] | None = None
    steep: Tensor | None = None
    if items[0][1] is not None:
        steep, peak = _scaled(joined([some for _, slopes in items for some in slopes or ()]).to(near.dtype))
        peaks = (peak[:, 0] > 0).tolist()
    elif first.steep is not None:
        steep = joined([motion.steep for motion in motions if motion.steep is not None])
    if steep is not None:
        velocity = joined([motion.velocity for motion in motions]).lerp_(steep, 1 - first.momentum)
        near = near.add_(velocity, alpha=first.length)
        parts = (value.split(counts) for value in (near, velocity, steep))
        for motion, *values in zip(motions, *parts, strict=True):
            motion.near, motion.velocity, motion.steep = values
    home, start = (joined([getattr(motion, name) for motion in motions]) for name in ("home", "start"))
    masks = [motion.allowed for motion in motions]
    mask = joined([one.expand(count, -1) for one, count in zip(masks, counts, strict=True)])
    inside = near.masked_fill(~mask, -math.inf).scatter_(1, home, near.gather(1, home))
    nearest, tokens = inside.max(1)
    ahead, at = (nearest - near.gather(1, start)[:, 0]).tolist(), 0
    chosen, found = tokens.tolist(), []
    for motion, count in zip(motions, counts, strict=True):
        mine = slice(at, at + count)
        flat = peaks is not None and not any(peaks[mine])
        found.append(_Place(chosen[mine], ahead[mine], flat, motion.sizes))
        at += count
    return found


def _sizes(host: Host, W_E: Float[Tensor, "vocab d"]) -> tuple[Float[Tensor, " vocab"], float]:
    """Every embedding's squared length, and the variances of the embeddings' numbers, summed."""
    if "sizes" not in host.tables:
        host.tables["sizes"] = W_E.square().sum(1)
        host.tables["spread"] = host.tables["sizes"].mean() - W_E.mean(0).square().sum()
    return host.tables["sizes"], float(host.tables["spread"])


def _scaled(steep: Float[Tensor, "slot vocab"]) -> tuple[Float[Tensor, "slot vocab"], Float[Tensor, "slot 1"]]:
    """Every position's slopes scaled to a standard deviation of 1; by the greatest first, whose square is no number
    too small for its format. And that greatest."""
    peak = steep.abs().amax(1, keepdim=True)
    steep = steep / peak.clamp_min(torch.finfo(steep.dtype).tiny)
    count = steep.shape[1]
    squares = torch.linalg.vector_norm(steep, dim=1, keepdim=True).square()
    variance = (squares - count * steep.mean(1, keepdim=True).square()) / (count - 1)
    return steep / variance.sqrt().nan_to_num().clamp_min(1e-6), peak
