"""From an activation to tokens: free embeddings by L-BFGS, decoded to real tokens on the way.

Nothing that is not a real token is ever a result: free embeddings only propose tokens, whose own activation is
measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream.models import Host
from tl_dream.reconstruction.lbfgs import Function, Minimizer
from tl_dream.reconstruction.targets import Target, frame
from tl_dream.reconstruction.token_swaps import QUICK, Solved, Spent, TokenLedger, TokenSpace, polish, search_swaps
from tl_dream.search import Look, Search

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

WHITE, MANY = 0.03, 2048
"""Ridge of the whitened loss, as a share of the units' average variance, and the most units it is tried with."""

ALIKE = 8
"""Sentences whose lengths round up to the same multiple of this share their random sentences."""


@dataclass(frozen=True, eq=False)
class _Sample:
    """What the words of random sentences do to the numbers in their place.

    Attributes:
        center, words: the mean of the numbers, and of the words as the model sees them.
        readout: the linear map from numbers, less their mean, to words, less theirs: Float[unit, d_model].
        products: the mean product of two units, Float[unit, unit]; None where there are too many of them.
    """

    center: Float[Tensor, " unit"]
    words: Float[Tensor, " d_model"]
    readout: Float[Tensor, "unit d_model"]
    products: Float[Tensor, "unit unit"] | None


def _sample(host: Host, target: Target, space: TokenSpace, number: int) -> Search[_Sample]:
    """The `number`th sample, from sentences about as long as the target's; its map is fitted by ridge regression.

    Tokens are drawn as words are, common ones more often: vocabularies list the most frequent first. All searches at
    a hook share the sample, and all that begin at once the forward passes.
    """
    size = min(host.n_ctx, -(-len(target.sentence) // ALIKE) * ALIKE)
    plain = frame(host, size)
    free, count = list(plain.free), max(16, min(256, 1800 // size))
    draw = torch.Generator().manual_seed(number)
    tokens = space.allowed.clone()
    tokens[[i for i in host.vocabulary.special_ids if i < len(tokens)]] = False
    pool = tokens.nonzero()[:, 0] if bool(tokens.any()) else space.allowed.nonzero()[:, 0]
    rank = (len(pool) ** torch.rand(count, len(free), generator=draw, dtype=torch.float64)).long().clamp(1, len(pool))
    ids = torch.tensor(plain.ids).repeat(count, 1)
    ids[:, free] = pool.cpu()[rank - 1]
    seen: dict[int, Tensor] = {}

    def read(found: Mapping[str, Tensor], which: list[int]) -> Float[Tensor, "some 1"]:
        seen.update(zip(which, target.columns(found[target.name])[:, free], strict=True))
        return torch.zeros(len(which), 1)

    look = Look(host, (target.name,), [tuple(row) for row in ids.tolist()], read)
    key = f"sample {look.names} {target.units} {number} {size} {hash(space.allowed.cpu().numpy().tobytes())}"
    if key in host.tables:  # it costs a search the same, whoever came first
        host.meter.add(count, size, max(1, look.layers), False)
        return host.tables[key]
    yield look
    X = torch.cat([seen[row] for row in range(count)])
    Y = space.direction(host.W_E[ids[:, free].to(host.device)].to(X), free).flatten(0, 1)
    center, average = X.mean(0), Y.mean(0)
    X, Y = X - center, Y - average
    wide, long = X.shape[1], X.shape[0]
    gram = X.T @ X if long >= wide else X @ X.T
    products = None
    if wide <= MANY:
        products = (gram if long >= wide else X.T @ X) / long
    gram.diagonal().add_(0.01 * gram.diagonal().sum() / wide + 1e-12)
    readout = torch.linalg.solve(gram, X.T @ Y) if long >= wide else X.T @ torch.linalg.solve(gram, Y)
    host.tables[key] = _Sample(center, average, readout, products)
    return host.tables[key]


def readout(host: Host, target: Target, space: TokenSpace, number: int) -> Search[Float[Tensor, "free d_model"]]:
    """A first guess of the embeddings, by one linear map from a position's activation to its own embedding; the mean
    where the target does not cover a position."""
    sample, free = (yield from _sample(host, target, space, number)), target.sentence.free
    guess = sample.words.repeat(len(free), 1)
    covered = [i for i, pos in enumerate(free) if pos in target.pos]
    at = [target.pos.index(free[i]) for i in covered]
    guess[covered] += (target.values[at] - sample.center) @ sample.readout
    return space.embeddings(guess)


def whitening(host: Host, target: Target, space: TokenSpace, number: int) -> Search[Float[Tensor, "unit unit"] | None]:
    """The linear map that makes the units of random sentences about equally strong and independent; None where there
    are too many units for it to be worth its cost."""
    products = (yield from _sample(host, target, space, number)).products
    if products is None:
        return None
    values, vectors = torch.linalg.eigh(products)
    return vectors * (values.clamp_min(0) + WHITE * values.mean() + 1e-12).rsqrt()


@dataclass(frozen=True, eq=False)
class Start:
    """Free embeddings to start from, and the map of the units under which the loss is measured (None: as they are)."""

    embeddings: Float[Tensor, "free d_model"]
    stretch: Float[Tensor, "unit unit"] | None = None


def soft_losses(host: Host, target: Target, starts: Sequence[Start]) -> Function:
    """The loss of every start as a function of its embeddings."""
    shape = (len(starts), *starts[0].embeddings.shape)

    def value(found: Float[Tensor, "some n unit"], which: list[int]) -> Float[Tensor, " some"]:
        own = [target.error(row[None], starts[i].stretch) for row, i in zip(found, which, strict=True)]
        return torch.cat(own)  # a loss: L-BFGS minimises

    def loss(flat: Float[Tensor, "batch n"]) -> Search[tuple[Tensor, Tensor]]:
        values, gradient = yield from target.slopes(host, flat.reshape(shape), value)
        return values, gradient.flatten(1)

    return loss


def minimise(
    judge: TokenLedger, space: TokenSpace, starts: Sequence[Start], generator: torch.Generator, glances: Sequence[int]
) -> Search[None]:
    """L-BFGS from a batch of starts; at every glance its embeddings are decoded and their tokens measured and polished.

    Raises:
        Solved, Spent: see `TokenLedger`.
    """
    x = torch.stack([start.embeddings for start in starts])
    minimizer = Minimizer(soft_losses(judge.host, judge.target, starts), x.flatten(1))
    metric, leader = space.identity, 0
    yield from minimizer.run(0)
    yield from judge.see(torch.stack([space.likeness(row, metric).argmax(1) for row in x]))
    polished: set[tuple[int, ...]] = set()
    before, still, soft = judge.loss, 0, minimizer.value
    for glance in glances:
        yield from minimizer.run(glance - minimizer.iterations, judge.check_budget)
        x = minimizer.x.reshape(x.shape)
        if glance in METRIC_AT:
            metric = yield from space.metric(x[leader], generator)
        readings = [(row, space.likeness(x[row], space.identity)) for row in range(len(x))]
        if metric is not space.identity:
            readings += [(row, space.likeness(x[row], metric)) for row in range(len(x))]
        rows = torch.stack([likeness.argmax(1) for _, likeness in readings])
        losses = yield from judge.see(rows)
        best = int(losses.argmin())
        leader, likeness = readings[best]
        if glance >= POLISH_FROM and tuple(rows[best].tolist()) not in polished:
            polished.add(tuple(rows[best].tolist()))
            was = judge.loss
            yield from polish(judge, rows[best], likeness)
            if judge.loss < min(was, CLOSE * judge.target.scale**2):
                yield from search_swaps(judge, space, QUICK)
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
) -> Search[str]:
    """Search in rounds, until the target is matched, `patience` rounds bring nothing better, or the budget is spent.

    The first round begins at the tokens `start`, where there are some, and at guesses, `starts` in all; from given
    tokens alone it is a quick look around them. Later rounds begin at a guess, at the mean embedding under a whitened
    loss, and at the best tokens so far.

    Returns:
        Why it ended: "matched", "settled", "budget" or "seconds".
    """
    scale = judge.target.scale
    near = start is not None and starts == 1
    still = 0
    try:
        if start is not None:
            yield from judge.see(start[None])
        rows = yield from _first_starts(judge, space, generator, start, starts)
        yield from minimise(judge, space, rows, generator, NEAR_GLANCES if near else GLANCES)
        if near:
            yield from search_swaps(judge, space, QUICK)
        elif judge.loss < CLOSE * scale**2:
            yield from _search_around(judge, space, generator)
        while still < patience:
            before = judge.loss
            rows = yield from _later_starts(judge, space, still)
            yield from minimise(judge, space, rows, generator, LATE_GLANCES)
            yield from _search_around(judge, space, generator)
            still = 0 if judge.loss < before else still + 1
    except Solved:
        return "matched"
    except Spent:
        return "seconds" if judge.host.late else "budget"
    return "settled"


def _search_around(judge: TokenLedger, space: TokenSpace, generator: torch.Generator) -> Search[None]:
    """Search swaps of the best tokens, in the directions that the target tells apart there."""
    assert judge.best is not None
    yield from space.metric(judge.host.W_E[judge.best].to(judge.target.values), generator)
    yield from search_swaps(judge, space)


def _guesses(judge: TokenLedger, space: TokenSpace, number: int) -> Search[list[Start]]:
    """The linear guess and the mean embedding, the one that fits better first."""
    host, target = judge.host, judge.target
    guess = yield from readout(host, target, space, number)
    guesses = [Start(guess), Start(space.average())]
    flat = torch.stack([guess.embeddings for guess in guesses]).flatten(1)
    losses, _ = yield from soft_losses(host, target, guesses)(flat)
    return [guesses[i] for i in losses.argsort().tolist()]


def _first_starts(
    judge: TokenLedger, space: TokenSpace, generator: torch.Generator, tokens: Int[Tensor, " free"] | None, count: int
) -> Search[list[Start]]:
    """`count` starts: given tokens, guesses, then the mean embedding plus normal noise as strong as embeddings are."""
    wide = judge.target.values
    rows = [] if tokens is None else [Start(judge.host.W_E[tokens].to(wide))]
    if len(rows) < count:
        guesses = yield from _guesses(judge, space, 0)
        rows = [*rows, *guesses][:count]
    plain = space.average()
    while len(rows) < count:
        noise = judge.host.W_E.std().to(wide) * torch.randn(plain.shape, generator=generator).to(wide)
        rows.append(Start(plain + noise))
    return rows


def _later_starts(judge: TokenLedger, space: TokenSpace, still: int) -> Search[list[Start]]:
    """Starts of a round after the first, the `still`th in a row without a gain."""
    assert judge.best is not None
    host, target = judge.host, judge.target
    white = yield from whitening(host, target, space, still + 1)
    guesses = yield from _guesses(judge, space, still + 1)
    return [
        guesses[(still + 1) % 2],
        Start(space.average(), white),
        Start(host.W_E[judge.best].to(target.values)),
    ]
