"""The room cli.values."""

import argparse

import pytest

from tl_dream.cli import options as cli_options


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
    with pytest.raises(argparse.ArgumentTypeError):
        cli_options.positions(text)
