"""`tl-dream sweep`, and the patterns of `tl-dream units`: what they print and write, and what they refuse."""

import json
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import pandas
import pytest

import tl_dream as td
from tests.support.cli import complaint
from tests.support.sweeps import CORPUS
from tl_dream.cli import app, sweeps
from tl_dream.sweeps import SweepStatus

Run = Callable[..., str]


@pytest.fixture
def run(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: object) -> str:
        app.parse([str(words[0]), f"--model={tiny_folder}", *map(str, words[1:])])()
        return capsys.readouterr().out

    return call


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(CORPUS))
    return path


def test_sweep_status_and_table(run: Run, corpus: Path, tmp_path: Path) -> None:
    out, data, table = tmp_path / "out", tmp_path / "status.json", tmp_path / "table.parquet"
    words = ("sweep", "--units", "mlp_post:0:1-2", "--units", "z:1:head=2:3", "--corpus", corpus, "--out", out)
    words += ("--budget", 500, "--seeds", 2, "--seed", 3, "--sentences", 2, "--max-changes", 3, "--banned", "moon")
    told = run(*words, "--json", data)
    assert told.startswith(f"6 of 6 jobs are done in {out} on ") and f"wrote {data}" in told
    assert SweepStatus.load(data).done == 6
    frame = td.read_sweep(out)
    assert frame.seed.tolist() == [3, 3, 3, 4, 4, 4] and frame.forward_tokens.max() <= 500
    settings = json.loads((out / "manifest.json").read_text())["settings"]
    assert (settings["max_changes"], settings["banned"], settings["retokenize"]) == (3, ["moon"], True)
    content = (out / "worker-0.jsonl").read_bytes()
    assert run(*words, "--parquet", table).startswith("6 of 6 jobs are done")
    assert (out / "worker-0.jsonl").read_bytes() == content, "there was nothing to do"
    assert pandas.read_parquet(table).key.tolist() == frame.key.tolist()
    assert run("sweep", "--out", out, "--status").startswith("6 of 6 jobs are done")
    table.unlink()
    assert "6 of 6" in run("sweep", "--out", out, "--parquet", table) and table.exists()


def test_the_options_reach_the_library(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def sweep(model: object, jobs: object, **options: object) -> None:
        given.update(options, model=model, jobs=jobs)

    sweep.__signature__ = signature(td.sweep)  # type: ignore[attr-defined]
    monkeypatch.setattr("tl_dream.sweeps.sweep", sweep)
    words = (
        "--units mlp_post:0:1 --out O --text a --text b --method gcg --engine dask --workers 3 --scheduler tcp://x:1"
    )
    words += " --threads 2 --width 9 --no-retokenize --allowed ascii -q --dtype float64"
    app.parse(["sweep", f"--model={tiny_folder}", *words.split()])()
    model = given.pop("model")
    assert next(model().parameters()).element_size() == 8
    assert given == {
        "jobs": ["mlp_post:0:1"],
        "what": "dreams",
        "out": "O",
        "prompt": ["a", "b"],
        "corpus": None,
        "budget": None,
        "sentences": 10,
        "method": "gcg",
        "seeds": 1,
        "seed": 0,
        "max_changes": None,
        "banned": None,
        "retokenize": False,
        "allowed": "ascii",
        "engine": "dask",
        "workers": 3,
        "scheduler": "tcp://x:1",
        "threads": 2,
        "width": 9,
        "progress": False,
    }
    assert callable(sweeps.sweep)


def test_portraits_and_reconstructions(run: Run, corpus: Path, tmp_path: Path) -> None:
    words = ("sweep", "--what", "portraits", "--units", "mlp_post:0:1", "--corpus", corpus, "--placebos", 0, "--tokens")
    assert run(*words, "--budget", 200, "--out", tmp_path / "p").startswith("1 of 1 jobs are done")
    page = td.sweep_result(tmp_path / "p", "mlp_post:0:1@0")
    assert isinstance(page, td.Portrait) and page.standing is None and page.tokens is not None
    words = ("sweep", "--what", "reconstructions", "--texts", corpus, "--layers", "0,2", "--rivals", 0, "--budget", 50)
    assert run(*words, "--out", tmp_path / "r").startswith("10 of 10 jobs are done")
    frame = td.read_sweep(tmp_path / "r")
    assert frame.layer.tolist() == 5 * [0, 2] and frame.truth.tolist()[::2] == CORPUS and not frame.certified.any()


def test_what_it_refuses(capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path, corpus: Path) -> None:
    def told(*words: object, model: object = tiny_folder) -> str:
        return complaint(capsys, ["sweep", f"--model={model}", *map(str, words)])

    out = ("--out", tmp_path / "out")
    assert "give --units" in told(*out)
    assert "give --texts" in told("--what", "reconstructions", *out)
    assert "give --texts" in told("--what", "reconstructions", "--units", "mlp_post:0:1", *out)
    assert "nearest: portraits" in told("--what", "portrait", *out)
    assert "budget = 0" in told(
        "--what", "portraits", "--units", "mlp_post:0:1", "--corpus", corpus, "--budget", 0, *out
    )
    assert "there is no sweep" in told("--out", tmp_path, "--status")
    assert "leave --units out" in told("--units", "mlp_post:0:1", "--status", *out)
    assert "'--out'" in told("--units", "mlp_post:0:1")
    assert "is a file: give a folder" in told("--units", "mlp_post:0:1", "--text", "a dog", "--out", corpus)
    assert "names no unit" in told("--units", "mlp_post:0:3-1", "--text", "a dog", *out)
    assert "nearest: mlp_post" in told("--units", "mlp_pots:0:3-1", "--text", "a dog", *out)
    assert "no sentence to start from" in told("--units", "mlp_post:0:1", *out)
    assert "there is no file" in told("--units", "mlp_post:0:1", "--corpus", "nowhere.txt", *out)
    assert "unknown engine 'slurm'" in told("--units", "mlp_post:0:1", "--engine", "slurm", *out)
    scheduler = ("--engine", "dask", "--scheduler", "nonsense")
    assert "no Dask scheduler" in told("--units", "mlp_post:0:1", "--text", "a dog", *scheduler, *out)


def test_units_of_a_pattern(run: Run, capsys: pytest.CaptureFixture[str], tiny_folder: Path) -> None:
    assert run("units", "mlp_post:1:1,5", "z:2:head=3:0-1").split() == [
        *("mlp_post:1:1", "mlp_post:1:5", "z:2:head=3:0", "z:2:head=3:1")
    ]
    drawn = [run("units", "block_out:all:random=4", "--seed", seed).split() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 4
    words = ["units", f"--model={tiny_folder}", "mlp_post:1:1"]
    assert "leave --hook" in complaint(capsys, [*words, "--layer", "1"])
    assert "has units 0 to 39" in complaint(capsys, [*words[:2], "mlp_post:1:99"])
