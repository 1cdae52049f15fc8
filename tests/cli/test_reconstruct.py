"""The room cli.reconstruct."""

import argparse

import pytest

from tl_dream import DreamError
from tl_dream.cli import reconstruct as cli_reconstruct
from tl_dream.cli.options import Parser


def test_layers_on_the_command_line():
    assert cli_reconstruct.layers("all") == "all" and cli_reconstruct.layers("0,3") == [0, 3]
    with pytest.raises(argparse.ArgumentTypeError):
        cli_reconstruct.layers("0;3")
    made = Parser(prog="tl-dream")
    cli_reconstruct.add_commands(made.add_subparsers(required=True))
    assert made.parse_args(["reconstruct", "--text", "a"]).layers == "all"
    with pytest.raises(DreamError):
        made.parse_args(["reconstruct"])
