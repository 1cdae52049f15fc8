"""The room dreaming.coordinate_gradient."""

import torch

import tl_dream as td
from tests.support.search import GOAL, START


def test_gcg_exchanges_several_words_early(encoder: torch.nn.Module, proposals: list[dict[str, object]]) -> None:
    td.gcg(encoder, GOAL, START, candidates=6, top_k=9, swaps=3, early=0.5, budget=3000, retokenize=False)
    early = [one for one in proposals if one["share"] < 0.45]
    late = [one for one in proposals if one["share"] > 0.55]
    assert early and late and all(one["changed"] == {3} for one in early) and all(one["changed"] == {1} for one in late)
    assert {one["count"] for one in proposals[:-2]} == {6} and {one["top_k"] for one in proposals} == {9}
