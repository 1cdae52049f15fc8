"""`dream_many`: every job comes to what it comes to alone, and fails alone."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.search import GOAL, START, UNIT
from tl_dream.dreaming.many import Finished, in_order

BUDGET = 700
JOBS = [
    (UNIT, START),
    (td.neuron("block_out", layer=0, unit=3), "the dog"),
    (GOAL, td.Prompt("a small cat is here .", free=[2, 3])),
    (td.attention(layer=1, head=1, query=2, key=3), START),
    (td.custom(lambda acts: acts["x"][:, 2, 5] - acts["x"][:, 2, 7], {"x": ("block_out", 2)}), START),
    (UNIT - 0.5 * td.neuron("resid_mid", layer=2, unit=7, pos=1), START),
    (UNIT, START),
]


@pytest.mark.parametrize("method", ["auto", "epo", "anneal"])
def test_every_job_comes_to_what_it_comes_to_alone(encoder: torch.nn.Module, method: str) -> None:
    options = {"method": method, "budget": BUDGET, "seed": 3, "allowed": "no_special whole_words"}
    found = list(td.dream_many(encoder, iter(JOBS), width=4, **options))
    assert sorted(one.number for one in found) == list(range(len(JOBS)))
    for one in found:
        assert (one.objective, one.prompt) == JOBS[one.number] and one.error is None
        alone = td.dream(encoder, *JOBS[one.number], **options)
        assert one.dream.best.ids == alone.best.ids and one.dream.stopped == alone.stopped, one
        assert one.dream.best.score == pytest.approx(alone.best.score, abs=1e-5)
        assert one.dream.best.score == pytest.approx(
            td.score(encoder, one.objective, one.dream.best.text).item(), abs=1e-5
        )
        assert one.dream.cost.forward_tokens == alone.cost.forward_tokens <= BUDGET
        assert one.dream.settings == alone.settings


def test_a_job_may_have_a_seed_of_its_own(encoder: torch.nn.Module) -> None:
    jobs = [(UNIT, START, seed) for seed in (5, 0, 7)] + [(UNIT, START)]
    found = in_order(td.dream_many(encoder, jobs, budget=BUDGET, seed=2))
    assert [one.seed for one in found] == [5, 0, 7, 2]
    alone = [td.dream(encoder, UNIT, START, budget=BUDGET, seed=one.seed) for one in found]
    assert [one.best.ids for one in found] == [one.best.ids for one in alone]


def test_a_job_fails_alone(encoder: torch.nn.Module) -> None:
    calls: list[int] = []

    def breaks(acts: dict[str, torch.Tensor]) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 4:
            raise ZeroDivisionError("mine")
        return acts["x"][:, 2, 5]

    def spoilt(acts: dict[str, torch.Tensor]) -> torch.Tensor:
        value = acts["x"][:, 2, 5]
        return torch.where(value > value.detach().amin() + 1e-3, torch.nan, value)

    jobs = [
        (td.neuron("block_out", layer=1, unit=10_000, pos=2), START),
        (UNIT, START),
        (UNIT, None),
        UNIT,
        (td.custom(breaks, {"x": ("block_out", 1)}), START),
        (td.custom(spoilt, {"x": ("block_out", 1)}), START),
        ("block_out", START),
        (UNIT, "the word is not here", "third"),
        (UNIT, START, 0, "fourth"),
    ]
    found = {one.number: one for one in td.dream_many(encoder, jobs, budget=1_500)}
    told = {number: str(one.error) for number, one in found.items() if one.dream is None}
    assert set(told) == {0, 2, 3, 4, 5, 6, 7, 8}
    assert found[1].dream.best.ids == td.dream(encoder, UNIT, START, budget=1_500).best.ids
    assert "unit 10000 does not exist" in told[0] and "an objective was expected" in told[6]
    assert "(objective, prompt)" in told[3] and "seed = 'third'" in told[7] and "(objective, prompt)" in told[8]
    assert isinstance(found[4].error, ZeroDivisionError)
    assert "became nan" in told[5] and isinstance(found[5].error.partial, td.Dream)


@pytest.mark.parametrize("error", [OSError("mine"), KeyboardInterrupt()])
def test_jobs_that_break_off_cost_no_work(encoder: torch.nn.Module, error: BaseException) -> None:
    """What is under way goes on to its end; where Ctrl-C came while the next job was made, it ends with its best."""

    def jobs(count: int) -> Iterator[Any]:
        yield from [(UNIT, START), (UNIT, "the cat")][:count]
        raise error

    found: list[Any] = []
    with pytest.raises(type(error)) as caught:
        found.extend(td.dream_many(encoder, jobs(0), budget=300))
    assert not found
    with pytest.raises(type(error)) as caught:
        for one in td.dream_many(encoder, jobs(2), budget=300):
            found.append(one)
    found += getattr(caught.value, "partial", None) or ()
    assert sorted(one.number for one in found) == [0, 1]
    assert isinstance(error, KeyboardInterrupt) or all(one.dream.stopped == "budget" for one in found)


def test_jobs_are_read_as_room_gets_free(encoder: torch.nn.Module) -> None:
    read: list[int] = []

    def jobs() -> object:
        for unit in range(20):
            read.append(unit)
            yield td.neuron("block_out", layer=1, unit=unit, pos=2), START

    results = td.dream_many(encoder, jobs(), budget=300, width=3)
    assert not read
    next(results)
    assert 3 <= len(read) <= 4
    assert len(list(results)) == 19


def test_between_two_results_the_model_is_the_users(fresh_encoder: object) -> None:
    model = fresh_encoder()
    model.train()
    torch.set_default_dtype(torch.float64)
    try:
        for one in td.dream_many(model, JOBS[:3], budget=400, width=1):
            assert isinstance(one, Finished) and one.dream is not None
            assert model.training and torch.get_default_dtype() == torch.float64 and torch.is_grad_enabled()
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_clock_ends_them_all(encoder: torch.nn.Module) -> None:
    """Those under way end with what they have; no other begins."""
    td.dream(encoder, UNIT, START, budget=500)  # what is made once
    found = list(td.dream_many(encoder, [(UNIT, START)] * 50, budget=10**9, seconds=1, width=2))
    assert [one.dream.stopped for one in found] == ["seconds"] * 2
    assert all(one.dream.best.score > one.dream.start.score for one in found)


def test_bad_input(encoder: torch.nn.Module) -> None:
    with says("there is no job"):
        td.dream_many(encoder, [])
    with says("jobs is a str: give (objective, prompt) pairs"):
        td.dream_many(encoder, START)
    with says("width = 0"):
        td.dream_many(encoder, JOBS, width=0)
    with says("seconds = -1"):
        td.dream_many(encoder, JOBS, seconds=-1)
    with says("unknown method 'best'"):
        td.dream_many(encoder, JOBS, method="best")
    with says("not a model"):
        td.dream_many(3, JOBS)


@pytest.mark.slow
def test_neighbours_change_nothing_on_a_real_model(minilm: torch.nn.Module) -> None:
    """8 jobs of several layers and three lengths, each alone and among the others."""
    draw = random.Random(5)
    texts = ["the old man walked along the river .", "she opened the letter and read it twice .", "prices fell again ."]
    units = [
        td.neuron(draw.choice(["block_out", "mlp_post"]), layer=draw.randrange(6), unit=draw.randrange(384), pos=3)
        for _ in range(8)
    ]
    jobs = [(unit, draw.choice(texts)) for unit in units]
    same = 0
    for one in td.dream_many(minilm, jobs, budget=2_000):
        alone = td.dream(minilm, *jobs[one.number], budget=2_000)
        same += one.dream.best.ids == alone.best.ids
        assert one.dream.best.score == pytest.approx(
            td.score(minilm, one.objective, one.dream.best.text).item(), abs=1e-5
        )
    assert same >= 7
