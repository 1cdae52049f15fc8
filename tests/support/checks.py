"""What the tests watch every function of the package with: its types by beartype, its shapes by jaxtyping.

jaxtyping's own hook checks the arguments of every function twice and keeps a list of axes for each, the functions whose
annotations name none included: a third of the suite's time. Here a function without shapes has its types checked only.
A function inside another is made anew at every call of that; only the first few of its kind are watched. Of all others
the first calls in every test are: the thousandth is like them, and it would take as long.
"""

import dataclasses
import functools
import inspect
import typing
from collections import Counter
from collections.abc import Callable
from types import CodeType
from typing import Any

import beartype
import jaxtyping

# PEP 484's tower: wherever a float is asked for, an int will do. What a damaged file holds meets these checks before
# Python's own, and they raise TypeError as that does.
_typed = beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
_shaped = jaxtyping.jaxtyped

_WATCHED = 4
"""So many of a function inside another."""

_LOOKED = 16
"""Calls of a function in one test."""

_made: Counter[CodeType] = Counter()
_test = 0


def next_test() -> None:
    """Look at the first calls of every function anew."""
    global _test
    _test += 1


def _axes(annotation: object) -> list[str]:
    """The axes that an annotation names, of each tensor in it."""
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return [annotation.dim_str]
    return [axes for part in typing.get_args(annotation) for axes in _axes(part)]


def _known(annotation: object, names: dict[str, Any]) -> object:
    """The type that a string means; anything goes where its names are not there yet."""

    def carrier() -> None: ...

    carrier.__annotations__ = {"value": annotation}
    try:
        return typing.get_type_hints(carrier, names, include_extras=True)["value"]
    except Exception:  # whatever the evaluation of a string may raise
        return Any


def checking(*, typechecker: object) -> Callable[[Any], Any]:
    """Takes the place of `jaxtyping.jaxtyped` in its import hook."""
    return checked


def checked(fn: Any) -> Any:
    """A function or dataclass that is watched."""
    if inspect.isclass(fn):
        if dataclasses.is_dataclass(fn) and "__init__" in vars(fn) and not hasattr(fn.__init__, "__wrapped__"):
            fn.__init__ = checked(fn.__init__)  # type: ignore[misc]
        return fn
    if "<locals>" in fn.__qualname__:
        _made[fn.__code__] += 1
        if _made[fn.__code__] > _WATCHED:
            return fn
    fn.__annotations__ = {name: _known(what, fn.__globals__) for name, what in fn.__annotations__.items()}
    return _watched(fn, _typed(fn), [axes for what in fn.__annotations__.values() for axes in _axes(what)])


def _watched(plain: Callable[..., Any], typed: Callable[..., Any], axes: list[str]) -> Callable[..., Any]:
    """The checks stop where jaxtyping's do: see the fixture `unchecked`."""
    if not axes:
        inner = typed
    elif inspect.isgeneratorfunction(plain) or any("{" in one for one in axes):
        inner = _shaped(plain, typechecker=_typed)  # what begins later, and an axis that is named after an argument
    else:

        def inner(*args: Any, **kwargs: Any) -> Any:
            with _shaped("context"):
                return typed(*args, **kwargs)

    test, left = _test, _LOOKED

    @functools.wraps(plain)
    def either(*args: Any, **kwargs: Any) -> Any:
        nonlocal test, left
        if test != _test:
            test, left = _test, _LOOKED
        if not left or jaxtyping.config.jaxtyping_disable:
            return plain(*args, **kwargs)
        left -= 1
        return inner(*args, **kwargs)

    return either
