"""What a user gives: a text, which of its positions are free, which tokens may be written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tl_dream._arguments import Whole, is_whole, listed, plain
from tl_dream._errors import DreamError, require, shortened

Positions = Whole | str | slice | Iterable[Any] | None
"""Where in a sentence: a position ([CLS] is 0, negatives count from the end), a word, a slice, a list (or an array) of
positions and words, a mask with True or False for every position, or None / "all" for every position but the special
ones."""

Allowed = str | Iterable[Any]
"""Which tokens a free position may take: rules in one string ("no_special no_unused ascii whole_words"), your own list
(or array) of tokens or ids, or a boolean mask over the vocabulary."""
DEFAULT_ALLOWED = "no_special no_unused"


@dataclass(frozen=True)
class Prompt:
    """A sentence and which of its positions may change.

    Attributes:
        text: plain text; the model's special tokens ([CLS], [SEP], a causal model's BOS) are added.
        free: the positions that may change (see `Positions`); None frees all but the special ones. A word of several
            pieces frees all of them. [CLS] and [SEP] are freed only by naming their positions.
        ids: token ids, special ones included, instead of `text`; a batch axis of 1 is left out.

    Raises:
        DreamError: neither text nor ids or both, or what is none.

    Examples:
        >>> prompt = td.Prompt("the red dog", free=["red"])
        >>> td.dream(bert, td.neuron("mlp_post", layer=1, unit=3), prompt, budget=500).prompt["free"]
        [2]
    """

    text: str | None = None
    free: Positions = None
    ids: Iterable[Any] | None = None

    def __post_init__(self) -> None:
        require(
            (self.text is None) != (self.ids is None),
            "a Prompt takes either text or ids: give exactly one of the two",
        )
        if self.text is not None:
            object.__setattr__(self, "text", clean_text(self.text))
        object.__setattr__(self, "free", plain(self.free))
        if self.ids is not None:
            ids = plain(self.ids)
            ids = ids[0] if isinstance(ids, list) and len(ids) == 1 and isinstance(ids[0], list) else ids
            require(
                isinstance(ids, list) and all(is_whole(id) or isinstance(id, str) for id in ids),
                f"ids = {shortened(repr(self.ids))}: give the token ids of one sentence, a list of whole numbers",
            )
            object.__setattr__(self, "ids", tuple(ids))


def clean_text(text: Any) -> str:
    """Text as a tokenizer takes it.

    Raises:
        DreamError: something else, or text that is no Unicode (half a surrogate pair, as undecodable bytes leave it).
    """
    require(isinstance(text, str), f"a text was expected, not {type(text).__name__}: {shortened(repr(text))}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DreamError(
            f"the text {shortened(repr(text))} is no Unicode: character {error.start} is half a surrogate pair, as "
            "bytes that are not UTF-8 leave it. Decode the text with its own encoding"
        ) from error
    return str(text)


def as_prompt(given: Any) -> Prompt:
    """A text or a Prompt as a Prompt.

    Raises:
        DreamError: anything else.
    """
    if isinstance(given, str | Prompt):
        return given if isinstance(given, Prompt) else Prompt(given)
    items = plain(given)
    hint = "; decode bytes first" if isinstance(given, bytes | bytearray) else ""
    if isinstance(items, list):
        hint = "; one sentence was expected"
        hint = "; token ids go in a Prompt, Prompt(ids=...)" if items and all(map(is_whole, items)) else hint
    shown = shortened(repr(given).partition("\n")[0])
    raise DreamError(f"a sentence is text or a Prompt, not {type(given).__name__}: {shown}{hint}")


def prompts_of(given: Any, purpose: str) -> list[Prompt]:
    """One or several texts or prompts, in their order.

    Args:
        purpose: for the message of an empty list ("no text to score").

    Raises:
        DreamError: none, or something that is neither.
    """
    items = listed(given)
    require(bool(items), f"no {purpose}: give at least one")
    if len(items) > 1 and all(map(is_whole, items)):
        as_prompt(given)  # ids: tells so
    return [as_prompt(item) for item in items]


@dataclass(frozen=True)
class Sentence:
    """A prompt after tokenization: ids, tokens, and the positions that are special or free (all of equal length)."""

    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    special: tuple[bool, ...]
    free: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def listing(self) -> str:
        """Positions and tokens as "0 [CLS], 1 i, ...", for messages."""
        return ", ".join(f"{i} {token}" for i, token in enumerate(self.tokens))
