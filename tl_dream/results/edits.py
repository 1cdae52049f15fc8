"""What comes back from moving an activation along a concept: the nearest real text of every move. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tl_dream._arguments import check_places, check_that
from tl_dream.results.base import (
    Cost,
    SavedResult,
    cut_short,
    fields_as_data,
    frame_of,
    one_line,
    read_fields,
    read_value,
    readable,
    table,
)
from tl_dream.results.dreams import History, ScoredText

if TYPE_CHECKING:
    import pandas


WITH_CONCEPT = 0.25
"""How far, in natural units and the way the move went, a word must have taken its own activation along the concept for
its change to count as one "with the concept"."""


@dataclass(frozen=True)
class Change:
    """A word that differs from the original sentence.

    Attributes:
        pos: its position.
        before, after: the two tokens.
        kind: "concept" where the word itself took its own activation at least WITH_CONCEPT along the concept, the way
            the move went (that of the magnitude; under the control "opposite" the other way; at magnitude 0 no way);
            "other" otherwise.
        value: how far, in natural units, positive towards the positive set: the word's own activation in the text
            found, against the same text with the original word in its place. So what the other changed words do to it
            does not count.
    """

    pos: int
    before: str
    after: str
    kind: str
    value: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain data, its words under "from" and "to"."""
        return {"pos": self.pos, "from": self.before, "to": self.after, "kind": self.kind, "value": self.value}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Change:
        """The inverse of `to_json`."""
        return read_fields(cls, {{"from": "before", "to": "after"}.get(key, key): value for key, value in data.items()})


@dataclass(frozen=True)
class EditRow:
    """One move and the real text nearest to where it led.

    Attributes:
        layer: None where the hook is not one of every layer.
        magnitude: in natural units; positive leads to the positive set.
        control: None for the concept itself; "random" (a direction of equal norm), "shuffled" (a concept fitted to
            shuffled labels), "opposite" (the other sign), "zero" (no move).
        text, tokens: of the nearest text found.
        changed: the words that differ from the original.
        loss: mean squared error between its activation and the moved one, over all positions and units.
        start_loss: of the original text; None where it is not known.
        gap: the reachability gap: root of the loss over the median distance of single-word neighbours at this layer. 0:
            a text has exactly this activation; 1: the best is as far from it as a neighbour is from the sentence. None
            where it is not known.
        seconds: this row's share of the run.
        history: of the article's annealing, of which scores are minus losses; None of other searches.
    """

    layer: int | None
    magnitude: float
    control: str | None
    text: str
    tokens: tuple[str, ...]
    changed: tuple[Change, ...]
    loss: float
    start_loss: float | None
    gap: float | None
    seconds: float
    history: History | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain data; the history only where there is one."""
        return {key: value for key, value in fields_as_data(self).items() if key != "history" or value is not None}


@dataclass(frozen=True)
class ConceptEdit(SavedResult):
    """The outcome of `edit_concept` (the article's Figure 6).

    Attributes:
        model, concept, hook: as they print.
        negative, positive: names of the two sets.
        text, tokens: the original sentence.
        pos: the positions whose activation moved.
        rows: by layer, control and magnitude.
        scales: by layer, as text: the natural unit, in the hook's units.
        neighbours: by layer, as text: the median root mean square distance of single-word neighbours.
        settings: every option of the run.
        seed: of the random direction and the search; None where it is not known.
        cost: of the whole run.
        stopped: "complete", or why the search did not come to its end, and nearer texts may be missing: "interrupted"
            or "failure".
    """

    model: str
    concept: str
    hook: str
    negative: str
    positive: str
    text: str
    tokens: tuple[str, ...]
    pos: tuple[int, ...]
    rows: tuple[EditRow, ...]
    scales: Mapping[str, float]
    neighbours: Mapping[str, float]
    settings: Mapping[str, Any]
    seed: int | None
    cost: Cost
    stopped: str = "complete"

    kind = "concept_edit"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_places("pos", self.pos, len(self.tokens))
        for row in self.rows:
            check_that(len(row.tokens) == len(self.tokens), "tokens", row.tokens, f"{len(self.tokens)} tokens")
            check_places("changed", [change.pos for change in row.changed], len(self.tokens))

    @property
    def controls(self) -> tuple[str | None, ...]:
        """The controls there are rows for, the concept itself (None) first."""
        return tuple(dict.fromkeys((None, *(row.control for row in self.rows))))

    def rates(self, control: str | None = None) -> dict[str, float]:
        """What became of the words under one control, over its rows with a magnitude other than 0.

        Returns:
            "rows": how many; and shares of them: "moved" (a moved word changed with the concept), "moved_otherwise" (a
            moved word changed in another way), "spill" (a word that was not moved changed), "spill_concept" (and did so
            with the concept), "unchanged" (no word changed).
        """
        rows = [row for row in self.rows if row.control == control and row.magnitude != 0]

        def share(moved: bool, kind: str | None) -> float:
            hits = [
                any((change.pos in self.pos) == moved and kind in (None, change.kind) for change in row.changed)
                for row in rows
            ]
            return sum(hits) / len(rows) if rows else 0.0

        return {
            "rows": len(rows),
            "moved": share(True, "concept"),
            "moved_otherwise": share(True, "other"),
            "spill": share(False, None),
            "spill_concept": share(False, "concept"),
            "unchanged": sum(not row.changed for row in rows) / len(rows) if rows else 0.0,
        }

    def __str__(self) -> str:
        head = ("layer", "magnitude", "control", "loss", "gap", "changed")
        lines = [
            (
                "-" if row.layer is None else str(row.layer),
                f"{row.magnitude:+g}",
                row.control or "",
                f"{row.loss:.4g}",
                "-" if row.gap is None else f"{row.gap:.2f}",
                ", ".join(f"{readable(c.before)} -> {readable(c.after)} ({c.pos}, {c.kind})" for c in row.changed)
                or "nothing",
            )
            for row in self.rows
        ]
        shares = [
            (
                control or "concept",
                *(f"{rates[key]:.0%}" for key in ("moved", "moved_otherwise", "spill", "unchanged")),
            )
            for control in self.controls
            if (rates := self.rates(control))["rows"]
        ]
        moved = ", ".join(f"{at} {readable(self.tokens[at])}" for at in self.pos)
        return "\n".join(
            [
                f"{self.concept} at {self.hook} on {self.model}: {one_line(self.text)}",
                f"moved: {moved}; magnitudes in natural units ({self.negative} - / + {self.positive})",
                table(head, lines),
                table(("", "moved word with the concept", "otherwise", "other words", "no change"), shares),
                "gap: distance of the nearest text found, as a share of the distance between neighbouring sentences",
                f"{self.cost}; seed {self.seed}{cut_short(self.stopped)}",
            ]
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a move."""
        columns = ("layer", "magnitude", "control", "text", "loss", "start_loss", "gap", "seconds")
        frame = frame_of({name: [getattr(row, name) for row in self.rows] for name in columns})
        return frame.assign(changed=[len(row.changed) for row in self.rows])


@dataclass(frozen=True)
class Steering(SavedResult):
    """Where words lie on a concept before a model is steered and after.

    Attributes:
        model, concept, hook: as they print.
        text: the sentence.
        what: was done to the activation.
        rows: a steered layer, a reading layer and a word each: "steered", "layer", "pos", "token", "before", "value",
            "label".
        guesses: the predictions for [MASK], as text, without steering and steered at every layer; empty without one.
    """

    model: str
    concept: str
    hook: str
    text: str
    what: str
    rows: tuple[Mapping[str, Any], ...]
    guesses: Mapping[str, str]

    kind = "concept_steering"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        kinds: dict[str, Any] = {"pos": int, "token": str, "before": float, "value": float, "label": str}
        kinds |= {"steered": int | None, "layer": int | None}
        for row in self.rows:
            for name, kind in kinds.items():
                read_value(name, kind, row[name])

    def __str__(self) -> str:
        lines = [
            (
                *(readable(str(row[key])) for key in ("steered", "layer", "pos", "token")),
                *(f"{row[key]:+.3f}" for key in ("before", "value")),
                str(row["label"]),
            )
            for row in self.rows
        ]
        return "\n".join(
            [
                f"{self.concept} at {self.hook} on {self.model}, {self.what}: {one_line(self.text)}",
                table(("steered layer", "read at layer", "pos", "token", "before", "after", "side"), lines),
                *(f"{title}: {guess}" for title, guess in self.guesses.items()),
            ]
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a steered layer, reading layer and word: the keys of `rows`."""
        return frame_of([{**row, "token": readable(str(row["token"]))} for row in self.rows])


@dataclass(frozen=True)
class MinimalDream(SavedResult):
    """The fewest words that reach a score: changed in a sentence, or in all.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        start: the sentence; None where there was none to start from.
        best: what it came to.
        changed: the positions that differ from the start's; without a start all that were written.
        above: the score to reach.
        reached: whether `best` does.
        minimal: it is certain that fewer words do not: every such text was tried.
        seed: of the local random generators.
        cost: forwards, forward-tokens, seconds.
        stopped: "complete", or what ended it before its end ("seconds", "interrupted", "failure").
    """

    model: str
    objective: str
    start: ScoredText | None
    best: ScoredText
    changed: tuple[int, ...]
    above: float
    reached: bool
    minimal: bool
    seed: int
    cost: Cost
    stopped: str = "complete"

    kind = "minimal_dream"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_places("changed", self.changed, len(self.best.tokens))
        lengths = [len(one.tokens) for one in (self.start, self.best) if one is not None]
        check_that(len(set(lengths)) == 1, "tokens of start and best", lengths, "one length")

    def __str__(self) -> str:
        rows = [] if self.start is None else [("start", f"{self.start.score:.4f}", self.start.text)]
        rows.append(("best", f"{self.best.score:.4f}", self.best.text))
        words = f"{len(self.changed)} word{'s' * (len(self.changed) != 1)}"
        told = f"{words} changed" if self.start is not None else words
        sure = "no fewer do: every such text was tried" if self.minimal else "fewer may do: not every text was tried"
        if not self.reached:
            told, sure = f"not reached with {told}", "the search's best"
        return "\n".join(
            (
                f"{self.objective} on {self.model}",
                table(("", "score", "text"), rows),
                f"to reach {self.above:.4f}: {told} ({sure})",
                f"{self.cost}; seed {self.seed}{cut_short(self.stopped)}",
            )
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a changed word: pos, before (None without a start), after."""
        rows = [(i, self.start and readable(self.start.tokens[i]), readable(self.best.tokens[i])) for i in self.changed]
        return frame_of(rows, ("pos", "before", "after"))
