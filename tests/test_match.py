"""`match`: minus the mean squared error against a recorded or edited activation."""

import pytest
import torch
from conftest import says
from test_objectives import close, raw

import tl_dream as td

TEXT, OTHER = "the red dog .", "the old cat ."  # six tokens with [CLS] and [SEP]


def own(model, hook="block_out", layer=1):
    return raw(model, TEXT, hook, layer)


def test_a_text_matches_its_own_activation(tiny_encoder64):
    for hook in ("block_out", "attn_out", "mlp_post", "z"):
        goal = td.match(own(tiny_encoder64, hook), hook, layer=1)
        mine, other = td.score(tiny_encoder64, goal, [TEXT, OTHER]).tolist()
        expected = -(raw(tiny_encoder64, OTHER, hook, 1) - own(tiny_encoder64, hook)).square().mean()
        assert mine == pytest.approx(0, abs=1e-20)
        assert other == pytest.approx(float(expected), rel=1e-9) and other < -1e-3


def test_parts_of_an_activation(tiny_encoder64):
    here, there = own(tiny_encoder64), raw(tiny_encoder64, OTHER, "block_out", 1)
    gaps = (here - there).square()
    for target, options, expected in (
        (here[2:3], {"pos": 2}, gaps[2].mean()),
        (here[[1, 3]], {"pos": [3, 1]}, gaps[[1, 3]].mean()),
        (here[1:-1], {"pos": None}, gaps[1:-1].mean()),
        (here[2:5], {"pos": slice(2, 5)}, gaps[2:5].mean()),
        (here[:, [4, 7]], {"units": [4, 7]}, gaps[:, [4, 7]].mean()),
        (here[:, 4], {"units": 4}, gaps[:, 4].mean()),
        (here[:, -1], {"units": -1}, gaps[:, -1].mean()),
    ):
        close(td.score(tiny_encoder64, td.match(target, "block_out", layer=1, **options), OTHER), [-expected])


def test_heads(tiny_encoder64):
    here, there = own(tiny_encoder64, "z"), raw(tiny_encoder64, OTHER, "z", 1)
    close(
        td.score(tiny_encoder64, td.match(here[:, 2], "z", layer=1, head=2), OTHER),
        [-(here - there)[:, 2].square().mean()],
    )
    flat = td.match(here.flatten(1)[:, 8:10], "z", layer=1, units=[8, 9])
    close(td.score(tiny_encoder64, flat, OTHER), [-(here - there).flatten(1)[:, 8:10].square().mean()])


def test_every_position_has_its_share(tiny_encoder64):
    """`per_token` is what the score is the mean of."""
    goal = td.match(own(tiny_encoder64), "block_out", layer=1)
    both = td.score(tiny_encoder64, goal + goal, OTHER)
    close(both, [2 * td.score(tiny_encoder64, goal, OTHER)[0]])
    assert (goal + goal).per_token is not None
    assert td.score(tiny_encoder64, td.normalized(goal), OTHER) < 0


def test_it_climbs(tiny_encoder):
    goal = td.match(own(tiny_encoder), "block_out", layer=1)
    result = td.dream(tiny_encoder, goal, OTHER, steps=60, seed=1)
    assert result.best.score > result.start.score


def test_it_prints_as_the_formula(tiny_encoder64):
    assert repr(td.match(torch.ones(6, 24), "block_out", layer=1)) == "match(target[6, 24], 'block_out', layer=1)"
    shown = repr(td.match(torch.ones(1, 1), "z", layer=1, head=2, units=3, pos=2))
    assert shown == "match(target[1, 1], 'z', layer=1, head=2, units=3, pos=2)"


def test_mistakes(tiny_encoder64):
    with says("tensor of floating-point numbers", "got torch.int64 of shape (2,)"):
        td.match(torch.tensor([1, 2]), "block_out", layer=1)
    with says("floating-point numbers, a row a position; got torch.float32 of shape (0, 24)"):
        td.match(torch.ones(0, 24), "block_out", layer=1)
    with says("NaN or infinite"):
        td.match(torch.tensor([1.0, torch.nan]), "block_out", layer=1)
    with says("'pattern' is an attention pattern"):
        td.match(torch.ones(6, 6), "pattern", layer=1)
    with says("holds 5 positions of 24 units; the rows have 6 of 24"):
        td.score(tiny_encoder64, td.match(torch.ones(5, 24), "block_out", layer=1), TEXT)
    with says("holds 6 positions of 23 units; the rows have 6 of 24"):
        td.score(tiny_encoder64, td.match(torch.ones(6, 23), "block_out", layer=1), TEXT)
    with says("unit 24 does not exist"):
        td.score(tiny_encoder64, td.match(torch.ones(6, 1), "block_out", layer=1, units=24), TEXT)
    with says("the rows have 4 or 6 of 24"):
        td.score(tiny_encoder64, td.match(torch.ones(6, 24), "block_out", layer=1), [TEXT, "a dog"])
