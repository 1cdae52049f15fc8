"""Objectives made of others, or of your own function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from tl_dream._arguments import Number, finite_number
from tl_dream._errors import require
from tl_dream.models import Host, attached, opened
from tl_dream.objectives.judges import SameTokens
from tl_dream.objectives.objective import TOKENS, Activations, BatchContext, Objective, Read, Score, Tokens
from tl_dream.objectives.pickling import remembered
from tl_dream.objectives.preactivations import reduced
from tl_dream.objectives.scoring import check, climbed, read_activations


@remembered
def normalized(objective: Objective) -> Objective:
    """An objective divided, at every word, by that word's L2 norm over all layers (the article's "normalize").

    The norm is over `block_out` of every layer at once; the result is dimensionless and comparable between layers.
    Fluency stays as it is.

    Args:
        objective: one that has a value at every position (not your own function of activations).

    Examples:
        >>> goal = td.normalized(td.neuron("block_out", layer=1, unit=5, pos=2))
        >>> td.score(bert, goal, "the red dog").abs() < 1
        tensor([True])
    """
    require(isinstance(objective, Objective), f"an objective was expected, not {type(objective).__name__}")
    if TOKENS in objective.reads and not objective.terms and {*objective.reads} <= {TOKENS, Read("logits")}:
        return objective  # fluency is no activation
    every = Read("block_out", "all")
    tokens = objective.per_token
    if tokens is None and objective.terms:
        first, *others = (normalized(term) for term in objective.terms)
        return replace(sum(others, first), formula=f"normalized({objective})")
    require(
        tokens is not None,
        f"normalized({objective}) needs a value at every position, and this objective has none: climb it as it is "
        "(normalize=False)",
    )
    assert tokens is not None
    inner = tokens

    def ratio(acts: Activations, rows: BatchContext) -> Tensor:
        norm = acts[every].square().sum((0, 3)).sqrt()
        return inner(acts, rows) / norm

    reads = tuple(dict.fromkeys((*objective.reads, every)))
    made = reduced(ratio, *objective.where, reads, f"normalized({objective})")
    up = objective.uphill
    return made if up is None or up.per_token is None else replace(made, uphill=normalized(up))


@remembered
def custom(
    function: Callable[[dict[str, Tensor]], Tensor],
    hooks: Mapping[str, Any],
    *,
    name: str | None = None,
) -> Objective:
    """Your own function of named activations.

    Args:
        function: receives {your name: activation [batch, pos, ...]} and returns one score per row, Float[batch].
            Rows are never padded, so position -1 is the last token.
        hooks: {your name: full hook name, or (short name, layer)}; (hook, layer, model) is that of another model with
            the same tokenizer, the layer being None of a full name (see `difference`).
        name: how it prints; the default is the function's name.

    Examples:
        >>> squared = td.custom(lambda acts: acts["h"][:, 1, 5] ** 2, {"h": ("block_out", 1)}, name="squared")
        >>> td.score(bert, squared, "the red dog") >= 0
        tensor([True])
    """
    require(
        isinstance(hooks, Mapping) and bool(hooks), "custom() needs the hooks its function reads: give {name: hook}"
    )
    reads, others = dict[str, Read](), dict[str, _Elsewhere]()
    for key, value in hooks.items():
        given = tuple(value) if isinstance(value, tuple | list) else (value, None)
        told = (
            f"the hook {key!r} is {value!r:.200}: give a full name, (short name, layer), or (hook, layer, other model)"
        )
        require(len(given) in (2, 3), told)
        reads[key] = Read(*given[:2])
        if len(given) == 3:
            with attached(given[2]) as host:
                reads[key].resolve(host)
            others[key] = _Elsewhere(given[2], (reads[key],))

    def score(acts: Activations, rows: BatchContext) -> Any:  # what a user's function gives is checked by the objective
        found = {key: others[key](acts, rows) if key in others else acts for key in reads}
        given = {key: found[key][read] for key, read in reads.items()}
        before = [(value, value._version) for value in given.values()]
        value = function(given)
        require(
            all(one._version == version for one, version in before),
            f"the function {label} changes activations in place, which others read as well: make new ones (x * 2, not "
            "x.mul_(2))",
        )
        return value

    require(callable(function), f"function = {function!r}: give a function of activations by name")
    require(name is None or isinstance(name, str), f"name = {name!r:.80}: give a text, or None")
    label = str(getattr(function, "__name__", "custom") if name is None else name)
    own = [read for key, read in reads.items() if key not in others]
    return Objective((*own, *([TOKENS] if others else [])), label, score, None, equal_lengths=True)


@remembered
def difference(objective: Objective, other: Any, *, weight: Number = 1.0) -> Objective:
    """How much more an objective is in the dreaming model than in another one that reads the same tokens: the way to
    text that fires a unit of a fine-tuned model and not of its original.

    Where the objective has a value at every position, the values are subtracted there, and then reduced as the
    objective does it; else the scores are.

    Args:
        objective: what both have: `neuron("mlp_post", layer=4, unit=414)`.
        other: the other model, of any size and backend, with the same tokenizer. Soft words are mixed from its own
            embeddings.
        weight: of the other model's value; dimensionless, > 0.

    Raises:
        DreamError: no model, or one without the hooks; (when scored) another vocabulary or device, a sentence that is
            too long for it.

    Examples:
        >>> goal = td.difference(td.neuron("mlp_post", layer=1, unit=3), bert)  # of itself: 0
        >>> td.score(bert, goal, "the red dog")
        tensor([0.])
    """
    require(isinstance(objective, Objective), f"an objective was expected, not {type(objective).__name__}")
    share = finite_number("weight", weight, "a number above 0", lambda number: number > 0)
    with attached(other) as host:  # tells what is no model
        check(host, objective)
        replaced = climbed(host, objective) is not objective
        name = host.name
    up, down = (objective.uphill or objective, objective.downhill or objective) if replaced else (objective,) * 2
    there = _Elsewhere(other, tuple(dict.fromkeys((*objective.reads, *up.reads, *down.reads))))
    shown = "" if share == 1 else f", weight={weight!r}"
    formula = f"difference({objective}, {name}{shown})"

    def minus(mine: Objective, theirs: Objective) -> Objective:
        def subtracted(own: Score, others: Score) -> Score:
            return lambda acts, rows: own(acts, rows) - share * others(there(acts, rows), rows)

        reads = tuple(dict.fromkeys((*mine.reads, TOKENS)))
        if mine.per_token is None or theirs.per_token is None:
            found = Objective(reads, formula, subtracted(mine, theirs))
        else:
            found = reduced(subtracted(mine.per_token, theirs.per_token), *objective.where, reads, formula)
        return replace(found, equal_lengths=objective.equal_lengths, answers=objective.answers)

    made = minus(objective, objective)
    return replace(made, uphill=minus(up, down), downhill=minus(down, up)) if replaced else made


class _Elsewhere:
    """What another model's hooks give for the words of a batch."""

    def __init__(self, model: Any, reads: tuple[Read, ...]) -> None:
        self._model, self._reads, self._check = model, reads, SameTokens()

    def __call__(self, acts: Activations, rows: BatchContext) -> Activations:
        tokens: Tokens = acts[TOKENS]
        if id(self) not in tokens.judged:
            with opened(self._model) as host:
                self._check(host.name, host.d_vocab, lambda: host.vocabulary.digest, rows)
                _check_place(host, rows)
                given: dict[str, Any] = {"mask": None if bool(rows.mask.all()) else rows.mask}
                if tokens.weights is not None:
                    given |= {"embeddings": tokens.embed(host.W_E), "weights": tokens.weights}
                own = replace(host, meter=tokens.meter)
                tokens.judged[id(self)] = read_activations(own, self._reads, tokens.ids, **given)
        return tokens.judged[id(self)]


def _check_place(host: Host, rows: BatchContext) -> None:
    device, length = rows.mask.device, rows.mask.shape[1]
    require(host.device == device, f"{host.name} is on {host.device}, the dreaming model on {device}: move one of them")
    require(length <= host.n_ctx, f"{host.name} reads {host.n_ctx} tokens, a sentence has {length}: shorten it")
