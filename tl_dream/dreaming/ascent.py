"""Annealed gradient ascent on a soft sentence (the article's method), a batch of starts at once.

Every few steps the most likely tokens are scored for real, and the best real tokens ever seen are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tl_dream._errors import why
from tl_dream.dreaming.annealing import Annealing
from tl_dream.dreaming.soft_input import GumbelSoftmaxInput, renew_candidates, sharpness_for, top_candidates
from tl_dream.models import Host, has_bf16
from tl_dream.objectives import TOKENS, Objective, climbed
from tl_dream.results import History, Run
from tl_dream.search import (
    Ask,
    Batch,
    BestSeen,
    BrokenGradient,
    Budget,
    Callback,
    Outcome,
    Progress,
    Search,
    Soft,
    StepCosts,
    row_generators,
    token_slopes,
    wants_to_stop,
)


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
) -> Search[Outcome]:
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
    climb, settings = climbed(host, climb or objective), settings.lasting()
    steps = settings.steps or 0
    budget = budget or Budget(host.meter)
    temperature = settings.temperature()
    count = len(batch.sentences)
    seen = seen or (yield from BestSeen.of(host, objective, batch))
    prices = StepCosts.of(host, objective, climb, batch, seen)
    failure = _failure(seen, "at the start")
    if failure or budget.left < prices.step * (1 + settings.narrows(batch.allowed)) + prices.look:
        return Outcome(_runs(host, seen, [], batch), "failure" if failure else budget.why, failure)
    try:
        soft = yield from _soft_start(host, climb, batch, settings, row_generators(seed, count), copies or [0] * count)
    except BrokenGradient as error:
        return Outcome(_runs(host, seen, [], batch), "failure", f"{error}, at the start")
    optimizer = torch.optim.Adam([soft.logits], lr=settings.learning_rate, fused=True)
    base = host.W_E[batch.ids]
    reads_words = TOKENS in climb.reads or TOKENS in objective.reads
    starts = [(row, sentence.ids) for row, sentence in enumerate(batch.sentences)]
    lengths = [len(ids) for _, ids in starts]
    row, slot = batch.valid.nonzero(as_tuple=True)
    where = (row, batch.free[row, slot])
    narrow = settings.precision == "bf16" or (
        settings.precision == "auto" and count >= 8 and host.W_E.dtype == torch.float32 and has_bf16(host.device)
    )
    records: list[_Record] = []
    stopped, ended = "steps", None
    try:
        for step in range(steps + 1):
            degree = temperature(min(step, steps - 1))
            due = step % settings.evaluate_every == 0 or step == steps
            last = budget.left < 2 * prices.step + (2 if due else 1) * prices.look  # one more would not fit
            due = due or last
            draws = row_generators(seed, count, step + 1) if settings.noise else None
            with torch.enable_grad():
                weights = soft(
                    degree, noise=settings.noise, straight_through=settings.straight_through, generators=draws
                )
                mixed = soft.embed(weights, host.W_E)
                embeddings = base.index_put(where, mixed[row, slot])
                words = _words(soft, weights, batch, where, host.d_vocab) if reads_words else None
            every = (climb,) if climb is objective or not due else (climb, objective)
            answer = yield Ask(host, batch, every, starts, soft=_rows(embeddings, words, lengths, narrow and not due))
            scores, *own = zip(*answer.values, strict=True)
            if not all(map(math.isfinite, scores)):
                failure = f"the soft score became {list(scores)} at step {step}"
                break
            if due:
                strength = weights.detach().amax(2)
                hard = yield from seen.see(batch.texts(batch.within_limit(batch.fill(soft.snap()), strength)), step)
                failure = _failure(seen, f"at step {step}")
                if failure:
                    break
                shown = own[0] if own else scores  # the history keeps the objective's own units
                records.append(_record(step, budget.spent, degree, shown, hard, soft, batch, settings.top_k))
                if tick is not None:
                    tick(step, max(best.score for best in seen.best))
                if callback is not None and wants_to_stop(callback, _progress(records[-1], steps, seen, batch, host)):
                    stopped = "callback"
                    break
            if step == steps:
                break
            if last:
                stopped = budget.why
                break
            pull = pad_sequence(answer.pulls, batch_first=True)
            outputs, slope = [embeddings], [pull]
            if words is not None:
                direct = pad_sequence(answer.direct, batch_first=True)
                outputs, slope = [embeddings, words], [pull, direct]
            (gradient,) = torch.autograd.grad(outputs, soft.logits, slope)
            soft.logits.grad = -gradient  # Adam minimises: the package's only minus sign
            optimizer.step()
            if soft.candidates is not None and step > 0 and step % settings.renew_every == 0:
                at = torch.arange(count, device=host.device)[:, None], batch.free
                steep = token_slopes(pull[at].flatten(0, 1), None if words is None else direct[at].flatten(0, 1), host)
                renew_candidates(soft, weights.detach(), steep.unflatten(0, batch.free.shape), batch.allowed, optimizer)
    except (KeyboardInterrupt, Exception) as error:
        stopped, ended = why(error), error
    return Outcome(_runs(host, seen, records, batch), stopped if failure is None else "failure", failure, ended=ended)


def _rows(embeddings: Tensor, words: Tensor | None, lengths: Sequence[int], narrow: bool) -> Soft:
    """The soft sentences, each without its padding."""
    cut = [
        None if values is None else [row[:length] for row, length in zip(values.detach(), lengths, strict=True)]
        for values in (embeddings, words)
    ]
    return Soft(cut[0] or [], cut[1], narrow)


def _words(
    soft: GumbelSoftmaxInput, weights: Tensor, batch: Batch, where: tuple[Tensor, Tensor], d_vocab: int
) -> Float[Tensor, "batch pos vocab"]:
    """The weight of every token at every position: 1 for the sentence's own where it is fixed."""
    real = torch.nn.functional.one_hot(batch.ids, d_vocab).to(weights.dtype)
    dense = weights
    if soft.candidates is not None:
        dense = weights.new_zeros(*weights.shape[:2], d_vocab).scatter(2, soft.candidates, weights)
    return real.index_put(where, dense[batch.valid])


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
) -> Search[GumbelSoftmaxInput]:
    """The soft sentences before the first step."""
    tokens = batch.ids.gather(1, batch.free)
    shape = tokens.shape
    wide = torch.promote_types(host.W_E.dtype, torch.float32)  # Adam's epsilon is 0 in float16
    count = min(settings.candidates or host.d_vocab, int(batch.allowed.sum()))
    chosen: Tensor | None = None
    if settings.narrows(batch.allowed):
        starts = [(row, sentence.ids) for row, sentence in enumerate(batch.sentences)]
        answer = yield Ask(host, batch, (climb,), starts, slopes=True)
        slope = pad_sequence(answer.slopes, batch_first=True)
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
    scores: Sequence[float],
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
        list(scores),
        hard,
        ids.cpu(),
        heaviest.cpu(),
        soft.token_ids(top.indices).cpu(),
        top.values.cpu(),
    )


def _progress(record: _Record, steps: int, seen: BestSeen, batch: Batch, host: Host) -> Progress:
    return Progress(
        record.step,
        steps,
        record.temperature,
        tuple(record.soft),
        tuple(record.hard),
        tuple(best.score for best in seen.best),
        tuple(host.vocabulary.decode_batch(batch.texts(record.ids))),
    )


def _runs(host: Host, seen: BestSeen, records: Sequence[_Record], batch: Batch) -> tuple[Run, ...]:
    vocabulary = host.vocabulary
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
        runs.append(Run(seen.shown(row, seen.starts[row]), seen.shown(row, seen.best[row]), soft, history))
    return tuple(runs)
