"""The room text.prompts."""

import numpy
import pytest
import torch
from hypothesis import given as of_any
from hypothesis import strategies as st

from tests.conftest import VOCAB, says
from tests.support.hostile import COMPACT
from tests.support.text import CLS, SEP, ids
from tl_dream._errors import DreamError
from tl_dream.text.prompts import Prompt, Sentence, prompts_of
from tl_dream.text.vocabulary import Vocabulary

# Prompts and sentences


def test_a_prompt_takes_text_or_ids() -> None:
    assert Prompt("red dog").free is None and Prompt(ids=[3, 4]).text is None
    for both in ({}, {"text": "red", "ids": [3]}):
        with says("a Prompt takes either text or ids: give exactly one of the two"):
            Prompt(**both)


def test_ids_instead_of_text(words: Vocabulary) -> None:
    given = ids("[CLS]", "red", "[MASK]", "dog", "[SEP]")
    sentence = words.read(Prompt(ids=given))
    assert sentence.ids == given and sentence.text == "red [MASK] dog"
    assert sentence.free == (1, 2, 3)  # [MASK] frames nothing
    with says("token id 9999 is outside the vocabulary", f"(0 to {len(VOCAB) - 1})"):
        words.read(Prompt(ids=[CLS, 9999, SEP]))


def test_a_sentence_knows_its_length() -> None:
    assert len(Sentence("a", (1, 2), ("x", "a"), (True, False), (1,))) == 2


SPECIAL = "[MASK] [CLS] [SEP] [PAD] [UNK] ##s dog the kickshaws Ġ ▁ <|endoftext|> {x} $a$ \\ %".split()
FOREIGN = "東 α ß İ ﬁ 我 ي 😀 \u0301 \U0010ffff \0 \x1b[31m \ud800 \udcff \u200b \u202e \ufeff \x85".split(" ")
PIECES = [*SPECIAL, *FOREIGN, "a" * 300, "\u0300" * 200, "'", '"', " ", "\t", "\n", "\u3000"]


HOSTILE = st.lists(st.integers(0, 0x10FFFF).map(chr), max_size=12).map("".join) | st.builds(
    lambda between, pieces, times: times * between.join(pieces),
    st.sampled_from(["", " "]),
    st.lists(st.sampled_from(PIECES), max_size=8),
    st.sampled_from([1, 300]),
)


@COMPACT
@of_any(text=HOSTILE)
def test_any_text_is_read_or_told_why_not(words: Vocabulary, text: str) -> None:
    """As a sentence, as a word in it, as a token: a value or a DreamError of a bearable length, that can be printed."""
    sentence = words.read("the dog can see it")
    for attempt in (
        lambda: words.read(text).ids,
        lambda: words.read(Prompt("the dog", free=text)).free,
        lambda: words.locate(sentence, [1, text]),
        lambda: words.token_id(text),
        lambda: words.allowed([text, "dog"]),
    ):
        try:
            attempt()
        except DreamError as error:
            assert len(str(error).encode()) < 3000  # encode: it can be printed


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        (None, ["a sentence is text or a Prompt, not NoneType"]),
        (b"dog", ["not bytes: b'dog'", "decode bytes first"]),
        (("a dog", "a cat"), ["not tuple", "one sentence was expected"]),
        ([4, 60, 5], ["not list", "token ids go in a Prompt, Prompt(ids=...)"]),
        (torch.tensor([4, 60, 5]), ["not Tensor", "Prompt(ids=...)"]),
        ("a \udcff dog", [r"the text 'a \udcff dog' is no Unicode: character 2"]),
        ({"text": "a dog"}, ["not dict"]),
    ],
)
def test_what_is_no_sentence(words: Vocabulary, given: object, parts: list[str]) -> None:
    with says(*parts):
        words.read(given)
    if not isinstance(given, tuple):  # two texts are two texts where several may be
        with says(*parts):
            prompts_of(given, "text")


def test_ids_are_those_of_one_sentence() -> None:
    for given in ([4, 60, 5], numpy.array([4, 60, 5]), torch.tensor([[4, 60, 5]]), (i for i in (4, 60, 5))):
        assert Prompt(ids=given).ids == (4, 60, 5)
    for wrong in ([4.0, 60.5], torch.zeros(2, 3, dtype=torch.long), [[4], [5]], "4 60", [True], torch.tensor(4)):
        with says("give the token ids of one sentence"):
            Prompt(ids=wrong)
