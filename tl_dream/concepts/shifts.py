"""Changes of an activation at some of its positions, whatever its layout."""

from __future__ import annotations

import math
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from tl_dream._arguments import is_whole, listed, plain, sliced, unmasked
from tl_dream._errors import require
from tl_dream.text import Positions


def with_change(activation: Tensor, width: int, pos: Positions, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A copy with `change` done to the rows [..., unit] at some positions.

    Args:
        activation: [pos, unit] or [batch, pos, unit], or with an axis of heads before the units.
        width: units of a row, heads counted through.
        pos: by number; None for all of them.

    Raises:
        DreamError: another width, or a position that is not there.
    """
    require(isinstance(activation, Tensor), f"an activation is a tensor, not {type(activation).__name__}")
    shape = tuple(activation.shape)
    tails = [n for n in (1, 2) if activation.ndim > n and math.prod(shape[-n:]) == width]
    require(
        bool(tails),
        f"an activation of shape {shape} does not fit the concept, which has {width} units: give [pos, {width}] or "
        f"[batch, pos, {width}]",
    )
    flat = activation.flatten(-tails[0])
    chosen = positions_of(pos, flat.shape[-2])
    result = flat.clone()
    result[..., chosen, :] = change(flat[..., chosen, :])
    return result.reshape(shape)


def projected(activation: Float[Tensor, "*rows unit"], direction: Float[Tensor, " unit"]) -> Float[Tensor, "*rows"]:
    """`activation @ direction`, but no matrix product, which an autocast around the user's pass would round to bf16."""
    return (activation * direction.to(activation)).sum(-1)


def positions_of(pos: Positions, length: int) -> list[int]:
    """Positions by number of a row of `length`, without knowing its words.

    Raises:
        DreamError: a word, or a position that is not there.
    """
    given = plain(pos)
    if given is None or given == "all":
        return list(range(length))
    if isinstance(given, slice):
        found = sliced(given, length)
        require(bool(found), f"the slice {given} holds none of the {length} positions")
        return found
    numbers = unmasked(listed(given), length, "positions")
    require(bool(numbers), "no position given: name at least one")
    for item in numbers:
        require(is_whole(item), f"{item!r} is no position by number: an activation does not know its words")
        require(-length <= item < length, f"position {item} is outside the activation, which has {length}")
    return sorted({item % length for item in numbers})
