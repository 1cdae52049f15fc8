"""Objectives: what they measure, their algebra, that they print as the formula that makes them, and their errors."""

from collections.abc import Sequence

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.objectives import TEXTS, close, raw

WORDS = [4, 7, 2]  # their tokens without [CLS] and [SEP]; one token a word


@pytest.mark.parametrize("hook", ["block_out", "block_in", "resid_mid", "attn_out", "mlp_pre", "mlp_post", "mlp_out"])
def test_a_unit_at_a_position_of_every_kind_of_hook(tiny_encoder64: torch.nn.Module, hook: str) -> None:
    found = td.score(tiny_encoder64, td.neuron(hook, layer=1, unit=7, pos=2), TEXTS)
    close(found, [raw(tiny_encoder64, text, hook, 1)[2, 7] for text in TEXTS])
    assert found.std() > 1e-3


@pytest.mark.parametrize("hook", ["q", "k", "v", "z"])
def test_units_of_heads(tiny_encoder64: torch.nn.Module, hook: str) -> None:
    """Four heads of six: unit 4 of head 2 is unit 16 counted through."""
    expected = [raw(tiny_encoder64, text, hook, 2)[1, 2, 4] for text in TEXTS]
    close(td.score(tiny_encoder64, td.neuron(hook, layer=2, head=2, unit=4, pos=1), TEXTS), expected)
    close(td.score(tiny_encoder64, td.neuron(hook, layer=2, unit=16, pos=1), TEXTS), expected)
    close(td.score(tiny_encoder64, td.neuron(hook, layer=2, head=-2, unit=-2, pos=1), TEXTS), expected)
    close(td.score(tiny_encoder64, td.neuron(hook, layer=2, unit=-8, pos=1), TEXTS), expected)


def test_attention(tiny_encoder64: torch.nn.Module) -> None:
    expected = [raw(tiny_encoder64, text, "pattern", 1)[3, 1, 2] for text in TEXTS]
    found = td.score(tiny_encoder64, td.attention(layer=1, head=3, query=1, key=2), TEXTS)
    close(found, expected)
    close(td.score(tiny_encoder64, td.neuron("pattern", layer=1, head=3, pos=1, key=2), TEXTS), expected)
    assert found.min() > 0 and found.max() < 1
    last = td.score(tiny_encoder64, td.attention(layer=1, head=3, query=1, key=-1), TEXTS)
    close(last, [raw(tiny_encoder64, text, "pattern", 1)[3, 1, -1] for text in TEXTS])
    dog = td.attention(layer=1, head=0, query="dog", key="red")
    close(td.score(tiny_encoder64, dog, TEXTS[:1]), [raw(tiny_encoder64, TEXTS[0], "pattern", 1)[0, 3, 2]])


def test_attention_of_several_queries(tiny_encoder64: torch.nn.Module) -> None:
    patterns = [raw(tiny_encoder64, text, "pattern", 1)[3, 1:-1, 0] for text in TEXTS]
    close(
        td.score(tiny_encoder64, td.attention(layer=1, head=3, query=None, key=0), TEXTS), [p.max() for p in patterns]
    )


def test_a_full_hook_name(tiny_encoder64: torch.nn.Module) -> None:
    full = td.neuron("blocks.1.attn.hook_pattern", head=1, pos=1, key=2)
    assert torch.equal(
        td.score(tiny_encoder64, full, TEXTS),
        td.score(tiny_encoder64, td.attention(layer=1, head=1, query=1, key=2), TEXTS),
    )


def test_hooks_that_stand_before_the_layers(tiny_encoder64: torch.nn.Module) -> None:
    for hook in ("embed", "pos_embed", "full_embed"):
        close(
            td.score(tiny_encoder64, td.neuron(hook, unit=3, pos=1), TEXTS),
            [raw(tiny_encoder64, text, hook)[1, 3] for text in TEXTS],
        )


@pytest.mark.parametrize("reduce", ["max", "mean", "min"])
@pytest.mark.parametrize(
    ("pos", "rows"),
    [
        (1, [[1], [1], [1]]),
        (-2, [[4], [7], [2]]),
        (slice(1, 3), [[1, 2]] * 3),
        (slice(1, -1), [range(1, n + 1) for n in WORDS]),
        ([2, -1], [[2, n + 1] for n in WORDS]),
        (None, [range(1, n + 1) for n in WORDS]),
        ("all", [range(1, n + 1) for n in WORDS]),
    ],
)
def test_positions_in_a_padded_batch(
    tiny_encoder64: torch.nn.Module, pos: object, rows: list[Sequence[int]], reduce: str
) -> None:
    how = {"max": torch.amax, "mean": torch.mean, "min": torch.amin}[reduce]
    values = [raw(tiny_encoder64, text, "block_out", 1)[:, 5] for text in TEXTS]
    found = td.score(tiny_encoder64, td.neuron("block_out", layer=1, unit=5, pos=pos, reduce=reduce), TEXTS)
    close(found, [how(v[list(row)], 0) for v, row in zip(values, rows, strict=True)])


def test_a_direction_is_a_dot_product_whose_length_is_kept(tiny_encoder64: torch.nn.Module) -> None:
    vector = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    values = [raw(tiny_encoder64, text, "block_out", 1) for text in TEXTS]
    found = td.score(tiny_encoder64, td.direction(vector, "block_out", layer=1, pos=2), TEXTS)
    close(found, [v[2] @ vector for v in values])
    close(td.score(tiny_encoder64, td.direction(3 * vector, "block_out", layer=1, pos=2), TEXTS), 3 * found)
    mean = td.direction(vector, "block_out", layer=1, reduce="mean")
    close(td.score(tiny_encoder64, mean, TEXTS), [(v[1:-1] @ vector).mean() for v in values])


def test_a_unit_direction_is_a_neuron(tiny_encoder64: torch.nn.Module) -> None:
    for width, options in ((24, {}), (6, {"head": 2})):
        one = [0.0] * width
        one[4] = 1.0
        close(
            td.score(tiny_encoder64, td.direction(one, "z", layer=1, pos=1, **options), TEXTS),
            td.score(tiny_encoder64, td.neuron("z", layer=1, unit=4, pos=1, **options), TEXTS),
        )


def test_a_direction_is_copied_from_no_graph() -> None:
    vector = torch.ones(24, requires_grad=True)
    goal = td.direction(vector * 2, "block_out", layer=1)
    assert repr(goal) == "direction(vector[24, norm 9.8], 'block_out', layer=1)"
    assert repr(td.direction(vector, "block_out", layer=1, pos=2, reduce="mean", name="love")) == (
        "direction(love, 'block_out', layer=1, pos=2, reduce='mean')"
    )


def test_logit_and_log_probability(tiny_encoder64: torch.nn.Module) -> None:
    dog = tiny_encoder64.tokenizer.get_vocab()["dog"]
    values = [raw(tiny_encoder64, text, "logits")[2] for text in TEXTS]
    close(td.score(tiny_encoder64, td.logit("dog", pos=2), TEXTS), [v[dog] for v in values])
    close(td.score(tiny_encoder64, td.logit(dog, pos=2), TEXTS), [v[dog] for v in values])
    probabilities = td.score(tiny_encoder64, td.logit("dog", pos=2, log_prob=True), TEXTS)
    close(probabilities, [v.log_softmax(-1)[dog] for v in values])
    assert probabilities.max() < 0


def test_a_token_that_is_not_in_the_vocabulary(tiny_encoder: torch.nn.Module) -> None:
    with says("'kickshaws' is not one token of this vocabulary (it splits into: k ##i"):
        td.score(tiny_encoder, td.logit("kickshaws", pos=1), "a cat")
    with says("token id 999 is outside the vocabulary (0 to 220)"):
        td.score(tiny_encoder, td.logit(999, pos=1), "a cat")


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
    result = td.dream(tiny_encoder, goal, OTHER, method=td.Annealing(steps=60), seed=1)
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
    with says("the rows have 4 or 6 of 24: give a row for every position, such as target[None] for one"):
        td.score(tiny_encoder64, td.match(torch.ones(6, 24), "block_out", layer=1), [TEXT, "a dog"])


def test_vectors_of_unusual_tensors(encoder: torch.nn.Module) -> None:
    vector = torch.randn(24, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        inference = vector * 1
    goal = td.direction(inference, "block_out", layer=1, pos=1)
    assert td.dream(encoder, goal, TEXTS[0], budget=500).gain >= 0
    for given in (vector.to_sparse(), vector.to(torch.float8_e4m3fn), vector.to("meta")):
        with says("a direction is of real numbers, not of torch.float", "give .to_dense(), .dequantize() or .float()"):
            td.direction(given, "block_out", layer=1)
