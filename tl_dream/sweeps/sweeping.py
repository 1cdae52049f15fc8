"""`sweep`: thousands of dreams, portraits or reconstructions as one job that may be killed, resumed and spread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm.auto import tqdm

from tl_dream._arguments import Whole, listed, one_of, plain, seed_number, whole_number
from tl_dream._errors import DreamError, keeping, require, shortened, unknown
from tl_dream.dreaming import Method
from tl_dream.models import attached, load_model
from tl_dream.sweeps.engines import ENGINES, WorkersDied, run_cluster, run_processes
from tl_dream.sweeps.jobs import Job, Kind, describe_corpus, find_starts, jobs_of, read_starts
from tl_dream.sweeps.journal import journal_paths, locked, mend_journals
from tl_dream.sweeps.kinds import KINDS, Dreams, Portraits, Reconstructions
from tl_dream.sweeps.manifest import folder_of, keep_manifest, make_manifest, sweep_id
from tl_dream.sweeps.reading import LOCK, SweepStatus, sweep_status
from tl_dream.sweeps.workers import Loader, Work, run_here
from tl_dream.text import DEFAULT_ALLOWED, Allowed


def sweep(
    model: Any,
    jobs: Any,
    *,
    out: str | os.PathLike[str],
    what: str | Portraits | Reconstructions = "dreams",
    corpus: Any = None,
    column: str | None = None,
    sentences: Whole = 10,
    prompt: Any = None,
    method: str | Method = "auto",
    budget: Whole | None = None,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Iterable[Any] | None = None,
    max_changes: Whole | None = None,
    retokenize: bool = True,
    seeds: Whole = 1,
    seed: Whole = 0,
    engine: str = "auto",
    workers: Whole = 1,
    scheduler: str | None = None,
    threads: Whole | None = None,
    width: Whole | None = None,
    progress: bool | None = None,
) -> SweepStatus:
    """Thousands of dreams, portraits or reconstructions, kept in a folder job by job.

    The folder holds a manifest (versions, the model's hash, settings, the list of jobs), the sentences that units start
    from, and a journal a worker: JSON lines, one for every job that has ended, on the disk before the next. Killed at
    any moment, the same command goes on: nothing is lost, doubled or half written. On a CPU what is found does not
    depend on how often it was killed nor on the number of workers. `read_sweep` gives the table, `sweep_result` the
    whole result of a job, `sweep_status` how far it is, all while it runs.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge. For several processes or machines, which load
            their own: a name for `load_model`, or a function without arguments that gives a model and can be pickled
            (`functools.partial(td.load_model, "minilm", device="cuda")`).
        jobs: for dreams patterns of units such as "block_out:0-5:all" (see `units`), units, or (objective, prompt)
            pairs; for portraits patterns, units or objectives; for reconstructions texts, or a file of them (a Path),
            each at every layer.
        out: the folder; made where there is none.
        what: "dreams", "portraits" or "reconstructions"; with other options than the usual ones `Portraits(...)` or
            `Reconstructions(...)`.
        corpus, column: where dreams of units start: each from its best sentences here (as in `corpus_search`, one pass
            for all); or what portraits are over.
        sentences: how many of them a dream starts from.
        prompt: where dreams of units start without a corpus: a sentence, or several.
        method, budget, allowed, banned, max_changes, retokenize: of dreams, as in `dream_many`, for every job.
        seeds: how often each is done: with `seed`, `seed` + 1, ...
        seed: of the local random generators, and of "random=" in patterns.
        engine: "joblib" for processes on this machine, "dask" for the workers of a cluster (the extra `cluster`);
            "auto" is this process itself, or joblib where there are several workers.
        workers: processes on this machine.
        scheduler: for "dask": the address of a running one; None makes a cluster of `workers` processes here.
        threads: of torch in each worker; None shares this machine's processors among them, and leaves those of a
            cluster as they were started.
        width: jobs side by side in a worker (see `dream_many` and `reconstruct_many`; of portraits 16).
        progress: show a progress bar of jobs; None shows it on a terminal only.

    Returns:
        How far it got; jobs that failed are in its `failures`.

    Raises:
        DreamError: bad input; a folder that holds another sweep (another model, version, setting or job), which is left
            untouched, or that another process writes; a disk that is full; workers that keep dying.
        DreamError, KeyboardInterrupt: what ends it after some work brings the `SweepStatus` as its `partial`.

    Examples:
        >>> status = td.sweep(bert, "mlp_post:1:1,5-6", out="units", prompt="i hate the red dog .", budget=2_000)
        >>> status.done, status.left, status.failures
        (3, 0, ())
        >>> td.read_sweep("units").key.tolist()
        ['mlp_post:1:1@0', 'mlp_post:1:5@0', 'mlp_post:1:6@0']
        >>> texts, what = ["i hate kickshaws .", "the old dog sleeps ."], td.Reconstructions(layers=[0, 1])
        >>> td.sweep(bert, texts, out="texts", what=what).done, bool(td.read_sweep("texts").exact[0])
        (4, True)
    """
    dreams = Dreams(
        method=method,
        budget=None if budget is None else whole_number("budget", budget),
        allowed=plain(allowed),
        banned=None if banned is None else listed(banned),
        max_changes=None if max_changes is None else whole_number("max_changes", max_changes),
        retokenize=retokenize,
    )
    kind = _read_kind(what, dreams)
    require(prompt is None or kind is dreams, f"prompt= is where dreams start: for {kind.called} leave it out")
    first, count = seed_number(seed), whole_number("seeds", seeds)
    sentences, workers = whole_number("sentences", sentences), whole_number("workers", workers)
    threads = None if threads is None else whole_number("threads", threads)
    width = None if width is None else whole_number("width", width)
    one_of("engine", engine, ENGINES)
    require(scheduler is None or engine == "dask", 'scheduler= goes with engine="dask"')
    require(corpus is None or prompt is None, "a corpus and a prompt are both given to start from: give one of the two")
    load = _loader(model)
    here = engine == "auto" and workers == 1
    require(
        here or load is not None,
        f"several workers load the model themselves, and a {type(model).__name__} is given: give its name, or a "
        'function that loads it, such as functools.partial(td.load_model, "minilm")',
    )
    folder = _folder(out)
    busy = f"another sweep is writing {str(folder)!r}: wait for its end, or give another folder"
    with locked(folder / LOCK, 2.0, busy):
        loaded = model if load is None else load()
        with attached(loaded) as host:
            todo = jobs_of(host, kind, jobs, prompt, range(first, first + count))
            searched = any(job.searched for job in todo)
            require(
                corpus is not None or not searched,
                "no sentence to start from: give a corpus" + (", or a prompt" if kind is dreams else ""),
            )
            require(corpus is None or searched, "not one of the jobs starts from the corpus, as units do: leave it out")
            kind.try_out(host, prompt)
            sentences = kind.sentences or sentences
            known = None if corpus is None else describe_corpus(corpus, column, sentences)
            manifest = keep_manifest(folder, make_manifest(host, todo, kind, known, prompt))
            identity = sweep_id(manifest)
            notices, done = mend_journals(folder, identity)
            left = [job for job in todo if not done.get(job.key)]

            def so_far(partial: Any, why: str) -> SweepStatus | None:
                status = replace(sweep_status(folder, notices=notices), running=False)
                return status if status.done else None

            if corpus is not None and left:
                with keeping(so_far):
                    find_starts(
                        host, kind, todo, corpus, column=column, sentences=sentences, folder=folder, progress=progress
                    )
                starts = read_starts(folder, [job.name for job in left if job.searched])
                left = kind.started(host, left, starts, corpus, column)
        work = Work(identity, manifest["model"]["hash"], round(time.time(), 3), kind, width)

        with keeping(so_far):
            with _bar(folder, len(todo), progress):
                if here:
                    run_here(work, loaded, left, folder)
                elif left:
                    assert load is not None
                    del loaded
                    if engine == "dask":
                        run = partial(run_cluster, scheduler=scheduler, workers=workers, threads=threads)
                    else:
                        run = partial(run_processes, workers=workers, threads=threads)
                    notices += _until_done(lambda jobs: run(work, load, jobs, folder), left, folder, work)
    return sweep_status(folder, notices=notices)


def _read_kind(what: Any, dreams: Dreams) -> Kind:
    """What the jobs are; options of dreams are for dreams alone."""
    if isinstance(what, str) and what in KINDS:
        what = dreams if what == dreams.called else KINDS[what]()
    if not isinstance(what, Kind):
        raise unknown("kind of job", what, KINDS)
    stray = [name for name, value in vars(dreams).items() if value != getattr(Dreams, name)]
    name = type(what).__name__
    require(
        isinstance(what, Dreams) or not stray,
        f"{', '.join(stray)}: an option of dreams; those of {what.called} go into what=td.{name}(...)",
    )
    return what


def _loader(model: Any) -> Loader | None:
    """What loads the model in a worker; None where it is there already."""
    if isinstance(model, str | os.PathLike):
        return partial(load_model, os.fspath(model))
    return model if callable(model) and not isinstance(model, torch.nn.Module) else None


def _folder(out: str | os.PathLike[str]) -> Path:
    folder = folder_of(out).absolute()  # the model's loader, or an objective, may change directory
    try:
        taken = folder.exists() and not folder.is_dir()
        if not taken:
            folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # a name too long, or that is no text
        why = getattr(error, "strerror", None) or error
        raise DreamError(f"the folder {shortened(repr(str(out)))} can't be made: {why}") from error
    require(not taken, f"out = {str(out)!r} is a file: give a folder")
    return folder


def _until_done(run: Callable[[list[Job]], None], jobs: list[Job], folder: Path, work: Work) -> list[str]:
    """Go on after workers that died, as long as somebody gets something done.

    Returns:
        What happened, in words.
    """
    notices: list[str] = []
    while jobs:
        try:
            run(jobs)
            return notices
        except WorkersDied as died:
            mended, done = mend_journals(folder, work.sweep, work.session)
            left = [job for job in jobs if not done.get(job.key)]
            notices += [f"workers died ({shortened(str(died), 200)}) and were replaced", *mended]
            if len(left) == len(jobs):
                raise DreamError(
                    f"the workers keep dying, and no job of the last round ended ({shortened(str(died), 200)}): they "
                    "may need more memory; take fewer workers or a smaller width, and run the same command again"
                ) from died
            jobs = left
    return notices


@contextmanager
def _bar(folder: Path, total: int, progress: bool | None) -> Iterator[None]:
    """A progress bar of jobs, which follows the lines of the journals, whoever writes them."""
    read: dict[Path, int] = {}

    def ended() -> int:
        """Lines that the journals have got since the last time."""
        count = 0
        for path in journal_paths(folder):
            with path.open("rb") as file:
                file.seek(read.get(path, 0))
                while part := file.read(1 << 24):
                    count += part.count(b"\n")
                read[path] = file.tell()
        return count

    disable, over = None if progress is None else not progress, threading.Event()
    with tqdm(total=total, initial=ended(), disable=disable, desc="sweep", unit="job", leave=False) as bar:

        def follow() -> None:
            while not bar.disable and not over.wait(1.0):
                bar.update(ended())

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            bar.update(ended())
            bar.refresh()
