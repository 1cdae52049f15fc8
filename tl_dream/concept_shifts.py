"""Changes of an activation at some of its positions, whatever its layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from numbers import Real
from operator import index
from typing import Any

from torch import Tensor

from tl_dream._errors import require
from tl_dream.prompts import Positions


def changed(activation: Tensor, width: int, pos: Positions, change: Callable[[Tensor], Tensor]) -> Tensor:
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
    chosen = where(pos, flat.shape[-2])
    result = flat.clone()
    result[..., chosen, :] = change(flat[..., chosen, :])
    return result.reshape(shape)


def where(pos: Positions, length: int) -> list[int]:
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


def finite(magnitude: Any) -> float:
    """A magnitude as a plain number; arrays and tensors of no axis are numbers too.

    Raises:
        DreamError: anything else, NaN or infinity.
    """
    known = isinstance(magnitude, Real) or getattr(magnitude, "shape", None) == ()
    require(
        known and not isinstance(magnitude, bool) and math.isfinite(magnitude),
        f"magnitude = {magnitude!r}: give a number, in natural units",
    )
    return float(magnitude)


def numbers_of(magnitudes: Any) -> list[float]:
    """Magnitudes from one number, a list, an array or a tensor.

    Raises:
        DreamError: none, or something that is no number.
    """
    several = isinstance(magnitudes, Iterable) and not isinstance(magnitudes, str)
    alone = not several or getattr(magnitudes, "shape", None) == ()
    sizes = [finite(magnitude) for magnitude in ([magnitudes] if alone else magnitudes)]
    require(bool(sizes), "no magnitude given: name at least one, in natural units")
    return sizes


def layers_of(layers: Any) -> list[int]:
    """Layers from one number or several, each once, in their order.

    Raises:
        DreamError: none, or something that is no whole number.
    """
    several = isinstance(layers, Iterable) and not isinstance(layers, str)
    found: dict[int, None] = {}
    for layer in layers if several else [layers]:
        whole = hasattr(layer, "__index__") and not isinstance(layer, bool)
        require(whole, f'layers = {layers!r}: give "all", a layer by number, or a list of them')
        found[index(layer)] = None
    require(bool(found), 'no layer given: name at least one, or "all"')
    return list(found)
