"""A unit among random directions: the same searches, the same budget, and what came of each."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations, islice
from statistics import fmean
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream._arguments import flag, listed, seed_number, whole_number
from tl_dream._errors import DreamError, require
from tl_dream.models import Host
from tl_dream.objectives import Objective
from tl_dream.portraits.diversity import dreams_of, essentials_of
from tl_dream.portraits.placebos import Texts
from tl_dream.results import CorpusHit, CorpusResult, EssentialTokens, Measure, Standing
from tl_dream.scans import corpus_search
from tl_dream.text import Allowed, Prompt, Sentence

MEASURES = (
    ("best dream, deviations above the corpus", True),
    ("tokens that carry half of a dream", False),
    ("dreams agree with each other", True),
    ("dreams agree with the corpus' best", True),
)
"""What is compared, and whether what means something has more of it. Agreement is the cosine of each essential token to
the nearest of the others', -1 to 1."""


SENTENCES = 8
"""The best of a corpus, that are kept."""


COMPARED = 4_000
"""Forward-tokens of a dream that is compared with those of random directions."""


@dataclass(frozen=True)
class Choices:
    """What is the same for all units of a portrait or an atlas.

    Attributes:
        seeds: dreams by seed, each from a sentence of its own.
        placebos: random directions to compare with; 0 leaves the comparison out.
        fluent: dream of fluent text as well.
        tokens: search for the exact best tokens.
        budget: forward-tokens a dream.
    """

    seeds: int
    placebos: int
    fluent: bool
    tokens: bool
    budget: int
    allowed: Allowed
    seed: int


def read_choices(
    seeds: Any, placebos: Any, fluent: Any, tokens: Any, budget: Any, allowed: Allowed, seed: Any
) -> Choices:
    """The options, checked."""
    placebos = whole_number("placebos", placebos, 0)
    require(placebos != 1, "placebos = 1: to compare takes two random directions at least, or 0 for none")
    return Choices(
        whole_number("seeds", seeds),
        placebos,
        flag("fluent", fluent),
        flag("tokens", tokens),
        whole_number("budget", budget),
        allowed,
        seed_number(seed),
    )


def settings_of(chosen: Choices) -> dict[str, Any]:
    """The options that decide what a portrait holds, as data."""
    allowed = chosen.allowed if isinstance(chosen.allowed, str) else len(listed(chosen.allowed))
    return {**asdict(chosen), "allowed": allowed, "compared": min(COMPARED, chosen.budget)}


@dataclass(frozen=True)
class Compared:
    """What came of one direction.

    Attributes:
        dreams: a dream a start, with its essential tokens.
        values: one a measure.
    """

    dreams: tuple[EssentialTokens, ...]
    values: tuple[float, ...]


def compare(
    host: Host,
    objectives: Sequence[Objective],
    starts: Sequence[Sequence[str | Prompt]],
    values: Float[Tensor, "goal word"],
    best: Sequence[CorpusResult],
    *,
    budget: int,
    allowed: Allowed,
    seed: int,
) -> list[Compared]:
    """Dreams of several directions, side by side, and what they are measured by; nothing where it gets late before all
    of them began.

    Args:
        starts: of each, as many for all.
        values: at the words of the corpus, for the mean and the deviation of each.
        best: the sentences of the corpus that each scores highest on.
        budget: forward-tokens a dream.
    """
    means, deviations = values.mean(1).tolist(), values.std(1, correction=0).tolist()
    jobs = [(objective, start) for objective, own in zip(objectives, starts, strict=True) for start in own]
    ended = dreams_of(host, jobs, budget=budget, allowed=allowed, seed=seed)
    if len(ended) < len(jobs):
        return []
    told = essentials_of(host, [objective for objective, _ in jobs], ended)
    near = Nearness(host)
    found = []
    for number in range(len(objectives)):
        own = tuple(told[number * len(starts[0]) : (number + 1) * len(starts[0])])
        spread = deviations[number]
        found.append(
            Compared(
                own,
                (
                    (max(one.whole.score for one in own) - means[number]) / spread if spread > 0 else 0.0,
                    fmean(len(one.kept) for one in own),
                    fmean([near(a.ids, b.ids) for a, b in combinations(own, 2)] or [0.0]),
                    fmean(near(one.ids, peaks(best[number])) for one in own),
                ),
            )
        )
    return found


def standing(unit: Compared, placebos: Sequence[Compared]) -> Standing:
    """Where a unit stands."""
    return Standing(
        tuple(
            Measure(name, higher, unit.values[i], tuple(one.values[i] for one in placebos))
            for i, (name, higher) in enumerate(MEASURES)
        )
    )


def best_of(
    host: Host, goals: Sequence[Objective], texts: Texts, column: str | None = None, top: int = SENTENCES
) -> tuple[CorpusResult, ...]:
    """The best sentences of a corpus for each of several objectives."""
    found = corpus_search(host, list(goals), texts, top=top, column=column, progress=False)
    assert isinstance(found, tuple)
    return found


def peaks(found: CorpusResult) -> list[int]:
    """The tokens at which the best sentences fire, and those beside them."""
    ids = []
    for hit in found.top:
        at = hit.pos or 0
        ids += [hit.ids[i] for i in range(max(1, at - 1), min(len(hit.ids) - 1, at + 2))]
    return ids


class Nearness:
    """How near two sets of tokens lie in embedding space, from which the mean of all tokens is taken away: every one's
    cosine to the nearest of the others, in the mean of both ways. 0 where one is empty."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._middle = host.W_E.float().mean(0)

    def _directions(self, ids: Iterable[int]) -> Tensor:
        rows = self._host.W_E[torch.tensor(sorted(set(ids)), device=self._host.device)].float()
        return torch.nn.functional.normalize(rows - self._middle, dim=1)

    def __call__(self, one: Sequence[int], other: Sequence[int]) -> float:
        if not one or not other:
            return 0.0
        cosines = self._directions(one) @ self._directions(other).T
        return float(cosines.amax(1).mean() + cosines.amax(0).mean()) / 2


WORDS = 8
"""Tokens of a sentence of the corpus that a dream starts from."""


def starts_of(
    host: Host, goal: Objective, best: CorpusResult, sentences: Sequence[Sentence], wanted: int, seed: int
) -> list[str]:
    """Where dreams of an objective start: the best sentence of the corpus around its peak, then the first words of
    sentences drawn at random, that have the places the objective reads.

    Raises:
        DreamError: there is none.
    """
    around = _around(host, best.top[0])
    found = [*islice((text for text in around if _fits(host, goal, text)), 1)]
    order = random.Random(seed).sample(list(sentences), len(sentences))
    for sentence in sorted(order, key=lambda one: len(one) - sum(one.special) < WORDS):  # short lines last
        words = [i for i, special in zip(sentence.ids, sentence.special, strict=True) if not special]
        text = host.vocabulary.decode(words[: max(WORDS, _reach(goal))])
        if text not in found and _fits(host, goal, text):
            found.append(text)
        if len(found) == wanted:
            break
    require(
        bool(found),
        f"no sentence of the corpus has the place that {goal} reads: give prompt=, a sentence to start from",
    )
    return [found[i % len(found)] for i in range(wanted)]


def _around(host: Host, hit: CorpusHit) -> Iterator[str]:
    """Windows on a sentence around its peak that begin with a word, nearest to the middle first."""
    last, pos = len(hit.ids) - 1, hit.pos or 0
    ideal = min(max(1, pos - WORDS // 2), max(1, last - WORDS))
    for first in sorted(range(max(1, pos - WORDS + 1), max(2, pos + 1)), key=lambda at: (abs(at - ideal), at)):
        window = (hit.ids[0], *hit.ids[first : min(last, first + WORDS)], hit.ids[last])
        if host.vocabulary.retokenizes([window])[0]:
            yield host.vocabulary.decode(window)


def _reach(goal: Objective) -> int:
    """How many words a text needs to have the position that is read."""
    pos = goal.where[0]
    return pos + 1 if isinstance(pos, int) else 0


def _fits(host: Host, goal: Objective, text: str) -> bool:
    try:
        return bool(host.vocabulary.locate(host.vocabulary.read(text), goal.where[0]))
    except DreamError:
        return False
