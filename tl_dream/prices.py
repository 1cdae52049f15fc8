"""What the parts of annealed ascent cost at most, so that a budget is never overspent."""

from __future__ import annotations

from dataclasses import dataclass

from tl_dream.batches import Batch, BestSeen
from tl_dream.hosts import Host
from tl_dream.objectives import Objective
from tl_dream.scoring import depth


@dataclass(frozen=True)
class Prices:
    """Forward-tokens, at most.

    Attributes:
        step: a soft sentence of every row, with its gradient.
        look: the real tokens as they are, and those that their text reads as.
    """

    step: float
    look: float

    @classmethod
    def of(cls, host: Host, objective: Objective, climb: Objective, batch: Batch, seen: BestSeen) -> Prices:
        """From what scoring the starts has cost: this knows the passes of judges as well.

        Args:
            objective: scores real tokens.
            climb: what the gradient climbs: the objective, or the same with more layers read.
        """
        deeper = depth(host, climb) - depth(host, objective)
        climbed = [cost + len(one) * deeper for cost, one in zip(seen.costs, batch.sentences, strict=True)]
        return cls(2 * _together(climbed, climb), 2 * sum(seen.costs))

    def steps(self, left: float, evaluate_every: int, narrows: bool) -> int:
        """As many steps as surely fit into what is left of a budget, one at least.

        Args:
            narrows: whether candidates are chosen by a gradient first, which costs a step.
        """
        once = self.step * (2 if narrows else 1) + 2 * self.look  # the last sentence, its look, and the first one's
        return max(1, int((left - once) / (self.step + self.look / evaluate_every)))


def _together(costs: list[float], objective: Objective) -> float:
    """Of one pass over all rows: padded to the longest, but for objectives that must not see padding."""
    return sum(costs) if objective.equal_lengths else len(costs) * max(costs)
