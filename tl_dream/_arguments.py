"""Checks of arguments, one set for every door: whole numbers, numbers, lists of them, masks, layers.

numpy and torch count as Python does: what has `__index__` is a whole number, an array or tensor of no axis is a number,
any other a list. True and False are no numbers. And what a file must hold besides the right types (`check_*`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import index
from typing import TYPE_CHECKING, Any, SupportsFloat, SupportsIndex

from tl_dream._errors import require, unknown

Whole = SupportsIndex
"""A whole number, whoever's."""

Number = SupportsFloat
"""A number, whoever's."""

if TYPE_CHECKING:  # what a field of checked settings holds
    WholeField = int
    NumberField = float
else:  # what it may be given
    WholeField, NumberField = Whole, Number

LARGEST = 2**63 - 1
"""No whole number is larger, so that all fit a processor's."""

MOST_STARTS = 100_000
"""Starts of a search, which are held in one batch."""

NATURAL = "a number, in natural units"


def plain(value: Any) -> Any:
    """A value in Python's own numbers, lists and slices, whatever counted it (numpy, torch, pandas, a range); text,
    None and what is none of these as it is."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, slice):
        return slice(plain(value.start), plain(value.stop), plain(value.step))
    if isinstance(value, type):
        return value
    if hasattr(value, "tolist"):
        try:
            return plain(value.tolist())
        except (TypeError, ValueError, RuntimeError):  # a tensor without numbers (meta, sparse)
            return value
    if isinstance(value, str):
        return str(value)
    if hasattr(value, "__index__"):
        return index(value)
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray | Mapping):
        return [plain(item) for item in value]
    return value


def is_whole(value: Any) -> bool:
    """Whether a plain value is a whole number."""
    return type(value) is int


def one_of(kind: str, given: Any, options: Iterable[str], advice: str = "") -> str:
    """A name among `options`.

    Raises:
        DreamError: anything else; it lists the nearest real names.
    """
    if not (isinstance(given, str) and given in options):
        raise unknown(kind, given, options, advice)
    return given


def flag(name: str, value: Any) -> bool:
    """An option that is on or off, as a plain bool."""
    given = plain(value)
    require(isinstance(given, bool), f"{name} = {value!r}: give True or False")
    return bool(given)


def whole_number(name: str, value: Any, least: int = 1, most: int | None = None, advice: str = "") -> int:
    """An option that counts something, as a plain int; True and 3.0 are no numbers here.

    Raises:
        DreamError: anything else, or out of range; `advice` ends the message (", or None").
    """
    bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
    number = plain(value)
    require(
        is_whole(number) and least <= number <= (LARGEST if most is None else most),
        f"{name} = {value!r}: give a whole number {bounds}{advice}",
    )
    return int(number)


def whole_fields(settings: Any, **least: int) -> None:
    """Make these fields of a frozen dataclass plain ints, which JSON can hold; see `whole_number`."""
    for name, low in least.items():
        object.__setattr__(settings, name, whole_number(name, getattr(settings, name), low))


def check_callable(name: str, function: Any, wanted: str) -> None:
    """Raise unless it is None, or can be called."""
    require(function is None or callable(function), f"{name} = {function!r:.80}: give {wanted}, or None")


def seed_number(seed: Any) -> int:
    """The seed of a random generator."""
    return whole_number("seed", seed, 0, LARGEST)


def as_number(value: Any) -> float | None:
    """A finite number as a plain one, None where it is none."""
    number = plain(value)
    if isinstance(number, bool) or not isinstance(number, SupportsFloat):
        return None
    try:
        found = float(number)
    except (TypeError, ValueError, ArithmeticError, RuntimeError):  # too large, or no number for all its __float__
        return None
    return found if math.isfinite(found) else None


def finite_number(
    name: str, value: Any, wanted: str = "a finite number", fits: Callable[[float], bool] = lambda number: True
) -> float:
    """A number as a plain one.

    Args:
        wanted: for the message ("give ...").
        fits: what else it must be.

    Raises:
        DreamError: anything else, NaN or infinity.
    """
    number = as_number(value)
    require(number is not None and fits(number), f"{name} = {value!r}: give {wanted}")
    assert number is not None
    return number


def finite_fields(settings: Any, wanted: str, fits: Callable[[float], bool], *names: str) -> None:
    """Make these fields of a frozen dataclass plain floats; see `finite_number`."""
    for name in names:
        object.__setattr__(settings, name, finite_number(name, getattr(settings, name), wanted, fits))


def finite_numbers(
    name: str, values: Any, wanted: str, fits: Callable[[float], bool] = lambda number: True
) -> list[float]:
    """One number or several, as a list; arguments as in `finite_number`, of each.

    Raises:
        DreamError: none, or one that does not fit.
    """
    given = listed(values)
    require(bool(given), f"no {name} given: name at least one, each {wanted}")
    return [finite_number(name, value, wanted, fits) for value in given]


def listed(values: Any) -> list[Any]:
    """One value or several (a list, a tuple, an array), as a list of plain ones."""
    given = plain(values)
    return given if isinstance(given, list) else [given]


def sliced(given: slice, length: int) -> list[int]:
    """The places that a plain slice takes of so many; none where its bounds are no whole numbers."""
    bounds = (given.start, given.stop, given.step)
    whole = all(bound is None or is_whole(bound) for bound in bounds) and given.step != 0
    return list(range(length))[given] if whole else []


def unmasked(given: list[Any], length: int, what: str) -> list[Any]:
    """The numbers of the places where a mask is True; a list that is no mask as it is.

    Raises:
        DreamError: a mask of another length.
    """
    if not given or not all(isinstance(item, bool) for item in given):
        return given
    require(len(given) == length, f"a mask of {len(given)} for {length} {what}: give True or False for each")
    return [i for i, on in enumerate(given) if on]


def layers_of(layers: Any) -> list[int]:
    """Layers from one number or several, each once, in their order.

    Raises:
        DreamError: none, or something that is no whole number.
    """
    found = listed(layers)
    require(bool(found), 'no layer given: name at least one, or "all"')
    require(all(map(is_whole, found)), f'layers = {layers!r}: give "all", a layer by number, or a list of them')
    return list(dict.fromkeys(found))


def check_lengths(made: Any, *names: str) -> None:
    """Raise ValueError unless these parts of a dataclass are as long as each other."""
    lengths = {name: len(getattr(made, name)) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{type(made).__name__}: parts that go with each other differ in length: {lengths}")


def check_that(condition: bool, name: str, value: Any, wanted: str) -> None:
    """Raise ValueError unless a value of a file can stand with the others there."""
    if not condition:
        raise ValueError(f"{name} = {value!r:.60} is not {wanted}")


def check_places(name: str, places: Sequence[int], length: int) -> None:
    """Raise ValueError unless these are positions of a sentence of so many tokens."""
    check_that(all(0 <= pos < length for pos in places), name, places, f"among the positions 0 to {length - 1}")
