"""The room search.budgets."""

from dataclasses import asdict, replace

import pytest
import torch

import tl_dream as td
from tests.support.search import GOAL, METHODS, START
from tl_dream.models.host import attached
from tl_dream.search.batch import Batch
from tl_dream.search.budgets import Budget, StepCosts
from tl_dream.search.engine import run
from tl_dream.search.swap_search import SwapSearch

# Budgets


def test_so_many_steps_fit() -> None:
    """A step and its share of a look each, once the last sentence with its look and the first one's are paid."""
    costs = StepCosts(step=10.0, look=4.0)
    for narrows, once in ((False, 10 + 8), (True, 20 + 8)):
        assert costs.steps(once + 7 * 12.0, 2, narrows) == 7 and costs.steps(once + 7 * 12.0 - 1, 2, narrows) == 6
    assert costs.steps(0.0, 2, False) == 1


LONG = "the red dog sees the moon and i see the sun and we love old books"


STARTS = [START, LONG, "a dog"]


@pytest.mark.parametrize("settings", [td.Annealing(), replace(td.ARTICLE, steps=None)], ids=["fast", "article"])
def test_annealing_fits_a_budget(encoder: torch.nn.Module, settings: td.Annealing) -> None:
    found = td.dream(encoder, GOAL, START, method=settings, budget=2500)
    assert 1700 < found.cost.forward_tokens <= 2500 and found.stopped == "steps"
    stopped = td.dream(encoder, GOAL, START, method=replace(settings, steps=500), budget=500)
    assert stopped.stopped == "budget" and 350 < stopped.cost.forward_tokens <= 500
    assert stopped.history.step[-1] > 0  # the last step was looked at


@pytest.mark.parametrize(
    ("kind", "text"), [("unit", STARTS), ("own", START), ("bigrams", START), ("masked", STARTS)], ids=str
)
@pytest.mark.parametrize("method", ["anneal", *METHODS])
def test_no_budget_is_overspent(encoder: torch.nn.Module, method: str, kind: str, text: str | list[str]) -> None:
    own = td.custom(lambda acts: acts["x"][:, -1, 5], {"x": ("block_out", 1)}, name="own")
    goal = {
        "unit": GOAL,
        "own": own,
        "bigrams": td.fluency(td.count_bigrams(encoder, ["the red dog sees the moon", "i see the sun"])),
        "masked": GOAL + 0.3 * td.fluency(encoder, masked=True),
    }[kind]
    lowest = td.dream(encoder, goal, text, method=method, budget=1).cost.forward_tokens
    with attached(encoder) as host:
        td.score(host, goal, text)
        assert lowest <= host.meter.forward_tokens or method == "epo"  # the start alone, and the judge's look at it
    found = td.dream(encoder, goal, text, method=method, budget=30 * lowest + 3)
    assert lowest < found.cost.forward_tokens <= 30 * lowest + 3


def test_a_sentence_costs_what_its_row_costs(encoder: torch.nn.Module) -> None:
    with attached(encoder) as host:
        rows = [host.vocabulary.read(text) for text in STARTS]
        batch = Batch.of(host, rows, host.vocabulary.allowed(), True)
        search = run(host, SwapSearch.of(host, GOAL, batch, Budget(host.meter, 3_000)))
        assert search.costs == [2 * len(row) for row in rows]
        left = 3_000 - search.budget.spent
        looked = 2 * len(rows[0])  # whether the trunk may stand in for the model
        assert search.budget.spent == 2 * sum(map(len, rows)) + looked
        left -= 2 * sum(map(len, rows))  # the model's own scores in the end
        assert search.affordable(10_000) == left // (2 * len(rows[1]))
        assert search.affordable(10_000, [2]) == left // (2 * len(rows[2]))
        assert search.affordable(10_000, [0, 2]) == left // (2 * (len(rows[0]) + len(rows[2])))
        found = run(host, search.charge(td.fluency(encoder)))
        assert found == pytest.approx(td.score(encoder, td.fluency(encoder), STARTS).tolist(), abs=1e-5)
        assert search.costs == [(2 + 3 + 1) * len(row) for row in rows]  # of the judge all layers, and the words


@pytest.mark.parametrize("method", METHODS)
def test_what_runs_no_model_ends(encoder: torch.nn.Module, method: str) -> None:
    judge = td.fluency(td.count_bigrams(encoder, ["the red dog sees the moon", "i see the sun"]))
    found = td.dream(encoder, judge, START, method=method, budget=3000, callback=lambda progress: progress.step > 400)
    assert found.stopped in ("budget", "still") and 0 < found.cost.forward_tokens <= 3000
    with attached(encoder) as host:
        td.score(host, judge, START)
        assert host.meter.forward_tokens == 7  # a layer, for what runs none


def test_a_callback_stops(encoder: torch.nn.Module) -> None:
    for method in METHODS:
        told: list[td.Progress] = []

        def stop(progress: td.Progress, told: list[td.Progress] = told) -> bool:
            told.append(progress)
            return len(told) == 3

        found = td.dream(encoder, GOAL, START, method=method, callback=stop, budget=50_000)
        assert found.stopped == "callback" and len(told) == 3
        assert told[-1].best_scores == pytest.approx((found.best.score,), abs=1e-5) and told[-1].soft_scores == ()


def test_receipts_hold_what_was_used(encoder: torch.nn.Module) -> None:
    weights = td.dream(encoder, GOAL, START, method="epo", budget=3000).settings["penalties"]
    assert len(weights) == 8 and weights == sorted(weights) and weights[0] == 0 < weights[-1]
    settings = td.dream(encoder, GOAL, START, method=td.Auto(top_k=21), budget=1000).settings
    assert asdict(td.Auto(top_k=21)).items() <= settings.items()
    steps = td.PEZ(steps=2)
    assert asdict(steps).items() <= td.dream(encoder, GOAL, START, method=steps).settings.items()
    assert td.dream(encoder, GOAL, START, method=td.GCG(candidates=9), budget=900).settings["candidates"] == 9
    assert "token_search" in td.dream(encoder, GOAL, START, free=[3]).settings["search"]
