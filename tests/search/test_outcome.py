"""The room search.outcome."""

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import says
from tests.support.search import GOAL, METHODS, START, UNIT, batch_of
from tl_dream.models.host import Host
from tl_dream.search.batch import Ask, Search
from tl_dream.search.best_seen import BestSeen
from tl_dream.search.engine import run as run_search
from tl_dream.search.outcome import Outcome, finish, side_by_side


def hidden_root(acts: dict[str, Tensor]) -> Tensor:
    """A plain unit, and a norm that is zero: the score is a number, its gradient is not."""
    return acts["x"][:, 2, 5] + (acts["x"][:, 2] - acts["x"][:, 2]).pow(2).sum(-1).sqrt()


@pytest.mark.parametrize("method", ["anneal", *METHODS])
def test_a_gradient_that_is_no_number_ends_it(encoder: torch.nn.Module, method: str) -> None:
    goal = td.custom(hidden_root, {"x": ("block_out", 1)}, name="root")
    with says("the gradient of root became NaN or infinite where the score is 2.", "square root of zero") as caught:
        td.dream(encoder, goal, START, method=method, budget=100_000)
    partial = caught.value.partial
    assert isinstance(partial, td.Dream) and partial.best == partial.start and partial.stopped == "failure"


@pytest.mark.parametrize("method", METHODS)
def test_the_history_climbs_to_the_best(encoder: torch.nn.Module, method: str) -> None:
    found = td.dream(encoder, GOAL, [START, "the red dog"], method=method, budget=5000, starts=2)
    assert len(found.others) == 3
    for run in (found, *found.others):
        history = run.history
        assert history.hard_score[0] == run.start.score and history.hard_score[-1] == run.best.score >= run.start.score
        assert list(history.hard_score) == sorted(history.hard_score)
        assert list(history.forward_tokens) == sorted(history.forward_tokens)
        assert history.tokens[-1] == run.best.tokens and history.soft_score == ()
    assert found.best.score >= max(run.best.score for run in found.others)
    again = td.Dream.from_json(found.to_json())
    assert again == found
    assert list(found.to_frame()["forward_tokens"])[0] >= 0 and "cost:" in str(found)


def test_scores_that_are_no_numbers_end_it(encoder: torch.nn.Module) -> None:
    goal = td.custom(lambda acts: acts["x"][:, 2, 0] / 0, {"x": ("block_out", 1)}, name="broken")
    for method in METHODS:
        with says("the score of real tokens became") as caught:
            td.dream(encoder, goal, START, method=method, budget=3000)
        assert isinstance(caught.value.partial, td.Dream)


@pytest.mark.parametrize("texts", [[START, "the red dog"], ["the red dog", START]])
def test_an_optimum_is_that_of_the_best_row(host: Host, texts: list[str]) -> None:
    before, batch = host.meter.now(), batch_of(host, texts)
    runs = run_search(host, BestSeen.of(host, GOAL, batch)).runs()
    best = max((0, 1), key=lambda row: runs[row].best.score)
    for row in (0, 1):
        outcome = Outcome(runs, "budget", None, (row == 0, row == 1))
        result = finish(host, GOAL, batch, outcome, settings={}, seed=0, before=before)
        assert result.best == runs[best].best and result.optimum is (row == best)


def test_jobs_are_handed_out_as_they_end_and_read_as_room_gets_free(encoder: torch.nn.Module) -> None:
    begun: list[int] = []

    def task(host: Host, rounds: int) -> Search[int]:
        begun.append(rounds)
        batch = batch_of(host, [START])
        for _ in range(rounds):
            yield Ask(host, batch, (UNIT,), [(0, batch.sentences[0].ids)])
        if rounds == 3:
            raise ValueError("three")
        return rounds

    found = side_by_side(
        encoder,
        iter([5, 1, 3, 2]),
        task,
        lambda number, job, result, error: (number, job, result, str(error)),
        what="number",
        width=2,
        on_cpu=1,
        progress=False,
    )
    assert not begun and next(found) == (1, 1, 1, "None") and begun == [5, 1]
    assert sorted(found) == [(0, 5, 5, "None"), (2, 3, None, "three"), (3, 2, 2, "None")]
