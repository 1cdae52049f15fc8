"""The one public exception, and the messages its helpers build."""

import numpy
import pytest
import torch

import tl_dream as td
from tl_dream._errors import DreamError, nearest, require, unknown, whole_number


def test_dream_error_is_a_value_error_with_a_place_for_partial_results() -> None:
    assert td.DreamError is DreamError and issubclass(DreamError, ValueError)
    assert DreamError("no").partial is None
    error = DreamError("no", partial=3)
    assert (str(error), error.partial) == ("no", 3)


def test_nearest_puts_the_likest_first_and_gives_the_names_as_they_are_written() -> None:
    names = ["mlp_post", "mlp_pre", "mlp_out", "block_out", "Pattern"]
    assert nearest("mlp_pots", names)[0] == "mlp_post"
    assert nearest("PATERN", names) == ["Pattern"]
    assert nearest("mlp", names, count=2) == ["mlp_pre", "mlp_out"]
    assert nearest("zzz", names) == []


def test_nearest_counts_a_shared_substring_as_likeness() -> None:
    assert nearest("post", ["blocks.4.mlp.hook_post", "blocks.4.attn.hook_q"]) == ["blocks.4.mlp.hook_post"]
    assert nearest("the reducer max", ["max", "mean"]) == ["max"]


def test_unknown_says_what_was_given_what_is_near_and_what_to_do() -> None:
    error = unknown("reduce", "maximum", ("mean", "max"), "Choose one.")
    assert str(error) == "unknown reduce 'maximum'; nearest: max. Choose one."
    assert str(unknown("start", "zzz", ("sentence", "random"))) == "unknown start 'zzz'; nearest: sentence, random"
    assert str(unknown("start", "zzz", ())) == "unknown start 'zzz'; nearest: none"


def test_require() -> None:
    require(True, "fine")
    with pytest.raises(DreamError, match="^not fine$"):
        require(False, "not fine")


def test_whole_numbers_of_any_kind_become_plain_ones() -> None:
    for value in (3, numpy.int64(3), torch.tensor(3)):
        number = whole_number("k", value)
        assert number == 3 and type(number) is int
    assert whole_number("k", 0, 0) == 0 and whole_number("k", 5, 1, 5) == 5


@pytest.mark.parametrize("value", [True, numpy.True_, 3.0, "3", None, 0, -1, 6, torch.tensor(1.5), [3]])
def test_what_is_no_whole_number_in_range(value: object) -> None:
    with pytest.raises(DreamError, match=r"k = .*: give a whole number from 1 to 5, the most there is"):
        whole_number("k", value, 1, 5, ", the most there is")
