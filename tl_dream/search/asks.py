"""What a search can ask of the engine, and how it is answered."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream.models import BertTrunk, Host, layers_run
from tl_dream.objectives import TOKENS, Objective
from tl_dream.search.batch import Batch, Ids


@dataclass(frozen=True, eq=False)
class Soft:
    """Soft sentences in place of the tokens of an `Ask`.

    Attributes:
        embeddings: of every sentence, Float[pos, d_model].
        weights: of every sentence the weight of every token, Float[pos, vocab], where words are read; else None.
        narrow: the pass may run in bf16.
    """

    embeddings: Sequence[Tensor]
    weights: Sequence[Tensor] | None = None
    narrow: bool = False


@dataclass(frozen=True, eq=False)
class Ask:
    """What a search wants to know of some texts.

    Attributes:
        host: whose meter it is charged to.
        batch: what the texts' rows are numbers of.
        objectives: what scores them.
        texts: (row, tokens) of each.
        trunk: what runs in place of the model.
        slopes: of the first objective, the slope of every token at every free position is wanted as well.
        soft: sentences in place of the tokens; the gradient of the first objective is wanted as well.
    """

    host: Host
    batch: Batch
    objectives: tuple[Objective, ...]
    texts: Sequence[tuple[int, Ids]]
    trunk: BertTrunk | None = None
    slopes: bool = False
    soft: Soft | None = None
    patient = False

    @property
    def tokens(self) -> list[Ids]:
        """Of each text."""
        return [ids for _, ids in self.texts]

    @property
    def steep(self) -> bool:
        """Whether a gradient is wanted."""
        return self.slopes or self.soft is not None

    @property
    def reads_words(self) -> bool:
        return any(TOKENS in objective.reads for objective in self.objectives)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The hooks that are read."""
        reads = dict.fromkeys(read for objective in self.objectives for read in objective.reads)
        return tuple(name for read in reads for name in read.resolve(self.host))

    @property
    def layers(self) -> int:
        """That run for it, none where only words are read."""
        return layers_run(self.names, self.host.n_layers) if self.names else 0


@dataclass(frozen=True, eq=False)
class Look:
    """What a search computes by itself of the activations of some texts, where one score does not tell enough.

    Attributes:
        host: whose meter it is charged to.
        names: the hooks that are read, by their full names.
        tokens: of each text, all of one length.
        read: gives numbers of some of the texts, from their activations, [some, pos, ...], and their numbers here.
        soft: the embeddings of every text, Float[pos, d_model], in place of its tokens; then the gradient of the first
            number is wanted as well.
        patient: it can wait until others read the same texts. Those that do so at once share their passes, whatever
            layers they read.
    """

    host: Host
    names: tuple[str, ...]
    tokens: Sequence[Ids]
    read: Callable[[Mapping[str, Tensor], list[int]], Float[Tensor, "some number"]]
    soft: Sequence[Tensor] | None = None
    patient: bool = False

    @property
    def steep(self) -> bool:
        """Whether a gradient is wanted."""
        return self.soft is not None

    @property
    def layers(self) -> int:
        """That run for it."""
        return layers_run(self.names, self.host.n_layers)


@dataclass(eq=False)
class Answer:
    """One entry a text.

    Attributes:
        values: what each objective gives, or the numbers that were read.
        slopes: of every token at the free positions, Float[free, vocab].
        pulls: the gradient with respect to the soft embeddings, Float[pos, d_model].
        direct: the gradient with respect to the weights, Float[pos, vocab], where words are read.
    """

    values: list[tuple[float, ...]]
    slopes: list[Tensor]
    pulls: list[Tensor]
    direct: list[Tensor]

    @classmethod
    def blank(cls, ask: Ask | Look) -> Answer:
        """Before anything is known."""
        count, nothing = len(ask.tokens), torch.empty(0)
        return cls([()] * count, [nothing] * count, [nothing] * count, [nothing] * count)


T = TypeVar("T")
Search = Generator[Ask | Look, Answer, T]
"""A search that comes to a T."""
