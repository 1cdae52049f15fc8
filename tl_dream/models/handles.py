"""Forward hooks of a model: our own for the length of a block, and the user's, which stay where they are."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

KINDS_OF_HOOKS = ("_forward_pre_hooks", "_forward_hooks")


_POINTS = threading.Lock()
"""Held while hooks are put on or taken off."""
_OWN = "a hook of tl_dream's for thread "


def _own() -> str:
    return f"{_OWN}{threading.get_ident()}"


@dataclass(frozen=True, repr=False)
class _ThisThread:
    """A hook that acts in the thread that made it: others may run the same model meanwhile."""

    function: Callable[..., Any]
    name: str = field(default_factory=_own)

    def __repr__(self) -> str:
        return self.name

    def __call__(self, activation: Any, hook: Any = None) -> Any:
        return self.function(activation, hook=hook) if self.name == _own() else None


def _is_users(hook: Any) -> bool:
    """TransformerLens' bridge and transformers wire some hooks of their own, which only pass values on, and other
    threads have theirs, which do nothing in this one."""
    origin, name = str(getattr(hook, "__module__", "")), str(getattr(hook, "__name__", ""))
    through_point = origin == "transformer_lens.hook_points"  # somebody's function, its repr is the name
    passive = "_wire_symbolic_hooks" in name or (name.startswith(_OWN) and name != _own())
    return not (passive if through_point else origin.startswith(("transformer_lens.", "transformers.")))


def user_hooks(model: Any) -> bool:
    """Whether a forward hook of the user's is on the model, or on all modules."""
    everywhere = torch.nn.modules.module
    if everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks:
        return True
    return any(
        _is_users(hook)
        for module in model.modules()
        for kind in KINDS_OF_HOOKS
        for hook in tuple(getattr(module, kind).values())
    )


@contextmanager
def without_user_hooks(model: Any) -> Iterator[None]:
    """A pass that the user's hooks neither see nor change; the very same hooks are back in their order after."""
    kept: list[tuple[Any, str, Any]] = []
    try:
        for module in model.modules():
            for kind in KINDS_OF_HOOKS:
                hooks = getattr(module, kind)
                if any(_is_users(hook) for hook in hooks.values()):
                    kept.append((module, kind, hooks))
                    rest = OrderedDict((key, hook) for key, hook in hooks.items() if not _is_users(hook))
                    setattr(module, kind, rest)
        yield
    finally:
        for module, kind, hooks in kept:
            setattr(module, kind, hooks)


@contextmanager
def owned_hook(point: Any, function: Callable[..., Any], prepend: bool = False) -> Iterator[None]:
    """A hook of our own for the length of a block and for this thread; that very handle is removed after."""
    with _POINTS:
        known = {id(handle) for handle in point.fwd_hooks}
        handle = point.add_hook(_ThisThread(function), is_permanent=True, prepend=prepend)
        if handle is None:  # transformer-lens 3 does not return it
            handle = next(h for h in point.fwd_hooks if id(h) not in known)
    try:
        yield
    finally:
        with _POINTS:
            handle.hook.remove()
            point.fwd_hooks[:] = [h for h in point.fwd_hooks if h is not handle]
