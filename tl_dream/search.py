"""`gcg` and `epo`: the searches over real tokens with all their settings. `dream` chooses them by name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tl_dream.ascent import Callback
from tl_dream.frontier import Frontier
from tl_dream.hosts import Budget, attached
from tl_dream.objectives import Objective
from tl_dream.outcomes import Outcome, finish, receipt, scored_bar
from tl_dream.populations import Evolving, Population, judge_of
from tl_dream.prompts import DEFAULT_ALLOWED, Allowed, Positions
from tl_dream.results import Cost, Dream
from tl_dream.scoring import check
from tl_dream.starting import Start, budget_of, make_batch
from tl_dream.swapping import Swapping, Swaps, Tick


def gcg(
    model: Any,
    objective: Objective,
    prompt: Start,
    *,
    free: Positions = None,
    budget: int | None = None,
    candidates: int = 64,
    top_k: int = 64,
    swaps: int = 4,
    early: float = 0.1,
    starts: int = 1,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Sequence[str | int] | None = None,
    max_changes: int | None = None,
    retokenize: bool = True,
    seed: int = 0,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> Dream:
    """Greedy coordinate gradient (Zou et al. 2023): every step scores swaps whose tokens the gradient ranks best, and
    goes to the best of them.

    Against the paper: several words a candidate early, no sentence twice (Faster-GCG, Li et al. 2024), only sentences
    that may be returned, and the best ever seen comes back.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to climb; higher is better.
        prompt: a sentence, several, or a corpus search.
        free: the positions that may change, where the prompt is plain text; None frees every word.
        budget: forward-tokens (rows x positions x layers) to spend at most; None takes 400,000. Scoring the starts is
            the least that is ever spent.
        candidates: sentences scored a step and start.
        top_k: tokens a position that are proposed.
        swaps: words exchanged in one candidate during the first `early` of the budget; one after that.
        early: share of the budget, 0 to 1.
        starts: how often each sentence is started; all starts go on in one batch.
        allowed, banned, max_changes, retokenize, seed, callback, progress: as in `dream`.

    Raises:
        DreamError: bad input, or scores or a gradient that became NaN or infinite (`error.partial` holds the `Dream` so
            far).
    """
    began = time.perf_counter()
    settings = Swapping(candidates, top_k, swaps, early)
    with attached(model) as host:
        check(host, objective)
        batch = make_batch(
            host,
            objective,
            prompt,
            free=free,
            starts=starts,
            allowed=allowed,
            banned=banned,
            max_changes=max_changes,
            retokenize=retokenize,
        )
        limit = Budget(host.meter, budget_of(budget))
        with scored_bar(limit, progress, "gcg") as tick:
            search = Swaps(host, objective, batch, limit, seed)
            outcome = Outcome.of(search, lambda: descend(search, settings, callback, tick))
        told = receipt(batch, "gcg", asdict(settings), budget=limit.limit, allowed=allowed, starts=starts)
        return finish(host, objective, batch, outcome, settings=told, seed=seed, began=began)


def descend(search: Swaps, settings: Swapping, callback: Callback | None = None, tick: Tick | None = None) -> str:
    """Greedy coordinate gradient on all rows of a batch, until the budget is spent.

    Returns:
        Why it stopped: "budget", "callback", or "exhausted" where all that the gradient proposes was tried.
    """
    walkers = [search.walker(row) for row in range(len(search.batch.sentences))]
    while search.goes_on(3 * len(walkers)):  # a gradient and one sentence each
        swaps = settings.swaps if search.budget.share < settings.early else 1
        if search.step(walkers, settings.candidates, settings.top_k, swaps=swaps) is None:
            return "exhausted"
        if tick is not None:
            tick()
        if search.progress(callback):
            return "callback"
    return "budget"


def epo(
    model: Any,
    objective: Objective,
    prompt: Start,
    *,
    fluency: Objective | None = None,
    free: Positions = None,
    budget: int | None = None,
    population: int = 8,
    penalties: Sequence[float] | None = None,
    children: int = 16,
    top_k: int = 64,
    restart_every: int = 30,
    starts: int = 1,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Sequence[str | int] | None = None,
    max_changes: int | None = None,
    retokenize: bool = True,
    seed: int = 0,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> Frontier:
    """Evolutionary prompt optimization (Thompson et al. 2024): the front of activation against fluency.

    A population whose members weigh fluency differently. Every generation each member has children by swaps that the
    gradient of its own mixture ranks; then every weight takes the best of all children. Now and then all start again
    from one of them.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to climb; higher is better.
        prompt: a sentence, several, or a corpus search.
        fluency: what it is traded against (see `fluency`); None takes the model's own head where it is trained, else
            nothing: then all members climb the objective alone.
        free: the positions that may change, where the prompt is plain text; None frees every word.
        budget: forward-tokens (rows x positions x layers) to spend at most, the judge's included; None takes 400,000.
            Scoring the starts is the least that is ever spent.
        population: members.
        penalties: a weight of the fluency for every member, in units of the objective a nat, instead of `population`;
            None spreads them from 0 to 3 times the ratio of the scores' standard deviations among the first children.
            Where there is no fluency to weigh, only 0 will do.
        children: of a member a generation.
        top_k: tokens a position that are proposed.
        restart_every: generations between two restarts.
        starts: how often each sentence is started; the population is dealt out to them.
        allowed, banned, max_changes, retokenize, seed, callback, progress: as in `dream`.

    Raises:
        DreamError: bad input, or scores, fluency or a gradient that became NaN or infinite (`error.partial` holds the
            `Dream` so far, without the front).
    """
    began = time.perf_counter()
    settings = Evolving(population, None if penalties is None else tuple(penalties), children, top_k, restart_every)
    with attached(model) as host:
        check(host, objective)
        judge = judge_of(host, fluency, settings.penalties)
        batch = make_batch(
            host,
            objective,
            prompt,
            free=free,
            starts=starts,
            allowed=allowed,
            banned=banned,
            max_changes=max_changes,
            retokenize=retokenize,
        )
        limit = Budget(host.meter, budget_of(budget))
        with scored_bar(limit, progress, "epo") as tick:
            search = Swaps(host, objective, batch, limit, seed)
            crowd = Population(search, settings, judge, seed)
            outcome = Outcome.of(search, lambda: crowd.evolve(callback, tick))
        told = receipt(batch, "epo", asdict(settings), budget=limit.limit, allowed=allowed, starts=starts)
        told["penalties"] = list(crowd.penalties)
        best = finish(host, objective, batch, outcome, settings=told, seed=seed, began=began)
        return Frontier(
            model=best.model,
            objective=best.objective,
            fluency=repr(judge) if judge is not None else None,
            settings=told,
            seed=seed,
            start=crowd.point(best.start),
            front=crowd.front,
            cost=Cost(best.cost.forwards, best.cost.forward_tokens, time.perf_counter() - began),
            stopped=best.stopped,
        )
