"""The room dreaming.annealing."""

import math
from dataclasses import asdict, replace

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.search import GOAL, START
from tl_dream.dreaming.annealing import ARTICLE, Annealing
from tl_dream.dreaming.ascent import ascend
from tl_dream.models.host import attached
from tl_dream.search.batch import Batch
from tl_dream.search.engine import run

# Settings


def test_the_articles_settings() -> None:
    """3000 steps of Adam at 0.1; temperature 2, after 200 steps times 0.9995; a cold one-hot of the whole vocabulary;
    the activation divided by the word's norm."""
    assert (ARTICLE.steps, ARTICLE.learning_rate, ARTICLE.warmup, ARTICLE.decay) == (3000, 0.1, 200, 0.9995)
    assert (ARTICLE.start_temperature, ARTICLE.end_temperature, ARTICLE.schedule) == (2.0, 0.1, "geometric")
    assert (ARTICLE.start, ARTICLE.start_weight, ARTICLE.candidates, ARTICLE.normalize) == (
        "sentence",
        None,
        None,
        True,
    )
    assert not ARTICLE.noise and not ARTICLE.straight_through
    assert ARTICLE.temperature()(1200) == pytest.approx(2.0 * 0.9995**1000)


def test_the_temperature_of_settings() -> None:
    assert Annealing(steps=100, warmup=10).temperature()(99) == pytest.approx(Annealing().end_temperature)
    assert Annealing(schedule="constant", start_temperature=0.7).temperature()(50) == 0.7
    assert Annealing(schedule="linear", start_temperature=3.0, end_temperature=1.0, steps=3).temperature()(1) == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps = 0: give a whole number of at least 1"),
        ({"evaluate_every": 0}, "evaluate_every = 0: give a whole number of at least 1"),
        ({"top_k": 0}, "top_k = 0: give a whole number of at least 1"),
        ({"warmup": -1}, "warmup = -1: give a whole number of at least 0"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: give a number above 0"),
        ({"learning_rate": math.inf}, "learning_rate = inf: give a number above 0"),
        ({"candidates": 1}, "candidates = 1: give at least 2 tokens a position, or None for the whole vocabulary"),
        ({"renew_every": 0}, "renew_every = 0: give a whole number of at least 1"),
        ({"precision": "bf15"}, "unknown precision 'bf15'; nearest: bf16"),
        ({"start": "sentense"}, "unknown start 'sentense'; nearest: sentence"),
        ({"schedule": "linar"}, "unknown temperature schedule 'linar'; nearest: linear"),
        ({"start_temperature": 0.0}, "start = 0.0 is not a temperature: it must be > 0 and finite"),
        ({"end_temperature": -1.0}, "end = -1.0 is not a temperature"),
        ({"start_temperature": 0.01}, "end = 0.1 is above start = 0.01: a geometric schedule only cools"),
    ],
)
def test_settings_that_are_refused(change: dict[str, object], message: str) -> None:
    with says(message):
        Annealing(**change)


def test_options_left_out_take_the_presets_values(encoder: torch.nn.Module) -> None:
    for settings in (td.Annealing(), ARTICLE):
        found = td.dream(encoder, GOAL, START, method=replace(settings, steps=2))
        expected = {**asdict(settings), "steps": 2}
        if settings.warmup is None:
            expected["warmup"] = 0  # a tenth of the steps, where those are few
        assert {key: found.settings[key] for key in expected} == expected
    whole = td.dream(encoder, GOAL, START, method=td.Annealing(steps=2, candidates=None))
    assert whole.settings["candidates"] is None
    whole = td.dream(encoder, GOAL, START, method="anneal", callback=lambda progress: True)
    assert (whole.settings["steps"], whole.settings["warmup"]) == (200, 20)


def test_the_articles_preset(encoder: torch.nn.Module) -> None:
    """A cold one-hot at temperature 2, nearly uniform; it climbs the normalized objective, and scores are plain."""
    found = td.dream(encoder, GOAL, START, method=replace(td.ARTICLE, steps=30), allowed="")
    assert found.objective == repr(GOAL) and found.settings["normalize"]
    assert found.history.step == (0, 25, 30) and set(found.history.temperature) == {2.0}
    warm = math.exp(0.5)
    assert found.history.weights[0][1:-1] == pytest.approx([warm / (warm + len(VOCAB) - 1)] * 5, rel=1e-5)
    assert found.start.score == pytest.approx(td.score(encoder, GOAL, START).item(), abs=1e-5)
    assert found.history.hard_score[0] == found.start.score
    with attached(encoder) as host:
        batch = Batch.of(host, [host.vocabulary.read(START)], host.vocabulary.allowed(""), True)
        settings = replace(ARTICLE, steps=30)
        same, plain = (
            run(host, ascend(host, GOAL, batch, settings, climb=c)).runs[0].history for c in (td.normalized(GOAL), None)
        )
    assert found.history == same and found.history.weights != plain.weights
    assert found.history.soft_score[0] == pytest.approx(plain.soft_score[0], abs=1e-5)


def test_the_articles_preset_takes_sums(encoder: torch.nn.Module) -> None:
    goal = td.neuron("mlp_post", layer=1, unit=5, pos=2) - 0.5 * td.neuron("block_out", layer=0, unit=1)
    assert td.dream(encoder, goal, START, method=replace(td.ARTICLE, steps=3)).settings["normalize"]
    with says("normalized(mine) needs a value at every position", "normalize=False"):
        own = td.custom(lambda acts: acts["x"][:, 0, 0], {"x": ("block_out", 1)}, name="mine")
        td.dream(encoder, own, START, method=replace(td.ARTICLE, steps=3))
