"""What all results share: printing, cost, saving, reading."""

from __future__ import annotations

import html
import math
import os
import threading
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from tl_dream._errors import DreamError, require
from tl_dream._files import read_json, write_json

if TYPE_CHECKING:
    import pandas

VERSION = 1

DOWN, ACROSS = 20, 120
"""Lines, and letters a line, of what a result shows of itself: less than a screen."""


@dataclass(frozen=True)
class Cost:
    """What a result cost.

    Attributes:
        forwards: sentences put through the model; one with its gradient counts as two.
        forward_tokens: rows x positions x layers run, the same unit for every method.
        seconds: wall-clock time.
    """

    forwards: int
    forward_tokens: int
    seconds: float

    @property
    def known(self) -> bool:
        """False where the file that a result was read from says nothing of it."""
        return self.forwards > 0

    def __str__(self) -> str:
        if not self.known:
            return "cost: not known"
        return f"cost: {self.forwards:,} forwards, {self.forward_tokens:,} forward-tokens, {self.seconds:.1f} s"

    def __add__(self, other: Cost) -> Cost:
        """What both cost."""
        return Cost(*(one + more for one, more in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __sub__(self, before: Cost) -> Cost:
        """What was spent since."""
        return Cost(*(now - then for now, then in zip(vars(self).values(), vars(before).values(), strict=True)))


@dataclass(frozen=True)
class Provenance:
    """What a result was made with.

    Attributes:
        versions: of tl-dream, transformer-lens, transformers and torch.
        model: SHA-256 of the model's class, vocabulary and weights, by which a copy or a fine-tuned one is told.
        device, dtype: of the model: "cuda:0", "float32".
        hooks: the names of the hook points and modules that the user's own hooks were on.
    """

    versions: Mapping[str, str]
    model: str
    device: str
    dtype: str
    hooks: tuple[str, ...]


_CALLS = threading.local()


@contextmanager
def made_with(origin: Callable[[], Provenance]) -> Iterator[None]:
    """Results that this thread makes inside the block tell their provenance; it is asked for once, if there are any."""
    calls = vars(_CALLS).setdefault("open", [])
    calls.append(cache(origin))
    try:
        yield
    finally:
        calls.pop()


def _here() -> Provenance | None:
    """That of the innermost call."""
    calls = vars(_CALLS).get("open")
    return calls[-1]() if calls else None


_PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_BYTES = {chr(byte): byte for byte in _PLAIN}
_BYTES |= {chr(256 + i): byte for i, byte in enumerate(sorted({*range(256)} - {*_PLAIN}))}
"""The letters that byte-level BPE (GPT-2, RoBERTa) writes bytes as: itself, or "Ġ" for a blank."""


@cache
def readable(token: str) -> str:
    """A token as a reader wants it: one of byte-level BPE as the text that it stands for, without the blank it may
    begin with ("café" for "ĠcafÃ©"), blanks alone as "␣"; all others as they are, and pieces of a letter too.

    Nothing says of which kind a token is, but those of other vocabularies hardly ever spell UTF-8 byte by byte.
    """
    if token.isascii() or not {*token} <= _BYTES.keys():
        return token
    try:
        text = bytes(_BYTES[letter] for letter in token).decode()
    except UnicodeDecodeError:
        return token
    bare = text.replace("\n", "").strip(" ")
    if not bare.isprintable() or "\n" in text and any(map(str.isalpha, bare)):
        return token  # "čas" spells a carriage return, and is Czech
    text = text.removeprefix(" ") if bare else text.replace(" ", "␣")
    return text.replace("\n", "\\n")


def one_line(text: str) -> str:
    """A text on one line: control characters and line ends escaped, as in Python, so that they do not reach a terminal.
    A byte-level vocabulary has a token for each of them."""
    odd = {ord(c): ascii(c)[1:-1] for c in {*text} if unicodedata.category(c) in ("Cc", "Zl", "Zp")}
    return text.translate(odd) if odd else text


def around(tokens: Sequence[str], pos: int, reach: int, shown: Callable[[str], str] = readable) -> str:
    """So many tokens on either side of a position, which stands in brackets; "…" for those left out."""
    first, last = max(0, pos - reach), min(len(tokens), pos + reach + 1)
    words = [f"[{shown(token)}]" if i == pos else shown(token) for i, token in enumerate(tokens[first:last], first)]
    return ("… " if first else "") + " ".join(words) + (" …" if last < len(tokens) else "")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, the last one ragged, a line each."""
    rows = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in (head, *rows)
    )


def frame_of(rows: Any, columns: Sequence[str] | None = None) -> pandas.DataFrame:
    """What `pandas.DataFrame` makes of it; pandas is slow to import, so only where somebody wants a frame."""
    import pandas

    return pandas.DataFrame(rows, columns=columns)


def cut_short(stopped: str) -> str:
    """What a result says where it is only a part."""
    return "" if stopped == "complete" else f"; only a part of it ({stopped})"


def free_spans(tokens: Sequence[str], marked: Sequence[bool]) -> str:
    """Tokens as HTML in the page's own colours, light or dark; the marked ones bold and underlined."""
    style = "font-weight:bold;background:transparent;color:inherit;text-decoration:underline"
    shown = [html.escape(readable(token)) for token in tokens]
    return " ".join(
        f'<span style="{style}">{t}</span>' if m else f"<span>{t}</span>" for t, m in zip(shown, marked, strict=True)
    )


def check_kind(data: Any, kind: str) -> None:
    """Raise unless `data` is a result of this kind, in a version this release reads."""
    given = data.get("kind") if isinstance(data, Mapping) else None
    require(
        given == kind,
        f"the file holds {given!r}, not a {kind!r} result: load it with the class that wrote it",
    )
    require(
        data.get("version") == VERSION,
        f"the file has format version {data.get('version')!r}; this release reads version {VERSION}",
    )


S = TypeVar("S", bound="SavedResult")
D = TypeVar("D")


@dataclass(frozen=True)
class SavedResult:
    """A frozen dataclass that goes to versioned JSON and back; `kind` is its name in the file.

    Attributes:
        provenance: what it was made with, which does not count where two results are compared; None where that is not
            known.
    """

    kind: ClassVar[str]

    provenance: Provenance | None = field(default_factory=_here, kw_only=True, compare=False)

    def __init_subclass__(cls) -> None:
        cls.__repr__ = SavedResult.__repr__  # type: ignore[method-assign]  # which `dataclass` then leaves alone

    def __repr__(self) -> str:
        """The head of what it prints; a dataclass's own would be all of its data."""
        lines = str(self).splitlines()
        shown = [line if len(line) <= ACROSS else f"{line[: ACROSS - 4]} ..." for line in lines[:DOWN]]
        rest = [f"... {len(lines) - DOWN} more lines: print() shows them"] if len(lines) > DOWN else []
        return "\n".join([f"<{type(self).__name__}>", *shown, *rest])

    def _repr_html_(self) -> str:
        """What it prints, in the page's own colours."""
        style = "background:transparent;color:inherit;overflow-x:auto"
        return f'<pre style="{style}">{html.escape(str(self))}</pre>'

    def to_json(self) -> dict[str, Any]:
        """Plain data; the keys are part of the file format, whose version is `version`."""
        data = fields_as_data(self)
        cost, provenance = data.pop("cost", {}), data.pop("provenance")
        return {"kind": self.kind, "version": VERSION, **data, **cost, "provenance": provenance}

    @classmethod
    def from_json(cls: type[S], data: Any) -> S:
        """The inverse of `to_json`.

        Raises:
            DreamError: of another kind or version, or a part is missing or of another type.
        """
        check_kind(data, cls.kind)
        try:
            cost = {key: data[key] for key in declared(Cost) if key in data}
            return read_fields(cls, {"cost": cost, "provenance": None, **data}, exactly=False)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise DreamError(f"the file is not a whole {cls.kind} result: {error!r} is missing or wrong") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write versioned JSON; the file appears whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls: type[S], path: str | os.PathLike[str]) -> S:
        """Read what `save` wrote."""
        return cls.from_json(read_json(path))


def fields_as_data(made: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain data: results in them as their own JSON, tuples as they are."""
    return {field.name: _as_data(getattr(made, field.name)) for field in fields(made)}


def _as_data(value: Any) -> Any:
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value):
        return fields_as_data(value)
    if isinstance(value, tuple | list):
        return type(value)(map(_as_data, value))
    return {key: _as_data(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def read_fields(kind: type[D], data: Mapping[str, Any], exactly: bool = True) -> D:
    """A dataclass out of the mapping that `dataclasses.asdict` and JSON made of it.

    Args:
        exactly: with other keys it is none.

    Raises:
        KeyError, TypeError, ValueError: a field without a default is missing, one is of another type, or they don't fit
            together (`check_parts`, of dataclasses that have one).
    """
    types = declared(kind)  # type: ignore[arg-type]
    own = fields(kind)  # type: ignore[arg-type]
    if exactly and set(data) - {field.name for field in own}:
        raise ValueError(f"{kind.__name__} has no {sorted(set(data) - {field.name for field in own})}")
    made = kind(
        **{
            field.name: read_value(field.name, types[field.name], data[field.name])
            for field in own
            if field.name in data or field.default is MISSING
        }
    )
    if hasattr(made, "check_parts"):
        made.check_parts()
    return made


@cache
def declared(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields, by name."""
    return get_type_hints(kind)


LEAVES = {str: "a text", bool: "true or false", int: "a whole number", float: "a finite number"}


def read_value(name: str, kind: Any, value: Any) -> Any:
    """A value of a file as the type that a dataclass declares: tuples out of lists, dataclasses out of mappings."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any or value is None and NoneType in inner:
        return value
    if origin is UnionType:
        (kind,) = (one for one in inner if one is not NoneType)
        return read_value(name, kind, value)
    if origin is tuple:
        items = list(value) if isinstance(value, list | tuple) else None
        if items is None or inner[-1] is not Ellipsis and len(items) != len(inner):
            raise ValueError(f"{name} = {value!r:.60} is not a list that fits")
        kinds = [inner[0]] * len(items) if inner[-1] is Ellipsis else inner
        return tuple(read_value(name, one, item) for one, item in zip(kinds, items, strict=True))
    if origin is Mapping:
        return {key: read_value(f"{name}[{key!r}]", inner[1], item) for key, item in value.items()}
    if kind not in LEAVES:
        return kind.from_json(value) if hasattr(kind, "from_json") else read_fields(kind, value)
    fits = isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)
    if not fits or kind is float and not math.isfinite(value):
        raise ValueError(f"{name} = {value!r:.60} is not {LEAVES[kind]}")
    return value
