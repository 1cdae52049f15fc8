"""`gcg` and `epo`: the searches over real tokens with all their settings. `dream` chooses them by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from tl_dream._arguments import Number, Whole, finite_fields, plain, seed_number, whole_fields, whole_number
from tl_dream.models import attached
from tl_dream.objectives import Objective, check
from tl_dream.results import Dream
from tl_dream.search import (
    Budget,
    Callback,
    Outcome,
    Search,
    Start,
    SwapSearch,
    Tick,
    budget_bar,
    finish,
    make_batch,
    run,
    run_settings,
    search_budget,
)
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Positions


@dataclass(frozen=True)
class GCGSettings:
    """The settings of greedy coordinate gradient.

    Attributes:
        candidates: sentences scored a step and start.
        top_k: tokens a position that are proposed, those of the steepest slope.
        swaps: words exchanged in one candidate during the first `early` of the budget; one after that.
        early: share of the budget, 0 to 1.
    """

    candidates: int = 64
    top_k: int = 64
    swaps: int = 4
    early: float = 0.1

    def __post_init__(self) -> None:
        whole_fields(self, candidates=1, top_k=1, swaps=1)
        finite_fields(self, "a share of the budget, 0 to 1", lambda number: 0 <= number <= 1, "early")


def gcg(
    model: Any,
    objective: Objective,
    prompt: Start,
    *,
    free: Positions = None,
    budget: Whole | None = None,
    candidates: Whole = 64,
    top_k: Whole = 64,
    swaps: Whole = 4,
    early: Number = 0.1,
    starts: Whole = 1,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Iterable[Any] | None = None,
    max_changes: Whole | None = None,
    retokenize: bool = True,
    seed: Whole = 0,
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
        DreamError: bad input, or scores or a gradient that became NaN or infinite.
        DreamError, KeyboardInterrupt: `error.partial` is the `Dream` so far, as in `dream`.
    """
    settings = GCGSettings(*map(plain, (candidates, top_k, swaps, early)))
    starts, seed = whole_number("starts", starts), seed_number(seed)
    with attached(model) as host:
        before = host.meter.now()
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
        limit = Budget(host.meter, search_budget(budget))
        with budget_bar(limit, progress, "gcg") as tick:
            search = run(host, SwapSearch.of(host, objective, batch, limit, seed))
            outcome = run(host, Outcome.of(search, run_gcg(search, settings, callback, tick)))
        told = run_settings(batch, "gcg", asdict(settings), budget=limit.limit, allowed=allowed, starts=starts)
        return finish(host, objective, batch, outcome, settings=told, seed=seed, before=before)


def run_gcg(
    search: SwapSearch, settings: GCGSettings, callback: Callback | None = None, tick: Tick | None = None
) -> Search[str]:
    """Greedy coordinate gradient on all rows of a batch, until the budget is spent.

    Returns:
        Why it stopped: "budget", "seconds", "callback", or "exhausted" where all that the gradient proposes was tried.
    """
    walkers = [search.walker(row) for row in range(len(search.batch.sentences))]
    while search.goes_on(len(walkers)):
        swaps = settings.swaps if search.budget.share < settings.early else 1
        if (yield from search.step(walkers, settings.candidates, settings.top_k, swaps=swaps)) is None:
            return "exhausted"
        if tick is not None:
            tick()
        if search.progress(callback):
            return "callback"
    return search.budget.why
