"""The room objectives.pickling."""

import pickle
import threading
from typing import Any

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import says
from tests.support.objectives import TEXTS
from tl_dream.objectives.pickling import sketch


def mine(acts: dict[str, Tensor]) -> Tensor:
    return acts["x"][:, 1, 3]


@pytest.mark.parametrize(
    "goal",
    [
        td.neuron("mlp_post", layer=1, unit=5, pos=[1, 2], reduce="mean"),
        td.attention(layer=1, head=2, query=1, key="red"),
        td.direction([0.5] * 24, "block_out", layer=1, name="mine"),
        td.match(torch.ones(1, 24), "block_out", layer=1, pos=1),
        td.logit("dog", pos=1),
        td.normalized(td.neuron("block_out", layer=1, unit=5, pos=1)),
        td.normalized(td.fluency()),
        td.latent((torch.eye(24), torch.zeros(24)), 3, hook="block_out", layer=1),
        td.latent(lambda x: x - 1, 3, hook="block_out", layer=1),
        td.custom(mine, {"x": ("block_out", 1)}),
        td.custom(lambda acts: acts["x"][:, 1, 3] ** 2, {"x": ("block_out", 1)}, name="squared"),
        1 - 2 * (td.neuron("z", layer=0, unit=2) / 3 + td.fluency() - td.neuron("z", layer=0, unit=3)),
    ],
    ids=repr,
)
def test_objectives_are_pickled(encoder: torch.nn.Module, goal: td.Objective) -> None:
    again = pickle.loads(pickle.dumps(goal))
    texts = ["the red dog", "a red cat"]
    assert repr(again) == repr(goal) and again.reads == goal.reads and again.answers == goal.answers
    assert torch.equal(td.score(encoder, again, texts), td.score(encoder, goal, texts))
    for name in ("uphill", "downhill"):
        one, other = getattr(goal, name), getattr(again, name)
        assert (one is None) == (other is None)
        assert one is None or torch.equal(td.score(encoder, one, texts), td.score(encoder, other, texts))


def test_a_latent_is_pickled_without_the_rest_of_its_encoder() -> None:
    wide = td.latent((torch.randn(24, 4000), torch.zeros(4000)), 3, hook="block_out", layer=1)
    assert len(pickle.dumps(wide)) < 4000


def test_a_judge_that_two_terms_share_is_still_one(encoder64: torch.nn.Module) -> None:
    judge = td.fluency(td.count_bigrams(encoder64, ["the red dog", "a cat"]))
    goal = pickle.loads(pickle.dumps(judge + 2 * judge))
    first, twice = goal.made.args
    assert twice.made.args[0] is first and torch.equal(
        td.score(encoder64, goal, TEXTS), td.score(encoder64, 3 * judge, TEXTS)
    )


def test_what_can_not_be_pickled_is_told() -> None:
    lock = threading.Lock()
    with says("can't be pickled", "holds on to something that stays in this process"):
        pickle.dumps(td.custom(lambda acts: acts["x"][:, 0, 0] + lock.locked(), {"x": ("block_out", 1)}))


def test_a_sketch_tells_numbers_of_one_formula_apart() -> None:
    vector = torch.linspace(-1, 1, 24)
    other, rounded = vector.clone(), vector * (1 + 1e-6)
    other[[3, 5]] = other[[5, 3]]  # of the same norm

    def goals(of: torch.Tensor) -> list[Any]:
        one = td.direction(of, "block_out", layer=1, name="mine")
        part = td.neuron("mlp_post", layer=1, unit=3) - 0.1 * one
        return [one, td.direction(of.tolist(), "block_out", layer=1), td.match(of[None], "block_out", layer=1), -part]

    for goal, changed, near in zip(goals(vector), goals(other), goals(rounded), strict=True):
        assert repr(goal) == repr(changed)
        first, second, third = map(sketch, (goal, changed, near))
        assert first and second and third and abs(first[1] - second[1]) > 1e-2 * first[0]
        assert first == pytest.approx(third, rel=1e-5) != second
    assert sketch(td.neuron("mlp_post", layer=1, unit=3) + 2.0) is None
