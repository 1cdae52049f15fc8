"""What a dream climbs: named activations in, one score per row out, higher is better.

An objective lists the hooks it reads and receives plain tensors. It never touches the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tl_dream._arguments import Whole, flag, is_whole, listed, one_of, plain, unmasked
from tl_dream._errors import DreamError, require
from tl_dream.models import check_index, is_pattern, isolated, units_of
from tl_dream.objectives.objective import Activations, BatchContext, Objective, Read
from tl_dream.objectives.pickling import remembered
from tl_dream.objectives.preactivations import REDUCTIONS, in_place_of, preactivation, reduced
from tl_dream.text import Positions


def formula_of(name: str, *shown: str, reduce: str = "max", **options: object) -> str:
    """`name(shown, key=value)` without the options that are the default: the formula a user could type."""
    options |= {} if reduce == "max" else {"reduce": reduce}
    written = [f"{key}={value!r}" for key, value in options.items() if value is not None]
    return f"{name}({', '.join([*shown, *written])})"


def _one_layer(hook: str, layer: Any) -> Read:
    require(layer != "all", f'{hook!r} with layer="all" is every layer\'s: give one layer, or custom()')
    return Read(hook, layer)


def numbers_of(values: Any, what: str) -> Tensor:
    """Numbers as a tensor of their own, without its graph.

    Raises:
        DreamError: what is no array of real numbers.
    """
    try:
        if isinstance(values, Tensor):
            found = values  # `as_tensor` would move it to a default device
        else:
            found = torch.as_tensor(values if hasattr(values, "dtype") else plain(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise DreamError(f"{what} is a tensor, an array or a list of numbers, not {type(values).__name__}") from error
    plainly = found.layout == torch.strided and not found.is_quantized and not found.is_meta
    narrow = found.is_floating_point() and found.itemsize < 2
    require(
        plainly and not narrow and found.dtype != torch.bool and not found.is_complex(),
        f"{what} is of real numbers, not of {found.dtype} ({found.layout}, on {found.device}): where it is sparse, "
        "quantised or of 8 bits, give .to_dense(), .dequantize() or .float() of it",
    )
    with torch.inference_mode(False):  # what was made in that mode takes no part in a gradient
        return found.clone() if found.is_inference() else found.detach()


FAINT = 0.01
"""Probability below which attention is climbed by its logarithm."""


@remembered
def neuron(
    hook: str,
    *,
    layer: Whole | None = None,
    unit: Whole | None = None,
    head: Whole | None = None,
    pos: Positions = None,
    key: Whole | str | None = None,
    reduce: str = "max",
) -> Objective:
    """The activation of one unit, in the hook's own units.

    Args:
        hook: a short name ("block_out" is what the article calls a layer; "mlp_post", "z", "q", ...) with `layer`,
            or a full TransformerLens name.
        unit: index into the last axis; for q, k, v, z without `head` the heads' units are counted through.
        head: attention head, for per-head hooks.
        pos: where: a position, a word, several, or None for every position but the special ones.
        key: for "pattern" and "attn_scores": the position attended to, `pos` being the one that attends.
        reduce: "max", "mean" or "min" over several positions.

    Raises:
        DreamError: (when scored) an unknown hook, layer, unit, head or position.

    Examples:
        >>> td.neuron("z", layer=1, head=2, unit=3, pos="dog")
        neuron('z', layer=1, head=2, unit=3, pos='dog')
    """
    layer, unit, head, pos, key = map(plain, (layer, unit, head, pos, key))
    one_of("reduce", reduce, REDUCTIONS)
    read = _one_layer(hook, layer)
    formula = formula_of("neuron", repr(hook), layer=layer, head=head, unit=unit, pos=pos, key=key, reduce=reduce)
    pair = is_pattern(hook)
    require(key is not None or not pair, f"{formula}: an attention pattern needs key= (the position attended to)")
    require(pair or key is None, f"{formula}: key= (the position attended to) goes with attention patterns only")

    def one_unit(read: Read, acts: Activations, rows: BatchContext) -> Tensor:
        units = units_of(acts[read], hook, head)
        require(unit is not None, f"{formula} needs unit=: which of the {units.shape[-1]} units")
        return units[..., check_index("unit", unit, units.shape[-1], hook)]

    if not pair:
        made = reduced(lambda acts, rows: one_unit(read, acts, rows), pos, reduce, (read,), formula)
        which: Any = (head, unit) if is_whole(unit) and (head is None or is_whole(head)) else None
        instead = in_place_of(read, one_unit, pos, reduce, formula)
        if instead and reduce != "mean":
            instead["uphill"] = replace(instead["uphill"], unit=which)
        return replace(made, unit=which, **instead)

    def tokens(acts: Activations, rows: BatchContext) -> Tensor:
        activation = acts[read]
        require(
            head is not None and unit is None,
            f"{formula}: an attention pattern needs head=, and has no unit=",
        )
        index, _ = rows.locate([key] if isinstance(key, int | str) else key)
        require(index.shape[1] == 1, f"{formula}: key={key!r} must be one position")
        where = index[:, None, :].expand(-1, activation.shape[2], 1)
        return activation[:, check_index("head", head, activation.shape[1], hook)].gather(2, where).squeeze(2)

    def faint(acts: Activations, rows: BatchContext) -> Tensor:
        share = tokens(acts, rows)
        low = FAINT + FAINT * (share.clamp_min(torch.finfo(share.dtype).tiny) / FAINT).log()
        return torch.where(share > FAINT, share, low)

    made = reduced(tokens, pos, reduce, (read,), formula)
    if hook == "pattern" or hook.endswith("hook_pattern"):
        uphill = reduced(faint, pos, reduce, (read,), f"{formula} by its logarithm where it is faint")
        made = replace(made, uphill=uphill)
    return made


@remembered
def attention(*, layer: Whole, head: Whole, query: Positions, key: Whole | str) -> Objective:
    """How strongly a head's `query` position attends to the `key` position (a probability, 0 to 1).

    Examples:
        >>> td.score(bert, td.attention(layer=1, head=2, query="dog", key="red"), "the red dog").shape
        torch.Size([1])
    """
    layer, head, query, key = map(plain, (layer, head, query, key))
    objective = neuron("pattern", layer=layer, head=head, pos=query, key=key)
    return replace(objective, formula=f"attention(layer={layer}, head={head}, query={query!r}, key={key!r})")


@remembered
@isolated()
def direction(
    vector: Any,
    hook: str,
    *,
    layer: Whole | None = None,
    head: Whole | None = None,
    pos: Positions = None,
    reduce: str = "max",
    name: str | None = None,
) -> Objective:
    """The projection of an activation on a direction, `activation @ vector`; the vector's length is kept.

    Args:
        vector: numbers (a list, an array, a tensor), as wide as the hook's last axis (or a head's width with `head`, or
            all heads together without).
        name: how it prints; the default tells width and norm.

    Examples:
        >>> probe = td.direction([1.0] * bert.cfg.d_model, "block_out", layer=1, pos=0)
        >>> td.score(bert, probe, ["the red dog", "the cat"]).shape
        torch.Size([2])
    """
    values = numbers_of(vector, "a direction")
    require(
        values.ndim == 1,
        f"a direction is one vector of numbers; got shape {tuple(values.shape)}",
    )
    require(bool(torch.isfinite(values).all()), "the direction holds NaN or infinite numbers")
    require(bool(values.any()), "the direction is zero everywhere: every text would score 0 on it")
    layer, head, pos = map(plain, (layer, head, pos))
    one_of("reduce", reduce, REDUCTIONS)
    read = _one_layer(hook, layer)
    require(not is_pattern(hook), f"{hook!r} is an attention pattern and has no directions: use attention()")
    label = str(name) if name is not None else f"vector[{values.shape[0]}, norm {float(values.float().norm()):.3g}]"
    formula = formula_of("direction", label, repr(hook), layer=layer, head=head, pos=pos, reduce=reduce)

    def tokens(acts: Activations, rows: BatchContext) -> Tensor:
        activation = units_of(acts[read], hook, head)
        require(
            activation.shape[-1] == values.shape[0],
            f"{formula}: the vector has {values.shape[0]} numbers, the hook {hook!r} has {activation.shape[-1]} units",
        )
        return activation @ values.to(activation)

    made = reduced(tokens, pos, reduce, (read,), formula)
    units = values.nonzero()[:, 0].tolist()
    if preactivation(read) is None or not 0 < len(units) <= FEW or reduce != "max":
        return made
    parts = [float(values[i]) * neuron(hook, layer=layer, unit=i, head=head, pos=pos) for i in units]
    total = sum(parts[1:], parts[0])
    return replace(made, uphill=total.uphill, downhill=total.downhill, off=parts[0].off if len(parts) == 1 else None)


FEW = 16
"""Units behind an activation function that a direction may mix for a search to climb each from before it; of more, some
are always on."""


@remembered
@isolated()
def match(
    target: Any,
    hook: str,
    *,
    layer: Whole | None = None,
    head: Whole | None = None,
    units: Whole | Iterable[Any] | None = None,
    pos: Positions = slice(None),
) -> Objective:
    """How well an activation equals a recorded or edited one: minus the mean squared error, 0 where they are equal.

    Args:
        target: a tensor or an array, [n, unit] or [n, head, unit]: a row for every position `pos` means, from left to
            right; for one unit [n] will do.
        hook: as in `neuron`.
        head: attention head, for per-head hooks; without it the heads' units are counted through.
        units: which units the target holds; None means all of them.
        pos: where; the default is every position, [CLS] and [SEP] too.

    Raises:
        DreamError: a target that is not finite numbers; (when scored) another number of positions or units than the
            hook has, an unknown hook, layer, unit or position.

    Examples:
        >>> target = [0.5] * bert.cfg.d_model
        >>> td.score(bert, td.match([target], "block_out", layer=1, pos=2), "the red dog") <= 0
        tensor([True])
    """
    target = numbers_of(target, "a target")
    require(
        target.is_floating_point() and target.ndim >= 1 and target.numel() > 0,
        f"a target is a tensor of floating-point numbers, a row a position; got {target.dtype} of shape "
        f"{tuple(target.shape)}",
    )
    require(bool(torch.isfinite(target).all()), "the target holds NaN or infinite numbers")
    layer, head, units, pos = map(plain, (layer, head, units, pos))
    read = _one_layer(hook, layer)
    require(not is_pattern(hook), f"{hook!r} is an attention pattern: it has no units to match")
    values = target.reshape(target.shape[0], -1)
    told: dict[str, Any] = {"layer": layer, "head": head, "units": units, "pos": None if pos == slice(None) else pos}
    formula = formula_of("match", f"target{list(target.shape)}", repr(hook), **told)

    def errors(acts: Activations, rows: BatchContext) -> tuple[Tensor, Tensor]:
        found = units_of(acts[read], hook, head)
        if units is not None:
            width = found.shape[-1]
            wanted = unmasked(listed(units), width, "units")
            found = found[..., [check_index("unit", unit, width, hook) for unit in wanted]]
        found = found.expand(rows.mask.shape[0], -1, -1)
        index, valid = rows.locate(pos)
        require(
            bool(valid.all()) and values.shape == (index.shape[1], found.shape[-1]),
            f"{formula} holds {values.shape[0]} positions of {values.shape[1]} units; the rows have "
            f"{' or '.join(sorted({str(int(n)) for n in valid.sum(1)}))} of {found.shape[-1]}: "
            "give a row for every position, such as target[None] for one",
        )
        chosen = found.gather(1, index.unsqueeze(-1).expand(-1, -1, found.shape[-1]))
        wide = torch.promote_types(chosen.dtype, torch.float32)
        return (chosen.to(wide) - values.to(chosen.device, wide)).square().mean(2), index

    def tokens(acts: Activations, rows: BatchContext) -> Tensor:
        error, index = errors(acts, rows)
        return torch.zeros(rows.mask.shape, dtype=error.dtype, device=error.device).scatter(1, index, -error)

    return Objective((read,), formula, lambda acts, rows: -errors(acts, rows)[0].mean(1), tokens, (pos, "mean"))


@remembered
def logit(token: Any, *, pos: Positions = None, log_prob: bool = False, reduce: str = "max") -> Objective:
    """The model's own prediction of a token at a position (the article's MLM dreaming).

    Args:
        token: a token of the vocabulary, or its id.
        pos: where the prediction is read; an encoder predicts the token *at* the position (put [MASK] there), a causal
            model the one *after* it.
        log_prob: the log-probability in nats instead of the logit.

    Raises:
        DreamError: (when scored) the model's head is not trained, or the token is not in the vocabulary.

    Examples:
        >>> td.logit("dog", pos=2)
        logit('dog', pos=2)
    """
    token, pos, log_prob = plain(token), plain(pos), flag("log_prob", log_prob)
    one_of("reduce", reduce, REDUCTIONS)
    read = Read("logits")
    formula = formula_of("logit", repr(token), pos=pos, log_prob=log_prob or None, reduce=reduce)

    def tokens(acts: Activations, rows: BatchContext) -> Tensor:
        logits = acts[read]
        value = logits[..., rows.vocabulary.token_id(token)]
        return value - logits.logsumexp(-1) if log_prob else value

    return replace(reduced(tokens, pos, reduce, (read,), formula), answers=(token,))
