"""`reconstruct_layers`: one sentence read back from several layers; `kept_tokens`: what damage leaves of sentences."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from tqdm.auto import tqdm

from tl_dream._errors import require
from tl_dream.certificates import examine
from tl_dream.damages import damaged, read_damage
from tl_dream.hosts import Host, attached
from tl_dream.layer_results import Kept, KeptTokens, LayerReconstructions
from tl_dream.prompts import Allowed, Prompt, Sentence
from tl_dream.questions import Task, ask
from tl_dream.reconstruction import RIVALS, Search, solve
from tl_dream.reconstruction_results import Reconstruction
from tl_dream.results import Cost
from tl_dream.targets import masked, record
from tl_dream.token_space import TokenSpace

CHEAPEST = 5
"""Other tokens that a record keeps for every position."""

EQUAL = 1e-3
"""Losses that differ by less, as a share, are equal: they were measured in batches of another size."""


def reconstruct_layers(
    model: Any,
    text: str | Prompt,
    *,
    hook: str = "block_out",
    layers: str | int | Sequence[int] = "all",
    damage: str | None = None,
    method: str = "auto",
    steps: int | None = None,
    starts: int = 1,
    patience: int = 2,
    allowed: Allowed = "no_unused",
    rivals: int | str = RIVALS,
    budget: int = 10_000,
    seed: int = 0,
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

    Raises:
        DreamError: as in `reconstruct`, and an unknown damage.
    """
    search = Search(method, steps, starts, patience, rivals, budget, seed)
    if damage is not None:
        read_damage(damage)
    with attached(model) as host:
        sentence = host.vocabulary.read(text)
        found = []
        for layer in read_layers(host, hook, layers):
            task = pose_damaged(host, sentence, hook, layer, damage, seed)
            found.append(solve(host, task, search, allowed, progress=progress))
    return LayerReconstructions(sentence.text, damage, tuple(found))


def read_layers(host: Host, hook: str, layers: str | int | Sequence[int]) -> list[int]:
    """The layers meant, each with the hook.

    Raises:
        DreamError: none, one twice, or one that is not there.
    """
    require(not isinstance(layers, str) or layers == "all", f'layers = {layers!r}: give "all" or a list of layers')
    given = range(host.n_layers) if isinstance(layers, str) else [layers] if isinstance(layers, int) else layers
    chosen = list(given)
    require(bool(chosen), 'no layer given: name at least one, or "all"')
    require(len(set(chosen)) == len(chosen), f"layers = {chosen!r} names a layer twice: name each once")
    for layer in chosen:
        host.resolve(hook, layer)
    return chosen


def pose_damaged(host: Host, sentence: Sentence, hook: str, layer: int, damage: str | None, seed: int) -> Task:
    """Read this sentence back from its own activation at a layer, damaged first."""
    target = record(host, sentence, host.resolve(hook, layer))
    target = target if damage is None else damaged(target, damage, seed=seed)
    return Task(ask(host, target, hook, layer, None, None), (masked(host, sentence),), None, sentence)


def kept_tokens(
    model: Any,
    texts: str | Prompt | Sequence[str | Prompt],
    *,
    hook: str = "block_out",
    layers: str | int | Sequence[int] = "all",
    damages: str | Sequence[str] = (
        "noise 0.01",
        "noise 0.05",
        "noise 0.2",
        "noise 0.5",
        "noise 1",
        "bf16",
        "int8",
        "top 32",
    ),
    allowed: Allowed = "no_unused",
    rivals: int | str = RIVALS,
    budget: int = 10_000,
    seed: int = 0,
    callback: Callable[[Kept], object] | None = None,
    progress: bool | None = None,
) -> KeptTokens:
    """Which words a layer keeps: how many tokens can still be read off its damaged activation.

    Every target is searched twice. Blindly, as `reconstruct` does, until something fits as well as the truth; what is
    found is what was read back. Then from the truth, for anything that fits better: a token that the best of all texts
    has not got is lost in the damage, while a truth that fits best and was not found is the search's failure. So the
    optimiser's failures are not taken for the model's forgetting. Of the text that fits best every position's cheapest
    other tokens are measured: what the damaged layer hardly tells from the word it keeps.

    Args:
        texts: sentences, whose activations are recorded.
        hook: a short name that every layer has.
        layers: "all", one, or a list.
        damages: see `reconstruct_layers`; one, or a list.
        rivals: other tokens measured at every position, as in `reconstruct`; 0 for none.
        allowed, budget, seed, progress: as in `reconstruct`.
        callback: receives every record as it is made.

    Raises:
        DreamError: no text, no damage, an unknown one, and as in `reconstruct`.
    """
    given = [texts] if isinstance(texts, str | Prompt) else list(texts)
    require(bool(given), "no text to read back: give at least one")
    damages = [damages] if isinstance(damages, str) else list(damages)
    require(bool(damages), "no damage given: name at least one, such as 'noise 0.05'")
    search = Search(patience=1, rivals=rivals, budget=budget, seed=seed)
    for damage in damages:
        read_damage(damage)
    records = []
    with attached(model) as host:
        sentences = [host.vocabulary.read(text) for text in given]
        chosen = read_layers(host, hook, layers)
        jobs = [(i, layer, damage) for i in range(len(sentences)) for layer in chosen for damage in damages]
        for i, layer, damage in tqdm(
            jobs, disable=None if progress is None else not progress, desc="kept_tokens", leave=False
        ):
            draw = (seed * 1_000_003 + i) % 2**63
            task = pose_damaged(host, sentences[i], hook, layer, damage, draw)
            records.append(_keep(host, task, i, layer, damage, allowed, search))
            if callback is not None:
                callback(records[-1])
        name = host.name
        cost = Cost(host.meter.forwards, host.meter.forward_tokens, sum(record.seconds for record in records))
    return KeptTokens(name, hook, tuple(sentence.text for sentence in sentences), tuple(records), seed, cost)


def _keep(host: Host, task: Task, text: int, layer: int, damage: str, allowed: Allowed, search: Search) -> Kept:
    truth, began = task.truth, time.perf_counter()
    assert truth is not None
    near, far = replace(search, patience=0, rivals=0), replace(search, rivals=0)
    best = solve(host, replace(task, start=truth), near, allowed, progress=False)
    assert best.truth is not None
    enough = -best.truth.score * (1 + EQUAL)
    blind = solve(host, task, far, allowed, progress=False, enough=enough)
    found = min(best, blind, key=lambda result: result.loss)
    target = task.question.target(host, task.frames[0])
    tokens = torch.tensor([found.best.ids[i] for i in target.sentence.free], device=host.device)
    space = TokenSpace(host, target, host.vocabulary.allowed(allowed))
    draw = torch.Generator().manual_seed(search.seed)
    around = examine(host, target, space, tokens, search.rivals, draw, keep=True)
    return Kept(
        text=text,
        layer=layer,
        damage=damage,
        total=blind.total,
        right=_right(blind),
        kept=_right(found),
        missed=blind.loss > found.loss * (1 + EQUAL) and not blind.exact,
        truth_gap=(-best.truth.score) ** 0.5 / best.scale,
        gap=found.gap,
        text_found=blind.text,
        seconds=time.perf_counter() - began,
        alternatives=tuple(swaps[:CHEAPEST] for swaps in around.swaps),
    )


def _right(result: Reconstruction) -> int:
    assert result.right is not None
    return result.right
