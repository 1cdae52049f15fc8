"""Many objectives on one batch of sentences at once: units of a hook together, other objectives one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy
import torch
from einops import rearrange
from torch import Tensor

from tl_dream.models import Host
from tl_dream.objectives import Activations, BatchContext, Objective, Read, read_activations, unit_number
from tl_dream.text import Positions, Sentence


@dataclass(frozen=True)
class Group:
    """Objectives that are scored together: units of one hook that read the same positions, or a single other one.

    Attributes:
        members: their numbers.
        objectives: the objectives themselves.
        units: for units of a hook, each one's index into the hook's axes after the position, counted through.
    """

    members: tuple[int, ...]
    objectives: tuple[Objective, ...]
    units: Tensor | None = None

    @property
    def pos(self) -> Positions:
        """The positions that all of them read; None where an objective does not say."""
        first = self.objectives[0]
        return first.where[0] if first.per_token is not None else None

    @property
    def reduce(self) -> str:
        """How the values at these become the score."""
        return self.objectives[0].where[1]


@dataclass(frozen=True)
class Scored:
    """A batch as a group scores it.

    Attributes:
        scores: Float[row, member].
        read: Bool[row, pos], the positions the score is made of; None where that is not known.
        values: (rows, members) -> the values at every position, Float[pair, pos]; None where there are none.
    """

    scores: numpy.ndarray
    read: numpy.ndarray | None
    values: Callable[[numpy.ndarray, numpy.ndarray], numpy.ndarray] | None


@torch.no_grad()
def grouped(host: Host, objectives: Sequence[Objective], example: Sentence) -> list[Group]:
    """Groups that hold every objective once: units of a hook that read the same positions, and all others alone."""
    ids, _ = host.pad([example.ids])
    shapes: dict[Read, Tensor] = {}
    units: dict[tuple[Read, str], list[tuple[int, int]]] = {}
    groups: list[Group] = []
    for number, objective in enumerate(objectives):
        if objective.unit is None or len(objective.reads) > 1:
            groups.append(Group((number,), (objective,)))
            continue
        (read,) = objective.reads
        if read not in shapes:
            shapes[read] = read_activations(host, [read], ids)[read]
        at = unit_number(objective, shapes[read], read)
        units.setdefault((read, repr(objective.where)), []).append((number, at))
    for pairs in units.values():
        numbers = tuple(number for number, _ in pairs)
        index = torch.tensor([unit for _, unit in pairs], device=host.device)
        groups.append(Group(numbers, tuple(objectives[number] for number in numbers), index))
    return groups


@torch.no_grad()
def score_group(group: Group, activations: Activations, rows: BatchContext) -> Scored:
    """Score a batch; all of its sentences must have the positions the group reads."""
    first = group.objectives[0]
    read = rows.words if group.pos is None or group.pos == "all" else _marked(rows, group.pos)
    if group.units is None:
        scores = first(activations, rows)[:, None]
        if first.per_token is None:
            return Scored(_array(scores), None, None)
        values = first.per_token  # asked for the best sentences only, which after some batches are few
        return Scored(
            _array(scores),
            _array(read),
            lambda row, member: _array(values(activations, rows).expand(rows.mask.shape))[row],
        )
    units = group.units
    flat = rearrange(activations[first.reads[0]], "batch pos ... -> batch pos (...)")
    flat = flat.expand(len(rows.sentences), -1, -1)
    if isinstance(group.pos, int):
        index, _ = rows.locate(group.pos)
        scores = flat[torch.arange(len(flat), device=flat.device), index[:, 0]][:, units]
    else:
        few = 8 * len(units) < flat.shape[2]  # picking units out costs more than reducing all of them
        reduced = _reduce(flat.index_select(2, units) if few else flat, read, group.reduce)
        scores = reduced if few else reduced[:, units]

    def values_of(row: numpy.ndarray, member: numpy.ndarray) -> numpy.ndarray:
        at = torch.as_tensor(row, device=flat.device)
        return _array(flat[at, :, units[torch.as_tensor(member, device=flat.device)]])

    return Scored(_array(scores), _array(read), values_of)


def _array(values: Tensor) -> numpy.ndarray:
    return (values if values.dtype == torch.bool else values.to(torch.float64)).cpu().numpy()


def _marked(rows: BatchContext, pos: Positions) -> Tensor:
    index, valid = rows.locate(pos)
    marked = torch.zeros_like(rows.mask)
    row, slot = valid.nonzero(as_tuple=True)
    marked[row, index[row, slot]] = True
    return marked


def _reduce(values: Tensor, read: Tensor, reduce: str) -> Tensor:
    """[batch, pos, member] to [batch, member], over the positions that are read."""
    if reduce == "mean":
        return values.masked_fill(~read[..., None], 0).sum(1) / read.sum(1, keepdim=True)
    if reduce == "min":
        return values.masked_fill(~read[..., None], torch.inf).amin(1)
    return values.masked_fill(~read[..., None], -torch.inf).amax(1)


def rows_of(rows: BatchContext, index: Sequence[int]) -> BatchContext:
    """Some rows of a batch, as wide as the batch."""
    at = torch.tensor(index, device=rows.mask.device)
    return BatchContext(rows.mask[at], rows.special[at], tuple(rows.sentences[i] for i in index), rows.vocabulary)


def take(activations: Activations, index: Sequence[int], batch: int) -> dict[Read, Tensor]:
    """The activations of some rows of a batch."""
    taken = {}
    for read, value in activations.items():
        dim = 1 if read.layer == "all" else 0
        at = torch.tensor(index, device=value.device)
        taken[read] = value.index_select(dim, at) if value.shape[dim] == batch else value
    return taken
