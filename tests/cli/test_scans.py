"""`tl-dream corpus`, `token-search`, `similar` and `predict`: what they print and write, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tl_dream import DreamError, cli
from tl_dream.cli import app
from tl_dream.results.corpora import CorpusResult
from tl_dream.results.scans import MaskedPredictions, NeighbourTable, TokenTable

TEXT = "i hate the red dog ."


Run = Callable[..., str]


@pytest.fixture
def run(tiny_folder: Path, backend: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("token-search", "--top", "3", pos="red")` gives what the command prints on the tiny encoder."""

    def call(command: str, *more: object, **options: object) -> str:
        chosen: dict[str, object] = {"model": tiny_folder, "backend": backend, **options}
        if command != "predict":
            chosen = {"hook": "block_out", "layer": 1, "unit": 3, **chosen}
        pairs = [f"--{key.replace('_', '-')}={value}" for key, value in chosen.items() if value is not None]
        app.parse([command, *map(str, more), *pairs])()
        return capsys.readouterr().out

    return call


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_bytes(
        "\n".join(["i hate the red dog .", "", "the sea is warm", "b\xff", "we love you"]).encode("latin-1")
    )
    return path


def test_corpus(run: Run, corpus: Path, tmp_path: Path) -> None:
    data, figure = tmp_path / "found.json", tmp_path / "found.png"
    out = run("corpus", corpus, "--top", 2, json=data, figure=figure)
    assert "3 lines of" in out and "skipped: 1 blank, 1 undecodable" in out and f"wrote {figure}" in out
    found = json.loads(data.read_text())
    assert found["scored"] == 3 and found["seconds"] > 0 and len(found["top"]) == 2
    assert {"text", "tokens", "pos", "score"} <= set(found["top"][0])
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert CorpusResult.load(data).corpus == str(corpus)


def test_corpus_with_a_checkpoint(run: Run, corpus: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.json"
    first = run("corpus", corpus, "--max-tokens", 7, checkpoint=checkpoint, pos="1")
    assert checkpoint.exists() and "1 over-long (more than 7 tokens)" in first
    assert (
        run("corpus", corpus, "--max-tokens", 7, checkpoint=checkpoint, pos="1").split("\n")[:4]
        == first.split("\n")[:4]
    )
    with pytest.raises(DreamError, match="is of another search"):
        run("corpus", corpus, checkpoint=checkpoint, pos="2")


def test_several_units_in_one_pass(run: Run, corpus: Path, tmp_path: Path) -> None:
    data, figure = tmp_path / "found.json", tmp_path / "found.png"
    out = run("corpus", corpus, "--top", 2, unit="3,5:7", json=data, figure=figure)
    found = [CorpusResult.from_json(one) for one in json.loads(data.read_text())]
    assert [one.objective for one in found] == [f"neuron('block_out', layer=1, unit={unit})" for unit in (3, 5, 6)]
    figures = [tmp_path / f"found-{number}.png" for number in (1, 2, 3)]
    assert out.startswith("\n\n".join(map(str, found)) + "\nwrote ") and all(f"wrote {path}" in out for path in figures)
    assert {path.name for path in tmp_path.iterdir()} == {"corpus.txt", "found.json", *(path.name for path in figures)}
    run("corpus", corpus, "--top", 2, unit=5, json=data)
    assert CorpusResult.load(data).top == found[1].top
    with pytest.raises(DreamError, match="2 units are named: this command takes one"):
        run("token-search", text=TEXT, pos="red", unit="3,4")


def test_token_search(run: Run, tmp_path: Path) -> None:
    data, figure = tmp_path / "found.json", tmp_path / "found.svg"
    out = run(
        "token-search", "--top", 3, "--allowed", "no_special ascii", text=TEXT, pos="red", json=data, figure=figure
    )
    assert "position 4 of: [CLS] i hate the [red] dog . [SEP]" in out and f"wrote {data}" in out
    found = json.loads(data.read_text())
    assert len(found["top"]) == 3 and set(found["top"][0]) == {"token", "id", "score"}
    assert found["evaluated"] > 100 and found["seconds"] > 0 and b"<svg" in figure.read_bytes()
    assert TokenTable.load(data).top[0].token in out


def test_the_word_to_exchange_may_be_another_one(run: Run) -> None:
    assert "position 2 of:" in run("token-search", "--change", "hate", text=TEXT, pos="red")
    assert "position 6 of:" in run("token-search", "--change", -2, text=TEXT)
    with pytest.raises(DreamError, match="which position"):
        run("token-search", text=TEXT)
    with pytest.raises(DreamError, match="which position"):
        run("token-search", text=TEXT, pos="1,2")


def test_similar(run: Run, tmp_path: Path) -> None:
    data, figure = tmp_path / "near.json", tmp_path / "near.png"
    out = run("similar", "--k", 4, text=TEXT, pos="red", json=data, figure=figure, metric="cosine")
    assert "of the 4 nearest (cosine) are among the token search's best 30" in out
    assert NeighbourTable.load(data).metric == "cosine" and figure.exists()
    assert "are among" not in run("similar", "--k", 4, "--no-search", text=TEXT, pos="red")


def test_predict(run: Run, tmp_path: Path) -> None:
    data, figure = tmp_path / "found.json", tmp_path / "found.png"
    out = run("predict", "--top", 2, text="i [MASK] the red dog .", json=data, figure=figure)
    assert "position 2 of: [CLS] i [[MASK]] the red dog . [SEP]" in out
    assert len(MaskedPredictions.load(data).predictions[0]) == 2 and figure.exists()


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("token-search", {"text": TEXT, "pos": "moon"}, "the word 'moon' is not in the sentence"),
        ("token-search", {"text": TEXT, "pos": "red", "top": 9999}, "more than the .* tokens that are allowed"),
        ("token-search", {"text": TEXT, "pos": "red", "figure": "x.jpg"}, "unknown figure format"),
        ("token-search", {"text": TEXT, "pos": "red", "precision": "fp8"}, "unknown precision 'fp8'"),
        ("similar", {"text": TEXT, "pos": "red", "metric": "taxi"}, "unknown metric 'taxi'"),
        ("similar", {"text": TEXT, "pos": "red", "best": 9999}, r"best = 9999 is more than the \d+ tokens that are"),
        ("similar", {"text": TEXT, "pos": "red", "json": "no/x.json"}, "the folder 'no' does not exist"),
        ("predict", {"text": TEXT}, r"has no \[MASK\]"),
        ("predict", {"text": TEXT, "tpo": 3}, r"No such option: --tpo \(Possible options: .*--top"),
    ],
)
def test_what_they_refuse(run: Run, command: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(DreamError, match=message):
        run(command, **options)


@pytest.mark.parametrize("option", ["json", "figure", "checkpoint"])
def test_nothing_is_written_over_the_corpus(run: Run, tmp_path: Path, option: str) -> None:
    corpus, link = tmp_path / "corpus.png", tmp_path / "link.png"
    corpus.write_text("i walk\n")
    link.symlink_to(corpus)
    for given in (corpus, link, tmp_path / ".." / tmp_path.name / "corpus.png"):
        with pytest.raises(DreamError, match="is the file '.*corpus.png', which is read: it would be written over"):
            run("corpus", corpus, model="no-such-model", **{option: given})
    assert corpus.read_text() == "i walk\n"


def test_nothing_is_written_over_the_allowed_tokens(run: Run, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.png"
    tokens.write_text("red dog cat")
    for command, option in (("token-search", "json"), ("similar", "figure")):
        with pytest.raises(DreamError, match="tokens.png', which is read: it would be written over"):
            run(command, text=TEXT, pos="red", allowed=f"@{tokens}", model="no-such-model", **{option: tokens})
    assert tokens.read_text() == "red dog cat"
    assert "3 tokens searched" in run("token-search", text=TEXT, pos="red", allowed=f"@{tokens}", top=3)


def test_a_corpus_that_is_not_there_is_told_before_the_model_loads(run: Run) -> None:
    with pytest.raises(DreamError, match="there is no file 'no/such.txt'"):
        run("corpus", "no/such.txt", model="no-such-model")


@pytest.mark.parametrize("command", ["corpus", "token-search", "similar", "predict"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--json FILE" in shown and "--figure FILE" in shown and "Example: tl-dream " + command in shown
