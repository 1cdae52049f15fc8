"""`dream`: the front door."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from tqdm.auto import tqdm

from tl_dream._errors import DreamError, require, unknown
from tl_dream.ascent import ARTICLE, Annealing, Callback, ascend
from tl_dream.batches import Batch
from tl_dream.hosts import Host, attached
from tl_dream.objectives import Objective, normalized
from tl_dream.prompts import DEFAULT_ALLOWED, Allowed, Positions, Prompt, Sentence
from tl_dream.results import Cost, Dream
from tl_dream.scoring import check

PRESETS = {"fast": Annealing(), "article": ARTICLE}


def dream(
    model: Any,
    objective: Objective,
    prompt: str | Prompt | Sequence[str | Prompt],
    *,
    free: Positions = None,
    method: str = "anneal",
    preset: str = "fast",
    steps: int | None = None,
    starts: int = 1,
    start: str | None = None,
    start_weight: float | None = None,
    learning_rate: float | None = None,
    schedule: str | None = None,
    temperature: tuple[float, float] | None = None,
    warmup: int | None = None,
    noise: bool | None = None,
    straight_through: bool | None = None,
    candidates: int | None = None,
    renew_every: int | None = None,
    precision: str | None = None,
    evaluate_every: int | None = None,
    top_k: int | None = None,
    allowed: Allowed = DEFAULT_ALLOWED,
    retokenize: bool = True,
    seed: int = 0,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> Dream:
    """Find real text that drives an objective up, starting from a sentence.

    Never returns something worse than it saw: the best real tokens ever scored, the start included. Options that are
    None take the preset's value (`Annealing` for "fast", `ARTICLE` for "article").

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to climb; higher is better.
        prompt: a sentence, or several that dream side by side in one batch.
        free: the positions that may change (see `Positions`), where `prompt` is plain text; None frees every word.
        method: "anneal", the article's annealed Gumbel-Softmax ascent.
        preset: "fast", or "article" for the article's own settings.
        steps: gradient steps.
        starts: how often each sentence is started: once as it is, then with normal noise on its logits.
        start: "sentence", "random" (standard normal logits) or "uniform".
        start_weight: softmax weight of the sentence's tokens at the first step, in (0, 1).
        learning_rate: of Adam, in logits a step.
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
        retokenize: return only tokens whose text tokenizes back to themselves; not asked where the start itself does
            not, or where [CLS] or [SEP] is free.
        seed: of the local random generator; the global one is left alone.
        callback: receives a `Progress` after every evaluation; a true return value stops the run.
        progress: show a progress bar; None shows it on a terminal only.

    Raises:
        DreamError: bad input (see the message), or scores that became NaN or infinite; then `error.partial` holds the
            `Dream` so far.
    """
    began = time.perf_counter()
    if method != "anneal":
        raise unknown("method", method, ("anneal",))
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    require(isinstance(starts, int) and starts >= 1, f"starts = {starts!r}: give a whole number of at least 1")
    require(
        temperature is None or isinstance(temperature, tuple | list) and len(temperature) == 2,
        f"temperature = {temperature!r}: give two numbers, its start and end",
    )
    first, last = temperature if temperature is not None else (None, None)
    changes: dict[str, Any] = {
        "steps": steps,
        "start": start,
        "start_weight": start_weight,
        "learning_rate": learning_rate,
        "schedule": schedule,
        "start_temperature": first,
        "end_temperature": last,
        "warmup": warmup,
        "noise": noise,
        "straight_through": straight_through,
        "candidates": candidates,
        "renew_every": renew_every,
        "precision": precision,
        "evaluate_every": evaluate_every,
        "top_k": top_k,
    }
    changes = {key: value for key, value in changes.items() if value is not None}
    if candidates == 0:
        changes["candidates"] = None
    if schedule is not None:
        changes["decay"] = None  # the article's belongs to its own schedule
    if preset == "fast" and isinstance(steps, int):  # a short run cools all the same
        changes.setdefault("warmup", min(PRESETS[preset].warmup, max(0, steps) // 10))
    settings = replace(PRESETS[preset], **changes)
    with attached(model) as host:
        check(host, objective)
        sentences = read_prompts(host, prompt, free)
        batch = Batch.of(
            host,
            [sentence for sentence in sentences for _ in range(starts)],
            host.vocabulary.allowed(allowed),
            retokenize,
        )
        with tqdm(
            total=settings.steps,
            disable=None if progress is None else not progress,
            desc="dream",
            leave=False,
        ) as bar:

            def tick(step: int, best: float) -> None:
                bar.update(step - bar.n)
                bar.set_postfix(best=f"{best:.3f}")

            outcome = ascend(
                host,
                objective,
                batch,
                settings,
                climb=normalized(objective) if settings.normalize else objective,
                seed=seed,
                copies=[copy for _ in sentences for copy in range(starts)],
                callback=callback,
                tick=tick,
            )
        winner = max(range(len(outcome.runs)), key=lambda i: (outcome.runs[i].best.score, -i))
        run = outcome.runs[winner]
        sentence = batch.sentences[winner]
        result = Dream(
            model=host.name,
            objective=repr(objective),
            prompt={"text": sentence.text, "free": list(sentence.free)},
            settings={
                "method": method,
                "preset": preset,
                **asdict(settings),
                "starts": starts,
                "sentences": len(sentences),
                "allowed": allowed if isinstance(allowed, str) else f"{int(batch.allowed.sum())} tokens",
                "retokenize": retokenize,
            },
            seed=seed,
            start=run.start,
            best=run.best,
            soft_score=run.soft_score,
            history=run.history,
            cost=Cost(host.meter.forwards, host.meter.forward_tokens, time.perf_counter() - began),
            stopped=outcome.stopped,
            others=tuple(other for i, other in enumerate(outcome.runs) if i != winner),
        )
    if outcome.failure is not None:
        raise DreamError(
            f"{outcome.failure}; the best real tokens so far score {run.best.score:.4f}: {run.best.text!r} "
            "(error.partial holds the whole result). Check the objective for a division by zero or a logarithm of zero",
            partial=result,
        )
    return result


def read_prompts(
    host: Host, prompt: str | Prompt | Sequence[str | Prompt], free: Positions = None
) -> tuple[Sentence, ...]:
    """One or several prompts, tokenized, with their free positions."""
    given = [prompt] if isinstance(prompt, str | Prompt) else list(prompt)
    require(bool(given), "no sentence to start from: give at least one")
    for item in given:
        require(
            isinstance(item, str | Prompt),
            f"a start is text or a Prompt, not {type(item).__name__}: {item!r}",
        )
        require(
            free is None or isinstance(item, str),
            "free= goes with plain text; a Prompt says itself which of its positions are free",
        )
    return tuple(host.vocabulary.read(Prompt(item, free) if isinstance(item, str) else item) for item in given)
