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


@pytest.mark.parametrize("method", ["auto", "gcg", "pez", "anneal"])
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


def test_epo_shows_its_front(
    command: Command, judged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tiny_folder: Path, backend: str
) -> None:
    path, figure = tmp_path / "front.json", tmp_path / "front.png"
    options = {"max_changes": 2, "budget": 3000, "seed": 5}
    assert cli.main(command("--banned", "moon", method="epo", judge=judged, json=path, figure=figure, **options)) == 0
    model = td.load_model(str(tiny_folder), backend=backend)
    judge = td.fluency(td.count_bigrams(model, str(judged)))
    expected = td.epo(model, GOAL, TEXT, fluency=judge, banned=["moon"], progress=False, **options)
    found = td.Frontier.load(path)
    assert (found.front, found.settings, found.start) == (expected.front, expected.settings, expected.start)
    assert len(found.front) > 1 and figure.stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "nats/token" in shown and all(point.scored.text in shown for point in found.front)


def test_the_weight_of_epo_is_the_greatest_of_its_members(command: Command, judged: Path, tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    fronts = []
    for number in (0, 4):
        assert cli.main(command(fluency=number, judge=judged, budget=6000, method="epo", json=path)) == 0
        fronts.append(td.Frontier.load(path))
    none, some = (front.settings["penalties"] for front in fronts)
    assert none == [0.0] * 8 and some[0] == 0 and some[-1] == 4 and some == sorted(some)
    assert fronts[0].front != fronts[1].front


def test_a_front_that_nobody_judges_is_told_before(
    command: Command, tiny_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    headless, figure = tiny_checkpoint("BertModel"), tmp_path / "front.png"
    assert cli.main(command(model=headless, method="epo", budget=2000, figure=figure)) == 2
    assert "this model can't judge that itself: give --judge" in capsys.readouterr().err and not figure.exists()
    assert cli.main(command(model=headless, method="epo", budget=2000)) == 0
    assert "against nothing" in capsys.readouterr().out


def test_masked_fluency(command: Command, tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "dream.json"
    for judge in (None, tiny_folder):
        assert cli.main(command("--masked", fluency=0.5, judge=judge, budget=3000, json=path)) == 0
        assert json.loads(path.read_text())["objective"].endswith(", masked=True)")


def test_what_may_be_returned(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "dream.json"
    assert cli.main(command("--no-retokenize", budget=3000, json=path)) == 0
    assert td.Dream.load(path).settings["retokenize"] is False
    token = {"hook": None, "layer": None, "unit": None, "token": "moon", "free": 4, "pos": 4, "budget": None}
    words = tmp_path / "words.txt"
    words.write_text("moon dog")
    texts = {}
    for option in ([], ["--ban-nothing"]):
        assert cli.main(command(*option, json=path, allowed=f"@{words}", text="i hate the cat", **token)) == 0
        texts[bool(option)] = td.Dream.load(path)
    assert "moon" not in texts[False].best.tokens and texts[True].settings["allowed"] == "2 tokens"


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
        ({"method": "epo", "steps": 3}, "method='epo' has no steps"),
        ({"method": "epo", "start": "random"}, "method='epo' has no start"),
        ({"method": "epo", "fluency": -5}, "the weights of epo go from 0 to this: give at least 0"),
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


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "much"])
def test_a_weight_that_is_none_is_told_before_the_model_is_loaded(
    command: Command, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(fluency=number, model="no such model")) == 2
    assert f"argument --fluency: '{number}' is no weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--masked"], "--masked says whose fluency counts, and --fluency is missing"),
        (["--banned", "dog", "--ban-nothing"], "--banned and --ban-nothing are both given"),
    ],
)
def test_flags_that_do_not_go_together(
    command: Command, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command(*flags, model="no such model")) == 2
    assert message in capsys.readouterr().err
