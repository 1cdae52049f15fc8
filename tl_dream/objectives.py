"""What a dream climbs: named activations in, one score per row out, higher is better.

An objective lists the hooks it reads and receives plain tensors. It never touches the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream._errors import require, unknown
from tl_dream.prompts import Positions
from tl_dream.rows import TOKENS, Activations, Read, Rows, Score


@dataclass(frozen=True, eq=False)
class Objective:
    """A formula over named activations that gives one score per row, higher is better.

    Made by `neuron`, `direction`, `match`, `logit`, `attention`, `custom`; objectives add, subtract, scale and negate,
    and `repr` is the formula.

    Attributes:
        reads: the hooks it needs.
        formula: how it prints.
        score: (activations by `Read`, rows) -> Float[batch].
        per_token: (activations, rows) -> Float[batch, pos], the value at every position; None where there is none.
        where: the positions that count and how they are reduced; `per_token` so reduced is the score.
        terms: the objectives whose sum this is, where it is one without `per_token`.
        equal_lengths: it must be given rows without padding (your own functions are).
        answers: tokens whose prediction it asks for; to write one of them would be no dream, so a dream does not.
        uphill: what a search climbs in its place, where it is flat (a unit behind its activation function) or leads
            away from the top (the left tail of GELU): equal to it where it is on, and below that what comes before the
            non-linearity, so that a higher value is never a lower score. None: the objective itself.
        downhill: the same for its negative, which a search climbs by going down.
        off: the score at or below which a unit behind an activation function has not fired; None where that means
            nothing.
    """

    reads: tuple[Read, ...]
    formula: str
    score: Score
    per_token: Score | None = None
    where: tuple[Positions, str] = (None, "max")
    terms: tuple[Objective, ...] = ()
    equal_lengths: bool = False
    answers: tuple[str | int, ...] = ()
    uphill: Objective | None = None
    downhill: Objective | None = None
    off: float | None = None

    def __repr__(self) -> str:
        return self.formula

    def __call__(self, activations: Activations, rows: Rows) -> Float[Tensor, " batch"]:
        """Score rows.

        Raises:
            DreamError: the function did not return one number per row.
        """
        score = self.score(activations, rows)
        require(
            isinstance(score, Tensor) and score.shape == (rows.mask.shape[0],),
            f"the objective {self} must return one score per row, shape ({rows.mask.shape[0]},); "
            f"got {tuple(score.shape) if isinstance(score, Tensor) else type(score).__name__}",
        )
        return score

    def _combine(self, other: object, sign: str) -> Objective:
        if isinstance(other, int | float):
            shift = float(other) if sign == "+" else -float(other)
            changed = self._map(lambda value: value + shift, f"{self} {sign} {other!r}")
            return replace(changed, terms=())
        if not isinstance(other, Objective):
            return NotImplemented
        shown = f"({other})" if sign == "-" and _is_sum(other.formula) else f"{other}"
        left, right = self, other if sign == "+" else -other
        tokens: Score | None = None
        pos, reduce = left.where
        alike = left.where == right.where and (TOKENS in left.reads) == (TOKENS in right.reads)
        if left.per_token is not None and right.per_token is not None and alike:
            if reduce == "mean" or isinstance(pos, int | str) and pos != "all":  # else a maximum stands between
                left_tokens, right_tokens = left.per_token, right.per_token
                tokens = lambda acts, rows: left_tokens(acts, rows) + right_tokens(acts, rows)  # noqa: E731
        return Objective(
            reads=tuple(dict.fromkeys((*left.reads, *right.reads))),
            formula=f"{self} {sign} {shown}",
            score=lambda acts, rows: left(acts, rows) + right(acts, rows),
            per_token=tokens,
            where=left.where,
            terms=(left, right) if tokens is None else (),
            equal_lengths=left.equal_lengths or right.equal_lengths,
            answers=tuple(dict.fromkeys((*left.answers, *right.answers))),
            uphill=_sum(left, left.uphill, right, right.uphill),
            downhill=_sum(left, left.downhill, right, right.downhill),
        )

    def _map(self, change: Callable[[Tensor], Tensor], formula: str, falling: bool = False) -> Objective:
        tokens = self.per_token
        pos, reduce = self.where
        up, down = (self.downhill, self.uphill) if falling else (self.uphill, self.downhill)
        return replace(
            self,
            formula=formula,
            score=lambda acts, rows: change(self(acts, rows)),
            per_token=None if tokens is None else lambda acts, rows: change(tokens(acts, rows)),
            where=(pos, {"max": "min", "min": "max"}.get(reduce, reduce) if falling else reduce),
            terms=tuple(term._map(change, formula, falling) for term in self.terms),
            answers=() if falling else self.answers,
            uphill=up and up._map(change, formula, falling),
            downhill=down and down._map(change, formula, falling),
            off=None if falling or self.off is None else float(change(torch.tensor(self.off, dtype=torch.float64))),
        )

    def _itself(self) -> Objective:
        """The objective, with nothing to climb in its place."""
        return replace(self, uphill=None, downhill=None)

    def _shown(self) -> str:
        """The formula as a factor."""
        return f"({self})" if _is_sum(self.formula) else f"{self}"

    def __add__(self, other: Objective | float) -> Objective:
        return self._combine(other, "+")

    __radd__ = __add__

    def __sub__(self, other: Objective | float) -> Objective:
        return self._combine(other, "-")

    def __rsub__(self, other: float) -> Objective:
        return -self + other

    def __mul__(self, factor: float) -> Objective:
        if not isinstance(factor, int | float):
            return NotImplemented
        return self._map(lambda value: value * factor, f"{factor!r} * {self._shown()}", falling=factor < 0)

    __rmul__ = __mul__

    def __truediv__(self, factor: float) -> Objective:
        if not isinstance(factor, int | float):
            return NotImplemented
        require(factor != 0, f"({self}) / {factor!r}: an objective can't be divided by zero")
        return self._map(lambda value: value / factor, f"{self._shown()} / {factor!r}", falling=factor < 0)

    def __neg__(self) -> Objective:
        return self._map(torch.neg, f"-{self._shown()}", falling=True)


def _sum(left: Objective, in_left: Objective | None, right: Objective, in_right: Objective | None) -> Objective | None:
    """The sum of what is climbed in place of two objectives; None where both are climbed themselves."""
    if in_left is None and in_right is None:
        return None
    first, second = (
        own if other is None else other for own, other in ((left._itself(), in_left), (right._itself(), in_right))
    )
    return first + second


def _is_sum(formula: str) -> bool:
    """Whether a + or - stands outside all brackets and quoted words."""
    depth = 0
    formula = re.sub(r"""'(\\.|[^'\\])*'|"(\\.|[^"\\])*\"""", "''", formula)
    for i, letter in enumerate(formula):
        depth += (letter in "([") - (letter in ")]")
        if depth == 0 and letter in "+-" and i > 0 and formula[i - 1] == " " and formula[i + 1 : i + 2] == " ":
            return True
    return False


def _call(name: str, *args: object, **options: object) -> str:
    """`name(args, key=value)` without the options that are None: the formula a user could type."""
    shown = [repr(arg) for arg in args] + [f"{key}={value!r}" for key, value in options.items() if value is not None]
    return f"{name}({', '.join(shown)})"


def _is_pattern(hook: str) -> bool:
    return hook in ("pattern", "attn_scores") or hook.endswith(("hook_pattern", "hook_attn_scores"))


def _of_head(activation: Tensor, hook: str, head: int | None) -> Float[Tensor, "batch pos unit"]:
    """One head's units of an activation [batch, pos, head_index, d_head]; without `head` all heads' in one row."""
    shape = tuple(activation.shape)
    require(activation.ndim >= 3, f"the hook {hook!r} has no positions (shape {shape}): read it with custom()")
    if activation.ndim == 3:
        require(head is None, f"the hook {hook!r} has no heads (shape {shape}): leave head= out")
        return activation
    if head is None:
        return activation.flatten(2)
    _in_range("head", head, activation.shape[2], hook)
    return activation[:, :, head]


def _in_range(kind: str, value: int, count: int, hook: str) -> None:
    require(
        isinstance(value, int) and -count <= value < count,
        f"{kind} {value!r} does not exist: the hook {hook!r} has {kind}s 0 to {count - 1}",
    )


BEFORE = {  # the end of a hook's name: that of the hook before its activation function, unit for unit
    "mlp_post": "mlp_pre",
    "mlp.hook_post": "mlp.hook_pre",
    "mlp.out.hook_in": "mlp.in.hook_out",
    "hook_sae_acts_post": "hook_sae_acts_pre",
}


def _before(read: Read) -> Read | None:
    """What is read before the activation function that a hook lies behind; None where it lies behind none."""
    for end, earlier in BEFORE.items():
        if read.hook == end or read.hook.endswith("." + end):
            return Read(read.hook.removesuffix(end) + earlier, read.layer)
    return None


def _in_place_of(
    read: Read, values: Callable[[Read, Activations, Rows], Tensor], pos: Positions, reduce: str, formula: str
) -> dict[str, Any]:
    """What a search climbs in place of an objective on activations behind their activation function, as options of
    `Objective`: the value itself where it is on, what comes before it where it is off.

    Args:
        values: of a hook, at every position.
    """
    earlier = _before(read)
    if earlier is None:
        return {}

    def tokens(acts: Activations, rows: Rows) -> Tensor:
        before = values(earlier, acts, rows)
        return torch.where(before > 0, values(read, acts, rows), before)

    name = f"{formula} from before its activation function"
    if reduce != "mean":
        return {"uphill": _reduced(tokens, pos, reduce, (read, earlier), name), "off": 0.0}
    highest = _reduced(tokens, pos, "max", (read, earlier), name)  # as long as no position is on
    mean = _reduced(lambda acts, rows: values(read, acts, rows), pos, "mean", (read,), name)

    def score(acts: Activations, rows: Rows) -> Tensor:
        top = highest(acts, rows)
        return torch.where(top > 0, mean(acts, rows), top)

    return {"uphill": Objective((read, earlier), name, score), "off": 0.0}


FAINT = 0.01
"""Probability below which attention is climbed by its logarithm."""


def _reduced(tokens: Score, pos: Positions, reduce: str, reads: tuple[Read, ...], formula: str) -> Objective:
    """An objective from values at every position: their mean, maximum or minimum over the positions `pos` means."""
    if reduce not in ("mean", "max", "min"):
        raise unknown("reduce", reduce, ("mean", "max", "min"))

    def score(acts: Activations, rows: Rows) -> Tensor:
        values = tokens(acts, rows).expand(rows.mask.shape)  # position embeddings come once for all rows
        index, valid = rows.locate(pos)
        chosen = values.gather(1, index)
        if valid.shape[1] == 1:
            return chosen[:, 0]
        if reduce == "max":
            return chosen.masked_fill(~valid, -torch.inf).amax(1)
        if reduce == "min":
            return chosen.masked_fill(~valid, torch.inf).amin(1)
        return chosen.masked_fill(~valid, 0).sum(1) / valid.sum(1)

    return Objective(reads, formula, score, tokens, (pos, reduce))


def neuron(
    hook: str,
    *,
    layer: int | None = None,
    unit: int | None = None,
    head: int | None = None,
    pos: Positions = None,
    key: int | str | None = None,
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
    """
    read = Read(hook, layer)
    formula = _call("neuron", hook, layer=layer, head=head, unit=unit, pos=pos, key=key)
    formula = formula if reduce == "max" else f"{formula[:-1]}, reduce={reduce!r})"
    pair = _is_pattern(hook)
    require(key is not None or not pair, f"{formula}: an attention pattern needs key= (the position attended to)")
    require(pair or key is None, f"{formula}: key= (the position attended to) goes with attention patterns only")

    def one_unit(read: Read, acts: Activations, rows: Rows) -> Tensor:
        units = _of_head(acts[read], hook, head)
        require(unit is not None, f"{formula} needs unit=: which of the {units.shape[-1]} units")
        assert unit is not None
        _in_range("unit", unit, units.shape[-1], hook)
        return units[..., unit]

    if not pair:
        made = _reduced(lambda acts, rows: one_unit(read, acts, rows), pos, reduce, (read,), formula)
        return replace(made, **_in_place_of(read, one_unit, pos, reduce, formula))

    def tokens(acts: Activations, rows: Rows) -> Tensor:
        activation = acts[read]
        require(
            head is not None and unit is None,
            f"{formula}: an attention pattern needs head=, and has no unit=",
        )
        assert head is not None
        _in_range("head", head, activation.shape[1], hook)
        index, _ = rows.locate([key] if isinstance(key, int | str) else key)
        require(index.shape[1] == 1, f"{formula}: key={key!r} must be one position")
        where = index[:, None, :].expand(-1, activation.shape[2], 1)
        return activation[:, head].gather(2, where).squeeze(2)

    def faint(acts: Activations, rows: Rows) -> Tensor:
        share = tokens(acts, rows)
        low = FAINT + FAINT * (share.clamp_min(torch.finfo(share.dtype).tiny) / FAINT).log()
        return torch.where(share > FAINT, share, low)

    made = _reduced(tokens, pos, reduce, (read,), formula)
    if hook == "pattern" or hook.endswith("hook_pattern"):
        uphill = _reduced(faint, pos, reduce, (read,), f"{formula} by its logarithm where it is faint")
        made = replace(made, uphill=uphill)
    return made


def attention(*, layer: int, head: int, query: Positions, key: int | str) -> Objective:
    """How strongly a head's `query` position attends to the `key` position (a probability, 0 to 1)."""
    objective = neuron("pattern", layer=layer, head=head, pos=query, key=key)
    return replace(objective, formula=f"attention(layer={layer}, head={head}, query={query!r}, key={key!r})")


def direction(
    vector: Float[Tensor, " d"] | Sequence[float],
    hook: str,
    *,
    layer: int | None = None,
    head: int | None = None,
    pos: Positions = None,
    reduce: str = "max",
    name: str | None = None,
) -> Objective:
    """The projection of an activation on a direction, `activation @ vector`; the vector's length is kept.

    Args:
        vector: as wide as the hook's last axis (or a head's width with `head`, or all heads together without).
        name: how it prints; the default tells width and norm.
    """
    values = torch.as_tensor(vector).detach()
    require(
        values.ndim == 1 and bool(torch.isfinite(values).all()),
        f"a direction is one vector of finite numbers; got shape {tuple(values.shape)}",
    )
    require(not _is_pattern(hook), f"{hook!r} is an attention pattern and has no directions: use attention()")
    label = name or f"vector[{values.shape[0]}, norm {float(values.float().norm()):.3g}]"
    read = Read(hook, layer)
    formula = _call("direction", hook, layer=layer, head=head, pos=pos)
    formula = f"direction({label}, {formula[len('direction(') :]}"
    formula = formula if reduce == "max" else f"{formula[:-1]}, reduce={reduce!r})"

    def tokens(acts: Activations, rows: Rows) -> Tensor:
        activation = _of_head(acts[read], hook, head)
        require(
            activation.shape[-1] == values.shape[0],
            f"{formula}: the vector has {values.shape[0]} numbers, the hook {hook!r} has {activation.shape[-1]} units",
        )
        return activation @ values.to(activation)

    made = _reduced(tokens, pos, reduce, (read,), formula)
    units = values.nonzero()[:, 0].tolist()
    if _before(read) is None or not 0 < len(units) <= FEW or reduce != "max":
        return made
    parts = [float(values[i]) * neuron(hook, layer=layer, unit=i, head=head, pos=pos) for i in units]
    total = sum(parts[1:], parts[0])
    return replace(made, uphill=total.uphill, downhill=total.downhill, off=parts[0].off if len(parts) == 1 else None)


FEW = 16
"""Units behind an activation function that a direction may mix for a search to climb each from before it; of more, some
are always on."""


def match(
    target: Tensor,
    hook: str,
    *,
    layer: int | None = None,
    head: int | None = None,
    units: int | Sequence[int] | None = None,
    pos: Positions = slice(None),
) -> Objective:
    """How well an activation equals a recorded or edited one: minus the mean squared error, 0 where they are equal.

    Args:
        target: [n, unit] or [n, head, unit]: a row for every position `pos` means, from left to right; for one unit
            [n] will do.
        hook: as in `neuron`.
        head: attention head, for per-head hooks; without it the heads' units are counted through.
        units: which units the target holds; None means all of them.
        pos: where; the default is every position, [CLS] and [SEP] too.

    Raises:
        DreamError: a target that is not finite numbers; (when scored) another number of positions or units than the
            hook has, an unknown hook, layer, unit or position.
    """
    require(
        target.is_floating_point() and target.ndim >= 1 and target.numel() > 0,
        f"a target is a tensor of floating-point numbers, a row a position; got {target.dtype} of shape "
        f"{tuple(target.shape)}",
    )
    require(bool(torch.isfinite(target).all()), "the target holds NaN or infinite numbers")
    require(not _is_pattern(hook), f"{hook!r} is an attention pattern: it has no units to match")
    values = target.detach().reshape(target.shape[0], -1)
    read = Read(hook, layer)
    shown = _call("match", hook, layer=layer, head=head, units=units, pos=None if pos == slice(None) else pos)
    formula = f"match(target{list(target.shape)}, {shown[len('match(') :]}"

    def errors(acts: Activations, rows: Rows) -> tuple[Tensor, Tensor]:
        found = _of_head(acts[read], hook, head)
        if units is not None:
            wanted = [units] if isinstance(units, int) else list(units)
            for unit in wanted:
                _in_range("unit", unit, found.shape[-1], hook)
            found = found[..., wanted]
        found = found.expand(rows.mask.shape[0], -1, -1)
        index, valid = rows.locate(pos)
        require(
            bool(valid.all()) and values.shape == (index.shape[1], found.shape[-1]),
            f"{formula} holds {values.shape[0]} positions of {values.shape[1]} units; the rows have "
            f"{' or '.join(sorted({str(int(n)) for n in valid.sum(1)}))} of {found.shape[-1]}",
        )
        chosen = found.gather(1, index.unsqueeze(-1).expand(-1, -1, found.shape[-1]))
        wide = torch.promote_types(chosen.dtype, torch.float32)
        return (chosen.to(wide) - values.to(chosen.device, wide)).square().mean(2), index

    def tokens(acts: Activations, rows: Rows) -> Tensor:
        error, index = errors(acts, rows)
        return torch.zeros(rows.mask.shape, dtype=error.dtype, device=error.device).scatter(1, index, -error)

    return Objective((read,), formula, lambda acts, rows: -errors(acts, rows)[0].mean(1), tokens, (pos, "mean"))


def logit(token: str | int, *, pos: Positions = None, log_prob: bool = False, reduce: str = "max") -> Objective:
    """The model's own prediction of a token at a position (the article's MLM dreaming).

    Args:
        token: a token of the vocabulary, or its id.
        pos: where the prediction is read; an encoder predicts the token *at* the position (put [MASK] there), a causal
            model the one *after* it.
        log_prob: the log-probability in nats instead of the logit.

    Raises:
        DreamError: (when scored) the model's head is not trained, or the token is not in the vocabulary.
    """
    read = Read("logits")
    formula = _call("logit", token, pos=pos, log_prob=log_prob or None)
    formula = formula if reduce == "max" else f"{formula[:-1]}, reduce={reduce!r})"

    def tokens(acts: Activations, rows: Rows) -> Tensor:
        logits = acts[read]
        value = logits[..., rows.vocabulary.token_id(token)]
        return value - logits.logsumexp(-1) if log_prob else value

    return replace(_reduced(tokens, pos, reduce, (read,), formula), answers=(token,))


def normalized(objective: Objective) -> Objective:
    """An objective divided, at every word, by that word's L2 norm over all layers (the article's "normalize").

    The norm is over `block_out` of every layer at once; the result is dimensionless and comparable between layers.
    Fluency stays as it is.

    Args:
        objective: one that has a value at every position (not your own function of activations).
    """
    if TOKENS in objective.reads and not objective.terms:
        return objective  # fluency is no activation
    every = Read("block_out", "all")
    tokens = objective.per_token
    if tokens is None and objective.terms:
        first, *others = (normalized(term) for term in objective.terms)
        return replace(sum(others, first), formula=f"normalized({objective})")
    require(
        tokens is not None,
        f"normalized({objective}) needs a value at every position, and this objective has none: climb it as it is "
        '(preset="fast")',
    )
    assert tokens is not None
    inner = tokens

    def ratio(acts: Activations, rows: Rows) -> Tensor:
        norm = acts[every].square().sum((0, 3)).sqrt()
        return inner(acts, rows) / norm

    reads = tuple(dict.fromkeys((*objective.reads, every)))
    made = _reduced(ratio, *objective.where, reads, f"normalized({objective})")
    up = objective.uphill
    return made if up is None or up.per_token is None else replace(made, uphill=normalized(up))


def custom(
    function: Callable[[dict[str, Tensor]], Tensor],
    hooks: Mapping[str, str | tuple[str, int]],
    *,
    name: str | None = None,
) -> Objective:
    """Your own function of named activations.

    Args:
        function: receives {your name: activation [batch, pos, ...]} and returns one score per row, Float[batch].
            Rows are never padded, so position -1 is the last token.
        hooks: {your name: full hook name, or (short name, layer)}.
        name: how it prints; the default is the function's name.
    """
    require(bool(hooks), "custom() needs the hooks its function reads: give {name: hook}")
    reads = {key: Read(*value) if isinstance(value, tuple) else Read(value) for key, value in hooks.items()}

    def score(acts: Activations, rows: Rows) -> Any:  # what a user's function gives is checked by the objective
        return function({key: acts[read] for key, read in reads.items()})

    label = str(name or getattr(function, "__name__", "custom"))
    return Objective(tuple(reads.values()), label, score, None, equal_lengths=True)
