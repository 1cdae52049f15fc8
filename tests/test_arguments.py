"""The room _arguments."""

import numpy
import pytest
import torch

from tl_dream._arguments import whole_number
from tl_dream._errors import DreamError


def test_whole_numbers_of_any_kind_become_plain_ones() -> None:
    for value in (3, numpy.int64(3), torch.tensor(3)):
        number = whole_number("k", value)
        assert number == 3 and type(number) is int
    assert whole_number("k", 0, 0) == 0 and whole_number("k", 5, 1, 5) == 5


@pytest.mark.parametrize("value", [True, numpy.True_, 3.0, "3", None, 0, -1, 6, torch.tensor(1.5), [3]])
def test_what_is_no_whole_number_in_range(value: object) -> None:
    with pytest.raises(DreamError, match=r"k = .*: give a whole number from 1 to 5, the most there is"):
        whole_number("k", value, 1, 5, ", the most there is")
