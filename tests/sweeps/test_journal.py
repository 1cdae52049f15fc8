"""Journals: whole rows or none, whatever kills the writer; one writer; nothing of another sweep."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import says
from tl_dream.sweeps import journal
from tl_dream.sweeps.journal import Journal, is_locked, journal_paths, locked, mend_journals, read_journal

SWEEP = "a" * 16


def row(key: str, **more: object) -> dict[str, object]:
    return {
        "sweep": SWEEP,
        "key": key,
        "session": 1.0,
        "ended": 2.0,
        "device": "cpu",
        "result": {"text": "é\u2028"},
    } | more


def write(folder: Path, *keys: str, worker: int = 0, **more: object) -> Path:
    with Journal(folder, worker) as made:
        for key in keys:
            made.append(row(key, **more))
    return made.path


def test_rows_come_back(tmp_path: Path) -> None:
    first = write(tmp_path, "a", "b")
    assert write(tmp_path, "c") == first == tmp_path / "worker-0.jsonl"
    write(tmp_path, "d", worker=3)
    assert list(read_journal(first)) == [row("a"), row("b"), row("c")]
    assert first.read_bytes().count(b"\n") == 3
    assert mend_journals(tmp_path, SWEEP) == ([], dict.fromkeys("abcd", True))


def test_a_row_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    path = write(tmp_path, "a", "b")
    size = path.stat().st_size
    assert synced[-2:] == [size // 2, size]


def test_a_last_line_cut_anywhere_is_dropped_with_a_notice(tmp_path: Path) -> None:
    whole = write(tmp_path, "a", "b").read_bytes()
    path, first = tmp_path / "worker-0.jsonl", whole.index(b"\n") + 1
    for end in range(first + 1, len(whole)):
        path.write_bytes(whole[:end])
        assert [one["key"] for one in read_journal(path)] == ["a"], "who only reads changes nothing"
        assert path.stat().st_size == end
        notices, done = mend_journals(tmp_path, SWEEP)
        assert done == {"a": True} and path.read_bytes() == whole[:first]
        assert len(notices) == 1 and "worker-0.jsonl" in notices[0] and "half written" in notices[0]
    assert mend_journals(tmp_path, SWEEP) == ([], {"a": True})


ODD = json.dumps(row("b", error={"kind": 1, "message": 2}, result=None)).encode() + b"\n"


@pytest.mark.parametrize(
    "last", [b"\x00\x00\x00\n", b"{}\n", b'{"key": "b"}\n', b"[1]\n", b"\xff\n", b'{"key": 3, "sweep": 4}\n', ODD]
)
def test_a_last_line_that_is_no_row_is_dropped(tmp_path: Path, last: bytes) -> None:
    path = write(tmp_path, "a")
    whole = path.read_bytes()
    path.write_bytes(whole + last)
    notices, done = mend_journals(tmp_path, SWEEP)
    assert len(notices) == 1 and done == {"a": True} and path.read_bytes() == whole


def test_a_broken_line_in_the_middle_is_refused_and_left(tmp_path: Path) -> None:
    path = write(tmp_path, "a", "b", "c")
    write(tmp_path, "d", worker=1)
    torn = tmp_path / "worker-1.jsonl"
    torn.write_bytes(torn.read_bytes()[:-5])
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][10:] + lines[2])
    before = [path.read_bytes(), torn.read_bytes()]
    with says("line 2 of", "take the line out"):
        mend_journals(tmp_path, SWEEP)
    assert [path.read_bytes(), torn.read_bytes()] == before


def test_rows_of_another_sweep_are_refused_and_left(tmp_path: Path) -> None:
    write(tmp_path, "a")
    torn = tmp_path / "worker-0.jsonl"
    torn.write_bytes(torn.read_bytes() + b"{")
    write(tmp_path, "b", worker=1, sweep="b" * 16)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with says("worker-1.jsonl", "is of another sweep", "nothing was changed"):
        mend_journals(tmp_path, SWEEP)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def failed(key: str, kind: str = "RuntimeError", **more: object) -> dict[str, object]:
    told = row(key, error={"kind": kind, "message": "why"}, **more)
    del told["result"]
    return told


def test_what_failed_by_no_mistake_is_not_settled(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as made:
        for one in (failed("a"), failed("b"), row("a"), failed("c", "DreamError"), failed("d", session=9.5)):
            made.append(one)
    with Journal(tmp_path, 1) as made:
        made.append(failed("a"))  # in an earlier run, with more workers
    assert mend_journals(tmp_path, SWEEP) == ([], {"a": True, "b": False, "c": True, "d": False})
    done = {"a": True, "b": False, "c": True, "d": True}
    assert mend_journals(tmp_path, SWEEP, session=9.5) == ([], done), "no job is tried twice in one run"


FILLS = """
import resource, signal, sys
from pathlib import Path
from tl_dream import DreamError
from tl_dream.sweeps.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
with Journal(Path(sys.argv[1]), 0) as made:
    try:
        for number in range(100):
            row = {"sweep": "a" * 16, "key": str(number), "session": 1.0, "ended": 2.0}
            made.append(row | {"result": {"text": 100 * "x"}})
    except DreamError as error:
        print(number, error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on the size of files here")
def test_a_full_disk(tmp_path: Path) -> None:
    """The kernel takes a part of the row and then no more."""
    done = subprocess.run([sys.executable, "-c", FILLS, tmp_path], capture_output=True, text=True, check=True)
    number, message = done.stdout.split(" ", 1)
    assert "can't be written (File too large)" in message and "make room" in message
    keys = [one["key"] for one in read_journal(tmp_path / "worker-0.jsonl")]
    assert keys == [str(i) for i in range(int(number))] and len(keys) > 10
    assert (tmp_path / "worker-0.jsonl").read_bytes().endswith(b"}\n"), "no half line is left"
    write(tmp_path, "later")
    assert mend_journals(tmp_path, SWEEP)[1] == dict.fromkeys([*keys, "later"], True)


@pytest.mark.parametrize("fails", ["write", "fsync"])
def test_no_space_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    write(tmp_path, "a")
    whole = (tmp_path / "worker-0.jsonl").read_bytes()
    real = os.write

    def full(file: int, data: object = b"") -> int:
        if fails == "write" and len(data) > 20:
            return real(file, bytes(data)[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(tmp_path, 0) as made:
        monkeypatch.setattr(os, fails, full)
        with says("No space left on device", "every job in it is whole"):
            made.append(row("b"))
        monkeypatch.undo()
        assert made.path.read_bytes() == whole
        made.append(row("c"))
    assert [one["key"] for one in read_journal(made.path)] == ["a", "c"]


HOLDS = """
import sys, time
from pathlib import Path
from tl_dream.sweeps.journal import Journal
with Journal(Path(sys.argv[1]), 0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_writer_at_a_time_and_a_killed_one_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 0.2)
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, tmp_path], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        assert is_locked(tmp_path / "worker-0.lock")
        with says("another process writes"):
            write(tmp_path, "a")
        with says("a worker still writes"):
            mend_journals(tmp_path, SWEEP)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert not is_locked(tmp_path / "worker-0.lock")
    write(tmp_path, "a")


def test_who_may_only_read_learns_whether_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    with locked(lock, 0, "busy"):
        pass

    def refused(self: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with lock.open("rb") as another, monkeypatch.context() as other:
        fcntl.flock(another, fcntl.LOCK_SH)  # who asks at the same moment
        assert not is_locked(lock)
        other.setattr(journal.FileLock, "acquire", refused)
        assert not is_locked(lock)
    with locked(lock, 0, "busy"), monkeypatch.context() as other:
        other.setattr(journal.FileLock, "acquire", refused)
        assert is_locked(lock)


def test_an_error_that_quotes_half_a_surrogate_pair_is_a_row(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as made:
        made.append(row("a", error={"kind": "RuntimeError", "message": "\ud800"}))
    assert [one["error"]["message"] for one in read_journal(made.path)] == ["?"]


def test_a_folder_that_cant_be_listed_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    assert journal_paths(tmp_path / "none") == []
    monkeypatch.setattr(Path, "iterdir", refused)
    with says("can't be listed: Permission denied"):
        journal_paths(tmp_path)


def test_a_lock_in_one_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_locked(lock) and not lock.exists()
    with locked(lock, 0, "busy"):
        assert is_locked(lock)
        with says("busy"), locked(lock, 0, "busy"):
            pass
        assert is_locked(lock)
    assert not is_locked(lock)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_takes_no_files(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with says("can't be locked"):
        write(tmp_path, "a")
