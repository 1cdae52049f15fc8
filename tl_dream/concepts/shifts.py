"""Changes of an activation at some of its positions, whatever its layout."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

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


def positions_of(pos: Positions, length: int) -> list[int]:
    """Positions by number of a row of `length`, without knowing its words.

    Raises:
        DreamError: a word, or a position that is not there.
    """
    if pos is None or pos == "all":
        return list(range(length))
    if isinstance(pos, slice):
        found = list(range(length))[pos]
        require(bool(found), f"the slice {pos} holds none of the {length} positions")
        return found
    given = [pos] if isinstance(pos, int | str) else list(pos)
    for item in given:
        require(
            isinstance(item, int),
            f"{item!r} is no position by number: an activation does not know its words",
        )
    numbers = [item for item in given if isinstance(item, int)]
    for item in numbers:
        require(-length <= item < length, f"position {item} is outside the activation, which has {length}")
    require(bool(numbers), "no position given: name at least one")
    return sorted({item % length for item in numbers})
