"""Search over real tokens by swaps: the gradient proposes them, exact scores choose.

`SwapSearch` is the one proposal kernel of `gcg`, `epo` and the default method. No sentence is scored twice (Li et al.
2024, Faster-GCG), and none that may not be returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_dream.models import Host
from tl_dream.objectives import Objective
from tl_dream.search.batch import Ask, Batch, Ids, Search, Together, row_generators
from tl_dream.search.best_seen import BestSeen, score_starts
from tl_dream.search.budgets import Budget, Callback, Progress, wants_to_stop
from tl_dream.search.proposals import Choices, Ranking, chance, drawn, gains_of, merged, ranked


@dataclass
class Walker:
    """Where one start has got to: the row of the batch, its tokens now, how high they stand, the slopes on the way."""

    row: int
    ids: Ids
    height: float
    generator: torch.Generator
    slope: Tensor | None = None


class SwapSearch:
    """A search by swaps: proposals, exact scores, the best seen, the way there.

    Attributes:
        objective: scores real tokens, and gives the slopes.
        budget: what may be spent; scoring the starts is the least that is.
        costs: what a sentence of each row costs, in forward-tokens.
        optima: rows and tokens of which every swap was scored, and none is better.
    """

    def __init__(
        self, host: Host, objective: Objective, budget: Budget, seen: BestSeen, batch: Batch, seed: int
    ) -> None:
        self.host, self.objective, self.batch, self.budget, self.seen = host, objective, batch, budget, seen
        self.costs = list(seen.costs)
        self.optima: set[tuple[int, Ids]] = set()
        self.steps = 0
        self._failure: str | None = None
        self._draws = row_generators(seed, len(batch.sentences))
        for row in range(len(batch.sentences)):
            seen.record(row, 0, budget.spent)

    @classmethod
    def of(cls, host: Host, objective: Objective, batch: Batch, budget: Budget, seed: int = 0) -> Search[SwapSearch]:
        """Score the starts.

        Args:
            seed: of a generator for every row.
        """
        seen = yield from BestSeen.of(host, objective, batch)
        yield from seen.take_trunk(budget.left)
        return cls(host, objective, budget, seen, batch, seed)

    def walker(self, row: int) -> Walker:
        """A walker at the tokens that lead a row."""
        return Walker(row, *self.seen.leads[row], self._draws[row])

    def affordable(self, count: int, rows: Sequence[int] | None = None) -> int:
        """How many of `count` sentences of each of `rows` the budget still covers (None: of the dearest row)."""
        each = max(self.costs) if rows is None else sum(self.costs[row] for row in rows)
        last = sum(self.costs) if self.seen.trunk is not None else 0  # the model's own scores of what is returned
        return int(max(0, min(count, (self.budget.left - last) / each)))

    def settle(self) -> Search[None]:
        """Score the best of every row by the model itself, where others than it were asked."""
        for row in range(len(self.batch.sentences) if self.seen.trunk is not None else 0):
            yield from self.seen.settle(row)

    def goes_on(self, searches: int = 1) -> bool:
        """Whether the budget covers one more step of so many searches, and all scores so far are numbers. A step is a
        sentence with its gradient, which counts as two, and one without."""
        return self.failure is None and self.affordable(3 * searches) >= 3 * searches

    @property
    def failure(self) -> str | None:
        """What went wrong, if something did: the search is over then."""
        if self._failure is None and self.seen.broken is not None:
            return f"the score of real tokens became {self.seen.broken}"
        return self._failure

    def fail(self, why: str) -> None:
        """End the search; the first reason counts."""
        self._failure = self.failure or why

    def score(self, candidates: Sequence[tuple[int, Ids]]) -> Search[list[float]]:
        """Exact scores of (row, tokens); better ones are kept and recorded."""
        scores = yield from self.seen.score(candidates)
        for row, ids in candidates:
            if self.seen.keep(row, ids, self.steps):
                self.seen.record(row, self.steps, self.budget.spent)
        return scores

    def heights(self, candidates: Sequence[tuple[int, Ids]]) -> list[float]:
        """How high (row, tokens) stand that were scored; -inf where that is no number."""
        found = [self.seen.height(row, ids) for row, ids in candidates]
        return [value if math.isfinite(value) else -math.inf for value in found]

    def charge(self, objective: Objective) -> Search[list[float]]:
        """What another objective gives the starts; from now on it counts in what every sentence costs."""
        found, more = yield from score_starts(self.host, (objective,), self.batch)
        self.costs = [cost + extra for cost, extra in zip(self.costs, more, strict=True)]
        return [value for (value,) in found]

    def evaluate(self, objective: Objective, candidates: Sequence[tuple[int, Ids]]) -> Search[list[float]]:
        """What another objective gives (row, tokens); nothing is kept."""
        answer = yield Ask(self.host, self.batch, (objective,), candidates)
        return [value for (value,) in answer.values]

    def observe(
        self,
        rows: Sequence[int],
        texts: Sequence[Ids],
        scores: Sequence[float],
        heights: Sequence[float],
    ) -> Search[list[bool]]:
        """Take in the scores of a step that were got elsewhere; whether each of `rows` has a new lead."""
        self.steps += 1
        best, before = list(self.seen.best), [self.seen.leads[row] for row in rows]
        for row, ids, value, height in zip(rows, texts, scores, heights, strict=True):
            self.seen.learn(row, ids, value, height)
        yield from self.seen.see(texts, self.steps, rows)
        for row in rows:
            if self.seen.best[row] is not best[row]:
                self.seen.record(row, self.steps, self.budget.spent)
        return [self.seen.leads[row] is not old for row, old in zip(rows, before, strict=True)]

    def slopes(self, states: Sequence[tuple[int, Ids]], climb: Objective | None = None) -> Search[list[Tensor]]:
        """For every (row, tokens) the slope of every token at its free positions, Float[free, vocab]."""
        trunk = self.seen.trunk if climb is None else None
        answer = yield Ask(self.host, self.batch, (climb or self.seen.climb,), states, trunk, slopes=True)
        return [slope.float() for slope in answer.slopes]

    def scored_slopes(self, states: Sequence[tuple[int, Ids]]) -> Search[tuple[list[float], list[float], list[Tensor]]]:
        """The scores of (row, tokens), their heights, and the slope of every token at their free positions."""
        climb = self.seen.climb
        both = (climb,) if climb is self.objective else (climb, self.objective)
        answer = yield Ask(self.host, self.batch, both, states, self.seen.trunk, slopes=True)
        return [value[-1] for value in answer.values], [value[0] for value in answer.values], answer.slopes

    def open_swaps(self, row: int, ids: Ids) -> Bool[Tensor, "free vocab"]:
        """The swaps there are: of another token that is allowed, and does not change too many words."""
        sentence, allowed = self.batch.sentences[row], self.batch.allowed
        own = torch.tensor([ids[at] for at in sentence.free], device=allowed.device)[:, None]
        found = allowed.repeat(len(sentence.free), 1)
        if self.batch.max_changes is not None:
            home = torch.tensor([sentence.ids[at] for at in sentence.free], device=allowed.device)[:, None]
            found.scatter_(1, home, True)  # the way back is always open
            changed = (own != home)[:, 0]
            if int(changed.sum()) >= self.batch.max_changes:  # another word only in place of one changed already
                found[~changed] = False
        return found.scatter_(1, own, False)

    def gains(self, row: int, ids: Ids, slope: Float[Tensor, "free vocab"]) -> Float[Tensor, "free vocab"]:
        """What every swap changes to first order; where the slopes are all alike, chance orders them."""
        own = torch.tensor(self._own(row, ids), device=slope.device)[:, None]
        if not bool(slope.any()):
            slope = chance(slope, self._draws[row])
        return gains_of(slope, own, self.open_swaps(row, ids))

    def _own(self, row: int, ids: Ids) -> list[int]:
        """The tokens at the free positions."""
        return [ids[at] for at in self.batch.sentences[row].free]

    def rank(
        self, walker: Walker, slope: Float[Tensor, "free vocab"], top_k: int, inertia: float = 0.0
    ) -> Search[Choices]:
        """The `top_k` most promising tokens of every position, by what the slopes promise.

        Args:
            inertia: weight of the slopes on the way here against those of this text, 0 to below 1: those of one text
                tell little of tokens far from its own.
        """
        limited = self.batch.max_changes is not None
        ranking = Ranking(
            slope,
            self._own(walker.row, walker.ids),
            self.open_swaps(walker.row, walker.ids) if limited else self.batch.allowed[None],
            self._draws[walker.row],
            top_k,
            walker.slope,
            inertia,
        )
        choices: Choices = yield Together(ranked, ranking, (top_k, inertia), large=True)
        if inertia:
            walker.slope = choices.slope
        return choices

    def propose(self, walker: Walker, choices: Choices, count: int, swaps: int = 1) -> Search[list[Ids]]:
        """Up to `count` sentences that were not scored before and may be returned, drawn evenly: `swaps` words
        exchanged."""
        free = self.batch.sentences[walker.row].free
        slots = int(choices.live.any(1).sum())
        if not slots:
            return []
        swaps = min(swaps, slots) if self.batch.max_changes is None else 1
        found: dict[Ids, None] = {}
        for _ in range(4):
            missing = count - len(found)
            if not missing:
                break
            some = drawn(walker.ids, free, choices, walker.generator, 2 * missing, swaps)
            fresh = [one for one in dict.fromkeys(some) if one not in found and not self.seen.knows(walker.row, one)]
            good = yield from self.seen.repaired(walker.row, fresh)
            good = [one for one in good if one != walker.ids and not self.seen.knows(walker.row, one)]
            found.update(dict.fromkeys(good[:missing]))
        return list(found)

    def _remembered(self, walker: Walker, count: int) -> Search[list[Ids]]:
        """Up to `count` sentences with the tokens of the best texts so far, half of them with two at a time: what a
        local optimum lacks is seldom one word."""
        memory, own = self.seen.memory(walker.row), self._own(walker.row, walker.ids)
        barred = ~self.batch.may[memory.tokens]
        if self.batch.max_changes is not None:
            home = numpy.array(self._own(walker.row, self.batch.sentences[walker.row].ids))
            barred &= memory.tokens != home[:, None]
            changed = numpy.array(own) != home
            if changed.sum() >= self.batch.max_changes:
                barred |= ~changed[:, None]
        tokens, live = memory.best(own, barred)
        choices = Choices(tokens.tolist(), torch.from_numpy(live))
        one = yield from self.propose(walker, choices, count // 2)
        two = yield from self.propose(walker, choices, count - count // 2, 2)
        return list(dict.fromkeys([*one, *two]))

    def step(
        self,
        walkers: Sequence[Walker],
        candidates: int,
        top_k: int,
        *,
        swaps: int = 1,
        merge: bool = False,
        remembered: float = 0.0,
        inertia: float = 0.0,
    ) -> Search[list[bool] | None]:
        """Propose, score and move every walker to the best of its proposals, be it worse than where it stands: that is
        what explores.

        Args:
            candidates: sentences scored a walker.
            top_k: tokens a position that are proposed.
            swaps: words exchanged in each.
            merge: score the best swaps of the step together as well.
            remembered: share of the candidates that take tokens of the best texts so far, 0 to 1; the others take
                those of the steepest slope.
            inertia: weight of the slopes on the way here against those of this text, 0 to below 1.

        Returns:
            Whether each walker's row has a new lead; None where nothing was left to propose.
        """
        self.steps += 1
        before = [self.seen.leads[walker.row] for walker in walkers]
        slopes = yield from self.slopes([(walker.row, walker.ids) for walker in walkers])
        count = self.affordable(candidates, [walker.row for walker in walkers])
        found = []
        for walker, slope in zip(walkers, slopes, strict=True):
            choices = yield from self.rank(walker, slope, top_k, inertia)
            known = (yield from self._remembered(walker, round(remembered * count))) if remembered else []
            steep = yield from self.propose(walker, choices, count - len(known), swaps)
            found.append(list(dict.fromkeys([*known, *steep])))
        if not any(found):
            return None
        pairs = [(walker.row, ids) for walker, some in zip(walkers, found, strict=True) for ids in some]
        yield from self.score(pairs)
        values = dict(zip(pairs, self.heights(pairs), strict=True))
        if merge:
            more = []
            for walker, some in zip(walkers, found, strict=True):
                both = [
                    ids
                    for ids in merged(walker.ids, walker.height, {ids: values[walker.row, ids] for ids in some})
                    if not self.seen.knows(walker.row, ids) and self.batch.few_changes(walker.row, ids)
                ]
                good = yield from self.seen.returnable(walker.row, both)
                more += [(walker.row, ids) for ids, ok in zip(both, good, strict=True) if ok]
            more = more[: self.affordable(len(more))]
            yield from self.score(more)
            values |= zip(more, self.heights(more), strict=True)
        for walker in walkers:
            mine = {ids: value for (row, ids), value in values.items() if row == walker.row and value > -math.inf}
            if mine:
                walker.ids = max(mine, key=lambda ids: mine[ids])
                walker.height = mine[walker.ids]
        return [self.seen.leads[walker.row] is not old for walker, old in zip(walkers, before, strict=True)]

    def progress(self, callback: Callback | None) -> bool:
        """Tell a callback where the rows are; whether it wants to stop."""
        if callback is None:
            return False
        scores = tuple(one.score for one in self.seen.best)
        texts = tuple(self.seen.shown(row, one).text for row, one in enumerate(self.seen.best))
        return wants_to_stop(callback, Progress(self.steps, None, None, (), scores, scores, texts))
