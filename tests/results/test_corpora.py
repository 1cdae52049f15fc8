"""The room results.corpora."""

import json
from pathlib import Path

import pytest

import tl_dream as td
from tests.conftest import says
from tests.support.plotting import made_corpus, made_hit
from tests.support.scans import TEXTS, Model, search
from tl_dream.results.base import Cost
from tl_dream.results.corpora import CorpusHit, CorpusResult


def test_what_a_corpus_result_tells(encoder: Model, tmp_path: Path) -> None:
    result = search(encoder, td.neuron("block_out", layer=1, unit=7), TEXTS, top=3)
    result.save(tmp_path / "result.json")
    assert CorpusResult.load(tmp_path / "result.json") == result
    data = json.loads((tmp_path / "result.json").read_text())
    assert data["kind"] == "corpus_result" and data["scored"] == 300 and data["seconds"] > 0
    assert {"text", "tokens", "pos", "score", "activations", "line"} <= set(data["top"][0])
    hit = result.top[0]
    assert f"[{hit.tokens[hit.pos]}]" in str(result)
    assert list(result.to_frame()["token"]) == [one.tokens[one.pos] for one in result.top]
    page = result._repr_html_()
    assert page.count("<span") == sum(len(one.tokens) for one in result.top) and "underline" in page
    with pytest.raises(td.DreamError, match="top = 0: give a whole number of at least 1"):
        result.texts(0)
    with pytest.raises(td.DreamError, match="is not a whole corpus_result result"):
        CorpusResult.from_json({key: value for key, value in data.items() if key != "top"})


def test_html_is_escaped() -> None:
    hit = CorpusHit("<b> & walk", ("[CLS]", "<b>", "&", "[SEP]"), (4, 8, 9, 5), 1, 1.5, (0.0, 1.5, 0.5, 0.0), 1)
    result = CorpusResult("<i>m</i>", "<u>goal</u>", "x", (hit,), 1, {}, 4, Cost(1, 4, 1.0))
    page = result._repr_html_()
    assert "&lt;b&gt;" in page and ">&amp;<" in page and "&lt;i&gt;m" in page and "&lt;u&gt;goal" in page
    assert not [raw for raw in ("<b>", "<i>", "<u>", ">&<") if raw in page]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"line": -1}, "is not numbers from 0"),
        ({"ids": [1, 2]}, "differ in length"),
        ({"activations": [0.5]}, "differ in length"),
        ({"pos": 8}, "not among the positions 0 to 7"),
        ({"score": None}, "score = None is not a finite number"),
    ],
)
def test_a_sentence_whose_parts_do_not_fit_is_refused(change: dict[str, object], wrong: str) -> None:
    data = made_corpus(made_hit()).to_json()
    data["top"] = [{**data["top"][0], **change}]
    with says("not a whole corpus_result result", wrong):
        CorpusResult.from_json(data)
