"""The fewest things that do, against every set there is."""

import random
from collections.abc import Iterable
from itertools import combinations

import pytest

from tl_dream.portraits.subsets import Slots, fewest


@pytest.mark.parametrize("seed", range(30))
def test_no_smaller_set_does(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randint(1, 6)
    every = [frozenset(one) for size in range(count + 1) for one in combinations(range(count), size)]
    table = {one: draw.random() * len(one) for one in every}
    table[every[-1]] = max(table.values())
    wanted = 0.9 * table[every[-1]]

    def scores(sets: Iterable[Slots]) -> list[float]:
        return [table[one] for one in sets]

    found, value, certain = fewest(scores, count, wanted, 10_000)
    enough = [one for one in every if table[one] >= wanted]
    size = min(map(len, enough))
    assert table[found] == value >= wanted
    if certain:
        assert len(found) == size
    if size <= 4:
        assert certain and value == max(table[one] for one in enough if len(one) == size)
    greedy, value, certain = fewest(scores, count, wanted, 0)
    assert table[greedy] == value >= wanted and len(greedy) >= size and (not certain or not greedy)
