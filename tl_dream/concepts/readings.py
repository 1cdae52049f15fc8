"""Use a concept on a model: classify words, and ask how an objective answers to it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from tl_dream._arguments import Whole, seed_number, whole_number
from tl_dream._errors import require
from tl_dream.concepts.significance import wilson
from tl_dream.concepts.vectors import ConceptVector, ConceptVectors
from tl_dream.models import BATCH_TOKENS, Host, attached, forward, in_float32, length_groups, units_of
from tl_dream.objectives import BatchContext, Objective, Read, check, read_activations
from tl_dream.results import ConceptReading, ReadWord, Sensitivity
from tl_dream.text import Positions, Prompt, Sentence, prompts_of


def classify(
    model: Any, concept: ConceptVector | ConceptVectors, text: str | Prompt, *, pos: Positions = None
) -> ConceptReading:
    """On which side of a concept the words of a text lie, at every layer the concept has.

    Args:
        pos: where (see `Positions`); None for every word. A word of several pieces is read at each.

    Raises:
        DreamError: a concept of another model (while hooks of your own are on the model it is known by its word
            embeddings alone), a position or word that is not there.

    Examples:
        >>> reading = td.classify(bert, concept, "the dog sees a star", pos="dog")
    """
    vectors = vectors_of(concept)
    with attached(model) as host, torch.no_grad():
        before = host.meter.now()
        names = [vector.check_on(host) for vector in vectors]
        sentence = host.vocabulary.read(text)
        places = host.vocabulary.locate(sentence, pos, whole_words=True)
        ids, _ = host.pad([sentence.ids])
        found = forward(host, ids, names)
        rows = []
        for vector, name in zip(vectors, names, strict=True):
            values = vector.coordinate(in_float32(units_of(found[name], name, None)[0]).cpu())
            for at in places:
                side = vector.positive if values[at] > 0 else vector.negative
                rows.append(ReadWord(vector.layer, at, sentence.tokens[at], float(values[at]), side))
        first = vectors[0]
        cost = host.meter.now() - before
        return ConceptReading(host.name, first.name, first.hook, sentence.text, tuple(rows), cost)


def sensitivity(
    model: Any,
    objective: Objective,
    texts: str | Prompt | Iterable[str | Prompt],
    *,
    concept: ConceptVector | ConceptVectors,
    pos: Positions = None,
    random_directions: Whole = 1000,
    seed: Whole = 0,
) -> Sensitivity:
    """How a logit or unit answers when an activation moves along a concept (TCAV, Kim et al. 2018), to first order.

    Args:
        objective: anything that lies behind the concept's hook, such as `logit("nurse", pos=-2)`.
        concept: of one layer.
        pos: where the activation moves; None for every word.
        random_directions: random directions of equal length, for the p-value.
        seed: of these.

    Raises:
        DreamError: an objective that does not depend on the concept's hook, a concept of several layers or of another
            model (see `classify`), a position or word that a text has not got.

    Examples:
        >>> goal = td.neuron("mlp_post", layer=2, unit=3)
        >>> answer = td.sensitivity(bert, goal, "the dog sees a star", concept=concept, pos="dog")
    """
    random_directions, seed = whole_number("random_directions", random_directions, 50), seed_number(seed)
    given = prompts_of(texts, "text given")
    vectors = vectors_of(concept)
    require(
        len(vectors) == 1,
        f"the concept has the layers {[vector.layer for vector in vectors]}: give one of them, such as "
        f"concept[{vectors[0].layer}]",
    )
    concept = vectors[0]
    with attached(model) as host:
        check(host, objective)
        concept.check_on(host)
        sentences = [host.vocabulary.read(text) for text in given]
        pulls = torch.zeros(len(given), concept.width, dtype=torch.float64)
        for group in length_groups([len(s) for s in sentences], BATCH_TOKENS, equal_lengths=True):
            pulls[group] = _pulls(host, objective, [sentences[i] for i in group], concept, pos)
        values = (pulls @ concept.direction.double() * concept.scale).tolist()
        draw = torch.randn(
            random_directions, concept.width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        others = pulls @ (draw / draw.norm(dim=1, keepdim=True)).T * concept.scale
        reached = int((others.mean(0).abs() >= abs(sum(values) / len(values))).sum())
        right = sum(value > 0 for value in values)
        return Sensitivity(
            objective=repr(objective),
            concept=f"{concept.name} at {concept.place}",
            texts=tuple(sentence.text for sentence in sentences),
            values=tuple(values),
            share=right / len(values),
            interval=wilson(right, len(values)),
            random_share=float((others > 0).double().mean()),
            random_directions=random_directions,
            p_value=(1 + reached) / (1 + random_directions),
        )


def _pulls(
    host: Host, objective: Objective, sentences: Sequence[Sentence], concept: ConceptVector, pos: Positions
) -> Tensor:
    """The objective's gradient with respect to the concept's hook, summed over the positions, Float[text unit]."""
    here = Read(concept.hook, concept.layer)
    ids, _ = host.pad([sentence.ids for sentence in sentences])
    rows = BatchContext.of(host, sentences)
    with torch.enable_grad():
        embeddings = host.W_E[ids].requires_grad_()
        found = read_activations(host, dict.fromkeys((*objective.reads, here)), ids, embeddings=embeddings)
        score = objective(found, rows)
        (pull,) = torch.autograd.grad(score.sum(), found[here], allow_unused=True) if score.requires_grad else (None,)
    require(
        pull is not None,
        f"{objective!r} does not depend on {concept.place}: read it at that layer or behind it",
    )
    assert pull is not None
    index, valid = rows.locate(pos)
    require(
        math.prod(pull.shape[2:]) == concept.width,
        f"the concept has {concept.width} units, the hook {math.prod(pull.shape[2:])}: fit it on this model",
    )
    units = rearrange(pull, "batch pos ... -> batch pos (...)")
    chosen = units.gather(1, index[..., None].expand(-1, -1, units.shape[2]))
    return chosen.masked_fill(~valid[..., None], 0).sum(1).double().cpu()


def vectors_of(concept: Any) -> tuple[ConceptVector, ...]:
    """The vectors of a concept, one or several."""
    require(
        isinstance(concept, ConceptVector | ConceptVectors),
        f"a concept was expected, not {type(concept).__name__}: make one with fit_concept(), or load one with "
        "ConceptVectors.load()",
    )
    return concept.vectors if isinstance(concept, ConceptVectors) else (concept,)
