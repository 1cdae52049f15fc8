"""Rows that dream together, and the best real tokens each has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._errors import require
from tl_dream.bert_trunk import BertTrunk
from tl_dream.hosts import Host
from tl_dream.objectives import Objective
from tl_dream.prompts import Sentence
from tl_dream.results import ScoredText
from tl_dream.rows import Rows
from tl_dream.scoring import climbed, evaluate_each, trunk_of
from tl_dream.screening import in_batches
from tl_dream.substitutions import default_batch_tokens


@dataclass(frozen=True)
class Batch:
    """Rows that dream together: their sentences, and where each is free.

    Attributes:
        sentences: one a row; a start that is tried several times stands in several rows.
        ids: their tokens, right-padded.
        rows: what the objective needs to know of them.
        free: the free positions of each row, 0 where `valid` is False (rows may have fewer than others).
        allowed: tokens that free positions may take, Bool[d_vocab].
        retokenize: whether only tokens whose text tokenizes back to them may be returned. Not asked of a row whose
            start does not, or where [CLS] or [SEP] is free.
        max_changes: how many words may differ from the start's at most; None sets no limit.
    """

    sentences: tuple[Sentence, ...]
    ids: Int[Tensor, "batch pos"]
    rows: Rows
    free: Int[Tensor, "batch free"]
    valid: Bool[Tensor, "batch free"]
    allowed: Bool[Tensor, " vocab"]
    retokenize: bool
    max_changes: int | None = None
    _kept: dict[tuple[int, int], Rows] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        host: Host,
        sentences: Sequence[Sentence],
        allowed: Tensor,
        retokenize: bool,
        max_changes: int | None = None,
    ) -> Batch:
        """A batch of sentences, each with at least one free position."""
        ids, _ = host.pad([sentence.ids for sentence in sentences])
        most = max(len(sentence.free) for sentence in sentences)
        free = torch.zeros(len(sentences), most, dtype=torch.long)
        valid = torch.zeros(len(sentences), most, dtype=torch.bool)
        for i, sentence in enumerate(sentences):
            require(bool(sentence.free), f"no position of {sentence.text!r} is free: free at least one word")
            free[i, : len(sentence.free)] = torch.tensor(sentence.free)
            valid[i, : len(sentence.free)] = True
        device = host.device
        return cls(
            tuple(sentences),
            ids,
            Rows.of(host, sentences),
            free.to(device),
            valid.to(device),
            allowed.to(device),
            retokenize,
            max_changes,
        )

    def fill(self, tokens: Int[Tensor, "batch free"]) -> Int[Tensor, "batch pos"]:
        """The sentences with `tokens` at their free positions."""
        filled = self.ids.clone()
        row, slot = self.valid.nonzero(as_tuple=True)
        filled[row, self.free[row, slot]] = tokens[row, slot]
        return filled

    def within_limit(
        self, filled: Int[Tensor, "batch pos"], strength: Float[Tensor, "batch free"]
    ) -> Int[Tensor, "batch pos"]:
        """The sentences with at most `max_changes` words changed: those of the greatest strength."""
        if self.max_changes is None:
            return filled
        changed = (filled != self.ids).gather(1, self.free) & self.valid
        order = strength.masked_fill(~changed, -math.inf).argsort(dim=1, descending=True, stable=True)
        keep = torch.zeros_like(changed).scatter_(1, order[:, : self.max_changes], True) & changed
        return self.fill(torch.where(keep, filled.gather(1, self.free), self.ids.gather(1, self.free)))

    @torch.no_grad()
    def evaluate(
        self,
        host: Host,
        objectives: Sequence[Objective],
        candidates: Sequence[tuple[int, tuple[int, ...]]],
        trunk: BertTrunk | None = None,
    ) -> list[tuple[float, ...]]:
        """What each objective gives (row, tokens), in forward passes that fit the device. No pass mixes lengths: so
        nobody pays for padding, and a sentence of a row costs the same whatever it is scored with."""

        def work(part: Sequence[int]) -> list[tuple[float, ...]]:
            ids = torch.tensor([candidates[i][1] for i in part], device=host.device)
            rows = self._alike([candidates[i][0] for i in part], host)
            found = evaluate_each(host, objectives, ids, rows, trunk=trunk)
            return list(zip(*(values.tolist() for values in found), strict=True))

        lengths: dict[int, list[int]] = {}
        for i, (_, ids) in enumerate(candidates):
            lengths.setdefault(len(ids), []).append(i)
        found: list[tuple[float, ...]] = [()] * len(candidates)
        for length, numbers in lengths.items():
            size = max(1, default_batch_tokens(host, None) // length)
            values = [value for some in in_batches(numbers, size, work) for value in some]
            for i, value in zip(numbers, values, strict=True):
                found[i] = value
        return found

    def _alike(self, members: Sequence[int], host: Host) -> Rows:
        """What an objective may know of some of the rows; of one row many times it is kept, because positions are
        looked up row by row."""
        if len(set(members)) > 1:
            return Rows.of(host, [self.sentences[row] for row in members])
        key = (members[0], len(members))
        if key not in self._kept:
            if len(self._kept) > 64:
                self._kept.clear()
            self._kept[key] = Rows.of(host, [self.sentences[members[0]]]).repeat(len(members))
        return self._kept[key]

    def evaluate_starts(
        self, host: Host, objectives: Sequence[Objective]
    ) -> tuple[list[tuple[float, ...]], list[float]]:
        """What each objective gives the starts, and what scoring one sentence of each row costs, in forward-tokens."""
        alike: dict[tuple[int, int], list[int]] = {}
        for row, sentence in enumerate(self.sentences):  # a judge may run a pass a word
            alike.setdefault((len(sentence), sum(sentence.special)), []).append(row)
        scores: list[tuple[float, ...]] = [()] * len(self.sentences)
        costs = [0.0] * len(self.sentences)
        for rows in alike.values():
            before = host.meter.forward_tokens
            values = self.evaluate(host, objectives, [(row, self.sentences[row].ids) for row in rows])
            for row, value in zip(rows, values, strict=True):
                scores[row], costs[row] = value, (host.meter.forward_tokens - before) / len(rows)
        return scores, costs

    def part(self, host: Host, rows: Sequence[int]) -> Batch:
        """Some of the rows, as a batch of their own."""
        some = [self.sentences[row] for row in rows]
        return Batch.of(host, some, self.allowed, self.retokenize, self.max_changes)

    def row_ids(self, filled: Int[Tensor, "batch pos"], row: int) -> tuple[int, ...]:
        """One row's tokens without its padding."""
        return tuple(filled[row, : len(self.sentences[row])].tolist())


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

    def __init__(self, host: Host, objective: Objective, batch: Batch) -> None:
        self._host, self._objective, self._batch = host, objective, batch
        self._uphill, self.by_score = climbed(host, objective), False
        self._both = (objective,) if self._uphill is objective else (objective, self._uphill)
        self.trunk: BertTrunk | None = None
        self._known: list[dict[tuple[int, ...], tuple[float, float]]] = [{} for _ in batch.sentences]
        self.broken: float | None = None
        values, self.costs = batch.evaluate_starts(host, self._both)
        start = [value[0] for value in values]
        for row, value in enumerate(values):
            self.learn(row, batch.sentences[row].ids, value[0], value[-1])
        retokenizes = host.vocabulary.retokenizes([sentence.ids for sentence in batch.sentences])
        self.starts = [
            ScoredText(sentence.text, sentence.tokens, sentence.ids, value, 0, again)
            for sentence, value, again in zip(batch.sentences, start, retokenizes, strict=True)
        ]
        self.best = list(self.starts)
        self.leads = [(sentence.ids, value[-1]) for sentence, value in zip(batch.sentences, values, strict=True)]
        self._bound = [
            batch.retokenize and again and not any(sentence.special[i] for i in sentence.free)
            for sentence, again in zip(batch.sentences, retokenizes, strict=True)
        ]

    def take_trunk(self, left: float) -> None:
        """Compute what the objective reads by `BertTrunk` from now on, where that can stand in for the model, gives the
        first start's own score, and what is left of the budget covers the look and more."""
        if left < 4 * self.costs[0] or self.broken is not None:
            return
        trunk = trunk_of(self._host, self._both)
        if trunk is not None:
            ids = self._batch.sentences[0].ids
            (found,) = self._batch.evaluate(self._host, self._both, [(0, ids)], trunk)
            known = (*self._known[0][ids],)
            if all(math.isclose(a, b, rel_tol=1e-3, abs_tol=1e-4) for a, b in zip(found, known, strict=False)):
                self.trunk = trunk  # else a module was exchanged, for one that may do anything

    def settle(self, row: int) -> None:
        """Score the best of a row once more, by the model itself in a pass of its own."""
        best = self.best[row]
        if best is not self.starts[row]:
            ((value, *_),) = self._batch.evaluate(self._host, (self._objective,), [(row, best.ids)])
            self.best[row] = replace(best, score=value) if value > self.starts[row].score else self.starts[row]

    def score(self, candidates: Sequence[tuple[int, tuple[int, ...]]]) -> list[float]:
        """The scores of (row, tokens); `height` tells how high they stand."""
        new = list(dict.fromkeys((row, ids) for row, ids in candidates if ids not in self._known[row]))
        found = self._batch.evaluate(self._host, self._both, new, self.trunk)
        for (row, ids), value in zip(new, found, strict=True):
            self.learn(row, ids, value[0], value[-1])
        return [self._known[row][ids][0] for row, ids in candidates]

    @property
    def climb(self) -> Objective:
        return self._objective if self.by_score else self._uphill

    def height(self, row: int, ids: tuple[int, ...]) -> float:
        """How high tokens stand that were scored."""
        return self._known[row][ids][not self.by_score]

    def learn(self, row: int, ids: tuple[int, ...], value: float, height: float) -> None:
        """Take in the score of real tokens; the first that is NaN or infinite is kept in `broken`."""
        self._known[row].setdefault(ids, (value, height))
        if self.broken is None and not math.isfinite(value):
            self.broken = value

    def known(self, row: int, since: int = 0) -> list[tuple[tuple[int, ...], float]]:
        """The tokens of a row that were scored and their heights, oldest first, but for the first `since`."""
        return [(ids, values[not self.by_score]) for ids, values in islice(self._known[row].items(), since, None)]

    @property
    def count(self) -> int:
        """How many texts were scored."""
        return sum(len(known) for known in self._known)

    def knows(self, row: int, ids: tuple[int, ...]) -> bool:
        """Whether these tokens were scored before."""
        return ids in self._known[row]

    def repaired(self, row: int, candidates: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The candidates that may be returned; in place of one that does not tokenize back to itself what its text
        tokenizes to, where that fits the row."""
        if not self._bound[row]:
            return list(candidates)
        vocabulary = self._host.vocabulary
        again = vocabulary.encode_batch(vocabulary.decode_batch(candidates)) if candidates else []
        changed = [new for old, new in zip(candidates, again, strict=True) if new != old and self._fits(row, new)]
        stable = {new for new, ok in zip(changed, vocabulary.retokenizes(changed), strict=True) if ok}
        return [new for old, new in zip(candidates, again, strict=True) if new == old or new in stable]

    def returnable(self, row: int, candidates: Sequence[tuple[int, ...]]) -> list[bool]:
        """Whether each may be returned: it tokenizes back to itself, where that is asked of the row."""
        if not self._bound[row]:
            return [True] * len(candidates)
        return self._host.vocabulary.retokenizes(candidates)

    def keep(self, row: int, ids: tuple[int, ...], step: int) -> bool:
        """Keep scored tokens that may be returned, if they are the row's best; whether they are."""
        value, height = self._known[row][ids][0], self.height(row, ids)
        leads, better = height > self.leads[row][1], value > self.best[row].score
        if not (math.isfinite(value) and (leads or better)):
            return False
        vocabulary = self._host.vocabulary
        again = vocabulary.retokenizes([ids])[0]
        if self._bound[row] and not again:
            return False
        if leads and math.isfinite(height):
            self.leads[row] = (ids, height)
        if better:
            self.best[row] = ScoredText(vocabulary.decode(ids), vocabulary.tokens(ids), ids, value, step, again)
        return better

    def start_anew(self, row: int, ids: tuple[int, ...] | None = None) -> None:
        """Lead from scored tokens, or from the start again; the best stays known."""
        ids = self._batch.sentences[row].ids if ids is None else ids
        self.leads[row] = (ids, self.height(row, ids))

    def see(self, filled: Int[Tensor, "some pos"], step: int, rows: Sequence[int] | None = None) -> list[float]:
        """Score the tokens of `rows` (None: of all), keep what is better and may be returned, and give back the scores.

        Where tokens do not survive a round trip through text, what their text tokenizes to is tried in their place, if
        it is as long and differs at free positions only.
        """
        vocabulary = self._host.vocabulary
        rows = range(len(filled)) if rows is None else rows
        raw = [tuple(ids[: len(self._batch.sentences[row])]) for row, ids in zip(rows, filled.tolist(), strict=True)]
        texts = vocabulary.decode_batch(raw)
        real = vocabulary.encode_batch(texts) if any(self._bound) else raw
        real = [
            again if self._bound[row] and self._fits(row, again) else ids
            for row, ids, again in zip(rows, raw, real, strict=True)
        ]
        scores = self.score([*zip(rows, raw, strict=True), *zip(rows, real, strict=True)])
        for row, ids in zip(rows, real, strict=True):
            self.keep(row, ids, step)
        return scores[: len(raw)]

    def _fits(self, row: int, ids: tuple[int, ...]) -> bool:
        sentence = self._batch.sentences[row]
        if len(ids) != len(sentence):
            return False
        free, limit = set(sentence.free), self._batch.max_changes
        pairs = list(zip(ids, sentence.ids, strict=True))
        return (limit is None or sum(new != old for new, old in pairs) <= limit) and all(
            bool(self._batch.allowed[new]) if i in free else new == old for i, (new, old) in enumerate(pairs)
        )
