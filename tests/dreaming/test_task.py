"""The room dreaming.task."""

import time

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.search import EVERY_METHOD, GOAL, START, TEXTS
from tl_dream.dreaming.task import METHODS, method_of


def test_a_name_stands_for_the_default_settings(encoder: torch.nn.Module) -> None:
    assert sorted(METHODS) == sorted(EVERY_METHOD)
    for name, settings in METHODS.items():
        assert method_of(name) is settings and method_of(settings) is settings
        options = {"budget": 800, "seed": 3}
        named, given = (td.dream(encoder, GOAL, START, method=way, **options) for way in (name, settings))
        assert named.best == given.best and named.settings == given.settings
        assert named.settings["method"] == name
    with says("unknown method 'gcq'", "gcg"):
        method_of("gcq")


def test_gcg_and_epo_are_dreams(encoder: torch.nn.Module) -> None:
    dreamt = td.dream(encoder, GOAL, START, method=td.GCG(candidates=5), budget=2000, seed=1)
    walked = td.gcg(encoder, GOAL, START, method=td.GCG(candidates=5), budget=2000, seed=1)
    assert walked.best == dreamt.best and walked.settings == dreamt.settings and dreamt.settings["candidates"] == 5
    judge = td.fluency(td.count_bigrams(encoder, TEXTS))
    options = {"method": td.EPO(fluency=judge, population=3), "budget": 3000, "seed": 2}
    best, front = td.dream(encoder, GOAL, START, **options), td.epo(encoder, GOAL, START, **options)
    assert front.front[0].scored.score == pytest.approx(best.best.score, abs=1e-5)
    assert front.settings == best.settings and front.settings["fluency"] == repr(judge) == front.fluency


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_seconds_end_a_dream(encoder: torch.nn.Module, method: str) -> None:
    """Well before a budget that would take minutes; what is found by then counts."""
    began = time.perf_counter()
    way = td.Annealing(steps=1_000_000) if method == "anneal" else td.PEZ(steps=10**9) if method == "pez" else method
    found = td.dream(encoder, GOAL, START, method=way, budget=10**9, seconds=0.2)
    assert time.perf_counter() - began < 20
    assert found.stopped in ("seconds", "still", "exhausted") and found.best.score >= found.start.score
    with says("seconds = 0: give a number above 0"):
        td.dream(encoder, GOAL, START, seconds=0)


def test_what_is_told_before_any_work(encoder: torch.nn.Module, unchecked: None) -> None:
    with says("callback = 3: give a function of a Progress, or None"):
        td.dream(encoder, GOAL, START, callback=3)
    with says("callback = 3: give a function of a Kept, or None"):
        td.kept_tokens(encoder, START, callback=3)
    with says("starts = 1000000000: give a whole number from 1 to 100000"):  # which would take 64 GB
        td.dream(encoder, GOAL, START, starts=10**9)
    with says("starts = 1000000000: give a whole number from 1 to 100000"):
        td.reconstruct(encoder, START, layer=1, method="article", starts=10**9)
