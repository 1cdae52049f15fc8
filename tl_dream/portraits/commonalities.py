"""What dreams have in common: tokens, and near tokens together, that are essential more often than chance has it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from math import comb

import torch

from tl_dream.models import Host
from tl_dream.results import CommonToken, EssentialTokens

LEVEL = 0.05
"""Probability, all tokens that are tested taken together, up to which something is called common."""

NEAR = 10
"""Tokens of a neighbourhood, the token itself among them."""


def in_common(
    host: Host, dreams: Sequence[EssentialTokens], chance: Sequence[EssentialTokens]
) -> tuple[tuple[CommonToken, ...], tuple[CommonToken, ...]]:
    """Tokens and neighbourhoods that are essential in more dreams of a unit than chance has it, the surest first.

    Args:
        chance: dreams of random directions; without any nothing is common.
    """
    own, other = ([frozenset(one.ids) for one in some] for some in (dreams, chance))
    counts = Counter(token for ids in own for token in ids)
    if not chance:
        return (), ()
    near = neighbourhoods(host, list(counts))
    alone = {token: _tested(own, other, frozenset([token]), len(counts)) for token in counts}
    wide = {token: _tested(own, other, near[token], len(counts)) for token in counts}
    common = [
        CommonToken(host.vocabulary.tokens([token]), *alone[token])
        for token in sorted(counts, key=lambda token: (alone[token][2], -counts[token], token))
        if alone[token][2] <= LEVEL
    ]
    regions: list[CommonToken] = []
    taken: set[int] = set()
    for token in sorted(counts, key=lambda token: (wide[token][2], -wide[token][0], -counts[token], token)):
        dreamed, _, p = wide[token]
        more = dreamed > max(alone[one][0] for one in near[token] & counts.keys())
        if p <= LEVEL and more and not near[token] & taken:
            members = sorted(near[token] & counts.keys(), key=lambda one: (-counts[one], one))
            regions.append(CommonToken(host.vocabulary.tokens(members), *wide[token]))
            taken |= set(members)
    return tuple(common), tuple(regions)


def _tested(
    own: Sequence[frozenset[int]], other: Sequence[frozenset[int]], tokens: frozenset[int], tests: int
) -> tuple[int, int, float]:
    """How many of the unit's dreams and of the others have one of the tokens, and how likely that is by chance."""
    x, c = (sum(bool(tokens & ids) for ids in some) for some in (own, other))
    return x, c, min(1.0, tests * tail(x, len(own), c, len(other)))


def tail(x: int, n: int, c: int, m: int) -> float:
    """The probability of `x` or more of the `x + c` that have something among `n` dreams of all `n + m`, drawn blindly:
    Fisher's exact test, one-sided."""
    have = x + c
    ways = sum(comb(have, i) * comb(n + m - have, n - i) for i in range(x, min(n, have) + 1))
    return ways / comb(n + m, n)


def neighbourhoods(host: Host, tokens: Iterable[int], count: int = NEAR) -> dict[int, frozenset[int]]:
    """The tokens nearest to each in embedding space by cosine, itself among them; of tokens that may be written."""
    allowed = host.vocabulary.allowed().nonzero().flatten().to(host.device)
    table = torch.nn.functional.normalize(host.W_E[allowed].float(), dim=1)
    found = {}
    for token in tokens:
        own = torch.nn.functional.normalize(host.W_E[token].float(), dim=0)
        nearest = allowed[(table @ own).topk(min(count, len(allowed))).indices]
        found[token] = frozenset([token, *nearest.tolist()])
    return found
