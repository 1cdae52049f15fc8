"""Whether tokens come back from their own text, from what is known of their words.

A BERT's tokenizer splits a text at blanks and punctuation before it looks for pieces, and writes a blank before every
token but pieces (##s) and some punctuation. So a sentence comes back if each of its words does, a token with the pieces
that follow it; and a word is asked of the tokenizer once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy

Rows = Sequence[Sequence[int]]

KEPT = 500_000
"""Words of several pieces that are known at most; then they are asked anew."""


class RoundTrips:
    """What is known of the words of a tokenizer.

    Args:
        tokenizer: one of `has_words`.
        size: tokens of the vocabulary.
        asked: whether rows come back, by the tokenizer itself.
    """

    def __init__(self, tokenizer: Any, size: int, asked: Callable[[Rows], list[bool]]) -> None:
        self._asked = asked
        words = tokenizer.convert_ids_to_tokens(range(min(size, len(tokenizer))))
        self._cls, self._sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._piece = numpy.array([str(word).startswith("##") for word in words] + [False])
        self._odd = numpy.zeros(len(words) + 1, dtype=bool)  # special tokens, whatever is added, and what has no text
        self._odd[[i for i in tokenizer.added_tokens_decoder if i < len(words)]] = True
        self._odd[-1] = True
        self._alone = numpy.full(len(words) + 1, -1, dtype=numpy.int8)
        self._words: dict[bytes, bool] = {}
        letters = ((i,) for i, word in enumerate(words) if len(word) == 1 and "a" <= word <= "z")
        self._beside = next((letter for letter in letters if self._ask([()], letter)[0]), ())

    def __call__(self, rows: Rows) -> list[bool]:
        """Whether each row comes back from its text."""
        found = [False] * len(rows)
        lengths: dict[int, list[int]] = {}
        for n, row in enumerate(rows):
            lengths.setdefault(len(row), []).append(n)
        for length, numbers in lengths.items():
            some = [rows[n] for n in numbers]
            if length < 3 or not self._beside:
                told = self._asked(some)
            else:
                told = self._of_length(numpy.array(some, dtype=numpy.int64), some)
            for n, good in zip(numbers, told, strict=True):
                found[n] = good
        return found

    def _of_length(self, rows: Any, given: Rows) -> list[bool]:
        inner = rows[:, 1:-1]
        inner = numpy.where((inner < 0) | (inner >= len(self._odd)), len(self._odd) - 1, inner)
        piece = self._piece[inner]
        known = (rows[:, 0] == self._cls) & (rows[:, -1] == self._sep) & ~self._odd[inner].any(1) & ~piece[:, 0]
        ends = numpy.ones_like(piece)  # where the next token begins a word
        ends[:, :-1] = ~piece[:, 1:]
        single = ~piece & ends
        asked = single & known[:, None]
        new = numpy.unique(inner[asked & (self._alone[inner] < 0)])
        self._alone[new] = self._ask([(int(token),) for token in new], self._beside)
        good = known & ((self._alone[inner] > 0) | ~single).all(1)
        row, first = numpy.nonzero(~piece & ~ends & good[:, None])
        if len(row):
            places = numpy.where(ends, numpy.arange(inner.shape[1]), inner.shape[1])
            last = numpy.minimum.accumulate(places[:, ::-1], 1)[:, ::-1][row, first]
            small = inner.astype(numpy.int32)
            words = [small[r, a : b + 1].tobytes() for r, a, b in zip(row, first, last, strict=True)]
            if len(self._words) > KEPT:
                self._words = {}
            told = self._words
            fresh = [word for word in dict.fromkeys(words) if word not in told]
            pieces = [tuple(numpy.frombuffer(word, numpy.int32).tolist()) for word in fresh]
            told.update(zip(fresh, self._ask(pieces, self._beside), strict=True))
            for r, word in zip(row, words, strict=True):
                good[r] &= told[word]
        other = numpy.nonzero(~known)[0].tolist()
        good[other] = self._asked([given[n] for n in other]) if other else []
        return good.tolist()

    def _ask(self, words: Sequence[tuple[int, ...]], beside: tuple[int, ...]) -> list[bool]:
        """Whether words come back, each between two others."""
        return self._asked([(self._cls, *beside, *word, *beside, self._sep) for word in words]) if words else []


def has_words(tokenizer: Any) -> bool:
    """Whether a tokenizer reads every word by itself: BERT's WordPiece, [CLS] before and [SEP] after."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
        return False
    parts = json.loads(backend.to_str())
    model, decoder = parts["model"], parts["decoder"] or {}
    normalizer, splitter = parts["normalizer"] or {"type": "BertNormalizer"}, parts["pre_tokenizer"] or {}
    return (
        model.get("type") == "WordPiece"
        and model.get("continuing_subword_prefix") == decoder.get("prefix") == "##"
        and decoder.get("type") == "WordPiece"
        and normalizer["type"] == "BertNormalizer"
        and splitter.get("type") == "BertPreTokenizer"
    )
