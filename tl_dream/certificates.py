"""Whether tokens are those a target was recorded from: their own activation against it, and every near swap's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream.hosts import Host
from tl_dream.reconstruction_results import Certificate, Swap
from tl_dream.targets import Target
from tl_dream.token_space import TokenSpace, closest

SPARE = 4.0
"""How many times the information in a sentence a target must hold for a match to be no accident."""


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
    rivals: int,
    generator: torch.Generator,
    keep: bool = False,
) -> Examined:
    """Measure tokens and their nearest swaps; where a swap fits better, go on from it, unless told to `keep` them.

    Args:
        tokens: at the free positions.
        rivals: swaps tried a position: those the target tells apart least, and half as many of the closest embeddings.
    """
    while True:
        own = target.errors(host, target.fill(host, tokens[None]))[0]
        here = host.W_E[tokens].to(target.values.dtype)
        if rivals and (float(own.max()) <= target.tolerance or space.latest is space.identity):
            space.metric(here, generator)
        pairs = _near(space, tokens, here, rivals) if rivals else []
        rows = tokens.repeat(len(pairs), 1)
        for i, (slot, token) in enumerate(pairs):
            rows[i, slot] = token
        errors = target.errors(host, target.fill(host, rows)) if pairs else own[None][:0]
        losses = errors.square().mean(1)
        if keep or not pairs or float(losses.min()) >= float(own.square().mean()):
            break
        tokens = rows[int(losses.argmin())]
    swaps = _swaps(host, target, tokens, pairs, errors)
    rival = min((group[0] for group in swaps if group), key=lambda swap: swap.error, default=None)
    certificate = Certificate(
        float(own.max()), target.tolerance, target.whole, _tells(target, space), len(pairs), rival
    )
    return Examined(tokens, certificate, swaps, own)


def _near(
    space: TokenSpace, tokens: Int[Tensor, " free"], here: Float[Tensor, "free d_model"], rivals: int
) -> list[tuple[int, int]]:
    """The swaps (slot, token) most likely to go unnoticed."""
    found = space.likeness(here, space.latest).scatter(1, tokens[:, None], -torch.inf)
    plain = space.likeness(here, space.identity).scatter(1, tokens[:, None], -torch.inf)
    near = torch.cat([closest(found, rivals), closest(plain, (rivals + 1) // 2)], 1)
    return [
        (slot, token)
        for slot in range(len(tokens))
        for token in dict.fromkeys(near[slot].tolist())
        if bool(torch.isfinite(found[slot, token]))
    ]


def _swaps(
    host: Host,
    target: Target,
    tokens: Int[Tensor, " free"],
    pairs: list[tuple[int, int]],
    errors: Float[Tensor, "swap n"],
) -> tuple[tuple[Swap, ...], ...]:
    """The measured swaps by free position, cheapest first."""
    vocabulary, free = host.vocabulary, target.sentence.free
    groups: list[list[Swap]] = [[] for _ in free]
    for (slot, token), error in zip(pairs, errors.amax(1).tolist() if pairs else [], strict=True):
        mine, other = vocabulary.tokens([int(tokens[slot]), token])
        groups[slot].append(Swap(free[slot], mine, other, token, error))
    return tuple(tuple(sorted(group, key=lambda swap: swap.error)) for group in groups)


def _tells(target: Target, space: TokenSpace) -> bool:
    """Whether the target holds so much more information than a sentence does that no other matches it by accident."""
    sentence = len(target.sentence.free) * math.log2(max(2, int(space.allowed.sum())))
    return target.values.numel() * -math.log2(target.tolerance) >= SPARE * sentence
