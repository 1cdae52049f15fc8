"""`tl-dream dream` with every method: budgets, fluency, starts from a corpus search, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import tl_dream as td
from tl_dream import cli

TEXT = "i hate the red dog ."
GOAL = td.neuron("block_out", layer=1, unit=3, pos=2)

Command = Callable[..., list[str]]


@pytest.fixture
def command(tiny_folder: Path, backend: str) -> Command:
    def make(*more: object, **options: object) -> list[str]:
        chosen = {"model": tiny_folder, "backend": backend, "hook": "block_out", "layer": 1, "unit": 3, "pos": 2}
        chosen |= {"text": TEXT, **options}
        pairs = [f"--{key.replace('_', '-')}={value}" for key, value in chosen.items() if value is not None]
        return ["dream", *pairs, *map(str, more)]

    return make


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    path = tmp_path / "judge.txt"
    path.write_text("the red dog sees the moon\nthe dog is happy\n")
    return path


@pytest.mark.parametrize("method", ["auto", "gcg", "epo", "pez", "anneal"])
def test_every_method_gives_what_the_library_gives(
    command: Command, method: str, tmp_path: Path, tiny_folder: Path, backend: str
) -> None:
    path, figure = tmp_path / "dream.json", tmp_path / "dream.png"
    options = {"max_changes": 2, "budget": 3000, "seed": 5}
    assert cli.main(command("--banned", "moon", method=method, json=path, figure=figure, **options)) == 0
    model = td.load_model(str(tiny_folder), backend=backend)
    expected = td.dream(model, GOAL, TEXT, method=method, banned=["moon"], progress=False, **options)
    found = td.Dream.load(path)
    assert found.best == expected.best and found.settings == expected.settings
    assert found.settings["method"] == method and figure.stat().st_size > 10_000


def test_fluency_of_a_file_joins_the_objective(command: Command, judged: Path, tmp_path: Path) -> None:
    path = tmp_path / "dream.json"
    assert cli.main(command(fluency=0.5, judge=judged, budget=3000, json=path)) == 0
    assert json.loads(path.read_text())["objective"] == (
        f"neuron('block_out', layer=1, unit=3, pos=2) + 0.5 * fluency(bigrams of {judged})"
    )
    assert cli.main(command(fluency=1, judge=judged, budget=3000, method="epo", json=path)) == 0
    data = json.loads(path.read_text())
    assert data["objective"] == repr(GOAL) and data["settings"]["fluency"] == f"fluency(bigrams of {judged})"


@pytest.mark.parametrize("judge", [None, "folder"])
def test_fluency_of_a_model(command: Command, judge: str | None, tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "dream.json"
    argv = command(fluency=0.5, judge=tiny_folder if judge else None, budget=3000, json=path)
    assert cli.main(argv) == 0
    assert "+ 0.5 * fluency(" in json.loads(path.read_text())["objective"]


def test_a_corpus_search_starts_it(command: Command, judged: Path, tmp_path: Path, tiny_folder: Path) -> None:
    found, path = tmp_path / "corpus.json", tmp_path / "dream.json"
    same = [f"--model={tiny_folder}", "--hook=block_out", "--layer=1", "--unit=3", "--pos=2"]
    assert cli.main(["corpus", str(judged), *same, f"--json={found}"]) == 0
    assert cli.main(command(text=None, start=found, budget=3000, json=path)) == 0
    data = json.loads(path.read_text())
    assert {run["start"]["text"] for run in (data, *data["others"])} == set(judged.read_text().splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "annael"}, "unknown method 'annael'"),
        ({"budget": 0}, "budget = 0: give a whole number of at least 1"),
        ({"budget": "many"}, "argument --budget: invalid int value"),
        ({"method": "gcg", "steps": 3}, "method='gcg' has no steps"),
        ({"judge": "x.txt"}, "--judge says whose fluency counts, and --fluency is missing"),
        ({"fluency": 1, "judge": "no_such_thing"}, "no_such_thing"),
        ({"text": None}, "no sentence to start from: give --text"),
        ({"text": None, "start": "none.json"}, "can't read 'none.json' as JSON"),
        ({"start": "some.json"}, "--text and a corpus search in --start are both given"),
        ({"max_changes": 0}, "max_changes = 0"),
        ({"banned": "doqs"}, "'doqs' is not one token"),
    ],
    ids=str,
)
def test_mistakes_get_one_line(
    command: Command, options: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(**options)) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("tl-dream: ") and err.count("\n") == 1
