"""The settings of annealed ascent, the article's among them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxtyping import Bool
from torch import Tensor

from tl_dream._arguments import NumberField, WholeField, finite_fields, flag, one_of, whole_fields
from tl_dream._errors import require
from tl_dream.dreaming.soft_input import Schedule, schedule
from tl_dream.models import PRECISIONS

STEPS = 200
WARMUP = 20
"""Where none are given; of the warm-up a tenth of the steps at most, so that a short run cools all the same."""


@dataclass(frozen=True)
class Annealing:
    """The settings of annealed ascent.

    Attributes:
        steps: gradient steps; None takes 200, and under a budget as many as it surely pays for.
        learning_rate: of Adam, in logits a step.
        schedule: "geometric", "linear", "cosine" or "constant".
        start_temperature, end_temperature: of the softmax, dimensionless, > 0.
        warmup: steps at the start temperature ("geometric"); None takes 20, a tenth of the steps at most.
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

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3, pos=2)
        >>> td.dream(bert, goal, "the red dog", method=td.Annealing(steps=5)).history.step
        (0, 5)
    """

    steps: WholeField | None = None
    learning_rate: NumberField = 1.0
    schedule: str = "geometric"
    start_temperature: NumberField = 1.0
    end_temperature: NumberField = 0.1
    warmup: WholeField | None = None
    decay: NumberField | None = None
    start: str = "sentence"
    start_weight: NumberField | None = 0.5
    noise: bool = False
    straight_through: bool = False
    candidates: WholeField | None = 128
    renew_every: WholeField = 20
    precision: str = "auto"
    evaluate_every: WholeField = 10
    top_k: WholeField = 10
    normalize: bool = False

    def __post_init__(self) -> None:
        given = {name: least for name, least in (("steps", 1), ("warmup", 0)) if getattr(self, name) is not None}
        whole_fields(self, **given, evaluate_every=1, renew_every=1, top_k=1)
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
        one_of("precision", self.precision, PRECISIONS)
        one_of("start", self.start, ("sentence", "random", "uniform"))
        self.temperature()

    def _length(self, steps: int | None = None) -> tuple[int, int]:
        """Steps, and those of the warm-up."""
        steps = steps or self.steps or STEPS
        return steps, min(WARMUP, steps // 10) if self.warmup is None else self.warmup

    def lasting(self, steps: int | None = None) -> Annealing:
        """The same with everything that depends on the number of steps: that given, its own, or 200."""
        steps, warmup = self._length(steps)
        return replace(self, steps=steps, warmup=warmup)

    def temperature(self) -> Schedule:
        """The temperature of every step."""
        steps, warmup = self._length()
        first, last = self.start_temperature, self.end_temperature
        return schedule(self.schedule, first, last, steps=steps, warmup=warmup, decay=self.decay)

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
