"""`reconstruct_layers`: one sentence read back from several layers; `kept_tokens`: what damage leaves of sentences."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from tl_dream._arguments import Number, Whole, check_callable, layers_of, listed, plain, seed_number
from tl_dream._errors import DreamError, keeping, require, unknown
from tl_dream.models import Host, attached, isolated
from tl_dream.reconstruction.certificates import examine
from tl_dream.reconstruction.problem import Problem, read_target
from tl_dream.reconstruction.reconstruction import SearchSettings, solve
from tl_dream.reconstruction.targets import masked, record
from tl_dream.reconstruction.token_swaps import TokenSpace
from tl_dream.results import Cost, Kept, KeptTokens, LayerReconstructions, Reconstruction
from tl_dream.search import Search, side_by_side
from tl_dream.text import Allowed, Prompt, Sentence, prompts_of

DAMAGES = ("noise", "bf16", "int8", "top")


def read_damage(damage: str) -> tuple[str, float]:
    """The kind and amount in "noise 0.05", "bf16", "int8" or "top 32".

    Raises:
        DreamError: an unknown kind, or an amount that is missing, stray or out of range.
    """
    require(isinstance(damage, str) and bool(damage.split()), f"damage = {damage!r}: give a text such as 'noise 0.05'")
    kind, *rest = damage.replace(":", " ").split()
    if kind not in DAMAGES:
        raise unknown("damage", kind, DAMAGES, "Write 'noise 0.05', 'bf16', 'int8' or 'top 32'.")
    if kind in ("bf16", "int8"):
        require(not rest, f"damage = {damage!r}: {kind} takes no number")
        return kind, 0.0
    example = "a share of the target's scale, as in 'noise 0.05'" if kind == "noise" else "units kept, as in 'top 32'"
    try:
        (amount,) = (float(item) for item in rest)
    except ValueError as error:
        raise DreamError(f"damage = {damage!r}: {kind} takes one number ({example})") from error
    if kind == "noise":
        require(
            math.isfinite(amount) and amount >= 0, f"damage = {damage!r}: give a finite number of 0 or more ({example})"
        )
    else:
        require(
            math.isfinite(amount) and amount >= 1 and amount == int(amount),
            f"damage = {damage!r}: give a whole number of 1 or more ({example})",
        )
    return kind, amount


@isolated()
def damaged(target: Tensor, damage: str, *, seed: Whole | torch.Generator = 0) -> Tensor:
    """A copy of an activation, damaged.

    Args:
        target: a recorded activation.
        damage: "noise S", Gaussian noise whose standard deviation is S times the root mean square of the target;
            "bf16", rounded to bfloat16; "int8", to 255 steps of one size, which the largest number sets; "top K",
            at every position all but the K largest units by magnitude set to 0 (heads counted through). The zeros are
            numbers to match like all others: a text must have them too. To match K units alone, and leave the others
            open, give `reconstruct` those with `units=`.
        seed: of the noise, or a generator.

    Raises:
        DreamError: an unknown damage, more units than there are, a target that is not floating-point, or not finite.

    Examples:
        >>> td.damaged(torch.tensor([[0.1, -2.0, 1.0]]), "top 1")
        tensor([[ 0., -2.,  0.]])
    """
    kind, amount = read_damage(damage)
    require(
        isinstance(target, Tensor) and target.is_floating_point(),
        "only a tensor of floating-point numbers can be damaged",
    )
    require(
        bool(torch.isfinite(target).all()), "the target holds NaN or infinite numbers: only finite ones can be damaged"
    )
    if kind == "bf16":
        return target.detach().to(torch.bfloat16).to(target.dtype)
    if kind == "int8":
        step = target.detach().abs().max() / 127
        return torch.zeros_like(target) if float(step) == 0 else (target.detach() / step).round() * step
    if kind == "noise":
        draw = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed_number(seed))
        scale = target.detach().float().square().mean().sqrt()
        noise = torch.randn(target.shape, generator=draw, dtype=torch.float32)
        return target.detach() + (amount * scale.cpu() * noise).to(target)
    width = target.shape[-1] if target.ndim < 4 else math.prod(target.shape[-2:])
    require(amount <= width, f"damage = {damage!r}: there are {width} units")
    flat = target.detach().reshape(-1, width)
    kept = flat.abs().topk(int(amount), dim=1).indices
    return torch.zeros_like(flat).scatter(1, kept, flat.gather(1, kept)).reshape(target.shape)


DEFAULT_DAMAGES = ("noise 0.01", "noise 0.05", "noise 0.2", "noise 0.5", "noise 1", "bf16", "int8", "top 32")
SIDE_BY_SIDE = 128
"""Searches at once."""

CHEAPEST = 5
"""Other tokens that a record keeps for every position."""

EQUAL = 1e-3
"""Losses that differ by less, as a share, are equal: they were measured in batches of another size."""


def reconstruct_layers(
    model: Any,
    text: str | Prompt,
    *,
    hook: str = "block_out",
    layers: str | Whole | Iterable[Any] = "all",
    damage: str | None = None,
    method: str = "auto",
    steps: Whole | None = None,
    starts: Whole = 1,
    patience: Whole = 2,
    allowed: Allowed = "no_unused",
    rivals: Whole | str | None = None,
    budget: Whole = 10_000,
    seconds: Number | None = None,
    seed: Whole = 0,
    progress: bool | None = None,
) -> LayerReconstructions:
    """Read one sentence back from several layers (the article's Figure 5).

    Args:
        text: the sentence, whose activations are recorded.
        hook: a short name that every layer has.
        layers: "all", one, or a list.
        damage: what is done to every target first: "noise 0.05" (of its scale), "bf16", "int8" or "top 32" (units);
            None for nothing.
        method, steps, starts, patience, allowed, rivals, budget, seed, progress: as in `reconstruct`.
        seconds: as there, of all layers together: what they came to by then is the result.

    Raises:
        DreamError: as in `reconstruct`, and an unknown damage.
        DreamError, KeyboardInterrupt: `error.partial` holds the layers so far, as in `reconstruct`.

    Examples:
        >>> layers = td.reconstruct_layers(bert, "the red dog", layers=[0])
    """
    search = SearchSettings(*map(plain, (method, steps, starts, patience, rivals, budget, seed)))
    allowed = plain(allowed)
    if damage is not None:
        read_damage(damage)
    with attached(model, seconds) as host:
        sentence = host.vocabulary.read(text)
        tasks = {
            layer: pose_damaged(host, sentence, hook, layer, damage, search.seed)
            for layer in read_layers(host, hook, layers)
        }

        def made(found: dict[int, Reconstruction], stopped: str) -> LayerReconstructions | None:
            order = [found[layer] for layer in tasks if layer in found]
            return LayerReconstructions(sentence.text, damage, tuple(order), stopped) if order else None

        def task(own: Host, layer: int) -> Search[Reconstruction]:
            return solve(own, tasks[layer], search, allowed)

        result = gathered(host, list(tasks), task, made, progress)
    assert result is not None
    return result


R = TypeVar("R")


def gathered(
    host: Host,
    jobs: Sequence[Any],
    task: Callable[[Host, Any], Search[Any]],
    made: Callable[[dict[Any, Any], str], R],
    progress: bool | None,
) -> R:
    """What is made of jobs that run side by side.

    Args:
        made: of what each job came to so far, and of why it all stopped.

    Raises:
        DreamError, KeyboardInterrupt: what ended one of them, with what is made of the others as its partial.
    """
    found: dict[Any, Any] = {}

    def partial(inner: Any, reason: str) -> R:
        ended = inner if isinstance(inner, tuple) else ()  # of Ctrl-C, every job that was under way
        found.update((job, result) for job, result, _ in ended if result is not None)
        return made(found, reason)

    results = side_by_side(
        host,
        jobs,
        task,
        lambda _, job, result, error: (job, result, error),
        what="job",
        width=None,
        on_cpu=SIDE_BY_SIDE,
        progress=progress,
    )
    with keeping(partial):
        for job, result, error in results:
            result = result if error is None else getattr(error, "partial", None)
            if result is not None:
                found[job] = result
            if error is not None:
                raise error
    return made(found, "seconds" if host.late else "complete")


def read_layers(host: Host, hook: str, layers: Any) -> list[int]:
    """The layers meant, each with the hook.

    Raises:
        DreamError: none, one twice, or one that is not there.
    """
    require(not isinstance(layers, str) or layers == "all", f'layers = {layers!r}: give "all" or a list of layers')
    given = list(range(host.n_layers)) if isinstance(layers, str) else listed(layers)
    chosen = layers_of(given)
    require(len(chosen) == len(given), f"layers = {given!r} names a layer twice: name each once")
    for layer in chosen:
        host.resolve(hook, layer)
    return chosen


def pose_damaged(host: Host, sentence: Sentence, hook: str, layer: int, damage: str | None, seed: int) -> Problem:
    """Read this sentence back from its own activation at a layer, damaged first."""
    target = record(host, sentence, host.resolve(hook, layer))
    target = target if damage is None else damaged(target, damage, seed=seed)
    return Problem(read_target(host, target, hook, layer, None, None), (masked(host, sentence),), None, sentence)


def kept_tokens(
    model: Any,
    texts: str | Prompt | Iterable[str | Prompt],
    *,
    hook: str = "block_out",
    layers: str | Whole | Iterable[Any] = "all",
    damages: str | Iterable[str] = DEFAULT_DAMAGES,
    allowed: Allowed = "no_unused",
    rivals: Whole | str | None = None,
    budget: Whole = 10_000,
    seconds: Number | None = None,
    seed: Whole = 0,
    callback: Callable[[Kept], object] | None = None,
    progress: bool | None = None,
) -> KeptTokens:
    """Which words a layer keeps: how many tokens can still be read off its damaged activation.

    Every target is searched twice. Blindly, as `reconstruct` does, until something fits as well as the truth; what is
    found is what was read back. Then from the truth, for anything that fits better: a token that the best of all texts
    has not got is lost in the damage, while a truth that fits best and was not found is the search's failure. So the
    optimiser's failures are not taken for the model's forgetting. For the best-fitting text we also
    measure, at every position, the tokens that could replace its own at the lowest cost: what the damaged layer hardly
    tells from the word it keeps.

    Args:
        texts: sentences, whose activations are recorded.
        hook: a short name that every layer has.
        layers: "all", one, or a list.
        damages: see `reconstruct_layers`; one, or a list.
        rivals: other tokens measured at every position, as in `reconstruct`; 0 for none.
        allowed, budget, seed, progress: as in `reconstruct`.
        seconds: as there, of all records together.
        callback: receives every record as it is made.

    Raises:
        DreamError: no text, no damage, an unknown one, and as in `reconstruct`.
        DreamError, KeyboardInterrupt: `error.partial` holds the records so far.

    Examples:
        >>> kept = td.kept_tokens(bert, "the red dog", layers=[0], damages=["int8"])
    """
    given, damages, allowed = prompts_of(texts, "text to read back"), listed(damages), plain(allowed)
    require(bool(damages), "no damage given: name at least one, such as 'noise 0.05'")
    search = SearchSettings(patience=1, rivals=plain(rivals), budget=plain(budget), seed=plain(seed))
    list(map(read_damage, damages))
    check_callable("callback", callback, "a function of a Kept")
    with attached(model, seconds) as host:
        sentences = [host.vocabulary.read(text) for text in given]
        chosen = read_layers(host, hook, layers)
        jobs = [(i, layer, damage) for i in range(len(sentences)) for layer in chosen for damage in damages]

        def made(found: dict[tuple[int, int, str], Kept], stopped: str) -> KeptTokens | None:
            records = tuple(found[job] for job in jobs if job in found)
            cost = Cost(host.meter.forwards, host.meter.forward_tokens, sum(record.seconds for record in records))
            told = tuple(sentence.text for sentence in sentences)
            return KeptTokens(host.name, hook, told, records, search.seed, cost, stopped) if records else None

        def task(own: Host, job: tuple[int, int, str]) -> Search[Kept]:
            i, layer, damage = job
            draw = (search.seed * 1_000_003 + i) % 2**63
            posed = pose_damaged(host, sentences[i], hook, layer, damage, draw)
            try:
                kept = yield from _keep(own, posed, i, layer, damage, allowed, search)
            except (KeyboardInterrupt, Exception) as error:
                error.partial = None  # type: ignore[union-attr]  # half a record is none
                raise
            if callback is not None:
                callback(kept)
            return kept

        result = gathered(host, jobs, task, made, progress)
    assert result is not None
    return result


def _keep(
    host: Host, task: Problem, text: int, layer: int, damage: str, allowed: Allowed, search: SearchSettings
) -> Search[Kept]:
    truth, began = task.truth, time.perf_counter()
    assert truth is not None
    near, far = replace(search, patience=0, rivals=0), replace(search, rivals=0)
    best = yield from solve(host, replace(task, start=truth), near, allowed)
    assert best.truth is not None
    enough = -best.truth.score * (1 + EQUAL)
    blind = yield from solve(host, task, far, allowed, enough=enough)
    found = min(best, blind, key=lambda result: result.loss)
    target = task.question.target(host, task.frames[0])
    tokens = torch.tensor([found.best.ids[i] for i in target.sentence.free], device=host.device)
    space = TokenSpace(host, target, host.vocabulary.allowed(allowed))
    draw = torch.Generator().manual_seed(search.seed)
    around = yield from examine(host, target, space, tokens, 0 if host.late else search.rivals, draw, keep=True)
    return Kept(
        text=text,
        layer=layer,
        damage=damage,
        total=blind.total,
        right=_right(blind),
        kept=_right(found),
        missed=blind.loss > found.loss * (1 + EQUAL) and not blind.exact,
        truth_gap=(-best.truth.score) ** 0.5 / best.scale,
        gap=found.loss**0.5 / best.scale,
        text_found=blind.text,
        seconds=time.perf_counter() - began,
        alternatives=tuple(swaps[:CHEAPEST] for swaps in around.swaps),
    )


def _right(result: Reconstruction) -> int:
    assert result.right is not None
    return result.right
