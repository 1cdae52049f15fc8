"""The one public exception, and the messages its helpers build."""

import pytest

import tl_dream as td
from tl_dream._errors import DreamError, nearest, require, unknown


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
