"""How a search becomes a `Dream`: the winner, the receipt, and an error that holds what was found so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from tl_dream._errors import DreamError
from tl_dream.batches import Batch
from tl_dream.hosts import Budget, Host
from tl_dream.objectives import Objective
from tl_dream.proposals import NoSlope
from tl_dream.results import Cost, Dream, Run
from tl_dream.swapping import Swaps, Tick


@dataclass(frozen=True)
class Outcome:
    """What a method gives back: a run a row, why it stopped, what went wrong if something did, and of each row whether
    no single swap of its best text is better, as far as that is known."""

    runs: tuple[Run, ...]
    stopped: str
    failure: str | None = None
    optima: tuple[bool, ...] = ()

    @classmethod
    def of(cls, search: Swaps, run: Callable[[], str]) -> Outcome:
        """Of a search over real tokens, which `run` carries out; it gives back why it stopped."""
        try:
            stopped = run()
        except NoSlope as error:
            search.fail(str(error))
        search.settle()
        optima = tuple((row, search.seen.best[row].ids) in search.optima for row in range(len(search.batch.sentences)))
        return cls(search.runs(), stopped if search.failure is None else "failure", search.failure, optima)


def finish(
    host: Host,
    objective: Objective,
    batch: Batch,
    outcome: Outcome,
    *,
    settings: Mapping[str, Any],
    seed: int,
    began: float,
) -> Dream:
    """The result of the best row.

    Args:
        began: when, by `time.perf_counter()`.

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
        cost=Cost(host.meter.forwards, host.meter.forward_tokens, time.perf_counter() - began),
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


def receipt(
    batch: Batch, method: str, settings: Mapping[str, Any], *, budget: float | None, allowed: object, starts: int
) -> dict[str, Any]:
    """Every option of a run, as data."""
    return {
        "method": method,
        **settings,
        "budget": budget,
        "starts": starts,
        "sentences": len(batch.sentences) // starts,
        "allowed": allowed if isinstance(allowed, str) else f"{int(batch.allowed.sum())} tokens",
        "max_changes": batch.max_changes,
        "retokenize": batch.retokenize,
    }


@contextmanager
def scored_bar(budget: Budget, progress: bool | None, title: str) -> Iterator[Tick]:
    """A progress bar of forward-tokens spent; the function it gives moves it.

    Args:
        progress: None shows it on a terminal only.
    """
    total = None if budget.limit == math.inf else int(budget.limit)
    with tqdm(
        total=total, disable=None if progress is None else not progress, desc=title, unit="tok", leave=False
    ) as bar:
        yield lambda: bar.update(min(budget.spent, budget.limit) - bar.n)
