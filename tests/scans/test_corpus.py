"""Corpus search against `score`; many objectives at once; what is skipped; resuming; what is refused."""

import inspect
import random
from pathlib import Path
from typing import Any

import pytest

import tl_dream as td
from tests.support.scans import OBJECTIVES, TEXTS, Model, check_result, search
from tl_dream.scans.corpus import corpus_search


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_best_are_those_of_score(encoder: Model, name: str) -> None:
    objective = OBJECTIVES[name]()
    texts = TEXTS[:40]
    result = search(encoder, objective, texts, top=7, batch_tokens=64, shard_lines=25)
    check_result(encoder, objective, result, texts, 7)
    assert result.scored == 40 and result.skipped == {}
    assert result.objective == repr(objective) and len(result.top) == 7


def test_every_backend(tiny_encoder: Model) -> None:
    objective = td.neuron("z", layer=1, head=2, unit=3) - td.neuron("block_out", layer=0, unit=1, pos=1)
    check_result(tiny_encoder, objective, search(tiny_encoder, objective, TEXTS[:20], top=5), TEXTS[:20], 5)


def test_a_causal_model(tiny_causal: Model) -> None:
    objective = td.neuron("block_out", layer=1, unit=7)
    draw = random.Random(0)
    texts = [
        "the " + " ".join(draw.choices("red dog cat sun moon sees hates loves".split(), k=n)) for n in range(2, 20)
    ]
    check_result(tiny_causal, objective, search(tiny_causal, objective, texts, top=5), texts, 5)


def test_fewer_sentences_than_asked_for(encoder: Model) -> None:
    result = search(encoder, td.neuron("block_out", layer=1, unit=7), ["i walk", "you walk"], top=10)
    assert len(result.top) == 2 and len(result.texts(10)) == 2 and len(result.texts(1)) == 1


@pytest.mark.parametrize(
    ("texts", "objective", "message"),
    [
        ([], None, "the corpus is empty: no line in the texts given"),
        (["", " ", "you " * 50], None, r"not one of the 3 lines .* could be scored: 2 blank, 1 over-long"),
        (["i walk", "we walk"], "dog", r"not one of the 2 lines .*: 2 without the word 'dog'"),
        (["i walk"], "kickshaws", r"not one of the 1 lines .*: 1 without the word 'kickshaws'"),
        (["i dog dog"], "dog", "The first complaint: the word 'dog' is in the sentence 2 times, at positions 2, 3"),
        (["i walk"], 9, "1 without position 9"),
    ],
)
def test_nothing_to_score(encoder: Model, texts: Any, objective: Any, message: str) -> None:
    goal = td.neuron("block_out", layer=1, unit=7, pos=objective)
    with pytest.raises(td.DreamError, match=message):
        search(encoder, goal, texts)


def test_an_empty_file(encoder: Model, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(td.DreamError, match=r"the corpus is empty: no line in .*empty.txt"):
        search(encoder, td.neuron("block_out", layer=1, unit=7), tmp_path / "empty.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top = 0: give a whole number of at least 1"),
        ({"shard_lines": 0}, "shard_lines = 0: give a whole number of at least 1"),
        ({"max_tokens": 33}, "max_tokens = 33: give a whole number from 1 to 32, the longest sentence the model reads"),
        ({"max_tokens": True}, "max_tokens = True: give a whole number from 1 to 32"),
        ({"top": True}, "top = True: give a whole number of at least 1"),
        ({"top": "3"}, "top = '3': give a whole number of at least 1"),
        ({"batch_tokens": -1}, "batch_tokens = -1: give a whole number of at least 1, or None"),
        ({"column": "text", "texts": "x.txt"}, "column= goes with a data set"),
        ({"objective": []}, "no objective to score: give at least one"),
        ({"objective": None}, "an objective was expected, not NoneType"),
        ({"objective": "neuron"}, "an objective was expected, not str"),
        ({"objective": ["a"]}, "an objective was expected, not str"),
        ({"texts": [{"a": "i walk"}]}, r"the corpus has rows \('a'\), not texts: say which .* with column="),
        ({"texts": {"a": 5}, "column": "a"}, "the column 'a' is one int: give a list of texts"),
        ({"texts": {"a": "i walk"}, "column": "a"}, "the column 'a' is one str: give a list of texts"),
        ({"texts": 7, "column": "a"}, "column= goes with a data set or an iterable of rows, not with int"),
        ({"objective": td.neuron("block_out", layer=9, unit=7)}, "layer 9 does not exist"),
        ({"checkpoint": "no/such/folder/x.json"}, "the folder 'no/such/folder' does not exist"),
    ],
)
def test_what_a_corpus_search_refuses(encoder: Model, options: dict[str, Any], message: str) -> None:
    given = {"objective": td.neuron("block_out", layer=1, unit=7), "texts": TEXTS, "progress": False, **options}
    with pytest.raises(td.DreamError, match=message):  # as a user meets it, without the tests' check of types
        inspect.unwrap(corpus_search)(encoder, given.pop("objective"), given.pop("texts"), **given)
