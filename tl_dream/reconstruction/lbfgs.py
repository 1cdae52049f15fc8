"""L-BFGS on a batch of independent problems at once, row by row (Nocedal and Wright, Numerical Optimization, 7.2)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream.search import Search

Function = Callable[[Tensor], Search[tuple[Tensor, Tensor]]]
"""Points [batch, n] -> their values [batch] and gradients [batch, n], which a search asks for."""

MEMORY = 50
ARMIJO = 1e-4
HALVINGS = 8


class Minimizer:
    """Minimises every row by itself; the rows share only the forward passes.

    Steps are found by backtracking, and a pair of differences is remembered only where the curvature is positive.

    Args:
        function: values and gradients.
        x: where the rows start.

    Attributes:
        x, value: the points so far and their values, which never rise.
        iterations: done so far.
        stuck: whether no row moved in the last iteration.
    """

    def __init__(self, function: Function, x: Float[Tensor, "batch n"]) -> None:
        self._function = function
        self.x = x.detach().clone()
        self.value = self._gradient = torch.empty(0)
        self.iterations = 0
        self.stuck = False
        self._pairs: list[tuple[Tensor, Tensor, Tensor]] = []

    def run(self, iterations: int, before: Callable[[], object] = lambda: None) -> Search[None]:
        """Iterate, or stop where no row moves any more; `before` is called ahead of every iteration. 0 iterations give
        the value where the rows start."""
        if not self.value.numel():
            self.value, self._gradient = yield from self._function(self.x)
        for _ in range(iterations):
            if self.stuck:
                return
            before()
            yield from self._step()

    def _direction(self) -> Tensor:
        q = self._gradient.clone()
        shares = []
        for s, y, rho in reversed(self._pairs):
            share = rho * (s * q).sum(1)
            q -= share[:, None] * y
            shares.append(share)
        q *= self._first_scale()[:, None]
        for (s, y, rho), share in zip(self._pairs, reversed(shares), strict=True):
            q += s * (share - rho * (y * q).sum(1))[:, None]
        return -q

    def _first_scale(self) -> Tensor:
        unit = 1 / self._gradient.norm(dim=1).clamp_min(1e-30)
        if not self._pairs:
            return unit
        s, y, rho = self._pairs[-1]
        return torch.where(rho > 0, (s * y).sum(1) / y.square().sum(1).clamp_min(1e-30), unit)

    def _step(self) -> Search[None]:
        x, value, gradient = self.x, self.value, self._gradient
        direction = self._direction()
        slope = (direction * gradient).sum(1)
        uphill = ~(slope < 0)
        direction = torch.where(uphill[:, None], -gradient, direction)
        slope = torch.where(uphill, -gradient.square().sum(1), slope)
        length = torch.ones_like(value)
        for _ in range(HALVINGS):
            new = x + length[:, None] * direction
            new_value, new_gradient = yield from self._function(new)
            good = torch.isfinite(new_value) & (new_value <= value + ARMIJO * length * slope)
            if bool(good.all()):
                break
            parabola = -slope * length.square() / (2 * (new_value - value - slope * length))
            shorter = parabola.nan_to_num(0.0).maximum(0.1 * length).minimum(0.5 * length)
            length = torch.where(good, length, shorter)
        new = torch.where(good[:, None], new, x)
        new_value = torch.where(good, new_value, value)
        new_gradient = torch.where(good[:, None], new_gradient, gradient)
        s, y = new - x, new_gradient - gradient
        curvature = (s * y).sum(1)
        positive = curvature > 1e-10 * y.square().sum(1)
        if bool(positive.any()):
            rho = torch.where(positive, 1 / curvature.clamp_min(1e-30), torch.zeros_like(curvature))
            self._pairs = [*self._pairs, (s, y, rho)][-MEMORY:]
        elif not bool(good.any()):
            self.stuck = not self._pairs  # else once more along the plain gradient
            self._pairs = []
        self.x, self.value, self._gradient = new, new_value, new_gradient
        self.iterations += 1
