"""L-BFGS on known functions: every row by itself, and never uphill."""

import torch
from torch import Tensor

from tl_dream.reconstruction.lbfgs import Minimizer


def rosenbrock(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and gradients of Rosenbrock's valley in every row; its lowest point is (1, 1)."""
    x = x.detach().requires_grad_()
    value = (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


STARTS = torch.tensor([[-1.2, 1.0], [2.0, 2.0], [0.0, -1.0]], dtype=torch.float64)


def test_every_row_gets_to_the_lowest_point_and_never_climbs() -> None:
    found = Minimizer(rosenbrock, STARTS)
    values = [found.value]
    for _ in range(80):
        found.run(1)
        values.append(found.value)
    assert torch.allclose(found.x, torch.ones_like(STARTS), atol=1e-6)
    assert all(bool((later <= earlier).all()) for earlier, later in zip(values, values[1:], strict=False))


def test_a_row_goes_as_it_would_alone() -> None:
    together, alone = Minimizer(rosenbrock, STARTS), Minimizer(rosenbrock, STARTS[1:2])
    calls: list[int] = []
    together.run(12, lambda: calls.append(together.iterations))
    alone.run(12)
    assert calls == list(range(12))
    assert torch.allclose(together.x[1], alone.x[0], rtol=1e-9, atol=1e-9)


def test_it_stops_where_no_row_moves() -> None:
    still = Minimizer(lambda x: (torch.zeros(len(x)), torch.zeros_like(x)), torch.ones(2, 3))
    still.run(50)
    walls = Minimizer(lambda x: (torch.where(x[:, 0] == 0, 0.0, torch.inf), torch.ones_like(x)), torch.zeros(1, 2))
    walls.run(50)
    assert walls.stuck and walls.iterations < 5 and torch.equal(walls.x, torch.zeros(1, 2))
    assert torch.equal(still.x, torch.ones(2, 3))
