"""Objectives are pickled as the calls that made them: what they are made of are functions inside functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from types import FunctionType, MethodType
from typing import Any, ParamSpec, TypeVar

import cloudpickle
import torch
from torch import Tensor

from tl_dream._errors import DreamError

P = ParamSpec("P")
T = TypeVar("T")


def remembered(make: Callable[P, T]) -> Callable[P, T]:
    """A function of this package whose objectives remember the call that made them, as their `made`."""

    @wraps(make)
    def made(*args: P.args, **options: P.kwargs) -> T:
        found = make(*args, **options)
        if getattr(found, "made", found) is None:
            object.__setattr__(found, "made", partial(made, *args, **options))
        return found

    return made


def repeated(call: partial[T]) -> partial[T]:
    """A call as pickle can take it: functions of the user's go along, where pickle alone would only name them."""
    options = {name: _by_value(value) for name, value in call.keywords.items()}
    return partial(call.func, *map(_by_value, call.args), **options)


def _by_value(value: Any) -> Any:
    return _ByValue(value) if isinstance(value, FunctionType | MethodType | partial) else value


def sketch(objective: Any) -> list[float] | None:
    """Two numbers that tell apart what objectives of one formula were made of (a direction, a target), of which it
    shows the size alone: their norm, and a projection, which rounding moves little. None where they hold no such.
    """
    parts = [part.detach().to("cpu", torch.float64).flatten().nan_to_num() for part in _arrays(objective)]
    if not parts:
        return None
    flat = torch.cat(parts)
    return [float(flat.norm()), float(flat @ torch.arange(1, len(flat) + 1, dtype=flat.dtype).sin())]


def _arrays(value: Any) -> Iterator[Tensor]:
    value = getattr(value, "made", None) or value
    if isinstance(value, partial):
        value = [*value.args, *value.keywords.values()]
    items = list(value.values()) if isinstance(value, Mapping) else value
    if hasattr(value, "dtype") or isinstance(items, list) and all(isinstance(one, int | float) for one in items):
        with suppress(TypeError, ValueError, RuntimeError):  # no numbers
            yield torch.as_tensor(items)
    elif isinstance(items, list | tuple):
        for one in items:
            yield from _arrays(one)


@dataclass(frozen=True)
class _ByValue:
    function: Any

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return cloudpickle.loads, (cloudpickle.dumps(self.function),)
        except Exception as error:
            raise DreamError(
                f"an objective made of {self.function!r} can't be pickled: the function holds on to something that "
                f"stays in this process ({error}). Make that inside the function"
            ) from error
