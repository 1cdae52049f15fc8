"""A smoothed bigram model counted from any text: a judge of fluency that needs no other model and no network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream._arguments import Number, finite_number
from tl_dream._errors import require
from tl_dream.models import attached
from tl_dream.objectives.objective import BatchContext, Tokens
from tl_dream.text import Corpus, ShardReader

SHARD_LINES = 256
"""Lines tokenized at once."""


@dataclass(frozen=True, eq=False)
class BigramModel:
    """How likely a token is after another: counts, smoothed towards how frequent the token is.

    p(b | a) = (count(a b) + strength * p(b)) / (count(a) + strength), p(b) = (count(b) + 1) / (tokens + d_vocab): a
    Dirichlet prior (MacKay and Peto 1995). Make one with `count_bigrams`.

    Attributes:
        name: what was counted, for receipts.
        pairs: the pairs seen, as previous * d_vocab + next, sorted.
        excess: for each, what having been seen adds to its log-probability, nats.
        unigram: log p(b), nats, Float[d_vocab].
        missing: what the smoothing leaves after `a`, log(strength / (count(a) + strength)), Float[d_vocab].
        lines, tokens: how much was counted.
        skipped: lines that were not, by reason.
        vocabulary: hash of the tokenizer's vocabulary; the dreaming model's must have the same.
    """

    name: str
    pairs: Int[Tensor, " pair"]
    excess: Float[Tensor, " pair"]
    unigram: Float[Tensor, " vocab"]
    missing: Float[Tensor, " vocab"]
    lines: int
    tokens: int
    skipped: Mapping[str, int]
    vocabulary: str

    def __repr__(self) -> str:
        return f"bigrams of {self.name}"

    def on(self, device: torch.device) -> BigramModel:
        """The same counts on another device."""
        if self.pairs.device == device:
            return self
        moved = {key: getattr(self, key).to(device) for key in ("pairs", "excess", "unigram", "missing")}
        return replace(self, **moved)

    def log_probabilities(self, tokens: Tokens, rows: BatchContext) -> tuple[Tensor, Tensor]:
        """Every token's log-probability after the one before it, nats, and where there is one: Float[batch, pos] and
        Bool[batch, pos]. Of soft words the expectation over independent draws, with its graph."""
        first, second = tokens.ids[:, :-1], tokens.ids[:, 1:]
        if tokens.weights is None:
            found = self.unigram[second] + self.missing[first] + self._excess(first, second)
        else:
            before, after = tokens.weights[:, :-1], tokens.weights[:, 1:]
            seen = torch.sparse.mm(self._matrix(before.dtype), after.flatten(0, 1).T).T.reshape(after.shape)
            found = after @ self.unigram.to(after.dtype) + before @ self.missing.to(after.dtype)
            found = found + (before * seen).sum(-1)
        found = torch.nn.functional.pad(found, (1, 0))
        predicted = torch.ones_like(rows.mask)
        predicted[:, 0] = False
        return found, predicted & rows.words

    def _excess(self, first: Tensor, second: Tensor) -> Tensor:
        wanted = first * len(self.unigram) + second
        at = torch.searchsorted(self.pairs, wanted).clamp(max=max(0, len(self.pairs) - 1))
        if not len(self.pairs):
            return torch.zeros(wanted.shape, device=wanted.device)
        return torch.where(self.pairs[at] == wanted, self.excess[at], 0.0)

    def _matrix(self, dtype: torch.dtype) -> Tensor:
        """The excess as a sparse matrix [previous, next]."""
        size = len(self.unigram)
        index = torch.stack([self.pairs // size, self.pairs % size])
        return torch.sparse_coo_tensor(
            index, self.excess.to(dtype), (size, size), is_coalesced=True, check_invariants=False
        )


def count_bigrams(model: Any, texts: Any, *, column: str | None = None, strength: Number = 100.0) -> BigramModel:
    """Count a bigram model over a model's own tokens, a sentence a line.

    Args:
        model: whose tokenizer counts.
        texts: a text file, an iterable of texts, or a data set with `column`.
        strength: how many tokens' worth of evidence the token's own frequency is; dimensionless, > 0.

    Raises:
        DreamError: no text in it, or bad input (see the message).

    Examples:
        >>> bigrams = td.count_bigrams(bert, ["the red dog is good", "the cat is bad"])
        >>> td.score(bert, td.fluency(bigrams), "the red dog") < 0
        tensor([True])
    """
    strength = finite_number("strength", strength, "a number above 0", lambda number: number > 0)
    corpus = Corpus.of(texts, column)
    skipped: Counter[str] = Counter()
    lines = 0
    with attached(model) as host:
        size = host.d_vocab
        single, before = (torch.zeros(size, dtype=torch.double) for _ in range(2))
        keys: list[Tensor] = []
        for shard in ShardReader(corpus, host.vocabulary, SHARD_LINES, host.n_ctx):
            skipped += shard.skipped
            lines += len(shard.sentences)
            for sentence in shard.sentences:
                row = torch.tensor(sentence.ids)
                single += torch.bincount(row, minlength=size)
                before += torch.bincount(row[:-1], minlength=size)
                keys.append(row[:-1] * size + row[1:])
        told = ", ".join(f"{count} {reason}" for reason, count in skipped.items())
        require(lines > 0, f"{corpus.name} holds no text to count bigrams of{f' ({told})' if told else ''}")
        pairs, counts = torch.cat(keys).unique(return_counts=True)
        frequency = (single + 1) / (single.sum() + size)
        excess = torch.log1p(counts / (strength * frequency[pairs % size]))
        dtype = torch.promote_types(host.W_E.dtype, torch.float32)
        return BigramModel(
            name=corpus.name,
            pairs=pairs,
            excess=excess.to(dtype),
            unigram=frequency.log().to(dtype),
            missing=(strength / (before + strength)).log().to(dtype),
            lines=lines,
            tokens=int(single.sum()),
            skipped=dict(skipped),
            vocabulary=host.vocabulary.digest,
        ).on(host.device)
