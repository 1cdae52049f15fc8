"""The activations of two sets of sentences at the concept word, at one or all layers, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._errors import DreamError, require
from tl_dream.concepts.examples import Example, Examples, joined, quoted
from tl_dream.models import BATCH_TOKENS, Host, forward, is_pattern, length_groups, units_of
from tl_dream.text import Sentence, Vocabulary


@dataclass(frozen=True)
class Collected:
    """What the estimators are given.

    Attributes:
        activations: by layer in the order asked for, each Float[example unit]; heads' units counted through.
        labels: True for the positive set.
        groups: a number for every sentence with its concept word left out; a pair has one and the same.
        names: full names of the hooks.
        sentences, places: of every example, its tokens and the positions of its concept word.
        pairs: the examples that are each other's counterparts, (negative, positive).
    """

    activations: tuple[Float[Tensor, "example unit"], ...]
    labels: Bool[numpy.ndarray, " example"]
    groups: Int[numpy.ndarray, " example"]
    names: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    places: tuple[tuple[int, ...], ...]
    pairs: tuple[tuple[int, int], ...]


def collect(host: Host, examples: Examples, hook: str, layers: Sequence[int | None]) -> Collected:
    """Reads every sentence once; where the concept stands on several tokens, their mean.

    Args:
        layers: of a short hook name; [None] for a full one.

    Raises:
        DreamError: an unknown hook or layer, a hook without a row of units for every position, a concept word that is
            missing or repeated (listed), activations that are constant or do not tell the two sets apart.
    """
    names = [host.resolve(hook, layer) for layer in layers]
    for name in names:
        require(not is_pattern(name), f"{name!r} is an attention pattern: it has no units to find a direction in")
    sentences, places = _located(host.vocabulary, examples.items)
    found: list[list[Tensor]] = [[] for _ in names]
    order: list[int] = []
    with torch.no_grad():
        for group in length_groups([len(s) for s in sentences], BATCH_TOKENS, equal_lengths=True):
            ids, _ = host.pad([sentences[i].ids for i in group])
            got = forward(host, ids, names)
            order += group
            for parts, name in zip(found, names, strict=True):
                parts.append(_at(got[name], name, [places[i] for i in group]))
    back = torch.tensor(order).argsort()
    activations = tuple(torch.cat(parts)[back] for parts in found)
    labels = numpy.array([item.positive for item in examples.items])
    for name, rows in zip(names, activations, strict=True):
        _check(rows, labels, name, host)
    groups = _groups(sentences, places, labels)
    return Collected(
        activations, labels, groups, tuple(names), tuple(sentences), tuple(places), _pairs(examples.items, groups)
    )


def _located(vocabulary: Vocabulary, items: Sequence[Example]) -> tuple[list[Sentence], list[tuple[int, ...]]]:
    """Every sentence tokenized, and the positions of its concept word."""
    sentences, places, faults = [], [], []
    for item in items:
        try:
            sentence = vocabulary.read(item.text)
            place = _place(vocabulary, sentence, item)
        except DreamError as error:
            where = f"{item.origin}, " if item.origin else ""
            faults.append(f"{where}{quoted(item.text)!r}: {error}")
            continue
        sentences.append(sentence)
        places.append(place)
    require(
        not faults,
        f"the concept can't be read in {len(faults)} of {len(items)} sentences: {joined(faults)}. Mark the word with "
        "braces ({she} is a doctor), or leave these sentences out",
    )
    return sentences, places


def _place(vocabulary: Vocabulary, sentence: Sentence, item: Example) -> tuple[int, ...]:
    if item.span is None:
        return vocabulary.locate(sentence, item.pos, whole_words=True)
    return span_positions(vocabulary, sentence, item.span)


def span_positions(vocabulary: Vocabulary, sentence: Sentence, span: tuple[int, int]) -> tuple[int, ...]:
    """The positions of the tokens that stand on these characters of a sentence's text.

    Raises:
        DreamError: a tokenizer that does not tell (a slow one).
    """
    require(
        bool(getattr(vocabulary.tokenizer, "is_fast", False)),
        "this tokenizer does not tell which characters a token stands for: give the concept's position instead",
    )
    coded = vocabulary.tokenizer(sentence.text, return_offsets_mapping=True, verbose=False)
    shift = len(sentence) - len(coded["input_ids"])  # a BOS that the tokenizer does not add itself
    start, end = span
    return tuple(i + shift for i, (a, b) in enumerate(coded["offset_mapping"]) if max(a, start) < min(b, end))


def _at(activation: Tensor, name: str, places: Sequence[tuple[int, ...]]) -> Float[Tensor, "batch unit"]:
    """The mean over each row's positions, in float32 or wider, on the CPU."""
    units = units_of(activation, name, None)
    require(
        units.shape[0] == len(places),
        f"the hook {name!r} is the same for every sentence (shape {tuple(activation.shape)}): no concept is in it",
    )
    units = units.to(torch.promote_types(units.dtype, torch.float32)).cpu()
    return torch.stack([row[list(place)].mean(0) for row, place in zip(units, places, strict=True)])


def _check(rows: Tensor, labels: numpy.ndarray, name: str, host: Host) -> None:
    require(bool(torch.isfinite(rows).all()), f"the activations at {name!r} hold NaN or infinite numbers")
    # in bf16 64 roundings would be half of the largest number, and most of what tells words apart
    noise = min(64 * torch.finfo(host.W_E.dtype).eps, 1 / 16) * float(rows.abs().max())
    require(
        float((rows - rows.mean(0)).abs().max()) > noise,
        f"the activations at {name!r} are constant: every sentence gives the same, and no concept is in them. Read "
        "another hook or position",
    )
    sides = torch.from_numpy(labels)
    require(
        float((rows[sides].mean(0) - rows[~sides].mean(0)).abs().max()) > noise,
        f"the two sets have the same mean activation at {name!r}: this hook does not see the concept at this position",
    )


def _groups(
    sentences: Sequence[Sentence], places: Sequence[tuple[int, ...]], labels: Bool[numpy.ndarray, " example"]
) -> Int[numpy.ndarray, " example"]:
    """One number for all sentences that are the same but for the concept word.

    That is: without what was read they are equal, or each is the only one of the other set that differs from the other
    in a single token (so that pairs are known where the concept is read at [CLS] or over the whole sentence).
    """
    parent = list(range(len(sentences)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    first: dict[tuple[object, ...], int] = {}
    for i, (sentence, place) in enumerate(zip(sentences, places, strict=True)):
        words = [at for at, special in enumerate(sentence.special) if not special]
        rest = [at for at in words if at not in place]
        keys: list[tuple[object, ...]] = [("whole", sentence.ids)]
        if rest and len(rest) < len(words):
            before = tuple(sentence.ids[at] for at in rest if at < place[0])
            keys.append(("frame", before, tuple(sentence.ids[at] for at in rest if at > place[0])))
        for key in keys:
            parent[root(i)] = root(first.setdefault(key, i))
    for i, other in _counterparts(sentences, labels):
        parent[root(i)] = root(other)
    roots = [root(i) for i in range(len(sentences))]
    known = {number: i for i, number in enumerate(dict.fromkeys(roots))}
    return numpy.array([known[number] for number in roots])


def _pairs(items: Sequence[Example], groups: Int[numpy.ndarray, " example"]) -> tuple[tuple[int, int], ...]:
    """Counterparts, in the order of the sentences: alone in their group, or in one group and from the same line."""
    members: dict[int, tuple[list[int], list[int]]] = {}
    for i, group in enumerate(groups.tolist()):
        members.setdefault(group, ([], []))[items[i].positive].append(i)
    pairs = []
    for negatives, positives in members.values():
        if len(negatives) == len(positives) == 1:
            pairs.append((negatives[0], positives[0]))
        else:
            lines = {items[i].line: i for i in positives if items[i].line}
            pairs += [(i, lines[items[i].line]) for i in negatives if items[i].line in lines]
    return tuple(sorted(pairs, key=min))


def _counterparts(sentences: Sequence[Sentence], labels: Bool[numpy.ndarray, " example"]) -> list[tuple[int, int]]:
    """Pairs of a positive and a negative sentence that differ in one token, where neither has two such others."""
    negatives: dict[tuple[int, ...], list[int]] = {}
    found: dict[int, set[int]] = {}
    for side in (False, True):
        for i in numpy.flatnonzero(labels == side).tolist():
            ids = sentences[i].ids
            for at in range(len(ids)):
                gap = (*ids[:at], -1, *ids[at + 1 :])
                for other in negatives.setdefault(gap, []) if side else ():
                    found.setdefault(i, set()).add(other)
                    found.setdefault(other, set()).add(i)
                if not side:
                    negatives.setdefault(gap, []).append(i)
    pairs = [(i, next(iter(others))) for i, others in found.items() if labels[i] and len(others) == 1]
    return [(i, other) for i, other in pairs if len(found[other]) == 1]
