"""Lines of text from a file, an iterable or a data set's column, a shard at a time; what can't be read is counted."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError, require, shortened
from tl_dream.text.encodings import HEAD, encoding_of, parts_of
from tl_dream.text.prompts import Sentence
from tl_dream.text.vocabulary import Vocabulary

LONGEST_LINE = 1 << 18
"""Bytes of a line in a file, characters of a text; a longer one is over-long whatever its tokens, and of a file never
held in memory whole."""

SHARD_TEXT = 1 << 19
"""Characters; a shard ends where it holds so many, however few its lines, so that its tokens fit in memory."""

BLANK, UNDECODABLE, NO_TEXT, NUL = "blank", "undecodable", "not text", "with a NUL character"
FOREIGN = "with tokens that the model has no embedding of"
_TOO_LONG = object()


@dataclass(frozen=True)
class Corpus:
    """Where lines come from.

    Attributes:
        name: how it is called in receipts and errors.
        size: how much there is to read, in `unit`s; None where that is not known before.
        unit: "B" for a file, else "line".
    """

    name: str
    size: int | None
    unit: str
    _source: Any = field(repr=False)
    _encoding: str = field(default="utf-8", repr=False)

    @classmethod
    def of(cls, texts: Any, column: str | None = None) -> Corpus:
        """A corpus from a path, an iterable of strings, or (with `column`) a data set or an iterable of rows.

        Raises:
            DreamError: no such file or column, one that can't be read, or something that holds no texts.
        """
        if _has_columns(texts):
            named = (
                texts if isinstance(texts, Mapping) else getattr(texts, "column_names", getattr(texts, "columns", ()))
            )
            columns = [] if named is None else list(named)
            listed = f"it has {', '.join(map(repr, columns))}" if columns else "see the data set's own card"
            require(column is not None, f"which column of the data set holds the texts? give column= ({listed})")
            require(not columns or column in columns, f"the data set has no column {column!r}; {listed}")
        if column is not None:
            require(not isinstance(texts, str | os.PathLike), "column= goes with a data set, not with a text file")
            if isinstance(texts, Mapping):
                kind = type(texts[column]).__name__
                require(_has_texts(texts[column]), f"the column {column!r} is one {kind}: give a list of texts")
            require(
                _has_texts(texts) or _has_columns(texts),
                f"column= goes with a data set or an iterable of rows, not with {type(texts).__name__}",
            )
            held = texts[column] if isinstance(texts, Mapping) else texts
            return cls(f"the column {column!r}", _length(held), "line", _Column(texts, column))
        if isinstance(texts, str | os.PathLike):
            path = Path(texts)
            hint = "" if isinstance(texts, os.PathLike) else "; texts of your own go in a list"
            require(_exists(path), f"there is no file {shortened(repr(str(path)))}{hint}")
            require(path.is_file(), f"{str(path)!r} is not a file: give a text file with a sentence a line")
            with _readable(path), path.open("rb") as file:
                return cls(str(path), path.stat().st_size, "B", path, encoding_of(file.read(HEAD), str(path)))
        require(
            _has_texts(texts),
            f"a corpus is a text file, an iterable of texts or a data set with column=, not {type(texts).__name__}",
        )
        return cls("the texts given", _length(texts), "line", texts)

    def lines(self) -> Iterator[tuple[Any, int]]:
        """Every line as it is (of a file its bytes, in UTF-8) and its size in `unit`s."""
        if isinstance(self._source, Path):
            with _readable(self._source):
                yield from _file_lines(self._source, self._encoding)
        else:
            for item in self._source:
                if isinstance(item, Mapping) and not isinstance(self._source, _Column):
                    keys = ", ".join(map(repr, item))
                    raise DreamError(f"the corpus has rows ({keys}), not texts: say which holds the text, with column=")
                yield item, 1


@dataclass(frozen=True)
class _Column:
    """The column of a data set that has columns (datasets, pandas, a dict of lists), or of an iterable of rows."""

    texts: Any
    column: str

    def __iter__(self) -> Iterator[Any]:
        if _has_columns(self.texts):
            yield from self.texts[self.column]
            return
        for row in self.texts:
            if not isinstance(row, Mapping) or self.column not in row:
                has = ", ".join(map(repr, row)) if isinstance(row, Mapping) else f"none, being a {type(row).__name__}"
                raise DreamError(f"a row of the data set has no column {self.column!r}; it has {has}")
            yield row[self.column]


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a text, too long or too odd for a name
        return False


def _has_texts(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes) and getattr(value, "shape", None) != ()


def _has_columns(texts: Any) -> bool:
    return isinstance(texts, Mapping) or hasattr(texts, "column_names") or hasattr(texts, "columns")


def _length(texts: Any) -> int | None:
    return len(texts) if hasattr(texts, "__len__") else None


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DreamError(f"can't read the corpus {str(path)!r}: {error.strerror or error}") from error


def _file_lines(path: Path, encoding: str) -> Iterator[tuple[Any, int]]:
    size, short = 0, True
    for part, more, ends in parts_of(path, encoding, LONGEST_LINE):
        size += more
        if ends:
            yield (part if short else _TOO_LONG), size
            size, short = 0, True
        else:  # the rest of an over-long line is not kept
            short = False
    if not short:
        yield _TOO_LONG, size


def _splits_at_spaces(tokenizer: Any) -> bool:
    """Whether no token reaches over a blank, so that what comes after one leaves the tokens before it alone."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    splitter, normalizer = getattr(backend, "pre_tokenizer", None), getattr(backend, "normalizer", None)
    if splitter is None or any(" " in added for added in tokenizer.get_added_vocab()):
        return False
    return len(splitter.pre_tokenize_str(normalizer.normalize_str("a b") if normalizer is not None else "a b")) > 1


def text_of(line: Any) -> tuple[str | None, str | None]:
    """The text of a line, or why there is none."""
    if isinstance(line, bytes):
        try:
            line = line.decode("utf-8-sig")
        except UnicodeDecodeError:
            return None, UNDECODABLE
    if not isinstance(line, str):
        return None, NO_TEXT
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:  # half a surrogate pair
        return None, UNDECODABLE
    if "\0" in line:  # tokenizers drop it
        return None, NUL
    stripped = line.strip()
    return (stripped, None) if stripped else (None, BLANK)


@dataclass(frozen=True)
class Shard:
    """Some lines of a corpus, tokenized.

    Attributes:
        lines: the lines (counted from 1) that hold a sentence.
        sentences: these.
        skipped: how many lines hold none, by reason.
        read: lines of the shard in all.
        size: what was read, in the corpus' unit.
        digest: of all lines up to the shard's end.
    """

    lines: tuple[int, ...]
    sentences: tuple[Sentence, ...]
    skipped: Counter[str]
    read: int
    size: int
    digest: str


class ShardReader:
    """Reads a corpus in shards of at most `shard_lines` lines, and tells two corpora apart by a running digest."""

    def __init__(self, corpus: Corpus, vocabulary: Vocabulary, shard_lines: int, longest: int) -> None:
        self._lines = corpus.lines()
        self._vocabulary = vocabulary
        self._shard_lines, self._longest = shard_lines, longest
        self._hash = hashlib.blake2b(digest_size=16)
        self._splits = _splits_at_spaces(vocabulary.tokenizer)
        self.line = 0

    @property
    def digest(self) -> str:
        """Of all lines read so far."""
        return self._hash.hexdigest()

    def _take(self, count: int) -> Iterator[tuple[Any, int]]:
        for line, size in self._lines:
            self.line += 1
            shown = line if isinstance(line, bytes) else repr("" if line is _TOO_LONG else line)
            shown = shown.encode("utf-8", "backslashreplace") if isinstance(shown, str) else shown
            self._hash.update(b"%d:" % size + shown)
            yield line, size
            count -= 1
            if not count:
                return

    def skip(self, count: int) -> int:
        """Pass over lines that were done before; returns their size."""
        return sum(size for _, size in self._take(count)) if count else 0

    def __iter__(self) -> Iterator[Shard]:
        while True:
            first = self.line
            skipped: Counter[str] = Counter()
            kept: list[tuple[int, str]] = []
            size = held = 0
            for line, length in self._take(self._shard_lines):
                size += length
                text, reason = (None, self._over_long) if line is _TOO_LONG else text_of(line)
                if text is not None and self._too_long(text):
                    text, reason = None, self._over_long
                if text is None:
                    skipped[str(reason)] += 1
                    continue
                kept.append((self.line, text))
                held += len(text)
                if held >= SHARD_TEXT:
                    break
            if self.line == first:
                return
            yield self._shard(kept, skipped, self.line - first, size)

    @property
    def _over_long(self) -> str:
        return f"over-long (more than {self._longest} tokens)"

    def _too_long(self, text: str) -> bool:
        """Whether a long text has too many tokens, from as little of it as tells. How long it is does not: a run of
        blanks has no tokens, and an endless word may be one. But where the tokenizer goes word by word, the tokens of
        its first words are the first of its tokens."""
        if len(text) > LONGEST_LINE:
            return True
        head = 16 * self._longest
        while self._splits and (end := text.find(" ", head)) >= 0:
            if len(self._vocabulary.encode(text[:end])) > self._longest:
                return True
            head = 4 * end
        return False

    def _shard(self, kept: Sequence[tuple[int, str]], skipped: Counter[str], read: int, size: int) -> Shard:
        lines, sentences = [], []
        vocabulary = self._vocabulary
        rows = vocabulary.encode_batch([text for _, text in kept]) if kept else []
        frame = vocabulary.frame_ids
        for (line, text), ids in zip(kept, rows, strict=True):
            special = tuple(i in frame for i in ids)
            if len(ids) > self._longest:
                skipped[self._over_long] += 1
            elif all(special):
                skipped[BLANK] += 1
            elif max(ids) >= vocabulary.d_vocab:
                skipped[FOREIGN] += 1
            else:
                lines.append(line)
                sentences.append(Sentence(text, ids, vocabulary.tokens(ids), special, ()))
        return Shard(tuple(lines), tuple(sentences), skipped, read, size, self.digest)
