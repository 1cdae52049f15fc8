"""What a search may spend, what a step of it costs at most, and how it tells where it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tqdm.auto import tqdm

from tl_dream._errors import DreamError, shortened
from tl_dream.models import Host, Meter
from tl_dream.objectives import Objective, depth
from tl_dream.search.batch import Batch
from tl_dream.search.best_seen import BestSeen


class Budget:
    """What a search may spend, in forward-tokens (rows x positions x layers); None is no limit. Where the seconds of
    the call are over, nothing may be spent any more."""

    def __init__(self, meter: Meter, limit: float | None = None) -> None:
        self._meter, self._before = meter, meter.forward_tokens
        self.limit = math.inf if limit is None else limit

    @property
    def spent(self) -> int:
        """Forward-tokens since the budget was made."""
        return self._meter.forward_tokens - self._before

    @property
    def left(self) -> float:
        """Forward-tokens; nothing where it is late."""
        return 0 if self._meter.late else self.limit - self.spent

    @property
    def why(self) -> str:
        """What ended, where nothing is left."""
        return "seconds" if self._meter.late else "budget"

    @property
    def share(self) -> float:
        """How much of it is spent, 0 to 1."""
        return min(1.0, self.spent / self.limit)


@dataclass(frozen=True)
class StepCosts:
    """Forward-tokens, at most.

    Attributes:
        step: a soft sentence of every row, with its gradient.
        look: the real tokens as they are, and those that their text reads as.
    """

    step: float
    look: float

    @classmethod
    def of(cls, host: Host, objective: Objective, climb: Objective, batch: Batch, seen: BestSeen) -> StepCosts:
        """From what scoring the starts has cost: this knows the passes of judges as well.

        Args:
            objective: scores real tokens.
            climb: what the gradient climbs: the objective, or the same with more layers read.
        """
        deeper = depth(host, climb) - depth(host, objective)
        climbed = [cost + len(one) * deeper for cost, one in zip(seen.costs, batch.sentences, strict=True)]
        return cls(2 * sum(climbed), 2 * sum(seen.costs))

    def steps(self, left: float, evaluate_every: int, narrows: bool) -> int:
        """As many steps as surely fit into what is left of a budget, one at least.

        Args:
            narrows: whether candidates are chosen by a gradient first, which costs a step.
        """
        once = self.step * (2 if narrows else 1) + 2 * self.look  # the last sentence, its look, and the first one's
        return max(1, int((left - once) / (self.step + self.look / evaluate_every)))


BUDGET = 400_000
"""Forward-tokens that a search over real tokens may spend where no budget is given."""


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

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3, pos=2)
        >>> done = td.dream(bert, goal, "the red dog", budget=3_000, callback=lambda now: now.best_scores[0] > -9)
        >>> done.stopped
        'callback'
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


def wants_to_stop(callback: Callback, progress: Progress) -> bool:
    """What a callback says to where the run is.

    Raises:
        DreamError: it returns what is neither true nor false, as an array of several numbers.
        Exception: its own.
    """
    answer = callback(progress)
    try:
        return bool(answer)
    except Exception as error:
        told = f"the callback returned {shortened(repr(answer))}: return True to stop, False or nothing to go on"
        raise DreamError(told) from error


@contextmanager
def budget_bar(budget: Budget, progress: bool | None) -> Iterator[Callable[[float], None]]:
    """A progress bar of forward-tokens spent; the function it gives moves it, and shows the best score so far.

    Args:
        progress: None shows it on a terminal only.
    """
    total = None if budget.limit == math.inf else int(budget.limit)
    disable = None if progress is None else not progress
    with tqdm(total=total, disable=disable, desc="dream", unit="tok", leave=False) as bar:

        def tick(best: float) -> None:
            bar.set_postfix_str(f"best {best:.3f}", refresh=False)
            bar.update(min(budget.spent, budget.limit) - bar.n)

        yield tick
