"""A text with some of its words replaced, what it scores then, and the fewest words that still do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, islice
from math import comb

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream._arguments import one_of
from tl_dream._errors import require
from tl_dream.models import Host, default_batch_tokens, in_batches
from tl_dream.objectives import TOKENS, Objective, evaluate
from tl_dream.results import readable
from tl_dream.search import Ask, Batch, Ids, Search
from tl_dream.text import DEFAULT_ALLOWED, Sentence

Slots = frozenset[int]
"""Some of the things, by their number."""
Scores = Callable[[Iterable[Slots]], Search[list[float]]]
"""What sets score; each costs a forward pass, unless it was asked before."""

EXACT = 4
"""Sets of up to so many are all tried."""

AT_ONCE = 4096


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
        vocabulary = host.vocabulary
        self._batch = Batch.of(host, [sentence], vocabulary.allowed(DEFAULT_ALLOWED), retokenize=False)
        self._known: dict[Slots, float] = {}
        self._mean: Tensor | None = None
        self._filler, self._seed, self.told = -1, seed, ""
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

    def _find_indifferent(self) -> Search[None]:
        """Of a sample of words, the one that scores the median where it stands in all the free places."""
        rules = f"{DEFAULT_ALLOWED} ascii whole_words"
        tokens = self._host.vocabulary.allowed(rules).nonzero().flatten()
        draw = torch.Generator().manual_seed(self._seed)
        tokens = tokens[torch.randperm(len(tokens), generator=draw)[:SAMPLED]]
        ids = self._ids.repeat(len(tokens), 1)
        ids[:, list(self.free)] = tokens.to(ids.device)[:, None].expand(-1, len(self.free))
        scores = torch.tensor((yield from self._scores(ids)))
        at = int(scores.argsort(stable=True)[(len(tokens) - 1) // 2])
        self._known[frozenset()] = float(scores[at])
        self._filler = int(tokens[at])
        (name,) = self._host.vocabulary.tokens([self._filler])
        self.told = f"{readable(name)!r} (the median of {len(tokens)} words)"

    def __call__(self, sets: Iterable[Slots]) -> Search[list[float]]:
        """The scores with only these words kept, the other free ones replaced."""
        if not self.told:
            yield from self._find_indifferent()
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
                values = yield from self._scores(torch.where(gone, self._filler, self._ids))
            else:
                soft = torch.where(gone[..., None], self._mean, self._host.W_E[self._ids])
                values = self._soft_scores(soft)
            self._known.update(zip(new, values, strict=True))
        return [self._known[kept] for kept in asked]

    def _scores(self, ids: Int[Tensor, "batch pos"]) -> Search[list[float]]:
        return scored(self._host, self._objective, self._batch, list(map(tuple, ids.tolist())))

    @torch.no_grad()
    def _soft_scores(self, embeddings: Float[Tensor, "batch pos d_model"]) -> list[float]:
        """A look without a gradient, which no `Ask` of soft sentences is."""

        def work(numbers: Tensor) -> Tensor:
            rows, ids = self._batch.context(self._host, [0] * len(numbers)), self._ids.repeat(len(numbers), 1)
            return evaluate(self._host, self._objective, ids, rows, embeddings=embeddings[numbers]).cpu()

        size = max(1, default_batch_tokens(self._host, None) // len(self._ids))
        parts = in_batches(torch.arange(len(embeddings), device=self._ids.device), size, work)
        return torch.cat(parts).double().tolist()


def scored(host: Host, objective: Objective, batch: Batch, texts: Sequence[Ids]) -> Search[list[float]]:
    """The scores of texts as long as the one sentence of a batch, in which the words that the objective names are
    found."""
    answer = yield Ask(host, batch, (objective,), [(0, ids) for ids in texts])
    return [value for (value,) in answer.values]


def fewest(
    scores: Scores, count: int, wanted: float, affordable: int, late: Callable[[], bool] = lambda: False
) -> Search[tuple[Slots, float, bool]]:
    """The smallest set of 0 to `count` - 1 that scores at least `wanted`; of those of its size the best that was tried.

    Args:
        scores: of sets; that of all of them reaches `wanted`.
        affordable: sets that may be tried, besides the greedy ones (as many as `count` squared).
        late: whether no more may be.

    Returns:
        The set, its score, and whether it is certain that no smaller one does: all of them were tried.
    """
    every = frozenset(range(count))
    forward = yield from _grown(scores, every, wanted)
    backward = yield from _shrunk(scores, every, wanted)
    best = min((forward, backward), key=lambda one: (len(one[0]), -one[1]))
    left, tried = affordable, -1
    for size in range(min(EXACT, len(best[0])) + 1):
        if comb(count, size) > left:
            break
        left -= comb(count, size)
        found = yield from _best_of(scores, combinations(range(count), size), late)
        if late():
            break
        tried = size
        if found[1] >= wanted:
            return (*found, True)
    return (*best, tried >= len(best[0]) - 1)


def _best_of(
    scores: Scores, sets: Iterable[Iterable[int]], late: Callable[[], bool] = lambda: False
) -> Search[tuple[Slots, float]]:
    best: tuple[Slots, float] = (frozenset(), -float("inf"))
    waiting = iter(sets)
    while not late() and (part := [frozenset(one) for one in islice(waiting, AT_ONCE)]):
        values = yield from scores(part)
        for one, value in zip(part, values, strict=True):
            if value > best[1]:
                best = one, value
    return best


def _grown(scores: Scores, every: Slots, wanted: float) -> Search[tuple[Slots, float]]:
    """Add what helps most, until it does."""
    kept: Slots = frozenset()
    (value,) = yield from scores([kept])
    while value < wanted:
        kept, value = yield from _best_of(scores, [kept | {i} for i in sorted(every - kept)])
    return kept, value


def _shrunk(scores: Scores, every: Slots, wanted: float) -> Search[tuple[Slots, float]]:
    """Leave out what is missed least, as long as it does."""
    kept = every
    (value,) = yield from scores([kept])
    while kept:
        smaller, less = yield from _best_of(scores, [kept - {i} for i in sorted(kept)])
        if less < wanted:
            break
        kept, value = smaller, less
    return kept, value
