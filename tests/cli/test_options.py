"""The room cli.options."""

import os
from functools import partial

import pytest

from tests.conftest import says
from tests.support.cli import complaint
from tl_dream import DreamError, cli
from tl_dream.cli import options as cli_options
from tl_dream.cli import output
from tl_dream.cli.options import Given
from tl_dream.concepts.estimators import ESTIMATORS
from tl_dream.concepts.examples import TEMPLATES
from tl_dream.dreaming import METHODS
from tl_dream.dreaming.soft_input import SCHEDULES
from tl_dream.models import PRECISIONS
from tl_dream.models.hooks import SHORT_NAMES
from tl_dream.reconstruction import reconstruction
from tl_dream.scans.tokens import METRICS

LONG = "x" * 300


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "Missing command: give one of dream, "),
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
    monkeypatch.setattr(Given, "goals", lambda given: seen.append(given) or (_ for _ in ()).throw(DreamError("seen")))
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


@pytest.mark.parametrize("text", ["", ",,", "1,", ",1", "1,2:", "1,-3:-1", "1::0", "1,0:99999999999", "9" * 5000])
def test_positions_that_are_none(text):
    with pytest.raises(DreamError):
        cli_options.positions(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,0:99999999999", "a number in '1,0:99999999999' is above 10,000,000: no model has so many"),
        ("9" * 5000, "9" * 40 + "... is too long for a number or a word"),
    ],
)
def test_numbers_that_no_model_has(text, message):
    with says(message):
        cli_options.positions(text)


def test_an_option_is_no_value_of_another(capsys):
    told = complaint(capsys, ["corpus", "x.txt", "--hook", "z", "--json", "--quiet"])
    assert told == "--json takes a value, and --quiet is the next option"


@pytest.mark.parametrize(("text", "found"), [("3", [3]), ("3,5", [3, 5]), ("0:3,7", [0, 1, 2, 7]), ("-1", [-1])])
def test_units_by_number(text, found):
    assert cli_options.numbers(text) == found


@pytest.mark.parametrize("text", ["", "a", "1,", "2:", ":", "1.5", "all"])
def test_units_that_are_none(text):
    with pytest.raises(DreamError):
        cli_options.numbers(text)


def test_several_layers_and_units_are_an_objective_each():
    common = {"pos": 2, "key": None, "reduce": "max", "token": None, "log_prob": False}
    given = Given(hook="z", layer=[0, 2], head=[1], unit=[3, 4], **common)
    made = [f"neuron('z', layer={layer}, head=1, unit={unit}, pos=2)" for layer in (0, 2) for unit in (3, 4)]
    assert [repr(goal) for goal in given.goals()] == made
    with pytest.raises(DreamError, match="4 units are named: this command takes one"):
        given.goal()


def completed(monkeypatch, capsys, *typed: str) -> set[str]:
    """What the shell would offer."""
    monkeypatch.setenv("_TL_DREAM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", " ".join(["tl-dream", *typed]))
    monkeypatch.setenv("COMP_CWORD", str(len(typed)))
    with pytest.raises(SystemExit) as left:
        cli.main([])
    assert left.value.code == 0
    return set(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("command", "name", "known"),
    [
        ("dream", "method", METHODS),
        ("dream", "schedule", SCHEDULES),
        ("token-search", "precision", PRECISIONS),
        ("similar", "metric", METRICS),
        ("reconstruct", "method", reconstruction.METHODS),
        ("concept fit", "estimator", ESTIMATORS),
        ("concept fit", "templates", TEMPLATES),
    ],
)
def test_choices_are_those_of_the_library(command, name, known, monkeypatch, capsys):
    assert completed(monkeypatch, capsys, *command.split(), f"--{name}", "") == set(known)


def test_hooks_to_complete_are_those_of_the_library():
    assert set(cli_options.HOOKS) == set(SHORT_NAMES)


def test_the_shell_completes_commands_options_and_hooks(monkeypatch, capsys):
    offered = partial(completed, monkeypatch, capsys)
    assert offered("tok") == {"token-search"} and {"dream", "units", "concept"} <= offered("")
    assert offered("corpus", "a.txt", "--hook", "mlp") == {"mlp_pre", "mlp_post", "mlp_out"}
    assert offered("concept", "fit", "--posi") == {"--positives", "--positive-pos"}
