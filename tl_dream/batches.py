"""Rows that dream together, and the best real tokens each has seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tl_dream._errors import require
from tl_dream.hosts import Host
from tl_dream.objectives import Objective
from tl_dream.prompts import Sentence
from tl_dream.results import ScoredText
from tl_dream.rows import Rows
from tl_dream.scoring import evaluate


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
    """

    sentences: tuple[Sentence, ...]
    ids: Int[Tensor, "batch pos"]
    rows: Rows
    free: Int[Tensor, "batch free"]
    valid: Bool[Tensor, "batch free"]
    allowed: Bool[Tensor, " vocab"]
    retokenize: bool

    @classmethod
    def of(cls, host: Host, sentences: Sequence[Sentence], allowed: Tensor, retokenize: bool) -> Batch:
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
        )

    def fill(self, tokens: Int[Tensor, "batch free"]) -> Int[Tensor, "batch pos"]:
        """The sentences with `tokens` at their free positions."""
        filled = self.ids.clone()
        row, slot = self.valid.nonzero(as_tuple=True)
        filled[row, self.free[row, slot]] = tokens[row, slot]
        return filled

    def row_ids(self, filled: Int[Tensor, "batch pos"], row: int) -> tuple[int, ...]:
        """One row's tokens without its padding."""
        return tuple(filled[row, : len(self.sentences[row])].tolist())


class BestSeen:
    """Scores real tokens, each only once, and keeps the best of every row; the start is the first seen."""

    def __init__(self, host: Host, objective: Objective, batch: Batch) -> None:
        self._host, self._objective, self._batch = host, objective, batch
        self._known: list[dict[tuple[int, ...], float]] = [{} for _ in batch.sentences]
        start = self._score([(i, sentence.ids) for i, sentence in enumerate(batch.sentences)])
        retokenizes = host.vocabulary.retokenizes([sentence.ids for sentence in batch.sentences])
        self.starts = [
            ScoredText(sentence.text, sentence.tokens, sentence.ids, value, 0, again)
            for sentence, value, again in zip(batch.sentences, start, retokenizes, strict=True)
        ]
        self.best = list(self.starts)
        self._bound = [
            batch.retokenize and again and not any(sentence.special[i] for i in sentence.free)
            for sentence, again in zip(batch.sentences, retokenizes, strict=True)
        ]

    @torch.no_grad()
    def _score(self, candidates: list[tuple[int, tuple[int, ...]]]) -> list[float]:
        new = list(dict.fromkeys((row, ids) for row, ids in candidates if ids not in self._known[row]))
        if new:
            index = [row for row, _ in new]
            ids, _ = self._host.pad([ids for _, ids in new])
            rows = Rows.of(self._host, [self._batch.sentences[row] for row in index])
            for (row, key), value in zip(new, evaluate(self._host, self._objective, ids, rows).tolist(), strict=True):
                self._known[row][key] = value
        return [self._known[row][ids] for row, ids in candidates]

    def see(self, filled: Int[Tensor, "batch pos"], step: int) -> list[float]:
        """Score the rows' tokens, keep what is better and may be returned, and give back the scores.

        Where tokens do not survive a round trip through text, what their text tokenizes to is tried in their place, if
        it is as long and differs at free positions only.
        """
        vocabulary = self._host.vocabulary
        raw = [self._batch.row_ids(filled, row) for row in range(len(filled))]
        texts = vocabulary.decode_batch(raw)
        real = vocabulary.encode_batch(texts) if any(self._bound) else raw
        real = [
            again if self._bound[row] and self._fits(row, again) else ids
            for row, (ids, again) in enumerate(zip(raw, real, strict=True))
        ]
        pairs = [(row, ids) for row, ids in enumerate(raw)] + [(row, ids) for row, ids in enumerate(real)]
        scores = self._score(pairs)
        better = [
            row for row, value in enumerate(scores[len(raw) :]) if math.isfinite(value) and value > self.best[row].score
        ]
        if better:
            returns = vocabulary.retokenizes([real[row] for row in better])
            for row, again in zip(better, returns, strict=True):
                if again or not self._bound[row]:
                    text = vocabulary.decode(real[row])
                    tokens = vocabulary.tokens(real[row])
                    self.best[row] = ScoredText(text, tokens, real[row], scores[len(raw) + row], step, again)
        return scores[: len(raw)]

    def _fits(self, row: int, ids: tuple[int, ...]) -> bool:
        sentence = self._batch.sentences[row]
        if len(ids) != len(sentence):
            return False
        free = set(sentence.free)
        return all(
            bool(self._batch.allowed[new]) if i in free else new == old
            for i, (new, old) in enumerate(zip(ids, sentence.ids, strict=True))
        )

    def broken(self) -> float | None:
        """A score seen that is NaN or infinite, if there is one."""
        return next((v for known in self._known for v in known.values() if not math.isfinite(v)), None)
