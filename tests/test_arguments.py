"""The room _arguments, and numbers of numpy and torch at every door."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from numpy import array, float32, int64
from torch import tensor

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.search import annealed
from tl_dream._arguments import finite_number, finite_numbers, layers_of, listed, plain, unmasked, whole_number
from tl_dream._errors import DreamError

VERBS = "see run eat drink walk sing".split()


def test_whole_numbers_of_any_kind_become_plain_ones() -> None:
    for value in (3, numpy.int64(3), numpy.uint8(3), array(3), torch.tensor(3)):
        number = whole_number("k", value)
        assert number == 3 and type(number) is int
    assert whole_number("k", 0, 0) == 0 and whole_number("k", 5, 1, 5) == 5


@pytest.mark.parametrize(
    "value", [True, numpy.True_, tensor(True), 3.0, "3", None, 0, -1, 6, tensor(1.5), [3], array([3]), tensor([3])]
)
def test_what_is_no_whole_number_in_range(value: object) -> None:
    with pytest.raises(DreamError, match=r"(?s)k = .*: give a whole number from 1 to 5, the most there is"):
        whole_number("k", value, 1, 5, ", the most there is")


@pytest.mark.parametrize("value", [2, 2.0, numpy.float32(2), array(2.0), tensor(2.0, dtype=torch.bfloat16)])
def test_numbers_of_any_kind_become_plain_ones(value: object) -> None:
    number = finite_number("x", value)
    assert number == 2 and type(number) is float


@pytest.mark.parametrize("value", [True, tensor(False), None, "2", [2.0], tensor([2.0]), float("nan"), 10**400, 1j, {}])
def test_what_is_no_finite_number(value: object) -> None:
    with pytest.raises(DreamError, match="x = "):
        finite_number("x", value)


def test_arrays_are_lists_and_slices_and_text_stay() -> None:
    assert plain(slice(int64(1), tensor(3))) == slice(1, 3) and plain("dog") == "dog" and plain(None) is None
    assert plain([tensor(1), int64(2), "a", array([True, False])]) == [1, 2, "a", [True, False]]
    assert listed(range(2)) == listed(array([0, 1])) == listed(i for i in (0, 1)) == [0, 1] and listed("ab") == ["ab"]
    assert plain(torch.zeros(2, device="meta")).device.type == "meta"  # no numbers: whoever asks for some says so
    assert layers_of(tensor([2, 2, 0])) == [2, 0] and finite_numbers("x", array([1, 2]), "a number") == [1.0, 2.0]
    assert unmasked([True, False, True], 3, "units") == [0, 2] and unmasked([4, 1], 3, "units") == [4, 1]
    with says("a mask of 2 for 3 units"):
        unmasked([True, False], 3, "units")


TEXT = "the red dog can see it"
MASK = [False, False, True, True, False, False, False, False]
GOAL = td.neuron("mlp_post", layer=1, unit=3, pos=2)
SETS = td.read_examples([f"the {{dog}} can {x}" for x in VERBS], [f"the {{cat}} can {x}" for x in VERBS])

# n and a make numbers and lists of Python, numpy or torch
DOORS: dict[str, Callable[[Any, Any, Any], object]] = {
    "neuron": lambda m, n, a: td.score(m, td.neuron("mlp_post", layer=n(1), unit=n(2), pos=n(-2)), TEXT),
    "neuron of a head": lambda m, n, a: td.score(
        m, td.neuron("z", layer=n(1), head=n(1), unit=n(2), pos=a([1, 3])), TEXT
    ),
    "neuron at a mask": lambda m, n, a: td.score(m, td.neuron("block_out", layer=1, unit=2, pos=a(MASK)), TEXT),
    "attention": lambda m, n, a: td.score(m, td.attention(layer=n(1), head=n(1), query=n(2), key=n(1)), TEXT),
    "direction": lambda m, n, a: td.score(
        m, td.direction(a([0.5] * 24), "block_out", layer=n(1), pos=slice(n(1), n(3))), TEXT
    ),
    "match": lambda m, n, a: td.score(m, td.match(torch.ones(8, 2), "block_out", layer=1, units=a([3, 5])), TEXT),
    "logit": lambda m, n, a: td.score(m, td.logit(n(40), pos=n(2)), TEXT),
    "algebra": lambda m, n, a: td.score(m, n(0.5) * GOAL / n(2) + n(0.25) - n(1) * GOAL, TEXT, batch_tokens=n(99)),
    "prompt": lambda m, n, a: td.score(m, GOAL, td.Prompt(ids=a([4, 60, 61, 62, 5]))),
    "token_search": lambda m, n, a: td.token_search(
        m, GOAL, TEXT, pos=n(2), top=n(3), seed=n(1), batch_tokens=n(64), allowed=a([40, 50, 60])
    ).top,
    "similar_tokens": lambda m, n, a: td.similar_tokens(m, GOAL, TEXT, pos=n(2), k=n(3), best=n(2)).neighbours,
    "predict_masked": lambda m, n, a: td.predict_masked(m, "the [MASK] can", top=n(2)).predictions,
    "corpus_search": lambda m, n, a: td.corpus_search(
        m, GOAL, [TEXT, "a cat"], top=n(1), max_tokens=n(9), shard_lines=n(2), batch_tokens=n(64)
    ).top,
    "dream": lambda m, n, a: td.dream(
        m, GOAL, TEXT, free=a(MASK), budget=n(500), seed=n(2), banned=a([40]), starts=n(1), max_changes=n(1)
    ).best,
    "dream, annealed": lambda m, n, a: annealed(
        m, GOAL, TEXT, steps=n(3), evaluate_every=n(1), learning_rate=n(0.5), start_temperature=n(1),
        end_temperature=n(0.5), candidates=n(8), start_weight=n(0.5), warmup=n(0), top_k=n(2), renew_every=n(2),
        allowed=a([i > 80 for i in range(len(VOCAB))]),
    ).best,
    "auto": lambda m, n, a: td.dream(
        m, GOAL, TEXT, budget=n(900),
        method=td.Auto(round=td.PEZ(steps=n(3), momentum=n(0.4)), rounds=n(1), held=n(0.5)),
    ).best,
    "gcg": lambda m, n, a: td.gcg(
        m, GOAL, TEXT, method=td.GCG(candidates=n(4), early=n(0.5)), budget=n(900), seed=n(3)
    ).best,
    "epo": lambda m, n, a: td.epo(
        m, GOAL, TEXT, method=td.EPO(penalties=a([0.0, 1.0]), children=n(2)), budget=n(900)
    ).front,
    "reconstruct": lambda m, n, a: td.reconstruct(
        m, TEXT, layer=n(1), positions=a([2, 3]), units=a([i < 20 for i in range(24)]), budget=n(60), rivals=n(2),
        seed=n(1),
    ).best,
    "reconstruct_layers": lambda m, n, a: td.reconstruct_layers(
        m, TEXT, layers=a([1]), budget=n(40), rivals=n(0), patience=n(0)
    ).layers[0].best,
    "certify": lambda m, n, a: td.certify(m, TEXT, torch.ones(24).double(), layer=n(1), positions=n(2), rivals=n(2)),
    "replaced_activation": lambda m, n, a: td.replaced_activation(m, TEXT, "cat", pos=n(2), layer=n(1)),
    "edit_concept": lambda m, n, a: td.edit_concept(
        m, td.fit_concept(m, SETS, layer=n(1), random_concepts=n(50), bootstraps=n(2), test_share=n(0.25), seed=n(1)),
        TEXT, pos=a([2]), magnitudes=a([1.0]), layers=a([1]), starts=n(1), width=n(4), seed=n(0),
    ).rows[0].text,
}  # fmt: skip
WAYS = {"numpy": (lambda x: array(x)[()], array), "torch": (tensor, tensor)}


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> torch.nn.Module:
    return td.load_model(str(tiny_folder), dtype=torch.float64)


@pytest.mark.parametrize("door", DOORS)
def test_numbers_of_numpy_and_torch_are_taken_for_what_they_are(model: torch.nn.Module, door: str) -> None:
    expected = DOORS[door](model, lambda x: x, lambda x: x)
    for way, (number, several) in WAYS.items():
        found = DOORS[door](model, number, several)
        same = torch.equal(found, expected) if isinstance(found, torch.Tensor) else found == expected
        assert same, (way, found, expected)


def test_a_formula_shows_numbers_as_they_are_typed() -> None:
    goal = tensor(0.5) * td.neuron("z", layer=int64(1), head=tensor(2), unit=array(3), pos=array([1, 2])) - float32(2)
    assert repr(goal) == "0.5 * neuron('z', layer=1, head=2, unit=3, pos=[1, 2]) - 2.0"
    for wrong in (True, float("nan"), tensor(float("inf"))):
        with says("an objective goes with finite numbers"):
            goal * wrong
