"""Whether the parts of a result fit together: what a file must hold besides the right types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def check_lengths(made: Any, *names: str) -> None:
    """Raise ValueError unless these parts of a dataclass are as long as each other."""
    lengths = {name: len(getattr(made, name)) for name in names}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{type(made).__name__}: parts that go with each other differ in length: {lengths}")


def check_that(condition: bool, name: str, value: Any, wanted: str) -> None:
    """Raise ValueError unless a value of a file can stand with the others there."""
    if not condition:
        raise ValueError(f"{name} = {value!r:.60} is not {wanted}")


def check_places(name: str, places: Sequence[int], length: int) -> None:
    """Raise ValueError unless these are positions of a sentence of so many tokens."""
    check_that(all(0 <= pos < length for pos in places), name, places, f"among the positions 0 to {length - 1}")
