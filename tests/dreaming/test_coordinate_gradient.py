"""The room dreaming.coordinate_gradient."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.search import GOAL, START, UNIT, searching, slopes_of, spoiled
from tl_dream.dreaming.coordinate_gradient import EPO, Population
from tl_dream.models.host import attached
from tl_dream.search.engine import run


def test_gcg_exchanges_several_words_early(encoder: torch.nn.Module, proposals: list[dict[str, object]]) -> None:
    td.gcg(
        encoder, GOAL, START, method=td.GCG(candidates=6, top_k=9, swaps=3, early=0.5), budget=3000, retokenize=False
    )
    early = [one for one in proposals if one["share"] < 0.45]
    late = [one for one in proposals if one["share"] > 0.55]
    assert early and late and all(one["changed"] == {3} for one in early) and all(one["changed"] == {1} for one in late)
    assert {one["count"] for one in proposals[:-2]} == {6} and {one["top_k"] for one in proposals} == {9}


def test_epo_has_so_many_children(encoder: torch.nn.Module, proposals: list[dict[str, object]]) -> None:
    td.epo(encoder, GOAL, START, method=td.EPO(population=2, children=5, top_k=9), budget=3000)
    assert {one["count"] for one in proposals[:-4]} == {5} and {one["top_k"] for one in proposals} == {9}


def test_epo_starts_all_again_from_one(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = td.fluency(td.count_bigrams(encoder, ["the red dog sees the moon", "i see the sun"]))
    restart, before, after = Population._restart, [], []

    def watched(self: Population) -> None:
        before.append({member.ids for member in self._members})
        restart(self)
        after.append({member.ids for member in self._members})

    monkeypatch.setattr(Population, "_restart", watched)
    td.epo(encoder, GOAL, START, method=td.EPO(fluency=judge, penalties=[0.0, 1.0, 5.0], restart_every=2), budget=7000)
    assert len(after) >= 3 and any(len(ids) > 1 for ids in before)
    assert all(len(new) == 1 and new <= old for old, new in zip(before, after, strict=True))


def test_every_member_climbs_its_own_share_of_fluency(encoder: torch.nn.Module) -> None:
    judge = td.fluency(td.count_bigrams(encoder, ["the red dog sees the moon", "i see the sun"]))
    with attached(encoder) as host:
        search = searching(host, UNIT)
        population = Population(search, EPO(penalties=(0.0, 2.0)), judge)
        plain, weighed = run(host, population._slopes())
        (alone,), (fluent,) = (slopes_of(host, goal, search.batch) for goal in (UNIT, judge))
    assert torch.allclose(plain, alone, atol=1e-5) and torch.allclose(weighed, alone + 2 * fluent, atol=1e-4)
    assert fluent.abs().max() > 0.1
    population._weigh([1.0, 2.0], [0.5, 0.5])  # children that do not differ
    assert all(map(math.isfinite, population.penalties))


def test_the_front_is_a_front(encoder: torch.nn.Module, tmp_path: Path) -> None:
    judge = td.fluency(td.count_bigrams(encoder, ["the red dog sees the moon", "i see the sun", "the dog"]))
    front = td.epo(encoder, GOAL, START, method=td.EPO(fluency=judge, restart_every=4), budget=15_000, seed=1)
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
    strong, weak = (
        td.epo(encoder, 0.0 * GOAL, START, method=td.EPO(fluency=judge, penalties=[w]), budget=6000) for w in (1.0, 0.0)
    )
    assert strong.front[-1].fluency > weak.front[-1].fluency + 0.3
    own = td.epo(encoder, GOAL, START, method=td.EPO(population=3), budget=3000)
    assert own.fluency == "fluency()"  # the tiny encoder's head is trained, as far as anyone knows


def test_penalties_need_a_judge(tiny_checkpoint: Callable[..., Path]) -> None:
    headless = td.load_model(str(tiny_checkpoint("BertModel")))
    with says("penalties of up to 5.0 weigh fluency", "give EPO(fluency=...)"):
        td.epo(headless, GOAL, START, method=td.EPO(penalties=[0.0, 5.0]), budget=1000)
    assert td.epo(headless, GOAL, START, method=td.EPO(penalties=[0.0, 0.0]), budget=1000).fluency is None


def test_fluency_that_is_no_number_ends_it(encoder: torch.nn.Module) -> None:
    for judge in (spoiled(math.nan, "see"), spoiled(math.nan, *VOCAB[60:200]), spoiled(math.inf, *VOCAB[60:200])):
        with says("the fluency of real tokens became ") as caught:
            td.epo(encoder, GOAL, START, method=td.EPO(fluency=judge), budget=4000)
        assert isinstance(caught.value.partial, td.Frontier) and math.isfinite(caught.value.partial.best.score)
