"""Patterns name the units that they say, and complain of what names none."""

import pytest
import torch

import tl_dream as td
from tests.conftest import says

MLP, D_MODEL, HEADS, D_HEAD, LAYERS = 40, 24, 4, 6, 3


@pytest.mark.parametrize(
    ("pattern", "named"),
    [
        ("block_out:0-2:all", [("block_out", layer, unit, None) for layer in range(3) for unit in range(D_MODEL)]),
        ("block_out:all", [("block_out", layer, unit, None) for layer in range(3) for unit in range(D_MODEL)]),
        ("mlp_post:1:1,5,9-11,5", [("mlp_post", 1, unit, None) for unit in (1, 5, 9, 10, 11)]),
        ("z:2:head=3", [("z", 2, unit, 3) for unit in range(D_HEAD)]),
        ("z:0,2:head=1-2:0,5", [("z", layer, unit, head) for layer in (0, 2) for head in (1, 2) for unit in (0, 5)]),
        ("q:1:20-23", [("q", 1, unit, None) for unit in range(20, 24)]),
        ("resid_pre: 0 : 3", [("resid_pre", 0, 3, None)]),
        ("embed:3", [("embed", None, 3, None)]),
        (["mlp_post:0:1-2", "mlp_post:0:2-3"], [("mlp_post", 0, unit, None) for unit in (1, 2, 3)]),
    ],
)
def test_what_a_pattern_names(
    encoder: torch.nn.Module, pattern: str | list[str], named: list[tuple[object, ...]]
) -> None:
    found = td.units(encoder, pattern)
    assert [(unit.hook, unit.layer, unit.unit, unit.head) for unit in found] == named
    assert td.units(encoder, [str(unit) for unit in found]) == found, "a unit's own pattern names it"


def test_full_names_and_every_kind_of_model(tiny_causal: torch.nn.Module) -> None:
    name = next(hook.name for hook in td.list_hooks(tiny_causal) if hook.short == "mlp_post, layer=1")
    assert [unit.unit for unit in td.units(tiny_causal, f"{name}:7-8")] == [7, 8]
    assert len(td.units(tiny_causal, "mlp_post:all:all")) == 2 * 64
    assert len(td.units(tiny_causal, "z:all:all")) == 2 * 16


def test_an_objective_reads_that_unit(encoder: torch.nn.Module) -> None:
    for pattern, same in {
        "z:2:head=3:4": td.neuron("z", layer=2, head=3, unit=4),
        "mlp_post:1:9": td.neuron("mlp_post", layer=1, unit=9),
        "embed:3": td.neuron("embed", unit=3),
    }.items():
        (unit,) = td.units(encoder, pattern)
        assert repr(unit.objective()) == repr(same)
        assert td.score(encoder, unit.objective(), "the red dog") == td.score(encoder, same, "the red dog")


def test_a_draw(encoder: torch.nn.Module) -> None:
    whole = td.units(encoder, "block_out:0-2:all")
    drawn = td.units(encoder, "block_out:0-2:random=20")
    assert len(set(drawn)) == 20 and set(drawn) < set(whole)
    assert drawn == tuple(unit for unit in whole if unit in drawn), "in order"
    assert {unit.layer for unit in drawn} == {0, 1, 2}
    assert td.units(encoder, "block_out:0-2:all:random=20") == drawn
    assert td.units(encoder, "block_out:0-2:random=20", seed=1) != drawn
    assert {unit.head for unit in td.units(encoder, "z:all:head=1:random=5")} == {1}
    assert td.units(encoder, "mlp_post:0:3,5:random=2") == td.units(encoder, "mlp_post:0:3,5")


@pytest.mark.parametrize(
    ("pattern", "complaint"),
    [
        ("mlp_pots:0:1", "nearest: mlp_post"),
        ("mlp_pots:0:9-5", "nearest: mlp_post"),
        ("mlp_post", "names no layer"),
        ("mlp_post:", "is no layer"),
        ("mlp_post:3:1", "layer 3 does not exist"),
        ("mlp_post:0:40", "has units 0 to 39"),
        ("mlp_post:0:30-99", "unit 99 does not exist"),
        ("mlp_post:0:9-5", "names no unit"),
        ("mlp_post:2-1:5", "names no layer"),
        ("mlp_post:0:-1", "is no unit"),
        ("mlp_post:0:1,,2", "is no unit"),
        ("mlp_post:0:1.5", "is no unit"),
        ("mlp_post:0:1:2", "a pattern is HOOK"),
        ("mlp_post:0:random=0", "from 1 to 40"),
        ("mlp_post:0:random=41", "from 1 to 40"),
        ("mlp_post:0:random=-3", "from 1 to 40"),
        ("mlp_post:0:1,2:random=3", "from 1 to 2"),
        ("mlp_post:0:random=" + 5000 * "9", "from 1 to 40"),
        ("mlp_post:0:seed=3", "a pattern is HOOK"),
        ("mlp_post:0:head=1", "has no heads"),
        ("z:0:head=4", "head 4 does not exist"),
        ("z:0:head=1:6", "has units 0 to 5"),
        ("pattern:0:head=1", "attention has no units"),
        ("embed:0:1", "a pattern is HOOK"),
        ("", "unknown hook"),
        ([], "no pattern is given"),
        (f"mlp_post:0:{'9' * 5000}", "is no unit"),
    ],
)
def test_a_pattern_that_names_no_unit(encoder: torch.nn.Module, pattern: object, complaint: str) -> None:
    with says(complaint) as caught:
        td.units(encoder, pattern)
    assert len(str(caught.value)) < 700
