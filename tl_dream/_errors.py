"""The one public exception, and the helpers that build messages a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from operator import index
from typing import Any


class DreamError(ValueError):
    """A mistake in what was asked for, or a model that cannot answer it.

    The message says what was given, what was expected and what to do next. Where work was under way, `partial` holds
    the result so far (for instance a `Dream` whose scores became NaN half way); otherwise it is None.
    """

    def __init__(self, message: str, partial: Any = None) -> None:
        super().__init__(message)
        self.partial = partial


def nearest(name: str, options: Iterable[str], count: int = 4) -> list[str]:
    """The `count` options most like `name`, best first; case is ignored and a shared substring counts as likeness."""
    pool = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower(), pool, n=count, cutoff=0.5)
    if len(close) < count:
        inside = [low for low in pool if low not in close and (name.lower() in low or low in name.lower())]
        close += sorted(inside, key=lambda low: abs(len(low) - len(name)))[: count - len(close)]
    return [pool[low] for low in close]


def unknown(kind: str, given: object, options: Iterable[str], advice: str = "") -> DreamError:
    """The error for a name that is not among `options`: it lists the nearest real names."""
    options = list(options)
    close = nearest(str(given), options) or options[:6]
    listed = ", ".join(close) if close else "none"
    return DreamError(f"unknown {kind} {given!r}; nearest: {listed}" + (f". {advice}" if advice else ""))


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


def require(condition: bool, message: str) -> None:
    """Raise `DreamError(message)` unless `condition` holds."""
    if not condition:
        raise DreamError(message)
