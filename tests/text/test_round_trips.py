"""What is known of words tells what the tokenizer itself would."""

import random

import pytest
import torch

from tests.conftest import PIECES, VOCAB
from tl_dream.models.host import attached
from tl_dream.text.round_trips import RoundTrips, has_words


def rows_of(
    draw: random.Random, ids: list[int], pieces: list[int], frame: tuple[int, int], count: int
) -> list[tuple[int, ...]]:
    """Rows of like and unlike lengths, many with pieces, some with a frame that is none."""
    rows = []
    for _ in range(count):
        inner = [draw.choice(pieces if draw.random() < 0.4 else ids) for _ in range(draw.choice([1, 6, 6, 14]))]
        row = [frame[0], *inner, frame[1]]
        if draw.random() < 0.05:
            row[draw.randrange(len(row))] = draw.choice(ids)
        rows.append(tuple(row))
    return rows


@pytest.mark.parametrize("kept", [500_000, 10])
def test_it_is_what_the_tokenizer_says(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Of all tokens, special ones too, and of pieces and punctuation alone."""
    monkeypatch.setattr("tl_dream.text.round_trips.KEPT", kept)
    draw = random.Random(0)
    with attached(encoder) as host:
        vocabulary = host.vocabulary
        assert has_words(vocabulary.tokenizer)
        frame = (vocabulary.tokenizer.cls_token_id, vocabulary.tokenizer.sep_token_id)
        known = RoundTrips(vocabulary.tokenizer, vocabulary.d_vocab, vocabulary._asked)
        pieces = [i for i, word in enumerate(VOCAB) if word.startswith("##")]
        marks = [i for i, word in enumerate(VOCAB) if not word.isalnum() and word not in PIECES]
        for ids in (range(vocabulary.d_vocab), marks, [*pieces, *range(70, 90)]):
            rows = rows_of(draw, list(ids), pieces, frame, 1500)
            expected = vocabulary._asked(rows)
            assert known(rows) == expected and known(rows) == expected
            assert 0.001 < sum(expected) / len(expected) < 0.9
        odd = [(frame[0], frame[1]), (*frame, *frame), (frame[0],), (frame[0], len(VOCAB) + 5, frame[1]), ()]
        assert known(odd[:3]) == vocabulary._asked(odd[:3])
        back = vocabulary.read_back(rows)
        assert back == vocabulary.encode_batch(vocabulary.decode_batch(rows))


def test_another_kind_is_asked_itself(tiny_causal: torch.nn.Module) -> None:
    with attached(tiny_causal) as host:
        assert not has_words(host.vocabulary.tokenizer)
        rows = [host.vocabulary.encode(text) for text in ("the red dog", "a cat")]
        assert host.vocabulary.retokenizes(rows) == [True, True]


@pytest.mark.slow
def test_fifty_thousand_rows_of_a_real_vocabulary(minilm: torch.nn.Module) -> None:
    draw = random.Random(1)
    with attached(minilm) as host:
        vocabulary = host.vocabulary
        words = vocabulary.tokens(range(vocabulary.d_vocab))
        pieces = [i for i, word in enumerate(words) if word.startswith("##")]
        marks = [i for i, word in enumerate(words) if not word.replace("##", "").isalnum()]
        for ids in (
            range(vocabulary.d_vocab),
            vocabulary.allowed().nonzero().flatten().tolist(),
            [*marks, *pieces[:99]],
        ):
            for _ in range(2):
                rows = rows_of(draw, list(ids), pieces, (101, 102), 8_000)
                assert vocabulary.retokenizes(rows) == vocabulary._asked(rows)
