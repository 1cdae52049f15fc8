"""Screens that have something to drop."""

from functools import partial

import pytest

from tl_dream.scans import tokens as scans
from tl_dream.scans.screening import exact_best


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample so small that the screens of a tiny vocabulary have something to drop."""
    monkeypatch.setattr(scans, "exact_best", partial(exact_best, sample=24, last_sample=8))
