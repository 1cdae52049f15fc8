"""`tl-dream import` and `tl-dream export`."""

import json
from pathlib import Path
from typing import Any

import pytest

import tl_dream as td
from tests.conftest import says
from tests.support.text_dream import FILES
from tl_dream.cli import app


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name, data in FILES.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    return {name: tmp_path / f"{name}.json" for name in FILES}


@pytest.mark.parametrize("name", FILES)
def test_there_and_back(name: str, files: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    saved, figure, out = (str(tmp_path / file) for file in ("ours.json", "figure.png", "theirs.json"))
    app.parse(["import", str(files[name]), "--json", saved, "--figure", figure])()
    assert f"wrote {figure}" in capsys.readouterr().out
    assert Path(figure).read_bytes().startswith(b"\x89PNG")
    app.parse(["export", saved, "--out", out])()
    assert f"wrote {out}" in capsys.readouterr().out
    assert td.read_text_dream(out) == td.read_text_dream(files[name])


def test_the_last_record_and_a_word(files: dict[str, Path], tmp_path: Path, capsys: Any) -> None:
    app.parse(["import", str(files["dream"]), "--show", "last"])()
    assert "the red moon" in capsys.readouterr().out
    app.parse(["import", str(files["dream"]), "--json", str(tmp_path / "ours.json"), "-q"])()
    with says("pos = 1", "not annealed"):  # their file of a dream holds no softmax
        app.parse(["export", str(tmp_path / "ours.json"), "--out", str(tmp_path / "x.json"), "--pos", "1"])()
    with says("unknown record 'first'"):
        app.parse(["import", str(files["dream"]), "--show", "first"])
    with says("is the file", "written over"):
        app.parse(["export", str(tmp_path / "ours.json"), "--out", str(tmp_path / "ours.json")])()
