"""What surrounds a call: torch's settings, other threads, hooks. A call gives what it gives alone and leaves no trace.

Some settings belong to a thread (autocast, the default device, gradients), some to the whole process (the default
dtype, the precision of matrix products), and a model has one set of hooks and modes for all threads. What is shared is
changed by the first call that needs it otherwise and comes back when the last such call is over.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

import numpy
import torch
from torch import nn

P = ParamSpec("P")
T = TypeVar("T")

_LOCK = threading.RLock()
"""Of the books below; never held while something is computed."""

Undo = Callable[[], object]


class Shared:
    """Something of which all threads have but one."""

    def __init__(self) -> None:
        self._inside: dict[int, int] = {}  # thread -> calls it is in
        self._undo: list[Undo] = []
        self.lock = threading.RLock()  # for what one thread at a time may do with it

    @contextmanager
    def changed(self, change: Callable[[], list[Undo]]) -> Iterator[None]:
        """Changed for the length of a block: `change` changes what isn't yet, and says how to undo it. A call inside a
        call of the same thread (a callback that scores) undoes its own changes; else the last thread out undoes all."""
        me = threading.get_ident()
        with _LOCK:
            undo = change()
            nested = me in self._inside
            self._inside[me] = self._inside.get(me, 0) + 1
            if not nested:
                self._undo += undo
        try:
            yield
        finally:
            with _LOCK:
                self._inside[me] -= 1
                if not self._inside[me]:
                    del self._inside[me]
                if not self._inside:
                    undo, self._undo = self._undo, []
                if nested or not self._inside:
                    for step in reversed(undo):
                        step()


_PROCESS = Shared()
_MODELS: weakref.WeakKeyDictionary[Any, Shared] = weakref.WeakKeyDictionary()


@contextmanager
def isolated() -> Iterator[None]:
    """torch as a fresh process has it, whatever the user's blocks and settings around a call say: float32 and the CPU
    where nothing is named, no autocast, gradients on, no inference mode, float32 matrix products in float32."""
    with ExitStack() as stack:
        stack.enter_context(_PROCESS.changed(_plain))
        for kind in ("cpu", "cuda", "mps", "xpu"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(numpy.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
        yield


_ALONE = threading.RLock()


def alone(function: Callable[P, T]) -> Callable[P, T]:
    """Isolated, and one thread at a time: transformers loads a model by settings of the whole process."""

    @wraps(function)
    def guarded(*args: P.args, **options: P.kwargs) -> T:
        with _ALONE, isolated():
            return function(*args, **options)

    return guarded


def _plain() -> list[Undo]:
    """The settings of the whole process."""
    undo: list[Undo] = []
    dtype = torch.get_default_dtype()
    if dtype != torch.float32:
        torch.set_default_dtype(torch.float32)
        undo.append(partial(torch.set_default_dtype, dtype))
    if "torch._dynamo" in sys.modules:  # not imported for its own sake: where nothing was compiled it may be missing
        stance = torch.compiler.set_stance("force_eager")
        undo.append(partial(stance.__exit__, None, None, None))
    backends: Any = torch.backends
    products = [backends.cuda.matmul, getattr(backends.mkldnn, "matmul", None)]
    if not all(hasattr(product, "fp32_precision") for product in products):  # torch before 2.9
        precision = torch.get_float32_matmul_precision()
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
            undo.append(partial(torch.set_float32_matmul_precision, precision))
        return undo
    for product in products:
        if (precision := product.fp32_precision) not in ("ieee", "none"):
            product.fp32_precision = "ieee"
            undo.append(partial(setattr, product, "fp32_precision", precision))
    return undo


def shared(model: Any) -> Shared:
    """What all threads have of a model. Bridges over one Hugging Face model share its modules."""
    key = getattr(model, "original_model", model)
    with _LOCK:
        return _MODELS.setdefault(key, Shared())


def in_evaluation(model: Any) -> list[Undo]:
    """Every module of a model in evaluation mode; a bridge hides some of its modules."""
    roots = (model, getattr(model, "original_model", model))
    training = [module for module in dict.fromkeys(m for root in roots for m in root.modules()) if module.training]
    for module in training:
        module.training = False
    return [partial(setattr, module, "training", True) for module in training]


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


def user_hooks(model: Any) -> tuple[str, ...]:
    """The names of the modules (hook points are some) that a forward hook of the user's is on; "every module" where
    one is on all of them."""
    everywhere = torch.nn.modules.module
    found = ["every module"] * bool(everywhere._global_forward_hooks or everywhere._global_forward_pre_hooks)
    for name, module in model.named_modules():
        hooks = [hook for kind in KINDS_OF_HOOKS for hook in tuple(getattr(module, kind).values())]
        if any(map(_is_users, hooks)):
            point = getattr(module, "name", None) if hasattr(module, "fwd_hooks") else None
            found.append(point or name or type(module).__name__)  # a bridge's points are not where their names say
    return tuple(found)


IN_A_BRIDGE = (nn.Linear, nn.LayerNorm, nn.Dropout, nn.Embedding, nn.ModuleList)
"""torch's own in the transformers model that a bridge goes through."""

STREAM = ("embed", "token_type_embed", "pos_embed", "embed_ln", "blocks")
"""What the residual stream goes through; a head may be anything."""


def as_made(model: Any) -> bool:
    """Whether a model's embeddings and blocks hold what TransformerLens made alone, and a bridge's transformers model:
    no ablation (`nn.Identity`), no adapter, no quantised layer, no forward method of somebody's."""
    bridge = hasattr(model, "original_model")
    homes = ("transformer_lens", "transformers") if bridge else ("transformer_lens",)
    return all(
        "forward" not in vars(module)
        and (type(module).__module__.partition(".")[0] in homes or bridge and type(module) in IN_A_BRIDGE)
        for name in STREAM
        if hasattr(model, name)
        for module in getattr(model, name).modules()
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
    """A hook of our own for the length of a block and for this thread; that very handle is removed after, wherever
    Ctrl-C falls."""
    mine: list[Any] = []

    def remove() -> None:
        with _POINTS:
            for handle in mine:
                handle.hook.remove()
            point.fwd_hooks[:] = [h for h in point.fwd_hooks if all(h is not one for one in mine)]

    try:
        with _POINTS:
            known = {id(handle) for handle in point.fwd_hooks}
            try:
                point.add_hook(_ThisThread(function), is_permanent=True, prepend=prepend)
            finally:  # transformer-lens 3 does not return it
                mine += [h for h in point.fwd_hooks if id(h) not in known]
        yield
    finally:
        try:
            remove()
        except KeyboardInterrupt:
            remove()
            raise
