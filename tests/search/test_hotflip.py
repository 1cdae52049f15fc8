"""The room search.hotflip."""

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.search import GOAL, TEXTS, batch_of
from tl_dream.dreaming.annealing import Annealing
from tl_dream.dreaming.ascent import ascend
from tl_dream.models.host import Host
from tl_dream.objectives.scoring import evaluate
from tl_dream.search.hotflip import gradients, slopes


def test_slopes_are_how_the_score_rises_with_a_tokens_weight(host: Host) -> None:
    batch = batch_of(host, TEXTS)
    slope = slopes(host, GOAL, batch.ids, batch.rows, batch.free)
    assert slope.shape == (3, batch.free.shape[1], len(VOCAB))
    ray = torch.zeros(*batch.ids.shape, 24, dtype=torch.float64)
    ray[0, batch.free[0, 3]] = 1e-5 * host.W_E[7]
    with torch.no_grad():
        up, down = (
            evaluate(host, GOAL, batch.ids, batch.rows, embeddings=host.W_E[batch.ids] + sign * ray)[0]
            for sign in (1, -1)
        )
    assert slope[0, 3, 7].item() == pytest.approx((up - down).item() / 2e-5, rel=1e-5)


def test_an_objective_that_the_words_do_not_move(host: Host) -> None:
    batch = batch_of(host, TEXTS[0])
    flat = td.custom(lambda a: a["x"][:, 1, 0].detach(), {"x": ("block_out", 1)}, name="flat")
    for goal in (flat, td.neuron("pos_embed", unit=1, pos=1)):
        for call in (
            lambda goal=goal: slopes(host, goal, batch.ids, batch.rows, batch.free),
            lambda goal=goal: ascend(host, goal, batch, Annealing(steps=2)),
        ):
            with says(f"the objective {goal} does not change with the words, so it has no gradient"):
                call()
    x = torch.ones(2, 3, requires_grad=True)
    assert torch.equal(gradients((2 * x).sum(1), x, None, GOAL)[0], torch.full((2, 3), 2.0))
