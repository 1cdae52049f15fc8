"""Which texts to score next: tokens ranked by how much they raise the score to first order (HotFlip, Ebrahimi et al.
2018), and sentences drawn from them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_dream.models import Host, few_passes, in_batches, steady_linear
from tl_dream.search.batch import Ids, Together
from tl_dream.text import Vocabulary


def token_slopes(
    pull: Float[Tensor, "some d_model"],
    direct: Float[Tensor, "some vocab"] | None,
    host: Host,
) -> Float[Tensor, "some vocab"]:
    """Every token's slope, from the gradient in embedding space and that in the words themselves. The product may
    run in bf16: it ranks tokens, and every score is exact.

    A gradient so faint that its slopes would be no normal numbers counts as none: such numbers order nothing, and
    processors are slow at them.
    """
    peak = pull.abs().amax(1, keepdim=True)
    level = pull * torch.where(peak > FAINTEST, 1 / peak.clamp_min(FAINTEST), 0)
    table = _table(host)
    found = steady_linear(level.to(table.dtype), table).to(pull.dtype) * peak
    return found if direct is None else found + direct


FAINTEST = 1e-30
"""Of a gradient's greatest number, that which still counts."""

LARGE = 1_000_000
"""Numbers of an embedding matrix, from which on its product is worth another format."""


def _table(host: Host) -> Float[Tensor, "vocab d_model"]:
    """The embedding matrix as its product with gradients is fastest: a large one in bf16 where the hardware has
    instructions for it. The hardware decides, no clock: the same machine takes the same steps."""
    if host.W_E.dtype != torch.float32 or host.W_E.numel() < LARGE or not _multiplies_bf16(host.device):
        return host.W_E
    if "bf16" not in host.tables:
        host.tables["bf16"] = host.W_E.bfloat16()
    return host.tables["bf16"]


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


@dataclass(frozen=True, eq=False)
class Choices:
    """The tokens that sentences are drawn from, the most promising of every free position.

    Attributes:
        tokens: of every free position.
        live: which of them are open, Bool[free, choice].
        slope: that they were ranked by, Float[free, vocab].
    """

    tokens: Sequence[Sequence[int]]
    live: Bool[Tensor, "free choice"]
    slope: Float[Tensor, "free vocab"] | None = None


@dataclass(frozen=True, eq=False)
class Ranking:
    """What is to be ranked: the swaps of one text.

    Attributes:
        slope: of every token at the free positions, Float[free, vocab].
        own: the tokens that stand there.
        open: which swaps there are, Bool[free or 1, vocab]; those of `own` do not count.
        generator: draws what is ranked where no slope tells.
        top_k: tokens a position.
        before: the slopes on the way here, averaged; None where there was none.
        inertia: their weight.
    """

    slope: Tensor
    own: Sequence[int]
    open: Tensor
    generator: torch.Generator
    top_k: int
    before: Tensor | None = None
    inertia: float = 0.0


def ranked(items: Sequence[Ranking]) -> list[Choices]:
    """The most promising swaps of every position, of texts with the same `top_k` and `inertia`."""
    first, sizes = items[0], [len(item.own) for item in items]
    slope = joined([item.slope for item in items])
    if first.inertia and any(item.before is not None for item in items):
        before = joined([item.slope if item.before is None else item.before for item in items])
        slope = torch.lerp(slope, before, first.inertia)
    steep = slope.any(1).split(sizes)
    flat = [not told for told in torch.stack([some.any() for some in steep]).tolist()]
    climbed = slope
    if any(flat):  # where they are all alike, chance decides
        parts = zip(slope.split(sizes), items, flat, strict=True)
        climbed = joined([chance(some, item.generator) if none else some for some, item, none in parts])
    own = torch.tensor([token for item in items for token in item.own], device=slope.device)[:, None]
    mask = joined([item.open.expand(len(item.own), -1) for item in items])
    top = gains_of(climbed, own, mask).topk(min(first.top_k, slope.shape[1]), dim=1)
    live, tokens = (top.values > -math.inf).cpu().split(sizes), top.indices.tolist()
    found, at = [], 0
    for size, some, open_ones in zip(sizes, slope.split(sizes), live, strict=True):
        found.append(Choices(tokens[at : at + size], open_ones, some))
        at += size
    return found


def gains_of(
    slope: Float[Tensor, "some vocab"], own: Tensor, mask: Bool[Tensor, "*some vocab"]
) -> Float[Tensor, "some vocab"]:
    """What every swap changes to first order: a finite number where the swap is open, whatever its slope, and -inf
    elsewhere. So slopes order the swaps, and never decide which there are."""
    gains = (slope - slope.gather(1, own)).nan_to_num_()
    return gains.masked_fill_(~mask, -math.inf).scatter_(1, own, -math.inf)


def chance(slope: Tensor, generator: torch.Generator) -> Tensor:
    """Numbers of chance in a slope's place."""
    return torch.rand(slope.shape, generator=generator).to(slope)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """One below the other."""
    return parts[0] if len(parts) == 1 else torch.cat([*parts])


def together(asks: Sequence[Together], device: torch.device) -> list[Any]:
    """What each is sent, or what went wrong with it."""
    groups: dict[Hashable, list[int]] = {}
    for number, ask in enumerate(asks):
        alone = number if ask.large and not few_passes(device) else None
        groups.setdefault((ask.work, ask.alike, alone), []).append(number)
    found: list[Any] = [None] * len(asks)

    def answer(some: Sequence[int]) -> None:
        values = asks[some[0]].work([asks[number].own for number in some])
        for number, value in zip(some, values, strict=True):
            found[number] = value

    for numbers in groups.values():
        try:
            in_batches(numbers, len(numbers), answer)
        except Exception:
            for number in numbers:
                try:
                    answer([number])
                except Exception as error:
                    found[number] = error
    return found


def texts_read_back(items: Sequence[tuple[Vocabulary, Sequence[Ids]]]) -> list[list[Ids]]:
    """What the texts of tokens tokenize to."""
    return _dealt(items, items[0][0].read_back([ids for _, rows in items for ids in rows]))


def texts_that_return(items: Sequence[tuple[Vocabulary, Sequence[Ids]]]) -> list[list[bool]]:
    """Whether tokens come back from their text."""
    return _dealt(items, items[0][0].retokenizes([ids for _, rows in items for ids in rows]))


def _dealt(items: Sequence[tuple[Vocabulary, Sequence[Ids]]], answers: list) -> list[list]:
    found, at = [], 0
    for _, rows in items:
        found.append(answers[at : at + len(rows)])
        at += len(rows)
    return found


def drawn(
    ids: Ids, free: Sequence[int], choices: Choices, generator: torch.Generator, count: int, swaps: int
) -> list[Ids]:
    """Sentences with `swaps` words exchanged, drawn evenly from the tokens that are live."""
    live, width = choices.live, choices.live.shape[1]
    if swaps == 1:
        flat = live.flatten().float()
        picks = torch.multinomial(flat, min(count, int(flat.sum())), generator=generator)[:, None]
    else:
        slot = torch.multinomial(live.any(1).float().expand(count, -1), swaps, generator=generator)
        choice = torch.multinomial(live.float()[slot.flatten()], 1, generator=generator).view(slot.shape)
        picks = slot * width + choice
    found = []
    for row in picks.tolist():
        new = list(ids)
        for pick in row:
            new[free[pick // width]] = choices.tokens[pick // width][pick % width]
        found.append(tuple(new))
    return found


MERGED = (2, 3, 4, 6)
"""How many of a step's swaps are tried together."""


def merged(ids: Ids, height: float, values: Mapping[Ids, float]) -> list[Ids]:
    """The best swaps of a step together, at different positions: the best 2, the best 3, ... of those that help.

    Args:
        ids, height: where they were made, and how high that stands.
        values: how high each stands.
    """
    better: dict[int, tuple[float, int]] = {}
    for other, value in values.items():
        if value > height:
            for at, (new, old) in enumerate(zip(other, ids, strict=True)):
                if new != old and value > better.get(at, (-math.inf, 0))[0]:
                    better[at] = (value, new)
    best = sorted(better.items(), key=lambda item: -item[1][0])
    found = []
    for count in MERGED:
        if count <= len(best):
            both = list(ids)
            for at, (_, token) in best[:count]:
                both[at] = token
            found.append(tuple(both))
    return found
