"""One pass over a corpus: every shard scored by all objectives, the best sentences of each kept."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy

from tl_dream._errors import DreamError, shortened
from tl_dream.models import Host, in_batches, length_groups
from tl_dream.objectives import BatchContext, Objective, Read, read_activations
from tl_dream.results import CorpusHit
from tl_dream.scans.unit_groups import Group, grouped, rows_of, score_group, take
from tl_dream.text import Positions, Sentence, Shard

NO_NUMBER = "scored as not a number"
NO_PLACE = "without a place that the objective reads"


Made = CorpusHit | Callable[[], CorpusHit]
"""A sentence as a result holds it, or what makes it: of thousands of units most are surpassed before anybody asks."""


@dataclass
class Ranking:
    """The best sentences of one objective so far, equal scores by line, each (as the model reads it) once."""

    top: int
    scored: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    _heap: list[tuple[float, int, tuple[int, ...], Made]] = field(default_factory=list)  # lines count downwards
    _ids: set[tuple[int, ...]] = field(default_factory=set)

    @property
    def kept(self) -> int:
        """How many sentences there are."""
        return len(self._heap)

    @property
    def cut(self) -> tuple[float, int]:
        """The score and the line of the last of the best: what a sentence must beat."""
        score, line = self._heap[0][:2] if len(self._heap) == self.top else (-numpy.inf, 0)
        return score, -line

    @property
    def highest(self) -> float:
        """The best score; minus infinity without one."""
        return max((entry[0] for entry in self._heap), default=-numpy.inf)

    def takes(self, score: float, line: int, ids: tuple[int, ...]) -> bool:
        """Whether such a sentence would be among the best."""
        higher = len(self._heap) < self.top or (score, -line) > self._heap[0][:2]
        return higher and ids not in self._ids

    def add(self, score: float, line: int, ids: tuple[int, ...], hit: Made) -> None:
        """Keep a sentence if it is among the best."""
        if not self.takes(score, line, ids):
            return
        self._ids.add(ids)
        if len(self._heap) == self.top:
            self._ids.remove(heapq.heapreplace(self._heap, (score, -line, ids, hit))[2])
        else:
            heapq.heappush(self._heap, (score, -line, ids, hit))

    def best(self) -> tuple[CorpusHit, ...]:
        """Best first."""
        hits = [hit if isinstance(hit, CorpusHit) else hit() for *_, hit in self._heap]
        self._heap = [(*entry[:3], hit) for entry, hit in zip(self._heap, hits, strict=True)]
        return tuple(sorted(hits, key=lambda hit: (-hit.score, hit.line)))


@dataclass(frozen=True)
class _Line:
    """Lines of a shard with the same tokens: the number of the first, how many, what they say."""

    number: int
    times: int
    sentence: Sentence


class _Candidate(NamedTuple):
    """A sentence that may be among the best of one member of a group: its values, padded, and the best's position."""

    member: int
    line: _Line
    score: float
    values: numpy.ndarray | None
    pos: int | None


@dataclass(frozen=True)
class _Found:
    """What a group made of some lines: which it scored (Bool[line, member]), and who may be among the best."""

    group: Group
    lines: Sequence[_Line]
    scored: numpy.ndarray
    reason: str
    candidates: Sequence[_Candidate] = ()


class CorpusPass:
    """A pass over a corpus, as far as it got.

    Attributes:
        rankings: one an objective.
        skipped: lines that hold no sentence, by reason.
        tokens: tokens of the lines that were put through the model, equal lines counted each time.
        trouble: the first reason an objective gave for not reading a line.
    """

    def __init__(self, host: Host, objectives: Sequence[Objective], top: int, batch_tokens: int) -> None:
        self.host, self.objectives = host, objectives
        self.rankings = [Ranking(top) for _ in objectives]
        self.skipped: Counter[str] = Counter()
        self.tokens = 0
        self.trouble: DreamError | None = None
        self._top, self._batch_tokens = top, batch_tokens
        self._groups: dict[str, list[Group]] = {}  # by the positions they read: to find these is dear
        self._reads: tuple[Read, ...] = tuple(dict.fromkeys(read for one in objectives for read in one.reads))
        self._equal_lengths = any(one.equal_lengths for one in objectives)

    def run(self, shard: Shard, bar: Any) -> None:
        """Score one shard, long lines first; what says the same is scored once and counted as often as it is there."""
        self.skipped += shard.skipped
        times = Counter(sentence.ids for sentence in shard.sentences)
        first: dict[tuple[int, ...], tuple[int, Sentence]] = {}
        for number, sentence in zip(shard.lines, shard.sentences, strict=True):
            first.setdefault(sentence.ids, (number, sentence))
        lines = [_Line(number, times[ids], sentence) for ids, (number, sentence) in first.items()]
        if lines and not self._groups:
            for group in grouped(self.host, self.objectives, lines[0].sentence):
                self._groups.setdefault(repr(group.pos), []).append(group)
        fits = {place: self._fitting(groups[0].pos, lines) for place, groups in self._groups.items()}
        for place, groups in self._groups.items():
            lost = [line for line in lines if line.number not in fits[place]]
            for group in groups if lost else ():
                nothing = numpy.zeros((len(lost), len(group.members)), dtype=bool)
                self._keep(_Found(group, lost, nothing, _missing(group.pos)))
        wanted = [line for line in lines if any(line.number in fit for fit in fits.values())]
        lengths = [len(line.sentence) for line in wanted]
        done, tokens, began = 0.0, 0, time.perf_counter()
        for numbers in reversed(length_groups(lengths, self._batch_tokens, self._equal_lengths)):
            batch = [wanted[i] for i in sorted(numbers)]  # in the order of lines, which decides between equal scores
            for parts in in_batches(batch, len(batch), lambda part: self._score(part, fits)):
                for found in parts:
                    self._keep(found)
            tokens += sum(len(line.sentence) for line in batch)
            step = shard.size * tokens / sum(lengths) - done
            done += step
            best = f"best {self.rankings[0].highest:.3f}, " if len(self.rankings) == 1 else ""
            rate = f"{tokens / max(1e-9, time.perf_counter() - began):,.0f} tokens/s"
            bar.set_postfix_str(best + rate, refresh=False)
            bar.update(step)
        bar.update(shard.size - done)
        self.tokens += sum(len(line.sentence) * line.times for line in wanted)

    def _fitting(self, pos: Positions, lines: Sequence[_Line]) -> set[int]:
        """The numbers of the lines that have the positions `pos` means."""
        if pos is None or pos == "all":
            return {line.number for line in lines}
        vocabulary = self.host.vocabulary
        likely = set()
        if isinstance(pos, str) and not pos.startswith("##"):  # to look a word up costs more than to rule it out
            likely = vocabulary.starts_of(pos)

        def fits(sentence: Sentence) -> bool:
            if isinstance(pos, int):
                return -len(sentence) <= pos < len(sentence)
            if likely and likely.isdisjoint(sentence.ids):
                return False
            try:
                return bool(vocabulary.locate(sentence, pos))
            except DreamError as error:
                self.trouble = self.trouble or error
                return False

        return {line.number for line in lines if fits(line.sentence)}

    def _score(self, batch: Sequence[_Line], fits: dict[str, set[int]]) -> list[_Found]:
        """What every group makes of a batch. Nothing is kept yet, so that a batch can be tried again."""
        rows = BatchContext.of(self.host, [line.sentence for line in batch])
        ids, _ = self.host.pad([line.sentence.ids for line in batch])
        mask = None if bool(rows.mask.all()) else rows.mask
        activations = read_activations(self.host, self._reads, ids, mask=mask)
        found: list[_Found] = []
        for place, groups in self._groups.items():
            fit = [i for i, line in enumerate(batch) if line.number in fits[place]]
            if not fit:
                continue
            whole = len(fit) == len(batch)
            part, these = (activations, rows) if whole else (take(activations, fit, len(batch)), rows_of(rows, fit))
            for group in groups:
                found += self._score_fitting(group, part, these, [batch[i] for i in fit])
        return found

    def _score_fitting(
        self, group: Group, activations: dict[Read, Any], rows: BatchContext, lines: Sequence[_Line]
    ) -> list[_Found]:
        """What a group makes of lines that have the positions it reads; these are in the order of the corpus."""
        try:
            scored = score_group(group, activations, rows)
        except DreamError as error:
            if group.pos is not None:
                raise
            self.trouble = self.trouble or error  # an objective that does not say where it reads: line by line
            if len(lines) == 1:
                return [_Found(group, lines, numpy.zeros((1, len(group.members)), dtype=bool), NO_PLACE)]
            each = ((take(activations, [i], len(lines)), rows_of(rows, [i]), [lines[i]]) for i in range(len(lines)))
            return [found for one in each for found in self._score_fitting(group, *one)]
        good = numpy.isfinite(scored.scores)
        usable = numpy.where(good, scored.scores, -numpy.inf)
        cuts, last = numpy.array([self.rankings[member].cut for member in group.members]).T
        earlier = numpy.array([line.number for line in lines])[:, None] < last
        known = max(self.rankings[member].kept for member in group.members)  # from other shards, and read again
        wanted = _best(usable, min(len(usable), self._top + known))
        row, member = (wanted & ((usable > cuts) | ((usable == cuts) & earlier))).nonzero()
        best_first = (-usable[row, member]).argsort()  # the cut rises at once, and most others need no looking at
        row, member = row[best_first], member[best_first]
        values = scored.values(row, member) if scored.values is not None and len(row) else None
        places: list[int | None] = [None] * len(row)
        shown: list[Any] = [None] * len(row)
        if values is not None:
            if scored.read is not None:
                ranked = -values if group.reduce == "min" else values
                counts = scored.read[row] & ~numpy.isnan(ranked)
                places = numpy.where(counts, ranked, -numpy.inf).argmax(1).tolist()
            shown = list(values)
        best = zip(member.tolist(), row.tolist(), usable[row, member].tolist(), shown, places, strict=True)
        candidates = [_Candidate(of, lines[at], score, some, pos) for of, at, score, some, pos in best]
        return [_Found(group, lines, good, NO_NUMBER, candidates)]

    def _keep(self, found: _Found) -> None:
        members, times = found.group.members, numpy.array([line.times for line in found.lines])
        scored = times @ found.scored
        for member, count in zip(members, scored.tolist(), strict=True):
            ranking = self.rankings[member]
            ranking.scored += count
            if count < times.sum():
                ranking.skipped[found.reason] += int(times.sum()) - count
        for one in found.candidates:
            ranking, sentence, number = self.rankings[members[one.member]], one.line.sentence, one.line.number
            if ranking.takes(one.score, number, sentence.ids):
                # no view: it would hold the values of the whole batch
                values = None if one.values is None else one.values[: len(sentence)].copy()
                hit = partial(_hit, sentence, one.pos, one.score, values, number)
                ranking.add(one.score, number, sentence.ids, hit)


def _hit(sentence: Sentence, pos: int | None, score: float, values: numpy.ndarray | None, number: int) -> CorpusHit:
    shown: list[float | None] | None = None
    if values is not None:
        shown = values.tolist()
        for at in (~numpy.isfinite(values)).nonzero()[0].tolist():
            shown[at] = None
    activations = None if shown is None else tuple(shown)
    return CorpusHit(sentence.text, sentence.tokens, sentence.ids, pos, score, activations, number)


def _best(scores: numpy.ndarray, most: int) -> numpy.ndarray:
    """Bool[row, member]: the `most` highest of every column; of equal ones those that come first, -inf never."""
    edge = numpy.partition(scores, len(scores) - most, axis=0)[len(scores) - most]
    above, level = scores > edge, (scores == edge) & (scores > -numpy.inf)
    return above | (level & (level.cumsum(0) <= most - above.sum(0)))


def _missing(pos: Positions) -> str:
    if isinstance(pos, int):
        return f"without position {pos}"
    if isinstance(pos, str):
        return f"without the word {shortened(repr(pos))} (as one token, exactly once)"
    return f"without the positions {shortened(repr(pos))}"
