"""The front of a search for texts that fire a unit and read well: no text of it is beaten in both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tl_dream.results import Cost, ScoredText, _scored, _table
from tl_dream.scan_results import Scan

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class FrontPoint:
    """A text of the front.

    Attributes:
        scored: real tokens and their score, in the objective's own units.
        fluency: the judge's, nats per token, at most 0; None without a judge.
    """

    scored: ScoredText
    fluency: float | None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FrontPoint:
        """The inverse of `asdict`."""
        return cls(_scored(data["scored"]), data["fluency"])


@dataclass(frozen=True)
class Frontier(Scan):
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
    seed: int
    start: FrontPoint
    front: tuple[FrontPoint, ...]
    cost: Cost
    stopped: str

    kind = "frontier"

    @property
    def best(self) -> ScoredText:
        """The text of the highest score, whatever its fluency."""
        return self.front[0].scored

    @classmethod
    def _read(cls, data: dict[str, Any], cost: Cost) -> Frontier:
        front = tuple(FrontPoint.from_json(point) for point in data["front"])
        return cls(**{**data, "start": FrontPoint.from_json(data["start"]), "front": front}, cost=cost)

    def __str__(self) -> str:
        def row(name: str, point: FrontPoint) -> tuple[str, str, str, str]:
            judged = "-" if point.fluency is None else f"{point.fluency:.2f}"
            return name, f"{point.scored.score:.4f}", judged, point.scored.text

        rows = [row("start", self.start), *(row("", point) for point in self.front)]
        return "\n".join(
            (
                f"{self.objective} against {self.fluency or 'nothing'} on {self.model}",
                _table(("", "score", "nats/token", "text"), rows),
                f"cost: {self.cost.forwards:,} forwards, {self.cost.forward_tokens:,} forward-tokens, "
                f"{self.cost.seconds:.1f} s; seed {self.seed}, stopped by {self.stopped}",
            )
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a text of the front: score, fluency, text."""
        import pandas

        return pandas.DataFrame(
            [{"score": p.scored.score, "fluency": p.fluency, "text": p.scored.text} for p in self.front]
        )
