"""The room cli.options."""

import argparse
import os

import pytest

from tests.support.cli import complaint
from tl_dream.cli import dream as cli_dream
from tl_dream.cli import options as cli_options

LONG = "x" * 300


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND (see `tl-dream --help`)"),
        (["dreem"], "argument COMMAND: invalid choice: 'dreem'"),
        (["hooks", "--model", "no/such-model"], "unknown model 'no/such-model'"),
        (["dream", "--model", "/nowhere/at/all", "--hook", "embed", "--unit", "1", "--text", "a"], "unknown model"),
        (["demo", "--out", "/dev/null/x"], "the folder '/dev/null/x' can't be made"),
        (["corpus", LONG, "--hook", "z"], "there is no file 'xxx"),
        (["concept", "classify", "--concept", LONG, "--text", "a"], "there is no concept file 'xxx"),
        (["dream", "--hook", "z", "--text", "a", "--json", LONG], "can't be written: File name too long"),
    ],
)
def test_mistakes_before_any_model(capsys, argv, message):
    assert message in complaint(capsys, argv)


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


def test_a_device_takes_two_outputs(tmp_path):
    (tmp_path / "null.png").symlink_to(os.devnull)
    cli_options.check_outputs(os.devnull, figures=[str(tmp_path / "null.png")])


def test_join_negatives():
    given = ["--pos", "-3:-1", "--free", "-3,-2", "--text", "-a", "--pos", "-2", "-1,2"]
    assert cli_options.join_negatives(given) == [
        *("--pos=-3:-1", "--free=-3,-2", "--text", "-a", "--pos", "-2", "-1,2"),
    ]
