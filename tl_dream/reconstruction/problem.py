"""What was asked: a target as the user gave it, checked against the model, and the sentences that could answer it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_dream._arguments import Whole, is_whole, listed, plain, unmasked
from tl_dream._errors import DreamError, require, shortened
from tl_dream.models import Host, check_index, user_hooks
from tl_dream.objectives import Read, match
from tl_dream.reconstruction.targets import Target, frame, masked, record, shape_at
from tl_dream.results import ScoredText
from tl_dream.search import Search
from tl_dream.text import Allowed, Positions, Prompt, Sentence

FINE, COARSE = 64, 4
"""Tolerance in units of the model's machine epsilon: of float32 and float64, and of the half-precision types. Measured
on MiniLM at seven hooks of six layers, other batches, padding, threads and backends differ by up to 31 and 3 of them in
the root mean square over a position."""

FINE_SINGLE, COARSE_SINGLE = 512, 16
"""The same of a single number, against the target's scale or the number, whichever is larger; measured: 310 and 7."""


@dataclass(frozen=True)
class TargetSpec:
    """A target before the length of its sentence is known.

    Attributes:
        name: full name of the hook.
        read: the hook as it was asked for.
        rows: a row for every position of the sentence, or of `positions`; its numbers are the units.
        positions: what the target covers, as given.
        units: the units it covers, heads counted through; None for all.
        precision: the model's machine epsilon.
        rounded: what each number may have been rounded by where the target's dtype is narrower than the model's, as a
            share of itself; else 0.
    """

    name: str
    read: Read
    rows: Float[Tensor, "n unit"]
    positions: Positions
    units: tuple[int, ...] | None
    precision: float
    rounded: float

    @property
    def length(self) -> int | None:
        """The sentence's length, where the target alone tells it."""
        count, given = len(self.rows), self.positions
        if given is None:
            return count
        if isinstance(given, str | slice):
            return None
        named = len(listed(given))
        return None if count == named else count

    def target(self, host: Host, sentence: Sentence) -> Target:
        """The target for a sentence of a certain length.

        Raises:
            DreamError: positions that are not there, another number of rows than positions, rows in an order that can
                be read in two ways, or numbers whose squares the dtype can't hold.
        """
        length, rows = len(sentence), self.rows
        every = tuple(range(length))
        places = every if self.positions is None else self._places(host, sentence, self.positions)
        pos = tuple(sorted(places))
        if len(rows) == length:
            require(
                len(places) < length or places == pos,
                f"positions={self.positions!r} names every position, but not from left to right: are the target's rows "
                "in that order, or from left to right? Put them from left to right and leave positions= out",
            )
            rows = rows[list(pos)]
        elif len(rows) == len(places):
            rows = rows[sorted(range(len(places)), key=places.__getitem__)]
        require(
            len(rows) == len(pos),
            f"the target has {len(rows)} rows for {len(pos)} positions of a sentence of {length} tokens: give a row "
            "for each of these positions, or the whole activation",
        )
        wide = torch.promote_types(host.W_E.dtype, torch.float32)
        scale = _scale(rows.detach(), wide)
        values = rows.detach().to(host.device, wide)
        layer = self.read.layer
        units = None if self.units is None else list(self.units)
        where = slice(None) if pos == every else list(pos)
        coarse = self.precision > 1e-5
        together, single = (COARSE, COARSE_SINGLE) if coarse else (FINE, FINE_SINGLE)
        return Target(
            goal=match(values, self.read.hook, layer=layer, units=units, pos=where),
            name=self.name,
            sentence=sentence,
            pos=pos,
            units=self.units,
            values=values,
            scale=scale,
            # the fewer numbers a position has, the more one of them weighs in their root mean square
            tolerance=self.precision * math.hypot(together, single / values.shape[1] ** 0.5),
            single=self.precision * single,
            rounded=self.rounded,
        )

    @staticmethod
    def _places(host: Host, sentence: Sentence, positions: Positions) -> tuple[int, ...]:
        """The positions in the order they were given."""
        found = host.vocabulary.locate(sentence, positions)
        if not isinstance(positions, list):
            return found
        items = unmasked(positions, len(sentence), "positions")
        places = tuple(i for item in items for i in host.vocabulary.locate(sentence, item))
        require(len(places) == len(found), f"positions={positions!r} names a position twice: name each once")
        return places


def _scale(rows: Float[Tensor, "n unit"], dtype: torch.dtype) -> float:
    """The root mean square, where it and the squares of differences can be computed in `dtype`."""
    largest, limits = float(rows.double().abs().max()), torch.finfo(dtype)
    require(largest > 0, "the target is zero at every position and unit asked for: there is no activation to match")
    scale = largest * float((rows.double() / largest).square().mean().sqrt())
    require(
        scale > 1e6 * limits.tiny**0.5 and scale * rows.numel() ** 0.5 < 1e-3 * limits.max**0.5,
        f"the target's root mean square is {scale:.0e}: squares of it do not fit {str(dtype)[6:]}, and no activation "
        "is of that size; give it as it was recorded",
    )
    return scale


def read_target(
    host: Host,
    target: Any,
    hook: str,
    layer: Whole | None,
    positions: Positions,
    units: Whole | Iterable[Any] | None,
) -> TargetSpec:
    """A target as the user gave it, checked against the hook.

    Raises:
        DreamError: whatever is wrong with the target, the hook or the units.
    """
    positions, units, layer = plain(positions), plain(units), plain(layer)
    require(layer != "all", "a target is of one layer: give its number; reconstruct_layers() reads several")
    read = Read(hook, layer)
    (name,) = read.resolve(host)
    target = _as_tensor(host, target)
    least = 0
    if user_hooks(host.model):  # these may ask for positions that shorter sentences have not got
        least = next((size for size in target.shape[:2] if size > 1), 0) if target.ndim > 1 else 0
    shape = shape_at(host, name, least)
    chosen = None if units is None else _units(name, math.prod(shape), units)
    rows = _rows(name, shape, target, chosen, is_whole(positions), is_whole(units))
    precision, stored = (torch.finfo(dtype).eps for dtype in (host.W_E.dtype, target.dtype))
    return TargetSpec(name, read, rows, positions, chosen, precision, stored / 2 if stored > precision else 0.0)


def by_number(host: Host, sentence: Sentence, positions: Positions) -> Positions:
    """Positions that may be words of a sentence, as numbers in the order they are named."""
    positions = plain(positions)
    if isinstance(positions, str):
        return list(host.vocabulary.locate(sentence, positions))
    if isinstance(positions, list):
        items = unmasked(positions, len(sentence), "positions")
        return [i for item in items for i in host.vocabulary.locate(sentence, item)] or positions
    return positions


def _as_tensor(host: Host, target: Any) -> Tensor:
    """The target as a tensor, where it is an array of finite floating-point numbers on the model's device."""
    if hasattr(target, "__array__") and not isinstance(target, Tensor) and target.dtype.kind == "f":
        target = torch.as_tensor(target, device=host.device)
    require(
        isinstance(target, Tensor),
        f"the target is a {type(target).__name__}: give a text, a tensor or an array of floating-point numbers",
    )
    require(
        target.is_floating_point(),
        f"the target's dtype is {target.dtype}: give floating-point numbers, such as target.float()",
    )
    require(
        target.device.type == host.device.type and (target.device.index or 0) == (host.device.index or 0),
        f"the target is on {target.device}, the model on {host.device}: give target.to({str(host.device)!r})",
    )
    require(target.numel() > 0, f"the target is empty (shape {tuple(target.shape)}): give an activation")
    bad = int((~torch.isfinite(target)).sum())
    require(bad == 0, f"the target holds {bad} NaN or infinite numbers among its {target.numel()}: give finite ones")
    return target


def _units(name: str, width: int, units: Any) -> tuple[int, ...] | None:
    given = unmasked(listed(units), width, "units")
    require(bool(given), "units= names no unit: leave it out for all of them")
    chosen = tuple(check_index("unit", unit, width, name) % width for unit in given)
    require(len(set(chosen)) == len(chosen), f"units={units!r} names a unit twice: name each once")
    require(
        len(chosen) < width or chosen == tuple(range(width)),
        f"units={units!r} names every unit, but not in order: put the target's units in order and leave units= out",
    )
    return None if chosen == tuple(range(width)) else chosen


def _rows(
    name: str, shape: tuple[int, ...], target: Tensor, units: tuple[int, ...] | None, one_position: bool, one_unit: bool
) -> Float[Tensor, "n unit"]:
    """The target as [position, unit], only the units asked for.

    Args:
        shape: of the hook's activation at one position.
        one_position, one_unit: whether a single one was asked for, and its axis may be missing.
    """
    width = math.prod(shape)
    tails = [(shape, True), ((width,), True)]
    if units is not None:
        tails += [((len(units),), False)] + [((), False)] * one_unit
    for tail, choose in tails:
        lead = target.ndim - len(tail)
        if lead < 0 or tuple(target.shape[lead:]) != tail:
            continue
        if lead == 1 or lead == 2 and target.shape[0] == 1 or lead == 0 and one_position:
            rows = target.reshape(-1, math.prod(tail))
            return rows[:, list(units)] if choose and units is not None else rows
    asked = f" or [pos, {len(units)}] for the units asked for" if units is not None else ""
    raise DreamError(
        f"the target's shape {tuple(target.shape)} does not fit the hook {name!r}: its activation is "
        f"[pos, {', '.join(map(str, shape))}]{asked}, with or without a batch axis of 1; one position's is "
        f"[{', '.join(map(str, shape))}], with positions= a number"
    )


@dataclass(frozen=True)
class Problem:
    """A question, and the sentences that could answer it.

    Attributes:
        question: what must be met.
        frames: sentences of every length to try, without their words.
        start: where to begin; None for anywhere.
        truth: what the target was recorded from, where it is known. Never used to search.
    """

    question: TargetSpec
    frames: tuple[Sentence, ...]
    start: Sentence | None
    truth: Sentence | None


def read_problem(
    host: Host,
    target: Any,
    start: str | Prompt | None = None,
    *,
    hook: str,
    layer: Whole | None,
    positions: Positions = None,
    units: Whole | Iterable[Any] | None = None,
    length: Whole | Iterable[Any] | None = None,
    truth: str | Prompt | None = None,
) -> Problem:
    """The problem that the arguments of `reconstruct` describe.

    Raises:
        DreamError: whatever is wrong with them.
    """
    begin = None if start is None else host.vocabulary.read(start)
    known = None if truth is None else host.vocabulary.read(truth)
    framing = begin
    if isinstance(target, str | Prompt):
        require(truth is None, "the target is a text, and so the truth itself: leave truth= out")
        known = host.vocabulary.read(target)
        target = record(host, known, Read(hook, layer).resolve(host)[0])
        framing = begin or known
    positions, length = plain(positions), plain(length)
    if framing is not None:
        positions = by_number(host, framing, positions)
    require(
        not isinstance(positions, str) or positions == "all",
        f"positions = {shortened(repr(positions))}: the sentence is not known, so give positions by number",
    )
    question = read_target(host, target, hook, layer, positions, units)
    if framing is not None:
        frames = [masked(host, framing)]
        require(
            length is None or length == len(framing),
            f"length = {length!r}, and the text has {len(framing)} tokens: leave length= out",
        )
    else:
        frames = [frame(host, size) for size in _lengths(question, length, known)]
    sizes = [len(sentence) for sentence in frames]
    for what, given in (("start", begin), ("truth", known)):
        require(
            given is None or len(given) in sizes,
            f"the {what} has {len(given or ())} tokens, the sentence {' or '.join(map(str, sizes))}: it can't be it",
        )
    told = question.length
    require(
        told is None or sizes == [told],
        f"the target has {told} positions, and a sentence of {' or '.join(map(str, sizes))} tokens was asked for: give "
        "the activation of all positions, or name those it covers with positions=",
    )
    return Problem(question, tuple(frames), begin, known)


def _lengths(question: TargetSpec, length: Any, known: Sentence | None) -> list[int]:
    """The lengths to try."""
    if length is not None:
        lengths = listed(length)
        require(bool(lengths), "length= names no length: give at least one")
        require(all(map(is_whole, lengths)), f"length = {length!r}: give a whole number, or several")
        return lengths
    if known is not None:
        return [len(known)]
    if question.length is None and isinstance(question.positions, slice | str):
        return [len(question.rows)]
    require(
        question.length is not None,
        "the target covers some positions only, and the sentence's length is not known: give length= (one, or several "
        "to try, special tokens included) or a start",
    )
    return [question.length or 0]


def check_allowed(task: Problem, mask: Bool[Tensor, " vocab"], allowed: Allowed) -> None:
    """Raise where a token of the start or the truth is none that may be chosen."""
    for sentence in filter(None, (task.start, task.truth)):
        for i in sentence.free:
            require(
                bool(mask[sentence.ids[i]]),
                f"the text holds {sentence.tokens[i]!r} at position {i}, which allowed={allowed!r} rules out",
            )


def measured(host: Host, task: Problem, sentence: Sentence) -> Search[ScoredText]:
    """A sentence with minus its mean squared error; the truth's is 0 but for rounding, if the target is as recorded."""
    target = task.question.target(host, sentence)
    found = yield from target.compare(host, target.searched(host, sentence)[None])
    return host.scored_text(sentence.ids, -float(target.loss(found.errors[0])))
