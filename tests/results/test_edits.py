"""The room results.edits."""

import json
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.editing import CAT, HER, SHE, activation, made_edit, made_row
from tl_dream.concepts.vectors import ConceptVectors
from tl_dream.results.edits import Change, ConceptEdit


def test_rows_by_hand(encoder: torch.nn.Module, concepts: ConceptVectors, edit: ConceptEdit) -> None:
    assert edit.pos == (5,) and edit.tokens[5] == "he"
    for row in edit.rows:
        if row.control not in (None, "opposite", "shuffled"):
            continue
        vector = concepts[row.layer]
        ids = [VOCAB.index(token) for token in row.tokens]
        origin = activation(encoder, vector.hook_name, [VOCAB.index(token) for token in edit.tokens])
        along = {None: vector.direction, "opposite": -vector.direction, "shuffled": vector.control}[row.control]
        target = origin.clone()
        target[5] += row.magnitude * vector.scale * along
        found = activation(encoder, vector.hook_name, ids)
        assert row.loss == pytest.approx(float((found - target).square().mean()), rel=1e-3, abs=1e-9)
        assert row.start_loss == pytest.approx(float((origin - target).square().mean()), rel=1e-3, abs=1e-9)
        assert row.loss <= row.start_loss + 1e-9
        assert row.gap == pytest.approx(row.loss**0.5 / edit.neighbours[str(row.layer)], rel=1e-4)
        assert td.score(encoder, td.neuron("embed", unit=0, pos=1), row.text) is not None
        assert [c.pos for c in row.changed] == [
            i for i, (a, b) in enumerate(zip(row.tokens, edit.tokens, strict=True)) if a != b
        ]
        for change in row.changed:
            back = [*ids]
            back[change.pos] = VOCAB.index(change.before)
            own = (found - activation(encoder, vector.hook_name, back))[change.pos]
            value = float(own @ vector.direction / vector.scale)
            sign = (1 if row.magnitude > 0 else -1) * (-1 if row.control == "opposite" else 1)
            assert change.value == pytest.approx(value, abs=1e-4)
            assert (change.kind == "concept") == (value * sign >= 0.25)
            assert (change.before, change.after) == (edit.tokens[change.pos], row.tokens[change.pos])


WHO = Change(1, "he", "who", "other", 0.1)


def test_rates_tell_moved_words_from_spill_over() -> None:
    made = made_edit(
        made_row(0.0, None),
        made_row(1.0, None, SHE),
        made_row(2.0, None, SHE, HER),
        made_row(3.0, None, WHO, CAT),
        made_row(4.0, None),
        made_row(1.0, "random", CAT),
        made_row(2.0, "random"),
    )
    assert made.rates() == {
        "rows": 4,
        "moved": 0.5,
        "moved_otherwise": 0.25,
        "spill": 0.5,
        "spill_concept": 0.25,
        "unchanged": 0.25,
    }
    assert made.rates("random") == {
        "rows": 2,
        "moved": 0.0,
        "moved_otherwise": 0.0,
        "spill": 0.5,
        "spill_concept": 0.0,
        "unchanged": 0.5,
    }
    assert made.rates("shuffled")["rows"] == 0 and made.rates("shuffled")["moved"] == 0
    assert made.controls == (None, "random")


def test_json_is_as_documented_and_comes_back(tmp_path: Path) -> None:
    made = made_edit(made_row(2.0, None, SHE, HER), made_row(1.0, "random", CAT))
    made.save(tmp_path / "e.json")
    data = json.loads((tmp_path / "e.json").read_text())
    assert data["rows"][0]["control"] is None and data["rows"][1]["control"] == "random"
    assert data["rows"][0]["changed"][0] == {"pos": 1, "from": "he", "to": "she", "kind": "concept", "value": 1.0}
    assert {"layer", "magnitude", "control", "tokens", "changed", "loss", "gap", "seconds"} <= set(data["rows"][0])
    assert data["rows"][0]["tokens"] == ["[CLS]", "she", "lost", "her", "dog", "[SEP]"]
    assert ConceptEdit.load(tmp_path / "e.json") == made
    del data["rows"][0]["changed"][0]["from"]
    with says("is not a whole concept_edit result"):
        ConceptEdit.from_json(data)
    frame = made.to_frame()
    assert list(frame.changed) == [2, 1] and list(frame.magnitude) == [2.0, 1.0]


def test_an_edit_prints_what_changed() -> None:
    text = str(made_edit(made_row(2.0, None, SHE, HER), made_row(1.0, "random")))
    for part in (
        "he -> she (1, concept), his -> her (3, concept)",
        "moved: 1 he",
        "nothing",
        "0.50",
        "seed 0",
        "10 forwards",
    ):
        assert part in text
