"""Greedy coordinate gradient (Zou et al. 2023), and EPO, its population (Thompson et al. 2024) whose members weigh
fluency differently."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tl_dream._arguments import NumberField, WholeField, finite_fields, finite_numbers, whole_fields
from tl_dream._errors import require
from tl_dream.models import Host
from tl_dream.objectives import Objective, check, fluency
from tl_dream.results import Dream, Frontier, FrontPoint, ScoredText
from tl_dream.search import Callback, Ids, Search, SwapSearch, Tick


@dataclass(frozen=True)
class GCG:
    """The settings of greedy coordinate gradient (Zou et al. 2023): every step scores swaps whose tokens the gradient
    ranks best, and goes to the best of them.

    Against the paper: several words a candidate early, no sentence twice (Faster-GCG, Li et al. 2024), only sentences
    that may be returned, and the best ever seen comes back.

    Attributes:
        candidates: sentences scored a step and start.
        top_k: tokens a position that are proposed, those of the steepest slope.
        swaps: words exchanged in one candidate during the first `early` of the budget; one after that.
        early: share of the budget, 0 to 1.

    Examples:
        >>> td.GCG(candidates=32, swaps=1)
        GCG(candidates=32, top_k=64, swaps=1, early=0.1)
    """

    candidates: WholeField = 64
    top_k: WholeField = 64
    swaps: WholeField = 4
    early: NumberField = 0.1

    def __post_init__(self) -> None:
        whole_fields(self, candidates=1, top_k=1, swaps=1)
        finite_fields(self, "a share of the budget, 0 to 1", lambda number: 0 <= number <= 1, "early")


def run_gcg(
    search: SwapSearch, settings: GCG, callback: Callback | None = None, tick: Tick | None = None
) -> Search[str]:
    """Greedy coordinate gradient on all rows of a batch, until the budget is spent.

    Returns:
        Why it stopped: "budget", "seconds", "callback", or "exhausted" where all that the gradient proposes was tried.
    """
    walkers = [search.walker(row) for row in range(len(search.batch.sentences))]
    while search.goes_on(len(walkers)):
        swaps = settings.swaps if search.budget.share < settings.early else 1
        if (yield from search.step(walkers, settings.candidates, settings.top_k, swaps=swaps)) is None:
            return "exhausted"
        if tick is not None:
            tick()
        if search.progress(callback):
            return "callback"
    return search.budget.why


SPREAD = 3.0
"""The greatest weight of fluency, in ratios of the two scores' standard deviations."""


@dataclass(frozen=True)
class EPO:
    """The settings of evolutionary prompt optimization (Thompson et al. 2024).

    A population whose members weigh fluency differently. Every generation each member has children by swaps that the
    gradient of its own mixture ranks; then every weight takes the best of all children. Now and then all start again
    from one of them.

    Attributes:
        fluency: what the objective is traded against (see `fluency`); None takes the model's own head where it is
            trained, else nothing: then all members climb the objective alone.
        population: members, where `penalties` is None.
        penalties: a weight of the fluency for every member, in units of the objective a nat, at least 0; None spreads
            them from 0 to 3 times the ratio of the scores' standard deviations among the first children. Where there
            is no fluency to weigh, only 0 will do.
        children: of a member a generation.
        top_k: tokens a position that are proposed.
        restart_every: generations between two restarts from one member.

    Examples:
        >>> td.EPO(population=4).size
        4
    """

    fluency: Objective | None = None
    population: WholeField = 8
    penalties: Any = None
    children: WholeField = 16
    top_k: WholeField = 64
    restart_every: WholeField = 30

    def __post_init__(self) -> None:
        require(
            self.fluency is None or isinstance(self.fluency, Objective),
            f"fluency = {self.fluency!r:.80}: give an objective, such as fluency(judge)",
        )
        whole_fields(self, population=1, children=1, top_k=1, restart_every=1)
        if self.penalties is not None:
            wanted = "a finite number of at least 0"
            weights = finite_numbers("penalty", self.penalties, wanted, lambda weight: weight >= 0)
            object.__setattr__(self, "penalties", tuple(weights))

    @property
    def size(self) -> int:
        return self.population if self.penalties is None else len(self.penalties)


def default_judge(host: Host, settings: EPO) -> Objective | None:
    """The fluency to trade against: as given, or the model's own head where it has a trained one.

    Raises:
        DreamError: something that is no objective, or penalties and nothing they could weigh.
    """
    if settings.fluency is not None:
        return check(host, settings.fluency)
    penalties = settings.penalties
    if host.head_trained and (not host.causal or bool(host.vocabulary.prefix)):
        return fluency()
    require(
        not any(penalties or ()),
        f"penalties of up to {max(penalties or (0,))} weigh fluency, and {host.name} can't judge it itself (its head "
        "is not trained, or no start-of-text token begins its sentences): give EPO(fluency=...), such as "
        "fluency(count_bigrams(model, texts))",
    )
    return None


def spread_penalties(most: float, count: int) -> tuple[float, ...]:
    """Weights of the fluency for `count` members: from 0 to `most`, more of them small than large."""
    return tuple(most * (k / max(1, count - 1)) ** 2 for k in range(count))


class Population:
    """Members that climb side by side, and the front of all they have seen.

    Args:
        judge: fluency; None lets all climb the objective alone.
        seed: of the restarts.
    """

    def __init__(self, search: SwapSearch, settings: EPO, judge: Objective | None, seed: int = 0) -> None:
        self._search, self._settings, self._judge = search, settings, judge
        self._draw = torch.Generator().manual_seed(seed)
        self.penalties: tuple[float, ...] = tuple(settings.penalties or (0.0,) * settings.size)
        self._known = settings.penalties is not None or judge is None
        self._fluency: dict[tuple[int, Ids], float] = {}
        rows = len(search.batch.sentences)
        self._members = [search.walker(k % rows) for k in range(settings.size)]
        self._front: dict[tuple[int, Ids], tuple[float, float, int]] = {}

    def evolve(self, callback: Callback | None = None, tick: Tick | None = None) -> Search[str]:
        """Generation after generation, until the budget is spent.

        Returns:
            Why it stopped: "budget", "seconds", "callback", or "exhausted" where all that the gradients propose was
            tried.
        """
        search, settings = self._search, self._settings
        starts = [(row, sentence.ids) for row, sentence in enumerate(search.batch.sentences)]
        if self._judge is not None:
            self._fluency = dict(zip(starts, (yield from search.charge(self._judge)), strict=True))
        yield from self._meet(starts, [start.score for start in search.seen.starts])
        generation = 0
        while search.goes_on(settings.size):
            if not (yield from self._generation()):
                return "exhausted"
            generation += 1
            if generation % settings.restart_every == 0:
                self._restart()
            if tick is not None:
                tick()
            if search.progress(callback):
                return "callback"
        return search.budget.why

    def _generation(self) -> Search[bool]:
        search, settings = self._search, self._settings
        search.steps += 1
        slopes = yield from self._slopes()
        drawn: dict[tuple[int, Ids], None] = {}
        count = search.affordable(settings.children, [member.row for member in self._members])
        for member, slope in zip(self._members, slopes, strict=True):
            choices = yield from search.rank(member, slope, settings.top_k)
            some = yield from search.propose(member, choices, count)
            drawn.update(dict.fromkeys((member.row, ids) for ids in some))
        if not drawn:
            return False
        children = list(drawn)
        scores = yield from search.score(children)
        judged = yield from self._meet(children, scores)
        if search.failure is not None:
            return True
        if not self._known:
            self._weigh(scores, judged)
        heights = search.heights(children)
        for member, weight in zip(self._members, self.penalties, strict=True):
            mixed = [value + weight * fluent for value, fluent in zip(heights, judged, strict=True)]
            best = max(range(len(mixed)), key=lambda i: mixed[i])
            (member.row, member.ids), member.height = children[best], heights[best]
        return True

    def _slopes(self) -> Search[list[Tensor]]:
        """The slopes of each member's mixture of the objective and fluency."""
        states = [(member.row, member.ids) for member in self._members]
        found = yield from self._search.slopes(states)
        weighing = [k for k, weight in enumerate(self.penalties) if weight]
        if self._judge is not None and weighing:
            fluent = yield from self._search.slopes([states[k] for k in weighing], self._judge)
            for k, slope in zip(weighing, fluent, strict=True):
                found[k] = found[k] + self.penalties[k] * slope
        return found

    def _weigh(self, scores: Sequence[float], judged: Sequence[float]) -> None:
        """Spread the members' weights by how much the two scores vary among the first children."""
        values, fluent = torch.tensor(scores), torch.tensor(judged)
        values = values[values.isfinite()]
        ratio = float(values.std() / fluent.std().clamp_min(1e-6)) if len(values) > 1 and len(fluent) > 1 else 0.0
        self.penalties = spread_penalties(SPREAD * ratio, self._settings.size)
        self._known = True

    def _restart(self) -> None:
        """All members go on from one of them."""
        chosen = self._members[int(torch.randint(len(self._members), (1,), generator=self._draw))]
        for member in self._members:
            member.row, member.ids, member.height = chosen.row, chosen.ids, chosen.height

    def _meet(self, children: Sequence[tuple[int, Ids]], scores: Sequence[float]) -> Search[list[float]]:
        """The fluency of children, who join the front where nothing beats them in both."""
        judged = yield from self._judged(children)
        for (row, ids), value, fluent in zip(children, scores, judged, strict=True):
            if not (math.isfinite(value) and math.isfinite(fluent)):
                continue
            if any(v >= value and f >= fluent for v, f, _ in self._front.values()):
                continue
            (good,) = yield from self._search.seen.returnable(row, [ids])
            if not good and ids != self._search.batch.sentences[row].ids:
                continue
            self._front = {key: old for key, old in self._front.items() if not (value >= old[0] and fluent >= old[1])}
            self._front[row, ids] = (value, fluent, self._search.steps)
        return judged

    def _judged(self, children: Sequence[tuple[int, Ids]]) -> Search[list[float]]:
        if self._judge is None:
            return [0.0] * len(children)
        new = [child for child in dict.fromkeys(children) if child not in self._fluency]
        if new:
            self._fluency |= zip(new, (yield from self._search.evaluate(self._judge, new)), strict=True)
        found = [self._fluency[child] for child in children]
        bad = [value for value in found if not math.isfinite(value)]
        if bad:
            self._search.fail(f"the fluency of real tokens became {bad[0]}")
        return found

    def frontier(self, best: Dream) -> Frontier:
        """The result, from that of the best text."""
        return Frontier(
            model=best.model,
            objective=best.objective,
            fluency=None if self._judge is None else repr(self._judge),
            settings=best.settings,
            seed=best.seed,
            start=self._point(best.start),
            front=self.front or (self._point(best.best),),
            cost=best.cost,
            stopped=best.stopped,
        )

    def _point(self, scored: ScoredText) -> FrontPoint:
        """A text with its fluency, as a point of the front."""
        found = [value for (_, ids), value in self._fluency.items() if ids == scored.ids]
        return FrontPoint(scored, found[0] if found else None)

    @property
    def front(self) -> tuple[FrontPoint, ...]:
        """The texts that nothing seen beats in both, highest score first."""
        scored = self._search.host.scored_text
        ranked = sorted(self._front.items(), key=lambda item: -item[1][0])
        return tuple(
            FrontPoint(scored(ids, value, step), None if self._judge is None else fluent)
            for (_, ids), (value, fluent, step) in ranked
        )
