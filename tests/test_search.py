"""Searches over real tokens: what was planted is found, no swap is forgotten, nothing is lost."""

import math
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import PLANTS, VOCAB, _guarded, says
from torch import Tensor

import tl_dream as td
from tl_dream import automatic, swapping
from tl_dream.batches import Batch, BestSeen
from tl_dream.hosts import Budget, attached
from tl_dream.populations import Population
from tl_dream.rows import TOKENS, Read
from tl_dream.swapping import Swaps, _merged

START = "i do see the sun"
GOAL = td.neuron("mlp_post", layer=1, unit=5, pos=2)
METHODS = ("auto", "gcg", "epo", "pez")


@pytest.fixture(scope="module")
def encoder(tiny_folder: Path) -> Iterator[torch.nn.Module]:
    """One backend, for what has nothing to do with it."""
    yield from _guarded(td.load_model(str(tiny_folder)))


@pytest.fixture(scope="module")
def seeded(planted_folder: Path) -> Iterator[torch.nn.Module]:
    yield from _guarded(td.load_model(str(planted_folder)))


def goal_of(pos: int, plant: int = 0) -> td.Objective:
    return td.neuron("mlp_post", layer=PLANTS[plant].layer, unit=PLANTS[plant].unit, pos=pos)


def searching(host: object, text: str = START, budget: int = 10_000, **options: object) -> Swaps:
    sentence = host.vocabulary.read(text)
    allowed = options.pop("allowed", host.vocabulary.allowed())
    batch = Batch.of(host, [sentence], allowed, True, **options)
    return Swaps(host, GOAL, batch, Budget(host.meter, budget))


# What was planted is found


@pytest.mark.parametrize("method", METHODS)
def test_the_planted_token_is_found(planted: torch.nn.Module, method: str) -> None:
    found = td.dream(planted, goal_of(3), START, method=method, budget=8000, allowed="no_special whole_words")
    assert found.best.tokens[3] == "moon" and found.best.retokenizes
    assert found.best.score == pytest.approx(td.score(planted, goal_of(3), found.best.text).item(), abs=1e-5)
    assert found.cost.forward_tokens <= 8000 and found.soft_score is None


@pytest.mark.parametrize("method", ["gcg", "epo", "auto"])
def test_two_planted_tokens_are_found_together(seeded: torch.nn.Module, method: str) -> None:
    """The best pair of 20 allowed words, known by trying all 400."""
    goal = goal_of(2) + goal_of(4, 1)
    words = ["moon", "river", *[word for word in VOCAB if word.isalpha() and len(word) > 2][:18]]
    texts = [f"i {left} see {right} sun" for left, right in product(words, words)]
    best = texts[td.score(seeded, goal, texts).argmax()]
    found = td.dream(seeded, goal, START, free=[2, 4], allowed=words, method=method, budget=8000)
    assert found.best.text == best == "i moon see river sun"


@pytest.mark.parametrize("spoil", ["zeroed", "flipped"])
@pytest.mark.parametrize("method", METHODS)
def test_without_the_right_gradient_it_does_worse(
    seeded: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, method: str, spoil: str
) -> None:
    """Few proposals and a small budget, so that luck can't stand in for the gradient."""
    monkeypatch.setattr(automatic, "TOP_K", 2)
    goal = goal_of(1) + goal_of(2) + goal_of(3)
    options = {"method": method, "budget": 1200, "allowed": "no_special whole_words"}
    if method in ("gcg", "epo"):
        options.pop("method")
        search = td.gcg if method == "gcg" else td.epo

        def run(seed: int) -> float:
            return search(seeded, goal, START, top_k=2, seed=seed, **options).best.score
    else:

        def run(seed: int) -> float:
            return td.dream(seeded, goal, START, seed=seed, **options).best.score

    seeds = range(2)
    right = sum(run(seed) for seed in seeds)
    true_grad = torch.autograd.grad

    def spoiled(*args: object, **kwargs: object) -> tuple[Tensor | None, ...]:
        sign = -1.0 if spoil == "flipped" else 0.0
        return tuple(None if g is None else sign * g for g in true_grad(*args, **kwargs))

    monkeypatch.setattr(torch.autograd, "grad", spoiled)
    assert sum(run(seed) for seed in seeds) < right - 0.5


def test_the_default_needs_the_slopes_of_its_swaps(seeded: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ascent before them, which has slopes of its own, is left out."""
    monkeypatch.setattr(automatic, "TOP_K", 2)
    monkeypatch.setattr(automatic, "project", lambda *args, **kwargs: "still")
    goal = goal_of(1) + goal_of(2) + goal_of(3)

    def run(seed: int) -> float:
        return td.dream(seeded, goal, START, budget=1200, seed=seed, allowed="no_special whole_words").best.score

    right = sum(run(seed) for seed in range(2))
    slopes = Swaps.slopes
    monkeypatch.setattr(Swaps, "slopes", lambda *args: [0 * slope for slope in slopes(*args)])
    assert sum(run(seed) for seed in range(2)) < right - 0.5


# Every setting does something


@pytest.fixture
def proposals(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What every call of `Swaps.propose` was asked for, when, and what it gave."""
    told: list[dict[str, object]] = []
    propose = Swaps.propose

    def watched(self: Swaps, walker: object, gains: Tensor, count: int, top_k: int, swaps: int = 1) -> object:
        found = propose(self, walker, gains, count, top_k, swaps)
        changed = {sum(a != b for a, b in zip(ids, walker.ids, strict=True)) for ids in found}
        told.append({"share": self.budget.share, "count": len(found), "top_k": top_k, "changed": changed})
        return found

    monkeypatch.setattr(Swaps, "propose", watched)
    return told


def test_gcg_exchanges_several_words_early(encoder: torch.nn.Module, proposals: list[dict[str, object]]) -> None:
    td.gcg(encoder, GOAL, START, candidates=6, top_k=9, swaps=3, early=0.5, budget=3000, retokenize=False)
    early = [one for one in proposals if one["share"] < 0.45]
    late = [one for one in proposals if one["share"] > 0.55]
    assert early and late and all(one["changed"] == {3} for one in early) and all(one["changed"] == {1} for one in late)
    assert {one["count"] for one in proposals[:-2]} == {6} and {one["top_k"] for one in proposals} == {9}


def test_epo_has_so_many_children(encoder: torch.nn.Module, proposals: list[dict[str, object]]) -> None:
    td.epo(encoder, GOAL, START, population=2, children=5, top_k=9, budget=3000)
    assert {one["count"] for one in proposals[:-4]} == {5} and {one["top_k"] for one in proposals} == {9}


def test_epo_starts_all_again_from_one(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = td.fluency(td.count_bigrams(encoder, ["the red dog sees the moon", "i see the sun"]))
    restart, before, after = Population._restart, [], []

    def watched(self: Population) -> None:
        before.append({member.ids for member in self._members})
        restart(self)
        after.append({member.ids for member in self._members})

    monkeypatch.setattr(Population, "_restart", watched)
    td.epo(encoder, GOAL, START, fluency=judge, penalties=[0.0, 1.0, 5.0], restart_every=2, budget=7000)
    assert len(after) >= 3 and any(len(ids) > 1 for ids in before)
    assert all(len(new) == 1 and new <= old for old, new in zip(before, after, strict=True))


def test_the_default_merges_and_starts_anew(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sweeps, so that it can't end before."""
    monkeypatch.setattr(automatic, "_sweep", lambda search, row, stop: False)
    merged: list[list[tuple[int, ...]]] = []
    monkeypatch.setattr(swapping, "_merged", lambda *args: merged.append(_merged(*args)) or merged[-1])
    anew, others, start_anew = [], [], BestSeen.start_anew

    def watched(self: BestSeen, row: int, ids: tuple[int, ...] | None = None) -> None:
        start_anew(self, row, ids)
        anew.append(self.leads[row][0] == (ids or self.starts[row].ids) != self.best[row].ids)
        others.append(ids is not None)

    monkeypatch.setattr(BestSeen, "start_anew", watched)
    found = td.dream(encoder, GOAL, START, budget=80_000, allowed="no_special")
    assert found.stopped == "budget" and any(merged)
    assert all(anew) and any(others) and not all(others) and found.best.score == max(found.history.hard_score)


# Optima


def test_the_slopes_order_the_swaps_and_do_not_choose_them(encoder: torch.nn.Module) -> None:
    with attached(encoder) as host:
        search = searching(host, max_changes=2, budget=100_000)
        ids = search.walker(0).ids
        swaps = search.open_swaps(0, ids)
        own = torch.tensor([ids[at] for at in search.batch.sentences[0].free])
        expected = host.vocabulary.allowed().repeat(5, 1)
        expected[torch.arange(5), own] = False
        assert torch.equal(swaps, expected)
        for value in (math.nan, math.inf, -math.inf, 0.0):
            gains = search.gains(0, ids, torch.full((5, len(VOCAB)), value))
            assert torch.equal(gains > -math.inf, swaps)
        search.slopes = lambda states: [torch.full((5, len(VOCAB)), math.nan)]
        before = search.seen.best[0].score
        assert not automatic._sweep(search, 0, automatic._Stop(search, None, None))
        assert search.seen.best[0].score > before


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


@pytest.mark.parametrize("unit", range(4))
def test_a_certified_optimum_is_one(encoder: torch.nn.Module, unit: int) -> None:
    """Brute force over every sentence that differs in one word."""
    goal = td.neuron("block_out", layer=1, unit=unit, pos=1)
    words = [word for word in VOCAB if word.isalpha() and len(word) > 2][:40]
    found = td.dream(encoder, goal, START, allowed=words, budget=200_000, seed=unit)
    assert found.optimum and "no single swap of an allowed token is better" in str(found)
    assert found.stopped == "budget" and found.cost.forward_tokens > 190_000  # it looks elsewhere all the same
    with attached(encoder) as host:
        ids = [host.vocabulary.token_id(word) for word in words]
        best = found.best.ids
        rows = [(*best[:at], i, *best[at + 1 :]) for at in range(1, len(best) - 1) for i in ids]
        rows = [row for row, ok in zip(rows, host.vocabulary.retokenizes(rows), strict=True) if ok]
    scores = td.score(encoder, goal, [td.Prompt(ids=row) for row in rows])
    assert scores.max().item() <= found.best.score + 1e-5


def test_a_budget_too_small_is_no_certificate(encoder: torch.nn.Module) -> None:
    found = td.dream(encoder, GOAL, START, budget=1500)
    assert found.stopped == "budget" and found.cost.forward_tokens <= 1500


def same_as_token_search(model: torch.nn.Module, unit: int, at: int) -> td.Dream:
    """A dream with one free word, checked against the best returnable token of a token search."""
    goal = td.neuron("block_out", layer=1, unit=unit, pos=2)
    found = td.dream(model, goal, START, free=[at], progress=False)
    table = td.token_search(model, goal, START, pos=at, top=100, progress=False)
    with attached(model) as host:
        rows = [(*found.start.ids[:at], row.id, *found.start.ids[at + 1 :]) for row in table.top]
        best = next(row for row, ok in zip(table.top, host.vocabulary.retokenizes(rows), strict=True) if ok)
    assert found.best.ids[at] == best.id and found.best.score == pytest.approx(best.score, abs=1e-6)
    assert found.stopped == "complete" and found.optimum
    return found


@pytest.mark.parametrize("unit", range(3))
def test_one_free_word_is_the_token_searchs(encoder: torch.nn.Module, unit: int) -> None:
    found = same_as_token_search(encoder, unit, 3)
    goal = td.neuron("block_out", layer=1, unit=unit, pos=2)
    within = td.dream(encoder, goal, START, free=[3], budget=100_000)  # by swaps: the same, and certified
    assert within.best.ids == found.best.ids and within.stopped == "complete"


def spoiled(value: float, *words: str) -> td.Objective:
    """A unit, but no number where one of some words stands at position 3."""
    ids = [VOCAB.index(word) for word in words]

    def score(acts: dict[Read, object], rows: object) -> Tensor:
        bad = torch.isin(acts[TOKENS].ids[:, 3], torch.tensor(ids))
        return acts[Read("block_out", 1)][:, 2, 5].masked_fill(bad, value)

    return td.Objective((Read("block_out", 1), TOKENS), "spoiled", score)


def test_one_free_word_tells_of_scores_that_are_no_numbers(encoder: torch.nn.Module) -> None:
    plain = td.dream(encoder, GOAL, START, free=[3])
    assert plain.stopped == "complete"
    for goal in (spoiled(math.nan, "moon"), spoiled(math.nan, *VOCAB[60:200]), spoiled(math.nan, "see")):
        with says("the score of real tokens became nan") as caught:
            td.dream(encoder, goal, START, free=[3])
        assert isinstance(caught.value.partial, td.Dream) and caught.value.partial.stopped == "failure"
    assert caught.value.partial.cost.forwards == 1  # of the last, whose start is none: it was not searched
    assert td.dream(encoder, spoiled(math.nan, "[MASK]"), START, free=[3]).stopped == "complete"  # it is not allowed


def test_one_free_word_tells_its_callback(encoder: torch.nn.Module) -> None:
    told: list[td.Progress] = []
    found = td.dream(encoder, GOAL, [START, "the dog"], free=[2], callback=lambda progress: told.append(progress))
    assert found.stopped == "complete" and [progress.step for progress in told] == [0, 1, 2]
    stopped = td.dream(encoder, GOAL, START, free=[2], callback=lambda progress: True)
    assert stopped.stopped == "callback" and stopped.cost.forwards == 2  # before the search


def test_one_free_word_is_searched_once_for_all_starts(encoder: torch.nn.Module) -> None:
    one, three = (td.dream(encoder, GOAL, START, free=[3], starts=count) for count in (1, 3))
    assert three.cost.forwards <= one.cost.forwards + 2 * 3  # their starts, their best, and this by the model itself
    assert len(three.others) == 2 and {run.best.ids for run in three.others} == {one.best.ids}


@pytest.mark.slow
def test_one_free_word_is_the_token_searchs_everywhere(encoder: torch.nn.Module) -> None:
    for unit, at in product(range(20), range(1, 6)):  # 100 cases
        same_as_token_search(encoder, unit, at)


# Proposals


def test_proposals_are_new_allowed_and_real(encoder: torch.nn.Module) -> None:
    words = torch.zeros(len(VOCAB), dtype=torch.bool)
    words[[VOCAB.index(w) for w in ("moon", "dog", "##s", "##ing", "fire", "red")]] = True
    with attached(encoder) as host:
        search = searching(host, allowed=words)
        walker = search.walker(0)
        (slope,) = search.slopes([(0, walker.ids)])
        gains = search.gains(0, walker.ids, slope)
        assert gains.shape == (5, len(VOCAB)) and bool((gains[:, ~words] == -math.inf).all())
        seen: set[tuple[int, ...]] = set()
        for _ in range(12):
            some = search.propose(walker, gains, 4, 6)
            assert not seen & set(some) and len(set(some)) == len(some)
            seen |= set(some)
            search.score([(0, ids) for ids in some])
            assert all(host.vocabulary.retokenizes(some))
            for ids in some:
                assert ids[0] == walker.ids[0] and ids[-1] == walker.ids[-1] and ids != walker.ids
                assert all(words[new] for new, old in zip(ids, walker.ids, strict=True) if new != old)
        assert search.propose(walker, gains, 4, 6) == []  # all tried
        one = {ids for ids in seen if sum(a != b for a, b in zip(ids, walker.ids, strict=True)) == 1}
        assert len(one) >= 15  # every word at every place, pieces where they stay


def test_the_steepest_are_proposed(encoder: torch.nn.Module) -> None:
    with attached(encoder) as host:
        search = searching(host, allowed=host.vocabulary.allowed("no_special whole_words"))
        walker = search.walker(0)
        gains = torch.full((5, len(VOCAB)), -math.inf)
        gains[2, 40:60] = torch.arange(20.0)
        some = search.propose(walker, gains, 10, 3)
        assert {ids[3] for ids in some} == {57, 58, 59}
        several = search.propose(walker, gains.expand(5, -1)[[2, 2, 2, 2, 2]], 10, 3, swaps=3)
        assert {sum(a != b for a, b in zip(ids, walker.ids, strict=True)) for ids in several} == {3}


def test_merging_takes_the_best_swap_of_each_place() -> None:
    walker = swapping.Walker(0, (1, 2, 3, 4, 5), 1.0, torch.Generator())
    values = {
        (1, 9, 3, 4, 5): 2.0,
        (1, 8, 3, 4, 5): 1.5,
        (1, 2, 7, 4, 5): 3.0,
        (1, 2, 3, 6, 5): 0.5,
        (1, 2, 3, 4, 0): 1.1,
    }
    assert _merged(walker, values) == [(1, 9, 7, 4, 5), (1, 9, 7, 4, 0)]
    assert _merged(walker, {(1, 9, 3, 4, 5): 2.0}) == []


# Limits


@pytest.mark.parametrize("method", ["anneal", *METHODS])
def test_max_changes_and_banned_words(seeded: torch.nn.Module, method: str) -> None:
    goal = goal_of(1) + goal_of(2) + goal_of(3)
    options = {"steps": 30} if method in ("anneal", "pez") else {"budget": 3000}
    free = td.dream(seeded, goal, START, method=method, allowed="no_special whole_words", **options)
    some = td.dream(seeded, goal, START, method=method, allowed="no_special whole_words", max_changes=1, **options)
    changed = [a != b for a, b in zip(some.start.tokens, some.best.tokens, strict=True)]
    assert sum(changed) == 1 and free.best.score >= some.best.score > some.start.score
    most = [token for token in free.best.tokens if token not in free.start.tokens]
    none = td.dream(seeded, goal, START, method=method, banned=most, allowed="no_special whole_words", **options)
    assert most and not set(most) & set(none.best.tokens) and (none.gain > 0 or method == "anneal")


def test_the_predicted_word_is_not_written(encoder: torch.nn.Module) -> None:
    goal = td.logit("moon", pos=3)
    assert (
        goal.answers == ("moon",) and (2 * goal + td.logit("dog")).answers == ("moon", "dog") and (-goal).answers == ()
    )
    options = {"free": [3], "allowed": ["moon", "dog", "sun"]}
    kept = td.dream(encoder, goal, START, **options)
    assert "moon" not in kept.best.tokens
    freed = td.dream(encoder, goal, START, banned=(), **options)
    scores = {w: td.score(encoder, goal, f"i do {w} the sun").item() for w in ("moon", "dog", "sun", "see")}
    assert freed.best.score == pytest.approx(max(scores.values()), abs=1e-5)
    assert kept.best.score == pytest.approx(max(scores[w] for w in ("dog", "sun", "see")), abs=1e-5)


# Repeatable, never below its start


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_bits(
    encoder: torch.nn.Module, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(seed: int) -> dict[str, object]:
        data = td.dream(encoder, GOAL, START, method=method, budget=4000, seed=seed).to_json()
        return {key: value for key, value in data.items() if key != "seconds"}

    first = run(3)
    assert run(3) == first
    monkeypatch.setattr("tl_dream.batches.default_batch_tokens", lambda host, given: 20)
    small = run(3)  # a batch of another size is good to the last digits
    assert small["best"]["ids"] == first["best"]["ids"]
    assert small["best"]["score"] == pytest.approx(first["best"]["score"], abs=1e-5)
    if method != "pez":
        assert run(4)["history"] != first["history"]


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


def test_a_corpus_search_starts_a_dream(encoder: torch.nn.Module) -> None:
    texts = [f"the {word} dog sees" for word in VOCAB if word.isalpha() and len(word) > 2][:30]
    corpus = td.corpus_search(encoder, GOAL, texts, top=12)
    found = td.dream(encoder, GOAL, start=corpus, budget=8000)
    starts = {run.start.text for run in (found, *found.others)}
    assert starts == set(corpus.texts(10)) and found.best.score > corpus.top[0].score
    annealed = td.dream(encoder, GOAL, start=corpus, steps=5, method="anneal")
    assert annealed.best.score >= corpus.top[0].score and len(annealed.others) == 9
    with says("a prompt and a corpus search are both given"):
        td.dream(encoder, GOAL, START, start=corpus)
    with says("no sentence to start from"):
        td.dream(encoder, GOAL)


def test_a_callback_stops(encoder: torch.nn.Module) -> None:
    for method in METHODS:
        told: list[td.Progress] = []

        def stop(progress: td.Progress, told: list[td.Progress] = told) -> bool:
            told.append(progress)
            return len(told) == 3

        found = td.dream(encoder, GOAL, START, method=method, callback=stop, budget=50_000)
        assert found.stopped == "callback" and len(told) == 3
        assert told[-1].best_scores == pytest.approx((found.best.score,), abs=1e-5) and told[-1].soft_scores == ()


def test_scores_that_are_no_numbers_end_it(encoder: torch.nn.Module) -> None:
    goal = td.custom(lambda acts: acts["x"][:, 2, 0] / 0, {"x": ("block_out", 1)}, name="broken")
    for method in METHODS:
        with says("the score of real tokens became") as caught:
            td.dream(encoder, goal, START, method=method, budget=3000)
        assert isinstance(caught.value.partial, td.Dream)


# EPO


def test_the_front_is_a_front(encoder: torch.nn.Module, tmp_path: Path) -> None:
    judge = td.fluency(td.count_bigrams(encoder, ["the red dog sees the moon", "i see the sun", "the dog"]))
    front = td.epo(encoder, GOAL, START, fluency=judge, budget=15_000, restart_every=4, seed=1)
    pairs = [(point.scored.score, point.fluency) for point in front.front]
    assert len(pairs) >= 2 and pairs == sorted(pairs, reverse=True)
    assert [fluent for _, fluent in pairs] == sorted(fluent for _, fluent in pairs)  # less of one, more of the other
    for point in front.front:
        assert point.scored.score == pytest.approx(td.score(encoder, GOAL, point.scored.text).item(), abs=1e-5)
        assert point.fluency == pytest.approx(td.score(encoder, judge, point.scored.text).item(), abs=1e-5)
    assert front.best == front.front[0].scored and front.best.score >= front.start.scored.score
    assert front.start.fluency == pytest.approx(td.score(encoder, judge, START).item(), abs=1e-5)
    assert front.settings["penalties"][0] == 0 < front.settings["penalties"][-1]
    front.save(tmp_path / "front.json")
    assert td.Frontier.load(tmp_path / "front.json") == front
    assert "nats/token" in str(front) and len(front.to_frame()) == len(front.front)


def test_epo_without_a_judge_and_with_weights(encoder: torch.nn.Module) -> None:
    judge = td.fluency(td.count_bigrams(encoder, ["the red dog sees the moon"]))
    strong, weak = (td.epo(encoder, 0.0 * GOAL, START, fluency=judge, penalties=[w], budget=6000) for w in (1.0, 0.0))
    assert strong.front[-1].fluency > weak.front[-1].fluency + 0.3
    own = td.epo(encoder, GOAL, START, budget=3000, population=3)
    assert own.fluency == "fluency()"  # the tiny encoder's head is trained, as far as anyone knows


def test_penalties_need_a_judge(tiny_checkpoint: Callable[..., Path]) -> None:
    headless = td.load_model(str(tiny_checkpoint("BertModel")))
    with says("penalties of up to 5.0 weigh fluency", "give fluency="):
        td.epo(headless, GOAL, START, penalties=[0.0, 5.0], budget=1000)
    assert td.epo(headless, GOAL, START, penalties=[0.0, 0.0], budget=1000).fluency is None


def test_fluency_that_is_no_number_ends_it(encoder: torch.nn.Module) -> None:
    for judge in (spoiled(math.nan, "see"), spoiled(math.nan, *VOCAB[60:200]), spoiled(math.inf, *VOCAB[60:200])):
        with says("the fluency of real tokens became ") as caught:
            td.epo(encoder, GOAL, START, fluency=judge, budget=4000)
        assert isinstance(caught.value.partial, td.Dream) and math.isfinite(caught.value.partial.best.score)


def test_bad_input(encoder: torch.nn.Module) -> None:
    with says("unknown method 'gcq'", "gcg"):
        td.dream(encoder, GOAL, START, method="gcq")
    with says("method='gcg' has no steps, noise: leave them out", 'method="anneal"'):
        td.dream(encoder, GOAL, START, method="gcg", steps=3, noise=True)
    with says("method='pez' has no preset: leave it out"):
        td.dream(encoder, GOAL, START, method="pez", preset="article")
    for bad in (0, -3):
        with says(f"budget = {bad!r}: give a whole number of at least 1"):
            td.dream(encoder, GOAL, START, budget=bad)
        with says(f"max_changes = {bad!r}"):
            td.dream(encoder, GOAL, START, max_changes=bad)
        with says(f"candidates = {bad!r}"):
            td.gcg(encoder, GOAL, START, candidates=bad)
    with says("early = 2"):
        td.gcg(encoder, GOAL, START, early=2)
    with says("penalties = (-1.0,)"):
        td.epo(encoder, GOAL, START, penalties=[-1.0])
    with says("the banned tokens leave nothing"):
        td.dream(encoder, GOAL, START, allowed=["dog"], banned=["dog"])
    with says("banned = 'dog': give a list of tokens"):
        td.dream(encoder, GOAL, START, banned="dog")
    with says("'doqs' is not one token"):
        td.dream(encoder, GOAL, START, banned=["doqs"])
    with says('fluency= goes with method="epo"'):
        td.dream(encoder, GOAL, START, fluency=td.fluency())
    with says("learning_rate = -1"):
        td.dream(encoder, GOAL, START, method="pez", learning_rate=-1)


# Budgets

LONG = "the red dog sees the moon and i see the sun and we love old books"
STARTS = [START, LONG, "a dog"]


@pytest.mark.parametrize("preset", ["fast", "article"])
def test_annealing_fits_a_budget(encoder: torch.nn.Module, preset: str) -> None:
    found = td.dream(encoder, GOAL, START, method="anneal", preset=preset, budget=5000)
    assert 3500 < found.cost.forward_tokens <= 5000 and found.stopped == "steps"
    stopped = td.dream(encoder, GOAL, START, method="anneal", preset=preset, budget=500, steps=500)
    assert stopped.stopped == "budget" and 350 < stopped.cost.forward_tokens <= 500
    assert stopped.history.step[-1] > 0  # the last step was looked at


@pytest.mark.parametrize("text", [START, STARTS], ids=["one", "three"])
@pytest.mark.parametrize("kind", ["unit", "own", "bigrams", "masked"])
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
    for budget in (30 * lowest, 50 * lowest + 3):
        found = td.dream(encoder, goal, text, method=method, budget=budget)
        assert lowest < found.cost.forward_tokens <= budget


def test_a_sentence_costs_what_its_row_costs(encoder: torch.nn.Module) -> None:
    with attached(encoder) as host:
        rows = [host.vocabulary.read(text) for text in STARTS]
        batch = Batch.of(host, rows, host.vocabulary.allowed(), True)
        search = Swaps(host, GOAL, batch, Budget(host.meter, 3_000))
        assert search.costs == [2 * len(row) for row in rows]
        left = 3_000 - search.budget.spent
        looked = 2 * len(rows[0])  # whether the trunk may stand in for the model
        assert search.budget.spent == 2 * sum(map(len, rows)) + looked
        left -= 2 * sum(map(len, rows))  # the model's own scores in the end
        assert search.affordable(10_000) == left // (2 * len(rows[1]))
        assert search.affordable(10_000, [2]) == left // (2 * len(rows[2]))
        assert search.affordable(10_000, [0, 2]) == left // (2 * (len(rows[0]) + len(rows[2])))
        found = search.charge(td.fluency(encoder))
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


# Receipts


def test_receipts_hold_what_was_used(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = td.dream(encoder, GOAL, START, method="epo", budget=3000).settings["penalties"]
    assert len(weights) == 8 and weights == sorted(weights) and weights[0] == 0 < weights[-1]
    monkeypatch.setattr(automatic, "TOP_K", 21)
    settings = td.dream(encoder, GOAL, START, budget=1000).settings
    assert settings["top_k"] == 21 and settings["round"]["learning_rate"] == automatic.ROUND.learning_rate
    assert {name.lower() for name in vars(automatic) if name.isupper()} <= set(settings)
    assert "token_search" in td.dream(encoder, GOAL, START, free=[3]).settings["search"]
