"""What is known about concepts, as plain data."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from tests.conftest import says
from tests.support.concepts import made_evidence
from tl_dream.results.base import Cost, read_fields
from tl_dream.results.concepts import ConceptReading, Evidence, ReadWord

ROW = ReadWord(None, 1, "he", -0.5, "he")
READING = ConceptReading("tiny", "he -> she", "block_out", "he ran", (ROW,), Cost(1, 2, 0.5))


def test_a_reading_comes_back_from_its_file(tmp_path: Path) -> None:
    READING.save(tmp_path / "reading.json")
    assert ConceptReading.load(tmp_path / "reading.json") == READING
    assert "-      1    he     -0.500      he" in str(READING)


@pytest.mark.parametrize(
    ("row", "wrong"),
    [
        ({"pos": 1.0}, "pos = 1.0 is not a whole number"),
        ({"pos": True}, "pos = True is not a whole number"),
        ({"value": float("nan")}, "value = nan is not a finite number"),
        ({"token": 7}, "token = 7 is not a text"),
        ({"more": 1}, "ReadWord has no ['more']"),
    ],
)
def test_a_reading_of_other_types_is_none(row: dict[str, object], wrong: str) -> None:
    data = READING.to_json()
    data["rows"] = [{**asdict(ROW), **row}]
    with says("not a whole concept_reading result", wrong):
        ConceptReading.from_json(data)


@pytest.mark.parametrize("rows", ["he ran", {"0": "he"}, None])
def test_a_list_is_asked_for_where_there_was_a_tuple(rows: object) -> None:
    with says("not a whole concept_reading result", f"rows = {rows!r} is not a list that fits"):
        ConceptReading.from_json({**READING.to_json(), "rows": rows})


def test_evidence_of_estimators_that_do_not_fit_together_is_refused() -> None:
    good = replace(made_evidence(1, 0.9), layer=None)
    assert read_fields(Evidence, asdict(good)) == good
    with says("do not fit together"):
        read_fields(Evidence, asdict(replace(good, estimator="lda")))
    with pytest.raises(ValueError, match="accuracy = 'high' is not a finite number"):
        read_fields(Evidence, {**asdict(good), "accuracy": "high"})
