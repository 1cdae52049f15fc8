"""Objectives: what they measure, their algebra, that they print as the formula that makes them, and their errors."""

import math
import operator
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from conftest import EVERY, HAS_HOOKED, says
from torch import Tensor

import tl_dream as td
from tl_dream.models import attached, forward
from tl_dream.objectives import Objective
from tl_dream.rows import Read, Rows
from tl_dream.scoring import check, evaluate, length_groups, read_activations

TEXTS = ["the red dog .", "i love my small old house .", "a cat"]  # no two of a length
WORDS = [4, 7, 2]  # their tokens without [CLS] and [SEP]; one token a word
NAMES = {name: getattr(td, name) for name in ("neuron", "direction", "logit", "attention", "normalized")}


def raw(model: torch.nn.Module, text: str, hook: str, layer: int | None = None) -> Tensor:
    """One activation of one text, without its batch axis, read with a plain forward pass."""
    with attached(model) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode(text)])
        name = host.resolve(hook, layer)
        return forward(host, ids, [name])[name][0]


def close(found: Tensor, expected: Sequence[Tensor | float], tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(
        found, torch.stack([torch.as_tensor(e) for e in expected]).to(found), rtol=0, atol=tolerance
    )


# Neurons


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


def test_attention_scores(tiny_encoder64: torch.nn.Module, backend: str) -> None:
    goal = td.neuron("attn_scores", layer=1, head=3, pos=1, key=2)
    if backend == "bridge":
        with says("has no hook for 'attn_scores'"):
            td.score(tiny_encoder64, goal, TEXTS)
        return
    close(
        td.score(tiny_encoder64, goal, TEXTS),
        [raw(tiny_encoder64, text, "attn_scores", 1)[3, 1, 2] for text in TEXTS],
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


def test_every_backend_scores(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every(torch.float64)
    for goal in (
        td.neuron("pos_embed", unit=3, pos=1),
        td.neuron("mlp_post", layer=1, unit=3),
        td.neuron("z", layer=0, head=1, unit=2, reduce="mean"),
        td.attention(layer=1, head=0, query=-1, key=0),
        td.logit("dog"),
        td.normalized(td.neuron("block_out", layer=0, unit=1)),
    ):
        together = td.score(model, goal, TEXTS)
        close(together, [td.score(model, goal, text)[0] for text in TEXTS])


# Positions


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


def test_a_position_named_by_its_word(tiny_encoder64: torch.nn.Module) -> None:
    """In every row where its own word is, once, and the positions differ."""
    goal = td.neuron("block_out", layer=1, unit=5, pos="dog")
    texts = ["the red dog .", "dog and cat"]
    close(
        td.score(tiny_encoder64, goal, texts),
        [raw(tiny_encoder64, text, "block_out", 1)[at, 5] for text, at in zip(texts, (3, 1), strict=True)],
    )
    several = td.neuron("block_out", layer=1, unit=5, pos=["dog", 0], reduce="mean")
    close(
        td.score(tiny_encoder64, several, texts),
        [raw(tiny_encoder64, text, "block_out", 1)[[0, at], 5].mean() for text, at in zip(texts, (3, 1), strict=True)],
    )
    with says("the word 'dog' is not in the sentence", "0 [CLS], 1 a, 2 cat, 3 [SEP]"):
        td.score(tiny_encoder64, goal, ["the red dog .", "a cat"])


def test_the_mean_of_a_padded_batch_does_not_count_filling_that_is_not_finite(tiny_encoder64: torch.nn.Module) -> None:
    """Attention scores at padding are -inf, and 0 times infinity is not 0."""
    with attached(tiny_encoder64) as host:
        rows = Rows.of(host, [host.vocabulary.read(text) for text in TEXTS])
    read = Read("block_out", 1)
    values = torch.ones(3, 9, 24)
    values[:, :, 0] = torch.where(rows.words, 2.0, -torch.inf)
    goal = td.neuron("block_out", layer=1, unit=0, pos=None, reduce="mean")
    assert goal({read: values}, rows).tolist() == [2.0, 2.0, 2.0]


# Directions


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


# Logits


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


# Normalized


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
    with says("normalized(mine) needs a value at every position, and this objective has none", 'preset="fast"'):
        td.normalized(goal)


# Your own functions


def test_custom(tiny_encoder64: torch.nn.Module) -> None:
    def contrast(acts: dict[str, Tensor]) -> Tensor:
        assert set(acts) == {"early", "late"}
        return acts["late"][:, -1, 3] - acts["early"][:, 1].norm(dim=-1)

    goal = td.custom(contrast, {"early": ("mlp_post", 0), "late": ("block_out", 2)})
    assert repr(goal) == "contrast" and goal.reads == (Read("mlp_post", 0), Read("block_out", 2))
    full = td.custom(lambda a: a["p"][:, 1, 2, 0], {"p": "blocks.0.attn.hook_pattern"})
    close(td.score(tiny_encoder64, full, TEXTS), [raw(tiny_encoder64, text, "pattern", 0)[1, 2, 0] for text in TEXTS])
    expected = [
        raw(tiny_encoder64, text, "block_out", 2)[-1, 3] - raw(tiny_encoder64, text, "mlp_post", 0)[1].norm()
        for text in TEXTS
    ]
    close(td.score(tiny_encoder64, goal, TEXTS), expected)
    same_length = ["the red dog", "i love you"]
    assert td.score(tiny_encoder64, goal, same_length).shape == (2,)


def test_custom_never_sees_padding(tiny_encoder64: torch.nn.Module) -> None:
    """Not in `score`, and not in a batch of unequal rows either, hard or soft, alone or in a sum."""
    lengths: list[int] = []

    def last(acts: dict[str, Tensor]) -> Tensor:
        lengths.append(acts["x"].shape[1])
        return acts["x"][:, -1, 3]

    own = td.custom(last, {"x": ("block_out", 1)})
    goal = own + 0.5 * td.neuron("block_out", layer=1, unit=2, pos=1)
    texts = [*TEXTS, "the blue dog ."]
    expected = [td.score(tiny_encoder64, goal, text)[0] for text in texts]
    close(td.score(tiny_encoder64, goal, texts), expected)
    lengths.clear()
    with attached(tiny_encoder64) as host:
        sentences = [host.vocabulary.read(text) for text in texts]
        ids, _ = host.pad([sentence.ids for sentence in sentences])
        rows = Rows.of(host, sentences)
        close(evaluate(host, goal, ids, rows).detach(), expected)
        soft = host.W_E[ids].requires_grad_()
        scores = evaluate(host, goal, ids, rows, embeddings=soft)
        close(scores.detach(), expected)
        (gradient,) = torch.autograd.grad(scores.sum(), soft)
    assert sorted(lengths) == [4, 4, 6, 6, 9, 9]
    real = rows.mask
    assert gradient[~real].abs().max() == 0 and gradient[real].abs().amax(-1).min() > 0


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


# Algebra

A = td.neuron("block_out", layer=1, unit=5, pos=1)
B = td.neuron("mlp_post", layer=0, unit=3, reduce="mean")
C = td.neuron("z", layer=2, head=1, unit=2)
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
def seen(tiny_folder: Path) -> tuple[dict[Read, Tensor], Rows]:
    """All that the objectives A to F read of two texts: algebra needs no backend."""
    with attached(td.load_model(str(tiny_folder), dtype=torch.float64)) as host, torch.no_grad():
        sentences = [host.vocabulary.read(text) for text in ("a cat", "the cat is red")]
        ids, mask = host.pad([sentence.ids for sentence in sentences])
        reads = [read for goal in (A, B, C, D, E, F) for read in goal.reads]
        return read_activations(host, reads, ids, mask=mask), Rows.of(host, sentences)


@pytest.mark.parametrize(("make", "formula"), FORMULAS, ids=[formula for _, formula in FORMULAS])
@pytest.mark.parametrize("terms", [(A, B, C), (C, D, E), (F, C, B)], ids=["ABC", "CDE", "FCB"])
def test_algebra(
    seen: tuple[dict[Read, Tensor], Rows],
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
        rows = Rows.of(host, sentences)
        values = goal.per_token(read_activations(host, goal.reads, ids, mask=mask), rows)
        expected = evaluate(host, goal, ids, rows)
    pos, reduce = goal.where
    index, valid = rows.locate(pos)
    how = {"max": torch.amax, "mean": torch.mean, "min": torch.amin}[reduce]
    close(expected, [how(v[i[ok]], 0) for v, i, ok in zip(values, index, valid, strict=True)])


def test_sums_of_maxima_have_no_value_at_every_position() -> None:
    for goal in (C + C, A + C, C - td.neuron("z", layer=0, unit=1)):
        assert goal.per_token is None and len(goal.terms) == 2


# What an objective knows of its rows


def test_rows(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        rows = Rows.of(host, [host.vocabulary.read(text) for text in ("a cat", "the dog is red")])
    assert rows.mask.tolist() == [[True] * 4 + [False] * 2, [True] * 6]
    assert rows.words.tolist() == [[False, True, True, False, False, False], [False, *[True] * 4, False]]
    index, valid = rows.locate(None)
    assert index[valid].tolist() == [1, 2, 1, 2, 3, 4] and valid.sum(1).tolist() == [2, 4]
    twice = rows.repeat(2)
    assert [sentence.text for sentence in twice.sentences] == ["a cat"] * 2 + ["the dog is red"] * 2
    assert twice.mask.sum(1).tolist() == [4, 4, 6, 6] and twice.words.sum(1).tolist() == [2, 2, 4, 4]
    assert twice.locate(-1)[0].tolist() == [[3], [3], [5], [5]]


# Scoring


def test_scores_come_in_the_order_given_whatever_the_batches(tiny_encoder64: torch.nn.Module) -> None:
    texts = ["the red dog .", "a", "i love my small old house .", "a cat", "the sun", "a cat"]
    expected = [td.score(tiny_encoder64, C, text)[0] for text in texts]
    for batch_tokens in (1, 12, 4096):
        close(td.score(tiny_encoder64, C, texts, batch_tokens=batch_tokens), expected)
    found = td.score(tiny_encoder64, C, texts)
    assert found.shape == (6,) and found.dtype == torch.float64 and not found.requires_grad


def test_prompts_and_ids_are_scored_too(tiny_encoder64: torch.nn.Module) -> None:
    vocab = tiny_encoder64.tokenizer.get_vocab()
    ids = [vocab[word] for word in ("[CLS]", "a", "cat", "[SEP]")]
    scores = td.score(tiny_encoder64, A, ["a cat", td.Prompt("a cat"), td.Prompt(ids=ids)])
    assert len(set(scores.tolist())) == 1
    assert td.score(tiny_encoder64, A, td.Prompt(ids=ids)).shape == (1,)


def test_texts_that_are_refused(tiny_encoder: torch.nn.Module) -> None:
    with says("no text to score: give at least one"):
        td.score(tiny_encoder, A, [])
    with says("is empty or holds special tokens only"):
        td.score(tiny_encoder, A, ["a cat", ""])
    with says("the sentence has 42 tokens with its special ones, the model reads 32: shorten it"):
        td.score(tiny_encoder, A, "dog " * 40)


def test_length_groups() -> None:
    assert length_groups([3, 9, 3, 4], 1000) == [[0, 2, 3, 1]]
    assert length_groups([3, 9, 3, 4], 8) == [[0, 2], [3], [1]]
    assert length_groups([3, 9, 3, 4], 1000, equal_lengths=True) == [[0, 2], [3], [1]]
    assert length_groups([5, 5, 5], 1) == [[0], [1], [2]]


# What is refused


@pytest.mark.parametrize(
    ("goal", "parts"),
    [
        (td.neuron("mlp_post", layer=1, unit=40), ["unit 40 does not exist: the hook 'mlp_post' has units 0 to 39"]),
        (td.neuron("mlp_post", layer=1, unit=-41), ["unit -41 does not exist"]),
        (td.neuron("mlp_post", layer=1), ["neuron('mlp_post', layer=1) needs unit=: which of the 40 units"]),
        (td.neuron("z", layer=1), ["needs unit=: which of the 24 units"]),
        (td.neuron("z", layer=1, head=1), ["needs unit=: which of the 6 units"]),
        (td.neuron("z", layer=1, head=4, unit=0), ["head 4 does not exist: the hook 'z' has heads 0 to 3"]),
        (td.neuron("z", layer=1, head=0, unit=6), ["unit 6 does not exist: the hook 'z' has units 0 to 5"]),
        (td.neuron("z", layer=1, unit=24), ["unit 24 does not exist: the hook 'z' has units 0 to 23"]),
        (
            td.neuron("mlp_post", layer=1, head=0, unit=1),
            ["the hook 'mlp_post' has no heads (shape (1, 6, 40)): leave"],
        ),
        (td.neuron("mlp_post", layer=7, unit=1), ["layer 7 does not exist: ", "has layers 0 to 2"]),
        (td.neuron("mlp_post", unit=1), ["the hook 'mlp_post' is one of every layer: give layer= (0 to 2)"]),
        (td.neuron("mlp_psot", layer=1, unit=1), ["unknown hook 'mlp_psot'; nearest: mlp_post"]),
        (td.neuron("mlp_post", layer=1, unit=1, pos=6), ["position 6 is outside the sentence of 6 tokens: 0 [CLS]"]),
        (td.neuron("mlp_post", layer=1, unit=1, pos="dig"), ["the word 'dig' is not in the sentence; nearest: dog"]),
        (td.neuron("mlp_post", layer=1, unit=1, pos=[]), ["no position given: name at least one of 0 [CLS]"]),
        (td.attention(layer=1, head=4, query=1, key=2), ["head 4 does not exist: the hook 'pattern' has heads 0 to 3"]),
        (td.attention(layer=1, head=0, query=1, key=9), ["position 9 is outside the sentence"]),
        (td.attention(layer=1, head=0, query="cow", key=1), ["the word 'cow' is not in the sentence"]),
        (td.neuron("pattern", layer=1, pos=1, key=2), ["an attention pattern needs head=, and has no unit="]),
        (td.neuron("pattern", layer=1, head=1, unit=1, key=2), ["an attention pattern needs head=, and has no unit="]),
        (
            td.direction([1.0] * 7, "block_out", layer=1),
            ["the vector has 7 numbers, the hook 'block_out' has 24 units"],
        ),
        (td.direction([1.0] * 24, "z", layer=1, head=0), ["the vector has 24 numbers, the hook 'z' has 6 units"]),
        (td.direction([1.0] * 6, "z", layer=1, head=9), ["head 9 does not exist"]),
        (td.direction([1.0] * 24, "block_out", layer=1, head=0), ["the hook 'block_out' has no heads"]),
    ],
    ids=repr,
)
def test_what_is_not_there_is_said_when_scored(
    tiny_encoder: torch.nn.Module, goal: Objective, parts: list[str]
) -> None:
    with says(*parts):
        td.score(tiny_encoder, goal, "the red dog .")


def test_what_is_said_at_once() -> None:
    with says("unknown reduce 'maximum'; nearest: max"):
        td.neuron("mlp_post", layer=1, unit=1, reduce="maximum")
    with says("neuron('mlp_post', layer=1, unit=1, key=2): key= (the position attended to) goes with attention"):
        td.neuron("mlp_post", layer=1, unit=1, key=2)
    with says("neuron('pattern', layer=1, head=2): an attention pattern needs key= (the position attended to)"):
        td.neuron("pattern", layer=1, head=2)
    with says("a direction is one vector of finite numbers; got shape (2,)"):
        td.direction([1.0, math.nan], "block_out", layer=1)
    with says("'pattern' is an attention pattern and has no directions: use attention()"):
        td.direction([1.0], "pattern", layer=1)


def test_hooks_without_positions(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every()
    name = next(
        (
            info.name
            for info in td.list_hooks(model)
            if info.shape is not None and len(info.shape) == 2 and info.name.startswith("nsp_head.hook_out")
        ),
        None,
    )
    if name is None:
        pytest.skip("every hook of this model has positions")
    with says(f"the hook {name!r} has no positions (shape (1, 2)): read it with custom()"):
        td.score(model, td.neuron(name, unit=1), "the red dog")
    own = td.custom(lambda a: a["n"][:, 1], {"n": name})
    assert td.score(model, own, TEXTS).shape == (3,)


def test_what_is_no_objective(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        assert check(host, A) is A
        with says("an objective was expected, not function: make one with neuron(), direction(), logit() or custom()"):
            check(host, lambda acts: acts)
        with says("an objective was expected, not str"):
            check(host, "mlp_post")
        with says("layer 'every' is not a layer: give a number, or \"all\" where every layer is read"):
            check(host, Objective((Read("block_out", "every"),), "mine", lambda acts, rows: torch.zeros(1)))


def test_every_kind_of_model_is_covered_here() -> None:
    assert set(EVERY) >= {"bridge", "causal bridge"} and (len(EVERY) == 4) == HAS_HOOKED
