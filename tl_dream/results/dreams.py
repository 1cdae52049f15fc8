"""What comes back: frozen data that prints, saves, loads and becomes a table. Nothing here runs a model."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tl_dream._arguments import Whole, check_lengths, check_places, check_that, is_whole, plain
from tl_dream._errors import require
from tl_dream.results.base import Cost, SavedResult, frame_of, free_spans, readable, table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class ScoredText:
    """Real tokens and what they score.

    Attributes:
        text: plain text of the tokens, special ones left out at the ends.
        tokens: the vocabulary's own strings, special ones included.
        ids: token ids, as many as tokens; none where they are not known (the article's files have none).
        score: the objective on exactly these ids, in the objective's own units.
        step: the optimiser's step at which these tokens were seen; 0 is the start.
        retokenizes: whether `text` tokenizes back to exactly `ids`; None where that is not known.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    score: float
    step: int = 0
    retokenizes: bool | None = True

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(len(self.ids) in (0, len(self.tokens)), "ids", self.ids, f"of {len(self.tokens)} tokens")
        check_that(all(i >= 0 for i in self.ids), "ids", self.ids, "token ids")


@dataclass(frozen=True)
class History:
    """One run as it was watched. Annealed ascent makes a record every `evaluate_every` steps (the article's Figures 1
    and 2), a search over real tokens whenever its best improves.

    All tuples have one entry a record; those of the soft sentence are empty where there was none.

    Attributes:
        step: steps done when the record was made.
        hard_score: the objective on the tokens; the article's "ids_activation".
        tokens: the snapped (most likely) tokens of a soft sentence, or the best real ones; special ones included.
        free: the free positions, in the order of `top_tokens`.
        forward_tokens: spent so far (rows x positions x layers).
        temperature: of the softmax, dimensionless.
        soft_score: the objective on the soft sentence; the article's "activation".
        weights: softmax weight of each snapped token, 1 at fixed positions; the article's "max_values".
        top_tokens: for each free position the most likely tokens, most likely first.
        top_weights: their softmax weights.
    """

    step: tuple[int, ...]
    hard_score: tuple[float, ...]
    tokens: tuple[tuple[str, ...], ...]
    free: tuple[int, ...]
    forward_tokens: tuple[int, ...] = ()
    temperature: tuple[float, ...] = ()
    soft_score: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    top_tokens: tuple[tuple[tuple[str, ...], ...], ...] = ()
    top_weights: tuple[tuple[tuple[float, ...], ...], ...] = ()

    def __len__(self) -> int:
        return len(self.step)

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        parts = [name for name in vars(self) if name != "free"]
        check_lengths(
            self, "step", *(name for name in parts if name in ("hard_score", "tokens") or getattr(self, name))
        )
        width = len(self.tokens[0]) if self.tokens else 0
        check_places("free", self.free, width or max(self.free, default=0) + 1)  # without a record nobody knows
        rows = {"tokens": width, "weights": width, "top_tokens": len(self.free), "top_weights": len(self.free)}
        for name, length in rows.items():
            check_that(
                all(len(row) == length for row in getattr(self, name)), name, getattr(self, name), "rows that fit"
            )
        best = [[len(tokens) for tokens in row] for row in self.top_tokens]
        shares = [[len(weights) for weights in row] for row in self.top_weights]
        check_that(best == shares, "top_weights", self.top_weights, "as many as top_tokens")

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a record: step, forward_tokens, temperature, soft_score, hard_score, text."""
        none = (None,) * len(self)
        return frame_of(
            {
                "step": self.step,
                "forward_tokens": self.forward_tokens or none,
                "temperature": self.temperature or none,
                "soft_score": self.soft_score or none,
                "hard_score": self.hard_score,
                "text": [" ".join(map(readable, tokens)) for tokens in self.tokens],
            }
        )


@dataclass(frozen=True)
class Run:
    """One start of a dream: where it began, the best real tokens it saw, its last soft score, how it went."""

    start: ScoredText
    best: ScoredText
    soft_score: float | None
    history: History


@dataclass(frozen=True)
class Dream(SavedResult):
    """The outcome of `dream`: the start, the best real tokens ever seen (the start included), and the way there.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        prompt: the text of the winning start and its free positions.
        settings: every option of the run.
        seed: of the local random generator; None where it is not known.
        start, best: real tokens with their scores; `best.score >= start.score` always.
        soft_score: the highest score of the soft sentence, never a result, kept to show the gap; None where no soft
            sentence was used.
        history: of the winning run.
        cost: forwards, forward-tokens, seconds.
        stopped: why it ended: "steps", "budget", "callback", ...; "complete" where every text that may be returned was
            tried, so that `best` is the best of all.
        optimum: a certificate: every swap of one word of `best` for an allowed token was scored (of those that may be
            returned), and none is better. False: that is not known.
        fired: of a unit behind an activation function whether it is on in `best`; None of other objectives.
        others: the runs from the other starts.
    """

    model: str
    objective: str
    prompt: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int | None
    start: ScoredText
    best: ScoredText
    soft_score: float | None
    history: History
    cost: Cost
    stopped: str = "steps"
    optimum: bool = False
    fired: bool | None = None
    others: tuple[Run, ...] = field(default=())

    kind = "dream"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        for number in range(1 + len(self.others)):
            run = get_run(self, number)
            lengths = [len(tokens) for tokens in (run.start.tokens, run.best.tokens, *run.history.tokens)]
            check_that(len(set(lengths)) == 1, "tokens of start, best and history", lengths, "one length")

    @property
    def gain(self) -> float:
        """How far the best real tokens lie above the start, in the objective's units."""
        return self.best.score - self.start.score

    def __str__(self) -> str:
        rows = [
            ("start", f"{self.start.score:.4f}", "0", self.start.text),
            ("best", f"{self.best.score:.4f}", str(self.best.step), self.best.text),
        ]
        notes = [f"{self.objective} on {self.model}", table(("", "score", "step", "text"), rows)]
        if self.gain <= 0:
            notes.append("nothing better than the start was found: the start is returned")
        if self.fired is False:
            notes.append("the unit never fired: no text that was tried turns it on; try another start, or more budget")
        if self.soft_score is not None:
            notes.append(f"soft score {self.soft_score:.4f} (of a mixture of tokens, not of a text)")
        if self.best.retokenizes:
            notes.append("the best text tokenizes back to the same ids")
        elif self.best.retokenizes is False:
            notes.append("note: the best text does not tokenize back to the same ids; use best.ids")
        notes.append(
            f"{self.cost}; {1 + len(self.others)} start(s), seed {self.seed}, stopped: {self.stopped}"
            + (" (every text that may be returned was tried)" if self.stopped == "complete" else "")
            + ("; no single swap of an allowed token is better" if self.optimum else "")
        )
        return "\n".join(notes)

    def _repr_html_(self) -> str:
        """Start and best as tokens; the ones that changed are bold and underlined."""
        changed = [a != b for a, b in zip(self.start.tokens, self.best.tokens, strict=True)]
        rows = "".join(
            f"<tr><td>{name}</td><td>{scored.score:.4f}</td><td>{free_spans(scored.tokens, changed)}</td></tr>"
            for name, scored in (("start", self.start), ("best", self.best))
        )
        return (
            f"<div><code>{html.escape(self.objective)}</code> on {html.escape(self.model)}"
            f"<table><tr><th></th><th>score</th><th>tokens</th></tr>{rows}</table>"
            f"<small>{self.cost.forwards:,} forwards, {self.cost.seconds:.1f} s, seed {self.seed}</small></div>"
        )

    def to_frame(self) -> pandas.DataFrame:
        """The history of every run as one pandas frame, with the column `run` (0 is the winner)."""
        import pandas

        runs = [self.history, *(run.history for run in self.others)]
        return pandas.concat([h.to_frame().assign(run=i) for i, h in enumerate(runs)], ignore_index=True)


@dataclass(frozen=True)
class FrontPoint:
    """A text of the front.

    Attributes:
        scored: real tokens and their score, in the objective's own units.
        fluency: the judge's, nats per token, at most 0; None without a judge.
    """

    scored: ScoredText
    fluency: float | None


@dataclass(frozen=True)
class Frontier(SavedResult):
    """What `epo` brings back.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        fluency: the judge's formula; None without one.
        settings: every option of the run.
        seed: of the local random generators.
        start: the sentence it began with.
        front: the texts that no other text seen beats in both, highest score first.
        cost: forwards, forward-tokens (the judge's included), seconds.
        stopped: why it ended: "budget", "callback" or "exhausted".
    """

    model: str
    objective: str
    fluency: str | None
    settings: Mapping[str, Any]
    seed: int | None
    start: FrontPoint
    front: tuple[FrontPoint, ...]
    cost: Cost
    stopped: str

    kind = "frontier"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(bool(self.front), "front", self.front, "a text or more")

    @property
    def best(self) -> ScoredText:
        """The text of the highest score, whatever its fluency."""
        return self.front[0].scored

    def __str__(self) -> str:
        def row(name: str, point: FrontPoint) -> tuple[str, str, str, str]:
            judged = "-" if point.fluency is None else f"{point.fluency:.2f}"
            return name, f"{point.scored.score:.4f}", judged, point.scored.text

        rows = [row("start", self.start), *(row("", point) for point in self.front)]
        return "\n".join(
            (
                f"{self.objective} against {self.fluency or 'nothing'} on {self.model}",
                table(("", "score", "nats/token", "text"), rows),
                f"{self.cost}; seed {self.seed}, stopped: {self.stopped}",
            )
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a text of the front: score, fluency, text."""
        return frame_of([{"score": p.scored.score, "fluency": p.fluency, "text": p.scored.text} for p in self.front])


def get_run(dream: Dream, run: Whole) -> Run:
    """One run of a dream: 0 is the winner, 1 the first of `others`.

    Raises:
        DreamError: no such run.
    """
    runs = [Run(dream.start, dream.best, dream.soft_score, dream.history), *dream.others]
    number = plain(run)
    require(
        is_whole(number) and 0 <= number < len(runs),
        f"run {run!r} does not exist: this dream has runs 0 to {len(runs) - 1}, and 0 is the winner",
    )
    return runs[number]
