"""The rows that are searched together, where they start, and what a search can ask of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._arguments import listed, plain, unmasked
from tl_dream._errors import require
from tl_dream.models import BertTrunk, Host, layers_run
from tl_dream.objectives import TOKENS, BatchContext, Objective
from tl_dream.results import CorpusResult
from tl_dream.text import Allowed, Positions, Prompt, Sentence, Vocabulary, prompts_of

Ids = tuple[int, ...]
"""The tokens of a sentence."""


def row_generators(seed: int, count: int, draw: int = 0) -> list[torch.Generator]:
    """A local CPU generator for every row of a draw: what a row draws does not depend on the batch around it, nor on
    the filling that longer rows brought it in earlier draws."""
    return [
        torch.Generator().manual_seed(((seed * 1_000_003 + row) * 1_000_003 + draw) % 2**63) for row in range(count)
    ]


@dataclass(frozen=True)
class Batch:
    """Rows that dream together: their sentences, and where each is free.

    Attributes:
        sentences: one a row; a start that is tried several times stands in several rows.
        ids: their tokens, right-padded.
        free: the free positions of each row, 0 where `valid` is False (rows may have fewer than others).
        allowed: tokens that free positions may take, Bool[d_vocab].
        retokenize: whether only tokens whose text tokenizes back to them may be returned. Not asked of a row whose
            start does not, or where [CLS] or [SEP] is free.
        max_changes: how many words may differ from the start's at most; None sets no limit.
        names: the hooks that objectives read, as far as that was asked.
    """

    sentences: tuple[Sentence, ...]
    ids: Int[Tensor, "batch pos"]
    free: Int[Tensor, "batch free"]
    valid: Bool[Tensor, "batch free"]
    allowed: Bool[Tensor, " vocab"]
    retokenize: bool
    max_changes: int | None = None
    names: dict[tuple[Objective, ...], tuple[str, ...]] = field(default_factory=dict, repr=False, compare=False)
    _kept: dict[tuple[int, int], BatchContext] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        host: Host,
        sentences: Sequence[Sentence],
        allowed: Tensor,
        retokenize: bool,
        max_changes: int | None = None,
    ) -> Batch:
        """A batch of sentences, each with at least one free position."""
        ids, _ = host.pad([sentence.ids for sentence in sentences])
        most = max(len(sentence.free) for sentence in sentences)
        free = torch.zeros(len(sentences), most, dtype=torch.long)
        valid = torch.zeros(len(sentences), most, dtype=torch.bool)
        for i, sentence in enumerate(sentences):
            require(bool(sentence.free), f"no position of {sentence.text!r} is free: free at least one word")
            free[i, : len(sentence.free)] = torch.tensor(sentence.free)
            valid[i, : len(sentence.free)] = True
        device = host.device
        return cls(
            tuple(sentences),
            ids,
            free.to(device),
            valid.to(device),
            allowed.to(device),
            retokenize,
            max_changes,
        )

    @cached_property
    def may(self) -> numpy.ndarray:
        """`allowed` on the CPU."""
        return self.allowed.cpu().numpy()

    def fill(self, tokens: Int[Tensor, "batch free"]) -> Int[Tensor, "batch pos"]:
        """The sentences with `tokens` at their free positions."""
        filled = self.ids.clone()
        row, slot = self.valid.nonzero(as_tuple=True)
        filled[row, self.free[row, slot]] = tokens[row, slot]
        return filled

    def within_limit(
        self, filled: Int[Tensor, "batch pos"], strength: Float[Tensor, "batch free"]
    ) -> Int[Tensor, "batch pos"]:
        """The sentences with at most `max_changes` words changed: those of the greatest strength."""
        if self.max_changes is None:
            return filled
        changed = (filled != self.ids).gather(1, self.free) & self.valid
        order = strength.masked_fill(~changed, -math.inf).argsort(dim=1, descending=True, stable=True)
        keep = torch.zeros_like(changed).scatter_(1, order[:, : self.max_changes], True) & changed
        return self.fill(torch.where(keep, filled.gather(1, self.free), self.ids.gather(1, self.free)))

    def context(self, host: Host, members: Sequence[int]) -> BatchContext:
        """What an objective may know of some of the rows; of one row many times it is kept, because positions are
        looked up row by row."""
        key = (members[0], len(members))
        if any(row != members[0] for row in members):
            return BatchContext.of(host, [self.sentences[row] for row in members])
        if key not in self._kept:
            if len(self._kept) > 64:
                self._kept.clear()
            self._kept[key] = BatchContext.of(host, [self.sentences[members[0]]]).repeat(len(members))
        return self._kept[key]

    def few_changes(self, row: int, ids: Ids) -> bool:
        """Whether no more words of a row differ from its start's than may."""
        most, start = self.max_changes, self.sentences[row].ids
        return most is None or sum(new != old for new, old in zip(ids, start, strict=True)) <= most

    def texts(self, filled: Int[Tensor, "batch pos"]) -> list[Ids]:
        """Every row's tokens without its padding."""
        return [tuple(ids[: len(one)]) for ids, one in zip(filled.tolist(), self.sentences, strict=True)]

    def row_ids(self, filled: Int[Tensor, "batch pos"], row: int) -> Ids:
        """One row's tokens without its padding."""
        return tuple(filled[row, : len(self.sentences[row])].tolist())


TOP = 10
"""Sentences of a corpus search that a dream starts from, as many as the article took."""

Start = str | Prompt | Iterable[str | Prompt] | CorpusResult | None
"""A sentence, several, or a corpus search."""


def read_prompts(host: Host, prompt: Start, free: Positions) -> tuple[Sentence, ...]:
    """One or several starts, tokenized, with their free positions.

    Args:
        free: of plain text; a Prompt says its own.

    Raises:
        DreamError: nothing to start from, or a start that is neither text nor a Prompt.
    """
    if isinstance(prompt, CorpusResult):
        prompt = prompt.texts(TOP)
    require(prompt is not None, "no sentence to start from: give a prompt, or a corpus search")
    assert prompt is not None
    bare = listed(prompt)
    given = prompts_of(prompt if isinstance(prompt, str | Prompt) else bare, "sentence to start from")
    require(
        free is None or not any(isinstance(item, Prompt) for item in bare),
        "free= goes with plain text; a Prompt says itself which of its positions are free",
    )
    return tuple(host.vocabulary.read(item if free is None else replace(item, free=free)) for item in given)


def allowed_tokens(
    vocabulary: Vocabulary, objective: Objective, allowed: Allowed, banned: Iterable[Any] | None
) -> Bool[Tensor, " d_vocab"]:
    """The mask of tokens that a dream may write: the allowed ones without the banned.

    Args:
        banned: exactly these tokens, no other spelling; None bans those whose prediction the objective asks for.

    Raises:
        DreamError: an unknown token or rule, or nothing left.
    """
    given = list(objective.answers) if banned is None else plain(banned)
    require(isinstance(given, list), f"banned = {banned!r}: give a list of tokens")
    mask = vocabulary.allowed(allowed)
    out = [vocabulary.token_id(token) for token in unmasked(given, vocabulary.d_vocab, "tokens")]
    mask[out] = False
    require(bool(mask.any()), "the banned tokens leave nothing of the allowed ones: ban fewer, or allow more")
    return mask


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

    @property
    def names(self) -> tuple[str, ...]:
        """The hooks that are read."""
        if self.objectives not in self.batch.names:
            reads = dict.fromkeys(read for objective in self.objectives for read in objective.reads)
            self.batch.names[self.objectives] = tuple(name for read in reads for name in read.resolve(self.host))
        return self.batch.names[self.objectives]

    @property
    def layers(self) -> int:
        """That run for it, none where only words are read."""
        return layers_run(self.names, self.host.n_layers) if self.names else 0


def stacked(shares: Sequence[tuple[Ask, list[int]]], name: str) -> Tensor | None:
    rows = [getattr(ask.soft, name) for ask, _ in shares]
    if rows[0] is None:
        return None
    return torch.stack([some[i] for some, (_, own) in zip(rows, shares, strict=True) for i in own])


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


@dataclass(frozen=True, eq=False)
class Together:
    """Work of a search without a forward pass, which is done at once for all searches that want the same.

    Attributes:
        work: a function of a module: of what several searches give, what each is sent.
        own: what this search gives.
        alike: what must be equal for that.
        large: numbers for every token of the vocabulary, which fill a CPU's caches: there it is done for one search
            after the other.
    """

    work: Callable[[Sequence[Any]], Sequence[Any]]
    own: Any
    alike: Hashable = None
    large: bool = False
    patient = False


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
Search = Generator[Ask | Look | Together, Any, T]
"""A search that comes to a T; it is sent an `Answer`, or what the work is for."""
