"""What a unit looks for: what its dreams have in common, how it stands among random directions, the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from tl_dream._arguments import check_that
from tl_dream.results.base import Cost, SavedResult, cut_short, frame_of, one_line, readable, table
from tl_dream.results.corpora import CorpusResult, EssentialTokens
from tl_dream.results.dreams import ScoredText
from tl_dream.results.scans import TokenTable

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class CommonToken:
    """What several dreams of a unit have in common, and how often dreams of random directions have it.

    Attributes:
        tokens: one token, or those of its neighbourhood in embedding space that the dreams have, the commonest first.
        dreams: dreams that have one of them among their essential tokens.
        chance: dreams of random directions that do.
        p: of so many or more by chance (Fisher's exact test), times the tokens that were tested.
    """

    tokens: tuple[str, ...]
    dreams: int
    chance: int
    p: float

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(bool(self.tokens), "tokens", self.tokens, "a token or more")


@dataclass(frozen=True)
class DiverseDreams(SavedResult):
    """Dreams of one objective that share few tokens, and what they have in common all the same.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula; all scores are its own.
        start: the text that each began with.
        dreams: what each came to, with its essential tokens, in the order they were dreamed.
        common: tokens that are essential in more of them than chance has it, the surest first.
        neighbourhoods: the same of near tokens together, where these are in more dreams than the token alone.
        chance: dreams of random directions that chance was counted from; where it is 0, nothing is called common.
        settings: every option.
        seed: of the first dream; each next one has the next.
        cost: forwards, forward-tokens, seconds.
        stopped: "complete", or what ended it before its end ("seconds", "interrupted", "failure").
    """

    model: str
    objective: str
    start: ScoredText
    dreams: tuple[EssentialTokens, ...]
    common: tuple[CommonToken, ...]
    neighbourhoods: tuple[CommonToken, ...]
    chance: int
    settings: Mapping[str, Any]
    seed: int
    cost: Cost
    stopped: str = "complete"

    kind = "diverse_dreams"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(bool(self.dreams), "dreams", self.dreams, "a dream or more")

    def __str__(self) -> str:
        rows = [(f"{one.whole.score:.4f}", one.short, one.whole.text) for one in self.dreams]
        return "\n".join(
            (
                f"{self.objective} on {self.model}",
                table(("score", "essential", "text"), rows),
                *common_lines((*self.common, *self.neighbourhoods), len(self.dreams), self.chance),
                f"from {self.start.score:.4f}: {one_line(self.start.text)}; "
                f"{self.cost.forward_tokens:,} forward-tokens, {self.cost.seconds:.1f} s; "
                f"seed {self.seed}{cut_short(self.stopped)}",
            )
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a dream: score, essential, text."""
        return frame_of(
            [{"score": one.whole.score, "essential": one.short, "text": one.whole.text} for one in self.dreams]
        )


def common_lines(common: Sequence[CommonToken], dreams: int, chance: int) -> list[str]:
    """What dreams have in common, in words."""
    if not common:
        return ["nothing in common beyond chance" if chance else "nothing was compared with chance"]
    return [
        f"in common: {', '.join(map(readable, one.tokens))}: essential in {one.dreams} of {dreams} dreams, and in "
        f"{one.chance} of {chance} of random directions (p {one.p:.2g})"
        for one in common
    ]


@dataclass(frozen=True)
class Measure:
    """One number of a unit, and of random directions.

    Attributes:
        name: what is measured.
        higher: whether what means something has more of it; else less.
        unit: the unit's.
        placebos: those of the random directions.
    """

    name: str
    higher: bool
    unit: float
    placebos: tuple[float, ...]

    @property
    def beyond(self) -> int:
        """How many random directions have as much of it as the unit, or more."""
        sign = 1 if self.higher else -1
        return sum(sign * other >= sign * self.unit for other in self.placebos)

    @property
    def deviations(self) -> float:
        """How far the unit lies from the mean of the random directions, to the side that means something, in deviations
        of one more of them; 0 where they are all the same."""
        spread = stdev(self.placebos) * sqrt(1 + 1 / len(self.placebos))
        return (1 if self.higher else -1) * (self.unit - fmean(self.placebos)) / spread if spread > 0 else 0.0


STANDS_OUT = 4.0
"""Deviations by which a unit stands out that lies beyond all random directions. By a margin, since of four measures one
or another puts any direction beyond twenty others; agreement is uneven, so that less would not do."""


@dataclass(frozen=True)
class Standing:
    """Where a unit stands among random directions of its hook.

    Attributes:
        measures: what was compared; each has as many random directions.
    """

    measures: tuple[Measure, ...]

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        counts = {len(one.placebos) for one in self.measures}
        check_that(len(counts) == 1 and min(counts) >= 2, "placebos", counts, "two or more, as many for each measure")

    @property
    def by(self) -> tuple[Measure, ...]:
        """The measures by which the unit stands out: beyond all random directions, and by 4 deviations."""
        return tuple(one for one in self.measures if one.beyond == 0 and one.deviations >= STANDS_OUT)

    @property
    def distinguished(self) -> bool:
        """Whether something tells the unit from a random direction."""
        return bool(self.by)

    @property
    def deviations(self) -> float:
        """How far it lies from the random directions by the measure that puts it farthest."""
        return max(one.deviations for one in self.measures)

    def __str__(self) -> str:
        rows = [
            (
                one.name,
                f"{one.unit:.2f}",
                f"{fmean(one.placebos):.2f} ± {stdev(one.placebos):.2f}",
                f"{one.deviations:+.1f}",
                f"{one.beyond}",
            )
            for one in self.measures
        ]
        count = len(self.measures[0].placebos)
        head = ("", "unit", "random directions", "deviations", f"as far, of {count}")
        return f"{table(head, rows)}\n{self.verdict}"

    @property
    def verdict(self) -> str:
        """In a sentence."""
        if not self.by:
            return "nothing distinguishes this unit from a random direction"
        names = "; ".join(one.name for one in self.by)
        return f"stands out from {len(self.measures[0].placebos)} random directions by: {names}"


@dataclass(frozen=True)
class PortraitDream:
    """A dream in a portrait.

    Attributes:
        kind: "seed 0", "diverse 1", "fluent".
        essential: its text, its score, and which tokens carry half of it.
        fluency: nats a token, of fluent ones; None of the others.
    """

    kind: str
    essential: EssentialTokens
    fluency: float | None = None


@dataclass(frozen=True)
class Portrait(SavedResult):
    """What a unit looks for, on one page.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        corpus: its best sentences.
        mean, deviation: of its values at the words of the corpus.
        edges, counts: the histogram of these values: `counts[i]` of them from `edges[i]` to `edges[i + 1]`.
        dreams: by seed, diverse and fluent ones.
        best: the essential tokens of the best dream, with pairs.
        common, neighbourhoods: what its dreams have in common (see `DiverseDreams`).
        chance: dreams of random directions that chance was counted from.
        tokens: the exact best tokens at the place of the best dream that fires most, by what the objective gives there;
            None where not asked for.
        standing: where it stands among random directions; None where not asked for.
        settings: every option.
        seed: of the local random generators.
        cost: forwards, forward-tokens, seconds.
        stopped: "complete", or what ended it before its end ("seconds", "interrupted", "failure").
    """

    model: str
    objective: str
    corpus: CorpusResult
    mean: float
    deviation: float
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    dreams: tuple[PortraitDream, ...]
    best: EssentialTokens
    common: tuple[CommonToken, ...]
    neighbourhoods: tuple[CommonToken, ...]
    chance: int
    tokens: TokenTable | None
    standing: Standing | None
    settings: Mapping[str, Any]
    seed: int
    cost: Cost
    stopped: str = "complete"

    kind = "portrait"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(len(self.edges) == len(self.counts) + 1 > 1, "edges", self.edges, "one more than counts")
        check_that(list(self.edges) == sorted(set(self.edges)), "edges", self.edges, "rising")
        check_that(self.deviation > 0, "deviation", self.deviation, "above 0")
        check_that(bool(self.dreams), "dreams", self.dreams, "a dream or more")

    @property
    def distinguished(self) -> bool:
        """Whether something tells the unit from a random direction; False where that was not asked."""
        return self.standing is not None and self.standing.distinguished

    def height(self, score: float) -> float:
        """A score in deviations above the mean over the corpus."""
        return (score - self.mean) / self.deviation

    def __str__(self) -> str:
        dreams = [
            (one.kind, f"{one.essential.whole.score:.3f}", f"{self.height(one.essential.whole.score):.1f}")
            + (one.essential.short, one.essential.whole.text)
            for one in self.dreams
        ]
        hits = [(f"{hit.score:.3f}", f"{self.height(hit.score):.1f}", hit.marked()) for hit in self.corpus.top[:5]]
        parts = [
            f"{self.objective} on {self.model}",
            str(self.standing) if self.standing is not None else "not compared with random directions",
            *common_lines((*self.common, *self.neighbourhoods), self.compared, self.chance),
            table(("dream", "score", "deviations", "essential", "text"), dreams),
            table(("corpus", "deviations", "sentence"), hits),
        ]
        if self.tokens is not None:
            best = ", ".join(f"{readable(row.token)} {row.score:.3f}" for row in self.tokens.top[:8])
            parts.append(f"best tokens at {self.tokens.place}: {best}")
        parts.append(
            f"{self.corpus.scored:,} sentences, mean {self.mean:.3f}, deviation {self.deviation:.3f}; "
            f"{self.cost.forward_tokens:,} forward-tokens, {self.cost.seconds:.1f} s; seed {self.seed}"
            + cut_short(self.stopped)
        )
        return "\n".join(parts)

    @property
    def compared(self) -> int:
        """Dreams of the unit in which common tokens were counted."""
        return sum(one.fluency is None for one in self.dreams)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a dream: kind, score, deviations, essential, fluency, text."""
        rows = [
            (one.kind, whole.score, self.height(whole.score), one.essential.short, one.fluency, whole.text)
            for one in self.dreams
            for whole in [one.essential.whole]
        ]
        return frame_of(rows, ("kind", "score", "deviations", "essential", "fluency", "text"))
