"""Which positions a position of a model sees: asked of the model itself, never of its name."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from tl_dream._errors import DreamError
from tl_dream.models.isolation import owned_hook, shared, without_user_hooks

CAUSAL, MASKED, UNMASKED = "causal", "masked", "unmasked"
"""Only those before it; all, and padding can be masked; all, and no mask is heeded."""

_PROBED: weakref.WeakKeyDictionary[Any, tuple[str, str]] = weakref.WeakKeyDictionary()
FAINT = 1e-3
"""Of what a changed token changes at its own place: less than that at an earlier one is rounding."""


def is_bert(model: Any, kind: str) -> bool:
    """Whether the blocks are laid out as BERT's (each LayerNorm after its sum), which decides what a hook's name
    means on a bridge."""
    if kind == "bridge":
        return any(parent.__name__ == "BertArchitectureAdapter" for parent in type(model.adapter).__mro__)
    return kind == "encoder"


def direction_of(model: Any, kind: str) -> str:
    """CAUSAL, MASKED or UNMASKED, for a model in evaluation mode.

    HookedEncoder and HookedTransformer are what `cfg.attention_dir` makes their attention do, a BERT is what
    Hugging Face's `is_decoder` does. Any other bridge is tried out, once a configuration: whether another last token
    changes what stands before it, and whether a mask hides that token.

    Raises:
        DreamError: a model that can't be tried out.
    """
    if kind != "bridge":
        causal = getattr(model.cfg, "attention_dir", None) == "causal"
        return CAUSAL if causal else MASKED if kind == "encoder" else UNMASKED
    if is_bert(model, kind):
        return CAUSAL if getattr(model.original_model.config, "is_decoder", False) else MASKED
    known, config = _PROBED.get(model), str(model.original_model.config)  # which may be changed in place
    if known is None or known[0] != config:
        known = _PROBED[model] = (config, _probed(model))
    return known[1]


def _probed(model: Any) -> str:
    try:
        with ExitStack() as stack:
            stack.enter_context(shared(model).lock)
            stack.enter_context(torch.no_grad())
            for module in (model, model.original_model):
                stack.enter_context(without_user_hooks(module))
            first = _last_block(model, last=1)
            if _early_change(first, _last_block(model, last=2)) <= FAINT:
                return CAUSAL
            hidden = _last_block(model, 1, masked=True), _last_block(model, 2, masked=True)
            return MASKED if _early_change(*hidden) <= FAINT else UNMASKED
    except Exception as error:
        raise DreamError(
            f"which positions see which can't be told for a TransformerBridge of {model.cfg.architecture}: a pass over "
            f"six tokens failed ({type(error).__name__}: {str(error)[:120]}). Encoders and decoders of text are read, "
            "such as BERT or GPT-2; pairs of them (T5, BART), images and sound are not"
        ) from error


def _last_block(model: Any, last: int, masked: bool = False) -> Tensor:
    """What the last block gives for six tokens of which `last` picks the sixth."""
    length, pad = min(6, int(model.cfg.n_ctx)), getattr(model.tokenizer, "pad_token_id", None)
    known = [i for i in range(int(model.W_E.shape[0])) if i != pad][-length - 1 :]
    ids = torch.tensor([[*known[: length - 1], known[-last]]])
    seen = torch.ones_like(ids)
    seen[0, -1] = 0
    got: list[Tensor] = []
    with ExitStack() as stack:
        name = f"blocks.{int(model.cfg.n_layers) - 1}.hook_out"
        stack.enter_context(owned_hook(model.hook_dict[name], lambda value, hook=None: got.append(value.detach())))
        device = model.W_E.device
        model(ids.to(device), **({"attention_mask": seen.to(device)} if masked else {}))
    (value,) = got
    return value[0].double().cpu()


def _early_change(one: Tensor, other: Tensor) -> float:
    """The largest change at all positions but the last, against that at the last."""
    change = (one - other).abs().amax(-1)
    if not change[-1] > 0:
        raise ValueError("a token does not change what stands in its own place")
    return float(change[:-1].max() / change[-1])
