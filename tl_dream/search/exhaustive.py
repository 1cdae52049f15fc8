"""Dreams that look at every text there is: one free word, and few words of a short list."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations, islice, product
from math import comb

from torch import Tensor

from tl_dream._errors import DreamError, keeping
from tl_dream.scans import Substitution, exact_best, numbered
from tl_dream.search.batch import Ids
from tl_dream.search.budgets import Callback
from tl_dream.search.engine import Search, run
from tl_dream.search.swap_search import SwapSearch
from tl_dream.text import Sentence

AT_ONCE = 64
"""Texts scored at once."""


def texts_of(search: SwapSearch, row: int) -> int:
    """How many texts a row may become, its start included."""
    sentence = search.batch.sentences[row]
    count = len(sentence.free)
    others = int(search.batch.allowed.sum())
    most = count if search.batch.max_changes is None else min(count, search.batch.max_changes)
    return sum(comb(count, changes) * others**changes for changes in range(most + 1))


def every_text(search: SwapSearch, asked: Callable[[], bool]) -> Search[bool]:
    """Score every text that may be returned, if the budget covers them all.

    Args:
        asked: whether to stop.

    Returns:
        Whether all were scored, so that the best of a row is the best of all.
    """
    rows = {sentence: row for row, sentence in enumerate(search.batch.sentences)}  # the same sentence once
    counts = {row: texts_of(search, row) for row in rows.values()}
    most = max(counts.values())
    if sum(counts.values()) > 1_000_000 or search.affordable(most, list(counts)) < most:
        return False
    for row in counts:
        texts = _texts(search, row)
        while some := list(islice(texts, AT_ONCE)):
            back = yield from search.seen.returnable(row, some)
            good = [ids for ids, ok in zip(some, back, strict=True) if ok]
            yield from search.score([(row, ids) for ids in good])
            search.steps += 1
            if asked():
                return False
    for row, sentence in enumerate(search.batch.sentences):
        first = rows[sentence]
        if first != row:
            yield from search.score([(row, search.seen.best[first].ids)])
        search.optima.add((row, search.seen.best[row].ids))
    return True


def _texts(search: SwapSearch, row: int) -> Iterator[Ids]:
    """Every text a row may become but for its start, fewest changes first."""
    sentence = search.batch.sentences[row]
    tokens = search.batch.allowed.cpu().nonzero().flatten().tolist()
    most = len(sentence.free) if search.batch.max_changes is None else search.batch.max_changes
    for changes in range(1, min(most, len(sentence.free)) + 1):
        for places in combinations(sentence.free, changes):
            for words in product(*([token for token in tokens if token != sentence.ids[at]] for at in places)):
                ids = list(sentence.ids)
                for at, token in zip(places, words, strict=True):
                    ids[at] = token
                yield tuple(ids)


def best_words(
    search: SwapSearch, *, callback: Callback | None = None, tick: Callable[[], object] | None = None
) -> Search[str]:
    """The exact best token where each row has one free position, found as `token_search` finds it; rows of the same
    sentence are searched once. The callback is called before every row and after the last.

    Returns:
        Why it stopped: "complete", "seconds", "callback", or "failure" where an allowed token scores NaN or infinity.
    """
    found: dict[Sentence, tuple[list[Ids], bool]] = {}
    for row, sentence in enumerate(search.batch.sentences):
        if search.failure is not None:
            return "failure"
        if search.progress(callback):
            return "callback"
        if sentence not in found:
            found[sentence] = yield from _best_word(search, row)
        search.steps += 1
        rows, whole = found[sentence]
        yield from search.score([(row, ids) for ids in rows])
        if not whole:
            return "seconds"
        search.optima.add((row, search.seen.best[row].ids))
        if tick is not None:
            tick()
    if search.failure is not None:
        return "failure"
    return "callback" if search.progress(callback) else "complete"


def _best_word(search: SwapSearch, row: int) -> Search[tuple[list[Ids], bool]]:
    """The row with the best token that may be returned at its one free position, and whether it was found in time; no
    row where none may be.

    Every exact score is taken in, so that one that is no number ends the search as it does elsewhere: screens pass such
    a token on, and the shortlist would rank it last.
    """
    sentence = search.batch.sentences[row]
    (at,) = sentence.free
    tokens = search.batch.allowed.cpu().nonzero().flatten()
    swap = Substitution(search.host, search.objective, sentence, at)
    _, screens = swap.screens()

    def placed(token: int) -> Ids:
        return (*sentence.ids[:at], token, *sentence.ids[at + 1 :])

    def exact(numbers: Tensor) -> Tensor:
        values = swap.exact(tokens[numbers])
        for token, value in zip(tokens[numbers].tolist(), values.tolist(), strict=True):
            search.seen.learn(row, placed(token), value, value)
        return values

    top = min(64, len(tokens))
    while True:
        try:
            with keeping(
                lambda found, why: run(
                    search.host, search.score([(row, placed(i)) for i in tokens[list(found.best)].tolist()])
                )
            ):
                every = [numbered(tokens, screen) for screen in screens]
                found = exact_best(len(tokens), top, every, exact, late=lambda: search.host.late)
        except DreamError:
            if search.failure is None:
                raise
            return [], True  # too few tokens score a number
        rows = [placed(token) for token in tokens[list(found.best)].tolist()]
        back = yield from search.seen.returnable(row, rows)
        good = [ids for ids, ok in zip(rows, back, strict=True) if ok]
        if good or top == len(tokens) or not found.whole:
            return good[:1], found.whole
        top = min(8 * top, len(tokens))
