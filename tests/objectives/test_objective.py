"""The room objectives.objective."""

import operator
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import says
from tests.support.objectives import TEXTS, A, C, close
from tl_dream.models.host import attached
from tl_dream.objectives.objective import BatchContext, Objective, Read
from tl_dream.objectives.scoring import check, evaluate, read_activations

NAMES = {name: getattr(td, name) for name in ("neuron", "direction", "logit", "attention", "normalized")}


def test_the_mean_of_a_padded_batch_does_not_count_filling_that_is_not_finite(tiny_encoder64: torch.nn.Module) -> None:
    """Attention scores at padding are -inf, and 0 times infinity is not 0."""
    with attached(tiny_encoder64) as host:
        rows = BatchContext.of(host, [host.vocabulary.read(text) for text in TEXTS])
    read = Read("block_out", 1)
    values = torch.ones(3, 9, 24)
    values[:, :, 0] = torch.where(rows.words, 2.0, -torch.inf)
    goal = td.neuron("block_out", layer=1, unit=0, pos=None, reduce="mean")
    assert goal({read: values}, rows).tolist() == [2.0, 2.0, 2.0]


B = td.neuron("mlp_post", layer=0, unit=3, reduce="mean")


D = td.logit("dog", pos=2, log_prob=True)


E = td.attention(layer=1, head=0, query=1, key="cat")


F = td.neuron("block_out", layer=0, unit=1, pos=slice(1, 3), reduce="min")


FORMULAS: list[tuple[Callable[..., object], str]] = [
    (lambda a, b, c: a + b, "{a} + {b}"),
    (lambda a, b, c: a - b, "{a} - {b}"),
    (lambda a, b, c: a - b - c, "{a} - {b} - {c}"),
    (lambda a, b, c: a - (b - c), "{a} - ({b} - {c})"),
    (lambda a, b, c: a - (b + c), "{a} - ({b} + {c})"),
    (lambda a, b, c: a + (b - c), "{a} + {b} - {c}"),
    (lambda a, b, c: 2 * a, "2 * {a}"),
    (lambda a, b, c: a * 0.1, "0.1 * {a}"),
    (lambda a, b, c: 0.123456789 * a, "0.123456789 * {a}"),
    (lambda a, b, c: 2 * (a + b), "2 * ({a} + {b})"),
    (lambda a, b, c: 2 * a + b, "2 * {a} + {b}"),
    (lambda a, b, c: a / 3, "{a} / 3"),
    (lambda a, b, c: (a - b) / 3, "({a} - {b}) / 3"),
    (lambda a, b, c: 2 * (a / 7), "2 * {a} / 7"),
    (lambda a, b, c: -a, "-{a}"),
    (lambda a, b, c: -(a + b), "-({a} + {b})"),
    (lambda a, b, c: operator.neg(-a), "--{a}"),
    (lambda a, b, c: -2 * a, "-2 * {a}"),
    (lambda a, b, c: a - -2 * b, "{a} - -2 * {b}"),
    (lambda a, b, c: a + 1, "{a} + 1"),
    (lambda a, b, c: 1.5 + a, "{a} + 1.5"),
    (lambda a, b, c: a - 1e-7, "{a} - 1e-07"),
    (lambda a, b, c: 5 - a, "-{a} + 5"),
    (lambda a, b, c: 5 - (a - b), "-({a} - {b}) + 5"),
    (lambda a, b, c: 2 * (a - 1), "2 * ({a} - 1)"),
    (lambda a, b, c: a - (b - 1), "{a} - ({b} - 1)"),
    (lambda a, b, c: 0.5 * (a - 2 * (b + c / 4)) + 1, "0.5 * ({a} - 2 * ({b} + {c} / 4)) + 1"),
    (lambda a, b, c: (a + 1) * -3 - b, "-3 * ({a} + 1) - {b}"),
]


@pytest.fixture(scope="module")
def seen(tiny_folder: Path) -> tuple[dict[Read, Tensor], BatchContext]:
    """All that the objectives A to F read of two texts: algebra needs no backend."""
    with attached(td.load_model(str(tiny_folder), dtype=torch.float64)) as host, torch.no_grad():
        sentences = [host.vocabulary.read(text) for text in ("a cat", "the cat is red")]
        ids, mask = host.pad([sentence.ids for sentence in sentences])
        reads = [read for goal in (A, B, C, D, E, F) for read in goal.reads]
        return read_activations(host, reads, ids, mask=mask), BatchContext.of(host, sentences)


@pytest.mark.parametrize(("make", "formula"), FORMULAS, ids=[formula for _, formula in FORMULAS])
@pytest.mark.parametrize("terms", [(A, B, C), (C, D, E), (F, C, B)], ids=["ABC", "CDE", "FCB"])
def test_algebra(
    seen: tuple[dict[Read, Tensor], BatchContext],
    make: Callable[..., Objective],
    formula: str,
    terms: tuple[Objective, ...],
) -> None:
    """Its value is the arithmetic of the values; it prints as the formula; and the formula makes it again."""
    made = make(*terms)
    assert repr(made) == formula.format(a=terms[0], b=terms[1], c=terms[2])
    found = made(*seen)
    close(found, make(*(term(*seen) for term in terms)))
    again = eval(repr(made), dict(NAMES))
    assert repr(again) == repr(made)
    close(again(*seen), found, 1e-14)


@pytest.mark.parametrize(
    "goal",
    [
        A,
        B,
        C,
        D,
        E,
        F,
        td.neuron("blocks.1.attn.hook_pattern", head=1, pos=[1, -1], key=2),
        td.neuron("block_out", layer=1, unit=5, pos=["cat", 1, -2]),
        td.neuron("block_out", layer=1, unit=-5, pos="all", reduce="mean"),
        td.logit(17, pos=-2),
        td.logit("##s"),
        td.attention(layer=1, head=1, query=None, key=0),
        td.normalized(A),
        td.normalized(2 * C - B),
        td.normalized(A) + 0.1 * D,
    ],
    ids=repr,
)
def test_the_repr_is_the_formula_that_makes_it(tiny_encoder64: torch.nn.Module, goal: Objective) -> None:
    again = eval(repr(goal), dict(NAMES))
    assert repr(again) == repr(goal)
    assert torch.equal(td.score(tiny_encoder64, again, "a cat is"), td.score(tiny_encoder64, goal, "a cat is"))


def test_named_directions_and_functions_are_formulas_too(tiny_encoder64: torch.nn.Module) -> None:
    love = torch.arange(24.0)

    def mine(acts: dict[str, Tensor]) -> Tensor:
        return acts["x"][:, 1, 3]

    made = td.custom(mine, {"x": ("block_out", 1)}) - 2 * td.direction(love, "block_out", layer=1, name="love")
    assert repr(made) == "mine - 2 * direction(love, 'block_out', layer=1)"
    names = {**NAMES, "love": love, "mine": td.custom(mine, {"x": ("block_out", 1)})}
    again = eval(repr(made), names)
    close(td.score(tiny_encoder64, again, TEXTS), td.score(tiny_encoder64, made, TEXTS))


@pytest.mark.parametrize("word", ["(", ")", "[", " - ", "'", '"', "\\", "it's + 1"])
def test_words_that_look_like_arithmetic_do_not_fool_the_brackets(word: str) -> None:
    goal = td.neuron("block_out", layer=1, unit=5, pos=word)
    assert repr(2 * goal) == f"2 * {goal}" and repr(-goal) == f"-{goal}"
    assert repr(2 * (goal + goal)) == f"2 * ({goal} + {goal})"
    assert repr(A - (goal - 1)) == f"{A} - ({goal} - 1)"


def test_sums_read_every_hook_once() -> None:
    total = A + 2 * td.neuron("block_out", layer=1, unit=9) - B
    assert total.reads == (Read("block_out", 1), Read("mlp_post", 0))
    assert sum([A, B]).reads == A.reads + B.reads and repr(sum([A, B])) == f"{A} + 0 + {B}"


def test_what_objectives_do_not_do() -> None:
    for wrong in (lambda: A * B, lambda: A + "b", lambda: A * "b", lambda: 1 / A, lambda: A / A, lambda: "b" - A):
        with pytest.raises(TypeError):
            wrong()
    with says(f"({A}) / 0: an objective can't be divided by zero"):
        A / 0


@pytest.mark.parametrize(
    "goal", [A, B, C, F, -C, 2 * C, -3 * C + 1, C - 1, B + B, B - 2 * B, A + A, -(A - 1), -F, td.normalized(-C), D, E]
)
def test_the_value_at_every_position_so_reduced_is_the_score(tiny_encoder64: torch.nn.Module, goal: Objective) -> None:
    """What `per_token` and `where` promise to those who read them."""
    assert goal.per_token is not None
    with attached(tiny_encoder64) as host, torch.no_grad():
        sentences = [host.vocabulary.read(text) for text in ("a cat", "the cat is red")]
        ids, mask = host.pad([sentence.ids for sentence in sentences])
        rows = BatchContext.of(host, sentences)
        values = goal.per_token(read_activations(host, goal.reads, ids, mask=mask), rows)
        expected = evaluate(host, goal, ids, rows)
    pos, reduce = goal.where
    index, valid = rows.locate(pos)
    how = {"max": torch.amax, "mean": torch.mean, "min": torch.amin}[reduce]
    close(expected, [how(v[i[ok]], 0) for v, i, ok in zip(values, index, valid, strict=True)])


def test_sums_of_maxima_have_no_value_at_every_position() -> None:
    for goal in (C + C, A + C, C - td.neuron("z", layer=0, unit=1)):
        assert goal.per_token is None and len(goal.terms) == 2


def test_rows(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        rows = BatchContext.of(host, [host.vocabulary.read(text) for text in ("a cat", "the dog is red")])
    assert rows.mask.tolist() == [[True] * 4 + [False] * 2, [True] * 6]
    assert rows.words.tolist() == [[False, True, True, False, False, False], [False, *[True] * 4, False]]
    index, valid = rows.locate(None)
    assert index[valid].tolist() == [1, 2, 1, 2, 3, 4] and valid.sum(1).tolist() == [2, 4]
    twice = rows.repeat(2)
    assert [sentence.text for sentence in twice.sentences] == ["a cat"] * 2 + ["the dog is red"] * 2
    assert twice.mask.sum(1).tolist() == [4, 4, 6, 6] and twice.words.sum(1).tolist() == [2, 2, 4, 4]
    assert twice.locate(-1)[0].tolist() == [[3], [3], [5], [5]]


def test_what_is_no_objective(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        assert check(host, A) is A
        with says("an objective was expected, not function: make one with neuron(), direction(), logit() or custom()"):
            check(host, lambda acts: acts)
        with says("an objective was expected, not str"):
            check(host, "mlp_post")
        with says("layer 'every' is not a layer: give a number, or \"all\" where every layer is read"):
            check(host, Objective((Read("block_out", "every"),), "mine", lambda acts, rows: torch.zeros(1)))
