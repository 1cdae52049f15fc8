"""The room results.base."""

import json
import os
import stat
import tempfile
from pathlib import Path

import pytest

from tests.conftest import says
from tests.support.results import dream
from tl_dream import Dream
from tl_dream.results.base import check_writable, read_json, same_file, write_bytes, write_json


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            {"kind": "frontier"},
            ["the file holds 'frontier', not a 'dream' result: load it with the class that wrote it"],
        ),
        ({"version": 99}, ["the file has format version 99; this release reads version 1"]),
        ({"version": None}, ["format version None"]),
        ({"start": {}}, ["the file is not a whole dream result", "is missing or wrong"]),
        ({"history": []}, ["the file is not a whole dream result"]),
        ({"others": [{}]}, ["the file is not a whole dream result"]),
    ],
)
def test_files_that_are_refused(tmp_path: Path, change: dict[str, object], parts: list[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**dream().to_json(), **change}))
    with says(*parts):
        Dream.load(path)


def test_a_missing_key_is_named() -> None:
    data = dream().to_json()
    del data["forwards"]
    with says("the file is not a whole dream result: KeyError('forwards') is missing or wrong"):
        Dream.from_json(data)


def test_a_file_that_is_no_result_at_all(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[1, 2]")
    with says("the file holds None, not a 'dream' result"):
        Dream.load(path)
    path.write_text("{half")
    with says(f"can't read {str(path)!r} as JSON: "):
        Dream.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with says("as JSON: "):
        Dream.load(path)
    with says(f"can't read {str(tmp_path / 'none.json')!r} as JSON: ", "No such file"):
        read_json(tmp_path / "none.json")


def test_numbers_that_json_cannot_hold_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "dream.json"
    dream().save(path)
    with says("a result with NaN or infinite numbers can't be saved"):
        dream(soft_score=float("nan")).save(path)
    assert Dream.load(path) == dream()


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


def test_a_place_that_takes_no_files_is_a_dream_error() -> None:
    with says("'/proc/dream.json' can't be written"):
        dream().save("/proc/dream.json")
