"""What the tests of several rooms share (cli concepts)."""

import argparse
from collections.abc import Callable

from tl_dream.cli import concepts as cli_concepts
from tl_dream.cli.options import Parser

TEXT = "the dog can see she run"


Run = Callable[..., str]


def parser() -> argparse.ArgumentParser:
    made = Parser(prog="tl-dream")
    cli_concepts.add_commands(made.add_subparsers(required=True))
    return made
