"""What surrounds a call: torch's settings and other threads. A call gives what it gives alone, and leaves both as found.

Some settings belong to a thread (autocast, the default device, gradients), some to the whole process (the default
dtype, the precision of matrix products), and a model has one set of hooks and modes for all threads. What is shared is
changed by the first call that needs it otherwise and comes back when the last such call is over.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy
import torch

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
    products = [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
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
