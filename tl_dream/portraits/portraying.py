"""`portrait`: what a unit looks for, on one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream._arguments import Number, Whole
from tl_dream._errors import keeping, require
from tl_dream.dreaming import EPO, epo
from tl_dream.models import Host, attached
from tl_dream.objectives import Objective, check, count_bigrams, fluency, neuron, reduced
from tl_dream.portraits.commonalities import in_common
from tl_dream.portraits.comparison import (
    COMPARED,
    Choices,
    Compared,
    best_of,
    compare,
    read_choices,
    settings_of,
    standing,
    starts_of,
)
from tl_dream.portraits.diversity import HALF, dreams_of, essentials_of, reused
from tl_dream.portraits.essentials import essential_of, read_text
from tl_dream.portraits.placebos import (
    LINES,
    Texts,
    check_comparable,
    check_varies,
    directions,
    held,
    sampled,
    units_inside,
    varies,
    word_values,
)
from tl_dream.results import CorpusResult, Cost, Dream, EssentialTokens, Portrait, PortraitDream, Standing, TokenTable
from tl_dream.scans import token_search
from tl_dream.search import run
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Prompt

Unit = tuple[str, int, int]
"""A unit by hook, layer and number: ("mlp_post", 4, 414)."""

BUDGET = 30_000
"""Forward-tokens a dream."""

STARTS = 2
"""Starts of each direction that is compared."""

DIVERSE, PENALTY = 2, 0.05
"""Dreams that pay for the words of the others, and what they pay (see `diverse_dreams`)."""

BARS, TOKENS = 40, 10
"""Bars of the histogram, tokens at the place, that are kept."""


def portrait(
    model: Any,
    objective: Objective | Unit,
    corpus: Texts,
    *,
    prompt: str | Prompt | None = None,
    seeds: Whole = 3,
    placebos: Whole = 20,
    fluent: bool = True,
    tokens: bool = True,
    budget: Whole = BUDGET,
    seconds: Number | None = None,
    column: str | None = None,
    allowed: Allowed = DEFAULT_ALLOWED,
    seed: Whole = 0,
) -> Portrait:
    """What a unit looks for: its activation over a corpus and its best sentences there, dreams by seed, diverse and
    fluent ones, which of their tokens carry the score, what they have in common, the exact best tokens at the
    place that fires, and whether a random direction of the same hook would have looked the same.

    The comparison: the unit and every random direction are dreamed of in the same way with the same small budget, once
    from the best sentence of the corpus and once from a sentence drawn at random. The measures are the best dream in
    deviations above the corpus, the tokens that carry half of a dream (few say more than many), how far its dreams
    agree, and how far they agree with the corpus' best. The unit stands out by a measure that puts it beyond all
    directions, and by four deviations. That nothing distinguishes it is a result. (The directions are random, not
    mixtures of units: one of a few units of an MLP is mostly one of them, which means something.)

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: a unit, ("mlp_post", 4, 414), or an objective on one hook with a value at every position.
        corpus: as in `corpus_search`.
        prompt: the sentence that all dreams start from; None takes the best sentence of the corpus around its peak,
            then the beginnings of others drawn at random. An objective that names a word needs one.
        seeds: dreams by seed.
        placebos: random directions, at least 2; 0 leaves the comparison out.
        fluent: dream of fluent text too, by bigrams of the corpus.
        tokens: search the vocabulary for the best tokens.
        budget: forward-tokens a dream. A comparison takes 4,000 each, or as many as that.
        seconds: to take at most, by the wall clock, but for the corpus and one dream; the parts of the page that are
            not there by then are left out, and `stopped` is "seconds".
        column: of a data set, as in `corpus_search`.
        allowed: tokens that dreams may write.
        seed: of the directions, the sample of the corpus and the dreams.

    Raises:
        DreamError: an empty corpus, a unit that never varies over it, an objective that has no placebo (see `placebo`),
            or bad input (see the message).
        DreamError, KeyboardInterrupt: what ends it after the first dream (Ctrl-C too) brings the page so far, as its
            `partial`.

    Examples:
        >>> lines = ["i hate my small old house .", "the red dog sees a cat .", "we drink milk and eat fish ."]
        >>> page = td.portrait(bert, ("block_out", 1, 3), lines, placebos=4, seeds=1, fluent=False, budget=600)
        >>> page.dreams[0].kind, page.standing.distinguished in (True, False)
        ('seed 0', True)
    """
    chosen = read_choices(seeds, placebos, fluent, tokens, budget, allowed, seed)
    with attached(model, seconds) as host, keeping(lambda pages, _: pages[0] if isinstance(pages, list) else None):
        goal = as_objective(objective)
        check(host, goal)
        texts = held(corpus)
        painter = Painter(host, texts, column, prompt, chosen)
        (seen,) = painter.look([goal])
        check_varies(goal, seen.values)
        (page,) = painter.paint([seen])
        return page


def as_objective(given: Any) -> Objective:
    """An objective, or a unit (by hook, layer and number, or of `units`), as an objective."""
    if isinstance(given, tuple | list):
        require(len(given) == 3, f"a unit is {given!r}: give (hook, layer, unit), or an objective")
        return neuron(given[0], layer=given[1], unit=given[2])
    return given.objective() if hasattr(given, "objective") else given  # a `Unit` of a sweep is not known here


@dataclass(frozen=True, eq=False)
class Seen:
    """A unit on a corpus.

    Attributes:
        goal: what it climbs.
        values: what it gives at the words of a sample, Float[word].
        corpus: its best sentences; None where it never varies.
        cost: its share of that.
    """

    goal: Objective
    values: Float[Tensor, " word"]
    corpus: CorpusResult | None
    cost: Cost


class Painter:
    """Makes portraits of units over one corpus; what random directions of a hook come to is found once: `placebos`."""

    def __init__(
        self, host: Host, texts: Texts, column: str | None, prompt: str | Prompt | None, chosen: Choices
    ) -> None:
        self._host, self._texts, self._column, self._chosen = host, texts, column, chosen
        self._sentences = sampled(host, texts, LINES, chosen.seed, column)
        self._prompt = prompt
        self._judge = fluency(count_bigrams(host, [one.text for one in self._sentences])) if chosen.fluent else None
        self.placebos: dict[str, list[Compared]] = {}

    def _values(self, goals: Sequence[Objective]) -> Float[Tensor, "goal word"]:
        """What units give at the words of a sample of the corpus."""
        return word_values(self._host, goals, self._sentences).double()

    def look(self, goals: Sequence[Objective], known: Sequence[CorpusResult] | None = None) -> list[Seen]:
        """Units on the corpus, which is gone through once for all of them unless their best sentences are known."""
        before = self._host.meter.now()
        for goal in goals:
            check_comparable(goal)
        values = self._values(goals)
        best = best_of(self._host, goals, self._texts, self._column) if known is None else known
        cost = _share(self._host.meter.now() - before, len(goals))
        seen = zip(goals, values, best, strict=True)
        return [Seen(goal, own, corpus if varies(own) else None, cost) for goal, own, corpus in seen]

    def paint(self, seen: Sequence[Seen]) -> list[Portrait]:
        """Portraits of units that vary, whose dreams go on side by side."""
        host, chosen = self._host, self._chosen
        before = host.meter.now()
        goals, values = [one.goal for one in seen], torch.stack([one.values for one in seen])
        corpora = [one.corpus for one in seen if one.corpus is not None]
        starts = [self._starts(goal, corpus) for goal, corpus in zip(goals, corpora, strict=True)]
        dreams: list[list[Dream]] = [[] for _ in goals]
        others: list[list[Compared]] = [[] for _ in goals]
        compared: list[Compared] = []

        def pages(stopped: str) -> list[Portrait]:
            made = []
            for i, goal in enumerate(goals):
                placed = standing(compared[i], others[i]) if compared and others[i] else None
                chance = [dream for one in others[i] for dream in one.dreams]
                made.append(self._page(goal, corpora[i], values[i], starts[i][0], dreams[i], placed, chance))
            cost = _share(host.meter.now() - before, len(goals))
            return [replace(page, cost=cost + one.cost, stopped=stopped) for page, one in zip(made, seen, strict=True)]

        def so_far(_: Any, why: str) -> list[Portrait]:
            host.meter.ends = 0.0  # nothing new is begun
            return pages(why)

        def take(found: Sequence[Dream]) -> None:
            for number, one in enumerate(found):
                dreams[number % len(goals)].append(one)

        def dream(climbed: Sequence[Objective], numbers: Sequence[int]) -> None:
            jobs = [
                (goal, own[number % chosen.seeds], chosen.seed + number)
                for number in numbers
                for goal, own in zip(climbed, starts, strict=True)
            ]
            with keeping(lambda found, why: take(found) if why == "interrupted" else None):
                take(dreams_of(host, jobs, budget=chosen.budget, allowed=chosen.allowed))

        with keeping(so_far):
            dream(goals, range(chosen.seeds))
            for number in range(chosen.seeds, chosen.seeds + DIVERSE):
                if host.late:
                    break
                climbed = [goal - reused(host, own, PENALTY) for goal, own in zip(goals, dreams, strict=True)]
                dream(climbed, [number])
            if chosen.placebos and not host.late:
                compared, others = self._compared(goals, values)
            return pages("seconds" if host.late else "complete")

    def _page(
        self,
        goal: Objective,
        corpus: CorpusResult,
        values: Tensor,
        start: str | Prompt,
        dreams: Sequence[Dream],
        placed: Standing | None,
        chance: Sequence[EssentialTokens],
    ) -> Portrait:
        host, chosen = self._host, self._chosen
        told = essentials_of(host, [goal] * len(dreams), dreams)
        kinds = [f"seed {i}" for i in range(chosen.seeds)] + [f"diverse {i + 1}" for i in range(DIVERSE)]
        shown = [PortraitDream(kind, one) for kind, one in zip(kinds, told, strict=False)]
        shown += self._fluent(goal, start)
        at = max(range(len(told)), key=lambda i: told[i].whole.score)
        common, regions = in_common(host, told, chance)
        edges, counts = _histogram(values)
        return Portrait(
            model=host.name,
            objective=repr(goal),
            corpus=corpus,
            mean=float(values.mean()),
            deviation=float(values.std(correction=0)),
            edges=edges,
            counts=counts,
            dreams=tuple(shown),
            best=run(host, essential_of(host, goal, *read_text(host, dreams[at]), seed=chosen.seed)),
            common=common,
            neighbourhoods=regions,
            chance=len(chance),
            tokens=self._tokens(goal, dreams[at]) if chosen.tokens else None,
            standing=placed,
            settings=settings_of(chosen),
            seed=chosen.seed,
            cost=Cost(0, 0, 0.0),
        )

    def _starts(self, goal: Objective, best: CorpusResult) -> list[str | Prompt]:
        wanted = max(self._chosen.seeds, STARTS)
        if self._prompt is not None:
            return [self._prompt] * wanted
        return list(starts_of(self._host, goal, best, self._sentences, wanted, self._chosen.seed))

    def _compared(
        self, goals: Sequence[Objective], values: Float[Tensor, "goal word"]
    ) -> tuple[list[Compared], list[list[Compared]]]:
        """What units come to, and of each the random directions of its hook; of another unit there these would come to
        the same, since only their scale is the unit's."""
        host, chosen, example = self._host, self._chosen, self._sentences[0]
        inside = [units_inside(host, goal, example).nonzero().tolist() for goal in goals]
        keys = [repr((goal.reads, goal.where, units)) for goal, units in zip(goals, inside, strict=True)]
        fresh = {
            key: directions(host, goal, example, chosen.placebos, "random", 0, chosen.seed)
            for key, goal in dict(zip(keys, goals, strict=True)).items()
            if key not in self.placebos
        }
        raw = [one for own in fresh.values() for one in own]
        found = self._compare([*goals, *raw], torch.cat([values, self._values(raw)]) if raw else values)
        if not found:
            return [], [[] for _ in goals]
        for number, key in enumerate(fresh):
            first = len(goals) + number * chosen.placebos
            self.placebos[key] = found[first : first + chosen.placebos]
        return found[: len(goals)], [self.placebos[key] for key in keys]

    def _compare(self, goals: Sequence[Objective], values: Float[Tensor, "goal word"]) -> list[Compared]:
        texts, chosen = [one.text for one in self._sentences], self._chosen
        best = best_of(self._host, goals, texts)
        starts = [self._starts(goal, one)[:STARTS] for goal, one in zip(goals, best, strict=True)]
        budget = min(COMPARED, chosen.budget)
        options: dict[str, Any] = {"budget": budget, "allowed": chosen.allowed, "seed": chosen.seed}
        return compare(self._host, goals, starts, values, best, **options)

    def _fluent(self, goal: Objective, start: str | Prompt) -> list[PortraitDream]:
        """The highest of the front, the most fluent, and one between."""
        if self._judge is None or self._host.late:
            return []
        method, chosen = EPO(fluency=self._judge), self._chosen
        found = epo(self._host, goal, start, method=method, budget=chosen.budget, seed=chosen.seed, progress=False)
        front = [point for point in found.front if point.fluency is not None]
        places = sorted({len(front) // 2, len(front) - 1}) if front else []
        host, sentence = self._host, self._host.vocabulary.read(start)

        def told(ids: tuple[int, ...]) -> EssentialTokens:
            return run(host, essential_of(host, goal, sentence, ids, keep=HALF, budget=0, pairs=False))

        return [PortraitDream("fluent", told(front[i].scored.ids), front[i].fluency) for i in places]

    def _tokens(self, goal: Objective, dream: Dream) -> TokenTable | None:
        """The best tokens where the dream fires most, read there alone; none where the objective names
        a word, which no dream keeps."""
        pos = goal.where[0]
        if isinstance(pos, str) and pos != "all" or self._host.late:
            return None
        ((hit,),) = [one.top for one in best_of(self._host, [goal], [dream.best.text], top=1)]
        assert goal.per_token is not None and hit.pos is not None
        there = reduced(goal.per_token, hit.pos, "max", goal.reads, f"{goal} at position {hit.pos}")
        options: dict[str, Any] = {"top": TOKENS, "allowed": self._chosen.allowed, "progress": False}
        return token_search(self._host, there, hit.text, pos=hit.pos, **options)


def _share(cost: Cost, count: int) -> Cost:
    """Of one unit among so many."""
    return Cost(cost.forwards // count, cost.forward_tokens // count, cost.seconds / count)


def _histogram(values: Tensor) -> tuple[tuple[float, ...], tuple[int, ...]]:
    counts, edges = torch.histogram(values, BARS)
    return tuple(edges.tolist()), tuple(int(count) for count in counts.tolist())
