"""What the tests of several rooms share: cli."""

import argparse
from collections.abc import Callable

import pytest

from tl_dream import cli
from tl_dream.cli import concepts as cli_concepts
from tl_dream.cli.options import Parser

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


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="tl-dream")
    cli_concepts.add_commands(made.add_subparsers(required=True))
    return made
