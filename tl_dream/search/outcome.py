"""What a search comes to: a run a row, and the result of the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tl_dream._errors import DreamError
from tl_dream.models import Host
from tl_dream.objectives import Objective
from tl_dream.results import Cost, Dream, Run
from tl_dream.search.batch import Batch
from tl_dream.search.engine import BrokenGradient, Search
from tl_dream.search.swap_search import SwapSearch


@dataclass(frozen=True)
class Outcome:
    """What a method gives back: a run a row, why it stopped, what went wrong if something did, and of each row whether
    no single swap of its best text is better, as far as that is known."""

    runs: tuple[Run, ...]
    stopped: str
    failure: str | None = None
    optima: tuple[bool, ...] = ()

    @classmethod
    def of(cls, search: SwapSearch, method: Search[str]) -> Search[Outcome]:
        """Of a search over real tokens, which a method carries out; it gives back why it stopped."""
        stopped = "failure"
        try:
            stopped = yield from method
        except BrokenGradient as error:
            search.fail(str(error))
        yield from search.settle()
        optima = tuple((row, search.seen.best[row].ids) in search.optima for row in range(len(search.batch.sentences)))
        return cls(search.seen.runs(), stopped if search.failure is None else "failure", search.failure, optima)


def finish(
    host: Host,
    objective: Objective,
    batch: Batch,
    outcome: Outcome,
    *,
    settings: Mapping[str, Any],
    seed: int,
    before: Cost,
) -> Dream:
    """The result of the best row.

    Args:
        before: the meter when the run began.

    Raises:
        DreamError: scores or their gradient became NaN or infinite; `error.partial` holds the result so far.
    """
    winner = max(range(len(outcome.runs)), key=lambda i: (outcome.runs[i].best.score, -i))
    run, sentence = outcome.runs[winner], batch.sentences[winner]
    result = Dream(
        model=host.name,
        objective=repr(objective),
        prompt={"text": sentence.text, "free": list(sentence.free)},
        settings=settings,
        seed=seed,
        start=run.start,
        best=run.best,
        soft_score=run.soft_score,
        history=run.history,
        cost=host.meter.now() - before,
        stopped=outcome.stopped,
        optimum=any(outcome.optima[winner : winner + 1]),
        fired=None if objective.off is None else run.best.score > objective.off,
        others=tuple(other for i, other in enumerate(outcome.runs) if i != winner),
    )
    if outcome.failure is not None:
        raise DreamError(
            f"{outcome.failure}; the best real tokens so far score {run.best.score:.4f}: {run.best.text!r} "
            "(error.partial holds the whole result). Check the objective for a division by zero, and for a logarithm "
            "or square root of zero",
            partial=result,
        )
    return result
