"""The room results.base."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import says
from tests.support.hostile import RESULTS
from tests.support.results import dream
from tl_dream import Dream
from tl_dream._files import read_json


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
def test_what_a_result_shows_of_itself(result: Any) -> None:
    shown = repr(result)
    assert shown.startswith(f"<{type(result).__name__}>\n") and str(result).splitlines()[0][:100] in shown
    assert len(shown.splitlines()) <= 22 and max(map(len, shown.splitlines())) <= 120
    page = result._repr_html_()
    colours = re.findall(r"(?:background|color):\s*([^;\"]+)", page)
    shades = re.compile(r"transparent|inherit|rgba\(86,180,233,0\.[0-3]\d\)")
    assert all(shades.fullmatch(colour) for colour in colours), "unreadable in dark or light"


def test_a_long_result_is_cut_and_its_text_escaped() -> None:
    found = dream()
    long = replace(found, objective="<script>" + "x" * 200, others=())
    assert "<script>" not in long._repr_html_() and "&lt;script&gt;" in long._repr_html_()
    assert repr(long).splitlines()[1].endswith(" ...")
    table = next(one for one in RESULTS if one.kind == "token_table")
    many = replace(table, top=table.top * 50)
    assert repr(many).endswith("more lines: print() shows them") and "<pre" in many._repr_html_()
