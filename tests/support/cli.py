"""What the tests of several rooms share: cli."""

from collections.abc import Callable

import pytest

from tl_dream import cli

TEXT = "the red dog and the sun"


Command = Callable[..., list[str]]


def complaint(capsys: pytest.CaptureFixture[str], argv: list[str]) -> str:
    """What a mistake prints, without the name of the program; checks everything else about it."""
    capsys.readouterr()  # transformers prints while a test writes a checkpoint
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tl-dream: ") and err.endswith("\n") and err.count("\n") == 1, err
    assert "Traceback" not in err
    return err[len("tl-dream: ") : -1]


CONCEPT_TEXT = "the dog can see she run"


Run = Callable[..., str]
