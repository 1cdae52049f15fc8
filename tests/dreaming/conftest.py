"""Dreams and what they propose."""

import pytest
import torch

import tl_dream as td
from tests.support.search import GOAL, QUICK, START, annealed
from tl_dream.search.batch import Search
from tl_dream.search.proposals import Choices
from tl_dream.search.swap_search import SwapSearch


@pytest.fixture(scope="module")
def plain(encoder: torch.nn.Module) -> td.Dream:
    return annealed(encoder, GOAL, START, **QUICK)


@pytest.fixture
def proposals(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """What every call of `SwapSearch.propose` was asked for, when, and what it gave."""
    told: list[dict[str, object]] = []
    propose = SwapSearch.propose

    def watched(self: SwapSearch, walker: object, choices: Choices, count: int, swaps: int = 1) -> Search[object]:
        found = yield from propose(self, walker, choices, count, swaps)
        top_k = choices.live.shape[1]
        changed = {sum(a != b for a, b in zip(ids, walker.ids, strict=True)) for ids in found}
        told.append({"share": self.budget.share, "count": len(found), "top_k": top_k, "changed": changed})
        return found

    monkeypatch.setattr(SwapSearch, "propose", watched)
    return told
