"""The table of a sweep, one job's result, and how far it is; all of it beside a sweep that runs."""

import builtins
import json
import os
import time
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tl_dream as td
from tests.conftest import says
from tests.support.hostile import ANYTHING, COMPACT
from tests.support.sweeps import CORPUS
from tl_dream.sweeps import reading, write_parquet
from tl_dream.sweeps.journal import locked
from tl_dream.sweeps.kinds import Dreams, Reconstructions
from tl_dream.sweeps.manifest import sweep_id
from tl_dream.sweeps.reading import SweepFailure, SweepStatus, columns_of

COLUMNS = columns_of(Dreams)
BROKEN = td.neuron("mlp_post", layer=1, unit=999)


@pytest.fixture(scope="module")
def swept(encoder: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four units with two seeds, a pair, and a pair that fails."""
    folder = tmp_path_factory.mktemp("swept")
    jobs = ["z:1:head=2:3", "mlp_post:0:1-3", (td.neuron("block_out", layer=2, unit=3), "the dog"), (BROKEN, "the dog")]
    td.sweep(encoder, jobs, out=folder, corpus=CORPUS, sentences=2, budget=500, seeds=2)
    return folder


@pytest.fixture
def copied(swept: Path, tmp_path: Path) -> Path:
    for path in swept.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_table(swept: Path, encoder: torch.nn.Module) -> None:
    frame = td.read_sweep(swept)
    assert list(frame.columns) == COLUMNS and len(frame) == 12
    keys = ["z:1:head=2:3", *(f"mlp_post:0:{unit}" for unit in (1, 2, 3))]
    assert list(frame.key[:4]) == [f"{key}@0" for key in keys] and list(frame.key[6:10]) == [f"{key}@1" for key in keys]
    assert frame.seed.tolist() == 6 * [0] + 6 * [1]
    assert (
        frame.layer[:4].tolist() == [1, 0, 0, 0] and frame["head"][0] == 2 and frame.unit[:4].tolist() == [3, 1, 2, 3]
    )
    assert frame.layer[4:6].isna().all() and frame.corpus_score[4:6].isna().all()
    for row in frame.itertuples():
        if not pandas.isna(row.error):
            assert "999" in row.error and pandas.isna(row.score) and pandas.isna(row.forward_tokens)
            continue
        assert 0 < row.forward_tokens <= 500 and row.score >= row.start_score and row.stopped == "budget"
        result = td.sweep_result(swept, row.key)
        assert (result.best.text, result.best.score, result.seed) == (row.text, row.score, row.seed)
        assert result.objective == row.objective
        if not pandas.isna(row.corpus_score):
            goal = td.neuron(row.hook, layer=row.layer, unit=row.unit, head=None if pandas.isna(row.head) else row.head)
            best = td.corpus_search(encoder, goal, CORPUS, top=1).top[0]
            assert row.corpus_text == best.text
            assert row.corpus_score == pytest.approx(best.score, abs=1e-5)
            assert row.score >= row.corpus_score - 1e-5, "the best of the corpus was a start"
    assert frame.error.notna().sum() == 2
    assert (time.time() - frame.ended.map(lambda ended: ended.timestamp())).between(0, 3600).all()


def test_the_tables_of_other_kinds(encoder: torch.nn.Module, tmp_path: Path) -> None:
    out, what = tmp_path / "texts", td.Reconstructions(layers=[0], rivals=2, budget=100)
    status = td.sweep(encoder, ["the red dog", "dog " * 99], out=out, what=what)
    frame = td.read_sweep(out)
    assert list(frame.columns) == columns_of(Reconstructions) and frame.layer.tolist() == [0, 0]
    assert frame.truth.tolist() == ["the red dog", "dog " * 99] and frame["hook"].tolist() == 2 * ["block_out"]
    found, row = td.sweep_result(out, "block_out:0:the red dog@0"), frame.iloc[0]
    assert isinstance(found, td.Reconstruction) and row.total == 3
    assert (row.text, row.right, row.exact, row.certified) == (found.text, found.right, found.exact, found.certified)
    assert row.forwards == found.cost.forwards and frame.error.notna().tolist() == [False, True]
    assert [failure.key for failure in status.failures] == [frame.key[1]] and pandas.isna(frame.right[1])
    out, what = tmp_path / "pages", td.Portraits(placebos=0, seeds=1, budget=200)
    td.sweep(encoder, "mlp_post:1:3", out=out, corpus=CORPUS, what=what)
    (row,), page = td.read_sweep(out).itertuples(), td.sweep_result(out, "mlp_post:1:3@0")
    assert isinstance(page, td.Portrait) and (row.layer, row.unit, row.objective) == (1, 3, page.objective)
    assert (row.corpus_text, row.corpus_score) == (page.corpus.top[0].text, page.corpus.top[0].score)
    assert (row.text, row.essential) == (page.best.whole.text, page.best.short) and pandas.isna(row.distinguished)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["settings"]["what"] = "films"
    (out / "manifest.json").write_text(json.dumps(manifest))
    (out / "worker-0.jsonl").unlink()
    with says("the manifest is of 'films'", "update tl_dream"):
        td.read_sweep(out)


def test_one_result(swept: Path) -> None:
    assert isinstance(td.sweep_result(swept, "mlp_post:0:2@1"), td.Dream)
    with says("unknown job", "mlp_post:0:2@0"):
        td.sweep_result(swept, "mlp_post:0:2@7")
    with says("failed: ", "unit 999 does not exist"):
        td.sweep_result(swept, f"{BROKEN!r} from the dog@0")


def test_its_state(swept: Path, tmp_path: Path) -> None:
    status = td.sweep_status(swept)
    assert (status.jobs, status.done, status.left, status.running) == (12, 10, 0, False)
    assert [failure.key for failure in status.failures] == [f"{BROKEN!r} from the dog@{seed}" for seed in (0, 1)]
    assert status.rate is not None and status.rate > 0 and status.seconds_left == 0
    told = str(status)
    assert told.startswith("10 of 12 jobs are done in ") and ", 2 failed; " in told and "jobs an hour" in told
    assert "failed: 2 (" in told and "unit 999 does not exist" in told and "to do" not in told
    assert list(status.to_frame().key) == [failure.key for failure in status.failures]
    status.save(tmp_path / "status.json")
    assert SweepStatus.load(tmp_path / "status.json") == status


def test_its_state_on_the_way(copied: Path) -> None:
    """As another process sees it, in the midst of a line."""
    path = copied / "worker-0.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    began = time.time() - 100
    rows = [json.loads(line) | {"session": began, "ended": began + 10 * i} for i, line in enumerate(lines[:5], 1)]
    old = json.loads(lines[5]) | {"session": began - 1e6, "ended": began - 9e5}
    content = "".join(json.dumps(row) + "\n" for row in [old, *rows]) + lines[6].decode()[:40]
    path.write_text(content)
    status = td.sweep_status(copied)
    assert (status.done + len(status.failures), status.left, status.running) == (6, 6, False)
    assert status.rate == pytest.approx(5 * 3600 / 50, rel=1e-3), "of the last run alone"
    assert status.seconds_left == pytest.approx(60, rel=1e-3)
    assert "6 to do; not running: the same command goes on; 360 jobs an hour, 1 minutes left" in str(status)
    with locked(copied / ".lock", 0, "busy"):
        status = td.sweep_status(copied)
    assert status.running and status.rate == pytest.approx(5 * 36, rel=0.2), "its clock goes on"
    assert "6 to do; running; 1" in str(status) and " left, until 20" in str(status)
    assert len(td.read_sweep(copied)) == 6 and path.read_text() == content
    key = json.loads(lines[6])["key"]
    with says("has not ended yet"):
        td.sweep_result(copied, key)


def test_nothing_yet(copied: Path) -> None:
    (copied / "worker-0.jsonl").unlink()
    status = td.sweep_status(copied)
    assert (status.done, status.left, status.rate, status.seconds_left) == (0, 12, None, None)
    assert "12 to do; not running" in str(status)
    assert list(td.read_sweep(copied).columns) == COLUMNS and not len(td.read_sweep(copied))


def test_a_job_that_was_tried_again_counts_once_and_its_result_counts(copied: Path) -> None:
    """Also where the clock was set back between the two."""
    path = copied / "worker-0.jsonl"
    row = next(row for row in map(json.loads, path.read_bytes().splitlines()) if "result" in row)
    failed = {name: value for name, value in row.items() if name != "result"}
    for later in (-1, 1):
        failed |= {"error": {"kind": "RuntimeError", "message": "out of memory"}, "ended": row["ended"] + later}
        (copied / "worker-1.jsonl").write_text(json.dumps(failed) + "\n")
        assert td.sweep_status(copied).done == 10 and td.read_sweep(copied).error.notna().sum() == 2
        assert td.sweep_result(copied, row["key"]).best.score == row["result"]["best"]["score"]


def test_reading_takes_no_longer_a_row_where_there_are_more_jobs(swept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest, which lists them all, is hashed once."""
    calls: list[Any] = []
    monkeypatch.setattr(reading, "sweep_id", lambda manifest: calls.append(manifest) or sweep_id(manifest))
    for read in (td.read_sweep, td.sweep_status, lambda folder: td.sweep_result(folder, "mlp_post:0:2@1")):
        read(swept)
    assert len(calls) == 3


def test_another_sweeps_journal(copied: Path) -> None:
    path = copied / "worker-0.jsonl"
    path.write_text(path.read_text().replace('"sweep": "', '"sweep": "0'))
    for read in (td.read_sweep, td.sweep_status, lambda folder: td.sweep_result(folder, "mlp_post:0:2@1")):
        with says("is of another sweep"):
            read(copied)


def test_what_no_sweep_writes_is_told(copied: Path) -> None:
    path = copied / "worker-0.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    del next(row for row in rows if "result" in row)["result"]["best"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    with says("the folder holds what no sweep writes (KeyError('best'))", "take the line out of its worker-*.jsonl"):
        td.read_sweep(copied)


@COMPACT
@given(choices=st.data())
def test_a_damaged_folder_is_refused_or_can_be_read(swept: Path, tmp_path: Path, choices: st.DataObject) -> None:
    for path in swept.glob("*.json*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    name = choices.draw(st.sampled_from(["worker-0.jsonl", "starts.jsonl", "manifest.json"]))
    lines = (tmp_path / name).read_text("utf-8").splitlines() if name != "manifest.json" else [""]
    at = choices.draw(st.integers(0, len(lines) - 1))
    data = json.loads(lines[at] or (tmp_path / name).read_text("utf-8"))
    part = data.get("result", data) if choices.draw(st.booleans()) else data
    key = choices.draw(st.sampled_from(sorted(part)))
    part[key] = choices.draw(ANYTHING)
    lines[at] = json.dumps(data) if choices.draw(st.booleans()) else "[" * 100_000
    (tmp_path / name).write_text("\n".join(lines) + "\n", "utf-8")
    for read in (td.read_sweep, td.sweep_status, lambda folder: td.sweep_result(folder, "mlp_post:0:2@1")):
        try:
            assert str(read(tmp_path))
        except td.DreamError:
            continue


def test_no_sweep(tmp_path: Path) -> None:
    for read in (td.read_sweep, td.sweep_status, lambda folder: td.sweep_result(folder, "a")):
        with says("there is no sweep in"):
            read(tmp_path)
        with says("is not a folder"):
            read(tmp_path / "none")
        with says("can't be read (File name too long)"):
            read(tmp_path / ("x" * 300))


def test_parquet(swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(swept, tmp_path / "table.parquet")
    again, frame = pandas.read_parquet(tmp_path / "table.parquet"), td.read_sweep(swept)
    assert list(again.columns) == COLUMNS and again.key.tolist() == frame.key.tolist()
    assert again.score.fillna(0).tolist() == frame.score.fillna(0).tolist()
    with says("does not exist"):
        write_parquet(swept, tmp_path / "none" / "table.parquet")
    before = {path.name: path.read_bytes() for path in swept.iterdir()}
    for name in ("manifest.json", "starts.jsonl", "worker-0.jsonl"):
        with says(name, "is a file of the sweep itself", "give another name"):
            write_parquet(swept, swept / name)
    assert {path.name: path.read_bytes() for path in swept.iterdir()} == before
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "pyarrow":
            raise ImportError("No module named 'pyarrow'")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with says('pip install "tl-dream[parquet]"'):
        write_parquet(swept, tmp_path / "other.parquet")
    assert os.listdir(tmp_path) == ["table.parquet"]


@pytest.mark.parametrize(
    ("seconds", "told"), [(5, "5 s"), (300, "5 minutes"), (9000, "2.5 hours"), (260000, "3.0 days")]
)
def test_what_is_left_in_words(seconds: float, told: str) -> None:
    status = SweepStatus("out", "tiny", 9, 3, (SweepFailure("a", "why"),), False, 60.0, seconds)
    assert f"60 jobs an hour, {told} left" in str(status)
