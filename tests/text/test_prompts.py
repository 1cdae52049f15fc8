"""The room text.prompts."""

from tests.conftest import VOCAB, says
from tests.support.prompts import CLS, SEP, ids
from tl_dream.text.prompts import Prompt, Sentence
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
