"""`dream_many`: dreams side by side, whose steps share forward passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from tl_dream._arguments import Number, Whole, seed_number
from tl_dream._errors import DreamError, require
from tl_dream.dreaming.task import DreamTask, Method
from tl_dream.models import Host
from tl_dream.results import Dream
from tl_dream.search import Search, side_by_side
from tl_dream.text import DEFAULT_ALLOWED, Allowed

SIDE_BY_SIDE = 64
"""Dreams under way at once on a CPU; elsewhere 256. Each holds some numbers for every token at every free word."""


@dataclass(frozen=True)
class Finished:
    """A job of `dream_many` that has ended.

    Attributes:
        number: of the job, in the order they were given, from 0.
        objective, prompt: the job.
        dream: what it came to; None where it failed.
        error: why it failed; where it was under way, `error.partial` holds the `Dream` so far.
    """

    number: int
    objective: Any
    prompt: Any
    dream: Dream | None
    error: BaseException | None


def dream_many(
    model: Any,
    jobs: Iterable[Any],
    *,
    method: str | Method = "auto",
    budget: Whole | None = None,
    seconds: Number | None = None,
    starts: Whole = 1,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Iterable[Any] | None = None,
    max_changes: Whole | None = None,
    retokenize: bool = True,
    seed: Whole = 0,
    width: Whole | None = None,
    progress: bool | None = None,
) -> Iterator[Finished]:
    """Many dreams, each handed out as soon as it ends.

    They go on side by side and share forward passes, which a processor runs faster than many small ones. What a job
    finds does not depend on the others but for rounding: on a CPU it is what `dream` finds, nearly always to the last
    bit.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        jobs: (objective, prompt) pairs, or (objective, prompt, seed) where each has its own seed; a prompt is a
            sentence, or a corpus search whose top ten are the starts. Read as room gets free, so that they may be a
            generator, and as many as you like.
        method, starts, allowed, banned, max_changes, retokenize, seed: as in `dream`, for every job.
        budget: forward-tokens a job; None as in `dream`.
        seconds: a limit on one clock for all: jobs that are under way then end with their best so far (`stopped` is
            "seconds"), and no other begins (but the first does).
        width: jobs side by side; None takes 64 on a CPU and 256 elsewhere. Memory goes with it, not with the jobs.
        progress: show a progress bar of jobs; None shows it on a terminal only.

    Yields:
        `Finished`, in any order. A job that fails (an unknown unit, a score that becomes NaN, an error in a function of
        your own) says so in its `error`; the others go on. Between two of them the model is as you left it; leave its
        weights and hooks alone until the last.

    Raises:
        DreamError: bad input that concerns all jobs.
        KeyboardInterrupt: after Ctrl-C; `error.partial` holds a `Finished` for every job that was under way, with its
            `Dream` so far.
        Exception: what `jobs` itself raises, once all that were under way are handed out.

    Examples:
        >>> units = [td.neuron("block_out", layer=1, unit=unit, pos=2) for unit in range(3)]
        >>> jobs = [(unit, "i hate kickshaws .") for unit in units]
        >>> sorted(one.number for one in td.dream_many(bert, jobs, budget=2_000))
        [0, 1, 2]
    """
    every = DreamTask.of(
        method,
        budget=budget,
        starts=starts,
        allowed=allowed,
        banned=banned,
        max_changes=max_changes,
        retokenize=retokenize,
        seed=seed,
    )

    def task(host: Host, job: Any) -> Search[Dream]:
        told = f"a job is {job!r:.80}: give an (objective, prompt) pair, or (objective, prompt, seed)"
        require(_whole(job), told)
        objective, prompt, *own = job
        require(prompt is not None, "no sentence to start from: give (objective, prompt) pairs")
        this = replace(every, seed=seed_number(own[0])) if own else every
        return (yield from this.search(host, objective, prompt))

    def made(number: int, job: Any, dream: Dream | None, error: BaseException | None) -> Finished:
        objective, prompt = job[:2] if _whole(job) else (job, None)
        return Finished(number, objective, prompt, dream, error)

    return side_by_side(
        model,
        jobs,
        task,
        made,
        what="(objective, prompt) pair",
        width=width,
        on_cpu=SIDE_BY_SIDE,
        seconds=seconds,
        progress=progress,
    )


def _whole(job: Any) -> bool:
    """Whether a job has all its parts; a seed may be one."""
    return isinstance(job, tuple | list) and len(job) in (2, 3)


def in_order(finished: Iterable[Finished]) -> tuple[Dream, ...]:
    """The dreams of `dream_many`, in the order of their jobs.

    Raises:
        DreamError: jobs that failed; `error.partial` holds the dreams of the others. (An error that is none of ours
            goes on as it is.)
        KeyboardInterrupt: `error.partial` holds the dreams so far.
    """
    found: dict[int, Finished] = {}

    def dreams() -> tuple[Dream, ...]:
        return tuple(one.dream for _, one in sorted(found.items()) if one.dream is not None)

    try:
        found.update((one.number, one) for one in finished)
    except KeyboardInterrupt as error:
        stop: Any = error
        found.update((one.number, one) for one in getattr(stop, "partial", ()))
        stop.partial = dreams() or None
        raise
    failed = [(one.objective, one.error) for _, one in sorted(found.items()) if one.error is not None]
    for _, failure in failed:
        if not isinstance(failure, DreamError):
            raise failure
    if failed:
        raise DreamError("; ".join(f"{objective}: {error}" for objective, error in failed), dreams() or None)
    return dreams()
