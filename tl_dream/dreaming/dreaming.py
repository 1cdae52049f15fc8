"""`dream`: the front door."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from tqdm.auto import tqdm

from tl_dream._arguments import Number, Whole, one_of, plain, seed_number, whole_number
from tl_dream._errors import require
from tl_dream.dreaming.annealing import PRESETS, annealing_settings
from tl_dream.dreaming.ascent import ascend
from tl_dream.dreaming.automatic import AUTO, search_automatically
from tl_dream.dreaming.coordinate_gradient import GCGSettings, run_gcg
from tl_dream.dreaming.population import EPOSettings, Population, default_judge
from tl_dream.dreaming.projection import PEZSettings, project
from tl_dream.models import Host, attached
from tl_dream.objectives import Objective, check, normalized
from tl_dream.results import CorpusResult, Dream
from tl_dream.search import (
    Batch,
    BestSeen,
    Budget,
    Callback,
    Outcome,
    Search,
    StepCosts,
    SwapSearch,
    Tick,
    best_words,
    budget_bar,
    finish,
    make_batch,
    run,
    run_settings,
    search_budget,
)
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Positions, Prompt

METHODS = ("auto", "anneal", "gcg", "epo", "pez")


def dream(
    model: Any,
    objective: Objective,
    prompt: str | Prompt | Iterable[str | Prompt] | None = None,
    *,
    free: Positions = None,
    method: str = "auto",
    budget: Whole | None = None,
    fluency: Objective | None = None,
    start: str | CorpusResult | None = None,
    starts: Whole = 1,
    preset: str | None = None,
    steps: Whole | None = None,
    start_weight: Number | None = None,
    learning_rate: Number | None = None,
    schedule: str | None = None,
    temperature: Iterable[Number] | None = None,
    warmup: Whole | None = None,
    noise: bool | None = None,
    straight_through: bool | None = None,
    candidates: Whole | None = None,
    renew_every: Whole | None = None,
    precision: str | None = None,
    evaluate_every: Whole | None = None,
    top_k: Whole | None = None,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Iterable[Any] | None = None,
    max_changes: Whole | None = None,
    retokenize: bool = True,
    seed: Whole = 0,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> Dream:
    """Find real text that drives an objective up, starting from a sentence.

    Never returns something worse than it saw: the best real tokens ever scored, the start included. A unit behind an
    activation function is climbed by what comes before it as long as it is off (see `Objective.uphill`), and the result
    says whether it fired.

    Methods:
        "auto": what does best at equal cost: rounds of projected gradient ascent, then swaps that the gradient ranks,
            the best of a step merged; where these come to a halt, fresh starts from the sentence, from ordinary
            sentences that the package ships and from random words. Ends where the budget is spent, or where every text
            there is was scored (`stopped` is "complete"): where one word is free and no budget is given, as
            `token_search` does, and where the budget covers allowed tokens ** free words sentences. On the way a sweep
            tries every swap of one word of the best text where the budget covers free words x allowed tokens sentences;
            the result says whether none is better (`optimum`). With MiniLM's 29,523 tokens that is far beyond the
            default for a whole sentence (14 words of 16 tokens, read at layer 2: 413,000 sentences, 20 million
            forward-tokens); 400,000 certify few free words, or a short list in `allowed`.
        "anneal": the article's annealed Gumbel-Softmax ascent.
        "gcg": greedy coordinate gradient (Zou et al. 2023); `gcg` takes its settings.
        "epo": a population with a fluency penalty each (Thompson et al. 2024); `epo` gives back the whole front.
        "pez": projected gradient ascent (after Wen et al. 2023; see `PEZSettings`).

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to climb; higher is better.
        prompt: a sentence, or several that dream side by side; None where `start` is a corpus search.
        free: the positions that may change (see `Positions`), where `prompt` is plain text; None frees every word.
        method: see above. "auto" stands for "anneal" where a `preset` or an option of annealing is given.
        budget: forward-tokens (rows x positions x layers) to spend at most; scoring the starts is the least that is
            ever spent. None takes 400,000 for the searches over real tokens, whatever it takes for one free word, and
            the given steps for "anneal" and "pez". Annealing with a budget and no steps takes as many steps as surely
            fit.
        fluency: for "epo": the fluency it trades against (see `fluency`); None takes the model's own head where it is
            trained, else none.
        start: a `corpus_search` result, whose top ten sentences are the starts. For "anneal" also "sentence", "random"
            (standard normal logits) or "uniform".
        starts: how often each sentence is started.
        preset: of annealing: "fast", or "article" for the article's own settings. Options that are None take its value
            (`Annealing` for "fast", `ARTICLE` for "article").
        steps: gradient steps ("anneal", "pez").
        start_weight: softmax weight of the sentence's tokens at the first step, in (0, 1).
        learning_rate: logits a step of Adam ("anneal"); for "pez" see `PEZSettings`.
        schedule: of the temperature: "geometric", "linear", "cosine" or "constant".
        temperature: its start and end, dimensionless, > 0.
        warmup: steps at the start temperature.
        noise: Gumbel noise on the logits.
        straight_through: feed the model hard tokens, with the gradient of the soft ones.
        candidates: tokens each position chooses from, renewed by gradient; 0 for the whole vocabulary.
        renew_every: steps between two renewals.
        precision: of the gradient steps: "full", "bf16" or "auto" (see `Annealing`); scores are in full precision.
        evaluate_every: steps between two scorings of the real tokens.
        top_k: tokens a position whose weights the history keeps.
        allowed: tokens that free positions may take.
        banned: tokens that they may not: exactly these, no other spelling ("Cat", "##cat"). What the start holds may
            stay. None bans the token that a `logit` objective asks for, () bans none.
        max_changes: words that may differ from the start's at most; None sets no limit.
        retokenize: return only tokens whose text tokenizes back to themselves; not asked where the start itself does
            not, or where [CLS] or [SEP] is free.
        seed: of the local random generator; the global one is left alone.
        callback: receives a `Progress` after every evaluation; a true return value stops the run.
        progress: show a progress bar; None shows it on a terminal only.

    Raises:
        DreamError: bad input (see the message), or scores or a gradient that became NaN or infinite.
        DreamError, KeyboardInterrupt: what ends a run after some work (Ctrl-C too) brings the `Dream` so far as its
            `partial`, with the best real tokens seen; `stopped` is "failure" or "interrupted".
    """
    options = {
        "steps": steps,
        "start": start if isinstance(start, str) else None,
        "start_weight": start_weight,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "temperature": temperature,
        "warmup": warmup,
        "noise": noise,
        "straight_through": straight_through,
        "candidates": candidates,
        "renew_every": renew_every,
        "precision": precision,
        "evaluate_every": evaluate_every,
        "top_k": top_k,
    }
    given = {key: plain(value) for key, value in options.items() if value is not None}
    method = method_of(method, preset, given)
    require(
        fluency is None or method == "epo",
        'fluency= goes with method="epo"; any other climbs the sum: goal + 0.1 * fluency()',
    )
    budget = None if budget is None else whole_number("budget", budget)
    starts, seed = whole_number("starts", starts), seed_number(seed)
    require(
        start is None or isinstance(start, str | CorpusResult),
        f"start = {start!r}: give a corpus search, or a word for annealing",
    )
    if isinstance(start, CorpusResult):
        require(prompt is None, "a prompt and a corpus search are both given to start from: give one of the two")
    with attached(model) as host:
        check(host, objective)
        batch = make_batch(
            host,
            objective,
            start if isinstance(start, CorpusResult) else prompt,
            free=free,
            starts=starts,
            allowed=allowed,
            banned=banned,
            max_changes=max_changes,
            retokenize=retokenize,
        )
        task = DreamTask(
            host, objective, batch, method, preset, given, fluency, budget, seed, starts, allowed, callback, progress
        )
        return run(host, task.search())


def method_of(method: str, preset: str | None, given: Mapping[str, Any]) -> str:
    """The method meant; options of annealing stand for annealing.

    Args:
        given: options of annealing (`steps` to `top_k`, and `start` where it is a word), those that were given.

    Raises:
        DreamError: an unknown method or preset, or an option that the method has not got.
    """
    one_of("method", method, METHODS)
    if preset is not None:
        one_of("preset", preset, PRESETS)
    named = [*given, *(["preset"] if preset is not None else [])]
    if method == "auto" and named:
        return "anneal"
    taken = {"anneal": named, "pez": ["steps", "learning_rate"]}.get(method, [])
    foreign = [name for name in named if name not in taken]
    require(
        not foreign,
        f"method={method!r} has no {', '.join(foreign)}: leave {'it' if len(foreign) == 1 else 'them'} out, or take "
        'method="anneal"',
    )
    return method


@dataclass(frozen=True, eq=False)
class DreamTask:
    """One dream: what was asked for, and the search that answers it."""

    host: Host
    objective: Objective
    batch: Batch
    method: str
    preset: str | None
    given: Mapping[str, Any]
    fluency: Objective | None
    budget: int | None
    seed: int
    starts: int
    allowed: Allowed
    callback: Callback | None = None
    progress: bool | None = None
    ends: float | None = None
    """When it ends at the latest, by `time.perf_counter()`."""

    def search(self) -> Search[Dream]:
        """The search by the method that was asked for."""
        before = self.host.meter.now()
        methods = {"anneal": self._anneal, "pez": self._pez, "epo": self._epo, "gcg": self._gcg, "auto": self._auto}
        outcome, told = yield from methods[self.method]()
        told = run_settings(self.batch, self.method, told, budget=self.budget, allowed=self.allowed, starts=self.starts)
        return finish(self.host, self.objective, self.batch, outcome, settings=told, seed=self.seed, before=before)

    def _anneal(self) -> Search[tuple[Outcome, dict[str, Any]]]:
        settings = annealing_settings(self.preset, self.given)
        climb = normalized(self.objective) if settings.normalize else self.objective
        budget = Budget(self.host.meter, self.budget, self.ends)
        seen = yield from BestSeen.of(self.host, self.objective, self.batch)
        if self.budget is not None and "steps" not in self.given:  # as many as it pays for
            prices = StepCosts.of(self.host, self.objective, climb, self.batch, seen)
            steps = prices.steps(budget.left, settings.evaluate_every, settings.narrows(self.batch.allowed))
            settings = annealing_settings(self.preset, {**self.given, "steps": steps})
        with tqdm(
            total=settings.steps,
            disable=None if self.progress is None else not self.progress,
            desc="dream",
            leave=False,
        ) as bar:

            def tick(step: int, best: float) -> None:
                bar.update(step - bar.n)
                bar.set_postfix(best=f"{best:.3f}")

            found = yield from ascend(
                self.host,
                self.objective,
                self.batch,
                settings,
                climb=climb,
                seed=self.seed,
                copies=[row % self.starts for row in range(len(self.batch.sentences))],
                callback=self.callback,
                tick=tick,
                budget=budget,
                seen=seen,
            )
        return found, {"preset": self.preset or "fast", **asdict(settings)}

    def _gcg(self) -> Search[tuple[Outcome, dict[str, Any]]]:
        settings = GCGSettings()
        found = yield from self._searched(lambda search, tick: run_gcg(search, settings, self.callback, tick))
        return found, asdict(settings)

    def _pez(self) -> Search[tuple[Outcome, dict[str, Any]]]:
        settings = PEZSettings(**self.given)
        found = yield from self._searched(
            lambda search, tick: project(search, settings, callback=self.callback, tick=tick), self.budget or math.inf
        )
        return found, asdict(settings)

    def _epo(self) -> Search[tuple[Outcome, dict[str, Any]]]:
        settings, judge = EPOSettings(), default_judge(self.host, self.fluency)
        crowds: list[Population] = []

        def evolve(search: SwapSearch, tick: Tick) -> Search[str]:
            crowds.append(Population(search, settings, judge, self.seed))
            return crowds[0].evolve(self.callback, tick)

        found = yield from self._searched(evolve)
        told = {**asdict(settings), "penalties": list(crowds[0].penalties) if crowds else None}
        return found, {**told, "fluency": None if judge is None else repr(judge)}

    def _auto(self) -> Search[tuple[Outcome, dict[str, Any]]]:
        words = all(len(sentence.free) == 1 for sentence in self.batch.sentences)
        if words and self.budget is None:
            found = yield from self._searched(
                lambda search, tick: best_words(search, callback=self.callback, tick=tick), math.inf
            )
            return found, {"search": "every allowed token, as token_search"}
        found = yield from self._searched(
            lambda search, tick: search_automatically(search, seed=self.seed, callback=self.callback, tick=tick)
        )
        return found, {"search": "rounds and swaps", **asdict(AUTO)}

    def _searched(
        self, method: Callable[[SwapSearch, Tick], Search[str]], limit: float | None = None
    ) -> Search[Outcome]:
        budget = Budget(self.host.meter, search_budget(self.budget) if limit is None else limit, self.ends)
        with budget_bar(budget, self.progress, "dream") as tick:
            search = yield from SwapSearch.of(self.host, self.objective, self.batch, budget, self.seed)
            return (yield from Outcome.of(search, method(search, tick)))
