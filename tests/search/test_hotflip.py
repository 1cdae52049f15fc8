"""The room search.hotflip."""

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.search import GOAL, TEXTS, batch_of, slopes_of
from tl_dream.dreaming.annealing import Annealing
from tl_dream.dreaming.ascent import ascend
from tl_dream.models.host import Host
from tl_dream.objectives.scoring import evaluate
from tl_dream.search.engine import run


def test_slopes_are_how_the_score_rises_with_a_tokens_weight(host: Host) -> None:
    batch = batch_of(host, TEXTS)
    slope = slopes_of(host, GOAL, batch)
    assert [tuple(own.shape) for own in slope] == [(len(one.free), len(VOCAB)) for one in batch.sentences]
    ray = torch.zeros(*batch.ids.shape, 24, dtype=torch.float64)
    ray[0, batch.free[0, 3]] = 1e-5 * host.W_E[7]
    with torch.no_grad():
        rows, here = batch.context(host, range(len(TEXTS))), host.W_E[batch.ids]
        up, down = (evaluate(host, GOAL, batch.ids, rows, embeddings=here + sign * ray)[0] for sign in (1, -1))
    assert slope[0][3, 7].item() == pytest.approx((up - down).item() / 2e-5, rel=1e-5)


def test_an_objective_that_the_words_do_not_move(host: Host) -> None:
    batch = batch_of(host, TEXTS[0])
    flat = td.custom(lambda a: a["x"][:, 1, 0].detach(), {"x": ("block_out", 1)}, name="flat")
    for goal in (flat, td.neuron("pos_embed", unit=1, pos=1)):
        for call in (
            lambda goal=goal: slopes_of(host, goal, batch),
            lambda goal=goal: run(host, ascend(host, goal, batch, Annealing(steps=2))),
        ):
            with says(f"the objective {goal} does not change with the words, so it has no gradient"):
                call()
