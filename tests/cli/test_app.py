"""The command line: what it prints and writes, and the one line a mistake gets."""

import logging
import os
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from tests.support.cli import complaint
from tl_dream import DreamError, cli
from tl_dream.cli import app
from tl_dream.cli.options import Given

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "no/such-model"}, "unknown model 'no/such-model'; nearest: "),
        ({"hook": "blok_out"}, "unknown hook 'blok_out'; nearest: block_out"),
        ({"layer": 99}, "layer 99 does not exist: "),
        ({"layer": None}, "the hook 'block_out' is one of every layer: give layer="),
        ({"layer": "two"}, "Invalid value for '--layer': 'two' names no layer"),
        ({"unit": 24}, "unit 24 does not exist: the hook 'block_out' has units 0 to 23"),
        ({"unit": None}, "needs unit=: which of the 24 units"),
        ({"hook": "z", "head": 4, "unit": 0}, "head 4 does not exist: the hook 'z' has heads 0 to 3"),
        ({"hook": "pattern", "head": 0, "unit": None}, "an attention pattern needs key= (the position attended to)"),
        ({"pos": 8}, "position 8 is outside the sentence of 8 tokens: 0 [CLS], 1 the, 2 red"),
        ({"pos": -9}, "position -9 is outside the sentence of 8 tokens"),
        ({"pos": "dogs"}, "the word 'dogs' is not in the sentence; nearest: dog"),
        ({"pos": "the"}, "the word 'the' is in the sentence 2 times, at positions 1, 5: give the position"),
        ({"pos": ",,"}, "Invalid value for '--pos': ',,' names no position"),
        ({"pos": "1::0"}, "Invalid value for '--pos': the slice '1::0' has step 0"),
        ({"key": "1,2"}, "Invalid value for '--key': '1,2' is not one position or word"),
        ({"free": "kickshaw"}, "the word 'kickshaw' is not in the sentence"),
        ({"free": "6:2"}, "holds no position of the sentence"),
        ({"free": "1,2:"}, "Invalid value for '--free': in '1,2:' a slice stands in a list"),
        ({"text": ""}, "is empty or holds special tokens only"),
        ({"text": "[CLS] [SEP]"}, "is empty or holds special tokens only"),
        ({"text": "dog " * 40}, "the sentence has 42 tokens with its special ones, the model reads 32: shorten it"),
        ({"text": None}, "no sentence to start from: give --text"),
        ({"steps": 0}, "steps = 0: give a whole number of at least 1"),
        ({"starts": 0}, "starts = 0: give a whole number from 1 to 100000"),
        ({"method": "aneal"}, "unknown method 'aneal'; nearest: anneal"),
        ({"preset": "articel"}, "unknown preset 'articel'; nearest: article"),
        ({"schedule": "linaer"}, "unknown temperature schedule 'linaer'; nearest: linear"),
        ({"start": "sentense"}, "unknown start 'sentense'; nearest: sentence"),
        ({"backend": "hoked"}, "Invalid value for '--backend': unknown backend 'hoked'; nearest: hooked"),
        ({"allowed": "asci"}, "unknown allowed-token rule 'asci'; nearest: ascii"),
        ({"allowed": "@nowhere.txt"}, "Invalid value for '--allowed': can't read 'nowhere.txt': No such file"),
        ({"candidates": 1}, "candidates = 1: give at least 2"),
        ({"device": "gpu0"}, "device 'gpu0' is not available on this machine"),
        ({"hook": None}, "say what to look for: either --hook"),
        ({"token": "cat"}, "say what to look for: either --hook"),
        ({"hook": None, "token": "cat"}, "--layer and --unit go with --hook, not with --token"),
        ({"hook": None, "layer": None, "unit": None, "token": "xyzzyx"}, "'xyzzyx' is not one token of this vocab"),
        ({"json": "nowhere/a.json"}, "the folder 'nowhere' does not exist: create it first"),
        ({"json": "."}, "'.' is a folder: give the name of a file in it"),
        ({"figure": "a.jpeg"}, "unknown figure format '.jpeg'; nearest: "),
        ({"figure": "nowhere/a.png"}, "the folder 'nowhere' does not exist: create it first"),
        ({"json": "a.png", "figure": "./a.png"}, "is given for two outputs"),
        (
            {"stepz": 3},
            "No such option: --stepz (Possible options: --seed, --steps, --text) (see `tl-dream dream --help`)",
        ),
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
        (["--temperature", "1"], "Option '--temperature' requires 2 arguments"),
        (["--log-prob"], "--log-prob goes with --token, not with --hook"),
    ],
)
def test_more_mistakes(command, capsys, more, message):
    assert message in complaint(capsys, command(*more))


def test_a_folder_without_a_checkpoint(tmp_path, capsys):
    message = complaint(capsys, ["hooks", "--model", str(tmp_path)])
    assert "config.json" in message


def test_ctrl_c_ends_without_a_traceback(command, capsys, monkeypatch):
    def stop(given: Given) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Given, "load", stop)
    assert cli.main(command()) == 130
    assert capsys.readouterr().err == "tl-dream: interrupted\n"


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


def lines(capsys: pytest.CaptureFixture[str], *argv: object) -> list[str]:
    assert cli.main(["units", *map(str, argv)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.splitlines()


def test_units_counts_what_there_is(tiny_folder, backend, capsys):
    model = ["--model", tiny_folder, "--backend", backend]
    head, *rows = lines(capsys, *model)
    assert head.split() == ["hook", "layers", "units"]
    cells = {row.split()[0]: row.split()[1:] for row in rows}
    assert cells["block_out"] == ["0-2", "24"] and cells["mlp_post"] == ["0-2", "40"] and cells["embed"] == ["24"]
    assert cells["z"] == ["0-2", "24", "4", "heads", "of", "6"] and "pattern" not in cells
    assert [row.split() for row in lines(capsys, *model, "--hook", "mlp_p*", "--layer", 1)[1:]] == [
        ["mlp_pre", "1", "40"],
        ["mlp_post", "1", "40"],
    ]
    assert "unknown hook 'mlp_pst'; nearest: mlp_post" in complaint(
        capsys, ["units", *map(str, model), "--hook", "mlp_pst"]
    )


def test_units_writes_them_out_as_other_commands_take_them(tiny_folder, backend, capsys, tmp_path):
    model = ["--model", tiny_folder, "--backend", backend]
    words = lines(capsys, *model, "--hook", "z", "--layer", "0,2", "--unit", "3,23")
    assert words == [f"--hook z --layer {layer} --unit {unit}" for layer in (0, 2) for unit in (3, 23)]
    assert lines(capsys, *model, "--hook", "full_embed", "--unit", "0:2") == [
        f"--hook full_embed --unit {unit}" for unit in (0, 1)
    ]
    drawn = lines(capsys, *model, "--sample", 5)
    assert len(set(drawn)) == 5 and drawn == lines(capsys, *model, "--sample", 5)
    assert drawn != lines(capsys, *model, "--sample", 5, "--seed", 1)
    (tmp_path / "c.txt").write_text("the red dog", "utf-8")
    for line in (words[0], drawn[0]):
        assert cli.main(["corpus", str(tmp_path / "c.txt"), *map(str, model), *line.split()]) == 0
        capsys.readouterr()
    argv = ["units", *map(str, model), "--hook", "z", "--unit"]
    assert "there is no such unit" in complaint(capsys, [*argv, "24"])
    assert len(lines(capsys, *argv[1:], "2:9", "--sample", 4)) == 4


@pytest.mark.slow
@pytest.mark.minilm
def test_demo(minilm, capsys, tmp_path):
    threads = torch.get_num_threads()
    assert cli.main(["demo", "--out", str(tmp_path / "new")]) == 0
    assert torch.get_num_threads() == threads
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


def test_quiet_hushes_and_puts_everything_back(monkeypatch, recwarn, capsys):
    monkeypatch.setenv("MPLBACKEND", "svg")
    monkeypatch.delenv("TRANSFORMERS_VERBOSITY", raising=False)
    before, disabled, filters = dict(os.environ), logging.root.manager.disable, list(warnings.filters)
    with pytest.raises(DreamError), app.quiet():
        assert os.environ["MPLBACKEND"] == "Agg"
        warnings.warn("chatter", UserWarning, stacklevel=1)
        logging.getLogger("transformers").error("chatter")
        raise DreamError("x")
    assert dict(os.environ) == before
    assert logging.root.manager.disable == disabled and list(warnings.filters) == filters
    assert len(recwarn) == 0 and "chatter" not in capsys.readouterr().err


def test_help_and_version(capsys):
    assert cli.main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in ("dream", "hooks", "demo"))
    assert cli.main(["dream", "--help"]) == 0
    out = capsys.readouterr().out
    named = "model hook layer unit pos text free method preset steps starts seed backend json figure".split()
    assert all(f"--{name}" in out for name in named)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == (
        f"tl-dream {version('tl-dream')} (transformer-lens {version('transformer-lens')}, torch {version('torch')})\n"
    )


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
    hooks = f"{sys.executable} -m tl_dream hooks --model {tiny_folder} --backend {backend}"
    done = subprocess.run(
        ["bash", "-c", f"{hooks} | head -1; exit ${{PIPESTATUS[0]}}"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["hook", "shape", "short", "name"]


@pytest.mark.slow
def test_nothing_but_the_result_is_printed(command):
    done = subprocess.run([sys.executable, "-m", "tl_dream", *command()], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("neuron('block_out', layer=1, unit=3, pos=2) on ")
