"""Dream and its parts: they print, save whole or not at all, load, and become a table."""

import json
import os
import stat
import tempfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest
from conftest import says

from tl_dream import Dream
from tl_dream.results import (
    VERSION,
    Cost,
    History,
    Run,
    ScoredText,
    check_writable,
    read_json,
    same_file,
    write_bytes,
    write_json,
)

START = ScoredText("red dog", ("[CLS]", "red", "dog", "[SEP]"), (4, 30, 41, 5), 1.25)
BEST = ScoredText("red <b>", ("[CLS]", "red", "<b>", "[SEP]"), (4, 30, 42, 5), 3.5, step=10)


def history(records: int = 3) -> History:
    steps = range(records)
    return History(
        step=tuple(5 * i for i in steps),
        temperature=tuple(1.0 / (i + 1) for i in steps),
        soft_score=tuple(1.0 + i for i in steps),
        hard_score=tuple(0.5 + i for i in steps),
        tokens=tuple(START.tokens for _ in steps),
        weights=tuple((1.0, 1.0, 0.1 * i, 1.0) for i in steps),
        top_tokens=tuple((("dog", "cat"),) for _ in steps),
        top_weights=tuple(((0.75, 0.25),) for _ in steps),
        free=(2,),
    )


def dream(**changes: object) -> Dream:
    whole = Dream(
        model="tiny (HookedEncoder)",
        objective="neuron('mlp_post', layer=1, unit=3)",
        prompt={"text": "red dog", "free": [2]},
        settings={"steps": 10, "allowed": "ascii", "decay": None},
        seed=7,
        start=START,
        best=BEST,
        soft_score=3.0,
        history=history(),
        cost=Cost(forwards=1234, forward_tokens=98765, seconds=1.5),
        others=(Run(START, START, None, history(1)),),
    )
    return replace(whole, **changes)


# Save and load


def test_save_and_load_give_the_same_dream(tmp_path: Path) -> None:
    path = tmp_path / "dream.json"
    dream().save(path)
    assert Dream.load(path) == dream()
    assert Dream.load(str(path)).others[0].history.weights == ((1.0, 1.0, 0.0, 1.0),)


def test_the_file_format(tmp_path: Path) -> None:
    """Its keys are a promise."""
    path = tmp_path / "dream.json"
    dream(best=replace(BEST, text="東 α")).save(path)
    assert "東 α" in path.read_text(encoding="utf-8")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert (data["kind"], data["version"], VERSION) == ("dream", 1, 1)
    assert set(data) == set(
        "kind version model objective prompt settings seed start best soft_score history forwards forward_tokens "
        "seconds stopped optimum fired others".split()
    )
    assert set(data["start"]) == set("text tokens ids score step retokenizes".split())
    assert data["best"]["step"] == 10 and data["best"]["ids"] == [4, 30, 42, 5]
    assert (data["forwards"], data["forward_tokens"], data["seconds"]) == (1234, 98765, 1.5)
    assert set(data["history"]) == set(
        "step forward_tokens temperature soft_score hard_score tokens weights top_tokens top_weights free".split()
    )


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


# Print and tabulate


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        dream().seed = 3


def test_str_tells_both_worlds_and_the_cost() -> None:
    assert str(dream()).splitlines() == [
        "neuron('mlp_post', layer=1, unit=3) on tiny (HookedEncoder)",
        "       score   step  text",
        "start  1.2500  0     red dog",
        "best   3.5000  10    red <b>",
        "soft score 3.0000 (of a mixture of tokens, not of a text)",
        "the best text tokenizes back to the same ids",
        "cost: 1,234 forwards, 98,765 forward-tokens, 1.5 s; 2 start(s), seed 7, stopped by steps",
    ]
    assert dream().gain == 2.25


def test_str_says_when_nothing_was_found_and_when_the_text_does_not_hold() -> None:
    none = str(dream(best=START, soft_score=None))
    assert "nothing better than the start was found: the start is returned" in none
    assert "soft score" not in none
    assert "note: the best text does not tokenize back to the same ids; use best.ids" in str(
        dream(best=replace(BEST, retokenizes=False))
    )
    assert "nothing better" not in str(dream())


def test_html_marks_what_changed_and_escapes() -> None:
    shown = dream()._repr_html_()
    assert shown.count("<b>") == 0 and shown.count("&lt;b&gt;") == 1
    marked = 'text-decoration:underline">'
    assert shown.count(marked) == 2 and f"{marked}dog</span>" in shown and f"{marked}&lt;b&gt;</span>" in shown
    assert "neuron(&#x27;mlp_post&#x27;" in shown and "1.2500" in shown and "3.5000" in shown


def test_frames() -> None:
    frame = dream().to_frame()
    assert list(frame.columns) == ["step", "forward_tokens", "temperature", "soft_score", "hard_score", "text", "run"]
    assert frame["run"].tolist() == [0, 0, 0, 1] and frame["step"].tolist() == [0, 5, 10, 0]
    assert frame["text"][0] == "[CLS] red dog [SEP]"
    assert len(history()) == 3 and history().to_frame()["hard_score"].tolist() == [0.5, 1.5, 2.5]
