"""The room search.reporting."""

from dataclasses import asdict, replace

import pytest
import torch

import tl_dream as td
from tests.support.search import GOAL, METHODS, START
from tl_dream.dreaming import automatic, dreaming


def test_a_callback_stops(encoder: torch.nn.Module) -> None:
    for method in METHODS:
        told: list[td.Progress] = []

        def stop(progress: td.Progress, told: list[td.Progress] = told) -> bool:
            told.append(progress)
            return len(told) == 3

        found = td.dream(encoder, GOAL, START, method=method, callback=stop, budget=50_000)
        assert found.stopped == "callback" and len(told) == 3
        assert told[-1].best_scores == pytest.approx((found.best.score,), abs=1e-5) and told[-1].soft_scores == ()


def test_receipts_hold_what_was_used(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = td.dream(encoder, GOAL, START, method="epo", budget=3000).settings["penalties"]
    assert len(weights) == 8 and weights == sorted(weights) and weights[0] == 0 < weights[-1]
    monkeypatch.setattr(dreaming, "AUTO", replace(automatic.AUTO, top_k=21))
    settings = td.dream(encoder, GOAL, START, budget=1000).settings
    assert settings["top_k"] == 21 and settings["round"]["learning_rate"] == automatic.AUTO.round.learning_rate
    assert set(asdict(automatic.AUTO)) <= set(settings)
    assert "token_search" in td.dream(encoder, GOAL, START, free=[3]).settings["search"]
