"""How far a concept direction can be trusted: held-out accuracy, agreement, stability, and chance.

The split leaves a sentence and its counterpart on one side. What chance reaches is measured with concepts fitted to
random labels (Kim et al., TCAV); over several layers each p-value is corrected by comparing with the best layer of
every random labelling (Westfall and Young's single step), which holds whatever the layers have in common.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy
from jaxtyping import Bool, Float, Int

from tl_dream._errors import DreamError, require
from tl_dream.concepts.estimators import ESTIMATORS, Boundary, fit_boundary
from tl_dream.results import Evidence

Groups = Int[numpy.ndarray, " example"]
Part = Bool[numpy.ndarray, " example"]


def split(groups: Groups, labels: Part, share: float, draw: numpy.random.Generator) -> Part:
    """Which examples are held out: about `share` of the groups of each kind (one set only, or both).

    Raises:
        DreamError: too few sentences for both sets to be on both sides.
    """
    require(0 < share < 1, f"test_share = {share!r}: give a share of the sentences between 0 and 1")
    kinds: dict[tuple[bool, bool], list[int]] = {}
    for group in range(int(groups.max()) + 1):
        mine = labels[groups == group]
        kinds.setdefault((bool(mine.any()), bool(mine.all())), []).append(group)
    held: list[int] = []
    for members in kinds.values():  # in the order of the sentences, which does not depend on what a set is called
        count = min(max(1, round(share * len(members))), len(members) - 1)
        held += [members[i] for i in draw.permutation(len(members))[:count]]
    test = numpy.isin(groups, held)
    for side, title in ((False, "negative"), (True, "positive")):
        mine = labels == side
        require(
            bool((mine & test).any()) and int((mine & ~test).sum()) >= 2,
            f"the {title} set has {int(mine.sum())} sentence(s) that differ in more than the concept word in "
            f"{len(set(groups[mine]))} way(s): at least 3 are needed, to fit with and to hold out",
        )
    return test


def wilson(right: float, count: int) -> tuple[float, float]:
    """The 95% interval of a share after Wilson."""
    z = 1.959964  # of 97.5% of a normal distribution
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def interval(right: Part, groups: Groups) -> tuple[float, float]:
    """The interval of an accuracy; a sentence and its counterpart count as one observation, to be on the safe side."""
    count = len(set(groups.tolist()))
    return wilson(float(right.mean()) * count, count)


def random_accuracies(
    estimator: str,
    units: Sequence[Float[numpy.ndarray, "example unit"]],
    labels: Part,
    test: Part,
    count: int,
    draw: numpy.random.Generator,
) -> Float[numpy.ndarray, "draw layer"]:
    """Held-out accuracy of concepts fitted to random labels; one labelling goes through all layers.

    The same number of examples is positive, in the part fitted and in the part held out.
    """
    found = numpy.zeros((count, len(units)))
    for i in range(count):
        shuffled = shuffle(labels, test, draw)
        for at, layer in enumerate(units):
            try:
                boundary = fit_boundary(estimator, layer[~test], shuffled[~test])
            except DreamError:  # nothing in the activations goes with these labels
                found[i, at] = 0.5
            else:
                found[i, at] = boundary.right(layer[test], shuffled[test]).mean()
    return found


def shuffle(labels: Part, test: Part, draw: numpy.random.Generator) -> Part:
    """Labels dealt out anew within each part. Which set is called positive does not matter to the outcome's parting."""
    turn = bool(labels[0])
    shuffled = labels ^ turn
    for part in (test, ~test):
        shuffled[part] = draw.permutation(shuffled[part])
    return shuffled ^ turn


def deal(labels: Part, draw: numpy.random.Generator) -> Part:
    """Labels that have nothing to do with the sets: half of each set gets the other's.

    With labels shuffled freely a set may get more than its half; the direction fitted to them then points along the
    concept after all, because that is where the activations differ most.
    """
    dealt = numpy.zeros_like(labels)
    for side in (bool(labels[0]), not bool(labels[0])):
        mine = draw.permutation(numpy.flatnonzero(labels == side))
        dealt[mine[: len(mine) // 2]] = True
    return dealt ^ bool(labels[0])


def p_values(accuracies: Sequence[float], chance: Float[numpy.ndarray, "draw layer"]) -> list[tuple[float, float]]:
    """(p, p corrected for the number of layers) of each layer's accuracy; never below 1 / (draws + 1)."""
    best = chance.max(1)
    tiny = 1e-12  # the same share of right answers counts as reached
    return [
        (
            float((1 + (chance[:, at] >= accuracy - tiny).sum()) / (1 + len(chance))),
            float((1 + (best >= accuracy - tiny).sum()) / (1 + len(chance))),
        )
        for at, accuracy in enumerate(accuracies)
    ]


def stability(
    estimator: str,
    units: Float[numpy.ndarray, "example unit"],
    labels: Part,
    groups: Groups,
    direction: Float[numpy.ndarray, " unit"],
    count: int,
    draw: numpy.random.Generator,
) -> tuple[float, float, int]:
    """Mean and 5% quantile of the cosine between the direction and those of bootstrap samples of sentences.

    Samples that lack one of the sets are drawn again; those on which the estimator finds no direction (a few sentences,
    drawn over and over) count among the `count`, and are left out of the cosines.

    Returns:
        Mean, quantile, and of how many samples.

    Raises:
        DreamError: no sample gave a direction.
    """
    members = [numpy.flatnonzero(groups == group) for group in sorted(set(groups.tolist()))]
    cosines: list[float] = []
    drawn, reason = 0, "every one lacked one of the two sets"
    for _ in range(50 * count):
        chosen = numpy.concatenate([members[i] for i in draw.integers(len(members), size=len(members))])
        if not labels[chosen].any() or labels[chosen].all():
            continue
        drawn += 1
        try:
            cosines.append(float(fit_boundary(estimator, units[chosen], labels[chosen]).direction @ direction))
        except DreamError as error:
            reason = str(error)
        if drawn == count:
            break
    require(
        bool(cosines),
        f"how stable the direction is can't be told from {len(labels)} sentences in {len(members)} groups: no "
        f"bootstrap sample of them gives one ({reason}). Give more sentences, or another estimator",
    )
    return float(numpy.mean(cosines)), float(numpy.quantile(cosines, 0.05)), len(cosines)


def gather_evidence(
    estimator: str,
    units: Sequence[Float[numpy.ndarray, "example unit"]],
    labels: Part,
    groups: Groups,
    test: Part,
    boundaries: Sequence[Boundary],
    layers: Sequence[int | None],
    *,
    random_concepts: int,
    bootstraps: int,
    seed: int,
) -> list[Evidence]:
    """Everything that is known about the directions of all layers; see `Evidence`."""
    others = [
        {estimator: boundary, **_others(estimator, x[~test], labels[~test])}
        for x, boundary in zip(units, boundaries, strict=True)
    ]
    rights = [
        {name: o.right(x[test], labels[test]) for name, o in row.items()} for row, x in zip(others, units, strict=True)
    ]
    accuracies = [float(row[estimator].mean()) for row in rights]
    chance = random_accuracies(estimator, units, labels, test, random_concepts, numpy.random.default_rng([seed, 1]))
    evidence = []
    for at, (p, corrected) in enumerate(p_values(accuracies, chance)):
        draw = numpy.random.default_rng([seed, 2])
        mean, low, used = stability(
            estimator, units[at][~test], labels[~test], groups[~test], boundaries[at].direction, bootstraps, draw
        )
        evidence.append(
            Evidence(
                layer=layers[at],
                estimator=estimator,
                accuracy=accuracies[at],
                interval=interval(rights[at][estimator], groups[test]),
                held_out=int(test.sum()),
                held_out_groups=len(set(groups[test].tolist())),
                fitted=int((~test).sum()),
                p_value=p,
                p_corrected=corrected,
                random_concepts=random_concepts,
                random_mean=float(chance[:, at].mean()),
                random_best=float(chance[:, at].max()),
                accuracies={name: float(right.mean()) for name, right in rights[at].items()},
                intervals={name: interval(right, groups[test]) for name, right in rights[at].items()},
                agreement={
                    name: {other: float(one.direction @ two.direction) for other, two in others[at].items()}
                    for name, one in others[at].items()
                },
                stability=mean,
                stability_low=low,
                bootstraps=used,
                bootstraps_drawn=bootstraps,
            )
        )
    return evidence


def _others(estimator: str, units: Float[numpy.ndarray, "example unit"], labels: Part) -> dict[str, Boundary]:
    """The directions of the other estimators, where they find one (sets without any spread leave LDA without)."""
    found = {}
    for name in ESTIMATORS:
        if name != estimator:
            with suppress(DreamError):
                found[name] = fit_boundary(name, units, labels)
    return found
