"""Other texts to search from, where the given one leads nowhere: ordinary sentences and random words."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import torch

from tl_dream.search.batch import Ids
from tl_dream.search.engine import Search
from tl_dream.search.swap_search import SwapSearch

TRIED = 16
"""Texts scored, half of them ordinary sentences and half random words; the highest is the start."""


@cache
def ordinary_sentences() -> tuple[str, ...]:
    """The sentences that the package ships, written for it."""
    lines = files(__package__).joinpath("sentences.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


class OtherStarts:
    """Texts of a row that keep its fixed positions: its free ones hold a piece of an ordinary sentence, or random
    words, as far as these may be written. Where few words may change, only as many are others."""

    def __init__(self, search: SwapSearch) -> None:
        self._search = search
        self._pieces: list[list[int]] | None = None
        self._tokens = search.batch.allowed.cpu().nonzero().flatten()

    def best_of(self, row: int, draw: torch.Generator) -> Search[Ids | None]:
        """The highest of some of them, scored; None where none may be returned or paid for."""
        search = self._search
        drawn = [
            *(self._piece(row, draw) for _ in range(TRIED // 2)),
            *(self._words(row, draw) for _ in range(TRIED // 2)),
        ]
        fresh = list(dict.fromkeys(self._placed(row, tokens, draw) for tokens in drawn if tokens))
        good = yield from search.seen.repaired(row, fresh)
        good = good[: search.affordable(TRIED, [row])]
        yield from search.score([(row, ids) for ids in good])
        heights = search.heights([(row, ids) for ids in good])
        return max(zip(heights, good, strict=True), default=(0, None))[1]

    def _placed(self, row: int, tokens: list[int], draw: torch.Generator) -> Ids:
        sentence, limit = self._search.batch.sentences[row], self._search.batch.max_changes
        places = torch.randperm(len(sentence.free), generator=draw)[:limit].tolist()
        ids = list(sentence.ids)
        for i in places:
            ids[sentence.free[i]] = tokens[i]
        return tuple(ids)

    def _words(self, row: int, draw: torch.Generator) -> list[int]:
        count = len(self._search.batch.sentences[row].free)
        return self._tokens[torch.randint(len(self._tokens), (count,), generator=draw)].tolist()

    def _piece(self, row: int, draw: torch.Generator) -> list[int]:
        """As many words in a row as the row has free positions, from ordinary sentences; none where the vocabulary has
        not enough of their words."""
        if self._pieces is None:
            vocabulary, mask = self._search.host.vocabulary, self._search.batch.allowed.cpu()
            kept = [[token for token in ids if mask[token]] for ids in vocabulary.encode_batch(ordinary_sentences())]
            self._pieces = [ids for ids in kept if len(ids) > 3]
        count = len(self._search.batch.sentences[row].free)
        if not self._pieces:
            return []
        found: list[int] = []
        while len(found) < count:
            found += self._pieces[int(torch.randint(len(self._pieces), (1,), generator=draw))]
        first = int(torch.randint(len(found) - count + 1, (1,), generator=draw))
        return found[first : first + count]
