"""Text <-> ids, free positions and allowed tokens, on a WordPiece and on a byte-level BPE vocabulary."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, BertTokenizerFast

from tests.conftest import CAUSAL_WORDS, VOCAB, says
from tests.support.text import CLS, MASK, PAD, SEP, UNK, ids
from tl_dream.text.corpora import Corpus, ShardReader
from tl_dream.text.prompts import Prompt
from tl_dream.text.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def causal(tiny_causal_folder: Path) -> Vocabulary:
    own = AutoTokenizer.from_pretrained(tiny_causal_folder)
    return Vocabulary.of(own, d_vocab=len(own), n_ctx=12, prefix=(own.bos_token_id,))


def test_reading_a_sentence(words: Vocabulary) -> None:
    sentence = words.read("the red kickshaws .")
    assert sentence.tokens[:3] == ("[CLS]", "the", "red") and sentence.tokens[-2:] == (".", "[SEP]")
    assert sentence.ids == tuple(VOCAB.index(token) for token in sentence.tokens)
    assert sentence.special == (True, *[False] * (len(sentence) - 2), True)
    assert sentence.free == tuple(range(1, len(sentence) - 1))
    assert sentence.listing().startswith("0 [CLS], 1 the, 2 red, 3 ")


@pytest.mark.parametrize("text", ["", "   ", "[CLS] [SEP]", "[PAD]"])
def test_an_empty_or_all_special_sentence(words: Vocabulary, text: str) -> None:
    with says(f"the sentence {text!r} is empty or holds special tokens only: give at least one word"):
        words.read(text)
    with says("is empty or holds special tokens only"):
        words.read(Prompt(ids=[]))


def test_a_sentence_as_long_as_the_context_is_read_and_one_longer_is_not(words: Vocabulary) -> None:
    assert len(words.read("dog " * 10)) == words.n_ctx == 12
    with says("the sentence has 13 tokens with its special ones, the model reads 12: shorten it"):
        words.read("dog " * 11)


@pytest.mark.parametrize(
    ("pos", "found"),
    [
        (None, (1, 2, 3, 4)),
        ("all", (1, 2, 3, 4)),
        (0, (0,)),
        (3, (3,)),
        (-1, (5,)),
        (-6, (0,)),
        ("dog", (3,)),
        ("DOG", (3,)),
        (".", (4,)),
        (slice(1, 3), (1, 2)),
        (slice(None), (0, 1, 2, 3, 4, 5)),
        (slice(-3, None, 2), (3, 5)),
        ([3, "red", -5, 3], (1, 2, 3)),
        ("the red", (1, 2)),
    ],
)
def test_positions(words: Vocabulary, pos: object, found: tuple[int, ...]) -> None:
    """The sentence is [CLS] the red dog . [SEP]."""
    sentence = words.read("the red dog .")
    assert words.locate(sentence, pos, whole_words=True) == found
    assert words.read(Prompt("the red dog .", free=pos)).free == found


@pytest.mark.parametrize(
    ("pos", "parts"),
    [
        (6, ["position 6 is outside the sentence of 6 tokens: 0 [CLS], 1 the, 2 red, 3 dog, 4 ., 5 [SEP]"]),
        (-7, ["position -7 is outside the sentence of 6 tokens"]),
        ("dig", ["the word 'dig' is not in the sentence; nearest: dog", "its tokens: 0 [CLS], 1 the"]),
        ("zebra", ["the word 'zebra' is not in the sentence; its tokens: "]),
        ("", ["the word '' is not in the sentence"]),
        ([], ["no position given: name at least one of 0 [CLS], 1 the"]),
        ([1, 9], ["position 9 is outside"]),
        (slice(4, 4), ["the slice slice(4, 4, None) holds no position of the sentence: 0 [CLS]"]),
    ],
)
def test_positions_that_are_not_there(words: Vocabulary, pos: object, parts: list[str]) -> None:
    with says(*parts):
        words.locate(words.read("the red dog ."), pos)


def test_a_word_that_is_there_twice(words: Vocabulary) -> None:
    with says("the word 'dog' is in the sentence 2 times, at positions 2, 4: give the position instead"):
        words.read(Prompt("the dog and dog", free="dog"))


def test_a_word_of_several_pieces(words: Vocabulary) -> None:
    """All of its pieces are free; as the place of a neuron it is refused."""
    sentence = words.read("i hate dogs")
    assert sentence.tokens == ("[CLS]", "i", "hate", "dog", "##s", "[SEP]")
    assert words.locate(sentence, "dogs", whole_words=True) == (3, 4)
    assert words.locate(sentence, "##s") == (4,)
    with says("the word 'dogs' is 2 tokens, at positions 3, 4: give the position of one of them instead"):
        words.locate(sentence, "dogs")


def test_a_word_is_not_found_inside_another(words: Vocabulary) -> None:
    """ "dog" is the first piece of "dogs", and not the word "dog"."""
    sentence = words.read("dogs hate a dog")
    assert words.locate(sentence, "dog") == (5,)
    with says("the word 'dog' is not in the sentence"):
        words.locate(words.read("i hate dogs"), "dog")


def test_token_id(words: Vocabulary) -> None:
    assert words.token_id("dog") == words.token_id("Dog") == words.token_id(VOCAB.index("dog"))
    assert words.token_id("##s") == VOCAB.index("##s") and words.token_id("[MASK]") == MASK
    with says("'dogs' is not one token of this vocabulary (it splits into: dog ##s); nearest tokens: dog"):
        words.token_id("dogs")
    with says("'猫' is not one token of this vocabulary (it splits into: [UNK])"):
        words.token_id("猫")
    for outside in (-1, len(VOCAB)):
        with says(f"token id {outside} is outside the vocabulary (0 to {len(VOCAB) - 1})"):
            words.token_id(outside)


def test_special_ids(words: Vocabulary) -> None:
    assert words.frame_ids == {CLS, SEP, PAD}
    assert words.special_ids == {CLS, SEP, PAD, MASK, UNK}
    assert words.pad_id == PAD


def test_a_rewritten_bos_does_not_hide_the_special_ids() -> None:
    """TransformerBridge sets bos and eos to a token that BERT has not got."""
    own = BertTokenizerFast(vocab={word: i for i, word in enumerate(VOCAB)})
    own.add_special_tokens({"bos_token": "[UNK]", "eos_token": "[UNK]"})
    rewritten = Vocabulary.of(own, len(VOCAB), 12)
    assert rewritten.frame_ids == {CLS, SEP, PAD} and rewritten.special_ids == {CLS, SEP, PAD, MASK, UNK}


def test_text_and_ids_go_both_ways(words: Vocabulary) -> None:
    row = ids("[CLS]", "dog", "##s", "love", ".", "[SEP]")
    assert words.decode(row) == "dogs love." and words.encode("dogs love.") == row
    assert words.encode_batch(["dogs love .", "dog"]) == [row, ids("[CLS]", "dog", "[SEP]")]
    split = ids("[CLS]", "d", "o", "g", "[SEP]")
    assert words.decode_batch([row, split]) == ["dogs love.", "d o g"]
    joined = ids("[CLS]", "##s", "dog", "[SEP]")
    assert words.retokenizes([row, split, joined, ids("[CLS]", "d", "##o", "##g", "[SEP]")]) == [
        True,
        True,
        False,
        False,
    ]
    assert words.retokenizes([]) == []
    assert words.decode(ids("[CLS]", "dog", "[SEP]", "cat", "[SEP]", "[PAD]")) == "dog [SEP] cat"


def test_long_text_is_never_cut(words: Vocabulary) -> None:
    assert len(words.encode("dog " * 100)) == 102


def test_ids_beyond_the_tokenizer_have_a_name_and_are_never_allowed(tokenizer: BertTokenizerFast) -> None:
    """Embedding matrices are often padded to a round number."""
    padded = Vocabulary.of(tokenizer, d_vocab=len(VOCAB) + 3, n_ctx=12)
    last = len(VOCAB) + 2
    assert padded.tokens([last]) == (f"<{last}>",)
    mask = padded.allowed("no_unused")
    assert mask.shape == (last + 1,) and not mask[len(VOCAB) :].any() and mask[VOCAB.index("dog")]


def chosen(vocabulary: Vocabulary, allowed: object) -> set[str]:
    return set(vocabulary.tokens(vocabulary.allowed(allowed).nonzero()[:, 0].tolist()))


def test_allowed_rules(words: Vocabulary) -> None:
    everything = set(VOCAB)
    special = {"[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"}
    unused = {word for word in VOCAB if word.startswith("[unused")}
    pieces = {word for word in VOCAB if word.startswith("##")}
    assert len(unused) == 3 and {"α", "東"} < everything
    assert chosen(words, "") == everything
    assert chosen(words, "no_special") == everything - special
    assert chosen(words, "no_unused") == everything - unused
    assert chosen(words, "ascii") == everything - {"α", "東"}
    assert chosen(words, "whole_words") == everything - pieces
    assert chosen(words, "no_special, no_unused ascii whole_words") == (
        everything - special - unused - {"α", "東"} - pieces
    )
    assert torch.equal(words.allowed(), words.allowed("no_special no_unused"))


def test_your_own_list_or_mask(words: Vocabulary) -> None:
    assert chosen(words, ["dog", "##s", "Cat"]) == {"dog", "##s", "cat"}
    assert chosen(words, [VOCAB.index("dog"), 0]) == {"dog", "[PAD]"}
    mask = torch.zeros(len(VOCAB), dtype=torch.bool)
    mask[7] = True
    assert torch.equal(words.allowed(mask), mask)


def test_a_returned_mask_is_the_callers_own(words: Vocabulary) -> None:
    words.allowed("ascii").fill_(False)
    assert words.allowed("ascii").any()


@pytest.mark.parametrize(
    ("allowed", "parts"),
    [
        ("no_specials", ["unknown allowed-token rule 'no_specials'; nearest: no_special", "pass a list, not a string"]),
        ([], ["the allowed-token mask [] leaves no token: give rules that leave some"]),
        (torch.zeros(len(VOCAB), dtype=torch.bool), ["leaves no token: give rules that leave some"]),
        (torch.ones(5, dtype=torch.bool), [f"a mask of 5 for {len(VOCAB)} tokens: give True or False for each"]),
        (torch.ones(len(VOCAB)), ["token 1.0: give a token of the vocabulary, or its id"]),
        (["dog", "dgo"], ["'dgo' is not one token of this vocabulary"]),
    ],
)
def test_masks_that_are_refused(words: Vocabulary, allowed: object, parts: list[str]) -> None:
    with says(*parts):
        words.allowed(allowed)


def test_a_causal_models_beginning_is_put_before_the_sentence(causal: Vocabulary) -> None:
    bos = causal.tokenizer.bos_token_id
    sentence = causal.read(" red dog")
    assert sentence.ids[0] == bos and sentence.tokens[1:] == ("Ġred", "Ġdog")
    assert sentence.special == (True, False, False) and sentence.free == (1, 2)
    assert causal.encode("<|endoftext|> red") == (bos, causal.token_id("Ġred"))  # not twice
    assert causal.decode(sentence.ids) == " red dog"


def test_blanks_at_the_ends_belong_to_the_text_where_they_are_tokens(causal: Vocabulary, words: Vocabulary) -> None:
    rows = [causal.encode(text) for text in (" the dog", "the dog", " the dog ")]
    assert causal.decode_batch(rows) == [" the dog", "the dog", " the dog "]
    assert causal.retokenizes(rows) == [True] * 3
    assert words.decode(words.encode(" the dog ")) == "the dog"


def test_words_of_a_causal_model(causal: Vocabulary) -> None:
    sentence = causal.read(" red dog")
    assert causal.locate(sentence, "dog") == causal.locate(sentence, " dog") == (2,)
    assert causal.token_id("dog") == causal.token_id("Ġdog") == causal.token_id(" dog")
    assert causal.locate(sentence, -1) == (2,)


def test_a_word_is_not_found_at_the_end_of_another(causal: Vocabulary) -> None:
    """ " hotdog" is spelled in letters here, and its last three are not the word "dog"."""
    assert causal.read(" hotdog").tokens[-3:] == ("d", "o", "g")
    with says("the word 'dog' is not in the sentence"):
        causal.locate(causal.read(" hotdog"), "dog", whole_words=True)


def test_whole_words_of_a_causal_model(causal: Vocabulary) -> None:
    kept = chosen(causal, "whole_words no_special")
    assert {"Ġ" + word for word in CAUSAL_WORDS} <= kept and "Ġdo" in kept
    assert not kept & {"d", "o", "g", "7"} and "<|endoftext|>" not in kept


def test_the_users_tokenizer_stays_as_found() -> None:
    own = BertTokenizerFast(vocab={word: i for i, word in enumerate(VOCAB)}, model_max_length=32)
    own(["red", "a red dog"], padding=True, truncation=True, max_length=4)
    before = own.backend_tokenizer.to_str()
    assert '"truncation":null' not in before.replace(" ", "")
    vocabulary = Vocabulary.of(own, len(VOCAB), 12)
    assert len(vocabulary.encode("a red dog and a blue cat")) == 9
    vocabulary.allowed("ascii whole_words")
    assert own.backend_tokenizer.to_str() == before


def test_tokens_added_later_are_seen() -> None:
    own = BertTokenizerFast(vocab={word: i for i, word in enumerate(VOCAB)})
    assert len(Vocabulary.of(own, len(VOCAB) + 1, 12).encode("kickshaws")) > 3
    own.add_tokens(["kickshaws"])
    grown = Vocabulary.of(own, len(VOCAB) + 1, 12)
    assert grown.encode("kickshaws") == (CLS, len(VOCAB), SEP)
    assert grown.allowed("no_special")[len(VOCAB)]


def test_no_look_up_copies_the_vocabulary(words: Vocabulary, monkeypatch: pytest.MonkeyPatch) -> None:
    """That takes milliseconds, and a corpus search looks a word up in every line."""
    sentence = words.read("the red dog walks")
    words.locate(sentence, "red")  # how words start in this vocabulary is found out once
    monkeypatch.setattr(type(words.tokenizer), "get_vocab", lambda self: pytest.fail("the vocabulary was copied"))
    assert words.locate(sentence, "dog") == (3,) and words.locate(sentence, "##s") == (5,)
    assert words.token_id("##s") == VOCAB.index("##s") and words.token_id("dog") == VOCAB.index("dog")
    assert words.token_id("[UNK]") == VOCAB.index("[UNK]") and words.token_id("Dog") == VOCAB.index("dog")


def test_a_tokenizer_changed_in_place_is_read_anew() -> None:
    """Rules, words and special tokens, the size of the vocabulary staying what it was."""
    from tokenizers import models, normalizers, processors

    table = {word: i for i, word in enumerate(VOCAB)}
    own = BertTokenizerFast(vocab=table)

    def now() -> Vocabulary:
        return Vocabulary.of(own, d_vocab=len(VOCAB), n_ctx=12)

    first = now()
    assert first.encode("Dog") == (CLS, table["dog"], SEP) and now().tokenizer is first.tokenizer
    own(["a", "b c"], padding=True)  # a call is no change of words, but costs a copy at most
    backend = own.backend_tokenizer
    backend.normalizer = normalizers.Replace("Dog", "cat")
    assert now().encode("Dog") == (CLS, table["cat"], SEP)
    swapped = {**table, "cat": table["dog"], "dog": table["cat"]}
    backend.model = models.WordPiece(swapped, unk_token="[UNK]")
    assert now().encode("Dog") == (CLS, table["dog"], SEP)
    backend.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", special_tokens=[("[SEP]", SEP), ("[CLS]", CLS)]
    )
    assert now().encode("Dog") == (table["dog"], SEP)
    assert MASK in now().special_ids
    own.mask_token = "dog"
    assert MASK not in now().special_ids


def test_tokens_that_were_added_to_the_tokenizer_alone(tokenizer: BertTokenizerFast) -> None:
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens(["kickshaws"])
    grown.add_special_tokens({"pad_token": "[FILL]", "mask_token": "[GAP]"})
    words = Vocabulary.of(grown, len(VOCAB), 12)
    assert (words.pad_id, words.mask_id) == (0, None)
    for call in (
        lambda: words.read("i hate kickshaws"),
        lambda: words.token_id("kickshaws"),
        lambda: words.allowed(["dog", "kickshaws"]),
    ):
        with says(f"no embedding of ({len(VOCAB)} rows): 'kickshaws' (id {len(VOCAB)})", "load the model with its own"):
            call()
    (shard,) = ShardReader(Corpus.of(["i hate kickshaws", "a dog"]), words, 9, 12)
    assert shard.lines == (2,) and shard.skipped == {"with tokens that the model has no embedding of": 1}
