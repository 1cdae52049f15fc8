"""What an objective is given: the hooks it reads, and what it may know of the rows it scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._errors import require
from tl_dream.hosts import Meter
from tl_dream.models import Host
from tl_dream.prompts import Positions, Sentence, Vocabulary


@dataclass(frozen=True)
class Read:
    """One hook an objective reads: a full name, or a short name with its layer ("all" reads every layer, stacked)."""

    hook: str
    layer: int | str | None = None

    def resolve(self, host: Host) -> tuple[str, ...]:
        """The full names on this model; none for `TOKENS`, which are no activation."""
        if self == TOKENS:
            return ()
        if self.layer == "all":
            return tuple(host.resolve(self.hook, layer) for layer in range(host.n_layers))
        require(
            self.layer is None or isinstance(self.layer, int),
            f'layer {self.layer!r} is not a layer: give a number, or "all" where every layer is read',
        )
        return (host.resolve(self.hook, self.layer),)  # type: ignore[arg-type]


TOKENS = Read("tokens")
"""What an objective declares that reads the words themselves (fluency): it receives them as `Tokens`."""


@dataclass(frozen=True)
class Tokens:
    """The words of a batch, for objectives that read them.

    Attributes:
        ids: token ids, right-padded; of a soft sentence, the start's.
        weights: of a soft sentence the weight of every token at every position, with its graph; None where the words
            are real.
        causal: whether the dreaming model is.
        meter: counts what a judge runs.
        judged: what judges have said in this pass, so that several objectives that share one ask it once.
    """

    ids: Int[Tensor, "batch pos"]
    weights: Float[Tensor, "batch pos vocab"] | None
    causal: bool
    meter: Meter
    judged: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def embed(self, table: Float[Tensor, "vocab d"]) -> Float[Tensor, "batch pos d"]:
        """The words' rows of a table with one row a token, mixed by weight where the words are soft."""
        return table[self.ids] if self.weights is None else self.weights.to(table.dtype) @ table


@dataclass(frozen=True)
class Rows:
    """What an objective may know of the rows it scores, besides their activations.

    Attributes:
        mask: True at real tokens, False at padding.
        special: True at the tokens that frame a sentence ([CLS], [SEP], BOS).
        sentences: the sentences that named positions refer to, one a row (for a dream: its start).
        vocabulary: text <-> ids.
    """

    mask: Bool[Tensor, "batch pos"]
    special: Bool[Tensor, "batch pos"]
    sentences: tuple[Sentence, ...]
    vocabulary: Vocabulary
    _found: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, host: Host, sentences: Sequence[Sentence]) -> Rows:
        """The rows of a padded batch of sentences."""
        longest = max(len(sentence) for sentence in sentences)
        mask = torch.zeros(len(sentences), longest, dtype=torch.bool)
        special = torch.zeros(len(sentences), longest, dtype=torch.bool)
        for i, sentence in enumerate(sentences):
            mask[i, : len(sentence)] = True
            special[i, : len(sentence)] = torch.tensor(sentence.special)
        return cls(mask.to(host.device), special.to(host.device), tuple(sentences), host.vocabulary)

    def repeat(self, times: int) -> Rows:
        """Every row `times` times, in blocks: row 0, row 0, ..., row 1, row 1, ..."""
        return Rows(
            self.mask.repeat_interleave(times, 0),
            self.special.repeat_interleave(times, 0),
            tuple(sentence for sentence in self.sentences for _ in range(times)),
            self.vocabulary,
        )

    @property
    def words(self) -> Bool[Tensor, "batch pos"]:
        """True at real tokens that are not special: what "all positions" means."""
        return self.mask & ~self.special

    def locate(self, pos: Positions) -> tuple[Int[Tensor, "batch n"], Bool[Tensor, "batch n"]]:
        """The positions `pos` means in every row, and which of them are filling (rows may have fewer than others).

        Raises:
            DreamError: a position or word that a row has not got.
        """
        key = repr(pos)
        if key not in self._found:
            known: dict[Sentence, tuple[int, ...]] = {}
            for sentence in self.sentences:
                if sentence not in known:
                    known[sentence] = self.vocabulary.locate(sentence, pos)
            found = [known[sentence] for sentence in self.sentences]
            most = max(1, max(len(row) for row in found))
            index = torch.zeros(len(found), most, dtype=torch.long)
            valid = torch.zeros(len(found), most, dtype=torch.bool)
            for i, row in enumerate(found):
                require(
                    bool(row),
                    f"no position is left in {self.sentences[i].text!r}: it has special tokens only",
                )
                index[i, : len(row)] = torch.tensor(row)
                valid[i, : len(row)] = True
            self._found[key] = (index.to(self.mask.device), valid.to(self.mask.device))
        return self._found[key]


Activations = Mapping[Read, Any]  # a Tensor, or the Tokens of `TOKENS`
Score = Callable[[Activations, Rows], Tensor]
