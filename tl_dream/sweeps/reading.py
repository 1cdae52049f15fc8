"""What a sweep has found so far, as a table, job by job, and how far it is. Reads beside a sweep that runs."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tl_dream._errors import DreamError, require, shortened, unknown
from tl_dream.results import Dream, Portrait, Reconstruction, SavedResult, same_file, write_bytes
from tl_dream.sweeps.jobs import STARTS, Kind, read_starts
from tl_dream.sweeps.journal import Row, check_owner, is_locked, journal_paths, read_journal
from tl_dream.sweeps.kinds import KINDS
from tl_dream.sweeps.manifest import FILE, folder_of, read_manifest, sweep_id

if TYPE_CHECKING:
    import pandas

LOCK = ".lock"
"""Held by the sweep that writes a folder."""


P = ParamSpec("P")
T = TypeVar("T")


def of_whole_files(read: Callable[P, T]) -> Callable[P, T]:
    """A function that reads a sweep's folder, where anybody may have been at the files."""

    @wraps(read)
    def guarded(*args: P.args, **options: P.kwargs) -> T:
        try:
            return read(*args, **options)
        except OSError as error:
            told = f"{error.filename!r} can't be read ({error.strerror or error}): see who may, or give another folder"
            raise DreamError(told) from error
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            if isinstance(error, DreamError):
                raise
            raise DreamError(
                f"the folder holds what no sweep writes ({error!r}): take it from where it was whole, or take the line "
                "out of its worker-*.jsonl, and the job is done again"
            ) from error

    return guarded


def _rows(folder: Path, manifest: Mapping[str, Any]) -> Iterator[Row]:
    identity = sweep_id(manifest)
    for path in journal_paths(folder):
        for row in read_journal(path):
            check_owner(row, identity, path)
            yield row


def _rank(row: Row) -> tuple[bool, float]:
    """Of several rows of a job the highest counts: one with a result, whatever clocks say; among equals the last."""
    return "result" in row, row["ended"]


def _latest(folder: Path, manifest: Mapping[str, Any], brief: Any) -> dict[str, Any]:
    """The row of every job that counts, made brief: a job that failed may have been tried again."""
    found: dict[str, tuple[tuple[bool, float], Any]] = {}
    for row in _rows(folder, manifest):
        if row["key"] not in found or _rank(row) >= found[row["key"]][0]:
            found[row["key"]] = _rank(row), brief(row)
    return {key: made for key, (_, made) in found.items()}


@of_whole_files
def read_sweep(folder: str | os.PathLike[str]) -> pandas.DataFrame:
    """The jobs of a sweep that have ended, as a table; while it runs, those that have ended so far.

    Args:
        folder: the sweep's `out`.

    Returns:
        A pandas frame, a row a job in the order of the manifest. Of all: key; hook, layer, head, unit of a unit;
        objective, seed; forwards, forward_tokens, seconds (of a portrait its share of what went on side by side);
        error, why it failed; ended, when. Of dreams and portraits corpus_score and corpus_text, the best sentence of
        the corpus.
        Dreams: start_score and start_text, score and text (in the objective's own units), step, retokenizes; fired,
        optimum, stopped (see `Dream`).
        Portraits, of the best dream: score, height (in deviations above the corpus), text, essential (the tokens that
        carry it); common, what the dreams have in common; deviations, distinguished, verdict (see `Standing`).
        Reconstructions: truth, the text given; text, what was read back; right of total tokens, exact, certified, loss,
        gap, stopped (see `Reconstruction`).

    Raises:
        DreamError: no sweep, or a journal that is broken or of another sweep.

    Examples:
        >>> status = td.sweep(bert, "mlp_post:1:1,5-6", out="units", prompt="i hate the red dog .", budget=2_000)
        >>> frame = td.read_sweep("units")
        >>> bool((frame.score >= frame.start_score).all()), len(frame)
        (True, 3)
    """
    import pandas

    folder = folder_of(folder)
    manifest = read_manifest(folder)
    kind = _kind(manifest)
    starts, found = read_starts(folder), _latest(folder, manifest, lambda row: _brief(kind, row))
    rows = []
    for job in manifest["jobs"]:
        if job["key"] in found:
            (best, *_) = starts.get(job["key"].rpartition("@")[0], {}).get("top") or [{}]
            rows.append(
                {**job, "corpus_score": best.get("score"), "corpus_text": best.get("text"), **found[job["key"]]}
            )
    frame = pandas.DataFrame(rows, columns=columns_of(kind))
    return frame.astype({name: dtype for names, dtype in DTYPES.items() for name in names.split() if name in frame})


FIRST, LAST = "key hook layer head unit objective seed", "forwards forward_tokens seconds error ended"
"""Columns of every kind; those of the kind stand between them."""
DTYPES = {
    "layer head unit seed step right total forwards forward_tokens": "Int64",
    "fired optimum retokenizes distinguished exact certified": "boolean",
}


def columns_of(kind: type[Kind]) -> list[str]:
    """Of the table of a sweep."""
    return f"{FIRST} {kind.columns} {LAST}".split()


def _kind(manifest: Mapping[str, Any]) -> type[Kind]:
    what = manifest["settings"].get("what")
    require(what in KINDS, f"the manifest is of {what!r}, which this release does not know: update tl_dream")
    return KINDS[what]


def _brief(kind: type[Kind], row: Row) -> dict[str, Any]:
    about = {"error": None, "ended": datetime.fromtimestamp(row["ended"])}
    if "error" in row:
        return {**about, "error": f"{row['error']['kind']}: {row['error']['message']}"}
    result = row["result"]
    names = [name for name in ("objective", "forwards", "forward_tokens", "seconds") if name in result]
    return {**about, **kind.told(result), **{name: result[name] for name in names}}


def write_parquet(folder: str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write the table of `read_sweep` as a Parquet file, whole or not at all.

    Raises:
        DreamError: pyarrow is not installed, the file can't be written or is one of the sweep's own, or what
            `read_sweep` says.
    """
    frame = read_sweep(folder)
    own = [one for one in (Path(folder) / FILE, Path(folder) / STARTS, *journal_paths(Path(folder))) if one.exists()]
    taken = isinstance(path, str | os.PathLike) and any(same_file(path, one) for one in own)
    require(not taken, f"{str(path)!r} is a file of the sweep itself, which would be lost: give another name")
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        raise DreamError(f'a Parquet file needs pyarrow ({error}): pip install "tl-dream[parquet]"') from error
    write_bytes(path, frame.to_parquet(engine="pyarrow"))


@of_whole_files
def sweep_result(folder: str | os.PathLike[str], key: str) -> Dream | Portrait | Reconstruction:
    """The whole result of one job.

    Args:
        folder: the sweep's `out`.
        key: of the job, as in the table: "mlp_post:3:17@0" is unit 17 of that layer with seed 0.

    Raises:
        DreamError: no such job, one that has not ended yet, or one that failed (and why).

    Examples:
        >>> status = td.sweep(bert, "mlp_post:1:1,5-6", out="units", prompt="i hate the red dog .", budget=2_000)
        >>> td.sweep_result("units", "mlp_post:1:5@0").objective
        "neuron('mlp_post', layer=1, unit=5)"
    """
    folder = folder_of(folder)
    manifest = read_manifest(folder)
    known = [job["key"] for job in manifest["jobs"]]
    if key not in known:
        raise unknown("job", key, known)
    rows = [row for row in _rows(folder, manifest) if row["key"] == key]
    require(bool(rows), f"the job {key!r} has not ended yet: run the sweep on")
    row = max(rows, key=_rank)
    require("result" in row, f"the job {key!r} failed: {row.get('error', {}).get('message')}")
    found: Any = _kind(manifest).result.from_json(row["result"])
    return found


@dataclass(frozen=True)
class SweepFailure:
    """A job that failed, and why."""

    key: str
    why: str


@dataclass(frozen=True)
class SweepStatus(SavedResult):
    """How far a sweep is.

    Attributes:
        folder: its `out`.
        model: name of the model and its backend.
        jobs: how many there are.
        done: jobs that have a result.
        failures: jobs that have none, and why. Those that failed by no mistake of theirs are tried again when the sweep
            goes on.
        running: whether a process is at it now.
        rate: jobs an hour, of the last run; None where that is not known yet.
        seconds_left: at this rate; None where that is not known.
        notices: what was mended before it went on.
    """

    folder: str
    model: str
    jobs: int
    done: int
    failures: tuple[SweepFailure, ...]
    running: bool
    rate: float | None
    seconds_left: float | None
    notices: tuple[str, ...] = ()

    kind = "sweep_status"

    @property
    def left(self) -> int:
        """Jobs that have not ended."""
        return self.jobs - self.done - len(self.failures)

    def __str__(self) -> str:
        lines = [f"{self.done:,} of {self.jobs:,} jobs are done in {self.folder} on {self.model}"]
        if self.failures:
            lines[0] += f", {len(self.failures):,} failed"
        if self.left:
            going = "running" if self.running else "not running: the same command goes on"
            lines.append(f"{self.left:,} to do; {going}")
        if self.rate is not None:
            lines[-1] += f"; {self.rate:,.0f} jobs an hour"
        if self.left and self.seconds_left is not None:
            lines[-1] += f", {_duration(self.seconds_left)} left"
            if self.running:
                lines[-1] += f", until {datetime.fromtimestamp(time.time() + self.seconds_left):%Y-%m-%d %H:%M}"
        reasons = Counter(failure.why for failure in self.failures)
        for reason, count in reasons.most_common(5):
            key = next(failure.key for failure in self.failures if failure.why == reason)
            lines.append(f"failed: {count:,} ({key}{', ...' if count > 1 else ''}): {shortened(reason, 300)}")
        return "\n".join([*lines, *(f"note: {notice}" for notice in self.notices)])

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a failure: key, why."""
        import pandas

        return pandas.DataFrame([vars(failure) for failure in self.failures], columns=["key", "why"])


def _duration(seconds: float) -> str:
    hours, minutes = seconds / 3600, seconds / 60
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours:.1f} hours" if hours >= 1 else f"{minutes:.0f} minutes" if minutes >= 1 else f"{seconds:.0f} s"


@of_whole_files
def sweep_status(folder: str | os.PathLike[str], *, notices: Iterable[str] = ()) -> SweepStatus:
    """How far a sweep is, how fast, when it will end, what failed and why; it may be running.

    Args:
        folder: the sweep's `out`.
        notices: what was mended before it went on.

    Raises:
        DreamError: no sweep, or a journal that is broken or of another sweep.

    Examples:
        >>> status = td.sweep(bert, "mlp_post:1:1,5-6", out="units", prompt="i hate the red dog .", budget=2_000)
        >>> print(td.sweep_status("units"))  # doctest: +ELLIPSIS
        3 of 3 jobs are done in units on ... jobs an hour
    """
    folder = folder_of(folder)
    manifest = read_manifest(folder)
    found = _latest(folder, manifest, lambda row: (row["session"], row["ended"], row.get("error", {}).get("message")))
    jobs, failed = len(manifest["jobs"]), [(key, why) for key, (_, _, why) in found.items() if why is not None]
    running = is_locked(folder / LOCK)
    rate = None
    if found:
        session = max(began for began, _, _ in found.values())
        ends = [ended for began, ended, _ in found.values() if began == session]
        seconds = max(*ends, time.time() if running else 0.0) - session
        rate = 3600 * len(ends) / max(seconds, 1e-3)
    left = jobs - len(found)
    return SweepStatus(
        folder=str(folder),
        model=manifest["model"]["name"],
        jobs=jobs,
        done=len(found) - len(failed),
        failures=tuple(SweepFailure(key, why) for key, why in failed),
        running=running,
        rate=rate,
        seconds_left=3600 * left / rate if rate else None,
        notices=tuple(notices),
    )
