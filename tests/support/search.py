"""What the tests of several rooms share (search)."""

import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import PLANTS, VOCAB
from tl_dream.objectives.objective import TOKENS, Read

START = "i do see the sun"


GOAL = td.neuron("mlp_post", layer=1, unit=5, pos=2)


METHODS = ("auto", "gcg", "epo", "pez")


def goal_of(pos: int, plant: int = 0) -> td.Objective:
    return td.neuron("mlp_post", layer=PLANTS[plant].layer, unit=PLANTS[plant].unit, pos=pos)


# Every setting does something


def spoiled(value: float, *words: str) -> td.Objective:
    """A unit, but no number where one of some words stands at position 3."""
    ids = [VOCAB.index(word) for word in words]

    def score(acts: dict[Read, object], rows: object) -> Tensor:
        bad = torch.isin(acts[TOKENS].ids[:, 3], torch.tensor(ids))
        return acts[Read("block_out", 1)][:, 2, 5].masked_fill(bad, value)

    return td.Objective((Read("block_out", 1), TOKENS), "spoiled", score)
