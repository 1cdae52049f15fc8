"""`tl-dream reconstruct`: what its words mean. (What it prints: tests/reconstruction/test_layers.py.)"""

from functools import partial

import pytest

from tl_dream import DreamError
from tl_dream.cli import app, options


def test_layers_on_the_command_line() -> None:
    assert options.layers("all") == "all" and options.layers("0,3") == [0, 3] and options.layers("0:3") == [0, 1, 2]
    with pytest.raises(DreamError):
        options.layers("0;3")
    work = app.parse(["reconstruct", "--text", "a"])
    assert isinstance(work, partial) and work.args[1].layers == "all"
    with pytest.raises(DreamError, match="Missing option '--text'"):
        app.parse(["reconstruct"])
