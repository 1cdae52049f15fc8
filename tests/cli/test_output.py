"""The room cli.output: files first, then the result; nothing that was found is lost."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tl_dream as td
from tests.support.cli import TEXT, Command
from tl_dream import cli
from tl_dream.cli import output
from tl_dream.models.host import Meter

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def backend() -> str:
    """One will do."""
    return "auto"


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ctrl-C after so many passes of the model, and again where there is a second number."""
    after: list[int] = []
    add, count = Meter.add, [0]

    def counted(*given: Any, **named: Any) -> None:
        add(*given, **named)
        count[0] += 1
        if count[0] in after:
            raise KeyboardInterrupt

    monkeypatch.setattr(Meter, "add", counted)
    return after


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    words = "red blue green big small old new good bad happy sad warm".split()
    path.write_text("\n".join(f"the {a} {b} {c} dog" for a in words for b in words for c in words))
    return path


GOAL = "--hook=block_out --layer=1 --unit=3 --pos=2"


@pytest.mark.parametrize(
    ("after", "arguments"),
    [
        (30, f"dream {GOAL} --budget=3000"),
        (12, f"dream {GOAL} --steps=20"),
        (12, f"dream {GOAL} --method=epo --budget=9000"),
        (20, f"token-search {GOAL} --top=3"),
        (5, f"corpus {{lines}} {GOAL}"),
        (5, f"corpus {{lines}} {GOAL} --unit=3,5"),
        (60, f"dream {GOAL} --unit=3,5 --budget=9000"),
        (45, "reconstruct --layers=0,1 --budget=60"),
    ],
)
def test_ctrl_c_prints_and_saves_the_best_so_far(
    tiny_folder: Path,
    lines: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    interrupted: list[int],
    after: int,
    arguments: str,
) -> None:
    interrupted.append(after)
    data, figure = tmp_path / "found.json", tmp_path / "found.png"
    text = [] if arguments.startswith("corpus") else [f"--text={TEXT}"]
    argv = [*arguments.format(lines=lines).split(), *text, f"--model={tiny_folder}"]
    assert cli.main([*argv, f"--json={data}", f"--figure={figure}"]) == 130
    out, err = capsys.readouterr()
    found = json.loads(data.read_text("utf-8"))
    several = "--unit=3,5" in arguments
    figures = [figure.with_stem(f"found-{number}") for number in (1, 2)] if several else [figure]
    written = "".join(f"wrote {path}\n" for path in (data, *figures))
    assert err == "tl-dream: interrupted\n" and out.endswith(f"\n{written}")
    for one, path in zip(found if several else [found], figures, strict=True):
        assert one["stopped"] == "interrupted" and "interrupted" in out
        assert path.read_bytes().startswith(b"\x89PNG")


def test_an_error_of_any_kind_saves_the_best_so_far(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    add, left = Meter.add, [30]

    def counted(*given: Any, **named: Any) -> None:
        add(*given, **named)
        left[0] -= 1
        if not left[0]:
            raise ZeroDivisionError

    monkeypatch.setattr(Meter, "add", counted)
    data = tmp_path / "found.json"
    with pytest.raises(ZeroDivisionError):
        cli.main(command(steps=None, budget=3000, json=data))
    found = td.Dream.load(data)
    assert found.stopped == "failure" and found.gain > 0
    assert found.best.text in capsys.readouterr().out


def test_a_second_ctrl_c_ends_it(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], interrupted: list[int]
) -> None:
    interrupted += [30, 31]
    assert cli.main(command(steps=None, budget=3000, json=tmp_path / "a.json")) == 130
    assert capsys.readouterr().err == "tl-dream: interrupted\n"


def test_ctrl_c_while_a_figure_is_drawn_prints_the_result(
    command: Command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tl_dream.plotting.save_figure", stop)
    data = tmp_path / "a.json"
    assert cli.main(command(json=data, figure=tmp_path / "a.png")) == 130
    assert capsys.readouterr().out == f"{td.Dream.load(data)}\nwrote {data}\n"


def test_json_on_stdout_stands_alone_there(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.main(command(json="-", figure=tmp_path / "a.png")) == 0
    out, err = capsys.readouterr()
    assert err == f"{td.Dream.from_json(json.loads(out))}\nwrote {tmp_path / 'a.png'}\n"
    assert cli.main(command(json="-", figure="-")) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == "tl-dream: only --json takes - for stdout: give the name of a file\n"


def test_quiet_leaves_the_result_alone(command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = tmp_path / "a.json"
    assert cli.main(command("--quiet", json=data)) == 0
    assert capsys.readouterr() == (f"{td.Dream.load(data)}\n", "")


def test_progress_where_stderr_is_no_terminal(
    command: Command, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line every few seconds, and none with --quiet; nothing on stdout, and stderr is as it was."""
    monkeypatch.setattr(output, "EVERY", 0.0)
    before = sys.stderr
    for argv, shown in ((command(steps=40), True), (command("-q", steps=40), False)):
        assert cli.main(argv) == 0
        out, err = capsys.readouterr()
        assert "\r" not in err and "dream:" not in out
        assert all(re.match(r"dream: +\d+%\|", line) for line in err.splitlines()) and bool(err) == shown
    assert sys.stderr is before


def test_lines_of_progress_come_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(output, "EVERY", 5.0)
    stream = io.StringIO()
    lines = output.Lines(stream)
    for second in range(13):
        now[0] = float(second)
        lines.write(f"\rdream: {second}")
        lines.write("\r    \r")
    lines.write("a word\n")
    assert stream.getvalue() == "dream: 5\ndream: 10\na word\n"
    output.Lines(None).write("to nowhere")


class Out(io.TextIOWrapper):
    """A stdout whose writes end in an error, if there is one."""

    def __init__(self, encoding: str, error: OSError | None = None) -> None:
        self.raw_bytes, self.error = io.BytesIO(), error
        super().__init__(self.raw_bytes, encoding=encoding)

    def flush(self) -> None:
        if self.error is not None:
            raise self.error
        super().flush()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_what_stdout_has_no_letter_for_is_escaped(
    command: Command, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    out = Out(encoding)
    monkeypatch.setattr(sys, "stdout", out)
    argv = command(text="the 東 dog α")
    assert cli.main(argv) == 0
    assert b"the \\u6771 dog \\u03b1" in out.raw_bytes.getvalue()
    out.raw_bytes.truncate(0)
    assert cli.main([*argv, "--json=-"]) == 0
    assert json.loads(out.raw_bytes.getvalue().strip(b"\0").decode("utf-8"))["start"]["text"] == "the 東 dog α"


def test_where_nothing_can_be_printed(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A reader that went away and a closed stdout are no error, a full disk is; what was to be saved is."""
    data = tmp_path / "a.json"
    for stream, code in (
        (Out("utf-8", BrokenPipeError()), 0),
        (None, 0),
        (Out("utf-8", OSError(28, "No space left on device")), 2),
    ):
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.main(command(json=data)) == code
        told = f"{td.Dream.load(data)}\nwrote {data}\ntl-dream: stdout can't be written (No space left on device)\n"
        assert capsys.readouterr().err == (told if code else "")
        data.unlink()
        if stream is not None:
            stream.error = None  # it is closed when it is thrown away
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(command(json="-")) == 2
    assert capsys.readouterr().err == "tl-dream: --json -: stdout is closed\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_file_that_cannot_be_written_leaves_the_rest(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    figure = tmp_path / "a.png"
    assert cli.main(command(json="/dev/full", figure=figure)) == 2
    out, err = capsys.readouterr()
    assert "'/dev/full' can't be written (No space left on device)" in err and err.count("\n") == 1
    assert "best " in out and out.endswith(f"\nwrote {figure}\n") and figure.exists()


SENDING = """
import os, signal, sys
from tl_dream.models.host import Meter
add, count = Meter.add, []
def counted(*given, **named):
    add(*given, **named)
    count.append(1)
    if len(count) == 30:
        os.kill(os.getpid(), signal.SIGINT)
Meter.add = counted
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it
from tl_dream.cli import main
sys.exit(main())
"""


@pytest.mark.slow
def test_a_real_signal_in_a_real_process(command: Command, tmp_path: Path) -> None:
    argv = command("--quiet", steps=None, budget=30_000, json=tmp_path / "a.json")  # so that no bar is in the way
    done = subprocess.run([sys.executable, "-c", SENDING, *argv], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (130, "tl-dream: interrupted\n")
    found = td.Dream.load(tmp_path / "a.json")
    assert found.stopped == "interrupted" and found.cost.forwards > 1 and done.stdout.startswith(str(found))
