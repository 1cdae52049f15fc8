"""A tokenizer without a model."""

import pytest
from transformers import BertTokenizerFast

from tests.conftest import VOCAB
from tl_dream.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def tokenizer() -> BertTokenizerFast:
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(VOCAB)}, model_max_length=32)


@pytest.fixture(scope="module")
def words(tokenizer: BertTokenizerFast) -> Vocabulary:
    return Vocabulary.of(tokenizer, d_vocab=len(VOCAB), n_ctx=12)
