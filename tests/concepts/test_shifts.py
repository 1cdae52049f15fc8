"""The room concepts.shifts."""

from fractions import Fraction

import numpy
import pytest
import torch

from tl_dream.concepts.vectors import ConceptVector


@pytest.mark.parametrize(
    ("pos", "moved"), [(2, [2]), (-1, [8]), ([1, -3], [1, 6]), (slice(3, 5), [3, 4]), (None, list(range(9)))]
)
def test_a_shift_moves_by_natural_units_at_these_positions_alone(
    concept: ConceptVector, pos: object, moved: list[int]
) -> None:
    activation = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
    found = concept.shift(activation, pos, -1.5)
    change = found - activation
    still = [i for i in range(9) if i not in moved]
    assert torch.equal(found[:, still], activation[:, still])
    assert torch.allclose(
        change[:, moved], (-1.5 * concept.scale * concept.direction).expand(2, len(moved), 24), atol=1e-5
    )
    assert torch.allclose(
        concept.coordinate(found) - concept.coordinate(activation),
        change @ concept.direction / concept.scale,
        atol=1e-5,
    )
    assert torch.allclose(
        (concept.coordinate(found) - concept.coordinate(activation))[:, moved], torch.tensor(-1.5), atol=1e-5
    )
    assert torch.equal(concept.shift(activation[0], pos, -1.5), found[0])  # without a batch axis


def test_a_shift_of_nothing_and_along_another_direction(concept: ConceptVector) -> None:
    activation = torch.randn(9, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(concept.shift(activation, 2, 0), activation)
    for two in (numpy.float32(2), numpy.array(2), torch.tensor(2.0), Fraction(2)):
        assert torch.equal(concept.shift(activation, 2, two), concept.shift(activation, 2, 2))
    other = concept.shift(activation, 2, 2.0, along=concept.control)
    assert torch.allclose((other - activation)[2], 2 * concept.scale * concept.control, atol=1e-5)
    heads = concept.shift(activation.reshape(9, 4, 6), 2, 1)
    assert torch.equal(heads.reshape(9, 24), concept.shift(activation, 2, 1))
