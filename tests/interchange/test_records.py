"""The room interchange.records."""

from copy import deepcopy

import pytest

from tests.conftest import says
from tests.support.text_dream import FILES
from tl_dream.interchange.records import read_records, settings_of, span


def test_the_best_record_and_the_last() -> None:
    dream, read = FILES["dream"], FILES["reconstruct"]
    assert [read_records(dream, show, "activation", 1).shown for show in ("best", "last")] == [1, 2]
    assert read_records(dream, "best", "activation", 1).free == [3]
    run = read_records(read, "best", "loss", -1)
    assert run.history["hard_score"] == [-2.0, -0.25] and run.history["soft_score"] == [-1.0, -0.5] and run.shown == 1


@pytest.mark.parametrize("key", ["temperature", "max_values", "activation"])
def test_what_a_run_may_lack(key: str) -> None:
    """Altogether, or the file is broken."""
    data = deepcopy(FILES["dream"])
    rows = data["results"]["iterations"]
    del rows[1][key]
    with says(f"'{key}' is missing from 1 iterations"):
        read_records(data, "best", "activation", 1)
    for row in rows:
        row.pop(key, None)
    held = read_records(data, "best", "activation", 1).history
    assert [] in (held["temperature"], held["weights"], held["soft_score"])


def test_what_stands_beside_the_iterations_is_kept() -> None:
    run = FILES["magnitudes"]["magnitudes"][0]
    assert settings_of({"a": 1}, run) == {"a": 1, "results": [{"layer": -1}]}
    assert settings_of({"a": 1}, FILES["dream"]) == {"a": 1}


def test_positions() -> None:
    assert span({"dream_start": 1, "dream_end": 2, "tokens": ["a", "b", "c"]}, "dream") == [1, 2]
    with says("positions 2 to 1 of the dream are not in 3 tokens"):
        span({"dream_start": 2, "dream_end": 1, "tokens": ["a", "b", "c"]}, "dream")
