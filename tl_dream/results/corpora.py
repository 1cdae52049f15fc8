"""What a corpus search brings back, and which tokens the score of a sentence rests on."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tl_dream._arguments import check_lengths, check_places, check_that, whole_number
from tl_dream.results.base import Cost, SavedResult, around, cut_short, frame_of, one_line, readable, table
from tl_dream.results.dreams import ScoredText

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class CorpusHit:
    """A sentence of a corpus.

    Attributes:
        text: the line, blanks at its ends taken off.
        tokens: the vocabulary's own strings, special ones included.
        ids: token ids, as many as tokens.
        pos: the position that scores highest among those the objective reads; None where the objective has no value
            at a position.
        score: the objective on this sentence.
        activations: the objective's value at every token, for highlighting, None where that is no finite number; None
            where the objective has no values.
        line: which line (or item) of the corpus, counted from 1.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    pos: int | None
    score: float
    activations: tuple[float | None, ...] | None
    line: int

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_lengths(self, "tokens", "ids", *(["activations"] if self.activations else []))
        check_that(min((*self.ids, self.line)) >= 0, "ids and line", (self.ids, self.line), "numbers from 0")
        check_places("pos", () if self.pos is None else (self.pos,), len(self.tokens))

    def marked(self) -> str:
        """The words around the position, which stands in brackets."""
        if self.pos is None:
            return self.text if len(self.text) <= 100 else self.text[:99] + "…"
        return around(self.tokens, self.pos, 12)


@dataclass(frozen=True)
class CorpusResult(SavedResult):
    """The sentences of a corpus that score highest. `texts()` gives them as starts for a dream.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        corpus: what was searched.
        top: the best sentences, best first, equal scores by line; of lines with the same tokens only the first.
        scored: lines that were scored.
        skipped: lines that were not, by reason.
        tokens: tokens of the scored lines, special ones included.
        cost: forwards, forward-tokens, seconds (of the whole pass, however many objectives shared it).
        stopped: "complete", or why only a part of the corpus was searched: "interrupted" or "failure".
    """

    model: str
    objective: str
    corpus: str
    top: tuple[CorpusHit, ...]
    scored: int
    skipped: Mapping[str, int]
    tokens: int
    cost: Cost
    stopped: str = "complete"

    kind = "corpus_result"

    def texts(self, top: int = 10) -> tuple[str, ...]:
        """The best sentences as plain text: prompts to start a dream from."""
        return tuple(hit.text for hit in self.top[: whole_number("top", top)])

    def __str__(self) -> str:
        rows = [(f"{hit.score:.4f}", str(hit.line), hit.marked()) for hit in self.top]
        rate = self.tokens / self.cost.seconds if self.cost.seconds else 0.0
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in self.skipped.items() if count)
        return "\n".join(
            (
                f"{self.objective} on {self.model}",
                table(("score", "line", "sentence"), rows),
                f"{self.scored:,} lines of {self.corpus} scored in {self.cost.seconds:.1f} s "
                f"({rate:,.0f} tokens a second); skipped: {left_out or 'none'}{cut_short(self.stopped)}",
            )
        )

    def _repr_html_(self) -> str:
        """The sentences, their tokens shaded by activation (from 0 to the highest of all of them)."""
        highest = max((value or 0.0 for hit in self.top for value in hit.activations or ()), default=0.0)
        rows = "".join(
            f"<tr><td>{hit.score:.4f}</td><td>{hit.line}</td><td style='text-align:left'>{_shaded(hit, highest)}</td>"
            "</tr>"
            for hit in self.top
        )
        return (
            f"<div><code>{html.escape(self.objective)}</code> on {html.escape(self.model)}"
            f"<table><tr><th>score</th><th>line</th><th>sentence</th></tr>{rows}</table></div>"
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a sentence: score, line, pos, token, text."""
        rows = [
            (hit.score, hit.line, hit.pos, None if hit.pos is None else readable(hit.tokens[hit.pos]), hit.text)
            for hit in self.top
        ]
        return frame_of(rows, ("score", "line", "pos", "token", "text"))


SHADE = 0.35
"""Of the deepest shade: letters in the page's own colour keep a contrast of 6 to 1 on it, on light pages and dark."""


def _shaded(hit: CorpusHit, highest: float) -> str:
    values = [value or 0.0 for value in hit.activations or [None] * len(hit.tokens)]
    spans = []
    for i, (token, value) in enumerate(zip(hit.tokens, values, strict=True)):
        depth = min(1.0, max(0.0, value / highest)) if highest > 0 else 0.0
        line = ";text-decoration:underline" if i == hit.pos else ""
        style = f"background:rgba(86,180,233,{SHADE * depth:.2f}){line}"
        spans.append(f'<span style="{style}" title="{value:.4f}">{html.escape(readable(token))}</span>')
    return " ".join(spans)


def gapped(tokens: Sequence[str], kept: Sequence[int], free: Sequence[int]) -> str:
    """The kept tokens as a short text; "..." stands for free tokens left out between them: "... prison ... ##ation"."""
    shown: list[str] = []
    for i in free:
        if i in kept:
            shown.append(readable(tokens[i]))
        elif not shown or shown[-1] != "...":
            shown.append("...")
    return " ".join(shown)


@dataclass(frozen=True)
class TokenPair:
    """Two tokens that matter only together.

    Attributes:
        first, second: their positions.
        kind: "both": the score needs the two of them, and either alone gives less than half of what they give together;
            "either": each does for the other, so that losing one costs less than half of what losing the two costs.
        share: how far the two differ from the sum of each, as a share of what the words add to the score.
    """

    first: int
    second: int
    kind: str
    share: float

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(self.kind in ("both", "either"), "kind", self.kind, '"both" or "either"')


@dataclass(frozen=True)
class EssentialTokens(SavedResult):
    """Which tokens the score of a text rests on.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        whole: the text and its score.
        free: the positions that were replaced in turn.
        replaced_by: what stood in their place.
        base: the score with all of them replaced; what the words add is counted from there.
        without: the score without each of them.
        alone: the score with each of them alone, the others replaced.
        keep: the share of what the words add that `kept` keeps, 0 to 1.
        kept: the fewest positions that do, in the order of the text.
        kept_score: the score with only these.
        minimal: every smaller set was tried, and none keeps as much; False: that is not known.
        pairs: tokens that matter only together, most marked first.
        cost: forwards, forward-tokens, seconds.
        stopped: "complete", or what ended it before its end ("seconds", "interrupted", "failure").
        fired: of a unit behind an activation function whether the text turns it on; None of other objectives.
    """

    model: str
    objective: str
    whole: ScoredText
    free: tuple[int, ...]
    replaced_by: str
    base: float
    without: tuple[float, ...]
    alone: tuple[float, ...]
    keep: float
    kept: tuple[int, ...]
    kept_score: float
    minimal: bool
    pairs: tuple[TokenPair, ...]
    cost: Cost
    stopped: str = "complete"
    fired: bool | None = None

    kind = "essential_tokens"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_lengths(self, "free", "without", "alone")
        check_places("free", self.free, len(self.whole.tokens))
        check_that(set(self.kept) <= set(self.free), "kept", self.kept, "among the free positions")
        check_that(
            all({pair.first, pair.second} <= set(self.free) for pair in self.pairs), "pairs", self.pairs, "of these"
        )

    @property
    def drops(self) -> tuple[float, ...]:
        """What the score loses without each of the free tokens."""
        return tuple(self.whole.score - value for value in self.without)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The essential tokens, in the order of the text."""
        return tuple(self.whole.tokens[i] for i in self.kept)

    @property
    def ids(self) -> tuple[int, ...]:
        """Their token ids."""
        return tuple(self.whole.ids[i] for i in self.kept)

    @property
    def short(self) -> str:
        """The text with only the essential tokens: "... prison ... ##ation"."""
        return gapped(self.whole.tokens, self.kept, self.free)

    def share(self, score: float) -> float:
        """A score as a share of what the words add; 0 where they add nothing."""
        added = self.whole.score - self.base
        return (score - self.base) / added if added > 0 else 0.0

    def __str__(self) -> str:
        rows = [
            (str(i), f"{drop:+.4f}", f"{alone:.4f}", readable(self.whole.tokens[i]) + (" *" if i in self.kept else ""))
            for i, drop, alone in zip(self.free, self.drops, self.alone, strict=True)
        ]
        if self.whole.score <= self.base:
            found = ["its words add nothing: with all of them replaced it scores as much or more"]
        else:
            sure = "no fewer do, all were tried" if self.minimal else "fewer may do: not all were tried"
            found = [
                f"{self.short}",
                f"these {len(self.kept)} of {len(self.free)} tokens keep {self.share(self.kept_score):.0%} of what the "
                f"words add ({sure})",
            ]
        if self.fired is False:
            found.append(
                "the text does not turn the unit on: shares of so little say nothing, and no pair is looked for"
            )
        told = {"both": "only together", "either": "one does for the other"}
        names = tuple(map(readable, self.whole.tokens))
        found += [
            f"{told[pair.kind]}: {names[pair.first]} ({pair.first}) and {names[pair.second]} ({pair.second}), "
            f"{pair.share:.0%}"
            for pair in self.pairs
        ]
        return "\n".join(
            (
                f"{self.objective} on {self.model}",
                f"{self.whole.score:.4f}: {one_line(self.whole.text)}",
                table(("pos", "drop", "alone", "token"), rows),
                *found,
                f"replaced by {self.replaced_by}; all replaced it scores {self.base:.4f}; "
                f"{self.cost.forwards:,} forwards, {self.cost.seconds:.1f} s{cut_short(self.stopped)}",
            )
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a free token: pos, token, drop, alone, essential."""
        rows = [
            (i, readable(self.whole.tokens[i]), drop, alone, i in self.kept)
            for i, drop, alone in zip(self.free, self.drops, self.alone, strict=True)
        ]
        return frame_of(rows, ("pos", "token", "drop", "alone", "essential"))
