"""A unit behind a non-linearity is climbed by what comes before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tl_dream.objectives.objective import Activations, BatchContext, Objective, Read, Score
from tl_dream.text import Positions

BEFORE = {  # the end of a hook's name: that of the hook before its activation function, unit for unit
    "mlp_post": "mlp_pre",
    "mlp.hook_post": "mlp.hook_pre",
    "mlp.out.hook_in": "mlp.in.hook_out",
    "hook_sae_acts_post": "hook_sae_acts_pre",
}


REDUCTIONS = ("mean", "max", "min")


def preactivation(read: Read) -> Read | None:
    """What is read before the activation function that a hook lies behind; None where it lies behind none."""
    for end, earlier in BEFORE.items():
        if read.hook == end or read.hook.endswith("." + end):
            return Read(read.hook.removesuffix(end) + earlier, read.layer)
    return None


def in_place_of(
    read: Read, values: Callable[[Read, Activations, BatchContext], Tensor], pos: Positions, reduce: str, formula: str
) -> dict[str, Any]:
    """What a search climbs in place of an objective on activations behind their activation function, as options of
    `Objective`: the value itself where it is on, what comes before it where it is off.

    Args:
        values: of a hook, at every position.
    """
    earlier = preactivation(read)
    if earlier is None:
        return {}

    def tokens(acts: Activations, rows: BatchContext) -> Tensor:
        before = values(earlier, acts, rows)
        return torch.where(before > 0, values(read, acts, rows), before)

    return climbed_while_off(lambda acts, rows: values(read, acts, rows), tokens, pos, reduce, (read, earlier), formula)


def climbed_while_off(
    on: Score, tokens: Score, pos: Positions, reduce: str, reads: tuple[Read, ...], formula: str
) -> dict[str, Any]:
    """What a search climbs in place of an objective that may be off, as options of `Objective`.

    Args:
        on: at every position what the objective is made of.
        tokens: the same where it is on, and something at most 0 where it is off.
    """
    name = f"{formula} from before its activation function"
    if reduce != "mean":
        return {"uphill": reduced(tokens, pos, reduce, reads, name), "off": 0.0}
    highest = reduced(tokens, pos, "max", reads, name)  # as long as no position is on
    mean = reduced(on, pos, "mean", reads, name)

    def score(acts: Activations, rows: BatchContext) -> Tensor:
        top = highest(acts, rows)
        return torch.where(top > 0, mean(acts, rows), top)

    return {"uphill": Objective(reads, name, score), "off": 0.0}


def reduced(tokens: Score, pos: Positions, reduce: str, reads: tuple[Read, ...], formula: str) -> Objective:
    """An objective from values at every position: their mean, maximum or minimum over the positions `pos` means."""

    def score(acts: Activations, rows: BatchContext) -> Tensor:
        values = tokens(acts, rows).expand(rows.mask.shape)  # position embeddings come once for all rows
        index, valid = rows.locate(pos)
        chosen = values.gather(1, index)
        if valid.shape[1] == 1:
            return chosen[:, 0]
        if reduce == "max":
            return chosen.masked_fill(~valid, -torch.inf).amax(1)
        if reduce == "min":
            return chosen.masked_fill(~valid, torch.inf).amin(1)
        return chosen.masked_fill(~valid, 0).sum(1) / valid.sum(1)

    return Objective(reads, formula, score, tokens, (pos, reduce))
