"""Progress on the way, and the settings of a run as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tqdm.auto import tqdm

from tl_dream.search.batch import Batch
from tl_dream.search.budgets import Budget

Tick = Callable[[], object]
"""Called after every step, for a progress bar."""


@dataclass(frozen=True)
class Progress:
    """What a callback sees after every evaluation: one entry a row of the batch.

    Attributes:
        step: steps done.
        steps: how many will be; None where a budget decides.
        temperature: of the softmax; None where there is no soft sentence.
        soft_scores: of the soft sentences; empty where there are none.
        hard_scores, best_scores: of the tokens a row stands at, of the best real tokens so far.
        texts: the tokens a row stands at, as text.
    """

    step: int
    steps: int | None
    temperature: float | None
    soft_scores: tuple[float, ...]
    hard_scores: tuple[float, ...]
    best_scores: tuple[float, ...]
    texts: tuple[str, ...]


Callback = Callable[[Progress], object]
"""Called after every evaluation; a true return value stops the run and keeps its best."""


def run_settings(
    batch: Batch, method: str, settings: Mapping[str, Any], *, budget: float | None, allowed: object, starts: int
) -> dict[str, Any]:
    """Every option of a run, as data."""
    return {
        "method": method,
        **settings,
        "budget": budget,
        "starts": starts,
        "sentences": len(batch.sentences) // starts,
        "allowed": allowed if isinstance(allowed, str) else f"{int(batch.allowed.sum())} tokens",
        "max_changes": batch.max_changes,
        "retokenize": batch.retokenize,
    }


@contextmanager
def budget_bar(budget: Budget, progress: bool | None, title: str) -> Iterator[Tick]:
    """A progress bar of forward-tokens spent; the function it gives moves it.

    Args:
        progress: None shows it on a terminal only.
    """
    total = None if budget.limit == math.inf else int(budget.limit)
    with tqdm(
        total=total, disable=None if progress is None else not progress, desc=title, unit="tok", leave=False
    ) as bar:
        yield lambda: bar.update(min(budget.spent, budget.limit) - bar.n)
