"""Results of the scans: what a file holds, and what is said of a broken one."""

import json
from pathlib import Path

import pytest

from tl_dream import Dream, DreamError
from tl_dream.results.base import Cost
from tl_dream.results.corpora import CorpusHit, CorpusResult
from tl_dream.results.scans import (
    MaskedPredictions,
    Neighbour,
    NeighbourTable,
    Place,
    Prediction,
    TokenScore,
    TokenTable,
)

WHERE = Place("i α .", ("[CLS]", "i", "α", ".", "[SEP]"), (4, 8, 9, 10, 5), 2)


COST = Cost(12, 345, 1.5)


HIT = CorpusHit("i α .", WHERE.tokens, WHERE.ids, 2, 1.5, (0, 1, 2, 3, 4), 7)


RESULTS = [
    TokenTable(
        "m", "f", WHERE, TokenScore("α", 9, 0.1), (TokenScore("##s", 3, 1.25),), 99, "f00", "bf16", 0.1, 20, 8, COST
    ),
    NeighbourTable("m", "f", WHERE, "cosine", Neighbour("α", 9, 0, 1), (Neighbour("b", 1, 2, 3),), 0, None, None, COST),
    MaskedPredictions("m", (WHERE,), ((Prediction("b", 1, 2.0, 0.25),),), COST),
    CorpusResult("m", "f", "x.txt", (HIT,), 9, {"blank": 2}, 50, COST),
    CorpusResult("m", "f", "x.txt", (CorpusHit("i", ("i",), (8,), None, 1.5, None, 7),), 9, {}, 50, COST),
]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.kind)
def test_a_result_comes_back_as_it_was(result, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    result.save(path)
    assert type(result).load(path) == result
    data = json.loads(path.read_text("utf-8"))
    assert (data["kind"], data["version"]) == (result.kind, 1)
    assert (data["forwards"], data["forward_tokens"], data["seconds"]) == (12, 345, 1.5)
    assert hash(type(result).load(path).cost) == hash(result.cost)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.kind)
def test_a_broken_file_is_told(result) -> None:
    data = result.to_json()
    for key in set(data) - {"kind", "version", "stopped", "fired", "furthest", "provenance"}:
        with pytest.raises(DreamError, match=f"the file is not a whole {result.kind} result: .*{key}"):
            type(result).from_json({name: value for name, value in data.items() if name != key})
    with pytest.raises(DreamError, match=f"holds '{result.kind}', not a 'dream' result"):
        Dream.from_json(data)
    with pytest.raises(DreamError, match="has format version 2; this release reads version 1"):
        type(result).from_json({**data, "version": 2})
    name = {"masked_predictions": "places"}.get(result.kind, "top" if "top" in data else "place")
    with pytest.raises(DreamError, match="is not a whole"):
        type(result).from_json({**data, name: 7})


def test_what_prints() -> None:
    table, near, found, corpus, bare = map(str, RESULTS)
    assert "position 2 of: [CLS] i [α] . [SEP]" in table and "1.2500" in table
    assert (
        "99 tokens searched in 1.5 s (bf16; off by 0.1 at most, as measured); 20 scored in full precision, 8 of them"
        in table
    )
    assert "are among" not in near and "α" in near
    assert "0.2500" in found
    assert "[CLS] i [α] . [SEP]" in corpus and "skipped: 2 blank" in corpus and "(33 tokens a second)" in corpus
    assert "skipped: none" in bare
    long = CorpusHit("word " * 60, ("word",) * 60, (8,) * 60, 30, 1.5, None, 7)
    shown = str(CorpusResult("m", "f", "x", (long,), 9, {}, 50, COST))
    assert "… word" in shown and "word …" in shown and shown.count("word") < 40
