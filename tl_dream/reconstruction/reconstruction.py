"""`reconstruct`: read the real tokens back from a recorded or edited activation, and say whether they are certain."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from tqdm.auto import tqdm

from tl_dream._arguments import MOST_STARTS, Number, Whole, one_of, plain, seed_number, whole_fields, whole_number
from tl_dream._errors import DreamError, keeping, require, why
from tl_dream.dreaming import ARTICLE, ascend
from tl_dream.models import Host, attached
from tl_dream.reconstruction.certificates import Examined, examine, read_rivals
from tl_dream.reconstruction.inversion import invert
from tl_dream.reconstruction.problem import Problem, check_allowed, measured, read_problem
from tl_dream.reconstruction.targets import Target
from tl_dream.reconstruction.token_swaps import TokenLedger, TokenSpace
from tl_dream.results import Cost, History, Reconstruction, ScoredText
from tl_dream.search import Batch, Budget, Search, run
from tl_dream.text import Allowed, Positions, Prompt

METHODS = ("auto", "article")


@dataclass(frozen=True)
class SearchSettings:
    """How to search; see `reconstruct`."""

    method: str = "auto"
    steps: int | None = None
    starts: int = 1
    patience: int = 2
    rivals: int | str | None = None
    budget: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        one_of("method", self.method, METHODS)
        whole_fields(self, patience=0, budget=1, **({} if self.steps is None else {"steps": 1}))
        object.__setattr__(self, "starts", whole_number("starts", self.starts, most=MOST_STARTS))
        object.__setattr__(self, "rivals", read_rivals(self.rivals))
        object.__setattr__(self, "seed", seed_number(self.seed))
        require(
            self.steps is None or self.method == "article",
            'steps= goes with method="article"; "auto" has budget=',
        )

    @property
    def settings(self) -> dict[str, Any]:
        """What matters to the method, for a receipt."""
        given = asdict(self)
        unused = ("steps",) if self.method == "auto" else ("patience", "budget")
        if self.method == "article":
            given["steps"] = self.steps or ARTICLE.steps
        return {key: value for key, value in given.items() if key not in ("method", "seed", *unused)}


def reconstruct(
    model: Any,
    target: Any,
    start: str | Prompt | None = None,
    *,
    hook: str = "block_out",
    layer: Whole | None = None,
    positions: Positions = None,
    units: Whole | Iterable[Any] | None = None,
    length: Whole | Iterable[Any] | None = None,
    method: str = "auto",
    steps: Whole | None = None,
    starts: Whole = 1,
    patience: Whole = 2,
    allowed: Allowed = "no_unused",
    truth: str | Prompt | None = None,
    rivals: Whole | str | None = None,
    budget: Whole = 10_000,
    seconds: Number | None = None,
    seed: Whole = 0,
    progress: bool | None = None,
) -> Reconstruction:
    """Find the real tokens whose activation equals a target, or comes closest to it.

    "auto" moves free embeddings by L-BFGS from a linear guess, decodes them in the directions that the target can tell
    apart, and searches real tokens among the neighbours, each measured exactly; it starts again until the target is
    matched, nothing improves, or the budget is spent. "article" is the method of "What does BERT dream of?": a soft
    sentence from standard normal logits, mean squared error, a falling temperature.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        target: an activation as `run_with_cache` gives it, with or without its batch axis, or edited by you; or a text,
            whose own activation is recorded first.
        start: a text of the target's length to search from, for a target near one; of a Prompt, only the positions
            that are `free` are searched, and the other tokens stay. "article" begins at random all the same, and
            returns the start where it finds nothing better.
        hook: a short name with `layer`, or a full name; any hook with a row of units for every position.
        layer: of a short name.
        positions: the positions that must match; the target holds all positions, or a row for each of these, in the
            order you name them. None for all, [CLS] and [SEP] too. A target without a row for every searched position
            is never certified.
        units: the units that must match (heads counted through); the target holds all units, or these in the order
            you name them.
        length: tokens of the sentence, special ones included, where the target does not tell; several are tried.
        method: "auto" or "article".
        steps: of "article"; None takes the article's 3,000.
        starts: starts in one batch, in the first round of "auto" and for "article".
        patience: rounds of "auto" in a row that bring nothing better before it settles; 0 for one round in all, which
            is quick, and enough for a target that no text reaches.
        allowed: tokens that may be chosen.
        truth: the sentence, where it is known: then the result counts the right tokens. It is never used to search.
        rivals: other tokens measured at every position, for the certificate and the cheapest swaps (`alternatives`):
            those that the target tells apart least, and a quarter as many of the closest embeddings. None for 12, and
            for fewer (2 at least) in a sentence of more than 26 words, so that they are about 320 in all. 0 for none,
            and no certificate; "all" for every allowed token, which takes minutes.
        budget: forwards of the search of "auto" (a sentence through the model; with its gradient it counts as two).
            The certificate's come on top of it.
        seconds: to take at most, by the wall clock; `stopped` is then "seconds", and there are no rivals.
        seed: of the local random generator.
        progress: show a progress bar; None shows it on a terminal only.

    Returns:
        The best real tokens ever measured, their certificate, and what remains where they do not match.

    Raises:
        DreamError: a target of another shape, dtype or device than the hook's, NaNs in it, a hook without positions, an
            impossible length, a truth or start that can't be it.
        DreamError, KeyboardInterrupt: what ends the search after some work (Ctrl-C too) brings the best tokens so far,
            without rivals, as its `partial`.

    Examples:
        >>> back = td.reconstruct(bert, "the red dog", layer=0)
        >>> back.best.text
        'the red dog'
    """
    search = SearchSettings(*map(plain, (method, steps, starts, patience, rivals, budget, seed)))
    with attached(model, seconds) as host:
        task = read_problem(
            host,
            target,
            start,
            hook=hook,
            layer=layer,
            positions=positions,
            units=units,
            length=length,
            truth=truth,
        )
        with tqdm(disable=None if progress is None else not progress, desc="reconstruct", leave=False) as bar:

            def tick(loss: float) -> None:
                bar.update(host.meter.forwards - bar.n)
                bar.set_postfix(loss=f"{loss:.2e}")

            return run(host, solve(host, task, search, allowed, tick=tick))


def ended(error: Any, partial: Search[Any] | None) -> Search[None]:
    """Give an error that ended a search what it has so far, as its `partial`."""
    error.partial = None
    with suppress(Exception):
        error.partial = None if partial is None else (yield from partial)


@dataclass(frozen=True)
class _Attempt:
    """One length's outcome."""

    target: Target
    found: Examined
    history: History | None
    stopped: str

    @property
    def loss(self) -> float:
        return float(self.target.loss(self.found.errors))


def solve(
    host: Host,
    task: Problem,
    search: SearchSettings,
    allowed: Allowed,
    *,
    tick: Callable[[float], object] = lambda loss: None,
    enough: float = -math.inf,
) -> Search[Reconstruction]:
    """Answer a task.

    Args:
        enough: a loss that ends the search, as a match does.

    Raises:
        DreamError: see `reconstruct`.
    """
    before = host.meter.now()
    mask = host.vocabulary.allowed(allowed)
    check_allowed(task, mask, allowed)
    attempts: list[_Attempt] = []
    given: list[ScoredText | None] = []
    for sentence in (task.start, task.truth):
        given.append(None if sentence is None else (yield from measured(host, task, sentence)))
    settings = {**search.settings, "allowed": allowed if isinstance(allowed, str) else f"{int(mask.sum())} tokens"}

    def result(attempts: list[_Attempt]) -> Reconstruction:
        best = min(attempts, key=lambda one: one.loss)
        lengths = tuple((len(one.target.sentence), one.loss) for one in attempts)
        return _result(host, best, search, settings, given, lengths, host.meter.now() - before)

    with keeping(lambda last, reason: replace(result(attempts + ([last] if last else [])), stopped=reason)):
        for sentence in task.frames:
            target = task.question.target(host, sentence)
            start = None if task.start is None else target.searched(host, task.start)
            if search.method == "article":
                attempt = yield from _anneal(host, target, mask, search, start, tick)
            else:
                limit = host.meter.forwards + search.budget // len(task.frames)
                judge = TokenLedger(host, target, limit, enough, tick)
                attempt = yield from _invert(judge, mask, search, start)
            attempts.append(attempt)
            if attempt.found.certificate.matched or host.late:
                break
        return result(attempts)


def _invert(
    judge: TokenLedger, mask: Bool[Tensor, " vocab"], search: SearchSettings, start: Int[Tensor, " free"] | None
) -> Search[_Attempt]:
    """Method "auto"."""
    host, target = judge.host, judge.target
    space = TokenSpace(host, target, mask)
    draw = torch.Generator().manual_seed(search.seed)

    def attempt(rivals: int | str | None, stopped: str) -> Search[_Attempt]:
        tokens = target.searched(host) if judge.best is None else judge.best
        found = yield from examine(host, target, space, tokens, rivals, draw, budget=judge.budget)
        return _Attempt(target, found, None, "matched" if found.certificate.matched else stopped)

    try:
        stopped = yield from invert(judge, space, draw, start=start, starts=search.starts, patience=search.patience)
        return (yield from attempt(0 if host.late else search.rivals, stopped))
    except (KeyboardInterrupt, Exception) as error:
        yield from ended(error, None if judge.best is None else attempt(0, why(error)))
        raise


def _anneal(
    host: Host,
    target: Target,
    mask: Bool[Tensor, " vocab"],
    search: SearchSettings,
    start: Int[Tensor, " free"] | None,
    tick: Callable[[float], object],
) -> Search[_Attempt]:
    """Method "article"."""
    batch = Batch.of(host, [target.sentence] * search.starts, mask, retokenize=False)
    settings = replace(ARTICLE, steps=search.steps or ARTICLE.steps, start="random", normalize=False)
    budget = Budget(host.meter)
    outcome = yield from ascend(
        host, target.goal, batch, settings, seed=search.seed, tick=lambda step, best: tick(-best), budget=budget
    )
    advice = "the target or the model holds numbers too large for its dtype"
    error = outcome.ended if outcome.failure is None else DreamError(f"{outcome.failure}: {advice}")
    # `run.best` will not do: it counts the frame as the start, which is no text that the soft sentence ever stood at
    number = host.vocabulary.tokenizer.convert_tokens_to_ids
    found = [
        (score, torch.tensor([number(tokens[i]) for i in target.sentence.free], device=host.device), run.history)
        for run in outcome.runs
        for score, tokens in zip(run.history.hard_score, run.history.tokens, strict=True)
    ]

    def attempt(rivals: int | str | None) -> Search[_Attempt]:
        if not found and error is None:  # its seconds were over before its first step
            found.append((0.0, target.searched(host), outcome.runs[0].history))
        _, tokens, history = max(found, key=lambda one: one[0])
        if start is not None:
            rows = torch.stack([tokens, start])
            both = yield from target.compare(host, rows)
            tokens = rows[int(target.loss(both.errors).argmin())]
        draw, space = torch.Generator().manual_seed(search.seed), TokenSpace(host, target, mask)
        examined = yield from examine(host, target, space, tokens, rivals, draw, keep=True)
        return _Attempt(target, examined, history, "matched" if examined.certificate.matched else outcome.stopped)

    if error is not None:
        yield from ended(error, attempt(0))
        raise error
    return (yield from attempt(0 if host.late else search.rivals))


def _result(
    host: Host,
    attempt: _Attempt,
    search: SearchSettings,
    settings: dict[str, Any],
    given: Sequence[ScoredText | None],
    lengths: tuple[tuple[int, float], ...],
    cost: Cost,
) -> Reconstruction:
    target = attempt.target
    ids = target.fill(host, attempt.found.tokens[None])[0].tolist()
    _, _, block = target.name.partition("blocks.")
    (read,) = target.goal.reads
    return Reconstruction(
        model=host.name,
        hook=target.name,
        layer=int(block.split(".")[0]) if block else None,
        method=search.method,
        positions=None if target.pos == tuple(range(len(ids))) else target.pos,
        units=target.units,
        settings={**settings, "hook": read.hook},
        seed=search.seed,
        scale=target.scale,
        best=host.scored_text(ids, -attempt.loss),
        start=given[0],
        truth=given[1],
        free=target.sentence.free,
        errors=tuple(attempt.found.errors.tolist()),
        certificate=attempt.found.certificate,
        alternatives=attempt.found.swaps,
        history=attempt.history,
        lengths=lengths,
        cost=cost,
        stopped=attempt.stopped,
    )
