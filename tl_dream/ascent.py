"""Annealed gradient ascent on a soft sentence (the article's method), a batch of starts at once.

Every few steps the most likely tokens are scored for real, and the best real tokens ever seen are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_dream._errors import require, unknown
from tl_dream.batches import Batch, BestSeen
from tl_dream.hosts import Budget, Host
from tl_dream.inputs import GumbelSoftmaxInput, Schedule, schedule, sharpness_for
from tl_dream.objectives import Objective
from tl_dream.prices import Prices
from tl_dream.proposals import NoSlope, at_free, gradients, renew_candidates, slopes, token_slopes, top_candidates
from tl_dream.results import History, Run
from tl_dream.rows import TOKENS
from tl_dream.scoring import climbed, evaluate_each

PRECISIONS = ("auto", "full", "bf16")


@dataclass(frozen=True)
class Annealing:
    """The settings of annealed ascent.

    Attributes:
        steps: gradient steps.
        learning_rate: of Adam, in logits a step.
        schedule: "geometric", "linear", "cosine" or "constant".
        start_temperature, end_temperature: of the softmax, dimensionless, > 0.
        warmup: steps at the start temperature ("geometric").
        decay: factor a step after the warm-up ("geometric"); None reaches `end_temperature` at the last step.
        start: "sentence", "random" (standard normal logits) or "uniform" (all logits 0).
        start_weight: the softmax weight of the sentence's tokens at the first step; None gives the article's cold
            one-hot (logit 1), almost uniform.
        noise: Gumbel noise on the logits.
        straight_through: feed the model one-hot tokens, with the gradient of the soft ones.
        candidates: tokens each position chooses from, the best by their gradient; None takes the whole vocabulary.
        renew_every: steps between two renewals of the candidates' lighter half.
        precision: of the gradient steps: "full" (the model's own), "bf16" (autocast), or "auto", bf16 for 8 rows and
            more on hardware with bf16 matrix units. Every score that is reported is in full precision.
        evaluate_every: steps between two scorings of the real tokens.
        top_k: tokens a position whose weights the history keeps.
        normalize: climb the objective divided by the word's norm over all layers, as the article does; scores stay in
            the objective's own units.
    """

    steps: int = 200
    learning_rate: float = 1.0
    schedule: str = "geometric"
    start_temperature: float = 1.0
    end_temperature: float = 0.1
    warmup: int = 20
    decay: float | None = None
    start: str = "sentence"
    start_weight: float | None = 0.5
    noise: bool = False
    straight_through: bool = False
    candidates: int | None = 128
    renew_every: int = 20
    precision: str = "auto"
    evaluate_every: int = 10
    top_k: int = 10
    normalize: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "evaluate_every", "renew_every", "top_k"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and value >= 1,
                f"{name} = {value!r}: give a whole number of at least 1",
            )
        require(self.warmup >= 0, f"warmup = {self.warmup!r}: give 0 or more steps")
        require(
            self.learning_rate > 0 and math.isfinite(self.learning_rate),
            f"learning_rate = {self.learning_rate!r}: give a number above 0",
        )
        require(
            self.candidates is None or self.candidates >= 2,
            f"candidates = {self.candidates!r}: give at least 2 tokens a position, or None for the whole vocabulary",
        )
        if self.precision not in PRECISIONS:
            raise unknown("precision", self.precision, PRECISIONS)
        if self.start not in ("sentence", "random", "uniform"):
            raise unknown("start", self.start, ("sentence", "random", "uniform"))
        self.temperature()

    def temperature(self) -> Schedule:
        """The temperature of every step."""
        if self.schedule == "geometric" and self.decay is not None:
            from tl_dream.inputs import geometric

            return geometric(
                self.start_temperature,
                self.end_temperature,
                decay=self.decay,
                warmup=self.warmup,
                steps=self.steps,
            )
        return schedule(
            self.schedule, self.start_temperature, self.end_temperature, steps=self.steps, warmup=self.warmup
        )

    def narrows(self, allowed: Bool[Tensor, " vocab"]) -> bool:
        """Whether there are fewer candidates than allowed tokens, so that a gradient chooses them."""
        return self.candidates is not None and self.candidates < int(allowed.sum())


ARTICLE = Annealing(
    steps=3000,
    learning_rate=0.1,
    start_temperature=2.0,
    end_temperature=0.1,
    warmup=200,
    decay=0.9995,
    start_weight=None,
    candidates=None,
    precision="full",
    evaluate_every=25,
    normalize=True,
)
"""The settings of "What does BERT dream of?" (its published runs; see the README)."""


@dataclass(frozen=True)
class Progress:
    """What a callback sees after every evaluation: one entry a row of the batch.

    Attributes:
        step: steps done.
        steps: how many will be; None where a budget decides.
        temperature: of the softmax; None where there is no soft sentence.
        soft_scores: of the soft sentences; empty where there are none.
        hard_scores, best_scores: of the tokens a row stands at, of the best real tokens so far.
        texts: the tokens a row stands at, as text.
    """

    step: int
    steps: int | None
    temperature: float | None
    soft_scores: tuple[float, ...]
    hard_scores: tuple[float, ...]
    best_scores: tuple[float, ...]
    texts: tuple[str, ...]


Callback = Callable[[Progress], object]
"""Called after every evaluation; a true return value stops the run and keeps its best."""


@dataclass(frozen=True)
class Ascent:
    """What `ascend` gives back: a run a row, why it stopped, and what went wrong if something did."""

    runs: tuple[Run, ...]
    stopped: str
    failure: str | None = None


def generators(seed: int, count: int, draw: int = 0) -> list[torch.Generator]:
    """A local CPU generator for every row of a draw: what a row draws does not depend on the batch around it, nor on
    the filling that longer rows brought it in earlier draws."""
    return [
        torch.Generator().manual_seed(((seed * 1_000_003 + row) * 1_000_003 + draw) % 2**63) for row in range(count)
    ]


def ascend(
    host: Host,
    objective: Objective,
    batch: Batch,
    settings: Annealing,
    *,
    climb: Objective | None = None,
    seed: int = 0,
    copies: Sequence[int] | None = None,
    callback: Callback | None = None,
    tick: Callable[[int, float], object] | None = None,
    budget: Budget | None = None,
    seen: BestSeen | None = None,
) -> Ascent:
    """Annealed ascent of a batch of soft sentences.

    Args:
        objective: scores real tokens.
        climb: what the gradient climbs; the objective itself by default.
        copies: for each row how many rows of the same sentence came before it: the first starts at the sentence, the
            others at the sentence plus standard normal noise.
        tick: told the step and the best score, for a progress bar.
        budget: ends the run before it is overspent: a step is taken only where it fits with the look at its real
            tokens. Scoring the start is the least that is ever spent.
        seen: where the start is scored already.
    """
    climb = climbed(host, climb or objective)
    budget = budget or Budget(host.meter)
    temperature = settings.temperature()
    count = len(batch.sentences)
    seen = seen or BestSeen(host, objective, batch)
    prices = Prices.of(host, objective, climb, batch, seen)
    failure = _failure(seen, "at the start")
    if failure or budget.left < prices.step * (1 + settings.narrows(batch.allowed)) + prices.look:
        return Ascent(_runs(seen, [], batch), "failure" if failure else "budget", failure)
    try:
        soft = _soft_start(host, climb, batch, settings, generators(seed, count), copies or [0] * count)
    except NoSlope as error:
        return Ascent(_runs(seen, [], batch), "failure", f"{error}, at the start")
    optimizer = torch.optim.Adam([soft.logits], lr=settings.learning_rate, fused=True)
    base = host.W_E[batch.ids]
    reads_words = TOKENS in climb.reads or TOKENS in objective.reads
    row, slot = batch.valid.nonzero(as_tuple=True)
    where = (row, batch.free[row, slot])
    narrow = settings.precision == "bf16" or (
        settings.precision == "auto" and count >= 8 and host.W_E.dtype == torch.float32 and has_bf16(host.device)
    )
    records: list[_Record] = []
    stopped = "steps"
    for step in range(settings.steps + 1):
        degree = temperature(min(step, settings.steps - 1))
        due = step % settings.evaluate_every == 0 or step == settings.steps
        last = budget.left < 2 * prices.step + (2 if due else 1) * prices.look  # one more would not fit
        due = due or last
        draws = generators(seed, count, step + 1) if settings.noise else None
        with torch.enable_grad():
            weights = soft(degree, noise=settings.noise, straight_through=settings.straight_through, generators=draws)
            mixed = soft.embed(weights, host.W_E)
            embeddings = base.index_put(where, mixed[row, slot])
            words = _words(soft, weights, batch, where, host.d_vocab) if reads_words else None
            with torch.autocast(host.device.type, torch.bfloat16, enabled=narrow and not due):
                every = (climb,) if climb is objective or not due else (climb, objective)
                scores, *own = evaluate_each(host, every, batch.ids, batch.rows, embeddings=embeddings, weights=words)
        if not bool(torch.isfinite(scores).all()):
            failure = f"the soft score became {scores.tolist()} at step {step}"
            break
        if due:
            strength = weights.detach().amax(2)
            hard = seen.see(batch.within_limit(batch.fill(soft.snap()), strength), step)
            failure = _failure(seen, f"at step {step}")
            if failure:
                break
            shown = own[0] if own else scores  # the history keeps the objective's own units
            records.append(_record(step, budget.spent, degree, shown, hard, soft, batch, settings.top_k))
            if tick is not None:
                tick(step, max(best.score for best in seen.best))
            if callback is not None and callback(_progress(records[-1], settings.steps, seen, batch, host)):
                stopped = "callback"
                break
        if step == settings.steps:
            break
        if last:
            stopped = "budget"
            break
        pull, direct = gradients(scores, mixed, words, climb)
        outputs, slope = ([mixed], [pull]) if words is None or direct is None else ([mixed, words], [pull, direct])
        (gradient,) = torch.autograd.grad(outputs, soft.logits, slope)
        soft.logits.grad = -gradient  # Adam minimises: the package's only minus sign
        optimizer.step()
        if soft.candidates is not None and step > 0 and step % settings.renew_every == 0:
            steep = token_slopes(pull.detach(), None if direct is None else at_free(direct, batch.free), host)
            renew_candidates(soft, weights.detach(), steep, batch.allowed, optimizer)
    return Ascent(_runs(seen, records, batch), stopped if failure is None else "failure", failure)


def _words(
    soft: GumbelSoftmaxInput, weights: Tensor, batch: Batch, where: tuple[Tensor, Tensor], d_vocab: int
) -> Float[Tensor, "batch pos vocab"]:
    """The weight of every token at every position: 1 for the sentence's own where it is fixed."""
    real = torch.nn.functional.one_hot(batch.ids, d_vocab).to(weights.dtype)
    dense = weights
    if soft.candidates is not None:
        dense = weights.new_zeros(*weights.shape[:2], d_vocab).scatter(2, soft.candidates, weights)
    return real.index_put(where, dense[batch.valid])


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware has matrix units for bf16: AMX on a CPU, tensor cores on a GPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())


def _failure(seen: BestSeen, when: str) -> str | None:
    value = seen.broken
    return None if value is None else f"the score of real tokens became {value} {when}"


def _soft_start(
    host: Host,
    climb: Objective,
    batch: Batch,
    settings: Annealing,
    draws: Sequence[torch.Generator],
    copies: Sequence[int],
) -> GumbelSoftmaxInput:
    """The soft sentences before the first step."""
    tokens = batch.ids.gather(1, batch.free)
    shape = tokens.shape
    wide = torch.promote_types(host.W_E.dtype, torch.float32)  # Adam's epsilon is 0 in float16
    count = min(settings.candidates or host.d_vocab, int(batch.allowed.sum()))
    chosen: Tensor | None = None
    if settings.narrows(batch.allowed):
        slope = slopes(host, climb, batch.ids, batch.rows, batch.free)
        chosen = top_candidates(slope, batch.allowed, count, keep=tokens.unsqueeze(-1))
    else:
        count = host.d_vocab
    if settings.start == "sentence":
        choices = count if chosen is not None else int(batch.allowed.sum())
        sharpness = (
            1.0
            if settings.start_weight is None
            else sharpness_for(settings.start_weight, settings.start_temperature, choices)
        )
        soft = GumbelSoftmaxInput.from_ids(
            tokens,
            host.d_vocab,
            sharpness=sharpness,
            dtype=wide,
            allowed=batch.allowed,
            candidates=chosen,
        )
    else:
        logits = torch.zeros(*shape, count, dtype=wide, device=host.device)
        soft = GumbelSoftmaxInput(logits, allowed=batch.allowed, candidates=chosen)
    for row, earlier in enumerate(copies):
        if settings.start == "random" or (settings.start == "sentence" and earlier > 0):
            free = len(batch.sentences[row].free)
            normal = torch.randn(free, soft.logits.shape[2], generator=draws[row], dtype=torch.float64)
            soft.logits.data[row, :free] += normal.to(soft.logits)
    return soft


@dataclass(frozen=True)
class _Record:
    step: int
    spent: int
    temperature: float
    soft: list[float]
    hard: list[float]
    ids: Tensor
    weights: Tensor
    top_ids: Tensor
    top_weights: Tensor


@torch.no_grad()
def _record(
    step: int,
    spent: int,
    temperature: float,
    scores: Tensor,
    hard: list[float],
    soft: GumbelSoftmaxInput,
    batch: Batch,
    top_k: int,
) -> _Record:
    ids = batch.fill(soft.snap())
    weights = soft(temperature)  # as they are without noise and before they are made hard
    top = weights.topk(min(top_k, weights.shape[2]), dim=2)
    heaviest = torch.ones(ids.shape, dtype=weights.dtype, device=ids.device)
    row, slot = batch.valid.nonzero(as_tuple=True)
    heaviest[row, batch.free[row, slot]] = top.values[row, slot, 0]
    return _Record(
        step,
        spent,
        temperature,
        scores.tolist(),
        hard,
        ids.cpu(),
        heaviest.cpu(),
        soft.token_ids(top.indices).cpu(),
        top.values.cpu(),
    )


def _progress(record: _Record, steps: int, seen: BestSeen, batch: Batch, host: Host) -> Progress:
    rows = [batch.row_ids(record.ids, row) for row in range(len(batch.sentences))]
    return Progress(
        record.step,
        steps,
        record.temperature,
        tuple(record.soft),
        tuple(record.hard),
        tuple(best.score for best in seen.best),
        tuple(host.vocabulary.decode_batch(rows)),
    )


def _runs(seen: BestSeen, records: Sequence[_Record], batch: Batch) -> tuple[Run, ...]:
    vocabulary = batch.rows.vocabulary
    runs = []
    for row, sentence in enumerate(batch.sentences):
        size, free = len(sentence), len(sentence.free)
        history = History(
            step=tuple(r.step for r in records),
            forward_tokens=tuple(r.spent for r in records),
            temperature=tuple(r.temperature for r in records),
            soft_score=tuple(r.soft[row] for r in records),
            hard_score=tuple(r.hard[row] for r in records),
            tokens=tuple(vocabulary.tokens(batch.row_ids(r.ids, row)) for r in records),
            weights=tuple(tuple(r.weights[row, :size].tolist()) for r in records),
            top_tokens=tuple(tuple(vocabulary.tokens(ids) for ids in r.top_ids[row, :free].tolist()) for r in records),
            top_weights=tuple(tuple(tuple(w) for w in r.top_weights[row, :free].tolist()) for r in records),
            free=sentence.free,
        )
        soft = max(history.soft_score) if len(history) else None
        runs.append(Run(seen.starts[row], seen.best[row], soft, history))
    return tuple(runs)
