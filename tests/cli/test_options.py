"""The room cli.options."""

import os

import pytest

from tests.support.cli import complaint
from tl_dream import DreamError, cli
from tl_dream.cli import options as cli_options
from tl_dream.cli import output
from tl_dream.cli.options import Given

LONG = "x" * 300


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Missing command: give one of dream, corpus, "),
        (["dreem"], "No such command 'dreem'. Did you mean 'dream', 'demo'? (see `tl-dream --help`)"),
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
    def never(given: Given) -> None:
        raise AssertionError("the model was loaded first")

    monkeypatch.setattr(Given, "load", never)
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
    output.check_outputs(os.devnull, (), [str(tmp_path / "null.png")], ())


def test_a_negative_number_needs_no_equals_sign(monkeypatch):
    seen = []
    monkeypatch.setattr(Given, "goal", lambda given: seen.append(given) or (_ for _ in ()).throw(DreamError("seen")))
    argv = ["dream", "--pos", "-3:-1", "--free", "-3,-2", "--text", "-a", "--key", "-2", "--fluency", "-1"]
    assert cli.main(argv) == 2
    (given,) = seen
    assert (given.pos, given.free, given.text) == (slice(-3, -1), [-3, -2], ["-a"])
    assert (given.key, given.fluency) == (-2, -1.0)


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
    with pytest.raises(DreamError):
        cli_options.positions(text)
