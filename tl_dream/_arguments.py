"""Checks of arguments: whole numbers, finite numbers, layers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from operator import index
from typing import Any

from tl_dream._errors import require


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None, advice: str = "") -> int:
    """An option that counts something, as a plain int; True and 3.0 are no numbers here.

    Raises:
        DreamError: anything else, or out of range; `advice` ends the message (", or None").
    """
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    try:
        number = None if isinstance(value, bool) else index(value)
    except TypeError:
        number = None
    require(
        number is not None and least <= number and (most is None or number <= most),
        f"{name} = {value!r}: give a whole number {bounds}{advice}",
    )
    assert number is not None
    return number


def whole_fields(settings: Any, **least: int) -> None:
    """Make these fields of a frozen dataclass plain ints, which JSON can hold; see `whole_number`."""
    for name, low in least.items():
        object.__setattr__(settings, name, whole_number(name, getattr(settings, name), low))


def finite_number(magnitude: Any) -> float:
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


def finite_numbers(magnitudes: Any) -> list[float]:
    """Magnitudes from one number, a list, an array or a tensor.

    Raises:
        DreamError: none, or something that is no number.
    """
    several = isinstance(magnitudes, Iterable) and not isinstance(magnitudes, str)
    alone = not several or getattr(magnitudes, "shape", None) == ()
    sizes = [finite_number(magnitude) for magnitude in ([magnitudes] if alone else magnitudes)]
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
