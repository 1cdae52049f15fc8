"""The room interchange.writing: there and back again."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.hostile import RESULTS
from tests.support.text_dream import DATA, FILES
from tl_dream.interchange import as_result
from tl_dream.results.base import SavedResult

GOAL = td.neuron("block_out", layer=1, unit=5, pos="dog")
KINDS = ("dream", "token_table", "neighbour_table", "word_weights", "reconstruction", "layer_reconstructions")


def again(result: SavedResult, path: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """What is read of what is written, and what the file holds beside what is ours alone."""
    td.write_text_dream(result, path, **options)
    data = json.loads(path.read_text("utf-8"))
    return td.read_text_dream(path), {key: value for key, value in data.items() if key != "tl_dream"}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("show", ["best", "last"])
def test_a_file_that_was_read_is_written_as_it_was(name: str, show: str, tmp_path: Path) -> None:
    result = td.read_text_dream(FILES[name], show=show)
    back, data = again(result, tmp_path / "x.json")
    assert back == result
    if name != "magnitudes":  # which is written as the one layer it is
        assert data == FILES[name]


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the article's data is not beside this checkout")
def test_the_article_s_own_files_are_written_as_they_were(tmp_path: Path) -> None:
    files = sorted(DATA.glob("*.json"))
    assert len(files) >= 9
    for file in files:
        result = td.read_text_dream(file)
        td.write_text_dream(result, tmp_path / "x.json")
        assert json.loads((tmp_path / "x.json").read_text("utf-8")) == json.loads(file.read_text("utf-8")), file


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: result.kind)
def test_every_result_of_ours_comes_back_whole(result: SavedResult, tmp_path: Path) -> None:
    if result.kind in (*KINDS, "concept_edit"):
        back, data = again(result, tmp_path / "x.json")
        assert back == result
        if "reconstruction" not in result.kind:  # whose sample has losses below 0
            assert td.read_text_dream(data).kind == result.kind  # what their page reads is whole without what is ours
        assert as_result(result.to_json()) == result
    else:
        with says(f"the article has no file for a {type(result).__name__}"):
            td.write_text_dream(result, tmp_path / "x.json")
        with says(f"the file holds '{result.kind}'"):
            as_result(result.to_json())


def test_what_their_page_sees_of_a_dream(encoder: torch.nn.Module, tmp_path: Path) -> None:
    result = td.dream(encoder, GOAL, "the red dog", method=td.Annealing(steps=10, evaluate_every=5))
    back, data = again(result, tmp_path / "x.json")
    assert back == result and data["type"] == "dream"
    params, rows = data["params"], data["results"]["iterations"]
    assert (params["layer_id"], params["neuron_id"], params["word_id"]) == (1, 5, 3)
    assert (params["dream_start"], params["dream_end"], params["num_iterations"]) == (1, 3, 10)
    assert [row["number"] for row in rows] == [0, 5, 10]
    assert [row["ids_activation"] for row in rows] == list(result.history.hard_score)
    assert [row["activation"] for row in rows] == list(result.history.soft_score)
    assert [len(row["max_values"]) for row in rows] == [5, 5, 5] and rows[0]["temperature"] == 1.0


def test_a_search_over_real_tokens_is_a_run_without_softness(encoder: torch.nn.Module, tmp_path: Path) -> None:
    result = td.dream(encoder, GOAL, "the red dog", budget=600)
    back, data = again(result, tmp_path / "x.json")
    assert back == result
    for row in data["results"]["iterations"]:
        assert (
            set(row["max_values"]) == {1.0} and row["temperature"] == 0 and row["activation"] == row["ids_activation"]
        )
    with says("pos = 2", "not annealed"):
        td.write_text_dream(result, tmp_path / "x.json", pos=2)


def test_the_softmax_of_a_word(encoder: torch.nn.Module, tmp_path: Path) -> None:
    result = td.dream(encoder, GOAL, "the red dog", method=td.Annealing(steps=10, evaluate_every=5))
    word, data = again(result, tmp_path / "x.json", pos=2)
    assert data["type"] == "top_words" and data["word_id"] == 2
    slot = result.history.free.index(2)
    assert word.tokens == tuple(row[slot] for row in result.history.top_tokens)
    assert word.weights == tuple(row[slot] for row in result.history.top_weights)
    with says("pos = 0", "1, 2, 3"):
        td.write_text_dream(result, tmp_path / "x.json", pos=0)
    with says("pos= goes with a Dream"):
        td.write_text_dream(word, tmp_path / "x.json", pos=2)
