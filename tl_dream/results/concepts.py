"""What is known about concepts: the evidence for a direction, readings and sensitivities. Plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tl_dream._arguments import check_lengths, check_that
from tl_dream._errors import require
from tl_dream.results.base import Cost, SavedResult, frame_of, one_line, readable, table

if TYPE_CHECKING:
    import pandas


LEAST_SHARE = 0.5
"""Of the held-out pairs a magnitude must carry over to be advised."""

AS_GOOD = 0.02
"""A magnitude that carries this much less over than the best does as well: of such the smallest is advised."""


@dataclass(frozen=True)
class Carrying:
    """Whether a shift along the direction makes a word into its counterpart, on pairs that the direction did not see.

    Of every pair each word is moved towards the other, and it is told which text's activation is the nearest (over all
    positions and units, as in `edit_concept`) among the two of the pair, the same sentence with words of other
    examples, and with tokens that are like the pair's. Where the examples have many words, the direction is fitted
    without the pair's words.

    Attributes:
        pairs: how many were measured, each both ways.
        words: how many different pairs of words are among them.
        length: the median distance between the words of a pair, in the hook's units; the means of the two sets lie
            less far apart where every pair differs in its own way.
        magnitudes, shares: of magnitudes, in natural units, the share of words whose counterpart is the nearest text.
        first: share of words whose counterpart is the first other text that is the nearest, as the magnitude grows.
        least: the median magnitude at which another text first is; None where none ever is.
    """

    pairs: int
    words: int
    length: float
    magnitudes: tuple[float, ...]
    shares: tuple[float, ...]
    first: float
    least: float | None

    @property
    def advised(self) -> float | None:
        """The magnitude to move a word by: of those that carry most over the smallest; None where none carries half."""
        best = max(self.shares)
        good = [size for size, share in zip(self.magnitudes, self.shares, strict=True) if share >= best - AS_GOOD]
        return good[0] if best >= LEAST_SHARE else None

    def share(self, magnitude: float) -> float:
        """The share carried over at one of `magnitudes`."""
        return self.shares[self.magnitudes.index(magnitude)]


@dataclass(frozen=True)
class Evidence:
    """How far a direction can be trusted.

    Attributes:
        layer: None where the hook is not one of every layer.
        estimator: that made the direction.
        accuracy: share of held-out sentences on their own side.
        interval: its 95% interval (Wilson; a pair of sentences counts as one observation).
        held_out, held_out_groups: sentences held out, and how many differ in more than the concept word.
        fitted: sentences the direction was fitted to.
        p_value: share of random-label concepts at least as accurate (with the usual + 1).
        p_corrected: the same against the best layer of every random labelling.
        random_concepts, random_mean, random_best: how many random-label concepts, their mean and best accuracy.
        accuracies, intervals: of every estimator that found a direction, by name.
        agreement: cosine between the estimators' directions, {one: {other: cosine}}.
        stability, stability_low: mean and 5% quantile of the cosine with directions of bootstrap samples.
        bootstraps, bootstraps_drawn: of how many samples, and how many were drawn (on the others the estimator found
            nothing).
        carrying: whether a shift makes words into their counterparts; None where the sets hold too few pairs of
            sentences (or the file is of a version that did not measure it).
    """

    layer: int | None
    estimator: str
    accuracy: float
    interval: tuple[float, float]
    held_out: int
    held_out_groups: int
    fitted: int
    p_value: float
    p_corrected: float
    random_concepts: int
    random_mean: float
    random_best: float
    accuracies: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    agreement: Mapping[str, Mapping[str, float]]
    stability: float
    stability_low: float
    bootstraps: int
    bootstraps_drawn: int
    carrying: Carrying | None = None

    def check_parts(self) -> None:
        """Raise DreamError unless what a file holds fits together."""
        known = set(self.accuracies)
        require(
            self.estimator in known and known == set(self.intervals) == set(self.agreement),
            f"accuracies, intervals and agreement are of the estimators {sorted(known)}, {sorted(self.intervals)} and "
            f"{sorted(self.agreement)}, and the direction's is {self.estimator!r}: they do not fit together",
        )

    def row(self) -> tuple[str, ...]:
        """What a receipt prints of it, in the columns of HEAD."""
        others = [cosine for name, cosine in self.agreement[self.estimator].items() if name != self.estimator]
        return (
            "-" if self.layer is None else str(self.layer),
            f"{self.accuracy:.1%} [{self.interval[0]:.1%}, {self.interval[1]:.1%}]",
            f"{self.random_mean:.1%} / {self.random_best:.1%}",
            f"{self.p_value:.2g} / {self.p_corrected:.2g}",
            f"{min(others):.2f} to {max(others):.2f}" if others else "-",
            f"{self.stability:.3f} ({self.stability_low:.3f})",
        )


def carrying_lines(evidence: Sequence[Evidence], scales: Sequence[float]) -> list[str]:
    """What a receipt prints of how words are carried over, and what to do where they are not."""
    known = [(e.layer, c, scale) for e, scale in zip(evidence, scales, strict=True) if (c := e.carrying)]
    if not known:
        return []
    rows, far, none = [], [], []
    for layer, c, scale in known:
        name, size = "-" if layer is None else str(layer), c.advised
        rows.append(
            (
                name,
                f"{scale:.4g} / {c.length:.4g} = {scale / c.length:.2f}",
                *(f"{c.share(m):.0%}" for m in (1.0, 2.0)),
                "none" if size is None else f"{size:g}: {c.share(size):.0%}",
                f"{c.first:.0%}" + ("" if c.least is None else f", at {c.least:.3g}"),
            )
        )
        if size is None:
            none.append(name)
        elif size > FAR:
            far.append(name)
    first = known[0][1]
    head = ("layer", "means / words of a pair apart", "carried at 1", "at 2", "advised", "first other text")
    lines = [
        "carried over: held-out words whose counterpart is the nearest text after the shift; both ways in "
        f"{first.pairs} pair(s) of sentences, with {first.words} different pair(s) of words",
        table(head, rows),
    ]
    if far:
        lines.append(
            f"! layer(s) {', '.join(far)}: natural magnitudes of 1 or 2 carry few words over, since every pair differs "
            "in its own way too: move by the advised magnitude, or let edit_concept(magnitudes='least') find each "
            "sentence's own"
        )
    if none:
        lines.append(
            f"! layer(s) {', '.join(none)}: no magnitude carries half of the words over: this direction tells the sets "
            "apart, and does not make one word into the other. Exchange the word's own activation: "
            "replaced_activation(model, text, the other word, pos=, layer=)"
        )
    return lines


FAR = 2.0
"""Natural magnitudes that `edit_concept` goes to by itself; where more is advised, it goes there."""

HEAD = (
    "layer",
    "held-out accuracy [95%]",
    "random labels mean / best",
    "p / corrected",
    "cosine with other estimators",
    "bootstrap cosine (5%)",
)


@dataclass(frozen=True)
class ReadWord:
    """A word as a concept sees it: its coordinate (0 on the boundary, 1 is the distance between the sets' means)."""

    layer: int | None
    pos: int
    token: str
    value: float
    label: str


@dataclass(frozen=True)
class ConceptReading(SavedResult):
    """The outcome of `classify`: where words of a text lie on a concept."""

    model: str
    concept: str
    hook: str
    text: str
    rows: tuple[ReadWord, ...]
    cost: Cost

    kind = "concept_reading"

    def __str__(self) -> str:
        lines = [
            (
                "-" if row.layer is None else str(row.layer),
                str(row.pos),
                readable(row.token),
                f"{row.value:+.3f}",
                row.label,
            )
            for row in self.rows
        ]
        return (
            f"{self.concept} at {self.hook} on {self.model}: {one_line(self.text)}\n"
            f"{table(('layer', 'pos', 'token', 'coordinate', 'side'), lines)}\n"
            "coordinate: 0 on the boundary, 1 is the distance between the means of the two sets"
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a layer and word: layer, pos, token, value, label."""
        return frame_of([asdict(row) | {"token": readable(row.token)} for row in self.rows])


@dataclass(frozen=True)
class Sensitivity(SavedResult):
    """How an objective answers to a small step along a concept (TCAV), and to steps of equal length at random.

    Attributes:
        objective, concept: as they print.
        values: of every text, the objective's change for a step of one natural unit, to first order.
        share: of the texts with a positive value (the TCAV score).
        interval: its 95% interval (Wilson).
        random_share: mean share of `random_directions` random directions of equal length.
        p_value: share of random directions whose mean value is at least as far from 0.
    """

    objective: str
    concept: str
    texts: tuple[str, ...]
    values: tuple[float, ...]
    share: float
    interval: tuple[float, float]
    random_share: float
    random_directions: int
    p_value: float

    kind = "sensitivity"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_lengths(self, "texts", "values")
        check_that(bool(self.values), "values", self.values, "one or more")

    def __str__(self) -> str:
        mean = sum(self.values) / len(self.values)
        return (
            f"{self.objective} along {self.concept}: {mean:+.4g} a natural unit on average over {len(self.values)} "
            f"text(s); positive for {self.share:.0%} [{self.interval[0]:.0%}, {self.interval[1]:.0%}], random "
            f"directions {self.random_share:.0%}; p = {self.p_value:.2g} against {self.random_directions} of them"
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a text: text, value."""
        return frame_of({"text": self.texts, "value": self.values})
