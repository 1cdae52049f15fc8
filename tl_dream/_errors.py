"""The one public exception, and the helpers that build messages a user can act on."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


class DreamError(ValueError):
    """A mistake in what was asked for, or a model that cannot answer it.

    The message says what was given, what was expected and what to do next. Where work was under way, `partial` holds
    the result so far (for instance a `Dream` whose scores became NaN half way); otherwise it is None. A
    `KeyboardInterrupt` (Ctrl-C) brings the result so far in the same way.
    """

    def __init__(self, message: str, partial: Any = None) -> None:
        super().__init__(message)
        self.partial = partial


@contextmanager
def keeping(partial: Callable[[Any, str], Any]) -> Iterator[None]:
    """Where Ctrl-C or an error ends the block, it brings the result so far with it, as its `partial`.

    Args:
        partial: gives that, of what the error brings from further inside (or None) and of why it all stopped:
            "interrupted" or "failure". A second Ctrl-C ends this as well; whatever else goes wrong here counts less
            than what ended the block.
    """
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        ended: Any = error
        inner, ended.partial = getattr(ended, "partial", None), None
        with suppress(Exception):
            ended.partial = partial(inner, why(error))
        raise


def why(error: BaseException) -> str:
    """Why a run stopped that this ended, as results tell it."""
    return "interrupted" if isinstance(error, KeyboardInterrupt) else "failure"


LONGEST_NAME = 100


def shortened(text: str, most: int = LONGEST_NAME) -> str:
    """A text as a message quotes it."""
    return text if len(text) <= most else text[: most - 3] + "..."


def nearest(name: str, options: Iterable[str], count: int = 4) -> list[str]:
    """The `count` options most like `name`, best first; case is ignored and a shared substring counts as likeness."""
    name = name[:LONGEST_NAME]  # of a whole text the comparison would take minutes
    pool = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower(), pool, n=count, cutoff=0.6)
    if len(close) < count:
        inside = [low for low in pool if low not in close and min(len(low), len(name)) > 2]
        inside = [low for low in inside if name.lower() in low or low in name.lower()]
        close += sorted(inside, key=lambda low: abs(len(low) - len(name)))[: count - len(close)]
    return [pool[low] for low in close]


def unknown(kind: str, given: object, options: Iterable[str], advice: str = "") -> DreamError:
    """The error for a name that is not among `options`: it lists the nearest real names."""
    options = list(options)
    close = nearest(str(given), options) or options[:6]
    listed = ", ".join(close) if close else "none"
    return DreamError(f"unknown {kind} {shortened(repr(given))}; nearest: {listed}" + (f". {advice}" if advice else ""))


def require(condition: bool, message: str) -> None:
    """Raise `DreamError(message)` unless `condition` holds."""
    if not condition:
        raise DreamError(message)
