"""The journals of a sweep: append-only JSON lines, a row a finished job, one file a worker.

A row is on the disk before the next job's is written. Whoever writes a journal holds its lock; a line that a killed
process left half written is cut off by the next one that does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from tl_dream._errors import DreamError, require

Row = dict[str, Any]
"""A finished job: `sweep` (which one), `key`, `session` and `ended` (seconds since 1970), `device`, and `result` or
`error`."""

PATIENCE = 30.0
"""Seconds to wait for the workers of a sweep that was killed: they end within one."""


def journal_paths(folder: Path) -> list[Path]:
    """Of every worker that ever wrote there.

    Raises:
        DreamError: the folder can't be listed.
    """
    try:
        return sorted(path for path in folder.iterdir() if path.match("worker-*.jsonl"))
    except FileNotFoundError:  # it was moved away
        return []
    except OSError as error:
        raise DreamError(f"the folder {str(folder)!r} can't be listed: {error.strerror or error}") from error


@contextmanager
def locked(path: Path, seconds: float, trouble: str) -> Iterator[None]:
    """The one holder of a lock, among all processes; a process that is killed loses it.

    Raises:
        DreamError: another one holds it for longer than this.
    """
    lock = FileLock(path, timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        raise DreamError(trouble) from None
    except (OSError, NotImplementedError) as error:  # of a file system without locks, in older releases of filelock
        why = getattr(error, "strerror", None) or error
        raise DreamError(f"{str(path)!r} can't be locked ({why}): give another folder") from error
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether somebody holds a lock just now. Several may ask at once, and who may only read the file."""
    if not path.exists():
        return False
    try:
        import fcntl

        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except (ImportError, OSError):  # Windows, or a file system without such locks
        pass
    try:
        with locked(path, 0, ""):
            return False
    except DreamError as error:
        return error.__cause__ is None  # else nobody can tell


class Journal:
    """One worker's journal, open for as long as it holds the lock.

    Args:
        folder: of the sweep.
        worker: whose it is; from 0.

    Raises:
        DreamError: another process writes it, or it can't be written.
    """

    def __init__(self, folder: Path, worker: int) -> None:
        self.path = folder / f"worker-{worker}.jsonl"
        self._lock = locked(_lock_of(self.path), PATIENCE, f"another process writes {str(self.path)!r}")

    def __enter__(self) -> Journal:
        self._lock.__enter__()
        try:
            new = not self.path.exists()
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            if new:
                _sync_folder(self.path.parent)
        except OSError as error:
            self._lock.__exit__(None, None, None)
            raise self._unwritable(error) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        self._lock.__exit__(None, None, None)

    def append(self, row: Mapping[str, Any]) -> None:
        """Write a row through to the disk, whole or not at all.

        Raises:
            DreamError: it can't be written (a full disk); what was there before stands.
        """
        text = json.dumps(row, ensure_ascii=False, allow_nan=False)
        line = text.encode(errors="replace") + b"\n"  # an error may quote half a surrogate pair
        size = os.fstat(self._file).st_size
        try:
            rest = memoryview(line)
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, size)  # needs no room
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> DreamError:
        return DreamError(
            f"the journal {str(self.path)!r} can't be written ({error.strerror or error}); every job in it is whole "
            "and stands: make room, and run the same command again"
        )


def _lock_of(journal: Path) -> Path:
    return journal.with_suffix(".lock")


def _sync_folder(folder: Path) -> None:
    """A new file's name is on the disk as well."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def mend_journals(folder: Path, sweep: str, session: float | None = None) -> tuple[list[str], dict[str, bool]]:
    """What a sweep that goes on finds: journals without half a line, and what was done.

    Waits for workers that outlived their sweep for a moment.

    Args:
        sweep: whose rows they must be.
        session: the run that goes on, whose jobs are not tried twice; None where it begins.

    Returns:
        What was cut off, in words; and by the key of every job that has ended whether it may be left at that (see
        `settled`).

    Raises:
        DreamError: a line in the middle that is no row, or rows of another sweep; nothing is changed then.
    """
    notices, done = [], dict[str, bool]()
    torn: list[tuple[Path, int, str]] = []
    for path in journal_paths(folder):
        with locked(_lock_of(path), PATIENCE, f"a worker still writes {str(path)!r}: end it first"):
            for row in read_journal(path, torn):
                check_owner(row, sweep, path)
                over = settled(row) or row["session"] == session
                done[row["key"]] = over or done.get(row["key"], False)  # another journal may hold an older failure
    for path, size, line in torn:
        with locked(_lock_of(path), PATIENCE, f"a worker still writes {str(path)!r}: end it first"):
            os.truncate(path, size)
        notices.append(f"the last line of {path.name} was half written and is dropped ({line}); its job is done again")
    return notices, done


def settled(row: Row) -> bool:
    """Whether a job is not tried again: it has a result, or a mistake of the user's that would be the same again."""
    return "result" in row or row["error"]["kind"] == DreamError.__name__


def check_owner(row: Row, sweep: str, path: Path) -> None:
    """Raise for a row of another sweep."""
    require(
        row["sweep"] == sweep,
        f"the journal {str(path)!r} is of another sweep (another model, version, settings or jobs) than the manifest "
        "beside it, or that was edited; nothing was changed: put back the one that is out of place",
    )


def read_journal(path: Path, torn: list[tuple[Path, int, str]] | None = None) -> Iterator[Row]:
    """The rows of a journal; a last line that is half written is none.

    Args:
        torn: takes such a line: the journal, how many bytes stand before it, and how it begins.

    Raises:
        DreamError: it can't be read, or a line before the last is no row.
    """
    bad: tuple[int, bytes] | None = None
    size = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                require(
                    bad is None,
                    f"line {number - 1} of {str(path)!r} is no row of a sweep; nothing was changed: take the line out, "
                    "and its job is done again",
                )
                row = _row(line)
                if row is None:
                    bad = size, line
                else:
                    yield row
                size += len(line)
    except OSError as error:
        raise DreamError(f"the journal {str(path)!r} can't be read: {error.strerror or error}") from error
    if bad is not None and torn is not None:
        torn.append((path, bad[0], repr(bad[1].decode("utf-8", "replace"))[:60]))


def _row(line: bytes) -> Row | None:
    if not line.endswith(b"\n"):
        return None
    try:
        row = json.loads(line)
        kinds = {"key": str, "sweep": str, "session": float | int, "ended": float | int}
        whole = isinstance(row, dict) and all(isinstance(row[name], kind) for name, kind in kinds.items())
        result, error = (row.get(name) if whole else None for name in ("result", "error"))
        told = isinstance(error, dict) and all(isinstance(error.get(name), str) for name in ("kind", "message"))
        if isinstance(result, dict) or told:
            return row
    except (KeyError, RecursionError, ValueError):
        pass
    return None
