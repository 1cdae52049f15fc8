"""`diverse_dreams`: several dreams of a unit that share few tokens, and what they have in common all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from tl_dream._arguments import Number, Whole, finite_number, listed, seed_number, whole_number
from tl_dream._errors import keeping, require
from tl_dream.dreaming import dream_many, in_order
from tl_dream.models import Host, attached
from tl_dream.objectives import TOKENS, Activations, BatchContext, Objective, check
from tl_dream.portraits.commonalities import in_common
from tl_dream.portraits.essentials import essential_of, read_text
from tl_dream.results import DiverseDreams, Dream, EssentialTokens
from tl_dream.search import run_all
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Prompt

BUDGET = 60_000
"""Forward-tokens a dream."""

SIDE_BY_SIDE = 64
"""Dreams whose essential tokens are looked for at once."""

HALF = 0.5
"""Share of a dream that its essential tokens carry here. The rest of a search's gain is spread over all words."""

MOST = 0.3
"""Share of what a dream gains that writing a token again costs at most, in however many dreams it was."""


def diverse_dreams(
    model: Any,
    objective: Objective,
    prompt: str | Prompt,
    *,
    count: Whole = 6,
    penalty: Number = 0.05,
    placebos: Iterable[Objective] = (),
    budget: Whole = BUDGET,
    seconds: Number | None = None,
    allowed: Allowed = DEFAULT_ALLOWED,
    seed: Whole = 0,
) -> DiverseDreams:
    """Several dreams of an objective, each of which pays for tokens that earlier ones wrote; what they have in common
    after all is what the objective asks for.

    The penalty only steers the search: every score is the objective's own, of real tokens. Each dream's essential
    tokens are those that carry half of it, as `essential` finds them. One is in common where it is essential in more
    dreams than chance has it, as counted in dreams of random directions (Fisher's exact test, at 5% for all tokens
    together); so are near tokens (the ten nearest in embedding space).

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to dream of.
        prompt: the sentence that each dream starts from.
        count: dreams.
        penalty: what a token costs that was written before, once a dream, as a share of the most that a dream gained so
            far, 0 to 1; 0.3 of it at most.
        placebos: directions to count chance from (see `placebo`), each dreamed once; without any nothing is compared.
        budget: forward-tokens a dream.
        seconds: to take at most, by the wall clock; the dreams by then are the result, and `stopped` is "seconds".
        allowed: tokens that free positions may take.
        seed: of the first dream.

    Raises:
        DreamError: bad input (see the message).
        DreamError, KeyboardInterrupt: what ends it after some work (Ctrl-C too) brings the dreams so far, as its
            `partial`.

    Examples:
        >>> unit = td.neuron("block_out", layer=1, unit=3)
        >>> len(td.diverse_dreams(bert, unit, "a small cat is here", count=2, budget=1_000).dreams)
        2
    """
    count, budget, seed = whole_number("count", count), whole_number("budget", budget), seed_number(seed)
    penalty = finite_number("penalty", penalty, "a share from 0 to 1", lambda share: 0 <= share <= 1)
    fakes = list(placebos)
    with attached(model, seconds) as host:
        before = host.meter.now()
        for one in (objective, *fakes):
            check(host, one)
        options = {"budget": budget, "allowed": allowed}
        found: list[Dream] = []
        chance: list[Dream] = []

        def result(stopped: str) -> DiverseDreams:
            told = essentials_of(host, [objective] * len(found), found)
            common, regions = in_common(host, told, essentials_of(host, fakes[: len(chance)], chance))
            return DiverseDreams(
                model=host.name,
                objective=repr(objective),
                start=found[0].start,
                dreams=tuple(told),
                common=common,
                neighbourhoods=regions,
                chance=len(chance),
                settings={"count": count, "penalty": penalty, "budget": budget},
                seed=seed,
                cost=host.meter.now() - before,
                stopped=stopped,
            )

        def so_far(inner: Any, why: str) -> DiverseDreams:
            found.extend([] if found else listed(inner)[:1])
            return result(why)

        with keeping(so_far):
            jobs = [(one, prompt) for one in (objective, *fakes)]
            dreams = dreams_of(host, jobs, seed=seed, **options)
            found.append(dreams[0])
            chance.extend(dreams[1:])
            while len(found) < count and not host.late:
                climbed = objective - reused(host, found, penalty)
                found += dreams_of(host, [(climbed, prompt)], seed=seed + len(found), **options)
            return result("seconds" if host.late else "complete")


def dreams_of(host: Host, jobs: Sequence[Any], **options: Any) -> list[Dream]:
    """Dreams side by side, in the order of the jobs; only of the first of them where it gets late.

    Raises:
        BaseException: as `in_order`.
    """
    return list(in_order(dream_many(host, jobs, progress=False, **options)))


def essentials_of(host: Host, objectives: Sequence[Objective], dreams: Sequence[Dream]) -> list[EssentialTokens]:
    """The tokens that carry half of each dream, found greedily and without pairs: a portrait needs those of many."""
    searches = (
        essential_of(host.apart(), objective, *read_text(host, one), keep=HALF, budget=0, pairs=False)
        for objective, one in zip(objectives, dreams, strict=True)
    )
    return run_all(host, searches, SIDE_BY_SIDE)


def reused(host: Host, dreams: Sequence[Dream], penalty: float) -> Objective:
    """What a sentence pays for tokens that dreams wrote before, once a token, however often it has it.

    Args:
        penalty: a token and dream, as a share of the most that a dream gained.
    """
    require(bool(dreams), "no dream was there before")
    gain = max(0.0, *(one.gain for one in dreams))
    wrote = Counter(token for one in dreams for token in {one.best.ids[i] for i in one.prompt["free"]})
    price = torch.zeros(host.d_vocab, dtype=host.W_E.dtype, device=host.device)
    for token, times in wrote.items():
        price[token] = gain * min(MOST, penalty * times)

    def score(acts: Activations, rows: BatchContext) -> Tensor:
        tokens = acts[TOKENS]
        if tokens.weights is not None:
            return tokens.weights.masked_fill(~rows.words[..., None], 0).amax(1).to(price) @ price
        there = price.new_zeros(len(tokens.ids), len(price))
        return there.scatter_reduce(1, tokens.ids, rows.words.to(price), "amax") @ price

    return Objective((TOKENS,), f"reused({len(wrote)} tokens)", score)
