"""Objectives made of others, or of your own function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from tl_dream._errors import require
from tl_dream.objectives.objective import TOKENS, Activations, BatchContext, Objective, Read
from tl_dream.objectives.preactivations import reduced


def normalized(objective: Objective) -> Objective:
    """An objective divided, at every word, by that word's L2 norm over all layers (the article's "normalize").

    The norm is over `block_out` of every layer at once; the result is dimensionless and comparable between layers.
    Fluency stays as it is.

    Args:
        objective: one that has a value at every position (not your own function of activations).

    Examples:
        >>> goal = td.normalized(td.neuron("block_out", layer=1, unit=5, pos=2))
        >>> td.score(bert, goal, "the red dog").abs() < 1
        tensor([True])
    """
    require(isinstance(objective, Objective), f"an objective was expected, not {type(objective).__name__}")
    if TOKENS in objective.reads and not objective.terms:
        return objective  # fluency is no activation
    every = Read("block_out", "all")
    tokens = objective.per_token
    if tokens is None and objective.terms:
        first, *others = (normalized(term) for term in objective.terms)
        return replace(sum(others, first), formula=f"normalized({objective})")
    require(
        tokens is not None,
        f"normalized({objective}) needs a value at every position, and this objective has none: climb it as it is "
        "(normalize=False)",
    )
    assert tokens is not None
    inner = tokens

    def ratio(acts: Activations, rows: BatchContext) -> Tensor:
        norm = acts[every].square().sum((0, 3)).sqrt()
        return inner(acts, rows) / norm

    reads = tuple(dict.fromkeys((*objective.reads, every)))
    made = reduced(ratio, *objective.where, reads, f"normalized({objective})")
    up = objective.uphill
    return made if up is None or up.per_token is None else replace(made, uphill=normalized(up))


def custom(
    function: Callable[[dict[str, Tensor]], Tensor],
    hooks: Mapping[str, Any],
    *,
    name: str | None = None,
) -> Objective:
    """Your own function of named activations.

    Args:
        function: receives {your name: activation [batch, pos, ...]} and returns one score per row, Float[batch].
            Rows are never padded, so position -1 is the last token.
        hooks: {your name: full hook name, or (short name, layer)}.
        name: how it prints; the default is the function's name.

    Examples:
        >>> squared = td.custom(lambda acts: acts["h"][:, 1, 5] ** 2, {"h": ("block_out", 1)}, name="squared")
        >>> td.score(bert, squared, "the red dog") >= 0
        tensor([True])
    """
    require(
        isinstance(hooks, Mapping) and bool(hooks), "custom() needs the hooks its function reads: give {name: hook}"
    )
    reads = {}
    for key, value in hooks.items():
        pair = isinstance(value, tuple | list)
        require(not pair or len(value) == 2, f"the hook {key!r} is {value!r}: give a full name, or (short name, layer)")
        reads[key] = Read(*value) if pair else Read(value)

    def score(acts: Activations, rows: BatchContext) -> Any:  # what a user's function gives is checked by the objective
        return function({key: acts[read] for key, read in reads.items()})

    require(callable(function), f"function = {function!r}: give a function of activations by name")
    label = str(getattr(function, "__name__", "custom") if name is None else name)
    return Objective(tuple(reads.values()), label, score, None, equal_lengths=True)
