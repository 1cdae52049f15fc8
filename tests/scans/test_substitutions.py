"""The room scans.substitutions."""

from collections.abc import Callable

import pytest
import torch

import tl_dream as td
from tests.support.scans import PART, SENTENCE, Model, found_by, loop, one_by_one
from tl_dream.models.host import attached
from tl_dream.scans import substitutions
from tl_dream.scans.substitutions import Substitution
from tl_dream.scans.tokens import token_search


def steps(model: Model, unit: int, read: int) -> list[td.Objective]:
    """Functions that jump for a few tokens: where a unit passes a threshold, in the middle of the widest gaps between
    its highest values, so that rounding in float32 makes none of them jump."""
    _, (values,) = loop(model, SENTENCE, 4, [("block_out", 1, unit, read)])
    ordered = sorted(values, reverse=True)
    made = []
    for i in sorted(range(1, 6), key=lambda i: ordered[i + 1] - ordered[i])[:2]:
        assert ordered[i] - ordered[i + 1] > 1e-4
        middle = (ordered[i] + ordered[i + 1]) / 2
        made.append(
            td.custom(
                lambda acts, middle=middle: acts["a"][:, 4, 3] + 10.0 * (acts["a"][:, read, unit] > middle),
                {"a": ("block_out", 1)},
                name=f"step {middle}",
            )
        )
    return made


@pytest.mark.parametrize("unit", [0])
def test_a_function_that_compares_a_position_with_a_threshold(encoder: Model, few_samples: None, unit: int) -> None:
    """`NaN > 0` is False: a position that is read so must not pass for one that isn't."""
    for objective in steps(encoder, unit, 2)[:1]:
        found = found_by(encoder, objective, SENTENCE, pos=4, top=3, allowed="no_special no_unused")
        assert found == one_by_one(encoder, objective, SENTENCE, 4, None)[:3], objective


def test_what_may_jump_is_not_screened_in_a_narrow_dtype(
    encoder: Model, few_samples: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless that is asked for. The largest error on a sample tells nothing of a jump elsewhere."""
    monkeypatch.setattr(substitutions, "bf16_is_faster", lambda device: True)
    plain = td.neuron("block_out", layer=1, unit=7, pos=4)
    yours = steps(encoder, 7, 4)

    def screen(objective: td.Objective, precision: str = "auto") -> str:
        options = {"pos": 4, "allowed": PART, "precision": precision, "top": 3, "progress": False}
        return token_search(encoder, objective, SENTENCE, **options).screen.split(",")[0]

    for objective in (plain, -2 * plain + plain, td.normalized(plain), plain + td.neuron("z", layer=0, unit=1, pos=1)):
        assert screen(objective) == "bfloat16", objective
    for objective in (yours[0], plain + yours[0], 2 * yours[0], -yours[0]):
        assert screen(objective) == "float32", objective
    assert screen(yours[0], "bf16") == "bfloat16"
    with attached(encoder) as host:
        point = host.point(host.resolve("mlp_post", 0))
    point.add_hook(lambda activation, hook: activation * (activation > 0.5))
    try:
        assert screen(plain) == "float32" and screen(plain, "bf16") == "bfloat16"
    finally:
        point.remove_hooks("fwd")


def test_an_exchanged_module_is_not_screened_in_a_narrow_dtype(
    fresh_encoder: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(substitutions, "bf16_is_faster", lambda device: True)
    model = fresh_encoder()
    norm = model.blocks[0].ln1
    norm = getattr(norm, "original_component", norm)
    forwards = norm.forward
    norm.forward = lambda *args, **kwargs: forwards(*args, **kwargs).round()
    goal = td.neuron("block_out", layer=1, unit=7, pos=4)
    table = token_search(model, goal, SENTENCE, pos=4, allowed=PART, top=3, progress=False)
    assert table.screen == "float32, batches"


OBJECTIVES: dict[str, Callable[[], td.Objective]] = {
    "every word": lambda: td.neuron("block_out", layer=2, unit=3),
    "a mean": lambda: td.neuron("block_out", layer=1, unit=3, reduce="mean"),
    "a word by its name": lambda: td.neuron("block_out", layer=1, unit=3, pos="dog"),
    "the word that is exchanged": lambda: td.neuron("mlp_post", layer=1, unit=30, pos="red"),
    "two places": lambda: td.neuron("block_out", layer=0, unit=3, pos=1) - td.neuron("z", layer=2, unit=8, pos=-2),
    "downwards": lambda: -td.neuron("mlp_out", layer=1, unit=5, pos=4),
    "a direction": lambda: td.direction(torch.linspace(-1, 1, 24), "resid_post", layer=1, pos=4),
    "one head": lambda: td.neuron("v", layer=2, head=1, unit=2, pos=4),
    "normalized": lambda: td.normalized(td.neuron("block_out", layer=1, unit=3, pos=4)),
    "attention": lambda: td.attention(layer=1, head=2, query=4, key="hate"),
    "a prediction": lambda: td.logit("dog", pos=4, log_prob=True),
    "your own": lambda: td.custom(lambda acts: acts["a"][:, 2].relu().sum(-1), {"a": ("block_out", 1)}),
    "your own, without values": lambda: td.custom(
        lambda acts: torch.where(acts["a"] > 0, acts["a"], 0.0)[:, 2].sum(-1), {"a": ("block_out", 1)}
    ),
    "embeddings": lambda: td.neuron("full_embed", unit=3, pos=4),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_any_objective(encoder: Model, name: str) -> None:
    objective = OBJECTIVES[name]()
    assert found_by(encoder, objective, SENTENCE, pos=4) == one_by_one(encoder, objective, SENTENCE, 4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_narrow_model_and_its_ties(fresh_encoder: Callable[..., Model], dtype: torch.dtype) -> None:
    model = fresh_encoder(dtype=dtype)
    goal = td.neuron("block_out", layer=1, unit=7, pos=4)
    assert found_by(model, goal, SENTENCE, pos=4) == one_by_one(model, goal, SENTENCE, 4)


def test_a_users_hook_has_its_say(tiny_encoder: Model) -> None:
    goal = td.neuron("block_out", layer=0, unit=7, pos=4)
    bare = found_by(tiny_encoder, goal, SENTENCE, pos=4)
    with attached(tiny_encoder) as host:
        point = host.point(host.resolve("mlp_post", 0))
    point.add_hook(lambda activation, hook: activation * (activation > 0.5))
    try:
        table = token_search(tiny_encoder, goal, SENTENCE, pos=4, precision="bf16", allowed=PART, progress=False)
        expected = one_by_one(tiny_encoder, goal, SENTENCE, 4)
    finally:
        point.remove_hooks("fwd")
    assert [(row.id, row.score) for row in table.top] == expected != bare
    assert table.screen == "bfloat16, autocast"


def test_an_exchanged_module_has_its_say(fresh_encoder: Callable[..., Model]) -> None:
    """Nothing tells that a module computes something else, except its numbers."""
    model = fresh_encoder()
    goal = td.neuron("block_out", layer=1, unit=7, pos=4)
    bare = found_by(model, goal, SENTENCE, pos=4)
    norm = model.blocks[1].ln1
    norm = getattr(norm, "original_component", norm)
    forwards = norm.forward
    norm.forward = lambda *args, **kwargs: -forwards(*args, **kwargs)
    table = token_search(model, goal, SENTENCE, pos=4, precision="full", allowed=PART, progress=False)
    assert [(row.id, row.score) for row in table.top] == one_by_one(model, goal, SENTENCE, 4) != bare
    assert table.screen == "float32, batches"


def test_the_positions_an_objective_reads(tiny_encoder: Model) -> None:
    with attached(tiny_encoder) as host:
        sentence = host.vocabulary.read(SENTENCE)
        for objective, read in (
            (td.neuron("block_out", layer=1, unit=3, pos="dog"), [5]),
            (td.neuron("block_out", layer=1, unit=3), [1, 2, 3, 4, 5, 6]),
            (td.neuron("block_out", layer=1, unit=3, pos=1) + td.neuron("z", layer=0, unit=3, pos=-1), [1, 7]),
            (td.normalized(td.neuron("block_out", layer=1, unit=3, pos=[2, 4])), [2, 4]),
            (td.custom(lambda acts: acts["a"][:, 0].sum(-1), {"a": ("block_out", 1)}), list(range(8))),
        ):
            assert Substitution(host, objective, sentence, 4)._positions_read() == read, objective
