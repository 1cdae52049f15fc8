from collections.abc import Iterator

import pytest
import torch

import tl_dream as td
from tests.support.portraits import write_planted


@pytest.fixture(scope="session")
def known(tmp_path_factory: pytest.TempPathFactory) -> Iterator[torch.nn.Module]:
    """The encoder whose units are known (see tests/support/portraits.py). Shared: read it, never edit it."""
    yield td.load_model(str(write_planted(tmp_path_factory.mktemp("known"))))
