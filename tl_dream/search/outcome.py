"""What a search comes to: a run a row, and the result of the best; and many searches, each handed out as it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from tqdm.auto import tqdm

from tl_dream._arguments import Number, Whole, whole_number
from tl_dream._errors import DreamError, require, why
from tl_dream.models import Host, attached
from tl_dream.objectives import Objective
from tl_dream.results import Cost, Dream, Run
from tl_dream.search.batch import Batch, Search
from tl_dream.search.engine import BrokenGradient, run_many
from tl_dream.search.swap_search import SwapSearch


@dataclass(frozen=True)
class Outcome:
    """What a method gives back: a run a row, why it stopped, what went wrong if something did, of each row whether no
    single swap of its best text is better, as far as that is known, and Ctrl-C or the error that ended it all."""

    runs: tuple[Run, ...]
    stopped: str
    failure: str | None = None
    optima: tuple[bool, ...] = ()
    ended: KeyboardInterrupt | Exception | None = None

    @classmethod
    def of(cls, search: SwapSearch, method: Search[str]) -> Search[Outcome]:
        """Of a search over real tokens, which a method carries out; it gives back why it stopped."""
        stopped, ended = "failure", None
        try:
            stopped = yield from method
        except BrokenGradient as error:
            search.fail(str(error))
        except (KeyboardInterrupt, Exception) as error:
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


F = TypeVar("F")


def side_by_side(
    model: Any,
    jobs: Iterable[Any],
    task: Callable[[Host, Any], Search[Any]],
    made: Callable[[int, Any, Any, BaseException | None], F],
    *,
    what: str,
    width: Whole | None,
    on_cpu: int,
    seconds: Number | None = None,
    progress: bool | None,
) -> Iterator[F]:
    """Run jobs side by side, so many at once that memory is bounded whatever their number.

    Args:
        jobs: read as room gets free.
        task: a job's search. Whatever is wrong with the job is raised when the search begins.
        made: what is handed out, of a job's number, the job, what it came to (or None) and the error that ended it (or
            None).
        what: a job is, for messages.
        width: jobs at once; None takes `on_cpu` on a CPU and 256 elsewhere.
        seconds: after which no job but the first begins.

    Raises:
        DreamError: no job, or no model.
        KeyboardInterrupt: after Ctrl-C; `error.partial` holds what is made of every job that was under way.
        Exception: what `jobs` raises, once all that were under way are handed out.
    """
    count = None if width is None else whole_number("width", width)
    require(
        isinstance(jobs, Iterable) and not isinstance(jobs, str | bytes),
        f"jobs is a {type(jobs).__name__}: give {what}s",
    )
    total = len(jobs) if isinstance(jobs, Sized) else None
    require(total != 0, f"there is no job: give at least one {what}")
    with attached(model, seconds) as host:  # a model that is none is told at once
        count = count or (on_cpu if host.device.type == "cpu" else 256)
    return _handed_out(model, host, jobs, task, made, count, total, progress)


def _handed_out(
    model: Any,
    host: Host,
    jobs: Iterable[Any],
    task: Callable[[Host, Any], Search[Any]],
    made: Callable[[int, Any, Any, BaseException | None], F],
    width: int,
    total: int | None,
    progress: bool | None,
) -> Iterator[F]:
    under_way: dict[int, Any] = {}
    broken: list[BaseException] = []

    def searches() -> Iterator[tuple[int, Search[Any]]]:
        try:
            for number, job in enumerate(jobs):
                if number and host.late:
                    return
                under_way[number] = job
                yield number, task(host.apart(), job)
        except Exception as error:  # of the user's generator; what is under way goes on to its end
            broken.append(error)

    results = run_many(host, searches(), width)
    disable = None if progress is None else not progress
    interrupted: list[F] = []
    with tqdm(total=total, disable=disable, unit="job", leave=False) as bar:
        while True:
            with attached(model):  # only while it runs: what the user does between two results is not isolated
                ended = next(results, None)
            if ended is None:
                break
            number, result = ended
            job = under_way.pop(number)
            bar.update()
            if isinstance(result, KeyboardInterrupt):
                interrupted.append(made(number, job, getattr(result, "partial", None), None))
            elif isinstance(result, BaseException):
                yield made(number, job, None, result)
            else:
                yield made(number, job, result, None)
    if interrupted:
        stop: Any = KeyboardInterrupt()
        stop.partial = tuple(interrupted)
        raise stop
    if broken:
        raise broken[0]
