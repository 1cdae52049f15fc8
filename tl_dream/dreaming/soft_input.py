"""The trainable soft sentence (Gumbel-Softmax over the vocabulary at each free position) and temperature schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tl_dream._arguments import one_of
from tl_dream._errors import require

SCHEDULES = ("geometric", "linear", "cosine", "constant")

Schedule = Callable[[int], float]
"""Temperature at a step, counted from 0; dimensionless, > 0."""


def _positive(**temperatures: float) -> None:
    for name, value in temperatures.items():
        require(
            value > 0 and math.isfinite(value),
            f"{name} = {value} is not a temperature: it must be > 0 and finite",
        )


def schedule(
    name: str, start: float, end: float, *, steps: int, warmup: int = 0, decay: float | None = None
) -> Schedule:
    """A schedule by its name.

    Args:
        name: "geometric" (`start` for `warmup` steps, then times `decay` a step, never below `end`; the article's with
            0.9995), "linear" (a straight line), "cosine" (half a cosine, flat at both ends), or "constant" (`start`).
        steps: at the last of these "linear" and "cosine" reach `end`.
        decay: None chooses the rate that reaches `end` at the last step.

    Raises:
        DreamError: an unknown name, a temperature that is none, or a geometric schedule that does not cool.
    """
    one_of("temperature schedule", name, SCHEDULES)
    if name == "constant":
        _positive(temperature=start)
        return lambda step: start
    _positive(start=start, end=end)
    if name == "geometric":
        warming = f"end = {end} is above start = {start}: a geometric schedule only cools, take another one"
        require(end <= start, warming)
        rate = (end / start) ** (1 / max(1, steps - warmup - 1)) if decay is None else decay
        require(0 < rate <= 1, f"decay = {rate} is outside (0, 1]: it multiplies the temperature at every step")
        return lambda step: max(end, start * rate ** max(0, step - warmup))
    share: Schedule = lambda step: min(1.0, step / max(1, steps - 1))  # noqa: E731
    if name == "linear":
        return lambda step: start + (end - start) * share(step)
    return lambda step: end + (start - end) * 0.5 * (1 + math.cos(math.pi * share(step)))


class GumbelSoftmaxInput(nn.Module):
    """A batch of soft sentences: at every free position a softmax over the allowed tokens.

    The forward pass gives weights `softmax((logits + noise) / temperature)` (Jang et al. 2017; Maddison et al. 2017;
    the article, section "Deep dream for text"). With `candidates`, every position holds K tokens instead of the whole
    vocabulary, and a step costs V / K times less.

    Args:
        logits: starting logits, Float[batch, free, vocab], or [batch, free, K] with `candidates`.
        allowed: mask of tokens that may be chosen; Bool[vocab] or Bool[free, vocab].
        candidates: ids of the K tokens each position chooses from, Int[batch, free, K], all different in a row.

    Raises:
        DreamError: shapes that do not fit, or a position without an allowed token.

    Examples:
        >>> ids = torch.tensor([[5, 6, 7]])  # three free positions of one sentence
        >>> soft = td.GumbelSoftmaxInput.from_ids(ids, bert.cfg.d_vocab, sharpness=3.0)
        >>> weights = soft(1.0)  # at a temperature of 1
        >>> weights.shape == (1, 3, bert.cfg.d_vocab)
        True
    """

    candidates: Tensor | None
    forbidden: Tensor

    def __init__(
        self,
        logits: Float[Tensor, "batch free choice"],
        *,
        allowed: Bool[Tensor, "*any vocab"] | None = None,
        candidates: Int[Tensor, "batch free choice"] | None = None,
    ) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.detach().clone())
        self.register_buffer("candidates", candidates)
        self._table: tuple[Tensor, tuple[int, int], Tensor] | None = None
        if allowed is None:
            forbidden = torch.zeros(logits.shape if candidates is not None else (1, 1, 1), dtype=torch.bool)
        elif candidates is not None:
            forbidden = ~allowed.to(logits.device).expand(*logits.shape[:2], -1).gather(2, candidates)
        else:
            require(
                allowed.shape[-1] == logits.shape[-1],
                f"the allowed mask covers {allowed.shape[-1]} tokens, the logits {logits.shape[-1]}: give one of each",
            )
            forbidden = ~allowed.expand(1, *logits.shape[1:])
        forbidden = forbidden.to(logits.device)
        self.register_buffer("forbidden", forbidden)
        require(
            not bool(forbidden.expand(logits.shape).all(-1).any()),
            "the allowed-token mask leaves no token at a free position: allow more tokens",
        )

    @classmethod
    def from_ids(
        cls,
        ids: Int[Tensor, "batch free"],
        d_vocab: int,
        *,
        sharpness: float = 1.0,
        dtype: torch.dtype = torch.float32,
        **options: Any,
    ) -> GumbelSoftmaxInput:
        """Start at a sentence: logits `sharpness` at its tokens and 0 elsewhere. 1.0 is the article's cold one-hot,
        whose softmax at temperature 2 is nearly uniform; `sharpness_for` gives one that holds a chosen weight."""
        candidates = options.get("candidates")
        if candidates is None:
            logits = torch.zeros(*ids.shape, d_vocab, dtype=dtype, device=ids.device)
            logits.scatter_(2, ids.unsqueeze(-1), sharpness)
        else:
            logits = (candidates == ids.unsqueeze(-1)).to(dtype) * sharpness
        return cls(logits, **options)

    @property
    def masked_logits(self) -> Float[Tensor, "batch free choice"]:
        """The logits with -inf at tokens that are not allowed."""
        return self.logits.masked_fill(self.forbidden, -math.inf)

    def forward(
        self,
        temperature: float = 1.0,
        *,
        noise: bool = False,
        straight_through: bool = False,
        generators: Sequence[torch.Generator] | None = None,
    ) -> Float[Tensor, "batch free choice"]:
        """Weights that sum to 1 at every position.

        Args:
            temperature: dimensionless, > 0; towards 0 the weights become one-hot.
            noise: add Gumbel noise (a sample of the relaxed categorical distribution).
            straight_through: one-hot weights whose gradient is that of the soft ones.
            generators: a CPU generator a row for the noise: every device draws the same numbers, and what a row draws
                does not depend on the others.
        """
        _positive(temperature=temperature)
        logits = self.masked_logits
        if noise:
            require(
                generators is not None and len(generators) == logits.shape[0],
                f"noise needs one torch.Generator a row, {logits.shape[0]} in all: give generators=",
            )
            assert generators is not None
            shape, wide = logits.shape[1:], torch.float64
            draws = [torch.rand(shape, generator=g, dtype=wide, device=g.device) for g in generators]
            logits = logits - torch.log(-torch.log(torch.stack(draws).clamp_min(1e-20))).to(logits)
        weights = torch.softmax(logits / temperature, dim=-1)
        if straight_through:
            hard = torch.zeros_like(weights).scatter_(2, weights.argmax(-1, keepdim=True), 1.0)
            weights = hard + weights - weights.detach()
        return weights

    def embed(
        self, weights: Float[Tensor, "batch free choice"], W_E: Float[Tensor, "vocab d_model"]
    ) -> Float[Tensor, "batch free d_model"]:
        """The weighted sum of token embeddings that the model is fed."""
        if self.candidates is None:
            return weights.to(W_E.dtype) @ W_E
        if W_E.is_inference() or self.candidates.is_inference():  # such tensors do not say when they are edited
            return torch.einsum("bfk,bfkd->bfd", weights.to(W_E.dtype), W_E[self.candidates])
        state = (W_E._version, self.candidates._version)
        if self._table is None or self._table[0] is not W_E or self._table[1] != state:  # gathered once for all steps
            self._table = (W_E, state, W_E[self.candidates])
        return torch.einsum("bfk,bfkd->bfd", weights.to(W_E.dtype), self._table[2])

    def token_ids(self, choice: Int[Tensor, "batch free *top"]) -> Int[Tensor, "batch free *top"]:
        """Vocabulary ids of choices (indices into the last axis of the logits)."""
        if self.candidates is None:
            return choice
        wide = choice if choice.ndim == 3 else choice.unsqueeze(-1)
        return self.candidates.gather(2, wide).reshape(choice.shape)

    @torch.no_grad()
    def snap(self) -> Int[Tensor, "batch free"]:
        """The most likely token at each position."""
        return self.token_ids(self.masked_logits.argmax(-1))


def sharpness_for(weight: float, temperature: float, choices: int) -> float:
    """The logit that gives one token the softmax weight `weight` among `choices` at this temperature, the rest at 0."""
    require(
        0 < weight < 1,
        f"a start weight of {weight} is outside (0, 1): it is the sentence's share of the softmax",
    )
    _positive(temperature=temperature)
    return temperature * math.log(weight / (1 - weight) * max(1, choices - 1))


def top_candidates(
    slope: Float[Tensor, "batch free vocab"],
    allowed: Bool[Tensor, " vocab"],
    count: int,
    keep: Int[Tensor, "batch free kept"],
) -> Int[Tensor, "batch free {count}"]:
    """The `count` allowed tokens that raise the score most to first order, those in `keep` first, all different.

    Tokens in `keep` stay even if they are not allowed (the sentence's own): a mask forbids them as a choice.
    """
    return slope.masked_fill(~allowed, -math.inf).scatter_(2, keep, math.inf).topk(count, dim=2).indices


def renew_candidates(
    soft: GumbelSoftmaxInput,
    weights: Float[Tensor, "batch free choice"],
    slope: Float[Tensor, "batch free vocab"],
    allowed: Bool[Tensor, " vocab"],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Keep the heavier half of every position's candidates, and put the most promising other tokens in place of the
    lighter half, with the lightest kept logit and no momentum."""
    assert soft.candidates is not None
    count = soft.candidates.shape[2]
    half = count // 2
    order = weights.argsort(dim=2, descending=True, stable=True)[..., :half]
    kept = soft.candidates.gather(2, order)
    fresh = slope.masked_fill(~allowed, -math.inf).scatter_(2, kept, -math.inf).topk(count - half, dim=2).indices
    state, logits = optimizer.state[soft.logits], soft.logits.data
    for values in (logits, state["exp_avg"], state["exp_avg_sq"]):
        old = values.gather(2, order)
        fill = old.amin(2, keepdim=True) if values is logits else torch.zeros_like(old[..., :1])
        values.copy_(torch.cat([old, fill.expand(-1, -1, count - half)], 2))
    soft.candidates.copy_(torch.cat([kept, fresh], 2))
    soft.forbidden.copy_(~allowed[soft.candidates])
