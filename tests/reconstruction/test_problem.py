"""The room reconstruction.problem."""

import numpy
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.reconstruction import QUICK, READ, TEXT, tensor_of
from tl_dream.models.host import attached
from tl_dream.reconstruction.problem import _as_tensor, _scale


def test_parts_of_a_target(model):
    """Some positions, one position, some units: what is matched is matched, and the rest is said."""
    target = tensor_of(model, layer=0)
    words = td.reconstruct(model, target[1:-1], layer=0, positions=list(range(1, 7)), length=8, **QUICK)
    assert words.text == READ and words.certified and words.certificate.missing == ()
    assert words.positions == tuple(range(1, 7))
    whole = td.reconstruct(model, target, layer=0, positions=list(range(1, 7)), **QUICK)
    assert whole.text == READ and whole.certificate == words.certificate
    some = td.reconstruct(model, target[:, 4:16], layer=0, units=range(4, 16), **QUICK)
    assert some.text == READ and some.units == tuple(range(4, 16))
    named = td.reconstruct(model, TEXT, layer=0, positions="all", **QUICK)
    assert named.exact and named.positions == tuple(range(1, 7))
    assert td.reconstruct(model, target, layer=0, units=range(24), **QUICK).units is None


def test_rows_in_the_order_of_the_positions(model):
    """And units in the order of theirs."""
    target = tensor_of(model, layer=0)
    order, units = [6, 2, 4, 1, 3, 5], [9, 2, 5, 7, 20, 11]
    for given in (order, [i - 8 for i in order]):
        assert td.certify(model, TEXT, target[order], layer=0, positions=given).certified
    assert td.certify(model, TEXT, target, layer=0, positions=order).certified, "the whole activation is from the left"
    assert td.certify(model, TEXT, target[:, units], layer=0, units=units).certified
    assert td.certify(model, TEXT, target, layer=0, units=units).certified
    words = td.reconstruct(model, target[[5, 2]], TEXT, layer=0, positions=["old", "red"], patience=0, **QUICK)
    assert words.certificate.matched and words.positions == (2, 5)


def test_unknown_length(model):
    target = tensor_of(model, layer=0)[1:5]
    result = td.reconstruct(
        model, target, layer=0, positions=[1, 2, 3, 4], length=[6, 8], allowed=TEXT.split(), **QUICK
    )
    assert [length for length, _ in result.lengths] == [6, 8] and len(result.tokens) == 8
    assert result.lengths[0][1] > 1e-3 and result.loss < 1e-8
    assert result.tokens[1:5] == ("the", "red", "dog", "was") or not result.certified


def test_what_is_free(model):
    """Of a Prompt only the free positions are searched; the others are given."""
    result = td.reconstruct(model, td.Prompt(TEXT, free=["red", "old"]), layer=0, **QUICK)
    assert result.exact and result.total == 2 and result.free == (2, 5)


def test_special_tokens_in_the_sentence(model):
    text = "the [MASK] dog was [UNK] ."
    result = td.reconstruct(model, text, layer=0, **QUICK)
    assert result.exact and result.certified


def test_targets_that_can_not_be(model):
    target = tensor_of(model)

    def wrong(given, *parts, **options):
        with says(*parts):
            td.reconstruct(model, given, **{"layer": 1, **QUICK, **options})

    wrong(target[:, :23], "the target's shape (8, 23) does not fit", "[pos, 24]")
    wrong(target[None].repeat(2, 1, 1), "shape (2, 8, 24)", "batch axis of 1")
    wrong(target[0], "shape (24,)", "with positions= a number")
    wrong(target[:, :3], "or [pos, 2] for the units asked for", units=[1, 2])
    wrong(torch.zeros(0, 24), "the target is empty")
    wrong(torch.zeros(8, 24), "the target is zero")
    for factor in (1e30, 1e19, 1e-25):
        wrong(target * factor, "the target's root mean square is", "do not fit float32", "as it was recorded")
    wrong(target.double() * 1e300, "the target's root mean square is", "e+3")
    wrong(target.int(), "dtype is torch.int32", "target.float()")
    wrong(target.to("meta"), "the target is on meta, the model on cpu")
    holed = target.clone()
    holed[2, 3] = torch.nan
    holed[2, 4] = torch.inf
    wrong(holed, "2 NaN or infinite numbers among its 192")
    wrong(
        target, "hook_pattern' (shape (1, 4, 4, 4) for 4 tokens)", "no row of units for every position", hook="pattern"
    )
    wrong(target, "does not depend on the tokens", hook="pos_embed", layer=None)
    wrong(target, "unknown hook 'block_uot'", hook="block_uot")
    wrong(target, "layer 7 does not exist", layer=7)
    wrong(target, "give layer= (0 to 2)", layer=None)
    wrong(target, "unit 24 does not exist", units=24)
    wrong(target, "names a unit twice", units=[1, 1])
    wrong(target.flip(1), "names every unit, but not in order", units=list(range(23, -1, -1)))
    wrong(
        target.flip(0), "names every position, but not from left to right", positions=list(range(7, -1, -1)), length=8
    )
    wrong(target[[1, 1]], "names a position twice", positions=[1, 1], length=8)
    wrong(target, "names no unit", units=[])
    wrong(target[1:3], "give length=", positions=[1, 2])
    wrong(target[1:3], "position 9 is outside the sentence of 6 tokens", positions=[1, 9], length=6)
    wrong(target[1:3], "the target has 2 rows for 3 positions", positions=slice(1, 4), length=8)
    wrong(target, "the sentence is not known, so give positions by number", positions="dog")
    for length in (2, 0, -1, 33):
        wrong(target[1:3], f"a length of {length} tokens is impossible", "3 to 32", positions=[1, 2], length=length)
    wrong(target[1:3], "length= names no length", positions=[1, 2], length=[])
    wrong(target, "the target has 8 positions, and a sentence of 9 tokens was asked for", length=9)
    wrong(target, "the truth has 4 tokens, the sentence 8", truth="a dog", length=8)
    wrong(target, "the target has 8 positions, and a sentence of 4 tokens", start="a dog")
    wrong(TEXT, "the target is a text, and so the truth itself", truth=TEXT)
    wrong(TEXT, "length = 5, and the text has 8 tokens", length=5)
    wrong(TEXT, "the text holds 'red' at position 2, which allowed=['the'] rules out", allowed=["the"])


def test_options_that_can_not_be(model):
    for option, value in (("starts", 0), ("patience", -1), ("rivals", -1), ("budget", 0), ("starts", True)):
        with says(f"{option} = {value}", "give a whole number"):
            td.reconstruct(model, TEXT, layer=0, **{option: value})
    with says("unknown method 'articel'; nearest: article"):
        td.reconstruct(model, TEXT, layer=0, method="articel")
    with says("steps= goes with method"):
        td.reconstruct(model, TEXT, layer=0, steps=3)
    with says("rivals = 'al': give a whole number of at least 0, or \"all\""):
        td.reconstruct(model, TEXT, layer=0, rivals="al")
    with says("steps = 0"):
        td.reconstruct(model, TEXT, layer=0, steps=0, method="article")


def test_targets_of_another_kind(model):
    """Asked of the check itself: under test the types of arguments are checked before the package sees them."""
    with attached(model) as host:
        for given in (numpy.ones((3, 24), dtype=int), [[1.0]], None):
            with says(f"the target is a {type(given).__name__}: give a text, a tensor or an array of floating-point"):
                _as_tensor(host, given)
        assert torch.equal(_as_tensor(host, tensor_of(model).numpy()), tensor_of(model))


def test_the_scale_is_the_root_mean_square_whatever_the_signs():
    for sign in (1.0, -1.0):
        assert _scale(sign * torch.tensor([[3.0, 4.0]]), torch.float32) == pytest.approx(12.5**0.5)
