"""The room _files."""

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from tests.conftest import says
from tests.support.results import dream
from tl_dream import Dream, _files
from tl_dream._files import check_writable, read_json, same_file, write_bytes, write_json


def test_numbers_that_json_cannot_hold_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "dream.json"
    dream().save(path)
    with says("a result with NaN or infinite numbers can't be saved"):
        dream(soft_score=float("nan")).save(path)
    assert Dream.load(path) == dream()


def test_a_name_that_is_no_utf8_does_not_cost_the_result(tmp_path: Path) -> None:
    """As Python reads the name of a model's folder that was written in Latin-1."""
    write_json(tmp_path / "result.json", {"model": os.fsdecode(b"/models/caf\xe9")})
    assert read_json(tmp_path / "result.json") == {"model": "/models/caf?"}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dream.json"
    write_json(path, {"old": True})

    def full(source: object, target: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", full)
    with says("dream.json' can't be written (no space left on device)", "is untouched: make room"):
        write_json(path, {"new": True})
    assert read_json(path) == {"old": True} and os.listdir(tmp_path) == ["dream.json"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_told_at_the_write_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "dream.json"
    make = tempfile.mkstemp

    def on_a_full_disk(**options: str) -> tuple[int, str]:
        handle, name = make(**options)
        os.close(handle)
        return os.open("/dev/full", os.O_WRONLY), name

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    for content in (b"short", b"long" * 100_000):  # one fails when the file is closed, one when it is written
        with says("can't be written (No space left on device)"):
            write_bytes(path, content)
    assert os.listdir(tmp_path) == []


def test_one_file_by_several_names(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "one")
    os.link(tmp_path / "one", tmp_path / "hard")
    for name in ("one", "link", "hard", "./one"):
        assert same_file(tmp_path / "one", f"{tmp_path}/{name}")
    assert same_file(tmp_path / "new", f"{tmp_path}/./new") and not same_file(tmp_path / "new", tmp_path / "one")


def test_files_get_the_usual_permissions_and_keep_their_own(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    ordinary = tmp_path / "ordinary"
    ordinary.write_bytes(b"")
    old.write_bytes(b"old")
    old.chmod(0o600)
    for path in (new, old):
        write_bytes(path, b"content")
        assert path.read_bytes() == b"content"
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE(ordinary.stat().st_mode)
    assert stat.S_IMODE(old.stat().st_mode) == 0o600


def test_paths_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with says(f"{str(tmp_path)!r} is a folder: give the name of a file in it"):
        check_writable(tmp_path)
    with says(f"the folder {str(tmp_path / 'no')!r} does not exist: create it first"):
        dream().save(tmp_path / "no" / "dream.json")
    assert check_writable(tmp_path / "dream.json") == tmp_path / "dream.json"
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # the tests may run as root
    with says("can't be written: no permission for", str(tmp_path)):
        check_writable(tmp_path / "dream.json")


@pytest.mark.parametrize("path", ["/proc/dream.json", "x" * 256, "x" * 5000, "a\0b", "loop", "socket"])
def test_what_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Root has permission everywhere: that a folder takes files is tried."""
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket")
        before = os.listdir()
        with says(f"{str(path)!r} "):
            check_writable(path)
        with says(f"{str(path)!r} "):
            write_bytes(path, b"content")
    assert os.listdir() == before


def test_a_name_as_long_as_names_may_be(tmp_path: Path) -> None:
    write_bytes(tmp_path / ("x" * 255), b"content")
    assert (tmp_path / ("x" * 255)).read_bytes() == b"content"


def test_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/real")
    for content in (b"new", b"newer"):
        write_bytes(tmp_path / "link", content)
        assert (tmp_path / "link").is_symlink() and (tmp_path / "folder" / "real").read_bytes() == content
    (tmp_path / "nowhere").symlink_to("no/real")
    with says(f"the folder {str(tmp_path / 'no')!r} does not exist"):
        check_writable(tmp_path / "nowhere")


def test_devices_and_pipes_are_written_through(tmp_path: Path) -> None:
    (tmp_path / "null").symlink_to(os.devnull)
    for path in (os.devnull, tmp_path / "null"):
        write_bytes(path, b"content")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode) and (tmp_path / "null").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    check_writable(tmp_path / "pipe")
    dream().save(tmp_path / "pipe")
    reader.join()
    assert Dream.from_json(json.loads(heard[0])) == dream() and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    if os.path.exists("/dev/full"):
        with says("'/dev/full' can't be written (No space left on device)"):
            write_bytes("/dev/full", b"content")


@pytest.mark.skipif(not os.path.exists("/dev/stdout"), reason="no /dev/stdout here")
def test_what_stdout_goes_to_is_written_in_its_place(tmp_path: Path) -> None:
    """A file put in its place would take what is printed later to nowhere."""
    code = "from tl_dream._files import write_bytes as w; print(1); w('/dev/stdout', b'2 '); w('out', b'3 '); print(4)"
    with open(tmp_path / "out", "wb") as out:
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
        subprocess.run([sys.executable, "-c", code], stdout=out, cwd=tmp_path, env=env, check=True)
    assert (tmp_path / "out").read_text() == "1\n2 3 4\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "a": 2}', "a key is given twice: a, a"),
        (b'{"a": NaN}', "NaN is no number"),
        (b"[" * 100_000, "too deep in each other"),
        (b"1" * 5_000, "is no number"),
    ],
)
def test_json_that_python_alone_would_take(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with says("x.json' as JSON: ", message):
        read_json(tmp_path / "x.json")


def test_json_as_windows_saves_it(tmp_path: Path) -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-16-be", "utf-32"):
        (tmp_path / "x.json").write_text(json.dumps({"a": "東"}, ensure_ascii=False), encoding=encoding)
        assert read_json(tmp_path / "x.json") == {"a": "東"}


def test_what_has_no_end_is_not_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_files, "LARGEST", 1000)
    with says("'/dev/zero' as JSON: it gives more than 1,000 bytes"):
        read_json("/dev/zero")
