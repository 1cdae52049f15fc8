"""The room text.tokenizers."""

import hashlib
import json

from transformers import BertTokenizerFast

from tests.conftest import VOCAB
from tl_dream.text.tokenizers import own_copy, vocabulary_hash
from tl_dream.text.vocabulary import Vocabulary


def tokenizer(words: list[str] = VOCAB) -> BertTokenizerFast:
    return BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, model_max_length=32)


def test_the_hash_is_of_tokens_and_ids_and_computed_once_a_state() -> None:
    plain = [[word, i] for i, word in enumerate(VOCAB)]
    mine = tokenizer()
    assert vocabulary_hash(mine) == hashlib.sha256(json.dumps(plain).encode()).hexdigest()
    assert vocabulary_hash(tokenizer([*VOCAB[:8], *reversed(VOCAB[8:])])) != vocabulary_hash(mine)
    known = Vocabulary.of(mine, len(VOCAB), 32).digest
    assert known == vocabulary_hash(mine) == own_copy(mine)[2]["digest"]
    mine.add_tokens(["kickshaws"])
    assert Vocabulary.of(mine, len(VOCAB), 32).digest == vocabulary_hash(mine) != known


def test_a_copy_is_kept_until_the_users_own_changes() -> None:
    mine = tokenizer()
    first = own_copy(mine)
    assert own_copy(mine)[1] is first[1] is not mine
    first[1](["a dog"], padding="max_length", max_length=9)
    assert mine.backend_tokenizer.padding is None
    mine.add_tokens(["kickshaws"])
    assert own_copy(mine)[1] is not first[1]
