"""Units start from what a corpus search finds for them, which is found once."""

import os
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.sweeps import CORPUS
from tl_dream.models.host import attached
from tl_dream.sweeps import starts
from tl_dream.sweeps.starts import describe_corpus, find_starts, read_starts


def find(model: torch.nn.Module, folder: Path, texts: object = CORPUS, column: str | None = None) -> None:
    with attached(model) as host:
        units = td.units(model, "mlp_post:0-1:0-3")
        find_starts(host, units, texts, column=column, sentences=3, folder=folder, progress=False)


def test_they_are_what_a_corpus_search_finds(encoder: torch.nn.Module, tmp_path: Path) -> None:
    assert read_starts(tmp_path) == {}
    find(encoder, tmp_path, [*CORPUS, "a dog\u2028 the moon"])
    found = read_starts(tmp_path)
    for unit in td.units(encoder, "mlp_post:0-1:0-3"):
        search = td.corpus_search(encoder, unit.objective(), [*CORPUS, "a dog\u2028 the moon"], top=3)
        top = found.pop(str(unit))
        assert [hit["text"] for hit in top] == list(search.texts())
        assert [hit["line"] for hit in top] == [hit.line for hit in search.top]
        assert [hit["score"] for hit in top] == pytest.approx([hit.score for hit in search.top], abs=1e-5)
    assert not found
    assert os.listdir(tmp_path) == ["starts.jsonl"], "the checkpoint of the pass is gone"


def test_they_are_found_once_and_a_pass_goes_on(
    encoder: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **options: object) -> object:
        Path(str(options["checkpoint"])).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(starts, "corpus_search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find(encoder, tmp_path)
    assert os.listdir(tmp_path) == ["starts.checkpoint"]
    monkeypatch.undo()
    with says("starts.checkpoint", "JSON"):  # it is read, so a good one goes on
        find(encoder, tmp_path)
    (tmp_path / "starts.checkpoint").unlink()
    find(encoder, tmp_path)
    monkeypatch.setattr(starts, "corpus_search", interrupted)
    find(encoder, tmp_path)


def test_a_corpus_is_told_by_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join(CORPUS) + "\n")
    told = describe_corpus(file, None, 3)
    assert told | {"digest": ""} == {"name": str(file), "lines": 5, "digest": "", "sentences": 3}
    file.write_text("\n".join([*CORPUS[:-1], "another"]) + "\n")
    assert describe_corpus(file, None, 3)["digest"] != told["digest"]
    listed = describe_corpus(CORPUS, None, 3)
    assert listed == describe_corpus({"text": CORPUS}, "text", 3) | {"name": listed["name"]}
    assert listed["digest"] != describe_corpus(CORPUS[::-1], None, 3)["digest"]
    with says("can be read only once"):
        describe_corpus(iter(CORPUS), None, 3)
    with says("there is no file"):
        describe_corpus("nowhere.txt", None, 3)


@pytest.mark.parametrize("content", ["{", "[]\n", '{"unit": "a"}\n', '{"unit": "a", "top": [{"score": 1}]}\n'])
def test_a_broken_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "starts.jsonl").write_text(content)
    with says("starts.jsonl", "is broken", "delete it"):
        read_starts(tmp_path)
