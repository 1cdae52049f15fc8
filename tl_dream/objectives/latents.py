"""Latents of a sparse autoencoder that was trained on a hook's activations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream._arguments import Whole, is_whole, one_of, plain
from tl_dream._errors import DreamError, require
from tl_dream.models import isolated, units_of
from tl_dream.objectives.factories import formula_of, numbers_of
from tl_dream.objectives.objective import Activations, BatchContext, Objective, Read
from tl_dream.objectives.pickling import remembered
from tl_dream.objectives.preactivations import REDUCTIONS, climbed_while_off, reduced
from tl_dream.text import Positions

Values = Callable[[Tensor], Tensor]


@isolated()
def latent(
    sae: Any,
    index: Whole,
    *,
    hook: str | None = None,
    layer: Whole | None = None,
    pos: Positions = None,
    reduce: str = "max",
) -> Objective:
    """How strongly a latent of a sparse autoencoder is on: the encoder's output for it, in its own units.

    A search climbs what stands before the encoder's activation function wherever the latent is off, so that a silent
    one has a slope; `fired` of the result says whether it is on in the end. JumpReLU thresholds are known; of a TopK
    encoder all latents stand behind a ReLU here, those among the k largest and the others alike.

    Args:
        sae: an SAE of SAELens (what it reads and its hook are taken from it); or the weights
            `(W_enc [d_in, d_sae], b_enc [d_sae])`, with `b_dec [d_in]` as a third where it is subtracted from the
            input; or a function of an activation [batch, pos, d_in] that gives all latents before their ReLU,
            [batch, pos, d_sae].
        index: which latent.
        hook: what it reads, as in `neuron`; None for the one that the SAE names.
        layer: of a short name.
        pos: where: a position, a word, several, or None for every position but the special ones.
        reduce: "max", "mean" or "min" over several positions.

    Raises:
        DreamError: no encoder, one that normalizes its input in a way that is not known, no hook, no such latent, or
            (when scored) another width than the hook's.

    Examples:
        >>> encoder = torch.eye(bert.cfg.d_model), torch.zeros(bert.cfg.d_model)
        >>> goal = td.latent(encoder, 3, hook="block_out", layer=1, pos="dog")
        >>> td.score(bert, goal, "the red dog") >= 0
        tensor([True])
    """
    index, layer, pos = map(plain, (index, layer, pos))
    one_of("reduce", reduce, REDUCTIONS)
    hook = _hook_of(sae) if hook is None else hook
    told = 'this encoder names no hook: say what it reads, hook="blocks.3.hook_resid_post", or a short name and layer='
    require(hook is not None, told)
    assert hook is not None
    read = Read(hook, layer)
    formula = formula_of("latent", type(sae).__name__, str(index), hook=hook, layer=layer, pos=pos, reduce=reduce)
    return _one_latent(*_encoder(sae, index), read, pos, reduce, formula)


@remembered
def _one_latent(before: Values, threshold: float, read: Read, pos: Positions, reduce: str, formula: str) -> Objective:
    """The latent alone, without the encoder that it is from.

    Args:
        before: gives what stands before its activation function, of an activation.
        threshold: above which it is on.
    """

    def values(acts: Activations, rows: BatchContext) -> Tensor:
        return before(units_of(acts[read], read.hook, None))

    def on(acts: Activations, rows: BatchContext) -> Tensor:
        found = values(acts, rows)
        return torch.where(found > threshold, found, torch.zeros_like(found))

    def climbed(acts: Activations, rows: BatchContext) -> Tensor:
        found = values(acts, rows)
        return torch.where(found > threshold, found, found - threshold)  # off: at most 0, so never above one that is on

    made = reduced(on, pos, reduce, (read,), formula)
    return replace(made, **climbed_while_off(on, climbed, pos, reduce, (read,), formula))


def _hook_of(sae: Any) -> str | None:
    """The full name of the hook that an SAE of SAELens was trained on; `cfg.metadata` has it since version 6."""
    config = getattr(sae, "cfg", None)
    for place in (getattr(config, "metadata", None), config):
        name = place.get("hook_name") if isinstance(place, dict) else getattr(place, "hook_name", None)
        if isinstance(name, str):
            return name
    return None


def _encoder(sae: Any, index: Any) -> tuple[Values, float]:
    """What gives one latent before its activation function, and the threshold above which it is on."""
    if isinstance(sae, tuple | list):
        require(len(sae) in (2, 3), f"an encoder is (W_enc, b_enc) or (W_enc, b_enc, b_dec), not {len(sae)} tensors")
        parts, shift, threshold = (sae[0], sae[1]), sae[2] if len(sae) == 3 else None, None
    elif hasattr(sae, "W_enc") and hasattr(sae, "b_enc"):
        config = getattr(sae, "cfg", None)
        scaling = str(getattr(config, "normalize_activations", "none"))
        require(
            scaling == "none",
            f"this SAE normalizes its input ({scaling!r}): give a function of the activation that does the same",
        )
        parts = (sae.W_enc, sae.b_enc)
        shift = getattr(sae, "b_dec", None) if getattr(config, "apply_b_dec_to_input", True) else None
        threshold = getattr(sae, "threshold", None)
    elif callable(sae) and not hasattr(sae, "encode"):
        return partial(_called, sae, index), 0.0
    else:
        raise DreamError(
            f"{type(sae).__name__} is no encoder: give an SAE of SAELens with W_enc and b_enc, such tensors, or a "
            "function of an activation that gives what stands before its activation function"
        )
    weights, bias = numbers_of(parts[0], "W_enc"), numbers_of(parts[1], "b_enc")
    require(
        weights.ndim == 2 and bias.shape == weights.shape[1:],
        f"W_enc {tuple(weights.shape)} and b_enc {tuple(bias.shape)} don't fit: [d_in, d_sae] and [d_sae] do",
    )
    _check(index, weights.shape[1])
    column, offset = weights[:, index].double(), bias[index].double()  # a copy, as wide as any model
    if shift is not None:
        moved = numbers_of(shift, "b_dec")
        require(moved.shape == column.shape, f"b_dec {tuple(moved.shape)} is not of {column.shape[0]} units")
        offset = offset - moved.to(column) @ column
    level = 0.0 if threshold is None else max(0.0, float(numbers_of(threshold, "threshold").expand(len(bias))[index]))

    return partial(_encoded, column, offset), level


def _encoded(
    column: Float[Tensor, " d_in"], offset: Float[Tensor, ""], activation: Float[Tensor, "*rows unit"]
) -> Float[Tensor, "*rows"]:
    require(
        activation.shape[-1] == column.shape[0],
        f"the encoder reads {column.shape[0]} units, and the hook has {activation.shape[-1]}",
    )
    return activation @ column.to(activation) + offset.to(activation)


def _called(function: Callable[[Tensor], Any], index: Any, activation: Tensor) -> Tensor:
    found = function(activation)
    given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    require(
        isinstance(found, Tensor) and found.shape[:-1] == activation.shape[:-1],
        "an encoder's function gives all latents of every position, [batch, pos, d_sae], of an activation "
        f"{tuple(activation.shape)}; got {given}",
    )
    _check(index, found.shape[-1])
    return found[..., index]


def _check(index: Any, count: int) -> None:
    require(is_whole(index) and 0 <= index < count, f"latent {index!r} does not exist: there are 0 to {count - 1}")
