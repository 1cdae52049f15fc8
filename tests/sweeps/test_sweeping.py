"""Sweeps that are killed, resumed, spread, and asked for what can't be."""

import errno
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.sweeps import CORPUS, PATTERN, SWEEPS, begin, keys, kill_after, lines, loader, same_rows, swept
from tl_dream.dreaming import METHODS, Method
from tl_dream.sweeps import sweeping
from tl_dream.sweeps.engines import WorkersDied
from tl_dream.sweeps.workers import Work

GOAL = td.neuron("mlp_post", layer=0, unit=3)


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    """The sweep of tests.support.sweeps, never interrupted."""
    out = tmp_path_factory.mktemp("whole")
    status = swept(tiny_folder, out)
    assert (status.jobs, status.done, status.failures, status.notices) == (30, 30, (), ())
    return td.read_sweep(out)


def test_it_finds_what_dreams_find(encoder: torch.nn.Module, whole: pandas.DataFrame) -> None:
    assert whole.key.tolist() == [f"{unit}@{seed}" for seed in (0, 1) for unit in td.units(encoder, PATTERN)]
    for row in whole.iloc[::9].itertuples():
        goal = td.neuron("mlp_post", layer=row.layer, unit=row.unit)
        alone = td.dream(encoder, goal, td.corpus_search(encoder, goal, CORPUS), budget=700, seed=row.seed)
        assert row.text == alone.best.text and row.score == pytest.approx(alone.best.score, abs=1e-5)
    assert (whole.score > whole.corpus_score).mean() > 0.9, "dreams beat the corpus"


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "dreams" else pytest.mark.slow) for kind in SWEEPS]
)
def test_killed_and_resumed_it_is_the_same(
    tiny_folder: Path, tmp_path: Path, whole: pandas.DataFrame, kind: str
) -> None:
    """SIGKILL to a process, and a last line torn as a power cut would leave it."""
    if kind != "dreams":
        swept(tiny_folder, tmp_path / "whole", kind)
        whole = td.read_sweep(tmp_path / "whole")
    out, count = tmp_path / "out", len(whole)
    held = kill_after(begin(tiny_folder, out, kind), out, random.randrange(1, count - 7 if count > 9 else 3))
    before = keys(out)[:held]
    assert 0 < len(before) < count
    journal = out / "worker-0.jsonl"
    torn = not journal.read_bytes().endswith(b"\n")
    journal.write_bytes(journal.read_bytes() + b'{"sweep": "')
    status = swept(tiny_folder, out, kind)
    assert status.done == count and len(status.notices) == 1 and "half written" in status.notices[0] and not torn
    assert keys(out)[:held] == before and sorted(keys(out)) == sorted(whole.key)
    assert same_rows(td.read_sweep(out), whole)
    ended = journal.read_bytes()
    assert swept(tiny_folder, out, kind).done == count, "there is nothing to do"
    assert journal.read_bytes() == ended


@pytest.mark.slow
def test_killed_again_and_again(tiny_folder: Path, tmp_path: Path, whole: pandas.DataFrame) -> None:
    """Two workers and who began them, twice."""
    draw = random.Random(2)
    for _ in range(2):
        kill_after(begin(tiny_folder, tmp_path, workers=2), tmp_path, lines(tmp_path) + draw.randrange(1, 10))
    swept(tiny_folder, tmp_path)
    assert sorted(keys(tmp_path)) == sorted(whole.key), "nothing is lost or doubled"
    assert same_rows(td.read_sweep(tmp_path), whole)


def test_the_options_reach_the_dreams(encoder: torch.nn.Module, tmp_path: Path) -> None:
    td.sweep(
        encoder,
        "mlp_post:0:3",
        out=tmp_path,
        prompt="the red dog hates me .",
        method="gcg",
        budget=600,
        allowed="no_special whole_words",
        banned=["moon"],
        max_changes=2,
        seed=7,
    )
    result = td.sweep_result(tmp_path, "mlp_post:0:3@7")
    alone = td.dream(
        encoder,
        GOAL,
        "the red dog hates me .",
        method="gcg",
        budget=600,
        allowed="no_special whole_words",
        banned=["moon"],
        max_changes=2,
        seed=7,
    )
    assert result.settings == alone.settings and result.best == alone.best
    listed = json.loads((tmp_path / "manifest.json").read_text())
    assert listed["settings"]["method"] == "gcg" and listed["settings"]["banned"] == ["moon"]


def refused(model: Any, told: str, jobs: Any = "mlp_post:0:3", **options: Any) -> None:
    with says(told):
        td.sweep(model, jobs, **{"prompt": "the dog", "budget": 300, **options})


def test_another_sweep_in_the_folder_is_refused_and_left(
    encoder: torch.nn.Module, fresh_encoder: Callable[..., torch.nn.Module], tmp_path: Path
) -> None:
    td.sweep(encoder, "mlp_post:0:3-5", out=tmp_path, prompt="the dog", budget=300)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    refused(encoder, "budget was 300 and is 400", "mlp_post:0:3-5", out=tmp_path, budget=400)
    refused(encoder, "it has 3 jobs, not 2", "mlp_post:0:3-4", out=tmp_path)
    refused(encoder, "its prompt was 'the dog' and is 'the cat'", "mlp_post:0:3-5", out=tmp_path, prompt="the cat")
    model = fresh_encoder()
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    refused(model, "model's hash was", "mlp_post:0:3-5", out=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_model_that_was_moved_goes_on(tiny_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"out": tmp_path / "out", "prompt": "the dog", "budget": 300}
    td.sweep(str(tiny_folder), "mlp_post:0:3-5", **options)
    journal = tmp_path / "out" / "worker-0.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    moved = shutil.copytree(tiny_folder, tmp_path / "moved")
    assert td.sweep(str(moved), "mlp_post:0:3-5", **options).done == len(keys(tmp_path / "out")) == 3


def test_bad_input(encoder: torch.nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    out = tmp_path / "out"
    refused(encoder, "is a file: give a folder", out=file)
    for path in (file / "in", tmp_path / ("x" * 300), "a\0b"):
        refused(encoder, "can't be made", out=path)
    refused(encoder, "names no unit", "mlp_post:0:9-5", out=out)
    refused(encoder, "no sentence to start from", out=out, prompt=None)
    refused(encoder, "give one of the two", out=out, corpus=CORPUS)
    refused(encoder, "leave it out", [(GOAL, "the dog")], out=out, prompt=None, corpus=CORPUS)
    for what in ("portraits", td.Portraits()):
        refused(encoder, "prompt= is where dreams start: for portraits leave it out", out=out, budget=None, what=what)
        refused(encoder, "no sentence to start from: give a corpus", out=out, prompt=None, budget=None, what=what)
        refused(encoder, "budget: an option of dreams; those of portraits", out=out, prompt=None, what=what)
    refused(encoder, "what=td.Reconstructions(...)", "a dog", out=out, prompt=None, what="reconstructions")
    refused(encoder, "leave it out", "a", out=out, prompt=None, budget=None, what="reconstructions", corpus=CORPUS)
    refused(encoder, "unknown kind of job 'portrait'; nearest: portraits", out=out, what="portrait")
    refused(encoder, "unit 999", td.Unit("mlp_post", 0, 999), out=out)
    refused(encoder, "there is no file", out=out, prompt=None, corpus="nowhere.txt")
    refused(encoder, "unknown engine", out=out, engine="slurm")
    refused(encoder, 'scheduler= goes with engine="dask"', out=out, scheduler="tcp://localhost:1")
    refused(encoder, "several workers load the model themselves", out=out, workers=2)
    refused(encoder, "several workers load the model themselves", out=out, engine="dask")
    for option in ("workers", "seeds", "width", "threads", "sentences", "budget"):
        refused(encoder, f"{option} = 0", out=out, **{option: 0})
    refused("nowhere/model", "nowhere/model", out=out)
    refused(encoder, "unknown method", out=out, method="guess")
    refused(encoder, "allowed", out=out, allowed="no_specials")
    refused(encoder, "kickshaws", out=out, banned=["kickshaws"])
    refused(encoder, "no sentence to start from", out=out, prompt=[])
    refused(encoder, "is empty or holds special tokens", out=out, prompt="")
    assert file.read_text() == "mine" and not [path for path in out.iterdir() if path.name != ".lock"]


@pytest.mark.parametrize("method", [*METHODS.values()], ids=[*METHODS])
def test_every_method(encoder: torch.nn.Module, tmp_path: Path, method: Method) -> None:
    status = td.sweep(encoder, "mlp_post:0:3", out=tmp_path, prompt="the red dog", budget=500, method=method)
    assert status.done == 1
    alone = td.dream(encoder, GOAL, "the red dog", budget=500, method=method)
    assert td.sweep_result(tmp_path, "mlp_post:0:3@0").best.text == alone.best.text


def test_a_full_disk_ends_it_and_it_goes_on(
    encoder: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, rows = os.fsync, []

    def full(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}").endswith(".jsonl"):
            rows.append(file)
            if len(rows) == 4:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(file)

    monkeypatch.setattr(os, "fsync", full)
    with says("No space left on device", "make room, and run the same command again") as caught:
        td.sweep(encoder, "mlp_post:0:0-7", out=tmp_path, prompt="the dog", budget=300)
    assert caught.value.partial.done == 3 and not caught.value.partial.running
    monkeypatch.undo()
    assert len(td.read_sweep(tmp_path)) == 3
    status = td.sweep(encoder, "mlp_post:0:0-7", out=tmp_path, prompt="the dog", budget=300)
    assert (status.done, status.notices) == (8, ())


def test_ctrl_c_keeps_what_has_ended(encoder: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Work.rows

    def interrupted(*args: Any) -> Any:
        for number, row in enumerate(real(*args)):
            yield row
            if number == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(Work, "rows", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        td.sweep(encoder, "mlp_post:0:0-7", out=tmp_path, prompt="the dog", budget=300, width=2)
    assert caught.value.partial.done == 3 and caught.value.partial.left == 5
    monkeypatch.undo()
    assert td.sweep(encoder, "mlp_post:0:0-7", out=tmp_path, prompt="the dog", budget=300).done == 8


def test_ctrl_c_in_the_corpus_pass_keeps_what_has_ended(
    encoder: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"out": tmp_path, "corpus": CORPUS, "budget": 300}

    def interrupted(*_: Any, **__: Any) -> None:
        error = KeyboardInterrupt()
        error.partial = (td.corpus_search(encoder, GOAL, CORPUS),)  # type: ignore[attr-defined]
        raise error

    with monkeypatch.context() as once, pytest.raises(KeyboardInterrupt) as caught:
        once.setattr(sweeping, "find_starts", interrupted)
        td.sweep(encoder, "mlp_post:0:3-5", **options)
    assert caught.value.partial is None
    td.sweep(encoder, "mlp_post:0:3-5", **options)
    journal = tmp_path / "worker-0.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    monkeypatch.setattr(sweeping, "find_starts", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        td.sweep(encoder, "mlp_post:0:3-5", **options)
    assert caught.value.partial.done == 2


def test_a_loader_that_changes_directory(
    encoder: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> torch.nn.Module:
        os.chdir(tmp_path.parent)
        return encoder

    monkeypatch.chdir(tmp_path)
    assert td.sweep(load, "mlp_post:0:3", out="mine", prompt="the dog", budget=300).done == 1
    assert len(td.read_sweep(tmp_path / "mine")) == 1


def test_two_sweeps_of_one_folder(encoder: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is told while the first runs."""
    real = Work.rows

    def second(*args: Any) -> Any:
        refused(encoder, "another sweep is writing", "mlp_post:0:0-1", out=tmp_path)
        yield from real(*args)

    monkeypatch.setattr(Work, "rows", second)
    assert td.sweep(encoder, "mlp_post:0:0-1", out=tmp_path, prompt="the dog", budget=300).done == 2


def test_workers_that_die_are_replaced_as_long_as_they_get_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[int] = []

    def dying(work: Work, load: Any, jobs: list[Any], folder: Path, **_: Any) -> None:
        rounds.append(len(jobs))
        sweeping.run_here(work, load(), jobs[:2], folder)
        if len(jobs) > 2:
            raise WorkersDied("killed by the system")

    monkeypatch.setattr(sweeping, "run_processes", dying)
    status = td.sweep(loader(tiny_folder), "mlp_post:0:0-4", out=tmp_path, prompt="the dog", budget=300, workers=2)
    assert rounds == [5, 3, 1] and status.done == 5
    assert [notice.split(" (")[0] for notice in status.notices] == 2 * ["workers died"]

    def dead(*_: Any, **__: Any) -> None:
        raise WorkersDied("killed by the system")

    monkeypatch.setattr(sweeping, "run_processes", dead)
    with says("the workers keep dying", "killed by the system", "a smaller width"):
        td.sweep(loader(tiny_folder), "mlp_post:0:0-4", out=tmp_path / "b", prompt="the dog", budget=300, workers=2)


def test_what_failed_before_is_tried_again_though_workers_die(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"out": tmp_path, "prompt": "the dog", "budget": 300}

    def broken(*args: Any) -> Any:
        yield from ((number, None, RuntimeError("a device was lost")) for number in range(len(args[2])))

    with monkeypatch.context() as once:
        once.setattr(sweeping.Dreams, "run", broken)
        assert len(td.sweep(loader(tiny_folder), "mlp_post:0:0-4", **options).failures) == 5

    def dying(work: Work, load: Any, jobs: list[Any], folder: Path, **_: Any) -> None:
        sweeping.run_here(work, load(), jobs[:2], folder)
        if len(jobs) > 2:
            raise WorkersDied("killed by the system")

    monkeypatch.setattr(sweeping, "run_processes", dying)
    status = td.sweep(loader(tiny_folder), "mlp_post:0:0-4", workers=2, **options)
    assert (status.done, status.failures) == (5, ())


@pytest.mark.parametrize("workers", [1, 2])
def test_the_progress_bar(
    tiny_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
) -> None:
    def here(work: Work, load: Any, jobs: list[Any], folder: Path, **_: Any) -> None:
        sweeping.run_here(work, load(), jobs, folder)

    monkeypatch.setattr(sweeping, "run_processes", here)
    options = {"prompt": "the dog", "budget": 300, "progress": True, "workers": workers}
    td.sweep(loader(tiny_folder), "mlp_post:0:0-4", out=tmp_path, **options)
    assert "5/5" in capfd.readouterr().err
