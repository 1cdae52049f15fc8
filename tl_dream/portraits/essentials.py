"""`essential`: which tokens the score of a text rests on."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

from tl_dream._arguments import Number, Whole, finite_number, seed_number, whole_number
from tl_dream._errors import keeping, require
from tl_dream.models import Host, attached
from tl_dream.objectives import Objective, check, depth
from tl_dream.portraits.ablation import Ablation, Slots, fewest
from tl_dream.results import CorpusHit, Dream, EssentialTokens, ScoredText, TokenPair
from tl_dream.search import Search, run
from tl_dream.text import Prompt, Sentence

BUDGET = 400_000
"""Forward-tokens that trying every small set may cost."""

MARKED = 0.1
"""Share of what the words add, from which on two tokens count as a pair."""

PAIRED, PAIRS = 16, 6
"""Tokens that are looked at in pairs, those that matter most; pairs that are told."""


def essential(
    model: Any,
    objective: Objective,
    text: str | Prompt | Dream | ScoredText | CorpusHit,
    *,
    replacement: str = "indifferent",
    keep: Number = 0.9,
    budget: Whole = BUDGET,
    seconds: Number | None = None,
    seed: Whole = 0,
) -> EssentialTokens:
    """Which tokens the score of a text rests on: what it loses without each, and the fewest that keep most of it.

    A token is taken away by putting something in its place, since to leave it out would move all others. What the words
    add is the score less that of the text with all of them replaced.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what is measured. A word it names is found in the text as given (of a dream, in its start).
        text: a sentence, a dream (its best text), a line of a corpus search. Of a `Prompt`, and of a dream, only the
            free words are replaced.
        replacement: "indifferent": a word that leaves the unit cold, of 32 random ones that whose score is the median
            where it stands in all free places; "mask": [MASK]; "mean": the mean of all embeddings. The default is a
            word because models read words all the time, while one that was tuned without [MASK] no longer knows it,
            a causal one has none, and no text has a mean embedding.
        keep: the share of what the words add that the essential ones keep, above 0 and at most 1.
        budget: forward-tokens that trying every set of up to four tokens may cost; those sizes it does not cover are
            left to the greedy search, and `minimal` says so.
        seconds: to take at most, by the wall clock; the sets tried by then count, and `stopped` is "seconds".
        seed: of the sample of words.

    Raises:
        DreamError: no free word, a score that is no number, or bad input (see the message).
        DreamError, KeyboardInterrupt: what ends the search for the fewest (Ctrl-C too) brings all else, as its
            `partial`.

    Examples:
        >>> goal = td.neuron("mlp_post", layer=1, unit=3, pos="dog")
        >>> found = td.essential(bert, goal, "the red dog is here .")
        >>> len(found.drops) == len(found.free) and set(found.kept) <= set(found.free)
        True
    """
    keep = finite_number("keep", keep, "a share above 0 and at most 1", lambda share: 0 < share <= 1)
    budget, seed = whole_number("budget", budget, 0), seed_number(seed)
    with attached(model, seconds) as host:
        check(host, objective)
        sentence, ids = read_text(host, text)
        return run(host, essential_of(host, objective, sentence, ids, replacement, keep, budget, seed))


def essential_of(
    host: Host,
    objective: Objective,
    sentence: Sentence,
    ids: tuple[int, ...],
    replacement: str = "indifferent",
    keep: float = 0.9,
    budget: int = BUDGET,
    seed: int = 0,
    pairs: bool = True,
) -> Search[EssentialTokens]:
    """`essential`, of tokens, as a search: those of many texts share passes.

    Args:
        sentence: says what is free, and what named positions refer to.
        ids: the text's own tokens.
        pairs: look at pairs as well.
    """
    before = host.meter.now()
    scores = Ablation(host, objective, sentence, ids, replacement, seed)
    every = frozenset(range(len(scores.free)))
    whole, base = yield from scores([every, frozenset()])
    require(
        math.isfinite(whole) and math.isfinite(base),
        f"the text {sentence.text!r} scores {whole}, and {base} with its words replaced: check the objective",
    )
    fired = None if objective.off is None else whole > objective.off
    without = yield from scores([every - {i} for i in sorted(every)])
    alone = yield from scores([frozenset([i]) for i in sorted(every)])

    def result(
        kept: Slots, score: float, minimal: bool, found: tuple[TokenPair, ...] = (), stopped: str = "complete"
    ) -> EssentialTokens:
        return EssentialTokens(
            model=host.name,
            objective=repr(objective),
            whole=host.scored_text(ids, whole),
            free=scores.free,
            replaced_by=scores.told,
            base=base,
            without=tuple(without),
            alone=tuple(alone),
            keep=keep,
            kept=tuple(scores.free[i] for i in sorted(kept)),
            kept_score=score,
            minimal=minimal,
            pairs=found,
            cost=host.meter.now() - before,
            stopped=stopped,
            fired=fired,
        )

    if whole <= base:
        return result(frozenset(), base, True)
    price, wanted = len(ids) * max(1, depth(host, objective)), base + keep * (whole - base)
    with keeping(lambda _, why: result(every, whole, False, stopped=why)):
        fewer = yield from fewest(scores, len(every), wanted, budget // price, lambda: host.late)
        paired: tuple[TokenPair, ...] = ()
        if pairs and fired is not False and not host.late:
            paired = yield from _pairs(scores, whole, base, without, alone)
    return result(*fewer, paired, "seconds" if host.late else "complete")


def read_text(host: Host, text: Any) -> tuple[Sentence, tuple[int, ...]]:
    """What is free of a text and what names in it refer to, and its tokens."""
    if isinstance(text, Dream):
        start = Prompt(ids=text.start.ids, free=text.prompt.get("free"))
        return host.vocabulary.read(start), text.best.ids
    if isinstance(text, ScoredText | CorpusHit):
        text = Prompt(ids=text.ids)
    sentence = host.vocabulary.read(text)
    return sentence, sentence.ids


def _pairs(
    scores: Ablation, whole: float, base: float, without: list[float], alone: list[float]
) -> Search[tuple[TokenPair, ...]]:
    """Tokens that matter only together, of those that matter most."""
    every, added = frozenset(range(len(alone))), whole - base
    drops, gains = [whole - value for value in without], [value - base for value in alone]
    order = sorted(every, key=lambda i: -max(drops[i], gains[i]))[:PAIRED]
    two = [frozenset(pair) for pair in combinations(sorted(order), 2)]
    together = [value - base for value in (yield from scores(two))]
    lost = [whole - value for value in (yield from scores([every - pair for pair in two]))]
    found = []
    for pair, kept, gone in zip(two, together, lost, strict=True):
        i, j = sorted(pair)
        for kind, both, single in (("both", kept, (gains[i], gains[j])), ("either", gone, (drops[i], drops[j]))):
            share = (both - single[0] - single[1]) / added
            if share >= MARKED and max(single) <= both / 2:
                found.append(TokenPair(scores.free[i], scores.free[j], kind, share))
    return tuple(sorted(found, key=lambda pair: -pair.share)[:PAIRS])
