"""Text <-> token ids; which positions of a sentence are free; which tokens of the vocabulary are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from tl_dream._arguments import is_whole, plain, sliced, unmasked
from tl_dream._errors import DreamError, nearest, require, shortened, unknown
from tl_dream.text.prompts import DEFAULT_ALLOWED, Allowed, Positions, Sentence, as_prompt, clean_text
from tl_dream.text.round_trips import RoundTrips, has_words
from tl_dream.text.tokenizers import own_copy, vocabulary_hash

RULES = ("no_special", "no_unused", "ascii", "whole_words")


@dataclass(frozen=True)
class Vocabulary:
    """The tokenizer of a model, seen as text <-> ids.

    Attributes:
        tokenizer: a Hugging Face tokenizer (a private copy of the model's).
        d_vocab: rows of the model's embedding matrix; may exceed the tokenizer's own size.
        n_ctx: longest sentence in tokens, special ones included.
        prefix: ids put before every sentence that the tokenizer itself does not add (a causal model's BOS).
    """

    tokenizer: Any
    d_vocab: int
    n_ctx: int
    prefix: tuple[int, ...] = ()
    _kept: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, tokenizer: Any, d_vocab: int, n_ctx: int, prefix: tuple[int, ...] = ()) -> Vocabulary:
        """A vocabulary over a private copy of `tokenizer`."""
        _, own, kept = own_copy(tokenizer)
        return cls(own, d_vocab, n_ctx, prefix, kept)

    @property
    def digest(self) -> str:
        """What tells one tokenizer's tokens from another's of as many (see `vocabulary_hash`)."""
        if "digest" not in self._kept:
            self._kept["digest"] = vocabulary_hash(self.tokenizer)
        return self._kept["digest"]

    @property
    def frame_ids(self) -> frozenset[int]:
        """Ids that frame a sentence: [CLS], [SEP], [PAD], or a causal model's BOS, EOS, PAD. Fixed unless freed."""
        t = self.tokenizer
        ids = (
            (t.cls_token_id, t.sep_token_id, t.pad_token_id)
            if t.cls_token_id is not None
            else (t.bos_token_id, t.eos_token_id, t.pad_token_id)
        )
        return frozenset(i for i in ids if i is not None)

    @property
    def special_ids(self) -> frozenset[int]:
        """Every special id, [MASK] and [UNK] included. By their names: TransformerBridge rewrites the rest."""
        t = self.tokenizer
        named = (t.mask_token_id, t.unk_token_id, t.bos_token_id, t.eos_token_id)
        return self.frame_ids | {i for i in named if i is not None}

    @property
    def pad_id(self) -> int:
        """The id used to fill short rows of a batch; any valid id where the model has no [PAD]."""
        return self._embedded(self.tokenizer.pad_token_id) or 0

    @property
    def mask_id(self) -> int | None:
        """The id of [MASK]; None where the model has none."""
        return self._embedded(self.tokenizer.mask_token_id)

    def _embedded(self, id: int | None) -> int | None:
        """An id that the model has an embedding of; a token that was added to the tokenizer alone has none."""
        return int(id) if id is not None and id < self.d_vocab else None

    def check_embedded(self, ids: Sequence[int]) -> None:
        """Raise `DreamError` where the tokenizer gives ids that the model has no embedding of."""
        beyond = [i for i in dict.fromkeys(ids) if i >= self.d_vocab]
        named = ", ".join(f"{token!r} (id {i})" for i, token in zip(beyond, self.tokens(beyond), strict=True))
        require(
            not beyond,
            f"the tokenizer has tokens that the model has no embedding of ({self.d_vocab} rows): {named}. They were "
            "added to the tokenizer alone; load the model with its own tokenizer, or leave them out of the text",
        )

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of `text` with the special tokens around it; never truncated."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """`encode` for many texts in one call of the tokenizer."""
        rows = self.tokenizer(list(texts), padding=False, truncation=False, verbose=False)["input_ids"]
        return [
            tuple(row) if self.prefix and tuple(row[: len(self.prefix)]) == self.prefix else (*self.prefix, *row)
            for row in rows
        ]

    def decode(self, ids: Sequence[int]) -> str:
        """Plain text of `ids`, without the special tokens at its ends."""
        return self.decode_batch([ids])[0]

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """`decode` for many sentences in one call of the tokenizer."""
        inner, frame = [], self.frame_ids
        for row in rows:
            start, stop = 0, len(row)
            while start < stop and int(row[start]) in frame:
                start += 1
            while stop > start and int(row[stop - 1]) in frame:
                stop -= 1
            inner.append([int(i) for i in row[start:stop]])
        texts = [self.tokenizer.decode(row, clean_up_tokenization_spaces=False) for row in inner]
        return texts if self._reads_blanks else [text.strip() for text in texts]

    @property
    def _reads_blanks(self) -> bool:
        """Whether blanks at the ends of a text are tokens or parts of them, as in a byte-level vocabulary (" the")."""
        if "blanks" not in self._kept:
            bare, wide = self.encode_batch(["a", " a "])
            self._kept["blanks"] = bare != wide
        return self._kept["blanks"]

    def retokenizes(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        """For each row whether its text tokenizes back to exactly the same ids."""
        key = f"round trips of {self.d_vocab}"
        if key not in self._kept:
            words = not self.prefix and has_words(self.tokenizer)
            self._kept[key] = RoundTrips(self.tokenizer, self.d_vocab, self._asked) if words else self._asked
        return self._kept[key](rows)

    def _asked(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        again = self.encode_batch(self.decode_batch(rows)) if len(rows) else []
        return [tuple(int(i) for i in row) == back for row, back in zip(rows, again, strict=True)]

    def read_back(self, rows: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """What the text of each row tokenizes to."""
        same = self.retokenizes(rows)
        other = [row for row, good in zip(rows, same, strict=True) if not good]
        again = iter(self.encode_batch(self.decode_batch(other)) if other else ())
        return [row if good else next(again) for row, good in zip(rows, same, strict=True)]

    def tokens(self, ids: Sequence[int]) -> tuple[str, ...]:
        """The vocabulary's own strings for `ids` ("##s", "Ġthe"), a number in <> where it has none."""
        words: dict[int, str] = self._kept.setdefault("words", {})
        asked = [int(i) for i in ids]
        new = [i for i in dict.fromkeys(asked) if i not in words]
        found = self.tokenizer.convert_ids_to_tokens(new) if new else ()
        words |= {i: f"<{i}>" if word is None else word for i, word in zip(new, found, strict=True)}
        return tuple(map(words.__getitem__, asked))

    def token_id(self, token: Any) -> int:
        """The id of one token, given as an id, as the vocabulary writes it, or as a word that is one token."""
        token = plain(token)
        if not isinstance(token, str):
            kind = f"token {shortened(repr(token))}: give a token of the vocabulary, or its id"
            require(is_whole(token), kind)
            require(0 <= token < self.d_vocab, f"token id {token} is outside the vocabulary (0 to {self.d_vocab - 1})")
            return int(token)
        known = self._id_of(clean_text(token))
        if known is not None:
            self.check_embedded([known])
            return known
        for ids in self._spellings(token):
            if len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id:
                self.check_embedded(ids)
                return ids[0]
        raise DreamError(
            f"{shortened(token)!r} is not one token of this vocabulary (it splits into: "
            f"{shortened(' '.join(self.tokens(ids[:40])))}); "
            f"nearest tokens: {', '.join(nearest(token, self.tokenizer.get_vocab())) or 'none'}"
        )

    def _spellings(self, word: str) -> list[tuple[int, ...]]:
        """The ids of a word at the start of a text and behind a blank."""
        word = clean_text(word)
        given = [word, " " + word]
        rows = self.tokenizer(given, add_special_tokens=False, padding=False, truncation=False, verbose=False)
        return list(dict.fromkeys(tuple(row) for row in rows["input_ids"]))

    def starts_of(self, word: str) -> set[int]:
        """The ids that the word begins with, wherever it stands."""
        return {spelling[0] for spelling in self._spellings(word) if spelling}

    def _id_of(self, token: str) -> int | None:
        """The id of one of the vocabulary's own strings. (`get_vocab` copies the whole of it: milliseconds.)"""
        id = self.tokenizer.convert_tokens_to_ids(token)
        return int(id) if id is not None and self.tokenizer.convert_ids_to_tokens(int(id)) == token else None

    def _continues(self, token: str, previous: str | None = None) -> bool:
        """Whether a token continues the word before it, in WordPiece (##), byte-level BPE (Ġ) or SentencePiece (▁)."""
        if token.startswith("##"):
            return True
        if self._marks_starts:
            return not token.startswith(("Ġ", "▁")) and token[:1].isalnum() and previous is not None
        return False

    @property
    def _marks_starts(self) -> bool:
        if "marks" not in self._kept:
            vocab = self.tokenizer.get_vocab()
            self._kept["marks"] = sum(t.startswith(("Ġ", "▁")) for t in vocab) > len(vocab) // 20
        return self._kept["marks"]

    def allowed(self, allowed: Allowed = DEFAULT_ALLOWED) -> Bool[Tensor, " d_vocab"]:
        """The mask of tokens that a free position may take (on the CPU).

        Raises:
            DreamError: an unknown rule or token, a mask of the wrong shape, or a mask that leaves nothing.
        """
        given = plain(allowed)
        if isinstance(given, str):
            mask = self._by_rules(given)
        else:
            require(
                isinstance(given, list),
                f"{shortened(repr(allowed))} is no rule for allowed tokens: give rules in a string, a list of tokens, "
                "or a mask",
            )
            mask = torch.zeros(self.d_vocab, dtype=torch.bool)
            mask[[self.token_id(token) for token in unmasked(given, self.d_vocab, "tokens")]] = True
        require(
            bool(mask.any()),
            f"the allowed-token mask {shortened(repr(allowed))} leaves no token: give rules that leave some",
        )
        return mask

    def _by_rules(self, rules: str) -> Tensor:
        names = rules.replace(",", " ").split()
        key = f"{self.d_vocab} " + " ".join(sorted(set(names)))
        if key not in self._kept:
            for name in names:
                if name not in RULES:
                    raise unknown("allowed-token rule", name, RULES, "For your own words pass a list, not a string.")
            size = min(len(self.tokenizer), self.d_vocab)
            words = self.tokens(range(size))
            mask = torch.zeros(self.d_vocab, dtype=torch.bool)
            mask[:size] = True
            if "no_special" in names:
                mask[[i for i in self.special_ids if i < self.d_vocab]] = False
            for i, word in enumerate(words):
                if (
                    ("no_unused" in names and word.startswith(("[unused", "<unused")))
                    or ("ascii" in names and not word.replace("Ġ", "").replace("▁", "").isascii())
                    or ("whole_words" in names and self._continues(word, previous=""))
                ):
                    mask[i] = False
            self._kept[key] = mask
        return self._kept[key].clone()

    def read(self, prompt: Any) -> Sentence:
        """Tokenize a text or a `Prompt` and resolve its free positions.

        Raises:
            DreamError: neither of them, an empty, all-special or over-long sentence, an unknown id, a token that the
                model has not got, a position or word not there.
        """
        prompt = as_prompt(prompt)
        if prompt.ids is not None:
            ids = tuple(self.token_id(i) for i in prompt.ids)
            text = self.decode(ids)
        else:
            text = prompt.text or ""
            ids = self.encode(text)
        special = tuple(i in self.frame_ids for i in ids)
        require(
            not all(special),
            f"the sentence {shortened(repr(text))} is empty or holds special tokens only: give at least one word",
        )
        require(
            len(ids) <= self.n_ctx,
            f"the sentence has {len(ids)} tokens with its special ones, the model reads {self.n_ctx}: shorten it",
        )
        self.check_embedded(ids)
        bare = Sentence(text, ids, self.tokens(ids), special, ())
        return replace(bare, free=self.locate(bare, prompt.free, whole_words=True))

    def locate(self, sentence: Sentence, pos: Positions, whole_words: bool = False) -> tuple[int, ...]:
        """Positions as non-negative numbers. With `whole_words` a word of several pieces gives all of them; without,
        it is an error, because one position was asked for.

        Raises:
            DreamError: a position outside the sentence, a word that is not in it or is there twice, no position at all.
        """
        given = plain(pos)
        if given is None or given == "all":
            return tuple(i for i, special in enumerate(sentence.special) if not special)
        if isinstance(given, slice):
            found = tuple(sliced(given, len(sentence)))
            require(bool(found), f"the slice {given} holds no position of the sentence: {sentence.listing()}")
            return found
        if isinstance(given, str):
            return self._find(sentence, given, whole_words)
        if isinstance(given, list):
            given = unmasked(given, len(sentence), "positions")
            require(bool(given), f"no position given: name at least one of {sentence.listing()}")
            return tuple(sorted({i for item in given for i in self.locate(sentence, item, whole_words)}))
        require(
            is_whole(given),
            f"{pos!r} is not a position: give a number, a word, a slice, or a list of numbers and words",
        )
        require(
            -len(sentence) <= given < len(sentence),
            f"position {given} is outside the sentence of {len(sentence)} tokens: {sentence.listing()}",
        )
        return (given % len(sentence),)

    def _find(self, sentence: Sentence, word: str, whole_words: bool) -> tuple[int, ...]:
        spellings = [spelling for spelling in self._spellings(word) if spelling]
        if word.startswith("##") and (piece := self._id_of(word)) is not None:
            spellings = [(piece,)]
        hits = []
        for at in range(len(sentence)):
            for spelling in spellings:
                end = at + len(spelling)
                if sentence.ids[at:end] != spelling or end > len(sentence):
                    continue
                if at > 0 and not word.startswith("##") and not sentence.special[at - 1]:
                    if self._continues(sentence.tokens[at], sentence.tokens[at - 1]):
                        continue  # the end of another word
                follower = sentence.tokens[end] if end < len(sentence) else ""
                if not sentence.special[min(end, len(sentence) - 1)] and self._continues(follower, sentence.tokens[at]):
                    continue
                hits.append(tuple(range(at, end)))
        if not hits:
            close = nearest(word, sentence.tokens)
            hint = f"nearest: {', '.join(close)}; " if close else ""
            told = f"the word {shortened(word)!r} is not in the sentence; {hint}its tokens: {sentence.listing()}"
            raise DreamError(told)
        require(
            len(hits) == 1,
            f"the word {word!r} is in the sentence {len(hits)} times, at positions "
            f"{', '.join(str(hit[0]) for hit in hits)}: give the position instead",
        )
        require(
            whole_words or len(hits[0]) == 1,
            f"the word {word!r} is {len(hits[0])} tokens, at positions {', '.join(map(str, hits[0]))}: "
            "give the position of one of them instead",
        )
        return hits[0]
