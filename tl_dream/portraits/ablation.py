"""A text with some of its words replaced, and what it scores then."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from tl_dream._arguments import one_of
from tl_dream._errors import require
from tl_dream.models import Host, default_batch_tokens, in_batches
from tl_dream.objectives import TOKENS, BatchContext, Objective, evaluate
from tl_dream.portraits.subsets import Slots
from tl_dream.text import DEFAULT_ALLOWED, Sentence

REPLACEMENTS = ("indifferent", "mask", "mean")

SAMPLED = 32
"""Tokens among which the indifferent one is chosen."""


class Ablation:
    """Scores of a text of which only some of the free words are kept, each set of them scored once.

    Attributes:
        free: the positions that are replaced unless kept.
        told: what stands in their place, as a result says it.
    """

    def __init__(
        self,
        host: Host,
        objective: Objective,
        sentence: Sentence,
        ids: Sequence[int],
        replacement: str = "indifferent",
        seed: int = 0,
    ) -> None:
        """
        Args:
            sentence: says what is free, and what named positions refer to.
            ids: the text's own tokens.
        """
        one_of("replacement", replacement, REPLACEMENTS)
        self._host, self._objective, self.free = host, objective, sentence.free
        require(bool(self.free), f"no word of {sentence.text!r} is free to be replaced: free at least one")
        self._ids = torch.tensor(list(ids), device=host.device)
        self._one = BatchContext.of(host, [sentence])
        self._rows: dict[int, BatchContext] = {}
        self._known: dict[Slots, float] = {}
        self._mean: Tensor | None = None
        self._filler = int(self._ids[self.free[0]])
        vocabulary = host.vocabulary
        if replacement == "mean":
            require(
                TOKENS not in objective.reads,
                f'{objective} reads words, and a mean embedding is none: take replacement="indifferent"',
            )
            self._mean = host.W_E[vocabulary.allowed(DEFAULT_ALLOWED).to(host.device)].mean(0)
            self.told = "the mean embedding"
        elif replacement == "mask":
            require(
                vocabulary.mask_id is not None,
                f'{host.name} has no mask token: take replacement="indifferent" or "mean"',
            )
            self._filler = int(vocabulary.mask_id or 0)
            self.told = vocabulary.tokens([self._filler])[0]
        else:
            self._filler, self.told = self._indifferent(seed)

    def _indifferent(self, seed: int) -> tuple[int, str]:
        """Of a sample of words, the one that scores the median where it stands in all the free places."""
        rules = f"{DEFAULT_ALLOWED} ascii whole_words"
        tokens = self._host.vocabulary.allowed(rules).nonzero().flatten()
        draw = torch.Generator().manual_seed(seed)
        tokens = tokens[torch.randperm(len(tokens), generator=draw)[:SAMPLED]]
        ids = self._ids.repeat(len(tokens), 1)
        ids[:, list(self.free)] = tokens.to(ids.device)[:, None].expand(-1, len(self.free))
        scores = torch.tensor(self._scores(ids))
        at = int(scores.argsort(stable=True)[(len(tokens) - 1) // 2])
        self._known[frozenset()] = float(scores[at])
        token = int(tokens[at])
        (name,) = self._host.vocabulary.tokens([token])
        return token, f"{name!r} (the median of {len(tokens)} words)"

    def __call__(self, sets: Iterable[Slots]) -> list[float]:
        """The scores with only these words kept, the other free ones replaced."""
        asked = list(sets)
        new = [kept for kept in dict.fromkeys(asked) if kept not in self._known]
        if new:
            keep = torch.zeros(len(new), len(self.free), dtype=torch.bool)
            for row, kept in enumerate(new):
                keep[row, list(kept)] = True
            gone = torch.zeros(len(new), len(self._ids), dtype=torch.bool)
            gone[:, list(self.free)] = ~keep
            gone = gone.to(self._ids.device)
            if self._mean is None:
                values = self._scores(torch.where(gone, self._filler, self._ids))
            else:
                own = self._host.W_E[self._ids]
                values = self._scores(self._ids.repeat(len(new), 1), torch.where(gone[..., None], self._mean, own))
            self._known.update(zip(new, values, strict=True))
        return [self._known[kept] for kept in asked]

    @property
    def tokens(self) -> int:
        """Of a sentence."""
        return len(self._ids)

    @torch.no_grad()
    def _scores(self, ids: Int[Tensor, "batch pos"], embeddings: Tensor | None = None) -> list[float]:
        def work(numbers: Tensor) -> Tensor:
            count = len(numbers)
            if count not in self._rows:
                self._rows[count] = self._one.repeat(count)
            soft = None if embeddings is None else embeddings[numbers]
            return evaluate(self._host, self._objective, ids[numbers], self._rows[count], embeddings=soft).cpu()

        size = max(1, default_batch_tokens(self._host, None) // ids.shape[1])
        return torch.cat(in_batches(torch.arange(len(ids), device=ids.device), size, work)).double().tolist()
