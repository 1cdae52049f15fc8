"""The watch over types and shapes itself (tests/support/checks.py): what it is to notice, it notices."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tests.support.checks import checked
from tl_dream.models.batching import length_groups
from tl_dream.models.host import Meter
from tl_dream.objectives.objective import Read, Tokens

ROW, TWO = torch.zeros(3), torch.zeros(2, 3)


@checked
def added(left: Float[Tensor, " batch"], right: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return inner(left + right)


@checked
def inner(x: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    return x.repeat(2)[: 2 * len(x)] if len(x) == 5 else x


@checked
def counted(count: int, ids: Int[Tensor, " {count}"]) -> float:
    return count


@checked
def lazily(x: Float[Tensor, " batch"], y: Float[Tensor, " batch"]) -> Iterator[Tensor]:
    yield x


@checked
@dataclass
class Pair:
    left: Float[Tensor, " batch"]
    right: Float[Tensor, " batch"]

    @classmethod
    @checked
    def of(cls, width: int) -> "Pair":
        return cls(torch.zeros(width), torch.zeros(width))

    @property
    @checked
    def half(self) -> int:
        return len(self.left) / 2


def made_anew() -> Callable[[object], int]:
    @checked
    def within(count: int) -> int:
        return count

    return within


@pytest.mark.parametrize(
    "call",
    [
        lambda: added(ROW, TWO),
        lambda: added(ROW, torch.zeros(4)),
        lambda: added(torch.zeros(5), torch.zeros(5)),
        lambda: added(ROW.long(), ROW.long()),
        lambda: counted(2, torch.zeros(3, dtype=torch.long)),
        lambda: counted("2", torch.zeros(2, dtype=torch.long)),
        lambda: list(lazily(ROW, torch.zeros(4))),
        lambda: Pair(ROW, torch.zeros(4)),
        lambda: Pair.of(2.5),
        lambda: Pair.of(3).half,
    ],
)
def test_what_does_not_fit_is_noticed(call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="violates|Type-check"):
        call()


def test_what_fits_passes() -> None:
    assert added(ROW, ROW).shape == ROW.shape
    assert counted(2, torch.zeros(2, dtype=torch.long)) == 2
    assert len(list(lazily(ROW, ROW))) == 1 and Pair.of(3).left.shape == ROW.shape


def test_the_package_is_watched() -> None:
    """Its functions and its dataclasses, types and shapes."""
    ids = torch.zeros(2, 3, dtype=torch.long)
    for wrong in (
        lambda: length_groups([1, 2], "many"),
        lambda: Read(3),
        lambda: Tokens(ids, torch.zeros(2, 4, 5), False, Meter()),
    ):
        with pytest.raises(Exception, match="violates|Type-check"):
            wrong()


def test_of_functions_inside_others_the_first_are_watched() -> None:
    first, *_, last = [made_anew() for _ in range(20)]
    with pytest.raises(TypeError, match="violates"):
        first("2")
    assert last(2) == 2 and not hasattr(last, "__wrapped__")


def test_unchecked(unchecked: None) -> None:
    assert counted("2", 3) == "2" and length_groups([1], 2.5)
