"""No figure stays open."""

import matplotlib.pyplot as plt
import pytest

from tests.reconstruction.conftest import layers  # noqa: F401


@pytest.fixture(autouse=True)
def no_figure_left():
    yield
    plt.close("all")
