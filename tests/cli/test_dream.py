"""The room cli.dream."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB
from tests.support.cli import TEXT, complaint
from tl_dream import cli
from tl_dream.results.dreams import Dream


def test_dream_prints_and_writes_what_the_library_gives(command, capsys, tmp_path, tiny_folder, backend):
    import tl_dream as td

    files = {"json": tmp_path / "dream.json", "figure": tmp_path / "dream.png"}
    argv = command("--candidates", "30", "--temperature", "1.5", "0.2", seed=3, starts=2, **files)
    assert cli.main(argv) == 0
    out, err = capsys.readouterr()
    assert err == ""
    model = td.load_model(str(tiny_folder), backend=backend)
    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    expected = td.dream(
        model,
        goal,
        TEXT,
        method=td.Annealing(steps=4, candidates=30, start_temperature=1.5, end_temperature=0.2),
        seed=3,
        starts=2,
        progress=False,
    )
    found = Dream.load(files["json"])
    assert found.best == expected.best and found.history == expected.history and found.settings == expected.settings
    assert str(found) in out
    assert out.endswith(f"wrote {files['json']}\nwrote {files['figure']}\n")
    assert files["figure"].read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dream.json", "dream.png"]


def test_the_json_has_every_key_of_the_format(command, capsys, tmp_path):
    assert cli.main(command(json=tmp_path / "a.json")) == 0
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    keys = "kind version model objective prompt settings seed start best soft_score history forwards seconds".split()
    assert set(keys) <= set(data)
    assert {"text", "tokens", "ids", "score"} <= set(data["start"])
    assert {"text", "tokens", "ids", "score", "step"} <= set(data["best"])
    assert data["kind"] == "dream" and data["version"] == 1 and data["seed"] == 0
    assert data["objective"] == "neuron('block_out', layer=1, unit=3, pos=2)"
    assert data["prompt"] == {"text": TEXT, "free": [1, 2, 3, 4, 5, 6]}
    assert len(data["start"]["ids"]) == len(data["start"]["tokens"]) == 8
    assert len(data["history"]["step"]) == len(data["history"]["hard_score"]) >= 2
    assert data["forwards"] > 0 and data["seconds"] > 0


@pytest.mark.parametrize(
    ("options", "formula", "free"),
    [
        ({"pos": "dog"}, "neuron('block_out', layer=1, unit=3, pos='dog')", [1, 2, 3, 4, 5, 6]),
        ({"pos": "-2"}, "neuron('block_out', layer=1, unit=3, pos=-2)", [1, 2, 3, 4, 5, 6]),
        ({"pos": None}, "neuron('block_out', layer=1, unit=3)", [1, 2, 3, 4, 5, 6]),
        ({"pos": "1,dog", "reduce": "mean"}, "pos=[1, 'dog'], reduce='mean')", [1, 2, 3, 4, 5, 6]),
        ({"free": "2:5"}, "pos=2)", [2, 3, 4]),
        ({"free": "red,-2"}, "pos=2)", [2, 6]),
        ({"free": '"red"'}, "pos=2)", [2]),
        ({"hook": "z", "head": 2, "unit": 1}, "neuron('z', layer=1, head=2, unit=1, pos=2)", [1, 2, 3, 4, 5, 6]),
        ({"hook": "pattern", "head": 2, "unit": None, "key": "sun"}, "key='sun')", [1, 2, 3, 4, 5, 6]),
        ({"hook": None, "layer": None, "unit": None, "token": "cat"}, "logit('cat', pos=2)", [1, 2, 3, 4, 5, 6]),
    ],
)
def test_positions_and_objectives(command, capsys, tmp_path, options, formula, free):
    assert cli.main(command(json=tmp_path / "a.json", **options)) == 0, capsys.readouterr().err
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert data["objective"].endswith(formula)
    assert data["prompt"]["free"] == free


def test_negative_positions_need_no_equals_sign(command, capsys, tmp_path):
    path = tmp_path / "a.json"
    argv = command("--pos", "-2", "--free", "-3,-2", pos=None, json=path)
    assert cli.main(argv) == 0, capsys.readouterr().err
    data = json.loads(path.read_text("utf-8"))
    assert data["objective"].endswith("pos=-2)") and data["prompt"]["free"] == [5, 6]


def test_log_prob_and_the_settings_of_the_search(command, capsys, tmp_path):
    path = tmp_path / "a.json"
    options = {"hook": None, "layer": None, "unit": None, "token": "cat", "json": path}
    more = ["--log-prob", "--noise", "--allowed", "no_special ascii", "--start", "random", "--schedule", "linear"]
    more += ["--learning-rate", "0.25", "--candidates", "0", "--method", "anneal", "--preset", "article"]
    assert cli.main(command(*more, **options)) == 0, capsys.readouterr().err
    data = json.loads(path.read_text("utf-8"))
    assert data["objective"] == "logit('cat', pos=2, log_prob=True)" and data["best"]["score"] <= 0
    wanted = {"noise": True, "allowed": "no_special ascii", "start": "random", "schedule": "linear"}
    wanted |= {"learning_rate": 0.25, "candidates": None, "steps": 4, "normalize": True}
    assert {key: data["settings"][key] for key in wanted} == wanted


def test_several_texts_dream_side_by_side(command, capsys, tmp_path):
    path = tmp_path / "a.json"
    assert cli.main(command("--text", "a cat will eat fish", json=path)) == 0
    data = json.loads(path.read_text("utf-8"))
    starts = {data["start"]["text"], *(run["start"]["text"] for run in data["others"])}
    assert starts == {TEXT, "a cat will eat fish"}


def test_allowed_tokens_from_a_file(command, capsys, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("cat\nbird\nmoon\n", encoding="utf-8")
    path = tmp_path / "a.json"
    assert cli.main(command(f"--allowed=@{words}", json=path, free="dog", steps=8, evaluate_every=None)) == 0
    data = json.loads(path.read_text("utf-8"))
    assert data["settings"]["allowed"] == "3 tokens"
    assert data["history"]["tokens"][-1][3] in ("cat", "bird", "moon")


def test_an_untrained_head_refuses(tiny_checkpoint, backend, capsys):
    argv = ["dream", "--model", str(tiny_checkpoint("BertModel")), "--backend", backend, "--token", "cat"]
    message = complaint(capsys, [*argv, "--pos", "2", "--text", TEXT])
    assert "lies behind the language-model head" in message


def poisoned(folder: Path, tensor: str, row: int) -> None:
    """Make one row of a tensor of a checkpoint NaN."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if key.endswith(tensor))
    weights[name][row] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})


def test_nan_on_the_way_writes_the_result_so_far(tiny_checkpoint, backend, capsys, tmp_path):
    from transformers import AutoTokenizer

    folder = tiny_checkpoint("BertModel", seed=5)
    poisoned(folder, "word_embeddings.weight", AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("fish"))
    path = tmp_path / "a.json"
    argv = ["dream", "--model", str(folder), "--backend", backend, "--hook", "block_out", "--layer", "1"]
    argv += ["--unit", "3", "--pos", "2", "--text", TEXT, "--steps", "4", "--candidates", "0", "--json", str(path)]
    capsys.readouterr()
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert "nan" in err and err.count("\n") == 1 and TEXT in out and out.endswith(f"\nwrote {path}\n")
    data = json.loads(path.read_text("utf-8"))
    assert data["kind"] == "dream" and data["stopped"] == "failure"
    assert data["best"]["text"] == TEXT and data["best"]["score"] == data["start"]["score"] is not None


def test_nan_at_the_start_is_written_as_null(tiny_checkpoint, backend, capsys, tmp_path):
    folder = tiny_checkpoint("BertModel", seed=6)
    poisoned(folder, "word_embeddings.weight", VOCAB.index("sun"))
    path = tmp_path / "a.json"
    argv = ["dream", "--model", str(folder), "--backend", backend, "--hook", "block_out", "--layer", "1"]
    argv += ["--unit", "3", "--pos", "2", "--text", TEXT, "--steps", "4"]
    assert cli.main([*argv, "--json", str(path)]) == 2
    assert "nan" in capsys.readouterr().err
    assert json.loads(path.read_text("utf-8"))["start"]["score"] is None


SENTENCE = "i hate the red dog ."


GOAL = td.neuron("block_out", layer=1, unit=3, pos=2)


Command = Callable[..., list[str]]


@pytest.fixture
def command_(tiny_folder: Path, backend: str) -> Command:
    def make(*more: object, **options: object) -> list[str]:
        chosen = {"model": tiny_folder, "backend": backend, "hook": "block_out", "layer": 1, "unit": 3, "pos": 2}
        chosen |= {"text": SENTENCE, **options}
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
    command_: Command, method: str, tmp_path: Path, tiny_folder: Path, backend: str
) -> None:
    path, figure = tmp_path / "dream.json", tmp_path / "dream.png"
    options = {"max_changes": 2, "budget": 3000, "seed": 5}
    assert cli.main(command_("--banned", "moon", method=method, json=path, figure=figure, **options)) == 0
    model = td.load_model(str(tiny_folder), backend=backend)
    expected = td.dream(model, GOAL, SENTENCE, method=method, banned=["moon"], progress=False, **options)
    found = td.Dream.load(path)
    assert found.best == expected.best and found.settings == expected.settings
    assert found.settings["method"] == method and figure.stat().st_size > 10_000


def test_fluency_of_a_file_joins_the_objective(command_: Command, judged: Path, tmp_path: Path) -> None:
    path = tmp_path / "dream.json"
    assert cli.main(command_(fluency=0.5, judge=judged, budget=3000, json=path)) == 0
    assert json.loads(path.read_text())["objective"] == (
        f"neuron('block_out', layer=1, unit=3, pos=2) + 0.5 * fluency(bigrams of {judged})"
    )


def test_epo_shows_its_front(
    command_: Command,
    judged: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    tiny_folder: Path,
    backend: str,
) -> None:
    path, figure = tmp_path / "front.json", tmp_path / "front.png"
    options = {"max_changes": 2, "budget": 3000, "seed": 5}
    assert cli.main(command_("--banned", "moon", method="epo", judge=judged, json=path, figure=figure, **options)) == 0
    model = td.load_model(str(tiny_folder), backend=backend)
    judge = td.fluency(td.count_bigrams(model, str(judged)))
    expected = td.epo(model, GOAL, SENTENCE, method=td.EPO(fluency=judge), banned=["moon"], progress=False, **options)
    found = td.Frontier.load(path)
    assert (found.front, found.settings, found.start) == (expected.front, expected.settings, expected.start)
    assert len(found.front) > 1 and figure.stat().st_size > 10_000
    shown = capsys.readouterr().out
    assert "nats/token" in shown and all(point.scored.text in shown for point in found.front)


def test_the_weight_of_epo_is_the_greatest_of_its_members(command_: Command, judged: Path, tmp_path: Path) -> None:
    path = tmp_path / "front.json"
    fronts = []
    for number in (0, 4):
        assert cli.main(command_(fluency=number, judge=judged, budget=6000, method="epo", json=path)) == 0
        fronts.append(td.Frontier.load(path))
    none, some = (front.settings["penalties"] for front in fronts)
    assert none == [0.0] * 8 and some[0] == 0 and some[-1] == 4 and some == sorted(some)
    assert fronts[0].front != fronts[1].front


def test_a_front_that_nobody_judges_is_told_before(
    command_: Command, tiny_checkpoint: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    headless, figure = tiny_checkpoint("BertModel"), tmp_path / "front.png"
    assert cli.main(command_(model=headless, method="epo", budget=2000, figure=figure)) == 2
    assert "this model can't judge that itself: give --judge" in capsys.readouterr().err and not figure.exists()
    assert cli.main(command_(model=headless, method="epo", budget=2000)) == 0
    assert "against nothing" in capsys.readouterr().out


def test_masked_fluency(command_: Command, tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "dream.json"
    for judge in (None, tiny_folder):
        assert cli.main(command_("--masked", fluency=0.5, judge=judge, budget=3000, json=path)) == 0
        assert json.loads(path.read_text())["objective"].endswith(", masked=True)")


def test_what_may_be_returned(command_: Command, tmp_path: Path) -> None:
    path = tmp_path / "dream.json"
    assert cli.main(command_("--no-retokenize", budget=3000, json=path)) == 0
    assert td.Dream.load(path).settings["retokenize"] is False
    token = {"hook": None, "layer": None, "unit": None, "token": "moon", "free": 4, "pos": 4, "budget": None}
    words = tmp_path / "words.txt"
    words.write_text("moon dog")
    texts = {}
    for option in ([], ["--ban-nothing"]):
        assert cli.main(command_(*option, json=path, allowed=f"@{words}", text="i hate the cat", **token)) == 0
        texts[bool(option)] = td.Dream.load(path)
    assert "moon" not in texts[False].best.tokens and texts[True].settings["allowed"] == "2 tokens"


@pytest.mark.parametrize("judge", [None, "folder"])
def test_fluency_of_a_model(command_: Command, judge: str | None, tmp_path: Path, tiny_folder: Path) -> None:
    path = tmp_path / "dream.json"
    argv = command_(fluency=0.5, judge=tiny_folder if judge else None, budget=3000, json=path)
    assert cli.main(argv) == 0
    assert "+ 0.5 * fluency(" in json.loads(path.read_text())["objective"]


def test_a_corpus_search_starts_it(command_: Command, judged: Path, tmp_path: Path, tiny_folder: Path) -> None:
    found, path = tmp_path / "corpus.json", tmp_path / "dream.json"
    same = [f"--model={tiny_folder}", "--hook=block_out", "--layer=1", "--unit=3", "--pos=2"]
    assert cli.main(["corpus", str(judged), *same, f"--json={found}"]) == 0
    assert cli.main(command_(text=None, start=found, budget=3000, json=path)) == 0
    data = json.loads(path.read_text())
    assert {run["start"]["text"] for run in (data, *data["others"])} == set(judged.read_text().splitlines())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "annael"}, "unknown method 'annael'"),
        ({"budget": 0}, "budget = 0: give a whole number of at least 1"),
        ({"budget": "many"}, "Invalid value for '--budget': Input should be a valid integer"),
        ({"method": "gcg", "steps": 3}, "--method gcg has no --steps"),
        ({"method": "epo", "steps": 3}, "--method epo has no --steps"),
        ({"method": "epo", "start": "random"}, "--method epo has no --start"),
        ({"method": "epo", "fluency": -5}, "the weights of epo go from 0 to this: give at least 0"),
        ({"judge": "x.txt"}, "--judge says whose fluency counts, and --fluency is missing"),
        ({"fluency": 1, "judge": "no_such_thing"}, "no_such_thing"),
        ({"fluency": 1, "judge": "x" * 300}, "File name too long"),
        ({"text": None}, "no sentence to start from: give --text"),
        ({"text": None, "start": "none.json"}, "can't read 'none.json' as JSON"),
        ({"start": "some.json"}, "--text and a corpus search in --start are both given"),
        ({"max_changes": 0}, "max_changes = 0"),
        ({"banned": "doqs"}, "'doqs' is not one token"),
    ],
    ids=str,
)
def test_mistakes_get_one_line(
    command_: Command, options: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command_(**options)) == 2
    err = capsys.readouterr().err
    assert message in err and err.startswith("tl-dream: ") and err.count("\n") == 1


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "much", "1e999", "1/0"])
def test_a_weight_that_is_none_is_told_before_the_model_is_loaded(
    command_: Command, number: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command_(fluency=number, model="no such model")) == 2
    assert f"Invalid value for '--fluency': '{number}' is no weight" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--masked"], "--masked says whose fluency counts, and --fluency is missing"),
        (["--banned", "dog", "--ban-nothing"], "--banned and --ban-nothing are both given"),
    ],
)
def test_flags_that_do_not_go_together(
    command_: Command, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(command_(*flags, model="no such model")) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_several_units_dream_side_by_side(
    command_: Command, tmp_path: Path, tiny_folder: Path, backend: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, figure = tmp_path / "dreams.json", tmp_path / "dream.png"
    assert cli.main(command_(unit="3,5", layer="0:2", budget=2000, free="2:4", json=path, figure=figure)) == 0
    found = [td.Dream.from_json(one) for one in json.loads(path.read_text())]
    model = td.load_model(str(tiny_folder), backend=backend)
    for one, (layer, unit) in zip(found, [(0, 3), (0, 5), (1, 3), (1, 5)], strict=True):
        goal = td.neuron("block_out", layer=layer, unit=unit, pos=2)
        alone = td.dream(model, goal, SENTENCE, free=slice(2, 4), budget=2000, progress=False)
        assert (one.objective, one.best) == (alone.objective, alone.best)
    assert all((tmp_path / f"dream-{number}.png").exists() for number in (1, 2, 3, 4)) and not figure.exists()
    assert capsys.readouterr().out.startswith("\n\n".join(map(str, found)))
    assert cli.main(command_(unit="3:8", budget=500, free="2:4", json=path)) == 0
    dreams = [td.Dream.from_json(one) for one in json.loads(path.read_text())]
    head, *rows, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["start", "best", "objective", "text"] and last == f"wrote {path}"
    for row, one in zip(rows, dreams, strict=True):
        assert row.startswith(f"{one.start.score:.4f}") and f" {one.best.score:.4f} " in row
        assert f" {one.objective} " in row and row.endswith(f" {one.best.text}")


def test_where_one_of_several_units_fails_the_others_are_kept(
    command_: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "dreams.json"
    assert cli.main(command_(unit="3,99", budget=2000, json=path)) == 2
    out, err = capsys.readouterr()
    assert err.count("\n") == 1 and "unit=99, pos=2): unit 99 does not exist" in err
    (one,) = json.loads(path.read_text())
    assert out == f"{td.Dream.from_json(one)}\nwrote {path}\n" and "unit=3" in one["objective"]


@pytest.mark.parametrize("unit", ["3", "3,5"])
def test_a_limit_of_seconds(command_: Command, tmp_path: Path, unit: str) -> None:
    path = tmp_path / "dream.json"
    assert cli.main(command_(unit=unit, budget=10**9, seconds=0.3, json=path)) == 0
    data = json.loads(path.read_text())
    assert {one["stopped"] for one in (data if "," in unit else [data])} <= {"seconds", "complete"}


def test_epo_takes_one_unit(command_: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command_(unit="3,5", method="epo", model="no such model")) == 2
    assert "--method epo brings back the front of one unit" in capsys.readouterr().err
