"""What does the jobs: in this process, in a process of its own that writes its own journal, or far away."""

from __future__ import annotations

import os
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cloudpickle
import torch

from tl_dream._errors import DreamError, require
from tl_dream.models import attached, model_hash
from tl_dream.sweeps.jobs import Ended, Job, Kind
from tl_dream.sweeps.journal import Journal, Row

STREAK = 20
"""Jobs in a row that fail for a reason which is no mistake of theirs end the sweep: the machine is broken."""

Loader = Callable[[], Any]
"""Gives a model; it can be pickled."""


@dataclass(frozen=True)
class Work:
    """What all workers of a sweep are told.

    Attributes:
        sweep: its id, with which rows are marked.
        model: the hash of the model that it is made with.
        session: when this run of it began, in seconds since 1970.
        kind: what every job is, and how it is done.
        width: jobs side by side; None takes what the kind does.
    """

    sweep: str
    model: str
    session: float
    kind: Kind
    width: int | None

    def rows(self, model: Any, jobs: Sequence[Job], known: dict[Any, dict[str, Any]] | None = None) -> Iterator[Row]:
        """A row for every job, as soon as it ends.

        Args:
            known: what this worker found before that others of its jobs may use, by sweep and seed.

        Raises:
            DreamError: STREAK jobs in a row failed, and not for a mistake of theirs.
        """
        known = {} if known is None else known
        with attached(model) as host:
            device = host.device.type
        streak = 0
        for seed, some in groupby(jobs, key=lambda job: job.seed):
            mine, found = list(some), known.setdefault((self.sweep, seed), {})
            for ended in self.kind.run(model, mine, seed, self.width, found):
                row = self._row(mine[ended[0]].key, ended, device)
                error = row.get("error", {"kind": DreamError.__name__})
                streak = 0 if error["kind"] == DreamError.__name__ else streak + 1
                yield row
                require(
                    streak < STREAK,
                    f"the last {STREAK} jobs failed one after the other, the last of them with {error.get('message')}; "
                    "what was done before is kept: mend the cause, and run the same command again",
                )

    def _row(self, key: str, ended: Ended, device: str) -> Row:
        _, result, error = ended
        found: dict[str, Any]
        if result is not None:
            found = {"result": result.to_json()}
        else:
            found = {"error": {"kind": type(error).__name__, "message": (str(error) or repr(error))[:1000]}}
        about = {"sweep": self.sweep, "key": key, "session": self.session, "ended": round(time.time(), 3)}
        return {**about, "device": device, **found}

    def check_model(self, model: Any) -> None:
        """Raise where a worker loads another model than the sweep was begun with."""
        with attached(model) as host:
            found = model_hash(host)
            require(
                found == self.model,
                f"a worker loaded another model ({host.name}, hash {found[:12]}) than the sweep is made with "
                f"({self.model[:12]}): give every machine the same checkpoint",
            )


def run_here(work: Work, model: Any, jobs: Sequence[Job], folder: Path) -> None:
    """Do the jobs in this process, one row after the other in the first journal."""
    with Journal(folder, 0) as journal:
        for row in work.rows(model, jobs):
            journal.append(row)


def packed(value: Any) -> bytes:
    """A loader or jobs as they are sent to another process.

    Raises:
        DreamError: they can't be.
    """
    try:
        return cloudpickle.dumps(value)
    except Exception as error:
        raise DreamError(
            f"the jobs, or what loads the model, can't be sent to another process ({error!r:.200}): give units, or "
            "functions that hold nothing open; or do without workers"
        ) from error


def run_process(work: Work, load: bytes, jobs: bytes, folder: Path, worker: int, threads: int, parent: int) -> None:
    """Do the jobs in a process of its own, which ends when its parent does.

    Args:
        load, jobs: packed.
        parent: the process id of the sweep itself.
    """
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    model = pickle.loads(load)()
    work.check_model(model)
    with Journal(folder, worker) as journal:
        # A sweep that goes on waits for this lock: who got it while the parent lived may write
        if os.getppid() == parent:
            for row in work.rows(model, pickle.loads(jobs)):
                journal.append(row)


def _end_with(parent: int) -> None:
    """Nobody is left to write to: a sweep that was killed may be running again."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


_LOADED: dict[bytes, tuple[Any, dict[Any, dict[str, Any]]]] = {}
"""The model of a far worker, which does one chunk after the other, and what its jobs found for each other."""
_ONE_AT_A_TIME = threading.Lock()


def run_chunk(work: Work, load: bytes, jobs: bytes, threads: int | None) -> list[Row]:
    """Do some jobs in a worker of a cluster, and send back their rows. The model is loaded once a worker.

    Args:
        load, jobs: packed.
        threads: of torch; None leaves what the worker was started with.
    """
    with _ONE_AT_A_TIME:
        before = torch.get_num_threads()
        torch.set_num_threads(threads or before)
        try:
            if load not in _LOADED:
                _LOADED.clear()
                model = pickle.loads(load)()
                work.check_model(model)
                _LOADED[load] = model, {}
            model, known = _LOADED[load]
            return list(work.rows(model, pickle.loads(jobs), known))
        finally:
            torch.set_num_threads(before)
