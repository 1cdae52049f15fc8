"""What loads can be used, whatever a file holds: `check_lengths`, `check_that`, `check_places` of _arguments."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import says
from tests.support.hostile import COMPACT, RESULTS, damage
from tl_dream._files import parse_json
from tl_dream.results.base import SavedResult

NAMES = [result.kind for result in RESULTS]
WRITTEN = {result.kind: json.dumps(result.to_json()) for result in RESULTS}


def use(result: SavedResult) -> None:
    """What one does with a result."""
    assert str(result) and repr(result)
    for name in ("_repr_html_", "to_frame", "alternatives_frame"):
        getattr(result, name, str)()
    for name, part in vars(type(result)).items():
        if isinstance(part, property):
            getattr(result, name)
    assert type(result).from_json(parse_json(json.dumps(result.to_json()))) == result


def test_every_kind_is_here() -> None:
    for result in RESULTS:
        use(result)
    kinds, new = set(), [SavedResult]
    while new:
        below = [kind for parent in new for kind in parent.__subclasses__()]
        new = [kind for kind in below if kind.__module__.startswith("tl_dream.results.")]
        kinds |= {kind.kind for kind in new}
    assert kinds == set(NAMES)


@pytest.mark.parametrize("result", RESULTS, ids=NAMES)
@COMPACT
@given(choices=st.data())
def test_a_damaged_file_is_refused_or_can_be_used(result: SavedResult, choices: st.DataObject) -> None:
    data = json.loads(WRITTEN[result.kind])
    damage(choices.draw, data)
    try:
        loaded = type(result).from_json(parse_json(json.dumps(data)))
    except ValueError:  # which parse_json raises, and a DreamError is
        return
    use(loaded)


@pytest.mark.parametrize(
    "content", [b'{"a": 1e400}', b'{"a": 9223372036854775808}', b'{"a": "\\ud800"}', b'"\xed\xa0\x80"']
)
def test_what_could_not_be_written_again(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with says("as JSON: "):
        type(RESULTS[0]).load(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("kind", "key", "value", "told"),
    [
        (
            "sensitivity",
            "values",
            [0.5, 1.0],
            "go with each other differ in length: {'texts': 1, 'values': 2}",
        ),
        ("frontier", "front", [], "front = () is not a text or more"),
        ("layer_reconstructions", "layers", [], "layers = () is not one or more"),
        ("reconstruction", "errors", [0.5], "errors = (0.5,) is not of 2 positions"),
        ("reconstruction", "free", [1, 4], "free = (1, 4) is not among the positions 0 to 3"),
        ("reconstruction", "scale", 0.0, "is not > 0 and <= 0"),
        ("kept_tokens", "texts", [], "text = [0] is not among the positions"),
        ("concept_edit", "pos", [4], "pos = (4,) is not among the positions 0 to 3"),
        ("masked_predictions", "predictions", [], "{'places': 1, 'predictions': 0}"),
        ("concept_steering", "rows", [{}], "KeyError('pos')"),
    ],
)
def test_parts_that_do_not_fit_are_named(kind: str, key: str, value: object, told: str) -> None:
    result = RESULTS[NAMES.index(kind)]
    with says(f"not a whole {kind} result", told):
        type(result).from_json(result.to_json() | {key: value})
