"""The room objectives.derived."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import says
from tests.support.objectives import TEXTS, close, raw

WORDS = [4, 7, 2]  # their tokens without [CLS] and [SEP]; one token a word


def norms(model: torch.nn.Module, text: str) -> Tensor:
    """Of every position: the root of the sum of squares over all units of block_out of all layers."""
    return sum(raw(model, text, "block_out", layer).square().sum(-1) for layer in range(3)).sqrt()


@pytest.mark.parametrize("pos", [2, None])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_normalized_equals_a_hand_computation(tiny_encoder64: torch.nn.Module, pos: int | None, reduce: str) -> None:
    goal = td.normalized(td.neuron("mlp_post", layer=1, unit=5, pos=pos, reduce=reduce))
    expected = []
    for text in TEXTS:
        ratio = raw(tiny_encoder64, text, "mlp_post", 1)[:, 5] / norms(tiny_encoder64, text)
        words = ratio[1:-1] if pos is None else ratio[pos : pos + 1]
        expected.append(words.max() if reduce == "max" else words.mean())
    close(td.score(tiny_encoder64, goal, TEXTS), expected)


def test_normalized_of_sums_and_negatives(tiny_encoder64: torch.nn.Module) -> None:
    """The division goes to the single words of every term: a maximum does not commute with a sum or a sign."""
    a, b = td.neuron("mlp_post", layer=1, unit=5), td.neuron("mlp_post", layer=0, unit=3)
    one, two = td.neuron("block_out", layer=1, unit=5, pos=1), td.neuron("block_out", layer=1, unit=5, pos=2)
    for whole, parts in [
        (a + b, td.normalized(a) + td.normalized(b)),
        (a - b, td.normalized(a) - td.normalized(b)),
        (-a, -td.normalized(a)),
        (-2 * (a + 3 * b), -2 * td.normalized(a) - 6 * td.normalized(b)),
        (one - two / 4, td.normalized(one) - td.normalized(two) / 4),
        (one + one, 2 * td.normalized(one)),
    ]:
        assert repr(td.normalized(whole)) == f"normalized({whole})"
        close(td.score(tiny_encoder64, td.normalized(whole), TEXTS), td.score(tiny_encoder64, parts, TEXTS))


def test_normalized_needs_values_at_positions() -> None:
    goal = td.custom(lambda a: a["x"][:, 0, 0], {"x": ("block_out", 1)}, name="mine")
    with says("normalized(mine) needs a value at every position, and this objective has none", "normalize=False"):
        td.normalized(goal)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda a: a["x"], "(1, 4, 24)"),
        (lambda a: a["x"].mean(), "()"),
        (lambda a: a["x"][:, 0, :1], "(1, 1)"),
        (lambda a: 3.0, "float"),
    ],
)
def test_a_function_that_gives_no_score_a_row(tiny_encoder: torch.nn.Module, function: Callable, got: str) -> None:
    goal = td.custom(function, {"x": ("block_out", 1)}, name="mine")
    with says(f"the objective mine must return one score per row, shape (1,); got {got}"):
        td.score(tiny_encoder, goal, "a cat")


def test_custom_needs_hooks() -> None:
    with says("custom() needs the hooks its function reads: give {name: hook}"):
        td.custom(lambda a: a["x"], {})


def test_an_error_in_your_function_is_yours(tiny_encoder: torch.nn.Module) -> None:
    def broken(acts: dict[str, Tensor]) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        td.score(tiny_encoder, td.custom(broken, {"x": ("block_out", 1)}), "a cat")
