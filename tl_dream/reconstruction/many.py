"""`reconstruct_many`: many targets read back side by side, whose searches share forward passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tl_dream._arguments import Number, Whole, is_whole, plain
from tl_dream._errors import require
from tl_dream.models import Host
from tl_dream.reconstruction.problem import read_problem
from tl_dream.reconstruction.reconstruction import SearchSettings, solve
from tl_dream.results import Reconstruction
from tl_dream.search import Search, side_by_side
from tl_dream.text import Allowed

SIDE_BY_SIDE = 192
"""Reconstructions under way at once on a CPU. Each holds the history of its L-BFGS, the longest in its later rounds."""


@dataclass(frozen=True)
class ReadBack:
    """A job of `reconstruct_many` that has ended.

    Attributes:
        number: of the job, in the order they were given, from 0.
        target, layer: the job.
        reconstruction: what it came to; None where it failed.
        error: why it failed; where it was under way, `error.partial` holds the `Reconstruction` so far.
    """

    number: int
    target: Any
    layer: Any
    reconstruction: Reconstruction | None
    error: BaseException | None


def reconstruct_many(
    model: Any,
    jobs: Iterable[Any],
    *,
    hook: str = "block_out",
    method: str = "auto",
    steps: Whole | None = None,
    starts: Whole = 1,
    patience: Whole = 2,
    allowed: Allowed = "no_unused",
    rivals: Whole | str | None = None,
    budget: Whole = 10_000,
    seconds: Number | None = None,
    seed: Whole = 0,
    width: Whole | None = None,
    progress: bool | None = None,
) -> Iterator[ReadBack]:
    """Many targets read back, each handed out as soon as it ends.

    The searches go on side by side and share forward passes: sentences of like length and one layer those of L-BFGS,
    and the layers of one sentence those of its rivals. What a job finds does not depend on the others but for rounding.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        jobs: (target, layer) pairs; a target is an activation or a text, as in `reconstruct`, and a layer None where
            the hook is a full name. Read as room gets free, so that they may be a generator, and as many as you like.
        hook, method, steps, starts, patience, allowed, rivals, budget, seed: as in `reconstruct`, for every job.
        seconds: a limit on one clock for all: jobs that are under way then end with their best so far (`stopped` is
            "seconds"), without rivals, and no other begins (but the first does).
        width: jobs side by side; None takes 192 on a CPU and 256 elsewhere. Memory goes with it, not with the jobs.
        progress: show a progress bar of jobs; None shows it on a terminal only.

    Yields:
        `ReadBack`, in any order. A job that fails (a layer that is not there, a target of another shape) says so in its
        `error`; the others go on. Between two of them the model is as you left it; leave its weights and hooks alone
        until the last.

    Raises:
        DreamError: bad input that concerns all jobs.
        KeyboardInterrupt: after Ctrl-C; `error.partial` holds a `ReadBack` for every job that was under way, with its
            `Reconstruction` so far.

    Examples:
        >>> texts = ["i hate kickshaws .", "the old dog sleeps ."]
        >>> jobs = [(text, layer) for text in texts for layer in (0, 1)]
        >>> found = {one.number: one.reconstruction.exact for one in td.reconstruct_many(bert, jobs)}
        >>> found[0], len(found)
        (True, 4)
    """
    search = SearchSettings(*map(plain, (method, steps, starts, patience, rivals, budget, seed)))

    def pair(job: Any) -> Any:
        good = isinstance(job, tuple | list) and len(job) == 2
        return job if good and (job[1] is None or is_whole(plain(job[1]))) else (job, None)

    def task(host: Host, job: Any) -> Search[Reconstruction]:
        target, layer = pair(job)
        require(target is not job, f"a job is {job!r:.80}: give a (target, layer) pair")
        return (yield from solve(host, read_problem(host, target, hook=hook, layer=layer), search, allowed))

    def made(number: int, job: Any, found: Reconstruction | None, error: BaseException | None) -> ReadBack:
        target, layer = pair(job)
        return ReadBack(number, target, layer, found, error)

    return side_by_side(
        model,
        jobs,
        task,
        made,
        what="(target, layer) pair",
        width=width,
        on_cpu=SIDE_BY_SIDE,
        seconds=seconds,
        progress=progress,
    )
