"""The command line: what it prints and writes, and the one line a mistake gets."""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tl_dream import DreamError, cli, cli_dream, cli_options
from tl_dream.results import Dream

TEXT = "the red dog and the sun"
QUICK = ["--steps", "4"]
ROOT = Path(__file__).resolve().parents[1]

Command = Callable[..., list[str]]


@pytest.fixture
def command(tiny_folder: Path, backend: str) -> Command:
    """`command(pos="2", json=path)` is a whole `dream` command on the tiny encoder; None leaves an option out."""

    def make(*more: str, **options: object) -> list[str]:
        chosen: dict[str, object] = {
            "model": tiny_folder,
            "backend": backend,
            "hook": "block_out",
            "layer": 1,
            "unit": 3,
            "pos": 2,
            "text": TEXT,
            "steps": 4,
            **options,
        }
        pairs = [f"--{key.replace('_', '-')}={value}" for key, value in chosen.items() if value is not None]
        return ["dream", *pairs, *more]

    return make


def complaint(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """What a mistake prints, without the name of the program; checks everything else about it."""
    capsys.readouterr()  # transformers prints while a test writes a checkpoint
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tl-dream: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err[len("tl-dream: ") : -1]


# ---------------------------------------------------------------- dream


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
        model, goal, TEXT, steps=4, seed=3, starts=2, candidates=30, temperature=(1.5, 0.2), progress=False
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
    wanted |= {"learning_rate": 0.25, "candidates": None, "preset": "article", "steps": 4, "normalize": True}
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


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "no/such-model"}, "unknown model 'no/such-model'; nearest: "),
        ({"hook": "blok_out"}, "unknown hook 'blok_out'; nearest: block_out"),
        ({"layer": 99}, "layer 99 does not exist: "),
        ({"layer": None}, "the hook 'block_out' is one of every layer: give layer="),
        ({"layer": "two"}, "argument --layer: invalid int value: 'two'"),
        ({"unit": 24}, "unit 24 does not exist: the hook 'block_out' has units 0 to 23"),
        ({"unit": None}, "needs unit=: which of the 24 units"),
        ({"hook": "z", "head": 4, "unit": 0}, "head 4 does not exist: the hook 'z' has heads 0 to 3"),
        ({"hook": "pattern", "head": 0, "unit": None}, "an attention pattern needs key= (the position attended to)"),
        ({"pos": 8}, "position 8 is outside the sentence of 8 tokens: 0 [CLS], 1 the, 2 red"),
        ({"pos": -9}, "position -9 is outside the sentence of 8 tokens"),
        ({"pos": "dogs"}, "the word 'dogs' is not in the sentence; nearest: dog"),
        ({"pos": "the"}, "the word 'the' is in the sentence 2 times, at positions 1, 5: give the position"),
        ({"pos": ",,"}, "argument --pos: ',,' names no position"),
        ({"pos": "1::0"}, "argument --pos: the slice '1::0' has step 0"),
        ({"key": "1,2"}, "argument --key: '1,2' is not one position or word"),
        ({"free": "kickshaw"}, "the word 'kickshaw' is not in the sentence"),
        ({"free": "6:2"}, "holds no position of the sentence"),
        ({"free": "1,2:"}, "argument --free: in '1,2:' a slice stands in a list"),
        ({"text": ""}, "is empty or holds special tokens only"),
        ({"text": "[CLS] [SEP]"}, "is empty or holds special tokens only"),
        ({"text": "dog " * 40}, "the sentence has 42 tokens with its special ones, the model reads 32: shorten it"),
        ({"text": None}, "no sentence to start from: give --text"),
        ({"steps": 0}, "steps = 0: give a whole number of at least 1"),
        ({"starts": 0}, "starts = 0: give a whole number of at least 1"),
        ({"method": "aneal"}, "unknown method 'aneal'; nearest: anneal"),
        ({"preset": "articel"}, "unknown preset 'articel'; nearest: article"),
        ({"schedule": "linaer"}, "unknown temperature schedule 'linaer'; nearest: linear"),
        ({"start": "sentense"}, "unknown start 'sentense'; nearest: sentence"),
        ({"backend": "hoked"}, "argument --backend: invalid choice: 'hoked'"),
        ({"allowed": "asci"}, "unknown allowed-token rule 'asci'; nearest: ascii"),
        ({"allowed": "@nowhere.txt"}, "argument --allowed: can't read the tokens in 'nowhere.txt': No such file"),
        ({"candidates": 1}, "candidates = 1: give at least 2"),
        ({"device": "gpu0"}, "the device 'gpu0' can't be used here"),
        ({"hook": None}, "say what to look for: either --hook"),
        ({"token": "cat"}, "say what to look for: either --hook"),
        ({"hook": None, "token": "cat"}, "--layer and --unit go with --hook, not with --token"),
        ({"hook": None, "layer": None, "unit": None, "token": "xyzzyx"}, "'xyzzyx' is not one token of this vocab"),
        ({"json": "nowhere/a.json"}, "the folder 'nowhere' does not exist: create it first"),
        ({"json": "."}, "'.' is a folder: give the name of a file in it"),
        ({"figure": "a.jpeg"}, "unknown figure format '.jpeg'; nearest: "),
        ({"figure": "nowhere/a.png"}, "the folder 'nowhere' does not exist: create it first"),
        ({"json": "a.png", "figure": "./a.png"}, "is given for two outputs"),
        ({"stepz": 3}, "unrecognized arguments: --stepz=3; nearest: --steps"),
    ],
)
def test_a_mistake_gets_one_clear_line(command, capsys, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    assert message in complaint(capsys, command(**options))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--temperature", "0", "0.1"], "is not a temperature: it must be > 0"),
        (["--temperature", "1"], "argument --temperature: expected 2 arguments"),
        (["--log-prob"], "--log-prob goes with --token, not with --hook"),
    ],
)
def test_more_mistakes(command, capsys, more, message):
    assert message in complaint(capsys, command(*more))


def test_an_untrained_head_refuses(tiny_checkpoint, backend, capsys):
    argv = ["dream", "--model", str(tiny_checkpoint("BertModel")), "--backend", backend, "--token", "cat"]
    message = complaint(capsys, [*argv, "--pos", "2", "--text", TEXT])
    assert "lies behind the language-model head" in message


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND (see `tl-dream --help`)"),
        (["dreem"], "argument COMMAND: invalid choice: 'dreem'"),
        (["hooks", "--model", "no/such-model"], "unknown model 'no/such-model'"),
        (["dream", "--model", "/nowhere/at/all", "--hook", "embed", "--unit", "1", "--text", "a"], "unknown model"),
        (["demo", "--out", "/dev/null/x"], "the folder '/dev/null/x' can't be made"),
    ],
)
def test_mistakes_before_any_model(capsys, argv, message):
    assert message in complaint(capsys, argv)


def test_a_folder_without_a_checkpoint(tmp_path, capsys):
    message = complaint(capsys, ["hooks", "--model", str(tmp_path)])
    assert "config.json" in message


@pytest.mark.parametrize("option", ["--json", "--figure"])
def test_outputs_are_checked_before_the_model_loads(command, capsys, monkeypatch, option):
    def never(arguments: argparse.Namespace) -> None:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(cli_dream, "load", never)
    assert "'nowhere' does not exist: create it first" in complaint(capsys, [*command(), f"{option}=nowhere/a.png"])


def test_a_failed_run_leaves_an_old_file_alone(command, capsys, tmp_path):
    path = tmp_path / "a.json"
    path.write_text("precious")
    complaint(capsys, command(json=path, unit=99))
    assert path.read_text() == "precious"


def poisoned(folder: Path, tensor: str, row: int | None = None) -> None:
    """Make one tensor of a checkpoint NaN, or one row of it."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    name = next(key for key in weights if key.endswith(tensor))
    weights[name][slice(None) if row is None else row] = torch.nan
    save_file(weights, file, metadata={"format": "pt"})


def test_nan_on_the_way_writes_the_result_so_far(tiny_checkpoint, backend, capsys, tmp_path):
    from transformers import AutoTokenizer

    folder = tiny_checkpoint("BertModel", seed=5)
    poisoned(folder, "word_embeddings.weight", AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("fish"))
    path = tmp_path / "a.json"
    argv = ["dream", "--model", str(folder), "--backend", backend, "--hook", "block_out", "--layer", "1"]
    argv += ["--unit", "3", "--pos", "2", "--text", TEXT, "--steps", "4", "--candidates", "0", "--json", str(path)]
    message = complaint(capsys, argv)
    assert "nan" in message and f"The result so far is in {str(path)!r}" in message
    data = json.loads(path.read_text("utf-8"))
    assert data["kind"] == "dream" and data["stopped"] == "failure"
    assert data["best"]["text"] == TEXT and data["best"]["score"] == data["start"]["score"] is not None


def test_nan_at_the_start_is_written_as_null(tiny_checkpoint, backend, capsys, tmp_path):
    folder = tiny_checkpoint("BertModel", seed=6)
    poisoned(folder, "layer.1.output.LayerNorm.bias")
    path = tmp_path / "a.json"
    argv = ["dream", "--model", str(folder), "--backend", backend, "--hook", "block_out", "--layer", "1"]
    argv += ["--unit", "3", "--pos", "2", "--text", TEXT, "--steps", "4"]
    assert "nan" in complaint(capsys, argv)
    assert "nan" in complaint(capsys, [*argv, "--json", str(path)])
    assert json.loads(path.read_text("utf-8"))["start"]["score"] is None


def test_ctrl_c_ends_without_a_traceback(command, capsys, monkeypatch):
    def stop(arguments: argparse.Namespace) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_dream, "load", stop)
    assert cli.main(command()) == 130
    assert capsys.readouterr().err == "tl-dream: interrupted\n"


# ---------------------------------------------------------------- hooks


def test_hooks_lists_every_hook_with_shape_and_short_name(tiny_folder, backend, capsys):
    import tl_dream as td

    assert cli.main(["hooks", "--model", str(tiny_folder), "--backend", backend]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    head, *rows = out[: out.index("\n\n")].split("\n")
    assert head.split() == ["hook", "shape", "short", "name"]
    model = td.load_model(str(tiny_folder), backend=backend)
    assert [row.split()[0] for row in rows] == [hook.name for hook in td.list_hooks(model)]
    at = {name: head.index(name) for name in ("shape", "short name")}
    cells = {row[at["short name"] :]: row[at["shape"] : at["short name"]].strip() for row in rows}
    assert cells["block_out, layer=2"] == "batch, pos, 24"
    assert cells["pattern, layer=0"] == "batch, 4, pos, pos"
    assert cells["mlp_post, layer=1"] == "batch, pos, 40"
    assert cells["embed"] == "batch, pos, 24"
    assert f"{len(rows)} hooks of {tiny_folder} ({type(model).__name__})" in out
    assert "refused" not in out


def test_hooks_can_be_filtered(tiny_folder, backend, capsys):
    argv = ["hooks", "--model", str(tiny_folder), "--backend", backend, "--filter"]
    assert cli.main([*argv, "block_out"]) == 0
    out = capsys.readouterr().out
    assert out.count("block_out, layer=") == 3 and "\n3 hooks of" in out
    assert "has 'nothing' in its name" in complaint(capsys, [*argv, "nothing"])


def test_hooks_says_what_is_untrained(tiny_checkpoint, backend, capsys):
    assert cli.main(["hooks", "--model", str(tiny_checkpoint("BertModel")), "--backend", backend]) == 0
    assert (
        "refused, because the checkpoint does not carry them: the hooks behind the language" in capsys.readouterr().out
    )


# ---------------------------------------------------------------- demo


@pytest.mark.slow
@pytest.mark.minilm
def test_demo(minilm, capsys, tmp_path):
    assert cli.main(["demo", "--out", str(tmp_path / "new")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "start" in out and "best" in out and "forward-tokens" in out
    names = ["tl_dream_figure1.png", "tl_dream_figure2.png"]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == names
    for name in names:
        assert f"wrote {tmp_path / 'new' / name}" in out
        assert (tmp_path / "new" / name).read_bytes().startswith(b"\x89PNG")
    start, best = (float(line.split()[1]) for line in out.split("\n") if line.startswith(("start ", "best ")))
    assert start == pytest.approx(2.584, abs=1e-3) and best > start + 0.5


# ---------------------------------------------------------------- parsing, quiet


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3", 3),
        ("-2", -2),
        ("+1", 1),
        ("hate", "hate"),
        ("##s", "##s"),
        ("2:5", slice(2, 5)),
        (":-1", slice(None, -1)),
        ("-3:", slice(-3, None)),
        ("1:9:2", slice(1, 9, 2)),
        ("1,2,hate", [1, 2, "hate"]),
        ("1, -2", [1, -2]),
        ("1,3:6", [1, 3, 4, 5]),
        ('"1998"', "1998"),
        ('"2:5",-1', ["2:5", -1]),
        ('"a,b"', "a,b"),
        (",", ","),
        (":", ":"),
        ('"', '"'),
        ("'", "'"),
        ("don't", "don't"),
        ("all", "all"),
    ],
)
def test_positions(text, expected):
    assert cli_options.positions(text) == expected


@pytest.mark.parametrize("text", ["", ",,", "1,", ",1", "1,2:", "1,-3:-1", "1::0"])
def test_positions_that_are_none(text):
    with pytest.raises(argparse.ArgumentTypeError):
        cli_options.positions(text)


@pytest.mark.parametrize(
    "arguments",
    [
        "dream --hook z --start {file} --json {file}",
        "dream --hook z --text x --fluency 1 --judge {file} --figure {file}",
        "dream --hook z --text x --allowed @{file} --json {file}",
        "reconstruct --text x --allowed @{file} --figure {file}",
        "corpus {file} --hook z --checkpoint {file}",
        "concept fit --positives {file} --negatives other --out {file}",
        "concept fit --positives other --negatives {file} --out she --figure {file}",
        "concept edit --concept {file} --text x --pos 1 --json {file}",
        "concept edit --concept other --text x --pos 1 --allowed @{file} --dose-figure {file}",
        "concept steer --concept {file} --text x --pos 1 --json {file}",
        "concept classify --concept {file} --text x --json {file}",
    ],
)
def test_no_command_writes_over_what_it_reads(arguments: str, capsys, tmp_path):
    file = tmp_path / "both.png"
    file.write_text("i walk")
    told = complaint(capsys, arguments.format(file=file).split())
    assert "which is read: it would be written over; give another one" in told
    assert file.read_text() == "i walk"


def test_join_negatives():
    given = ["--pos", "-3:-1", "--free", "-3,-2", "--text", "-a", "--pos", "-2", "-1,2"]
    assert cli_options.join_negatives(given) == [
        *("--pos=-3:-1", "--free=-3,-2", "--text", "-a", "--pos", "-2", "-1,2"),
    ]


def test_quiet_hushes_and_puts_everything_back(monkeypatch, recwarn, capsys):
    monkeypatch.setenv("MPLBACKEND", "svg")
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    before, disabled, filters = dict(os.environ), logging.root.manager.disable, list(warnings.filters)
    with pytest.raises(DreamError), cli.quiet():
        assert os.environ["MPLBACKEND"] == "Agg"
        warnings.warn("chatter", UserWarning, stacklevel=1)
        logging.getLogger("transformers").error("chatter")
        raise DreamError("x")
    assert dict(os.environ) == before
    assert logging.root.manager.disable == disabled and list(warnings.filters) == filters
    assert len(recwarn) == 0 and "chatter" not in capsys.readouterr().err


def test_one_thread_puts_the_threads_back():
    before = torch.get_num_threads()
    with pytest.raises(DreamError), cli.one_thread():
        assert torch.get_num_threads() == 1
        raise DreamError("x")
    assert torch.get_num_threads() == before


def test_help_and_version(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("dream", "hooks", "demo"))
    assert cli.main(["dream", "--help"]) == 0
    out = capsys.readouterr().out
    named = "model hook layer unit pos text free method preset steps starts seed backend json figure".split()
    assert all(f"--{name}" in out for name in named)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("tl-dream ")


def run_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)


def test_help_loads_no_heavy_library():
    heavy = "{'matplotlib', 'transformer_lens', 'transformers', 'pandas'}"
    done = run_process(
        f"import sys; from tl_dream.cli import main; main(['--help']); print({heavy} & set(sys.modules))"
    )
    assert done.returncode == 0 and done.stdout.endswith("set()\n"), done.stdout + done.stderr


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(tiny_folder, backend):
    hooks = f"{sys.executable} -m tl_dream.cli hooks --model {tiny_folder} --backend {backend}"
    done = subprocess.run(
        ["bash", "-c", f"{hooks} | head -1; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["hook", "shape", "short", "name"]


@pytest.mark.slow
def test_nothing_but_the_result_is_printed(command):
    done = subprocess.run([sys.executable, "-m", "tl_dream.cli", *command()], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("neuron('block_out', layer=1, unit=3, pos=2) on ")
