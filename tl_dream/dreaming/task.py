"""A dream by any of the methods, as a search that the engine runs alone or beside others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from tqdm.auto import tqdm

from tl_dream._arguments import MOST_STARTS, Whole, check_callable, flag, one_of, plain, seed_number, whole_number
from tl_dream._errors import require
from tl_dream.dreaming.annealing import Annealing
from tl_dream.dreaming.ascent import ascend
from tl_dream.dreaming.automatic import Auto, search_automatically
from tl_dream.dreaming.coordinate_gradient import EPO, GCG, Population, default_judge, run_gcg
from tl_dream.dreaming.projection import PEZ, project
from tl_dream.models import Host
from tl_dream.objectives import Objective, check, normalized
from tl_dream.results import Dream
from tl_dream.search import (
    BUDGET,
    Batch,
    BestSeen,
    Budget,
    Callback,
    Outcome,
    Search,
    StepCosts,
    SwapSearch,
    Tick,
    allowed_tokens,
    best_words,
    budget_bar,
    finish,
    read_prompts,
)
from tl_dream.text import Allowed, Positions

Method = Auto | Annealing | GCG | EPO | PEZ
"""How to search: one of these, with its settings."""

METHODS: dict[str, Method] = {"auto": Auto(), "anneal": Annealing(), "gcg": GCG(), "epo": EPO(), "pez": PEZ()}
"""Their names, which stand for the default settings."""


def method_of(method: Any) -> Method:
    """The settings that are meant by a method's name or by themselves.

    Raises:
        DreamError: an unknown method.
    """
    if isinstance(method, Method):
        return method
    kinds = " or ".join(f"td.{type(known).__name__}(...)" for known in METHODS.values())
    require(isinstance(method, str), f"method = {method!r:.80}: give a name ({', '.join(METHODS)}), or {kinds}")
    return METHODS[one_of("method", method, METHODS)]


@dataclass(frozen=True, eq=False)
class DreamTask:
    """What is asked of a dream, whatever it climbs and wherever it starts.

    Attributes:
        method: how to search.
        name: the method's.
        budget: forward-tokens; None as in `dream`.
        starts, allowed, banned, max_changes, retokenize, seed: as in `dream`.
    """

    method: Method
    budget: int | None
    starts: int
    allowed: Allowed
    banned: Any
    max_changes: int | None
    retokenize: bool
    seed: int

    @classmethod
    def of(
        cls,
        method: Any,
        *,
        budget: Whole | None,
        starts: Whole,
        allowed: Allowed,
        banned: Iterable[Any] | None,
        max_changes: Whole | None,
        retokenize: bool,
        seed: Whole,
    ) -> DreamTask:
        """The arguments of a door, checked.

        Raises:
            DreamError: bad input (see the message).
        """
        return cls(
            method_of(method),
            None if budget is None else whole_number("budget", budget),
            whole_number("starts", starts, most=MOST_STARTS),
            plain(allowed),
            plain(banned),
            None if max_changes is None else whole_number("max_changes", max_changes),
            flag("retokenize", retokenize),
            seed_number(seed),
        )

    @property
    def name(self) -> str:
        return next(name for name, known in METHODS.items() if type(known) is type(self.method))

    def search(
        self,
        host: Host,
        objective: Any,
        prompt: Any,
        free: Positions = None,
        *,
        callback: Callback | None = None,
        progress: bool | None = False,
        front: bool = False,
    ) -> Search[Any]:
        """The search for a `Dream`, or with `front` for the whole `Frontier` of EPO.

        Raises:
            DreamError: bad input, where the search begins.
        """
        check(host, objective)
        check_callable("callback", callback, "a function of a Progress")
        sentences = [one for one in read_prompts(host, prompt, free) for _ in range(self.starts)]
        mask = allowed_tokens(host.vocabulary, objective, self.allowed, self.banned)
        batch = Batch.of(host, sentences, mask, self.retokenize, self.max_changes)
        one = _Dreaming(host, objective, batch, self, callback, progress)
        return (yield from one.search(front))


@dataclass(eq=False)
class _Dreaming:
    """One dream under way."""

    host: Host
    objective: Objective
    batch: Batch
    task: DreamTask
    callback: Callback | None
    progress: bool | None

    def search(self, front: bool) -> Search[Any]:
        task, batch, before = self.task, self.batch, self.host.meter.now()
        method = task.method
        told = {field.name: getattr(method, field.name) for field in fields(method)}
        made: Callable[[Dream], Any] = lambda best: best  # noqa: E731
        match method:
            case Annealing():
                outcome, annealing = yield from self._anneal(method)
                told = asdict(annealing)
            case PEZ():
                limit = task.budget or math.inf
                outcome = yield from self._swaps(
                    lambda search, tick: project(search, method, **self._told(tick)), limit
                )
            case EPO():
                judge, crowds = default_judge(self.host, method), list[Population]()

                def evolve(search: SwapSearch, tick: Tick) -> Search[str]:
                    crowds.append(Population(search, method, judge, task.seed))
                    return crowds[0].evolve(**self._told(tick))

                outcome = yield from self._swaps(evolve)
                told |= {"penalties": list(crowds[0].penalties), "fluency": None if judge is None else repr(judge)}
                made = crowds[0].frontier if front else made
            case GCG():
                outcome = yield from self._swaps(lambda search, tick: run_gcg(search, method, **self._told(tick)))
            case Auto() if task.budget is None and all(len(one.free) == 1 for one in batch.sentences):
                outcome = yield from self._swaps(lambda search, tick: best_words(search, **self._told(tick)), math.inf)
                told = {"search": "every allowed token, as token_search"}
            case Auto():
                outcome = yield from self._swaps(
                    lambda search, tick: search_automatically(search, method, seed=task.seed, **self._told(tick))
                )
                told = {"search": "rounds and swaps", **asdict(method)}
        settings = {
            "method": task.name,
            **told,
            "budget": task.budget,
            "starts": task.starts,
            "sentences": len(batch.sentences) // task.starts,
            "allowed": task.allowed if isinstance(task.allowed, str) else f"{int(batch.allowed.sum())} tokens",
            "max_changes": task.max_changes,
            "retokenize": task.retokenize,
        }
        return finish(
            self.host, self.objective, batch, outcome, settings=settings, seed=task.seed, before=before, made=made
        )

    def _told(self, tick: Tick) -> dict[str, Any]:
        """Who is told of every step."""
        return {"callback": self.callback, "tick": tick}

    def _anneal(self, settings: Annealing) -> Search[tuple[Outcome, Annealing]]:
        climb = normalized(self.objective) if settings.normalize else self.objective
        budget = Budget(self.host.meter, self.task.budget)
        seen = yield from BestSeen.of(self.host, self.objective, self.batch)
        steps = None
        if self.task.budget is not None and settings.steps is None:  # as many as it pays for
            prices = StepCosts.of(self.host, self.objective, climb, self.batch, seen)
            steps = prices.steps(budget.left, settings.evaluate_every, settings.narrows(self.batch.allowed))
        settings = settings.lasting(steps)
        disable = None if self.progress is None else not self.progress
        with tqdm(total=settings.steps, disable=disable, desc="dream", leave=False) as bar:

            def tick(step: int, best: float) -> None:
                bar.update(step - bar.n)
                bar.set_postfix(best=f"{best:.3f}")

            found = yield from ascend(
                self.host,
                self.objective,
                self.batch,
                settings,
                climb=climb,
                seed=self.task.seed,
                copies=[row % self.task.starts for row in range(len(self.batch.sentences))],
                callback=self.callback,
                tick=tick,
                budget=budget,
                seen=seen,
            )
        return found, settings

    def _swaps(self, method: Callable[[SwapSearch, Tick], Search[str]], limit: float | None = None) -> Search[Outcome]:
        """A search over real tokens.

        Args:
            limit: forward-tokens; None takes the budget, or 400,000.
        """
        budget = Budget(self.host.meter, limit or self.task.budget or BUDGET)
        with budget_bar(budget, self.progress) as show:
            search = yield from SwapSearch.of(self.host, self.objective, self.batch, budget, self.task.seed)
            tick: Tick = lambda: show(max(best.score for best in search.seen.best))  # noqa: E731
            return (yield from Outcome.of(search, method(search, tick)))
