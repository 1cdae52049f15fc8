"""`minimal_dream`: the fewest words that reach a score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tl_dream._arguments import Number, Whole, finite_number, is_whole, listed, seed_number, whole_number
from tl_dream._errors import DreamError, keeping, require
from tl_dream.dreaming import dream
from tl_dream.models import Host, attached
from tl_dream.objectives import Objective, check
from tl_dream.portraits.ablation import Slots, fewest, scored
from tl_dream.portraits.diversity import dreams_of
from tl_dream.results import CorpusResult, Dream, MinimalDream, ScoredText
from tl_dream.search import Batch, Progress, Search, run
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Prompt, Sentence

BUDGET = 100_000
"""Forward-tokens a search."""


def minimal_dream(
    model: Any,
    objective: Objective,
    text: str | Prompt | None = None,
    *,
    above: Number | CorpusResult | Dream,
    share: Number = 0.9,
    longest: Whole = 12,
    budget: Whole = BUDGET,
    seconds: Number | None = None,
    allowed: Allowed = DEFAULT_ALLOWED,
    seed: Whole = 0,
) -> MinimalDream:
    """The fewest words of a sentence that must change for it to reach a score; without a sentence, the shortest text.

    From a sentence: a dream of all its words, of which as few changes are kept as will do, then dreams of fewer changes
    until one falls short. From nothing: dreams of 1, 2, ... words side by side; the one word is the best of all.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to climb.
        text: the sentence; None for the shortest text.
        above: the score to reach: a number, a corpus search (its best sentence's), or a dream (a share of its own).
        share: of a dream's score, above 0 and at most 1; of no account elsewhere.
        longest: words of a text from nothing, at most.
        budget: forward-tokens a search. Where it covers every text of so few changes, all are tried, and the result
            says that no fewer do: with one change free words x allowed tokens sentences.
        seconds: to take at most, by the wall clock; the best by then is the result, and `stopped` is "seconds".
        allowed: tokens that may be written.
        seed: of the local random generators.

    Returns:
        `reached` is False where the score was not reached; `best` is the highest then.

    Raises:
        DreamError: a share of a score that is not above 0, an objective that reads a word where there is no sentence,
            or bad input (see the message).
        DreamError, KeyboardInterrupt: what ends it after some work (Ctrl-C too) brings the best so far, as its
            `partial`.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3, pos=2)
        >>> found = td.minimal_dream(bert, goal, "the red dog is a cat", above=0.5, budget=2_000)
        >>> found.reached == (found.best.score >= 0.5)
        True
    """
    longest, budget, seed = whole_number("longest", longest), whole_number("budget", budget), seed_number(seed)
    wanted = _wanted(above, share)
    options = {"budget": budget, "allowed": allowed, "seed": seed}
    with attached(model, seconds) as host:
        before = host.meter.now()
        check(host, objective)
        found = _Found(text is not None)

        def result(stopped: str) -> MinimalDream:
            assert found.best is not None
            return MinimalDream(
                model=host.name,
                objective=repr(objective),
                start=found.start,
                best=found.best,
                changed=found.changed,
                above=wanted,
                reached=found.best.score >= wanted,
                minimal=found.minimal,
                seed=seed,
                cost=host.meter.now() - before,
                stopped=stopped,
            )

        def so_far(inner: Any, why: str) -> MinimalDream:
            if found.best is None:  # in its first search, whose dream so far the error brings
                found.take(max(listed(inner), key=lambda one: one.best.score))
            return result(why)

        with keeping(so_far):
            if text is None:
                _shortest(host, objective, wanted, longest, options, found)
            else:
                _fewest_changes(host, objective, text, host.vocabulary.read(text), wanted, options, found)
            return result("seconds" if host.late and not found.minimal else "complete")


@dataclass
class _Found:
    """The best so far.

    Attributes:
        changes: whether words of a sentence are changed, or all are written.
        written: the positions that were, where all are.
        minimal: it is certain that fewer do not.
    """

    changes: bool
    start: ScoredText | None = None
    best: ScoredText | None = None
    written: tuple[int, ...] = ()
    minimal: bool = False

    def take(self, dream: Dream) -> None:
        self.start = dream.start if self.changes else None
        self.best, self.written = dream.best, tuple(dream.prompt["free"])

    @property
    def changed(self) -> tuple[int, ...]:
        if self.start is None or self.best is None:
            return self.written
        return _changed(self.start.ids, self.best.ids)


def _wanted(above: Any, share: Any) -> float:
    share = finite_number("share", share, "a share above 0 and at most 1", lambda value: 0 < value <= 1)
    if isinstance(above, CorpusResult):
        require(bool(above.top), "above= is a corpus search without a sentence: give the score as a number")
        return above.top[0].score
    if isinstance(above, Dream):
        require(
            above.best.score > 0,
            f"above= is a dream that scores {above.best.score:.4f}, and a share of that says nothing: give a score "
            "instead",
        )
        return share * above.best.score
    return finite_number("above", above, "a score, a corpus search or a dream")


def _changed(old: Sequence[int], new: Sequence[int]) -> tuple[int, ...]:
    return tuple(i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b)


def _fewest_changes(
    host: Host, objective: Objective, text: str | Prompt, sentence: Sentence, wanted: float, options: Any, found: _Found
) -> None:
    """The text with the fewest changes."""

    def there(progress: Progress) -> bool:
        return progress.best_scores[0] >= wanted

    whole = dream(host, objective, text, progress=False, **options)
    found.take(whole)
    if whole.start.score >= wanted:
        found.best, found.minimal = whole.start, True
        return
    if whole.best.score < wanted:
        found.minimal = whole.stopped == "complete"
        return
    found.best = _pruned(host, objective, sentence, whole.best.ids, wanted)
    while True:
        count = len(found.changed)
        one = count == 1  # the best of these, not the first that does
        tried = dream(
            host,
            objective,
            text,
            max_changes=max(1, count - 1),
            callback=None if one else there,
            progress=False,
            **options,
        )
        if one:
            found.best, found.minimal = max(found.best, tried.best, key=lambda best: best.score), True
            return
        if tried.best.score < wanted:
            found.minimal = tried.stopped == "complete"
            return
        found.best = _pruned(host, objective, sentence, tried.best.ids, wanted)


def _pruned(host: Host, objective: Objective, sentence: Sentence, ids: Sequence[int], wanted: float) -> ScoredText:
    """A text with as few of its changes as still reach the score. One that its text does not tokenize back to is none,
    unless the sentence itself is such."""
    places = _changed(sentence.ids, ids)
    (bound,) = host.vocabulary.retokenizes([sentence.ids])

    def text_of(kept: Slots) -> list[int]:
        made = list(sentence.ids)
        for slot in kept:
            made[places[slot]] = ids[places[slot]]
        return made

    batch = Batch.of(host, [sentence], host.vocabulary.allowed(DEFAULT_ALLOWED), retokenize=False)

    def scores(sets: Iterable[Slots]) -> Search[list[float]]:
        rows = [tuple(text_of(kept)) for kept in sets]
        values = yield from scored(host, objective, batch, rows)
        good = host.vocabulary.retokenizes(rows) if bound else [True] * len(rows)
        return [value if ok else -math.inf for value, ok in zip(values, good, strict=True)]

    every = frozenset(range(len(places)))
    if run(host, scores([every]))[0] < wanted:  # it was just enough, and rounding decides
        return host.scored_text(ids, wanted)
    kept, value, _ = run(host, fewest(scores, len(places), wanted, 2000))
    return host.scored_text(text_of(kept), value)


def _shortest(host: Host, objective: Objective, wanted: float, longest: int, options: Any, found: _Found) -> None:
    """The shortest text that reaches a score."""
    words = host.vocabulary.allowed(f"{DEFAULT_ALLOWED} ascii whole_words").nonzero().flatten().tolist()
    frame = host.vocabulary.encode("")
    middle = len(frame) - (1 if len(frame) > 1 and not host.causal else 0)
    lengths, prompts = [], []
    for length in range(1, min(longest, host.n_ctx - len(frame)) + 1):
        ids = (*frame[:middle], *[words[len(words) // 2]] * length, *frame[middle:])
        if _readable(host, objective, ids):
            lengths.append(length)
            prompts.append(Prompt(ids=ids))
    require(
        bool(lengths),
        f"{objective} reads a place that no text of up to {longest} words has: give a text, or a larger longest=",
    )
    single = [dream(host, objective, prompts[0], allowed=options["allowed"], progress=False)] if lengths[0] == 1 else []
    for one in single:
        found.take(one)
    dreams = single
    if not any(one.best.score >= wanted for one in single):
        dreams = single + dreams_of(host, [(objective, prompt) for prompt in prompts[len(single) :]], **options)
    there = [at for at, one in enumerate(dreams) if one.best.score >= wanted]
    shorter = dreams[: there[0]] if there else []
    found.take(dreams[there[0]] if there else max(dreams, key=lambda one: one.best.score))
    found.minimal = bool(there) and lengths[0] == 1 and all(one.stopped == "complete" for one in shorter)


def _readable(host: Host, objective: Objective, ids: Sequence[int]) -> bool:
    """Whether a text of fillers has the places that an objective reads, and has them among its words."""
    sentence = host.vocabulary.read(Prompt(ids=ids))
    pos = objective.where[0]
    if objective.per_token is None or pos is None:
        return True
    require(
        not isinstance(pos, str) or pos == "all",
        f"{objective} reads the word {pos!r}, and there is no sentence to find it in: give a text, or a position",
    )
    try:
        places = host.vocabulary.locate(sentence, pos)
    except DreamError:
        return False
    return not is_whole(pos) or not sentence.special[places[0]]
