"""`tl-dream portrait`, `essential` and `atlas`."""

from pathlib import Path

import pytest

from tests.support.cli import complaint
from tl_dream import EssentialTokens, Portrait
from tl_dream.cli import app

LINES = ["i hate my small old house .", "the red dog and a cat .", "we drink milk and eat fish .", "the sun is warm"]
QUICK = ["--placebos", "2", "--seeds", "1", "--budget", "300"]


@pytest.fixture
def words(tiny_folder: Path, tmp_path: Path) -> list[str]:
    """The model and the corpus, as options."""
    corpus = tmp_path / "lines.txt"
    corpus.write_text("\n".join(LINES), "utf-8")
    return ["--model", str(tiny_folder), "--corpus", str(corpus)]


def test_a_portrait(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, figure = tmp_path / "page.json", tmp_path / "page.png"
    unit = ["--hook", "block_out", "--layer", "1", "--unit", "3", "--no-fluent", "--json", str(data)]
    app.parse(["portrait", *words, *unit, *QUICK, "--no-tokens", "--text", LINES[0], "--figure", str(figure)])()
    page = Portrait.load(data)
    assert str(page) in capsys.readouterr().out and page.tokens is None and page.settings["placebos"] == 2
    assert {len(one.essential.whole.tokens) for one in page.dreams} == {9}
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_essential(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "found.json"
    unit = ["--hook", "block_out", "--layer", "1", "--unit", "3", "--text", LINES[0], "--json", str(data)]
    app.parse(["essential", "--model", str(tiny_folder), *unit, "--replacement", "mask", "--keep", "0.5"])()
    found = EssentialTokens.load(data)
    assert found.replaced_by == "[MASK]" and found.keep == 0.5 and str(found) in capsys.readouterr().out


def test_an_atlas(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "atlas"
    units = ["--units", "block_out:0-1:3", "--out", str(out), "--quiet"]
    app.parse(["atlas", *words, *units, *QUICK])()
    assert capsys.readouterr().out.strip() == str(out / "index.html")
    assert {file.stem for file in (out / "units").glob("*.json")} == {"block_out-0-3", "block_out-1-3"}


def test_mistakes(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unit = ["--hook", "block_out", "--layer", "1", "--unit", "3"]
    assert "there is no file" in complaint(capsys, ["portrait", *unit, "--corpus", str(tmp_path / "none.txt")])
    assert "this command takes one" in complaint(capsys, ["portrait", *words, *unit[:-1], "3,4"])
    full = complaint(capsys, ["atlas", *words, "--units", "block_out:1:3", "--out", str(tmp_path)])
    assert "holds something else than an atlas" in full
