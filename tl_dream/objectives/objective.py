"""The contract of an objective, what it may know of a batch, and the algebra of objectives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, SupportsFloat

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._arguments import LARGEST, as_number, is_whole, plain
from tl_dream._errors import require
from tl_dream.models import Host, Meter
from tl_dream.objectives.pickling import remembered, repeated
from tl_dream.text import Positions, Sentence, Vocabulary


@dataclass(frozen=True)
class Read:
    """One hook an objective reads: a full name, or a short name with its layer ("all" reads every layer, stacked)."""

    hook: str
    layer: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", plain(self.layer))
        require(
            isinstance(self.hook, str),
            f"hook = {self.hook!r}: give the name of a hook; `tl-dream hooks` lists them all",
        )

    def resolve(self, host: Host) -> tuple[str, ...]:
        """The full names on this model; none for `TOKENS`, which are no activation."""
        if self == TOKENS:
            return ()
        if self.layer == "all":
            return tuple(host.resolve(self.hook, layer) for layer in range(host.n_layers))
        require(
            self.layer is None or is_whole(self.layer),
            f'layer {self.layer!r} is not a layer: give a number, or "all" where every layer is read',
        )
        return (host.resolve(self.hook, self.layer),)


TOKENS = Read("tokens")
"""What an objective declares that reads the words themselves (fluency): it receives them as `Tokens`."""


@dataclass(frozen=True)
class Tokens:
    """The words of a batch, for objectives that read them.

    Attributes:
        ids: token ids, right-padded; of a soft sentence, the start's.
        weights: of a soft sentence the weight of every token at every position, with its graph; None where the words
            are real.
        causal: whether the dreaming model is.
        meter: counts what a judge runs.
        judged: what judges have said in this pass, so that several objectives that share one ask it once.
    """

    ids: Int[Tensor, "batch pos"]
    weights: Float[Tensor, "batch pos vocab"] | None
    causal: bool
    meter: Meter
    judged: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def embed(self, table: Float[Tensor, "vocab d"]) -> Float[Tensor, "batch pos d"]:
        """The words' rows of a table with one row a token, mixed by weight where the words are soft."""
        return table[self.ids] if self.weights is None else self.weights.to(table.dtype) @ table


@dataclass(frozen=True)
class BatchContext:
    """What an objective may know of the rows it scores, besides their activations.

    Attributes:
        mask: True at real tokens, False at padding.
        special: True at the tokens that frame a sentence ([CLS], [SEP], BOS).
        sentences: the sentences that named positions refer to, one a row (for a dream: its start).
        vocabulary: text <-> ids.
        columns: the positions that objectives read, as far as they were asked for.
    """

    mask: Bool[Tensor, "batch pos"]
    special: Bool[Tensor, "batch pos"]
    sentences: tuple[Sentence, ...]
    vocabulary: Vocabulary
    columns: dict[tuple[Objective, ...], Tensor] = field(default_factory=dict, repr=False, compare=False)
    _found: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, host: Host, sentences: Sequence[Sentence]) -> BatchContext:
        """The rows of a padded batch of sentences."""
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        special = torch.zeros_like(mask)
        special[mask] = torch.tensor([flag for sentence in sentences for flag in sentence.special])
        return cls(mask.to(host.device), special.to(host.device), tuple(sentences), host.vocabulary)

    def repeat(self, times: int) -> BatchContext:
        """Every row `times` times, in blocks: row 0, row 0, ..., row 1, row 1, ..."""
        return BatchContext(
            self.mask.repeat_interleave(times, 0),
            self.special.repeat_interleave(times, 0),
            tuple(sentence for sentence in self.sentences for _ in range(times)),
            self.vocabulary,
        )

    @property
    def words(self) -> Bool[Tensor, "batch pos"]:
        """True at real tokens that are not special: what "all positions" means."""
        return self.mask & ~self.special

    def locate(self, pos: Positions) -> tuple[Int[Tensor, "batch n"], Bool[Tensor, "batch n"]]:
        """The positions `pos` means in every row, and which of them are filling (rows may have fewer than others).

        Raises:
            DreamError: a position or word that a row has not got.
        """
        place = repr(pos)
        if place not in self._found:
            known = {id(sentence): sentence for sentence in self.sentences}  # most stand in many rows
            number = {key: n for n, key in enumerate(known)}
            found = [self.vocabulary.locate(sentence, pos) for sentence in known.values()]
            most = max(1, max(len(row) for row in found))
            index = torch.zeros(len(found), most, dtype=torch.long)
            valid = torch.zeros(len(found), most, dtype=torch.bool)
            for i, (sentence, row) in enumerate(zip(known.values(), found, strict=True)):
                require(bool(row), f"no position is left in {sentence.text!r}: it has special tokens only")
                index[i, : len(row)] = torch.tensor(row)
                valid[i, : len(row)] = True
            rows = torch.tensor([number[id(sentence)] for sentence in self.sentences])
            self._found[place] = (index[rows].to(self.mask.device), valid[rows].to(self.mask.device))
        return self._found[place]


Activations = Mapping[Read, Any]  # a Tensor, or the Tokens of `TOKENS`
Score = Callable[[Activations, BatchContext], Tensor]


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
        unit: head (None without one) and number of the unit that it is, where it is one unit of its hook; of two reads,
            that of the first where that of the second is above 0, and else that of the second.
        terms: the objectives whose sum this is, where it is one without `per_token`.
        equal_lengths: it must be given rows without padding (your own functions are).
        answers: tokens whose prediction it asks for; to write one of them would be no dream, so a dream does not.
        uphill: what a search climbs in its place, where it is flat (a unit behind its activation function) or leads
            away from the top (the left tail of GELU): equal to it where it is on, and below that what comes before the
            non-linearity, so that a higher value is never a lower score. None: the objective itself.
        downhill: the same for its negative, which a search climbs by going down.
        off: the score at or below which a unit behind an activation function has not fired; None where that means
            nothing.
        made: the call that made it, where a function of this package did.
    """

    reads: tuple[Read, ...]
    formula: str
    score: Score
    per_token: Score | None = None
    where: tuple[Positions, str] = (None, "max")
    unit: tuple[int | None, int] | None = None
    terms: tuple[Objective, ...] = ()
    equal_lengths: bool = False
    answers: tuple[str | int, ...] = ()
    uphill: Objective | None = None
    downhill: Objective | None = None
    off: float | None = None
    made: partial[Any] | None = field(default=None, init=False)

    def __repr__(self) -> str:
        return self.formula

    def __reduce_ex__(self, protocol: Any) -> Any:
        """What pickle keeps: the call that made it. One put together by hand is pickled as it is, if its functions can
        be."""
        return object.__reduce_ex__(self, protocol) if self.made is None else (repeated(self.made), ())

    def __copy__(self) -> Objective:
        return self

    def __deepcopy__(self, memo: Any) -> Objective:
        return self

    def __call__(self, activations: Activations, rows: BatchContext) -> Float[Tensor, " batch"]:
        """Score rows.

        Raises:
            DreamError: the function did not return one number per row.
        """
        score = self.score(activations, rows)
        given = isinstance(score, Tensor)
        require(
            given and score.shape == (rows.mask.shape[0],),
            f"the objective {self} must return one score per row, shape ({rows.mask.shape[0]},); "
            f"got {tuple(score.shape) if given else type(score).__name__}",
        )
        require(
            not score.is_complex() and score.device == rows.mask.device,
            f"the objective {self} must return real numbers on {rows.mask.device}; got {score.dtype} on {score.device}",
        )
        return score

    def _combine(self, other: Any, sign: str) -> Objective:
        if not isinstance(other, Objective):
            number = _factor(f"{self} {sign}", other)
            if number is None:
                return NotImplemented
            shift = number if sign == "+" else -number
            changed = self._map(lambda value: value + shift, f"{self} {sign} {number!r}")
            return replace(changed, terms=())
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
        known = not falling and self.off is not None
        off = torch.tensor(self.off, dtype=torch.float64, device="cpu") if known else None
        return replace(
            self,
            formula=formula,
            score=lambda acts, rows: change(self(acts, rows)),
            per_token=None if tokens is None else lambda acts, rows: change(tokens(acts, rows)),
            where=(pos, {"max": "min", "min": "max"}.get(reduce, reduce) if falling else reduce),
            unit=None,
            terms=tuple(term._map(change, formula, falling) for term in self.terms),
            answers=() if falling else self.answers,
            uphill=up and up._map(change, formula, falling),
            downhill=down and down._map(change, formula, falling),
            off=None if off is None else float(change(off)),
        )

    def _itself(self) -> Objective:
        """The objective, with nothing to climb in its place."""
        return replace(self, uphill=None, downhill=None)

    def _shown(self) -> str:
        """The formula as a factor."""
        return f"({self})" if _is_sum(self.formula) else f"{self}"

    __array_ufunc__ = None  # numpy leaves `2 * objective` to us, where it would make an array of objectives

    @remembered
    def __add__(self, other: Any) -> Objective:
        return self._combine(other, "+")

    __radd__ = __add__

    @remembered
    def __sub__(self, other: Any) -> Objective:
        return self._combine(other, "-")

    def __rsub__(self, other: Any) -> Objective:
        return -self + other

    @remembered
    def __mul__(self, factor: Any) -> Objective:
        factor = _factor(f"{self._shown()} *", factor)
        if factor is None:
            return NotImplemented
        return self._map(lambda value: value * factor, f"{factor!r} * {self._shown()}", falling=factor < 0)

    __rmul__ = __mul__

    @remembered
    def __truediv__(self, factor: Any) -> Objective:
        factor = _factor(f"{self._shown()} /", factor)
        if factor is None:
            return NotImplemented
        require(factor != 0, f"({self}) / {factor!r}: an objective can't be divided by zero")
        return self._map(lambda value: value / factor, f"{self._shown()} / {factor!r}", falling=factor < 0)

    @remembered
    def __neg__(self) -> Objective:
        return self._map(torch.neg, f"-{self._shown()}", falling=True)


def _factor(formula: str, value: Any) -> int | float | None:
    """A number in the arithmetic of objectives, as a plain one that prints as it was typed; None where it is none.

    Raises:
        DreamError: True, False, NaN or infinity.
    """
    given = plain(value)
    if not isinstance(given, SupportsFloat) or isinstance(given, str):
        return None
    require(as_number(given) is not None, f"{formula} {value!r:.40}: an objective goes with finite numbers")
    small = is_whole(given) and abs(given) <= LARGEST  # type: ignore[arg-type]
    return int(given) if small else as_number(given)  # type: ignore[call-overload]


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
