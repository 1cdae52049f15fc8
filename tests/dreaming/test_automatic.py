"""The room dreaming.automatic."""

import math
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import VOCAB
from tests.support.search import EVERY_METHOD, GOAL, START, UNIT, answered, goal_of, searching
from tl_dream.dreaming import automatic
from tl_dream.dreaming.projection import project
from tl_dream.models.host import attached
from tl_dream.search import swap_search as swapping
from tl_dream.search.best_seen import BestSeen
from tl_dream.search.engine import Search, run
from tl_dream.search.proposals import merged as together
from tl_dream.search.swap_search import SwapSearch


def test_the_default_needs_the_slopes_of_its_swaps(seeded: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ascent before them, which has slopes of its own, is left out."""
    monkeypatch.setattr(automatic, "project", lambda *args, **kwargs: answered("still"))
    goal = goal_of(1) + goal_of(2) + goal_of(3)

    def run(seed: int) -> float:
        return td.dream(
            seeded, goal, START, method=td.Auto(top_k=2), budget=1200, seed=seed, allowed="no_special whole_words"
        ).best.score

    right = sum(run(seed) for seed in range(2))
    slopes = SwapSearch.slopes

    def flat(*args: object) -> Search[list[torch.Tensor]]:
        return [0 * slope for slope in (yield from slopes(*args))]

    monkeypatch.setattr(SwapSearch, "slopes", flat)
    assert sum(run(seed) for seed in range(2)) < right - 0.5


@pytest.mark.slow
def test_the_default_merges_and_starts_anew(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sweeps, so that it can't end before. Rounds of ascent are dear: there is one for every new start."""
    rounds: list[object] = []
    monkeypatch.setattr(automatic, "project", lambda *args, **told: rounds.append(args) or project(*args, **told))
    monkeypatch.setattr(automatic, "_sweep", lambda search, row, stop: answered(False))
    merged: list[list[tuple[int, ...]]] = []
    monkeypatch.setattr(swapping, "merged", lambda *args: merged.append(together(*args)) or merged[-1])
    anew, others, start_anew = [], [], BestSeen.start_anew

    def watched(self: BestSeen, row: int, ids: tuple[int, ...] | None = None, by_score: bool = False) -> None:
        start_anew(self, row, ids, by_score)
        anew.append(self.leads[row][0] == (ids or self.starts[row].ids) != self.best[row].ids)
        others.append(ids is not None)

    monkeypatch.setattr(BestSeen, "start_anew", watched)
    found = td.dream(encoder, GOAL, START, budget=60_000, allowed="no_special")
    assert found.stopped == "budget" and any(merged)
    assert all(anew) and any(others) and not all(others) and found.best.score == max(found.history.hard_score)
    assert td.Auto().rounds < len(rounds) <= td.Auto().rounds + len(anew)


def test_a_certified_optimum_is_one(encoder: torch.nn.Module) -> None:
    """Brute force over every sentence that differs in one word."""
    goal = td.neuron("block_out", layer=1, unit=0, pos=1)
    words = [word for word in VOCAB if word.isalpha() and len(word) > 2][:20]
    found = td.dream(encoder, goal, START, allowed=words, budget=30_000)
    assert found.optimum and "no single swap of an allowed token is better" in str(found)
    assert found.stopped == "budget" and found.cost.forward_tokens > 29_000  # it looks elsewhere all the same
    with attached(encoder) as host:
        ids = [host.vocabulary.token_id(word) for word in words]
        best = found.best.ids
        rows = [(*best[:at], i, *best[at + 1 :]) for at in range(1, len(best) - 1) for i in ids]
        rows = [row for row, ok in zip(rows, host.vocabulary.retokenizes(rows), strict=True) if ok]
    scores = td.score(encoder, goal, [td.Prompt(ids=row) for row in rows])
    assert scores.max().item() <= found.best.score + 1e-5


def test_a_sweep_leaves_no_swap_untried(encoder: torch.nn.Module) -> None:
    with attached(encoder) as host:
        words = host.vocabulary.allowed([word for word in VOCAB if word.isalpha() and len(word) > 2][:8])
        search = searching(host, UNIT, budget=100_000, allowed=words)
        stop = automatic._Stop(search, td.Auto(), None, None)
        while not run(host, automatic._sweep(search, 0, stop)):
            assert search.affordable(100) == 100
        best = search.seen.best[0].ids
        swaps = search.open_swaps(0, best).nonzero().tolist()
        rows = [(*best[: 1 + slot], token, *best[2 + slot :]) for slot, token in swaps]
        real = [row for row, ok in zip(rows, run(host, search.seen.returnable(0, rows)), strict=True) if ok]
        assert len(real) >= 30 and all(search.seen.knows(0, row) for row in real) and (0, best) in search.optima


def test_a_budget_too_small_is_no_certificate(encoder: torch.nn.Module) -> None:
    found = td.dream(encoder, GOAL, START, budget=1500)
    assert found.stopped == "budget" and found.cost.forward_tokens <= 1500


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails where what is inside takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def flat(acts: dict[str, Tensor]) -> Tensor:
    return acts["x"].flatten(1).sum(1) * 0.0


def constant(acts: dict[str, Tensor]) -> Tensor:
    return acts["x"].flatten(1).sum(1) * 0.0 + 3.0


def steps(acts: dict[str, Tensor]) -> Tensor:
    """Jumps, with a slope of zero between."""
    return (acts["x"][:, 2, 5] * 4).floor() + 0.0 * acts["x"][:, 2, 5]


def no_number(acts: dict[str, Tensor]) -> Tensor:
    return acts["x"][:, 2, 5] * math.nan


STRANGE = {
    "flat": td.custom(flat, {"x": ("block_out", 1)}),
    "constant": td.custom(constant, {"x": ("block_out", 1)}),
    "zero": 0.0 * UNIT,
    "jumps": td.custom(steps, {"x": ("block_out", 1)}),
    **{f"slopes of 1e-{power}": 10.0**-power * UNIT for power in (39, 44)},
    "far below zero": td.neuron("mlp_post", layer=1, unit=5, pos=2) * 1e-37,
    "NaN": td.custom(no_number, {"x": ("block_out", 1)}),
}


@pytest.mark.parametrize("method", EVERY_METHOD)
@pytest.mark.parametrize("kind", STRANGE)
def test_every_search_ends(encoder: torch.nn.Module, kind: str, method: str) -> None:
    with within(60):  # seconds where nothing else runs; a machine under load gets its time
        try:
            found = td.dream(encoder, STRANGE[kind], [START, "the red dog"], method=method, budget=900)
        except td.DreamError as error:
            assert kind == "NaN", error
            found = error.partial
    assert found.cost.forward_tokens <= 900 or kind == "NaN"


def test_faint_slopes_lead_as_others_do(encoder: torch.nn.Module) -> None:
    """A factor changes nothing, as long as the slopes are numbers of full precision."""
    plain, faint = (td.dream(encoder, factor * UNIT, START, budget=6000) for factor in (1.0, 1e-15))
    assert plain.best.score > plain.start.score + 1 and faint.best.ids == plain.best.ids


def test_a_better_text_is_found_elsewhere(encoder: torch.nn.Module) -> None:
    """Where the text has no slope at all, other starts find what a walk from here would not."""
    word = VOCAB.index("river")

    def island(acts: dict[object, Tensor], rows: object) -> Tensor:
        there = (acts[td.objectives.TOKENS].ids[:, 2] == word).float()
        return there * (1 + acts[td.objectives.Read("block_out", 1)][:, 2, 5])

    goal = td.Objective((td.objectives.Read("block_out", 1), td.objectives.TOKENS), "island", island)
    words = ["river", *[word for word in VOCAB if word.isalpha() and len(word) > 2][:30]]
    found = td.dream(encoder, goal, START, allowed=words, budget=30_000)
    assert found.best.tokens[2] == "river" and found.best.score > 1


def test_three_free_words_end_at_the_best_of_all(encoder: torch.nn.Module) -> None:
    """Brute force over 1,728 texts, of which the budget covers two fifths."""
    goal = td.neuron("mlp_post", layer=2, unit=1, pos=2)
    words = [word for word in VOCAB if word.isalpha() and len(word) > 2][:12]
    codes = [VOCAB.index(word) for word in words]
    ids = encoder.tokenizer(START)["input_ids"]
    rows = torch.tensor(list(product(codes, repeat=3)))
    texts = [td.Prompt(ids=[*ids[:1], *row, *ids[4:]]) for row in rows.tolist()]
    best = td.score(encoder, goal, texts).max().item()
    found = td.dream(encoder, goal, START, free=[1, 2, 3], allowed=words, budget=690 * 7 * 3, seed=1)
    assert found.best.score >= best - 1e-4 and found.stopped == "budget"
