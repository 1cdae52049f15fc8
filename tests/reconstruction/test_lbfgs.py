"""L-BFGS on known functions: every row by itself, and never uphill."""

from collections.abc import Callable

import torch
from torch import Tensor

from tests.support.search import outcome_of
from tl_dream.reconstruction.lbfgs import Function, Minimizer
from tl_dream.search.batch import Search


def asked(known: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Function:
    """A function as a search asks for it."""

    def function(x: Tensor) -> Search[tuple[Tensor, Tensor]]:
        yield from ()
        return known(x)

    return function


def rosenbrock(x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and gradients of Rosenbrock's valley in every row; its lowest point is (1, 1)."""
    x = x.detach().requires_grad_()
    value = (1 - x[:, 0]) ** 2 + 100 * (x[:, 1] - x[:, 0] ** 2) ** 2
    (gradient,) = torch.autograd.grad(value.sum(), x)
    return value.detach(), gradient


STARTS = torch.tensor([[-1.2, 1.0], [2.0, 2.0], [0.0, -1.0]], dtype=torch.float64)


def test_every_row_gets_to_the_lowest_point_and_never_climbs() -> None:
    found = Minimizer(asked(rosenbrock), STARTS)
    outcome_of(found.run(0))
    values = [found.value]
    for _ in range(80):
        outcome_of(found.run(1))
        values.append(found.value)
    assert torch.allclose(found.x, torch.ones_like(STARTS), atol=1e-6)
    assert all(bool((later <= earlier).all()) for earlier, later in zip(values, values[1:], strict=False))


def test_a_row_goes_as_it_would_alone() -> None:
    together, alone = Minimizer(asked(rosenbrock), STARTS), Minimizer(asked(rosenbrock), STARTS[1:2])
    calls: list[int] = []
    outcome_of(together.run(12, lambda: calls.append(together.iterations)))
    outcome_of(alone.run(12))
    assert calls == list(range(12))
    assert torch.allclose(together.x[1], alone.x[0], rtol=1e-9, atol=1e-9)


def test_it_stops_where_no_row_moves() -> None:
    still = Minimizer(asked(lambda x: (torch.zeros(len(x)), torch.zeros_like(x))), torch.ones(2, 3))
    outcome_of(still.run(50))
    walls = Minimizer(
        asked(lambda x: (torch.where(x[:, 0] == 0, 0.0, torch.inf), torch.ones_like(x))), torch.zeros(1, 2)
    )
    outcome_of(walls.run(50))
    assert walls.stuck and walls.iterations < 5 and torch.equal(walls.x, torch.zeros(1, 2))
    assert torch.equal(still.x, torch.ones(2, 3))
