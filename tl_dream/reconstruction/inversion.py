"""From an activation to tokens: free embeddings by L-BFGS, decoded to real tokens on the way.

Nothing that is not a real token is ever a result: free embeddings only propose tokens, whose own activation is
measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream.models import Host, forward
from tl_dream.reconstruction.lbfgs import Function, Minimizer
from tl_dream.reconstruction.targets import BATCH_TOKENS, Target
from tl_dream.reconstruction.token_space import TokenSpace
from tl_dream.reconstruction.token_swaps import QUICK, Solved, Spent, TokenLedger, polish, search_swaps

GLANCES = (10, 18, 26, 36, 48, 62, 78, 96, 120, 150)
"""L-BFGS iterations after which the free embeddings are decoded and their tokens measured."""

LATE_GLANCES = (*GLANCES, 190, 240, 300, 380, 480, 600)
"""Of the rounds after the first."""

NEAR_GLANCES = (6, 12, 18)
"""Of the first round from given tokens alone: the text that fits best is sought near them."""

METRIC_AT = (18, 48, 96, 190, 380)
"""Glances that find out anew which directions the target tells apart; it costs as much as some ten iterations, and
changes slowly. Before the first, all count alike."""

POLISH_FROM = 26
"""Iterations before which tokens are too far off for a search among neighbours to be worth its cost."""

HOPELESS = 0.005
"""A soft loss this far below the best real tokens' says that these are no neighbours of the free embeddings."""

SLOW = 0.8
"""A soft loss that has not fallen to this share of what it was a glance ago is not worth going on for."""

CLOSE = 0.1
"""Real tokens whose mean squared error is below this share of the target's mean square are worth a search by swaps: the
wide one after a round, and a quick one on the way, which ends most rounds long before their last glance."""

WHITE = 0.03
"""Ridge of the whitened loss, as a share of the units' average variance."""


@torch.no_grad()
def readout(host: Host, target: Target, space: TokenSpace, generator: torch.Generator) -> Float[Tensor, "free d_model"]:
    """A first guess of the embeddings, by one linear map from a position's activation to its own embedding.

    The map is fitted by ridge regression on random sentences of the target's length. Their tokens are drawn as words
    are, common ones more often: vocabularies list the most frequent first. Positions that the target does not cover
    get the mean.
    """
    free = list(target.sentence.free)
    tokens = space.allowed.clone()
    tokens[[i for i in host.vocabulary.special_ids if i < len(tokens)]] = False
    pool = tokens.nonzero()[:, 0] if bool(tokens.any()) else space.allowed.nonzero()[:, 0]
    count = max(16, min(256, 1800 // len(target.sentence)))
    draw = torch.rand(count, len(free), generator=generator, dtype=torch.float64).to(host.device)
    rank = (len(pool) ** draw).long().clamp(1, len(pool)) - 1
    ids = target.fill(host, pool[rank])
    size = max(1, BATCH_TOKENS // ids.shape[1])
    activations = torch.cat(
        [target.chosen(forward(host, part, [target.name])[target.name]) for part in ids.split(size)]
    )
    words = space.direction(host.W_E[ids[:, free]].to(activations))
    covered = [i for i, pos in enumerate(free) if pos in target.pos]
    mean = rearrange(words, "batch pos d_model -> (batch pos) d_model").mean(0)
    guess = mean.repeat(len(free), 1)
    if covered:
        at = [target.pos.index(free[i]) for i in covered]
        X, Y = (rearrange(x, "batch pos unit -> (batch pos) unit") for x in (activations[:, at], words[:, covered]))
        center, average = X.mean(0), Y.mean(0)
        X, Y, wanted = X - center, Y - average, target.values[at] - center
        if X.shape[0] >= X.shape[1]:
            gram = X.T @ X
            gram.diagonal().add_(0.01 * gram.diagonal().mean() + 1e-12)
            guess[covered] = average + wanted @ torch.linalg.solve(gram, X.T @ Y)
        else:
            gram = X @ X.T
            gram.diagonal().add_(0.01 * gram.diagonal().sum() / X.shape[1] + 1e-12)
            guess[covered] = average + wanted @ X.T @ torch.linalg.solve(gram, Y)
    return space.embeddings(guess)


def average(host: Host, target: Target, allowed: Bool[Tensor, " vocab"]) -> Float[Tensor, "free d_model"]:
    """The mean embedding at every free position."""
    mean = host.W_E[allowed.to(host.device)].to(target.values.dtype).mean(0)
    return mean.repeat(len(target.sentence.free), 1)


@torch.no_grad()
def whitening(
    host: Host, target: Target, allowed: Bool[Tensor, " vocab"], generator: torch.Generator
) -> Float[Tensor, "unit unit"] | None:
    """The linear map that makes the units of random sentences about equally strong and independent; None where there
    are too many units for it to be worth its cost."""
    width = target.values.shape[1]
    if width > 2048:
        return None
    pool = allowed.to(host.device).nonzero()[:, 0]
    count = max(8, min(64, 1800 // len(target.sentence)))
    draw = torch.randint(len(pool), (count, len(target.sentence.free)), generator=generator).to(host.device)
    ids = target.fill(host, pool[draw])
    size = max(1, BATCH_TOKENS // ids.shape[1])
    parts = [target.chosen(forward(host, part, [target.name])[target.name]) for part in ids.split(size)]
    sample = rearrange(torch.cat(parts), "batch pos unit -> (batch pos) unit")
    sample = sample - sample.mean(0)
    values, vectors = torch.linalg.eigh(sample.T @ sample / len(sample))
    return vectors * (values.clamp_min(0) + WHITE * values.mean() + 1e-12).rsqrt()


@dataclass(frozen=True, eq=False)
class Start:
    """Free embeddings to start from, and the map of the units under which the loss is measured (None: as they are)."""

    embeddings: Float[Tensor, "free d_model"]
    stretch: Float[Tensor, "unit unit"] | None = None


def soft_losses(host: Host, target: Target, starts: Sequence[Start]) -> Function:
    """The loss of every start as a function of its embeddings, all in one forward pass."""
    free = list(target.sentence.free)
    shape = (len(starts), *starts[0].embeddings.shape)
    ids = torch.tensor(target.sentence.ids, device=host.device).repeat(len(starts), 1)
    base = host.W_E[ids].to(target.values.dtype)

    def loss(flat: Float[Tensor, "batch n"]) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = flat.detach().requires_grad_()
            embeddings = base.clone()
            embeddings[:, free] = x.reshape(shape)
            found = target.chosen(forward(host, ids, [target.name], embeddings=embeddings)[target.name])
            gaps = (found - target.values) / target.scale
            rows = [gap if s.stretch is None else gap @ s.stretch for gap, s in zip(gaps, starts, strict=True)]
            value = torch.stack([row.square().mean() for row in rows])  # a loss: L-BFGS minimises
        (gradient,) = torch.autograd.grad(value.sum(), x)
        return value.detach(), gradient

    return loss


def minimise(
    judge: TokenLedger, space: TokenSpace, starts: Sequence[Start], generator: torch.Generator, glances: Sequence[int]
) -> None:
    """L-BFGS from a batch of starts; at every glance its embeddings are decoded and their tokens measured and polished.

    Raises:
        Solved, Spent: see `TokenLedger`.
    """
    x = torch.stack([start.embeddings for start in starts])
    minimizer = Minimizer(soft_losses(judge.host, judge.target, starts), x.flatten(1))
    metric, leader = space.identity, 0
    judge.see(torch.stack([space.likeness(row, metric).argmax(1) for row in x]))
    polished: set[tuple[int, ...]] = set()
    before, still, soft = judge.loss, 0, minimizer.value
    for glance in glances:
        minimizer.run(glance - minimizer.iterations, judge.check_budget)
        x = minimizer.x.reshape(x.shape)
        if glance in METRIC_AT:
            metric = space.metric(x[leader], generator)
        readings = [(row, space.likeness(x[row], space.identity)) for row in range(len(x))]
        if metric is not space.identity:
            readings += [(row, space.likeness(x[row], metric)) for row in range(len(x))]
        rows = torch.stack([likeness.argmax(1) for _, likeness in readings])
        best = int(judge.see(rows).argmin())
        leader, likeness = readings[best]
        if glance >= POLISH_FROM and tuple(rows[best].tolist()) not in polished:
            polished.add(tuple(rows[best].tolist()))
            was = judge.loss
            polish(judge, rows[best], likeness)
            if judge.loss < min(was, CLOSE * judge.target.scale**2):
                search_swaps(judge, space, QUICK)
        still = still + 1 if judge.loss >= before else 0
        before = judge.loss
        hopeless = float(minimizer.value[leader]) < HOPELESS * judge.loss / judge.target.scale**2
        slow = bool((minimizer.value > SLOW * soft).all())
        soft = minimizer.value
        if minimizer.stuck or (still >= 3 and (hopeless or slow)):
            return


def invert(
    judge: TokenLedger,
    space: TokenSpace,
    generator: torch.Generator,
    *,
    start: Int[Tensor, " free"] | None,
    starts: int,
    patience: int,
) -> str:
    """Search in rounds, until the target is matched, `patience` rounds bring nothing better, or the budget is spent.

    The first round begins at the tokens `start`, where there are some, and at guesses, `starts` in all; from given
    tokens alone it is a quick look around them. Later rounds begin at a guess, at the mean embedding under a whitened
    loss, and at the best tokens so far.

    Returns:
        Why it ended: "matched", "settled" or "budget".
    """
    scale = judge.target.scale
    near = start is not None and starts == 1
    still = 0
    try:
        if start is not None:
            judge.see(start[None])
        rows = _first_starts(judge, space, generator, start, starts)
        minimise(judge, space, rows, generator, NEAR_GLANCES if near else GLANCES)
        if near:
            search_swaps(judge, space, QUICK)
        elif judge.loss < CLOSE * scale**2:
            _search_around(judge, space, generator)
        while still < patience:
            before = judge.loss
            minimise(judge, space, _later_starts(judge, space, generator, still), generator, LATE_GLANCES)
            _search_around(judge, space, generator)
            still = 0 if judge.loss < before else still + 1
    except Solved:
        return "matched"
    except Spent:
        return "budget"
    return "settled"


def _search_around(judge: TokenLedger, space: TokenSpace, generator: torch.Generator) -> None:
    """Search swaps of the best tokens, in the directions that the target tells apart there."""
    assert judge.best is not None
    space.metric(judge.host.W_E[judge.best].to(judge.target.values), generator)
    search_swaps(judge, space)


def _guesses(judge: TokenLedger, space: TokenSpace, generator: torch.Generator) -> list[Start]:
    """The linear guess and the mean embedding, the one that fits better first."""
    host, target = judge.host, judge.target
    guesses = [Start(readout(host, target, space, generator)), Start(average(host, target, space.allowed))]
    losses, _ = soft_losses(host, target, guesses)(torch.stack([guess.embeddings for guess in guesses]).flatten(1))
    return [guesses[i] for i in losses.argsort().tolist()]


def _first_starts(
    judge: TokenLedger, space: TokenSpace, generator: torch.Generator, tokens: Int[Tensor, " free"] | None, count: int
) -> list[Start]:
    """`count` starts: given tokens, guesses, then the mean embedding plus normal noise as strong as embeddings are."""
    wide = judge.target.values
    rows = [] if tokens is None else [Start(judge.host.W_E[tokens].to(wide))]
    if len(rows) < count:
        rows = [*rows, *_guesses(judge, space, generator)][:count]
    plain, spread = average(judge.host, judge.target, space.allowed), judge.host.W_E.std().to(wide)
    while len(rows) < count:
        rows.append(Start(plain + spread * torch.randn(plain.shape, generator=generator).to(wide)))
    return rows


def _later_starts(judge: TokenLedger, space: TokenSpace, generator: torch.Generator, still: int) -> list[Start]:
    """Starts of a round after the first, the `still`th in a row without a gain."""
    assert judge.best is not None
    host, target = judge.host, judge.target
    white = whitening(host, target, space.allowed, generator)
    return [
        _guesses(judge, space, generator)[(still + 1) % 2],
        Start(average(host, target, space.allowed), white),
        Start(host.W_E[judge.best].to(target.values)),
    ]
