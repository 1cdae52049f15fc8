"""The room interchange.reading: the article's own files, and files of every kind that are like them."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tl_dream as td
from tests.conftest import says
from tests.support.hostile import COMPACT, damage
from tests.support.text_dream import DATA, FILES
from tl_dream import plotting
from tl_dream.results import NeighbourTable, TokenTable, WordWeights
from tl_dream.results.base import SavedResult

KINDS = {
    "dream": td.Dream,
    "top_words": WordWeights,
    "token_search": TokenTable,
    "similar_embeddings": NeighbourTable,
    "reconstruct": td.Reconstruction,
    "layers": td.LayerReconstructions,
    "shifted": td.ConceptEdit,
    "magnitudes": td.ConceptEdit,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_becomes_a_result_that_prints_saves_and_draws(name: str, tmp_path: Path) -> None:
    result: Any = td.read_text_dream(FILES[name])
    assert type(result) is KINDS[name]
    assert type(result).from_json(json.loads(json.dumps(result.to_json()))) == result
    assert len(str(result)) > 50 and "None" not in str(result).replace("seed None", "")
    assert len(result.to_frame()) > 0
    figure = getattr(plotting, plotting.OF_KIND[result.kind])(result).figure
    plotting.save_figure(figure, str(tmp_path / "figure.png"))


def test_a_dream_says_what_the_file_says() -> None:
    found = td.read_text_dream(FILES["dream"])
    assert isinstance(found, td.Dream)
    assert found.objective == "normalized(neuron('block_out', layer=2, unit=7, pos=2))"
    assert found.model == "bert" and found.start.text == "the red dog" and found.start.score == 0.25
    assert (found.best.text, found.best.score, found.best.step) == ("the red cat", 0.5, 5)  # the last one is worse
    assert found.soft_score == 0.75 and found.history.temperature == (2.0, 1.0, 0.5)
    assert found.history.weights[1] == (1.0, 1.0, 0.5, 1.0, 1.0) and found.history.free == (3,)
    assert found.best.ids == () and not found.cost.known and "cost: not known" in str(found)
    last = td.read_text_dream(FILES["dream"], show="last")
    assert isinstance(last, td.Dream) and last.best.text == "the red moon" and last.history == found.history


@pytest.mark.parametrize(
    ("change", "formula"),
    [
        ({"word_id": None}, "normalized(neuron('block_out', layer=2, unit=7, reduce='mean'))"),
        ({"neuron_id": None}, "normalized(neuron('block_out', layer=2, unit='mean', pos=2))"),
        ({"normalize": False, "word_id": -1}, "neuron('block_out', layer=2, unit=7, reduce='mean')"),
    ],
)
def test_null_is_all_of_them(change: dict[str, Any], formula: str) -> None:
    data = deepcopy(FILES["dream"])
    data["params"] |= change
    found = td.read_text_dream(data)
    assert isinstance(found, td.Dream) and found.objective == formula


def test_wrong_tokens_of_a_reconstruction_are_told_by_their_names() -> None:
    found = td.read_text_dream(FILES["layers"])
    assert isinstance(found, td.LayerReconstructions)
    assert [(layer.layer, layer.right, layer.total) for layer in found.by_layer] == [(1, 3, 3), (4, 2, 3)]
    assert found.by_layer[1].loss == 0.25 and found.by_layer[1].wrong == (3,) and not found.by_layer[1].certified
    frame = plotting.read_back(found).figure
    told = [text.get_text() for axes in frame.axes for text in axes.texts]
    assert "2/3" in told and "certified" not in told  # nothing is known of certificates


def test_a_move_that_reached_its_target_is_one_with_the_concept() -> None:
    found = td.read_text_dream(FILES["shifted"])
    assert isinstance(found, td.ConceptEdit)
    assert [(row.layer, row.magnitude) for row in found.rows] == [(2, 5), (2, -1), (0, 5)]  # as the file has them
    kinds = [[(c.before, c.after, c.kind) for c in row.changed] for row in found.rows]
    assert kinds == [[("dog", "cat", "concept")], [("dog", "moon", "other")], []]
    assert found.concept == "MAE" and found.positive == "cat" and found.pos == (3,)
    told = [text.get_text() for axes in plotting.edit_table(found).figure.axes for text in axes.texts]
    order = [text for text in told if text in ("layer 0", "layer 2", "-1", "+5", "loss")]
    assert order == ["loss", "layer 0", "+5", "layer 2", "-1", "+5"]


def test_a_chosen_token_that_the_search_did_not_find_is_not_known() -> None:
    data = deepcopy(FILES["token_search"])
    found = td.read_text_dream(data)
    assert isinstance(found, TokenTable) and found.chosen is not None and found.chosen.score == 0.25
    data["tops"].pop()
    found = td.read_text_dream(data)
    assert isinstance(found, TokenTable) and found.chosen is None and "its own" not in str(found)
    assert "how many tokens were searched is not known" in str(found)
    plotting.token_bars(found)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"type": "dreem"}, ["unknown type of file 'dreem'", "nearest: dream"]),
        ({"kind": "dream"}, ['has no "type"', "`load`"]),
        ({"type": ["dream"]}, ["type of file"]),
        ({"type": "layers", "layers": [{"type": "dream"}]}, ["layers", "'dream'", '"magnitudes"']),
        ({"type": "layers"}, ["holds none"]),
        ({"type": "dream", "params": {}}, ["is no whole file of type 'dream': KeyError("]),
        ({"type": float("nan")}, ["can't be saved as JSON", "nan"]),
        ({"type": "dream", "params": {1, 2}}, ["is no JSON"]),
    ],
)
def test_what_is_no_such_file_is_told(data: Any, told: list[str]) -> None:
    with says(*told):
        td.read_text_dream(data)


def test_files_that_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text("[1]")
    with says("holds no JSON object"):
        td.read_text_dream(tmp_path / "list.json")
    with says("can't read", "as JSON"):
        td.read_text_dream(tmp_path / "none.json")
    with says("unknown show 'first'"):
        td.read_text_dream(FILES["dream"], show="first")
    wide = deepcopy(FILES["dream"])
    wide["params"]["dream_end"] = 10**12
    with says("of type 'dream'", "not in 5 tokens"):
        td.read_text_dream(wide)


def _without_iterations(data: dict[str, Any]) -> None:
    data["results"]["iterations"] = []


def _without_words(data: dict[str, Any]) -> None:
    data |= {"iterations": []}


def _of_nothing(data: dict[str, Any]) -> None:
    data |= {"change_word": None, "word_id": None}


def _of_two_sentences(data: dict[str, Any]) -> None:
    data["layers"] = deepcopy(data["layers"])
    data["layers"][0]["params"]["sentence"] = "the cat"


def _without_moves(data: dict[str, Any]) -> None:
    data["magnitudes"] = []


def _of_two_targets(data: dict[str, Any]) -> None:
    data["magnitudes"] = [*data["magnitudes"], deepcopy(data["magnitudes"][0])]
    data["magnitudes"][1]["params"]["target"] = "moon"


@pytest.mark.parametrize(
    ("name", "spoil", "told"),
    [
        ("dream", _without_iterations, "it holds no iterations"),
        ("top_words", _without_words, "it holds no iterations"),
        ("token_search", _of_nothing, "are both null: which word was exchanged?"),
        ("layers", _of_two_sentences, "its layers are of several sentences: ['the cat', 'the red dog']"),
        ("magnitudes", _without_moves, "it holds no magnitudes"),
        ("magnitudes", _of_two_targets, "its runs differ in target, and should in layer_id and shift_magnitude alone"),
    ],
)
def test_parts_that_do_not_fit_are_told(name: str, spoil: Callable[[dict[str, Any]], None], told: str) -> None:
    data = deepcopy(FILES[name])
    spoil(data)
    with says(told):
        td.read_text_dream(data)


@pytest.mark.parametrize("name", KINDS)
@COMPACT
@given(choices=st.data())
def test_a_damaged_file_is_refused_or_can_be_used(name: str, choices: st.DataObject) -> None:
    data = deepcopy(FILES[name])
    damage(choices.draw, data)
    try:
        result = td.read_text_dream(data)
    except td.DreamError:
        return
    assert isinstance(result, SavedResult) and str(result)
    result.to_frame()  # type: ignore[attr-defined]


@pytest.mark.skipif(not DATA.is_dir(), reason="the article's data is not beside this checkout")
def test_the_article_s_own_files() -> None:
    """Facts that can be read off the article: what it says of its two dreams, and how deep words survive."""
    dream = td.read_text_dream(DATA / "2_dream.json")
    assert isinstance(dream, td.Dream)
    assert dream.history.tokens[-1][5] == "lok" and dream.best.tokens[5] == "ames" and dream.soft_score is not None
    assert dream.soft_score > 1.8 * dream.best.score  # no real token comes near the mixture
    table = td.read_text_dream(DATA / "2_top_words.json")
    assert isinstance(table, TokenTable) and table.top[0].token == "columbia"
    near = td.read_text_dream(DATA / "2_similar_words.json")
    assert isinstance(near, NeighbourTable) and near.neighbours[0].token == "matches" and near.furthest is not None
    assert near.chosen.score == pytest.approx(dream.start.score, abs=1e-6)
    layers = td.read_text_dream(DATA / "1_reconstruction.json")
    assert isinstance(layers, td.LayerReconstructions)
    assert layers.by_layer[0].exact and layers.by_layer[11].right == 11
    edit = td.read_text_dream(DATA / "2_shifted_reconstruction.json", show="last")
    assert isinstance(edit, td.ConceptEdit) and any(c.after == "she" for row in edit.rows for c in row.changed)
