"""The exact best of many, found through screens that are wrong."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tl_dream import DreamError
from tl_dream.scans.screening import CROWD, Shortlist, _infer, _Level, exact_best


def search(
    true: Tensor, *screens: Tensor, top: int = 20, **options: int
) -> tuple[Shortlist, list[tuple[int, float]], list[int]]:
    """The shortlist, what a plain loop gives, and every candidate that was scored exactly."""
    asked: list[int] = []

    def exact(numbers: Tensor) -> Tensor:
        asked.extend(numbers.tolist())
        return true[numbers]

    found = exact_best(len(true), top, [lambda numbers, s=s: s[numbers] for s in screens], exact, **options)
    ranked = sorted(enumerate(true.tolist()), key=lambda pair: (-pair[1], pair[0]))[:top]
    return found, ranked, asked


def noise(count: int, size: float, seed: int) -> Tensor:
    return size * torch.randn(count, generator=torch.Generator().manual_seed(seed))


SHAPES = {
    "spread": lambda x: x,
    "off below 0": lambda x: x.relu(),
    "mostly off": lambda x: (x - 2.6).relu(),
    "steps": lambda x: (2 * x).round(),
    "one value": lambda x: x * 0,
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(10))
def test_the_best_are_the_plain_loops(shape: str, seed: int) -> None:
    count = 200 + 700 * seed
    true = SHAPES[shape](noise(count, 1.0, seed))
    coarse = true + noise(count, 0.01, seed + 100) + 5 * (-1) ** seed  # an offset for all is no error
    found, ranked, asked = search(true, coarse, true)
    assert list(zip(found.best, found.scores, strict=True)) == ranked
    assert len(asked) == len(set(asked)) == found.scored < 250
    assert found.bound < 0.5


def test_no_screen_is_the_plain_loop() -> None:
    found, ranked, asked = search(noise(50, 1.0, 0), top=50)
    assert list(found.best) == [i for i, _ in ranked]
    assert len(asked) == found.scored == 50 and found.bound == 0


def test_a_useless_screen_costs_time_and_nothing_else() -> None:
    true = noise(300, 1.0, 0)
    found, ranked, asked = search(true, noise(300, 1.0, 1), top=5, sample=20)
    assert list(found.best) == [i for i, _ in ranked]
    assert len(asked) > 150


@pytest.mark.parametrize("size, seen", [(0.02, 300), (1.0, 20)])
def test_a_coarse_screen_that_passes_most_is_left_out(size: float, seen: int) -> None:
    """It sees the sample alone; a good one sees all, and the next few."""
    true, runs = noise(300, 1.0, 0), Counter()

    def screen(values: Tensor, name: str) -> Callable[[Tensor], Tensor]:
        return lambda numbers: (runs.update({name: len(numbers)}), values[numbers])[1]

    screens = [screen(true + noise(300, size, 1), "coarse"), screen(true, "fine")]
    found = exact_best(300, 5, screens, lambda numbers: true[numbers], sample=20, last_sample=5)
    assert list(found.best) == true.topk(5).indices.tolist()
    assert runs["coarse"] == seen
    assert runs["fine"] == 300 if seen == 20 else runs["fine"] < 100


def test_an_error_found_late_widens_the_bound() -> None:
    """The screen is off where it counts, which the random sample does not show."""
    true = noise(5000, 1.0, 3)
    coarse = true.clone()
    best = true.topk(60).indices
    coarse[best[:40]] -= 0.5 * torch.rand(40, generator=torch.Generator().manual_seed(0))
    found, ranked, _ = search(true, coarse, true, sample=64)
    assert list(found.best) == [i for i, _ in ranked]
    assert found.bound > 0.1


def test_no_answer_from_a_screen_is_looked_at() -> None:
    true = noise(500, 1.0, 0)
    coarse = true.clone()
    coarse[true.argmax()] = math.nan
    found, ranked, _ = search(true, coarse, top=3)
    assert list(found.best) == [i for i, _ in ranked]


def test_scores_that_are_no_numbers_come_last() -> None:
    true = noise(100, 1.0, 0)
    true[:95] = math.nan
    found, _, _ = search(true, true, top=5)
    assert sorted(found.best) == [95, 96, 97, 98, 99]
    with pytest.raises(DreamError, match="only 5 of 100 candidates have a score, and the best 6 were asked for"):
        search(true, true, top=6)


def test_a_crowd_with_one_value_is_not_scored_one_by_one() -> None:
    true = torch.zeros(20_000)
    true[[17, 4000]] = torch.tensor([1.0, 2.0])
    found, ranked, asked = search(true, true + noise(20_000, 1e-3, 0) * (true > 0), true)
    assert list(found.best) == [i for i, _ in ranked] == [4000, 17, *range(17), 18]
    assert len(asked) < 4 * CROWD


def test_a_crowd_that_disagrees_is() -> None:
    """A coarse screen says the same of all; their scores differ."""
    true = noise(400, 1.0, 0)
    found, ranked, asked = search(true, torch.zeros(400), top=3)
    assert list(found.best) == [i for i, _ in ranked]
    assert len(asked) == 400


def test_a_few_that_agree_are_no_crowd() -> None:
    _, _, asked = search(torch.zeros(400), torch.zeros(400), top=3, last_sample=2)
    true = torch.ones(400)
    true[asked[:3]] = 0
    found, ranked, _ = search(true, torch.zeros(400), top=3, last_sample=2)
    assert list(zip(found.best, found.scores, strict=True)) == ranked


@pytest.mark.parametrize(("unknown", "inferred"), [(CROWD, False), (CROWD + 1, True)])
def test_a_crowd_of_unknown_ones_takes_the_value_of_those_known(unknown: int, inferred: bool) -> None:
    screen, exact = (
        _Level(CROWD + unknown, lambda numbers: torch.full(numbers.shape, 2.0), last) for last in (False, True)
    )
    screen.learn(torch.arange(CROWD + unknown))
    exact.learn(torch.arange(CROWD))
    _infer(screen, exact)
    assert bool(exact.known.all()) is inferred and exact.runs == CROWD
