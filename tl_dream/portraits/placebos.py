"""`placebo`: directions that mean nothing, to compare a unit with; what a unit gives at the words of a corpus."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from tl_dream._arguments import Whole, one_of, seed_number, whole_number
from tl_dream._errors import require
from tl_dream.models import Host, attached, default_batch_tokens, in_batches, length_groups
from tl_dream.objectives import TOKENS, BatchContext, Objective, check, direction, read_activations
from tl_dream.text import Corpus, Sentence, ShardReader

COUNT = 20
LINES, LENGTH = 1000, 10_000
"""Sentences of a corpus that are read for its statistics, drawn at random, and how many tokens they have at most."""

Texts = str | os.PathLike[str] | Iterable[Any]

KINDS = ("both", "random", "mixture")


def placebo(
    model: Any,
    objective: Objective,
    corpus: Texts,
    *,
    count: Whole = COUNT,
    kind: str = "both",
    mixed: Whole = 3,
    column: str | None = None,
    seed: Whole = 0,
) -> tuple[Objective, ...]:
    """Directions of the hook that an objective reads, with its mean and deviation over a corpus: a dream of one of them
    is what a search makes of nothing in particular.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: on one hook, with a value at every position: a unit, a direction, one head's or all heads'.
        corpus: as in `corpus_search`; sentences of 10,000 tokens in all, drawn at random, give mean and deviation.
        count: directions.
        kind: "random" directions (normal, so that all are alike), "mixture"s of a few units with random weights, or
            "both" in turn.
        mixed: units of a mixture.
        column: of a data set, as in `corpus_search`.
        seed: of the directions and the sample.

    Returns:
        Objectives that read the same positions in the same way. Each is a direction plus a number, in the objective's
        own units.

    Raises:
        DreamError: an objective on several hooks, on words, on an attention pattern or of your own; one that never
            varies over the corpus; an empty corpus.

    Examples:
        >>> unit = td.neuron("block_out", layer=1, unit=3)
        >>> fakes = td.placebo(bert, unit, ["the red dog .", "i hate my house", "a cat"], count=4)
        >>> len(fakes), td.dream(bert, fakes[0], "a small cat", budget=1_000).best.text != ""
        (4, True)
    """
    count, mixed, seed = whole_number("count", count), whole_number("mixed", mixed), seed_number(seed)
    one_of("kind", kind, KINDS)
    with attached(model) as host:
        check(host, objective)
        check_comparable(objective)
        sentences = sampled(host, corpus, LINES, seed, column)
        raw = directions(host, objective, sentences[0], 2 * count, kind, mixed, seed)
        return calibrated(host, objective, raw, sentences)[:count]


def check_comparable(objective: Objective) -> None:
    """Raise `DreamError` unless there are directions to compare an objective with."""
    require(
        len(objective.reads) == 1
        and objective.reads[0] != TOKENS
        and objective.reads[0].layer != "all"
        and objective.per_token is not None,
        f"{objective} has no placebo: there are random directions of one hook only, for an objective with a value at "
        "every position (neuron(), direction()); leave fluency out",
    )


@torch.no_grad()
def directions(
    host: Host, objective: Objective, example: Sentence, count: int, kind: str, mixed: int, seed: int
) -> list[Objective]:
    """Directions of the objective's hook, as they are drawn; where the objective keeps to one head, so do they.

    Args:
        example: a sentence, to see how wide the hook is.
    """
    (read,) = objective.reads
    ids, _ = host.pad([example.ids])
    activation = read_activations(host, [read], ids)[read]
    square = activation.ndim == 4 and activation.shape[-1] == activation.shape[-2] == len(example)
    require(activation.ndim >= 3 and not square, f"{objective} reads {read.hook!r}, which has no directions")
    inside = units_inside(host, objective, example)
    places = inside.nonzero().flatten()
    draw = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        vector = torch.zeros(len(inside))
        name = ("random", "mixture")[number % 2] if kind == "both" else kind
        some = places
        if name == "mixture":
            some = places[torch.randperm(len(places), generator=draw)[:mixed]]
        vector[some] = torch.randn(len(some), generator=draw)
        vector /= vector.norm()
        found.append(_placebo(objective, vector, f"{name} {number + 1}"))
    return found


def _placebo(objective: Objective, vector: Tensor, name: str) -> Objective:
    (read,), (pos, reduce) = objective.reads, objective.where
    return direction(vector, read.hook, layer=read.layer, pos=pos, reduce=reduce, name=name)


def units_inside(host: Host, objective: Objective, example: Sentence) -> Bool[Tensor, " unit"]:
    """The units of the hook, all heads' counted through, among which directions are drawn: one head's, where the
    objective keeps to that."""
    (read,), rows = objective.reads, BatchContext.of(host, [example])
    ids, _ = host.pad([example.ids])
    activation = read_activations(host, [read], ids)[read].detach()
    everything = torch.ones(activation[0, 0].numel(), dtype=torch.bool)
    if activation.ndim == 3:
        return everything
    with torch.enable_grad():
        probe = activation.clone().requires_grad_()
        assert objective.per_token is not None
        values = objective.per_token({read: probe}, rows)
        (pull,) = torch.autograd.grad(values.sum(), [probe])
    heads = rearrange(pull != 0, "batch pos head unit -> head (batch pos unit)").any(1)
    if int(heads.sum()) != 1:
        return everything
    return heads.repeat_interleave(activation.shape[-1]).cpu()


def calibrated(
    host: Host, objective: Objective, raw: Sequence[Objective], sentences: Sequence[Sentence]
) -> tuple[Objective, ...]:
    """Directions with the mean and deviation that the objective has over the words of these sentences; those that never
    vary there are left out.

    Raises:
        DreamError: the objective itself never varies.
    """
    values = word_values(host, [objective, *raw], sentences).double()
    (mean, *means), (deviation, *deviations) = values.mean(1).tolist(), values.std(1, correction=0).tolist()
    check_varies(objective, values[0])
    found = []
    for one, own_mean, own in zip(raw, means, deviations, strict=True):
        if own > 0:
            scale = deviation / own
            found.append(scale * one + (mean - scale * own_mean))
    return tuple(found)


def varies(values: Float[Tensor, " word"]) -> bool:
    """Whether not all are the same."""
    return float(values.max() - values.min()) > 0


def check_varies(objective: Objective, values: Tensor) -> None:
    """Raise `DreamError` unless an objective varies over the words it was read at."""
    require(
        varies(values),
        f"{objective} never varies: it is {float(values[0]):.4g} at each of the {len(values):,} words that were read; "
        "choose another unit, or a larger corpus",
    )


def held(corpus: Any) -> Any:
    """A corpus that can be read twice."""
    again = isinstance(corpus, str | os.PathLike) or hasattr(corpus, "__len__") or hasattr(corpus, "column_names")
    return corpus if again or not hasattr(corpus, "__iter__") else list(corpus)


def sampled(host: Host, texts: Texts, count: int, seed: int, column: str | None = None) -> list[Sentence]:
    """Sentences of a corpus, drawn at random, each different, of `LENGTH` tokens in all (one sentence at least); in the
    order of the corpus.

    Raises:
        DreamError: an empty corpus, one without a sentence that the model can read, or what is no corpus.
    """
    corpus = Corpus.of(texts, column)
    reader = ShardReader(corpus, host.vocabulary, 1024, host.n_ctx)
    draw = random.Random(seed)
    kept: dict[tuple[int, ...], tuple[float, int, Sentence]] = {}
    for shard in reader:
        for line, sentence in zip(shard.lines, shard.sentences, strict=True):
            kept.setdefault(sentence.ids, (draw.random(), line, sentence))
        if len(kept) > 4 * count:
            kept = {one[2].ids: one for one in sorted(kept.values(), key=lambda one: one[0])[:count]}
    require(reader.line > 0, f"the corpus is empty: no line in {corpus.name}")
    require(bool(kept), f"not one of the {reader.line:,} lines of {corpus.name} is a sentence that the model can read")
    chosen = sorted(kept.values(), key=lambda one: one[0])[:count]
    room = accumulate(len(sentence) for _, _, sentence in chosen)
    chosen = [one for i, (one, sofar) in enumerate(zip(chosen, room, strict=True)) if sofar <= LENGTH or i == 0]
    return [sentence for _, _, sentence in sorted(chosen, key=lambda one: one[1])]


@torch.no_grad()
def word_values(
    host: Host, objectives: Sequence[Objective], sentences: Sequence[Sentence]
) -> Float[Tensor, "objective word"]:
    """What each objective gives at every word of the sentences, the special tokens left out, on the CPU."""
    reads = dict.fromkeys(read for one in objectives for read in one.reads)

    def work(numbers: Sequence[int]) -> Tensor:
        some = [sentences[i] for i in numbers]
        ids, mask = host.pad([one.ids for one in some])
        rows = BatchContext.of(host, some)
        activations = read_activations(host, reads, ids, mask=None if bool(mask.all()) else mask)
        found = []
        for one in objectives:
            assert one.per_token is not None
            found.append(one.per_token(activations, rows).expand(rows.mask.shape)[rows.words])
        return torch.stack(found).float().cpu()

    lengths = [len(sentence) for sentence in sentences]
    groups = length_groups(lengths, default_batch_tokens(host, None))
    return torch.cat([part for group in groups for part in in_batches(group, len(group), work)], 1)
