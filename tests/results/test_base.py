"""The room results.base."""

import json
import pickle
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas
import pytest

import tl_dream as td
from tests.conftest import CAUSAL_WORDS, load_causal_bridge, says, write_gpt2
from tests.support.hostile import RESULTS, in_bytes
from tests.support.results import dream
from tl_dream import Dream
from tl_dream._files import read_json
from tl_dream.results.base import Provenance, SavedResult, made_with, readable

ORIGIN = Provenance({"torch": "2.13.0"}, "ab" * 32, "cpu", "float32", ("blocks.0.hook_mlp_out",))
PAGES = [((255, 255, 255), (0, 0, 0)), ((17, 17, 17), (224, 224, 224)), ((30, 30, 30), (204, 204, 204))]
"""Grounds and letters of a page: Jupyter's light and dark, and Visual Studio Code's dark."""


def luminance(colour: tuple[float, ...]) -> float:
    """The relative luminance of WCAG 2."""
    parts = [c / 255 / 12.92 if c <= 10.3 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))


def contrast(ground: tuple[float, ...], letters: tuple[float, ...]) -> float:
    low, high = sorted((luminance(ground), luminance(letters)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (
            {"kind": "frontier"},
            ["the file holds 'frontier', not a 'dream' result: load it with the class that wrote it"],
        ),
        ({"version": 99}, ["the file has format version 99; this release reads version 1"]),
        ({"version": None}, ["format version None"]),
        ({"start": {}}, ["the file is not a whole dream result", "is missing or wrong"]),
        ({"history": []}, ["the file is not a whole dream result"]),
        ({"others": [{}]}, ["the file is not a whole dream result"]),
    ],
)
def test_files_that_are_refused(tmp_path: Path, change: dict[str, object], parts: list[str]) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**dream().to_json(), **change}))
    with says(*parts):
        Dream.load(path)


def test_a_missing_key_is_named() -> None:
    data = dream().to_json()
    del data["forwards"]
    with says("the file is not a whole dream result: KeyError('forwards') is missing or wrong"):
        Dream.from_json(data)


def test_a_file_that_is_no_result_at_all(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("[1, 2]")
    with says("the file holds None, not a 'dream' result"):
        Dream.load(path)
    path.write_text("{half")
    with says(f"can't read {str(path)!r} as JSON: "):
        Dream.load(path)
    path.write_bytes(b"\xff\xfe\x00")
    with says("as JSON: "):
        Dream.load(path)
    with says(f"can't read {str(tmp_path / 'none.json')!r} as JSON: ", "No such file"):
        read_json(tmp_path / "none.json")


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.kind)
def test_no_letter_of_a_text_breaks_a_print(result: SavedResult) -> None:
    def odd(data: Any, key: str = "") -> Any:
        if isinstance(data, dict):
            return {name: odd(value, name) for name, value in data.items()}
        if isinstance(data, list):
            return [odd(value, key) for value in data]
        return f"{data}\n\r\x1b[31m\u2028" if key in ("text", "texts") and isinstance(data, str) else data

    shown = str(type(result).from_json(odd(result.to_json())))
    assert len(shown.splitlines()) == len(str(result).splitlines())
    assert all(line.isprintable() for line in shown.split("\n"))


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.kind)
def test_what_a_result_shows_of_itself(result: Any) -> None:
    shown = repr(result)
    assert shown.startswith(f"<{type(result).__name__}>\n") and str(result).splitlines()[0][:100] in shown
    assert len(shown.splitlines()) <= 22 and max(map(len, shown.splitlines())) <= 120
    page = result._repr_html_()
    for colour in re.findall(r"(?:background|color):\s*([^;\"]+)", page):
        assert colour in ("transparent", "inherit") or (shade := re.fullmatch(r"rgba\((.+)\)", colour)), colour
        if colour.startswith("rgba"):
            *paint, depth = map(float, shade[1].split(","))
            for ground, letters in PAGES:
                mixed = tuple(depth * own + (1 - depth) * under for own, under in zip(paint, ground, strict=True))
                assert contrast(mixed, letters) >= 4.5
    frame = result.to_frame()
    assert isinstance(frame, pandas.DataFrame) and frame.columns.is_unique and len(frame.columns)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.kind)
def test_a_result_comes_back(result: Any, tmp_path: Path) -> None:
    """From a file, of this release or of before there was a provenance, and from a pickle."""
    with made_with(lambda: ORIGIN):
        made = replace(result, provenance=ORIGIN)
        made.save(tmp_path / "x.json")
        data = json.loads((tmp_path / "x.json").read_text("utf-8"))
        assert type(result).load(tmp_path / "x.json").provenance == ORIGIN
        assert data.pop("provenance") == json.loads(json.dumps(asdict(ORIGIN)))
        old = type(result).from_json(data)
    assert old.provenance is None and old == made and result.provenance is None
    again = pickle.loads(pickle.dumps(made))
    assert again == made and again.provenance == ORIGIN and repr(again) == repr(result)


def test_where_results_come_from_is_asked_once_and_in_this_call_alone() -> None:
    asked: list[int] = []

    def origin() -> Provenance:
        asked.append(1)
        return ORIGIN

    with made_with(origin):
        with made_with(lambda: replace(ORIGIN, device="cuda")):
            assert dream().provenance.device == "cuda" and not asked
        assert dream().provenance is dream().provenance is ORIGIN and len(asked) == 1
    assert dream().provenance is None
    data = dream().to_json() | {"provenance": {"versions": {}, "model": 3}}
    with says("not a whole dream result", "model = 3"):
        Dream.from_json(data)


@pytest.mark.parametrize(
    ("token", "shown"),
    [
        *(("ĠcafÃ©", "café"), ("Ġdog", "dog"), ("æĹ¥", "日"), ("Ġ", "␣"), ("ĠĠ", "␣␣"), (".ĊĊ", ".\\n\\n")),
        *((same, same) for same in ("dog", "##ing", "café", "čas", "ĉu", "Ċini", "Ġorġ", "Ã", "▁the", "東", "[MASK]")),
    ],
)
def test_tokens_as_a_reader_wants_them(token: str, shown: str) -> None:
    assert readable(token) == shown


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.kind)
def test_a_result_shows_tokens_of_bytes_as_text_and_keeps_them(result: Any) -> None:
    made = in_bytes(result)
    frames = (made.to_frame(), getattr(made, "alternatives_frame", made.to_frame)())
    shown = f"{made}{made!r}{made._repr_html_()}" + "".join(frame.to_string() for frame in frames)
    assert "Ġ" not in shown and "Ã" not in shown
    if made != result and result.kind != "frontier":  # which shows texts alone
        assert "café" in shown and "ĠcafÃ©" in json.dumps(made.to_json(), ensure_ascii=False)


def test_what_a_byte_level_model_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.conftest.CAUSAL_WORDS", [*CAUSAL_WORDS, "cafÃ©"])
    model, goal, text = load_causal_bridge(write_gpt2(tmp_path)), td.neuron("mlp_post", layer=1, unit=3), " a café dog"
    words = [" café", " dog", " red"]
    for result in (
        td.token_search(model, goal, text, pos=2, top=3, allowed=words),
        td.similar_tokens(model, goal, text, pos=2, k=3, search=False),
        td.corpus_search(model, goal, [text]),
        td.essential(model, goal, text),
        td.dream(model, goal, text, budget=500, allowed=words),
    ):
        shown = f"{result}{result!r}{result._repr_html_()}{result.to_frame().to_string()}"
        assert "café" in shown and "ĠcafÃ©" not in shown and "Ġdog" not in shown
        assert "ĠcafÃ©" in json.dumps(result.to_json(), ensure_ascii=False)


def test_a_long_result_is_cut_and_its_text_escaped() -> None:
    found = dream()
    long = replace(found, objective="<script>" + "x" * 200, others=())
    assert "<script>" not in long._repr_html_() and "&lt;script&gt;" in long._repr_html_()
    assert repr(long).splitlines()[1].endswith(" ...")
    table = next(one for one in RESULTS if one.kind == "token_table")
    many = replace(table, top=table.top * 50)
    assert repr(many).endswith("more lines: print() shows them") and "<pre" in many._repr_html_()
