"""What a search comes to: a run a row, and the result of the best."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any

from tl_dream._errors import DreamError, why
from tl_dream.models import Host
from tl_dream.objectives import Objective
from tl_dream.results import Cost, Dream, Run
from tl_dream.search.asks import Search
from tl_dream.search.batch import Batch
from tl_dream.search.engine import BrokenGradient
from tl_dream.search.swap_search import SwapSearch


@dataclass(frozen=True)
class Outcome:
    """What a method gives back: a run a row, why it stopped, what went wrong if something did, of each row whether no
    single swap of its best text is better, as far as that is known, and Ctrl-C or the error that ended it all."""

    runs: tuple[Run, ...]
    stopped: str
    failure: str | None = None
    optima: tuple[bool, ...] = ()
    ended: KeyboardInterrupt | DreamError | None = None

    @classmethod
    def of(cls, search: SwapSearch, method: Search[str]) -> Search[Outcome]:
        """Of a search over real tokens, which a method carries out; it gives back why it stopped."""
        stopped, ended = "failure", None
        try:
            stopped = yield from method
        except BrokenGradient as error:
            search.fail(str(error))
        except (KeyboardInterrupt, DreamError) as error:
            stopped, ended = why(error), error
        with suppress(Exception) if ended else nullcontext():  # nothing that fails now counts as much
            yield from search.settle()
        optima = tuple((row, search.seen.best[row].ids) in search.optima for row in range(len(search.batch.sentences)))
        stopped, failure = (stopped, None) if ended or search.failure is None else ("failure", search.failure)
        return cls(search.seen.runs(), stopped, failure, optima, ended)


def finish(
    host: Host,
    objective: Objective,
    batch: Batch,
    outcome: Outcome,
    *,
    settings: Mapping[str, Any],
    seed: int,
    before: Cost,
    made: Callable[[Dream], Any] = lambda result: result,
) -> Any:
    """The result of the best row.

    Args:
        before: the meter when the run began.
        made: what the caller makes of it.

    Raises:
        DreamError: scores or their gradient became NaN or infinite; `error.partial` holds the result so far.
        KeyboardInterrupt, DreamError: whatever else ended the run, `error.partial` in the same way.
    """
    winner = max(range(len(outcome.runs)), key=lambda i: (outcome.runs[i].best.score, -i))
    run, sentence = outcome.runs[winner], batch.sentences[winner]
    found = Dream(
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
    result = made(found)
    if outcome.ended is not None:
        ended: Any = outcome.ended
        ended.partial = result
        raise ended
    if outcome.failure is not None:
        raise DreamError(
            f"{outcome.failure}; the best real tokens so far score {run.best.score:.4f}: {run.best.text!r} "
            "(error.partial holds the whole result). Check the objective for a division by zero, and for a logarithm "
            "or square root of zero",
            partial=result,
        )
    return result
