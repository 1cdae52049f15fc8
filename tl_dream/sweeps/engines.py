"""Who does the jobs: this process, processes here (joblib), or the workers of a cluster (Dask)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib

from tl_dream._errors import DreamError
from tl_dream.sweeps.jobs import Job
from tl_dream.sweeps.journal import Journal
from tl_dream.sweeps.workers import Loader, Work, packed, run_chunk, run_process

ENGINES = ("auto", "joblib", "dask")


ANSWER, START = 10.0, 60.0
"""Seconds in which a scheduler answers; in which the first of its workers comes."""


class WorkersDied(Exception):
    """Workers were killed; what they had done is written."""


def run_processes(
    work: Work, load: Loader, jobs: Sequence[Job], folder: Path, workers: int, threads: int | None
) -> None:
    """Processes on this machine, each with every n-th job, a model and a journal of its own.

    Args:
        threads: of torch in each; None shares this machine's processors among them.

    Raises:
        WorkersDied: one of them was killed, and the others with it.
    """
    workers = min(workers, len(jobs))
    threads = threads or max(1, joblib.cpu_count() // workers)
    shares = [packed(jobs[number::workers]) for number in range(workers)]
    count = max(2, workers)  # of one job joblib makes no process
    pool = joblib.Parallel(
        n_jobs=count, backend="loky", batch_size=1, pre_dispatch="all", inner_max_num_threads=threads
    )
    try:
        pool(
            joblib.delayed(run_process)(work, packed(load), share, folder, number, threads, os.getpid())
            for number, share in enumerate(shares)
        )
    except BrokenProcessPool as error:
        raise WorkersDied(str(error).strip().splitlines()[0]) from error
    finally:
        joblib.externals.loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)


def run_cluster(
    work: Work,
    load: Loader,
    jobs: Sequence[Job],
    folder: Path,
    *,
    scheduler: str | None,
    workers: int,
    threads: int | None,
) -> None:
    """The workers of a Dask cluster, a chunk of jobs at a time; this process writes what comes back. The chunks of a
    worker that dies are done again by others.

    Args:
        scheduler: its address; None makes a cluster of `workers` processes on this machine.

    Raises:
        DreamError: Dask is not installed, or the scheduler can't be reached.
        WorkersDied: a chunk killed several workers one after the other.
    """
    with _client(scheduler, workers) as client, Journal(folder, 0) as journal:
        from distributed import KilledWorker, as_completed

        count = max(1, len(client.nthreads()))
        size = max(1, min(work.width or work.kind.at_once, -(-len(jobs) // (4 * count))))
        sent = packed(load)
        futures = [
            client.submit(
                run_chunk,
                work,
                sent,
                packed(jobs[at : at + size]),
                threads,
                pure=False,
                key=f"tl-dream-{work.sweep}-{work.session}-{at}",
            )
            for at in range(0, len(jobs), size)
        ]
        died: BaseException | None = None
        for future in as_completed(futures, loop=client.loop):
            try:
                rows = future.result()
            except KilledWorker as error:
                died = error
                continue
            for row in rows:
                journal.append(row)
            future.release()
        if died is not None:
            raise WorkersDied(str(died).strip().splitlines()[0]) from died


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise DreamError(f'engine="dask" needs Dask ({error}): pip install "tl-dream[cluster]"') from error
    if scheduler is None:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
        )
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout=ANSWER, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise DreamError(
            f"no Dask scheduler can be reached at {scheduler!r} ({error}): start one with `dask scheduler`, and give "
            "the address that it prints"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=START)
        except TimeoutError:
            raise DreamError(
                f"the Dask scheduler at {scheduler!r} has had no worker for {START:.0f} seconds: start some with "
                f"`dask worker {scheduler}`, and run the same command again"
            ) from None
        yield client
