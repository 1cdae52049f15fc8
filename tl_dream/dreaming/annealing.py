"""The settings of annealed ascent, the article's among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Bool
from torch import Tensor

from tl_dream._arguments import finite_fields, flag, is_whole, one_of, plain, whole_fields
from tl_dream._errors import require
from tl_dream.dreaming.soft_input import SCHEDULES, Schedule, geometric, schedule
from tl_dream.models import PRECISIONS


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
        whole_fields(self, steps=1, warmup=0, evaluate_every=1, renew_every=1, top_k=1)
        finite_fields(self, "a number above 0", lambda number: number > 0, "learning_rate")
        optional = [name for name in ("decay", "start_weight") if getattr(self, name) is not None]
        finite_fields(self, "a finite number", lambda number: True, "start_temperature", "end_temperature", *optional)
        if self.candidates is not None:
            whole_fields(self, candidates=1)
        require(
            self.candidates is None or self.candidates >= 2,
            f"candidates = {self.candidates!r}: give at least 2 tokens a position, or None for the whole vocabulary",
        )
        for name in ("noise", "straight_through", "normalize"):
            object.__setattr__(self, name, flag(name, getattr(self, name)))
        one_of("temperature schedule", self.schedule, SCHEDULES)
        one_of("precision", self.precision, PRECISIONS)
        one_of("start", self.start, ("sentence", "random", "uniform"))
        self.temperature()

    def temperature(self) -> Schedule:
        """The temperature of every step."""
        if self.schedule == "geometric" and self.decay is not None:
            return geometric(
                self.start_temperature, self.end_temperature, decay=self.decay, warmup=self.warmup, steps=self.steps
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

PRESETS = {"fast": Annealing(), "article": ARTICLE}


def annealing_settings(preset: str | None, given: Mapping[str, Any]) -> Annealing:
    """The preset with what was given in its place."""
    changes = dict(given)
    temperature = plain(changes.pop("temperature", None))
    require(
        temperature is None or isinstance(temperature, list) and len(temperature) == 2,
        f"temperature = {temperature!r}: give two numbers, its start and end",
    )
    if temperature is not None:
        changes["start_temperature"], changes["end_temperature"] = temperature
    if plain(changes.get("candidates")) == 0:
        changes["candidates"] = None
    if "schedule" in changes:
        changes["decay"] = None  # the article's belongs to its own schedule
    base = PRESETS[preset or "fast"]
    steps = plain(changes.get("steps"))
    if base.decay is None and is_whole(steps):  # a short run cools all the same
        changes.setdefault("warmup", min(base.warmup, max(0, steps) // 10))
    return replace(base, **changes)
