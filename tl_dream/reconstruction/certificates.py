"""Whether tokens are those a target was recorded from: their own activation against it, and that of their rivals."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream._arguments import Whole, plain, seed_number, whole_number
from tl_dream._errors import require
from tl_dream.models import Host, attached
from tl_dream.objectives import Read
from tl_dream.reconstruction.problem import by_number, read_target
from tl_dream.reconstruction.targets import Differences, Target, masked, record
from tl_dream.reconstruction.token_swaps import TokenSpace, closest
from tl_dream.results import Certificate, Swap
from tl_dream.search import Search, run
from tl_dream.text import Allowed, Positions, Prompt

SPARE = 4.0
"""How many times the information in a sentence a target must hold for a match to be no accident."""

EXCHANGES = 64
"""Exchanges of two tokens that are measured: all of 11 positions, of more those that should change the least."""

RIVALS, LEAST, IN_ALL = 12, 2, 320
"""Other tokens tried at every position where nobody says how many: on MiniLM the five cheapest of the vocabulary are
nearly always among so many. From 27 positions on fewer, down to the least, for about so many in all: what they cost
would else grow with the square of the length."""

KEPT = 64
"""Other tokens that are kept for every position, the cheapest."""

CHUNK = 4096
"""Rivals measured before those that are not kept are forgotten."""

Edit = tuple[tuple[int, int], ...]
"""Free slots and the tokens put there."""


def read_rivals(rivals: Any) -> int | str | None:
    rivals = plain(rivals)
    return rivals if rivals is None or rivals == "all" else whole_number("rivals", rivals, 0, advice=', or "all"')


def certify(
    model: Any,
    candidate: str | Prompt,
    target: Any,
    *,
    hook: str = "block_out",
    layer: Whole | None = None,
    positions: Positions = None,
    units: Whole | Iterable[Any] | None = None,
    rivals: Whole | str | None = None,
    allowed: Allowed = "no_unused",
    seed: Whole = 0,
) -> Certificate:
    """Whether a text is the one a target was recorded from, as far as it can be told; nothing is searched.

    Args:
        candidate: the text (or ids, as a Prompt) to check.
        target, hook, layer, positions, units: as in `reconstruct`.
        rivals: other tokens measured at every position, as in `reconstruct`.
        allowed: what they may be.
        seed: of the choice of rivals.

    Raises:
        DreamError: as in `reconstruct`, and a candidate of another length than the target.

    Examples:
        >>> goal = 0.5 * torch.ones(5, bert.cfg.d_model)  # of [CLS], three words and [SEP]
        >>> td.certify(bert, "the red dog", goal, layer=0, rivals=2).matched
        False
    """
    number, draw = read_rivals(rivals), torch.Generator().manual_seed(seed_number(seed))
    with attached(model) as host:
        sentence = host.vocabulary.read(candidate)
        if isinstance(target, str | Prompt):
            target = record(host, host.vocabulary.read(target), Read(hook, plain(layer)).resolve(host)[0])
        question = read_target(host, target, hook, layer, by_number(host, sentence, positions), units)
        require(
            question.length in (None, len(sentence)),
            f"the candidate has {len(sentence)} tokens, the target {question.length} positions: it can't be it",
        )
        goal = question.target(host, masked(host, sentence))
        space, tokens = TokenSpace(host, goal, host.vocabulary.allowed(allowed)), goal.searched(host, sentence)
        return run(host, examine(host, goal, space, tokens, number, draw, keep=True)).certificate


@dataclass(frozen=True, eq=False)
class Examined:
    """Tokens at the free positions, and what is known of them.

    Attributes:
        tokens: theirs.
        certificate: whether they are the ones.
        swaps: for every free position the other tokens that were measured there, cheapest first.
        errors: at every position covered, of the tokens' own activation, as a share of the target's scale.
    """

    tokens: Int[Tensor, " free"]
    certificate: Certificate
    swaps: tuple[tuple[Swap, ...], ...]
    errors: Float[Tensor, " n"]


def examine(
    host: Host,
    target: Target,
    space: TokenSpace,
    tokens: Int[Tensor, " free"],
    rivals: int | str | None,
    generator: torch.Generator,
    *,
    keep: bool = False,
    budget: float = math.inf,
) -> Search[Examined]:
    """Measure tokens and their rivals; where a rival fits better, go on from it, unless told to `keep` them.

    The rivals of a sentence differ from it in one token, or have two of its tokens exchanged: a position that
    hardly depends on the order of the others hardly notices that, though it notices every single token.

    Args:
        tokens: at the free positions.
        rivals: tokens tried a position: those the target tells apart least, and a quarter as many of the closest
            embeddings; "all" tries every allowed one, None `RIVALS`, or fewer of a long sentence.
        budget: forwards (the meter's) after which it does not go on: a better rival is then measured without its own.
    """
    visited: set[tuple[int, ...]] = set()
    while True:
        visited.add(tuple(tokens.tolist()))
        edits = yield from _edits(host, space, tokens, rivals, generator)
        found = yield from _measure(host, target, tokens, edits)
        # a gain within the arithmetic's own differences, measured the other way round, may be a loss
        if keep or found.matched or found.gain <= target.tolerance or tuple(found.best.tolist()) in visited:
            break
        tokens = found.best
        if host.meter.forwards >= budget:
            found = yield from _measure(host, target, tokens, iter(()))
            break
    vocabulary, free = host.vocabulary, target.sentence.free

    def swap(rival: _Rival) -> Swap:
        (slot, token), *more = rival.edit
        mine, other = vocabulary.tokens([int(tokens[slot]), token])
        return Swap(free[slot], mine, other, token, rival.error, rival.cost, free[more[0][0]] if more else None)

    closest_rival = None if found.rival is None else swap(found.rival)
    certificate = Certificate(
        float(found.own.beyond[0]),
        target.tolerance,
        float(found.own.peak[0]),
        target.single,
        target.missing,
        closest_rival is not None and _tells(target, space, closest_rival.error),
        found.tried,
        closest_rival,
    )
    swaps = tuple(tuple(swap(rival) for rival in group) for group in found.groups)
    return Examined(tokens, certificate, swaps, found.own.errors[0])


@dataclass(frozen=True)
class _Rival:
    """An edit of the tokens, its error as a certificate counts it, and what it costs."""

    edit: Edit
    error: float
    cost: float


@dataclass(frozen=True, eq=False)
class _Measured:
    """Tokens and their rivals.

    Attributes:
        own: the tokens' differences from the target, a batch of one.
        matched: whether these are numerical precision.
        tried: rivals measured.
        rival: the one of least error.
        groups: for every slot the swaps of least cost, cheapest first.
        best, gain: the tokens of least loss, and by how much their distance from the target is less, as a share of its
            scale; 0 where these are the tokens themselves.
    """

    own: Differences
    matched: bool
    tried: int
    rival: _Rival | None
    groups: list[list[_Rival]]
    best: Int[Tensor, " free"]
    gain: float


def _measure(host: Host, target: Target, tokens: Int[Tensor, " free"], edits: Iterator[Edit]) -> Search[_Measured]:
    """The tokens are measured with every chunk of rivals. They can wait: other layers' certificates of the same text
    ask for many of the same rivals."""
    first: Differences | None = None
    rival: _Rival | None = None
    groups: list[list[_Rival]] = [[] for _ in tokens]
    best, gain, tried = tokens, 0.0, 0
    while (chunk := list(islice(edits, CHUNK))) or first is None:
        rows = tokens.repeat(1 + len(chunk), 1)
        for i, edit in enumerate(chunk):
            for slot, token in edit:
                rows[1 + i, slot] = token
        found = yield from target.compare(host, rows, patient=True)
        losses = found.errors.square().mean(1)
        first = first or Differences(found.errors[:1], found.beyond[:1], found.peak[:1])
        costs = (losses[1:] - losses[0]).tolist()
        for edit, error, cost in zip(chunk, found.beyond[1:].tolist(), costs, strict=True):
            this = _Rival(edit, error, cost)
            if rival is None or error < rival.error:
                rival = this
            if len(edit) == 1:
                groups[edit[0][0]].append(this)
        groups = [heapq.nsmallest(KEPT, group, key=lambda one: one.cost) for group in groups]
        row = int(losses.argmin())
        closer = float(losses[0].sqrt() - losses[row].sqrt())
        if closer > gain:
            best, gain = rows[row].clone(), closer
        tried += len(chunk)
    return _Measured(first, bool(target.matched(first)[0]), tried, rival, groups, best, gain)


def _edits(
    host: Host, space: TokenSpace, tokens: Int[Tensor, " free"], rivals: int | str | None, generator: torch.Generator
) -> Search[Iterator[Edit]]:
    """The rivals of tokens, those most likely to go unnoticed where not all are tried."""
    if rivals == 0:
        return iter(())
    if rivals is None:
        rivals = min(RIVALS, max(LEAST, IN_ALL // len(tokens)))
    here = host.W_E[tokens].to(space.identity)
    metric = yield from space.metric(here, generator)
    if isinstance(rivals, str):
        choices = [space.allowed.nonzero()[:, 0].tolist()] * len(tokens)
    else:
        kinds = (metric, space.identity)
        found = [space.likeness(here, kind).scatter(1, tokens[:, None], -torch.inf) for kind in kinds]
        near = torch.cat([closest(found[0], rivals), closest(found[1], (rivals + 3) // 4)], 1)
        finite = torch.isfinite(found[0]).gather(1, near)
        choices = [list(dict.fromkeys(row[keep].tolist())) for row, keep in zip(near, finite, strict=True)]
    own = tokens.tolist()
    single = (((slot, token),) for slot, some in enumerate(choices) for token in some if token != own[slot])
    pairs = (((i, own[j]), (j, own[i])) for i, j in _exchanges(host, space, tokens))
    return chain(single, pairs)


def _exchanges(host: Host, space: TokenSpace, tokens: Int[Tensor, " free"]) -> list[tuple[int, int]]:
    """Pairs of slots whose tokens are exchanged: those first that to first order change the target least."""
    own, pulls = tokens.tolist(), space.pulls
    assert pulls is not None
    pairs = [(i, j) for i in range(len(own)) for j in range(i) if own[i] != own[j]]
    if len(pairs) <= EXCHANGES:
        return pairs
    # [draw, i, k]: what token k at slot i adds to a random sum of the target's numbers
    there = pulls @ host.W_E[tokens].to(pulls).T
    stays = there.diagonal(dim1=1, dim2=2)
    change = (there + there.transpose(1, 2) - stays[:, :, None] - stays[:, None, :]).square().sum(0)
    return sorted(pairs, key=lambda pair: float(change[pair]))[:EXCHANGES]


def _tells(target: Target, space: TokenSpace, rival: float) -> bool:
    """Whether the target holds so much more information than a sentence does that no other matches it by accident."""
    sentence = len(target.sentence.free) * math.log2(max(2, int(space.allowed.sum())))
    steps = rival / target.tolerance
    if target.rounded:
        steps = min(steps, 1 / target.rounded)
    return target.values.numel() * math.log2(max(1, steps)) >= SPARE * sentence
