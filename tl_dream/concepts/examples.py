"""Two sets of sentences that differ in a concept: the shipped templates, and your own files and lists."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources

from tl_dream._arguments import one_of, plain
from tl_dream._errors import DreamError, require
from tl_dream.text import Positions, read_lines

TEMPLATES = {"he_she": ("he", "she"), "singular_plural": ("singular", "plural")}
"""The shipped concepts: {name: (name of the negative set, name of the positive set)}."""

LISTED = 8
"""Faulty sentences told in full in one message; the rest are counted."""

_MARK = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Example:
    """A sentence of one of the two sets, and where its concept word stands.

    Attributes:
        text: plain text.
        positive: of which set.
        span: the concept word as characters of `text` (start, end); None where `pos` says it.
        pos: where, by token (see `Positions`); several positions are averaged.
        origin: where it came from ("positives, line 3"), for messages.
        line: its number there, 0 for none: its counterpart, where several sentences share all but the concept word, is
            the one of the same line.
    """

    text: str
    positive: bool
    span: tuple[int, int] | None = None
    pos: Positions = None
    origin: str = ""
    line: int = 0

    @property
    def word(self) -> str:
        """The concept word as it is written, "" where a position says where it is."""
        if self.span is not None:
            return self.text[slice(*self.span)]
        return self.pos if isinstance(self.pos, str) and self.pos != "all" else ""

    @property
    def key(self) -> tuple[str, str, str, bool]:
        """What the examples are sorted by, so that the order they were given in does not matter."""
        return self.text, repr(self.span), repr(self.pos), self.positive


@dataclass(frozen=True)
class Examples:
    """Two sets of sentences, sorted and without duplicates.

    Attributes:
        name: of the concept, such as "he -> she".
        negative, positive: names of the two sets.
        items: the examples.
        duplicates: how many were given more than once and count once.
    """

    name: str
    negative: str
    positive: str
    items: tuple[Example, ...]
    duplicates: int = 0

    @classmethod
    def of(cls, items: Iterable[Example], negative: str | None = None, positive: str | None = None) -> Examples:
        """Sorts and checks two sets.

        Raises:
            DreamError: an empty set, identical sets, or a sentence that is in both.
        """
        given = list(items)
        kept = sorted({item.key: item for item in given}.values(), key=lambda item: item.key)
        sides = {side: [item for item in kept if item.positive == side] for side in (False, True)}
        for side, title in ((False, "negative"), (True, "positive")):
            require(
                bool(sides[side]),
                f"the {title} set is empty: a concept needs sentences with it and sentences without",
            )
        seen = {item.key[:3] for item in sides[False]}
        both = [item for item in sides[True] if item.key[:3] in seen]
        require(
            len(both) < len(sides[True]) or len(both) < len(sides[False]),
            f"the two sets are identical ({len(both)} sentences): there is nothing to tell apart",
        )
        if both:
            named = joined(quoted(item.text) for item in both)
            raise DreamError(f"{_count(both, 'sentence')} in both sets: {named}; leave each in one")
        names = (negative or _name(sides[False], "negative"), positive or _name(sides[True], "positive"))
        names = names if names[0] != names[1] else ("negative", "positive")
        return cls(f"{names[0]} -> {names[1]}", *names, tuple(kept), len(given) - len(kept))

    def side(self, positive: bool) -> tuple[Example, ...]:
        """The sentences of one set."""
        return tuple(item for item in self.items if item.positive == positive)


def _name(items: Sequence[Example], title: str) -> str:
    """The concept word of a set, where it is one and the same."""
    words = {item.word.lower() for item in items}
    return words.pop() if len(words) == 1 and "" not in words else title


def _count(items: Sequence[object], noun: str) -> str:
    return f"1 {noun} is" if len(items) == 1 else f"{len(items)} {noun}s are"


def quoted(text: str) -> str:
    """A sentence as a message quotes it: whole words, up to 60 characters."""
    return text if len(text) <= 60 else text[:57].rsplit(" ", 1)[0] + "..."


def joined(faults: Iterable[str]) -> str:
    """Faults as a message lists them, each of them whole: the sentence in it is `quoted` already."""
    every = list(faults)
    more = f"; and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return "; ".join(every[:LISTED]) + more


def load_templates(name: str = "he_she") -> Examples:
    """The pairs that come with the package: "he_she" (234 pairs) or "singular_plural" (120 pairs).

    The two sentences of a pair differ in nothing but the concept word.

    Raises:
        DreamError: an unknown name.

    Examples:
        >>> len(td.load_templates("he_she").items)
        468
    """
    one_of("concept", name, TEMPLATES)
    text = resources.files(__package__).joinpath("templates", f"{name}.txt").read_text(encoding="utf-8")
    return Examples.of(_pairs(text.splitlines(), name), *TEMPLATES[name])


def read_pairs(path: str | os.PathLike[str]) -> Examples:
    """Your own pairs, one a line as in the shipped files: "{he|she} is a doctor", the negative word first.

    Blank lines and those that start with # are left out.

    Raises:
        DreamError: a file that can't be read or holds nothing, or lines without exactly one {negative|positive}.

    Examples:
        >>> written = Path("pairs.txt").write_text("{he|she} is here\\n{he|she} was there\\n")
        >>> len(td.read_pairs("pairs.txt").items)
        4
    """
    return Examples.of(_pairs(read_lines(path), str(path)))


def read_examples(
    positives: str | os.PathLike[str] | Sequence[str],
    negatives: str | os.PathLike[str] | Sequence[str],
    *,
    positive_pos: Positions = None,
    negative_pos: Positions = None,
) -> Examples:
    """Your own two sets: text files with a sentence a line, or lists of sentences.

    The concept word is marked with braces ("{she} is a doctor"), or said by position, or found: it is the word that
    most sentences of one set share and those of the other lack. Where several words stand in one and the same sentence
    ("they {walk} here", "they {sing} here") its counterpart is known by the line: give both sets in the same order.

    Args:
        positives, negatives: a file (blank lines and those that start with # are left out) or a list.
        positive_pos, negative_pos: where the concept is read in every sentence of the set: a word, a position,
            "[MASK]", a slice or list (its mean), or "all" for the mean over the sentence. Where a sentence has the word
            several times, braces around it say which is meant; all other braces are text then.

    Raises:
        DreamError: a file that can't be read, an empty or identical set, a sentence in both, or sentences in which the
            concept word is missing or repeated (they are listed).

    Examples:
        >>> sets = td.read_examples(["the {dog} runs", "my {dog} is old"], ["the {cat} runs", "my {cat} is old"])
        >>> len(sets.items)
        4
    """
    given = {
        True: _marked(_sentences(positives), True, positive_pos),
        False: _marked(_sentences(negatives), False, negative_pos),
    }
    open_ = {side: [item for item in items if item.span is None and item.pos is None] for side, items in given.items()}
    if all(given.values()) and any(open_.values()):
        Examples.of([*given[True], *given[False]])  # identical or overlapping sets are reported as such
    words = {side: _shared_word(given[side], given[not side]) if open_[side] else None for side in (True, False)}
    if (open_[True] and words[True] is None) or (open_[False] and words[False] is None):
        raise DreamError(
            "no word is shared by most sentences of one set and missing in the other, so it is not known where the "
            'concept stands: mark it with braces ("{she} is a doctor"), or give its position ("all" reads the mean '
            "over the sentence)"
        )
    faults: list[str] = []
    items = [_found(item, words[item.positive], faults) for side in (False, True) for item in given[side]]
    if faults:
        raise DreamError(
            f"the concept word is missing or repeated in {len(faults)} sentence{'s' * (len(faults) > 1)}: "
            f"{joined(faults)}. Mark it with braces ({{she}} is a doctor), or leave the sentence out"
        )
    return Examples.of(items)


def _sentences(source: str | os.PathLike[str] | Sequence[str]) -> list[tuple[str, int, str]]:
    """(kind of place, number, sentence) of a file or a list."""
    if isinstance(source, str | os.PathLike):
        return [("line", number, line) for number, line in _numbered(read_lines(source))]
    lines = plain(source)
    require(
        isinstance(lines, list) and all(isinstance(line, str) for line in lines),
        "a set of sentences is a file or a list of texts",
    )
    return [("item", number, line.strip()) for number, line in enumerate(lines, 1)]


def _numbered(lines: Iterable[str]) -> list[tuple[int, str]]:
    return [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]


def _pairs(lines: Iterable[str], source: str) -> list[Example]:
    """Both sentences of every {negative|positive} line."""
    items, faults = [], []
    for number, line in _numbered(lines):
        marks = list(_MARK.finditer(line))
        words = [word.strip() for word in marks[0][1].split("|")] if len(marks) == 1 else []
        if len(words) != 2 or not all(words) or words[0] == words[1]:
            faults.append(f"line {number}: {quoted(line)}")
            continue
        start, end = marks[0].span()
        for positive, word in zip((False, True), words, strict=True):
            text = line[:start] + word + line[end:]
            span, origin = (start, start + len(word)), f"{source}, line {number}"
            items.append(Example(text, positive, span, origin=origin, line=number))
    require(
        not faults,
        f"a pair has exactly one {{negative|positive}}, of two words that differ. In {source}, {joined(faults)}. Mend "
        "these lines, such as {he|she} is a doctor, or leave them out",
    )
    require(bool(items), f"{source} holds no pair: write one a line, such as {{he|she}} is a doctor")
    return items


def _marked(sentences: list[tuple[str, int, str]], positive: bool, pos: Positions) -> list[Example]:
    """Examples of one set, their concept word where braces or `pos` say it."""
    title = "positives" if positive else "negatives"
    items, faults = [], []
    for where, number, line in sentences:
        origin = f"{title}, {where} {number}"
        marks = list(_MARK.finditer(line))
        which = isinstance(pos, str) and [mark[1].strip().casefold() for mark in marks] == [pos.casefold()]
        if not marks or (pos is not None and not which):
            items.append(Example(line, positive, pos=pos, origin=origin, line=number))
        elif len(marks) == 1 and marks[0][1].strip():
            start, word = marks[0].start(), marks[0][1].strip()
            text = line[:start] + word + line[marks[0].end() :]
            items.append(Example(text, positive, (start, start + len(word)), origin=origin, line=number))
        else:
            how = f"{len(marks)} times braces" if len(marks) > 1 else "nothing in them"
            faults.append(f"{origin} ({how}): {quoted(line)}")
    require(
        not faults,
        f"one word is marked with braces in a sentence: {joined(faults)}. Mark the concept word alone, such as "
        "{she} is a doctor, or leave the sentence out",
    )
    return items


def _words(text: str) -> Counter[str]:
    return Counter(match[0].casefold() for match in re.finditer(r"\w+", text))


def _shared_word(mine: Sequence[Example], others: Sequence[Example]) -> str | None:
    """The word that most sentences of one set have and most of the other lack; None where none or several do so."""
    share: Callable[[Sequence[Example]], Counter[str]] = lambda items: Counter(  # noqa: E731
        word for item in items for word in _words(item.text)
    )
    here, there = share(mine), share(others)
    lead = {word: count / len(mine) - there[word] / max(1, len(others)) for word, count in here.items()}
    best = max(lead.values(), default=0.0)
    leaders = [word for word, value in lead.items() if value == best]
    return leaders[0] if best > 0.5 and len(leaders) == 1 else None


def _found(item: Example, word: str | None, faults: list[str]) -> Example:
    """The example with its concept word located, where it was still open; faults are noted."""
    if item.span is not None or item.pos is not None or word is None:
        return item
    words = list(enumerate(re.finditer(r"\w+", item.text), 1))
    found = [(number, match.span()) for number, match in words if match[0].casefold() == word]
    if len(found) != 1:
        numbers = " and ".join(str(number) for number, _ in found)
        how = f"{len(found)} times, as words {numbers}" if found else "missing"
        faults.append(f"{item.origin} ({word!r} {how}): {quoted(item.text)}")
        return item
    return replace(item, span=found[0][1])
