"""Score rows: forward pass and objective, plain text in batches of like length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._arguments import Whole, whole_number
from tl_dream._errors import DreamError
from tl_dream.models import (
    BertTrunk,
    Host,
    Meter,
    attached,
    can_stand_in,
    check_index,
    forward,
    layers_run,
    length_groups,
    units_of,
)
from tl_dream.objectives.objective import TOKENS, BatchContext, Objective, Read, Tokens
from tl_dream.text import Prompt, prompts_of


def read_activations(
    host: Host,
    reads: Iterable[Read],
    ids: Int[Tensor, "batch pos"],
    *,
    embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    weights: Float[Tensor, "batch pos vocab"] | None = None,
    mask: Bool[Tensor, "batch pos"] | None = None,
    trunk: BertTrunk | None = None,
    positions: Int[Tensor, "batch few"] | None = None,
) -> dict[Read, Any]:
    """One forward pass that answers what objectives read; a read of every layer comes stacked, [layer, batch, ...].

    Where only words are read no model runs, and a layer is charged all the same: what is free of charge never ends.

    Args:
        embeddings: of soft sentences.
        weights: of soft sentences, every token's at every position; only objectives that read `TOKENS` need them.
        trunk: what runs in place of the model, from `trunk_of` these reads; its deepest block holds the `positions` of
            every row.
    """
    names = {read: read.resolve(host) for read in reads}
    hooks = [name for group in names.values() for name in group]
    got: dict[str, Tensor] = {}
    if hooks and trunk is not None:
        got = trunk(ids, embeddings=embeddings, mask=mask, read=positions)
    elif hooks:
        got = forward(host, ids, hooks, embeddings=embeddings, mask=mask)
    else:
        soft = weights is not None and weights.requires_grad and torch.is_grad_enabled()
        host.meter.add(ids.shape[0], ids.shape[1], 1, backward=soft)
    found: dict[Read, Any] = {
        read: torch.stack([got[name] for name in group]) if read.layer == "all" else got[group[0]]
        for read, group in names.items()
        if group
    }
    if TOKENS in names:
        found[TOKENS] = Tokens(ids, weights, host.causal, host.meter)
    return found


def evaluate(
    host: Host,
    objective: Objective,
    ids: Int[Tensor, "batch pos"],
    rows: BatchContext,
    *,
    embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    weights: Float[Tensor, "batch pos vocab"] | None = None,
) -> Float[Tensor, " batch"]:
    """Forward pass and score of a batch of rows, hard (ids) or soft (embeddings, and weights where words are read)."""
    mask = None if bool(rows.mask.all()) else rows.mask
    if mask is not None and objective.equal_lengths:
        lengths = mask.sum(1)
        groups = [(lengths == length).nonzero()[:, 0] for length in lengths.unique()]
        parts = []
        for index in groups:
            size = int(lengths[index[0]])
            some = BatchContext.of(host, [rows.sentences[i] for i in index.tolist()])
            soft = None if embeddings is None else embeddings[index, :size]
            share = None if weights is None else weights[index, :size]
            parts.append(evaluate(host, objective, ids[index, :size], some, embeddings=soft, weights=share))
        return torch.cat(parts)[torch.cat(groups).argsort()]
    part = Part((objective,), rows, host.meter)
    ((found,),) = evaluate_parts(host, [part], ids, embeddings=embeddings, weights=weights, mask=mask)
    return found


@dataclass(frozen=True, eq=False)
class Part:
    """Some rows of a forward pass, and what scores them.

    Attributes:
        meter: what judges run counts there.
    """

    objectives: Sequence[Objective]
    rows: BatchContext
    meter: Meter


def evaluate_parts(
    host: Host,
    parts: Sequence[Part],
    ids: Int[Tensor, "batch pos"],
    *,
    embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    weights: Float[Tensor, "batch pos vocab"] | None = None,
    mask: Bool[Tensor, "batch pos"] | None = None,
    trunk: BertTrunk | None = None,
) -> list[tuple[Float[Tensor, " some"], ...]]:
    """The scores of several parts of one forward pass, one part after the other, each by objectives of its own."""
    reads = dict.fromkeys(read for part in parts for objective in part.objectives for read in objective.reads)
    positions = positions_read(parts) if trunk is not None else None
    activations = read_activations(
        host, reads, ids, embeddings=embeddings, weights=weights, mask=mask, trunk=trunk, positions=positions
    )
    units = _unit_scores(parts, activations, len(ids))
    if units is not None:
        return units
    shares = {read: _dealt(activations[read], read, parts) for read in reads}
    found = []
    for number, part in enumerate(parts):
        mine = {read: shares[read][number] for objective in part.objectives for read in objective.reads}
        try:
            found.append(tuple(objective(mine, part.rows) for objective in part.objectives))
        except RecursionError as error:
            raise DreamError(
                "the objective is a sum of too many, each inside the next: give direction() a vector of their weights, "
                "or add them up in custom()"
            ) from error
    return found


def _unit_scores(
    parts: Sequence[Part], activations: Mapping[Read, Any], count: int
) -> list[tuple[Float[Tensor, " some"], ...]] | None:
    """The scores of all parts at once, where each is one unit at one position of every row: what thousands of searches
    ask for. None where one is something else."""
    every = [objective for part in parts for objective in part.objectives]
    if any(
        one.unit is None or any(read == TOKENS or activations[read].shape[0] != count for read in one.reads)
        for one in every
    ):
        return None
    places = [[part.rows.locate(one.where[0]) for one in part.objectives] for part in parts]
    if any(valid.shape[1] > 1 for own in places for _, valid in own):
        return None
    rows = torch.arange(count, device=places[0][0][0].device).split([len(part.rows.mask) for part in parts])
    alike: dict[tuple[Read, ...], list[tuple[int, int]]] = {}
    for number, part in enumerate(parts):
        for k, one in enumerate(part.objectives):
            alike.setdefault(one.reads, []).append((number, k))
    found: dict[tuple[int, int], Tensor] = {}
    for reads, members in alike.items():
        row = torch.cat([rows[number] for number, _ in members])
        pos = torch.cat([places[number][k][0][:, 0] for number, k in members])
        goals, sizes = [parts[number].objectives[k] for number, k in members], [len(rows[n]) for n, _ in members]
        values, *before = (_unit_values(activations[read], read, goals, sizes, row, pos) for read in reads)
        for lower in before:
            values = torch.where(lower > 0, values, lower)
        found.update(zip(members, values.split(sizes), strict=True))
    return [tuple(found[number, k] for k in range(len(part.objectives))) for number, part in enumerate(parts)]


def _unit_values(
    activation: Tensor, read: Read, goals: Sequence[Objective], sizes: Sequence[int], row: Tensor, pos: Tensor
) -> Float[Tensor, " row"]:
    """Of every row one unit at one position; each of `goals` speaks of so many rows."""
    numbers = [unit_number(goal, activation[:1], read) for goal in goals]
    column = torch.from_numpy(numpy.repeat(numbers, sizes)).to(row.device)
    if activation.ndim == 3:
        return activation[row, pos, column]
    return activation[row, pos, column // activation.shape[3], column % activation.shape[3]]


def unit_number(goal: Objective, activation: Tensor, read: Read) -> int:
    """The number of an objective's unit among all of its hook, those of the heads counted through."""
    assert goal.unit is not None
    head, unit = goal.unit
    count = units_of(activation, read.hook, head).shape[2]
    first = 0 if head is None else head % activation.shape[2]
    return first * count + check_index("unit", unit, count, read.hook) % count


def _dealt(value: Any, read: Read, parts: Sequence[Part]) -> Sequence[Any]:
    """What the rows of every part gave; position embeddings come once for all rows."""
    sizes = [len(part.rows.mask) for part in parts]
    if isinstance(value, Tokens):
        weights = [None] * len(sizes) if value.weights is None else value.weights.split(sizes)
        own = zip(value.ids.split(sizes), weights, parts, strict=True)
        return [replace(value, ids=ids, weights=some, meter=part.meter, judged={}) for ids, some, part in own]
    axis = 1 if read.layer == "all" else 0
    if len(sizes) == 1 or value.shape[axis] != sum(sizes):
        return [value] * len(sizes)
    return value.split(sizes, axis)


def listed_scores(scores: Sequence[tuple[Tensor, ...]]) -> list[list[tuple[float, ...]]]:
    """Every part's scores as numbers, fetched from the device at once."""
    flat = torch.cat([values.detach() for own in scores for values in own]).double().tolist()
    found, at = [], 0
    for own in scores:
        count = len(own[0])
        columns = [flat[at + k * count : at + (k + 1) * count] for k in range(len(own))]
        at += count * len(own)
        found.append(list(zip(*columns, strict=True)))
    return found


def positions_read(parts: Sequence[Part]) -> Int[Tensor, "batch few"] | None:
    """The positions of every row whose activations its scores depend on; None where that is not known: functions of
    the user's may read any, and so may what relates the layers."""
    found = []
    for part in parts:
        if not positions_known(part.objectives):
            return None
        key = tuple(part.objectives)
        if key not in part.rows.columns:
            part.rows.columns[key] = _positions_of(part)
        found.append(part.rows.columns[key])
    most = max(own.shape[1] for own in found)
    wide = (
        own if own.shape[1] == most else torch.cat([own, own[:, -1:].expand(-1, most - own.shape[1])], 1)
        for own in found
    )
    return torch.cat([*wide])


def _positions_of(part: Part) -> Int[Tensor, "batch few"]:
    """Those of one part, each once."""
    columns = columns_read(part.objectives, part.rows)
    if not columns:
        return torch.zeros(len(part.rows.mask), 1, dtype=torch.long, device=part.rows.mask.device)
    own = torch.cat(columns, 1).sort(1).values
    new = torch.ones(own.shape[1], dtype=torch.bool, device=own.device)
    new[1:] = (own[:, 1:] != own[:, :-1]).any(0)
    return own[:, new]


def positions_known(objectives: Iterable[Objective]) -> bool:
    """Whether it is known which positions' activations the scores depend on."""
    return all(
        positions_known(objective.terms)
        if objective.terms
        else all(read == TOKENS for read in objective.reads)
        or objective.per_token is not None
        and all(read.layer != "all" for read in objective.reads)
        for objective in objectives
    )


def columns_read(objectives: Iterable[Objective], rows: BatchContext) -> list[Int[Tensor, "batch few"]]:
    """The positions that objectives declare, of every row."""
    found: list[Tensor] = []
    for objective in objectives:
        if objective.terms:
            found += columns_read(objective.terms, rows)
        elif any(read != TOKENS for read in objective.reads):
            index, valid = rows.locate(objective.where[0])
            found.append(torch.where(valid, index, index[:, :1]))
    return found


def trunk_of(host: Host, objectives: Iterable[Objective]) -> BertTrunk | None:
    """What computes the activations that objectives read in place of the model's own forward pass; None where only that
    will do: the user's hooks are on the model, or it is no BERT, or a hook lies outside of its blocks."""
    names = {name for objective in objectives for read in objective.reads for name in read.resolve(host)}
    points = can_stand_in(host, sorted(names)) if names else None
    return None if points is None else BertTrunk(host, points)


def climbed(host: Host, objective: Objective) -> Objective:
    """What a search climbs: the objective, or what it declares in its place where this model has the hooks for it."""
    if objective.uphill is None or getattr(host.model.cfg, "gated_mlp", False):  # a gate is no activation function
        return objective
    try:
        return check(host, objective.uphill)
    except DreamError:
        return objective


def depth(host: Host, objective: Objective) -> int:
    """Layers that the forward pass of an objective runs; a judge's own passes are not counted."""
    return layers_run([name for read in objective.reads for name in read.resolve(host)], host.n_layers)


def score(
    model: Any,
    objective: Objective,
    texts: str | Prompt | Iterable[str | Prompt],
    *,
    batch_tokens: Whole = 4096,
) -> Float[Tensor, " batch"]:
    """Score plain text.

    Args:
        model: any TransformerLens model.
        objective: what to measure.
        texts: one or many texts or prompts.
        batch_tokens: padded tokens a batch at most; only speed and memory depend on it.

    Returns:
        One score a text, in the order given, on the CPU.

    Raises:
        DreamError: no text, an empty or over-long one, a position or word that one of them has not got.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3, pos=2)
        >>> td.score(bert, goal, ["the red dog", "the cat"]).shape
        torch.Size([2])
    """
    given = prompts_of(texts, "text to score")
    batch_tokens = whole_number("batch_tokens", batch_tokens)
    with attached(model) as host, torch.no_grad():
        check(host, objective)
        sentences = [host.vocabulary.read(text) for text in given]
        found = torch.zeros(len(sentences), dtype=host.W_E.dtype)
        lengths = [len(sentence) for sentence in sentences]
        for group in length_groups(lengths, batch_tokens, objective.equal_lengths):
            chosen = [sentences[i] for i in group]
            ids, _ = host.pad([sentence.ids for sentence in chosen])
            found[group] = evaluate(host, objective, ids, BatchContext.of(host, chosen)).to(found)
    return found


def check(host: Host, objective: Any) -> Objective:
    """The objective, or a clear error where something else was given; unknown hooks are reported here."""
    if not isinstance(objective, Objective):
        raise DreamError(
            f"an objective was expected, not {type(objective).__name__}: make one with neuron(), direction(), logit() "
            "or custom()"
        )
    for read in objective.reads:
        read.resolve(host)
    return objective
