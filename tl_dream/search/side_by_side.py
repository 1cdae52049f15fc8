"""Many jobs, each handed out as soon as it ends: what `dream_many` and `reconstruct_many` share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

from tqdm.auto import tqdm

from tl_dream._arguments import Whole, whole_number
from tl_dream._errors import require
from tl_dream.models import Host, attached
from tl_dream.search.asks import Search
from tl_dream.search.engine import run_many

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
    ends: float | None,
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
        ends: when no other job begins, by `time.perf_counter()`.

    Raises:
        DreamError: no job, or no model.
        KeyboardInterrupt: after Ctrl-C; `error.partial` holds what is made of every job that was under way.
    """
    count = None if width is None else whole_number("width", width)
    require(
        isinstance(jobs, Iterable) and not isinstance(jobs, str | bytes),
        f"jobs is a {type(jobs).__name__}: give {what}s",
    )
    total = len(jobs) if isinstance(jobs, Sized) else None
    require(total != 0, f"there is no job: give at least one {what}")
    with attached(model) as host:  # a model that is none is told at once
        count = count or (on_cpu if host.device.type == "cpu" else 256)
    return _handed_out(model, host, jobs, task, made, count, total, ends, progress)


def _handed_out(
    model: Any,
    host: Host,
    jobs: Iterable[Any],
    task: Callable[[Host, Any], Search[Any]],
    made: Callable[[int, Any, Any, BaseException | None], F],
    width: int,
    total: int | None,
    ends: float | None,
    progress: bool | None,
) -> Iterator[F]:
    under_way: dict[int, Any] = {}

    def searches() -> Iterator[tuple[int, Search[Any]]]:
        for number, job in enumerate(jobs):
            if ends is not None and time.perf_counter() >= ends:
                return
            under_way[number] = job
            yield number, task(host.apart(), job)

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
