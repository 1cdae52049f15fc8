"""`fit_concept`: two sets of sentences in, a direction and the evidence for it out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from typing import Any

import numpy
import torch

from tl_dream._arguments import Number, Whole, finite_number, layers_of, one_of, seed_number, whole_number
from tl_dream._errors import DreamError, require
from tl_dream.concepts.collection import Collected, collect
from tl_dream.concepts.estimators import ESTIMATORS, Boundary, fit_boundary, one_thread
from tl_dream.concepts.examples import Examples, load_templates
from tl_dream.concepts.shifts import measure_carrying, natural_scale
from tl_dream.concepts.significance import deal, gather_evidence, split
from tl_dream.concepts.storage import fingerprint, probe
from tl_dream.concepts.vectors import ConceptVector, ConceptVectors
from tl_dream.models import Host, attached

LEAST_RANDOM = 50
"""Random-label concepts that a significance test needs at least."""


def fit_concept(
    model: Any,
    examples: Examples | str = "he_she",
    *,
    hook: str = "block_out",
    layer: Whole | None = None,
    estimator: str = "mean",
    test_share: Number = 0.25,
    random_concepts: Whole = 100,
    bootstraps: Whole = 50,
    seed: Whole = 0,
) -> ConceptVector:
    """Fit the direction of one hook that leads from sentences without a concept to sentences with it.

    The direction is fitted on some of the sentences and tested on the others; a sentence and its counterpart are never
    parted. What is saved is the direction that was tested.

    Args:
        model: any TransformerLens model.
        examples: from `read_examples`, `read_pairs` or `load_templates`, or the name of shipped templates.
        hook: a short name with `layer`, or a full name; any hook with a row of units for every position.
        layer: of a short name.
        estimator: "mean" (difference of means), "pattern" (covariance with the label, for two sets the same direction),
            "logistic", "svm" or "lda". The first two are what changes between the sets, as a shift needs it; the others
            what tells them apart best.
        test_share: share of the sentences held out.
        random_concepts: concepts fitted to random labels, for the p-value; at least 50.
        bootstraps: samples for the stability; those on which the estimator finds nothing are left out and told.
        seed: of the split, the random labels and the bootstrap.

    Raises:
        DreamError: an unknown hook, layer or estimator, an empty set, too few sentences, a concept word that is missing
            or repeated (listed), activations that are constant or the same in both sets, an estimator that finds
            nothing on them or on any bootstrap sample.

    Examples:
        >>> verbs = ("sees", "hates", "loves", "is", "was", "had")
        >>> dogs, moons = ([f"the {{{word}}} {verb} a star" for verb in verbs] for word in ("dog", "moon"))
        >>> sets = td.read_examples(dogs, moons)
        >>> concept = td.fit_concept(bert, sets, layer=1, random_concepts=50, bootstraps=2)
        >>> concept.evidence.accuracy
        1.0
    """
    found = fit_concepts(
        model,
        examples,
        hook=hook,
        layers=None if layer is None else [layer],
        estimator=estimator,
        test_share=test_share,
        random_concepts=random_concepts,
        bootstraps=bootstraps,
        seed=seed,
    )
    return found.vectors[0]


def fit_concepts(
    model: Any,
    examples: Examples | str = "he_she",
    *,
    hook: str = "block_out",
    layers: str | Whole | Iterable[Any] | None = "all",
    estimator: str = "mean",
    test_share: Number = 0.25,
    random_concepts: Whole = 100,
    bootstraps: Whole = 50,
    seed: Whole = 0,
) -> ConceptVectors:
    """`fit_concept` at several layers, the sentences read in one pass.

    Args:
        layers: "all", a layer, a list, or None for a hook that is not one of every layer.

    Raises:
        DreamError: as in `fit_concept`.

    Examples:
        >>> verbs = ("sees", "hates", "loves", "is", "was", "had")
        >>> dogs, moons = ([f"the {{{word}}} {verb} a star" for verb in verbs] for word in ("dog", "moon"))
        >>> sets = td.read_examples(dogs, moons)
        >>> concepts = td.fit_concepts(bert, sets, layers=[0, 1], random_concepts=50, bootstraps=2)
        >>> len(concepts)
        2
    """
    one_of("estimator", estimator, ESTIMATORS)
    random_concepts = whole_number("random_concepts", random_concepts, LEAST_RANDOM)
    bootstraps, seed = whole_number("bootstraps", bootstraps), seed_number(seed)
    test_share = finite_number("test_share", test_share, "a share of the sentences between 0 and 1")
    given = load_templates(examples) if isinstance(examples, str) else examples
    require(isinstance(given, Examples), "examples come from read_examples(), read_pairs() or load_templates()")
    with attached(model) as host, one_thread():
        chosen = _layers(host, layers)
        before = host.meter.now()
        collected = collect(host, given, hook, chosen)
        units = [layer.double().numpy() for layer in collected.activations]
        test = split(collected.groups, collected.labels, test_share, numpy.random.default_rng([seed, 0]))
        boundaries = [fit_boundary(estimator, x[~test], collected.labels[~test]) for x in units]
        evidence = gather_evidence(
            estimator,
            units,
            collected.labels,
            collected.groups,
            test,
            boundaries,
            chosen,
            random_concepts=random_concepts,
            bootstraps=bootstraps,
            seed=seed,
        )
        carried = measure_carrying(host, collected, units, estimator, numpy.random.default_rng([seed, 5]))
        dealt = deal(collected.labels[~test], numpy.random.default_rng([seed, 3]))
        cost = asdict(host.meter.now() - before)
        del cost["seconds"]
        about = {**_numbers(given, collected), "layers": len(chosen), **cost}
        vectors = [
            ConceptVector(
                name=given.name,
                negative=given.negative,
                positive=given.positive,
                estimator=estimator,
                model=host.name,
                hook=hook,
                layer=chosen[at],
                hook_name=name,
                direction=_tensor(boundaries[at]),
                threshold=boundaries[at].threshold,
                scale=natural_scale(units[at][~test], collected.labels[~test]),
                control=_control(estimator, units[at][~test], dealt, seed),
                probe=probe(host, name),
                embedding=fingerprint(host),
                evidence=replace(evidence[at], carrying=carried[at]),
                examples=about,
                seed=seed,
            )
            for at, name in enumerate(collected.names)
        ]
    return ConceptVectors(tuple(vectors))


def _layers(host: Host, layers: Any) -> list[int | None]:
    if layers is None:
        return [None]
    every = isinstance(layers, str) and layers == "all"
    return list(range(host.n_layers)) if every else sorted(layers_of(layers))  # type: ignore[return-value]


def _numbers(examples: Examples, collected: Collected) -> dict[str, int]:
    return {
        "negatives": len(examples.side(False)),
        "positives": len(examples.side(True)),
        "groups": len(set(collected.groups.tolist())),
        "duplicates": examples.duplicates,
    }


def _tensor(boundary: Boundary) -> torch.Tensor:
    direction = torch.from_numpy(boundary.direction.copy()).float()
    return direction / direction.norm()


def _control(estimator: str, units: numpy.ndarray, dealt: numpy.ndarray, seed: int) -> torch.Tensor:
    """The direction of shuffled labels; a random one where the activations leave none (a word's own embedding)."""
    try:
        return _tensor(fit_boundary(estimator, units, dealt))
    except DreamError:
        noise = numpy.random.default_rng([seed, 4]).normal(size=(units.shape[1],))
        return _tensor(Boundary(noise / float(numpy.linalg.norm(noise)), 0.0))
