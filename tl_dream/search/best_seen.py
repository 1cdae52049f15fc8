"""Every text scored once; the best of every row and the way there kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy

from tl_dream.models import BertTrunk, Host
from tl_dream.objectives import Objective, climbed, trunk_of
from tl_dream.results import History, Run, ScoredText
from tl_dream.search.batch import Ask, Batch, Ids, Search, Together
from tl_dream.search.proposals import texts_read_back, texts_that_return


@dataclass(frozen=True)
class Seen:
    """Tokens that were the best of a row; their text is made where it is shown.

    Attributes:
        ids: the tokens.
        score: of the objective.
        step: at which they were seen; 0 is the start.
        again: whether their text tokenizes back to them; None: not known.
    """

    ids: Ids
    score: float
    step: int = 0
    again: bool | None = None


class BestSeen:
    """Scores real tokens, each only once, and keeps the best of every row; the start is the first seen.

    Every text has a score and a height: what the objective declares to be climbed in its place (see
    `Objective.uphill`), the score itself where it declares nothing. The best is kept by score; a search goes by height.

    Attributes:
        climb: what gives the height.
        by_score: go by the score itself for once, whatever is declared: where a unit stays off, its best text may lie
            down the other side.
        best: the best that each row has seen.
        leads: the highest since the row was last started anew, tokens and height.
        costs: what scoring one sentence of each row costs, in forward-tokens.
        trunk: runs in place of the model, once `take_trunk` was called and the two agree.
    """

    def __init__(
        self,
        host: Host,
        objective: Objective,
        batch: Batch,
        values: Sequence[tuple[float, ...]],
        costs: Sequence[float],
    ) -> None:
        self._host, self._objective, self._batch = host, objective, batch
        self._uphill, self.by_score = climbed(host, objective), False
        self._both = _both(objective, self._uphill)
        self.trunk: BertTrunk | None = None
        self._known: list[dict[Ids, tuple[float, float]]] = [{} for _ in batch.sentences]
        self.broken: float | None = None
        self.costs = list(costs)
        start = [value[0] for value in values]
        for row, value in enumerate(values):
            self.learn(row, batch.sentences[row].ids, value[0], value[-1])
        retokenizes = host.vocabulary.retokenizes([sentence.ids for sentence in batch.sentences])
        self.starts = [
            Seen(sentence.ids, value, 0, again)
            for sentence, value, again in zip(batch.sentences, start, retokenizes, strict=True)
        ]
        self.best = list(self.starts)
        self.leads = [(sentence.ids, value[-1]) for sentence, value in zip(batch.sentences, values, strict=True)]
        self._trails: list[list[tuple[int, int, float, Ids]]] = [[] for _ in batch.sentences]
        self._memories: dict[int, Memory] = {}
        self._stable: set[Ids] = set()  # that tokenize back to themselves, as far as that was asked
        self._bound = [
            batch.retokenize and again and not any(sentence.special[i] for i in sentence.free)
            for sentence, again in zip(batch.sentences, retokenizes, strict=True)
        ]

    @classmethod
    def of(cls, host: Host, objective: Objective, batch: Batch) -> Search[BestSeen]:
        """Score the starts."""
        values, costs = yield from score_starts(host, _both(objective, climbed(host, objective)), batch)
        return cls(host, objective, batch, values, costs)

    def take_trunk(self, left: float) -> Search[None]:
        """Compute what the objective reads by `BertTrunk` from now on, where that can stand in for the model, gives the
        first start's own score, and what is left of the budget covers the look and more."""
        if left < 4 * self.costs[0] or self.broken is not None:
            return
        trunk = trunk_of(self._host, self._both)
        if trunk is not None:
            ids = self._batch.sentences[0].ids
            answer = yield Ask(self._host, self._batch, self._both, [(0, ids)], trunk)
            (found,), known = answer.values, self._known[0][ids]
            if all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in zip(found, known, strict=False)):
                self.trunk = trunk  # else a module was exchanged, for one that may do anything

    def record(self, row: int, step: int, spent: int) -> None:
        """Keep on the way there that a row's best improved."""
        self._trails[row].append((step, spent, self.best[row].score, self.best[row].ids))

    def runs(self) -> tuple[Run, ...]:
        """A run a row."""
        found = []
        for row, trail in enumerate(self._trails):
            history = History(
                step=tuple(step for step, _, _, _ in trail),
                forward_tokens=tuple(spent for _, spent, _, _ in trail),
                hard_score=tuple(value for _, _, value, _ in trail),
                tokens=tuple(self._host.vocabulary.tokens(ids) for _, _, _, ids in trail),
                free=self._batch.sentences[row].free,
            )
            found.append(Run(self.shown(row, self.starts[row]), self.shown(row, self.best[row]), None, history))
        return tuple(found)

    def shown(self, row: int, one: Seen) -> ScoredText:
        """The start or the best of a row as a result holds it."""
        if one is self.starts[row]:
            sentence = self._batch.sentences[row]
            return ScoredText(sentence.text, sentence.tokens, one.ids, one.score, one.step, one.again)
        return self._host.scored_text(one.ids, one.score, one.step, one.again)

    def settle(self, row: int) -> Search[None]:
        """Score the best of a row once more, by the model itself: the trunk stood in for it."""
        best = self.best[row]
        if best is not self.starts[row]:
            answer = yield Ask(self._host, self._batch, (self._objective,), [(row, best.ids)])
            ((value,),) = answer.values
            self.best[row] = replace(best, score=value) if value > self.starts[row].score else self.starts[row]
        step, spent, _, ids = self._trails[row][-1]
        if ids == self.best[row].ids:
            self._trails[row][-1] = (step, spent, self.best[row].score, ids)

    def score(self, candidates: Sequence[tuple[int, Ids]]) -> Search[list[float]]:
        """The scores of (row, tokens); `height` tells how high they stand."""
        new = list(dict.fromkeys((row, ids) for row, ids in candidates if ids not in self._known[row]))
        if new:
            answer = yield Ask(self._host, self._batch, self._both, new, self.trunk)
            for (row, ids), value in zip(new, answer.values, strict=True):
                self.learn(row, ids, value[0], value[-1])
        return [self._known[row][ids][0] for row, ids in candidates]

    @property
    def climb(self) -> Objective:
        return self._objective if self.by_score else self._uphill

    def height(self, row: int, ids: Ids) -> float:
        """How high tokens stand that were scored."""
        return self._known[row][ids][not self.by_score]

    def learn(self, row: int, ids: Ids, value: float, height: float) -> None:
        """Take in the score of real tokens; the first that is NaN or infinite is kept in `broken`."""
        self._known[row].setdefault(ids, (value, height))
        if self.broken is None and not math.isfinite(value):
            self.broken = value

    def memory(self, row: int) -> Memory:
        """What the best texts of the row had at its free positions."""
        if row not in self._memories:
            self._memories[row] = Memory(self._batch.sentences[row].free)
        memory = self._memories[row]
        new = list(islice(self._known[row].items(), memory.taken, None))
        if new:
            memory.take([ids for ids, _ in new], [value[not self.by_score] for _, value in new])
        return memory

    @property
    def count(self) -> int:
        """How many texts were scored."""
        return sum(len(known) for known in self._known)

    def knows(self, row: int, ids: Ids) -> bool:
        """Whether these tokens were scored before."""
        return ids in self._known[row]

    def repaired(self, row: int, candidates: Sequence[Ids]) -> Search[list[Ids]]:
        """The candidates that may be returned. One that does not tokenize back to itself is replaced by what its text
        does tokenize to, if that fits the row."""
        if not self._bound[row] or not candidates:
            return list(candidates)
        again = yield Together(texts_read_back, (self._host.vocabulary, candidates))
        changed = [new for old, new in zip(candidates, again, strict=True) if new != old and self._fits(row, new)]
        back = yield from self.returnable(row, changed)
        stable = {new for new, ok in zip(changed, back, strict=True) if ok}
        found = [new for old, new in zip(candidates, again, strict=True) if new == old or new in stable]
        self._stable.update(found)
        return found

    def returnable(self, row: int, candidates: Sequence[Ids]) -> Search[list[bool]]:
        """Whether each may be returned: it tokenizes back to itself, where that is asked of the row."""
        if not self._bound[row] or not candidates:
            return [True] * len(candidates)
        good: list[bool] = yield Together(texts_that_return, (self._host.vocabulary, candidates))
        self._stable.update(ids for ids, ok in zip(candidates, good, strict=True) if ok)
        return good

    def keep(self, row: int, ids: Ids, step: int) -> bool:
        """Keep scored tokens that may be returned, if they are the row's best; whether they are."""
        value, height = self._known[row][ids][0], self.height(row, ids)
        leads, better = height > self.leads[row][1], value > self.best[row].score
        if not (math.isfinite(value) and (leads or better)):
            return False
        again: bool | None = None
        if self._bound[row]:
            again = ids in self._stable or self._host.vocabulary.retokenizes([ids])[0]
            if not again:
                return False
        if leads and math.isfinite(height):
            self.leads[row] = (ids, height)
        if better:
            self.best[row] = Seen(ids, value, step, again)
        return better

    def start_anew(self, row: int, ids: Ids | None = None, by_score: bool = False) -> None:
        """Lead from scored tokens, or from the row's start again; the best stays known."""
        if self.by_score != by_score:
            self.by_score = by_score
            self._memories.clear()
        ids = self._batch.sentences[row].ids if ids is None else ids
        self.leads[row] = (ids, self.height(row, ids))

    def see(self, texts: Sequence[Ids], step: int, rows: Sequence[int] | None = None) -> Search[list[float]]:
        """Score the tokens of `rows` (None: of all), keep what is better and may be returned, and give back the scores.

        Where tokens do not survive a round trip through text, what their text tokenizes to is tried in their place, if
        it is as long and differs at free positions only.
        """
        rows = range(len(texts)) if rows is None else rows
        real = list(texts)
        if any(self._bound):
            back = yield Together(texts_read_back, (self._host.vocabulary, texts))
            self._stable.update(ids for ids, again in zip(texts, back, strict=True) if again == ids)
            real = [
                again if again != ids and self._bound[row] and self._fits(row, again) else ids
                for row, ids, again in zip(rows, texts, back, strict=True)
            ]
        scores = yield from self.score([*zip(rows, texts, strict=True), *zip(rows, real, strict=True)])
        for row, ids in zip(rows, real, strict=True):
            self.keep(row, ids, step)
        return scores[: len(texts)]

    def _fits(self, row: int, ids: Ids) -> bool:
        sentence = self._batch.sentences[row]
        if len(ids) != len(sentence):
            return False
        changed = {i for i, (new, old) in enumerate(zip(ids, sentence.ids, strict=True)) if new != old}
        written = all(self._batch.may[ids[i]] for i in sentence.free)
        return written and changed.issubset(sentence.free) and self._batch.few_changes(row, ids)


def _both(objective: Objective, uphill: Objective) -> tuple[Objective, ...]:
    return (objective,) if uphill is objective else (objective, uphill)


def score_starts(
    host: Host, objectives: tuple[Objective, ...], batch: Batch
) -> Search[tuple[list[tuple[float, ...]], list[float]]]:
    """What each objective gives the starts, and what scoring one sentence of each row costs, in forward-tokens."""
    alike: dict[tuple[int, int], list[int]] = {}
    for row, sentence in enumerate(batch.sentences):  # a judge may run a pass a word
        alike.setdefault((len(sentence), sum(sentence.special)), []).append(row)
    scores: list[tuple[float, ...]] = [()] * len(batch.sentences)
    costs = [0.0] * len(batch.sentences)
    for rows in alike.values():
        before = host.meter.forward_tokens
        answer = yield Ask(host, batch, objectives, [(row, batch.sentences[row].ids) for row in rows])
        for row, value in zip(rows, answer.values, strict=True):
            scores[row], costs[row] = value, (host.meter.forward_tokens - before) / len(rows)
    return scores, costs


REMEMBERED = 8
"""Tokens a position that are drawn from."""

KEPT = REMEMBERED + 2
"""Tokens a position that are kept: one of them may stand there, and one may not be written again."""


class Memory:
    """For every free position the tokens that the best texts had there, the best one's first.

    Args:
        free: the positions.

    Attributes:
        taken: how many texts it has taken in.
    """

    def __init__(self, free: Sequence[int]) -> None:
        self._free, self.taken = list(free), 0
        self._tokens = numpy.zeros((len(free), 0), dtype=numpy.int64)
        self._heights = numpy.zeros((len(free), 0))

    def take(self, texts: Sequence[Ids], heights: Sequence[float]) -> None:
        """Take in texts, and how high they stand; -inf and no number count as nothing."""
        self.taken += len(texts)
        given = numpy.array(heights)
        good = numpy.isfinite(given)
        if not good.any():
            return
        rows = numpy.array(texts, dtype=numpy.int64)[good][:, self._free].T
        tokens = numpy.concatenate([self._tokens, rows], 1)
        high = numpy.concatenate([self._heights, numpy.broadcast_to(given[good], rows.shape)], 1)
        tokens, high = _ordered(-high, tokens, high)
        # the first of its kind is the best: find it by the token, and put the others last
        by_token = numpy.argsort(tokens, 1, kind="stable")
        sorted_ones = numpy.take_along_axis(tokens, by_token, 1)
        again = numpy.zeros_like(tokens, dtype=bool)
        numpy.put_along_axis(again, by_token[:, 1:], sorted_ones[:, 1:] == sorted_ones[:, :-1], 1)
        high[again] = -numpy.inf
        tokens, high = _ordered(again, tokens, high)
        self._tokens, self._heights = tokens[:, :KEPT].copy(), high[:, :KEPT].copy()

    def best(self, own: Sequence[int], barred: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        """Of every free position the tokens, and which of them count, [free, REMEMBERED].

        Args:
            own: the tokens that stand there now; they do not count.
            barred: tokens that may not be written there, Bool[free, kept], in the order of `tokens`.
        """
        live = (self._heights > -numpy.inf) & (self._tokens != numpy.array(own)[:, None]) & ~barred
        live, tokens = _ordered(~live, live, self._tokens)
        missing = max(0, REMEMBERED - tokens.shape[1])
        wide = ((0, 0), (0, missing))
        return numpy.pad(tokens[:, :REMEMBERED], wide), numpy.pad(live[:, :REMEMBERED], wide)

    @property
    def tokens(self) -> numpy.ndarray:
        """Those that are kept, Int[free, kept]."""
        return self._tokens


def _ordered(by: numpy.ndarray, *values: numpy.ndarray) -> list[numpy.ndarray]:
    order = numpy.argsort(by, 1, kind="stable")
    return [numpy.take_along_axis(value, order, 1) for value in values]
