"""What a corpus search brings back: the best sentences, and what they are made of."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tl_dream._arguments import whole_number
from tl_dream.results.base import Cost, SavedResult, cut_short, read_fields, table

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

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CorpusHit:
        """The inverse of `asdict`.

        Raises:
            KeyError, TypeError, ValueError: something is missing, or not what a search writes.
        """
        hit = read_fields(cls, data)
        tokens, pos = len(hit.tokens), hit.pos or 0
        if min(*hit.ids, hit.line, pos) < 0 or len(hit.ids) != tokens or len(hit.activations or hit.ids) != tokens:
            raise ValueError(f"the tokens, ids, activations and line of a sentence don't fit: {dict(data)!r:.200}")
        if pos >= max(1, tokens):
            raise ValueError(f"position {pos} of {tokens} tokens")
        return hit


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
        rows = [(f"{hit.score:.4f}", str(hit.line), _marked(hit)) for hit in self.top]
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
        import pandas

        return pandas.DataFrame(
            [
                {
                    "score": hit.score,
                    "line": hit.line,
                    "pos": hit.pos,
                    "token": None if hit.pos is None else hit.tokens[hit.pos],
                    "text": hit.text,
                }
                for hit in self.top
            ]
        )


def _marked(hit: CorpusHit, reach: int = 12) -> str:
    """The words around the position, which stands in brackets."""
    if hit.pos is None:
        return hit.text if len(hit.text) <= 100 else hit.text[:99] + "…"
    first, last = max(0, hit.pos - reach), min(len(hit.tokens), hit.pos + reach + 1)
    words = [f"[{hit.tokens[i]}]" if i == hit.pos else hit.tokens[i] for i in range(first, last)]
    return ("… " if first else "") + " ".join(words) + (" …" if last < len(hit.tokens) else "")


def _shaded(hit: CorpusHit, highest: float) -> str:
    values = [value or 0.0 for value in hit.activations or [None] * len(hit.tokens)]
    spans = []
    for i, (token, value) in enumerate(zip(hit.tokens, values, strict=True)):
        depth = min(1.0, max(0.0, value / highest)) if highest > 0 else 0.0
        line = ";text-decoration:underline" if i == hit.pos else ""
        style = f"background:rgba(86,180,233,{depth:.2f}){line}"
        spans.append(f'<span style="{style}" title="{value:.4f}">{html.escape(token)}</span>')
    return " ".join(spans)
