"""Whether tokens come back from their own text, from what is known of their words.

A BERT's tokenizer splits a text at blanks and punctuation before it looks for pieces, and writes a blank before every
token but pieces (##s) and some punctuation. So a sentence comes back if each of its words does, a token with the pieces
that follow it. In a word it takes the longest piece of its vocabulary again and again; so a word of letters and digits
comes back unless, somewhere in it, a longer piece would have fitted. Any other word is asked of the tokenizer once.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

import numpy

Rows = Sequence[Sequence[int]]

KEPT = 500_000
"""Words of several pieces, and neighbours, that are known at most; then they are looked at anew."""


class RoundTrips:
    """What is known of the words of a tokenizer.

    Args:
        tokenizer: one of `has_words`.
        size: tokens of the vocabulary.
        asked: whether rows come back, by the tokenizer itself.
    """

    def __init__(self, tokenizer: Any, size: int, asked: Callable[[Rows], list[bool]]) -> None:
        self._asked = asked
        words = [str(word) for word in tokenizer.convert_ids_to_tokens(range(min(size, len(tokenizer))))]
        self._cls, self._sep = tokenizer.cls_token_id, tokenizer.sep_token_id
        self._piece = numpy.array([word.startswith("##") for word in words] + [False])
        self._odd = numpy.zeros(len(words) + 1, dtype=bool)  # special tokens, whatever is added, and what has no text
        self._odd[[i for i in tokenizer.added_tokens_decoder if i < len(words)]] = True
        self._odd[-1] = True
        self._alone = numpy.full(len(words) + 1, -1, dtype=numpy.int8)
        self._words: dict[bytes, bool] = {}
        self._fits: dict[tuple[int, int], bool | None] = {}
        self._spell(words, tokenizer)
        letters = ((i,) for i, word in enumerate(words) if len(word) == 1 and "a" <= word <= "z")
        self._beside = next((letter for letter in letters if self._ask([()], letter)[0]), ())

    def _spell(self, words: Sequence[str], tokenizer: Any) -> None:
        """What words are made of, which letters stay as they are, and which pieces a longer one begins with."""
        backend = tokenizer.backend_tokenizer
        parts = json.loads(backend.to_str())
        self._longest = int(parts["model"]["max_input_chars_per_word"])
        self._texts = [word.removeprefix("##") for word in words]
        stays, splits = set[str](), set[str]()
        for letter in set("".join(self._texts)):
            between = f"a{letter}a"
            seen = backend.normalizer.normalize_str(between) if parts["normalizer"] else between
            if len(backend.pre_tokenizer.pre_tokenize_str(seen)) > 1:
                splits.add(letter)  # punctuation, and what is written without blanks
            elif seen == between and not unicodedata.combining(letter):
                stays.add(letter)
        twice = len(set(words)) < len(words)  # then a string does not tell which token it is
        self._plain = numpy.array(
            [not twice and text != "" and stays.issuperset(text) for text in self._texts] + [False]
        )
        self._splits = numpy.array([not splits.isdisjoint(text) for text in self._texts] + [False])
        self._length = numpy.array([*map(len, self._texts), 0])
        # of words and of pieces, all strings, and all that one of them begins with
        self._strings = {False: set[str](), True: set[str]()}
        self._begun = {False: set[str](), True: set[str]()}
        at: dict[tuple[bool, str], int] = {}
        for i, (word, text) in enumerate(zip(words, self._texts, strict=True)):
            kind = word.startswith("##")
            self._strings[kind].add(text)
            self._begun[kind].update(text[:n] for n in range(1, len(text)))
            at[kind, text] = i
        # whether a longer piece begins with a token and these letters, one or two; what is no a to z or digit is one
        letters = "0123456789abcdefghijklmnopqrstuvwxyz"
        code, wide = {letter: n for n, letter in enumerate(letters)}, len(letters) + 1

        def opening(text: str) -> int:
            first = code.get(text[0], wide - 1) * (wide + 1)
            return first + (1 + code.get(text[1], wide - 1) if len(text) > 1 else 0)

        self._opening = numpy.array([opening(text) if text else 0 for text in self._texts] + [0])
        goes_on = numpy.zeros((len(words) + 1, wide * (wide + 1)), dtype=bool)
        for word, text in zip(words, self._texts, strict=True):
            for n in range(1, len(text)):
                begun = at.get((word.startswith("##"), text[:n]))
                if begun is not None:
                    here = opening(text[n : n + 2])
                    goes_on[begun, [here, here - here % (wide + 1)]] = True  # what follows may be one letter alone
                    if n + 1 == len(text):  # whatever comes next
                        goes_on[begun, here : here + wide + 1] = True
        self._goes_on = numpy.packbits(goes_on, axis=1)

    def __call__(self, rows: Rows) -> list[bool]:
        """Whether each row comes back from its text."""
        sizes = set(map(len, rows))
        if len(sizes) == 1:
            return self._of_length(rows, sizes.pop())
        found = [False] * len(rows)
        for size in sizes:
            numbers = [n for n, row in enumerate(rows) if len(row) == size]
            for n, good in zip(numbers, self._of_length([rows[n] for n in numbers], size), strict=True):
                found[n] = good
        return found

    def _of_length(self, given: Rows, length: int) -> list[bool]:
        if length < 3 or not self._beside:
            return self._asked(given)
        rows = numpy.array(given, dtype=numpy.int64)
        inner = rows[:, 1:-1]
        inner = numpy.where((inner < 0) | (inner >= len(self._odd)), len(self._odd) - 1, inner)
        piece = self._piece[inner]
        known = (rows[:, 0] == self._cls) & (rows[:, -1] == self._sep) & ~self._odd[inner].any(1)
        ends = numpy.ones_like(piece)  # where the next token begins a word
        ends[:, :-1] = ~piece[:, 1:]
        single = ~piece & ends
        asked = single & known[:, None]
        new = numpy.unique(inner[asked & (self._alone[inner] < 0)])
        self._alone[new] = self._ask([(int(token),) for token in new], self._beside)
        good = known & ((self._alone[inner] > 0) | ~single).all(1)
        if piece.any():
            good &= ~piece[:, 0] & (single | ~self._splits[inner]).all(1)  # a piece is never the first of a word
            word = numpy.cumsum(~piece, 1) + numpy.arange(len(inner))[:, None] * (inner.shape[1] + 1)
            strange = numpy.bincount(word.ravel(), self._length[inner].ravel()) > self._longest
            strange[word[~self._plain[inner] & ~single]] = True  # one of its pieces is: the whole word
            self._several(inner, ~piece & ~ends & strange[word] & good[:, None], ends, good)
            self._spelt(inner, piece, good, ~strange[word[:, 1:]] & good[:, None])
        other = numpy.nonzero(~known)[0].tolist()
        good[other] = self._asked([given[n] for n in other]) if other else []
        return good.tolist()

    def _spelt(self, inner: Any, piece: Any, good: Any, asked: Any) -> None:
        """Words of letters and digits: whether a longer piece would have fitted where one meets the next."""
        row, at = numpy.nonzero(piece[:, 1:] & asked)
        left, opening = inner[row, at], self._opening[inner[row, at + 1]]
        risky = self._goes_on[left, opening >> 3] >> (7 - (opening & 7)) & 1 > 0
        row, at, left = row[risky], at[risky], left[risky]
        right = inner[row, at + 1]
        if len(self._fits) > KEPT:
            self._fits = {}
        fits = self._fits
        for r, p, one, other in zip(row.tolist(), at.tolist(), left.tolist(), right.tolist(), strict=True):
            told = fits.get((one, other), 0)
            if told == 0:
                told = fits[one, other] = self._meets(one, (other,), False)
            if told is None:  # a longer one would need more than the next piece: look further
                last = p + 2
                while last < inner.shape[1] and piece[r, last]:
                    last += 1
                told = self._meets(one, inner[r, p + 1 : last].tolist(), True)
            good[r] &= told

    def _meets(self, token: int, following: Sequence[int], whole: bool) -> bool | None:
        """Whether no longer piece than a token fits on it and what follows; None: one may, on what follows that.

        Args:
            whole: what follows is all there is of the word.
        """
        kind, grown = bool(self._piece[token]), self._texts[token]
        strings, begun = self._strings[kind], self._begun[kind]
        for other in following:
            for letter in self._texts[other]:
                grown += letter
                if grown in strings:
                    return False
                if grown not in begun:
                    return True
        return True if whole else None

    def _several(self, inner: Any, starts: Any, ends: Any, good: Any) -> None:
        """Words of several pieces of any letters, asked of the tokenizer once."""
        row, first = numpy.nonzero(starts)
        if not len(row):
            return
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
