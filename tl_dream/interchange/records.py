"""An annealed run as the article's files hold it: params, and iterations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tl_dream._errors import require
from tl_dream.interchange.questions import as_text

RESULTS = "results"
"""The key in `settings` of what stands beside the iterations of each run."""


class Records(NamedTuple):
    """An annealed run: its history as plain data, and which record is shown."""

    history: dict[str, Any]
    shown: int
    free: list[int]

    def scored(self, record: int) -> dict[str, Any]:
        """A record's real tokens."""
        kept = self.history
        return scored_text(kept["tokens"][record], kept["hard_score"][record], kept["step"][record])


def scored_text(tokens: Sequence[str], score: float, step: int = 0) -> dict[str, Any]:
    return {"text": as_text(tokens), "tokens": tokens, "ids": [], "score": score, "step": step, "retokenizes": None}


def read_records(run: Mapping[str, Any], show: str, name: str, sign: int) -> Records:
    """The iterations of a run.

    Args:
        name: of the score: "activation" or "loss"; that of the real tokens is "ids_" and this.
        sign: of a loss -1: our scores are higher where they are better.
    """
    rows, params = run["results"]["iterations"], run["params"]
    require(isinstance(rows, list) and bool(rows), "it holds no iterations")

    def column(key: str, needed: bool = False) -> list[Any]:
        held = [key in row for row in rows]
        require(all(held) or not (needed or any(held)), f"{key!r} is missing from {held.count(False)} iterations")
        return [row[key] for row in rows] if all(held) else []

    hard = [sign * score for score in column(f"ids_{name}", True)]
    free = span(params, "dream")
    history = {
        "step": column("number", True),
        "hard_score": hard,
        "tokens": column("tokens", True),
        "free": free,
        "temperature": column("temperature"),
        "soft_score": [sign * score for score in column(name)],
        "weights": column("max_values"),
    }
    return Records(history, len(rows) - 1 if show == "last" else max(range(len(hard)), key=hard.__getitem__), free)


def span(params: Mapping[str, Any], what: str) -> list[int]:
    """The positions from `dream_start` to `dream_end`, or of the shift."""
    first, last, count = params[f"{what}_start"], params[f"{what}_end"], len(params["tokens"])
    require(0 <= first <= last < count, f"positions {first} to {last} of the {what} are not in {count} tokens")
    return list(range(first, last + 1))


def settings_of(params: Mapping[str, Any], *runs: Mapping[str, Any]) -> dict[str, Any]:
    """The params, and what else stands beside the iterations of its runs."""
    more = [{key: value for key, value in run["results"].items() if key != "iterations"} for run in runs]
    return {**params, **({RESULTS: more} if any(more) else {})}
