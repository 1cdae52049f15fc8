"""Dream and its parts: they print, save whole or not at all, load, and become a table."""

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from tests.conftest import says
from tests.support.results import BEST, START, dream, history
from tl_dream import Dream
from tl_dream.results.base import VERSION

# Save and load


def test_save_and_load_give_the_same_dream(tmp_path: Path) -> None:
    path = tmp_path / "dream.json"
    dream().save(path)
    assert Dream.load(path) == dream()
    assert Dream.load(str(path)).others[0].history.weights == ((1.0, 1.0, 0.0, 1.0),)


def test_the_file_format(tmp_path: Path) -> None:
    """Its keys are a promise."""
    path = tmp_path / "dream.json"
    dream(best=replace(BEST, text="東 α")).save(path)
    assert "東 α" in path.read_text(encoding="utf-8")
    data = json.loads(path.read_text(encoding="utf-8"))
    assert (data["kind"], data["version"], VERSION) == ("dream", 1, 1)
    assert set(data) == set(
        "kind version model objective prompt settings seed start best soft_score history forwards forward_tokens "
        "seconds stopped optimum fired others provenance".split()
    )
    assert set(data["start"]) == set("text tokens ids score step retokenizes".split())
    assert data["best"]["step"] == 10 and data["best"]["ids"] == [4, 30, 42, 5]
    assert (data["forwards"], data["forward_tokens"], data["seconds"]) == (1234, 98765, 1.5)
    assert set(data["history"]) == set(
        "step forward_tokens temperature soft_score hard_score tokens weights top_tokens top_weights free".split()
    )


def test_results_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        dream().seed = 3


def test_str_tells_both_worlds_and_the_cost() -> None:
    assert str(dream()).splitlines() == [
        "neuron('mlp_post', layer=1, unit=3) on tiny (HookedEncoder)",
        "       score   step  text",
        "start  1.2500  0     red dog",
        "best   3.5000  10    red <b>",
        "soft score 3.0000 (of a mixture of tokens, not of a text)",
        "the best text tokenizes back to the same ids",
        "cost: 1,234 forwards, 98,765 forward-tokens, 1.5 s; 2 start(s), seed 7, stopped: steps",
    ]
    assert dream().gain == 2.25


def test_str_says_when_nothing_was_found_and_when_the_text_does_not_hold() -> None:
    none = str(dream(best=START, soft_score=None))
    assert "nothing better than the start was found: the start is returned" in none
    assert "soft score" not in none
    assert "note: the best text does not tokenize back to the same ids; use best.ids" in str(
        dream(best=replace(BEST, retokenizes=False))
    )
    assert "nothing better" not in str(dream())


def test_html_marks_what_changed_and_escapes() -> None:
    shown = dream()._repr_html_()
    assert shown.count("<b>") == 0 and shown.count("&lt;b&gt;") == 1
    marked = 'text-decoration:underline">'
    assert shown.count(marked) == 2 and f"{marked}dog</span>" in shown and f"{marked}&lt;b&gt;</span>" in shown
    assert "neuron(&#x27;mlp_post&#x27;" in shown and "1.2500" in shown and "3.5000" in shown


def test_frames() -> None:
    frame = dream().to_frame()
    assert list(frame.columns) == ["step", "forward_tokens", "temperature", "soft_score", "hard_score", "text", "run"]
    assert frame["run"].tolist() == [0, 0, 0, 1] and frame["step"].tolist() == [0, 5, 10, 0]
    assert frame["text"][0] == "[CLS] red dog [SEP]"
    assert len(history()) == 3 and history().to_frame()["hard_score"].tolist() == [0.5, 1.5, 2.5]


def test_what_a_dream_says_of_its_best_is_true_or_false() -> None:
    with says("optimum = 1 is not true or false"):
        Dream.from_json({**dream().to_json(), "optimum": 1})
