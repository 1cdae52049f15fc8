"""What a user gives: a text, which of its positions are free, which tokens may be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tl_dream._errors import require

Positions = int | str | slice | Sequence[int | str] | None
"""Where in a sentence: a position ([CLS] is 0, negatives count from the end), a word, a slice, a list of positions and
words, or None / "all" for every position but the special ones."""

Allowed = str | Sequence[int] | Sequence[str] | Tensor
"""Which tokens a free position may take: rules in one string ("no_special no_unused ascii whole_words"), your own list
of tokens or ids, or a boolean mask over the vocabulary."""
DEFAULT_ALLOWED = "no_special no_unused"


@dataclass(frozen=True)
class Prompt:
    """A sentence and which of its positions may change.

    Attributes:
        text: plain text; the model's special tokens ([CLS], [SEP], a causal model's BOS) are added.
        free: the positions that may change (see `Positions`); None frees all but the special ones. A word of several
            pieces frees all of them. [CLS] and [SEP] are freed only by naming their positions.
        ids: token ids, special ones included, instead of `text`.
    """

    text: str | None = None
    free: Positions = None
    ids: Sequence[int] | None = None

    def __post_init__(self) -> None:
        require(
            (self.text is None) != (self.ids is None),
            "a Prompt takes either text or ids: give exactly one of the two",
        )


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
