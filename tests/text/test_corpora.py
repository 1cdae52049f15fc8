"""Reading a corpus: files, iterables, data sets; every line is kept or counted."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas
import pytest
import torch

import tl_dream as td
from tl_dream.models.host import attached
from tl_dream.text import corpora
from tl_dream.text.corpora import Corpus, Shard, ShardReader
from tl_dream.text.vocabulary import Vocabulary


def read(
    model: torch.nn.Module, texts: Any, column: str | None = None, shard: int = 100, longest: int = 12
) -> list[Shard]:
    with attached(model) as host:
        return list(ShardReader(Corpus.of(texts, column), host.vocabulary, shard, 12))


def kept(shards: list[Shard]) -> list[tuple[int, str]]:
    return [(n, s.text) for shard in shards for n, s in zip(shard.lines, shard.sentences, strict=True)]


def test_a_file_line_by_line(encoder: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    lines = [
        "\ufeffi hate it".encode(),
        b"",
        b"  \t ",
        b"the red dog\r",
        b"\xff\xfe broken",
        b"you " * 20,
        "α 東".encode(),
        b"the sea is warm",
    ]
    path.write_bytes(b"\n".join(lines))
    for given in (path, str(path)):
        (shard,) = read(encoder, given)
        assert kept([shard]) == [(1, "i hate it"), (4, "the red dog"), (7, "α 東"), (8, "the sea is warm")]
        assert shard.skipped == {"blank": 2, "undecodable": 1, "over-long (more than 12 tokens)": 1}
        assert shard.read == 8 and shard.size == path.stat().st_size
        assert sum(shard.skipped.values()) + len(shard.lines) == shard.read


def test_tokens_are_those_of_read(encoder: torch.nn.Module) -> None:
    texts = ["i hate the red dog .", "kickshaws", "东 [MASK] x"]
    (shard,) = read(encoder, texts)
    with attached(encoder) as host:
        for text, sentence in zip(texts, shard.sentences, strict=True):
            want = host.vocabulary.read(text)
            assert (sentence.ids, sentence.tokens, sentence.special) == (want.ids, want.tokens, want.special)


def test_an_endless_line_is_never_held_whole(
    encoder: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpora, "LONGEST_LINE", 64)
    path = tmp_path / "corpus.txt"
    path.write_bytes(
        b"i walk\n" + b"word " * 100 + b"\nyou walk\n" + b"x" * 64 + b"\n" + b"y" * 63 + b"\n" + b"z" * 500
    )
    (shard,) = read(encoder, path)
    assert [text for _, text in kept([shard])][:2] == ["i walk", "you walk"]
    assert shard.lines[1] == 3 and shard.read == 6 and shard.size == path.stat().st_size
    assert shard.skipped["over-long (more than 12 tokens)"] >= 3
    (shard,) = read(encoder, ["a" * 65])
    assert shard.skipped == {"over-long (more than 12 tokens)": 1}


def test_a_shard_of_long_lines_has_fewer(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpora, "SHARD_TEXT", 100)
    texts = ["the red dog is warm the red dog is warm"] * 10
    shards = read(encoder, texts, shard=100)
    assert [shard.read for shard in shards] == [3, 3, 3, 1] and kept(shards) == list(enumerate(texts, 1))


def test_a_long_line_is_left_out_by_its_first_words(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """And only where that is safe: blanks are no tokens, a word without end is one."""
    seen, whole = [], Vocabulary.encode_batch

    def watched(self: Vocabulary, texts: list[str]) -> Any:
        seen.extend(map(len, texts))
        return whole(self, texts)

    monkeypatch.setattr(Vocabulary, "encode_batch", watched)
    texts = ["walk " * 40_000, "i " + " " * 90_000 + "walk", "x" * 90_000 + " walk", "i walk"]
    (shard,) = read(encoder, texts)
    assert [line for line, _ in kept([shard])] == [2, 3, 4]
    assert shard.skipped == {"over-long (more than 12 tokens)": 1}
    assert seen[0] < 500, "the first line was tokenized whole"
    assert [len(sentence) for sentence in shard.sentences] == [4, 4, 4]


def test_a_tokenizer_that_reaches_over_blanks_reads_lines_whole(
    encoder: torch.nn.Module, tiny_causal: torch.nn.Module
) -> None:
    for model in (encoder, tiny_causal):
        with attached(model) as host:
            tokenizer = host.vocabulary.tokenizer
            assert corpora._splits_at_spaces(tokenizer)
            assert not corpora._splits_at_spaces(SimpleNamespace(get_added_vocab=dict))  # one that is not "fast"
            added = SimpleNamespace(
                backend_tokenizer=tokenizer.backend_tokenizer, get_added_vocab=lambda: {"the red dog": 9}
            )
            assert not corpora._splits_at_spaces(added)


def test_items_that_are_no_text(encoder: torch.nn.Module) -> None:
    (shard,) = read(encoder, ["i walk", None, 3, b"you walk", b"\xff", "half \ud800 a pair", "[CLS] [SEP]"])
    assert kept([shard]) == [(1, "i walk"), (4, "you walk")]
    assert shard.skipped == {"not text": 2, "undecodable": 2, "blank": 1}


def test_shards(encoder: torch.nn.Module) -> None:
    texts = [f"i walk {n}" for n in range(10)]
    shards = read(encoder, texts, shard=4)
    assert [shard.read for shard in shards] == [4, 4, 2]
    assert kept(shards) == list(enumerate(texts, 1))
    assert [shard.read for shard in read(encoder, texts, shard=5)] == [5, 5]
    assert read(encoder, []) == []
    assert read(encoder, texts[:4], shard=4)[0].digest == shards[0].digest != shards[1].digest


def test_a_stream_is_read_a_shard_at_a_time(encoder: torch.nn.Module) -> None:
    taken = []

    def stream() -> Iterator[str]:
        for n in range(1000):
            taken.append(n)
            yield f"i walk {n}"

    with attached(encoder) as host:
        shards = iter(ShardReader(Corpus.of(stream()), host.vocabulary, 10, 12))
        next(shards)
    assert len(taken) == 10


TEXTS = ["i walk", "you walk", "we walk"]


def rows() -> Iterator[dict[str, str]]:
    yield from ({"text": text, "label": "x"} for text in TEXTS)


class Rows:
    """A data set that streams, as `datasets.IterableDataset` does."""

    column_names = None

    def __iter__(self) -> Iterator[dict[str, str]]:
        return rows()

    def __getitem__(self, name: str) -> Iterator[str]:
        return (row[name] for row in rows())


DATA_SETS = {
    "rows": lambda: list(rows()),
    "a stream of rows": rows,
    "columns": lambda: {"text": TEXTS, "label": ["x"] * 3},
    "pandas": lambda: pandas.DataFrame(rows()),
    "a streaming data set": Rows,
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_the_column_of_a_data_set(encoder: torch.nn.Module, name: str) -> None:
    shards = read(encoder, DATA_SETS[name](), "text")
    assert [text for _, text in kept(shards)] == TEXTS
    assert Corpus.of(DATA_SETS[name](), "text").size in (3, None)


def test_a_hugging_face_data_set(encoder: torch.nn.Module) -> None:
    datasets = pytest.importorskip("datasets")
    whole = datasets.Dataset.from_dict({"text": TEXTS, "label": [1, 2, 3]})
    for given, column in ((whole, "text"), (whole["text"], None), (whole.to_iterable_dataset(), "text")):
        assert [text for _, text in kept(read(encoder, given, column))] == TEXTS
    with pytest.raises(td.DreamError, match=r"which column .*\? give column= \(it has 'text', 'label'\)"):
        Corpus.of(whole)
    with pytest.raises(td.DreamError, match="the data set has no column 'body'; it has 'text', 'label'"):
        Corpus.of(whole, "body")
    split = datasets.DatasetDict({"train": whole})
    with pytest.raises(td.DreamError, match="the data set has no column 'text'; it has 'train'"):
        Corpus.of(split, "text")


@pytest.mark.parametrize(
    ("texts", "column", "message"),
    [
        ("no/such/file.txt", None, "there is no file 'no/such/file.txt'; texts of your own go in a list"),
        ("one long sentence " * 300, None, r"there is no file 'one long .*\.\.\.; texts of your own go in a list"),
        ("null\0", None, "there is no file"),
        (Path("no/such.txt"), None, "there is no file 'no/such.txt'$"),
        (Path("."), None, "'.' is not a file: give a text file with a sentence a line"),
        (Path("x.txt"), "text", "column= goes with a data set, not with a text file"),
        (7, None, "a corpus is a text file, an iterable of texts or a data set with column=, not int"),
        (b"bytes", None, "not bytes"),
        ({"text": ["a"]}, None, r"which column of the data set holds the texts\? give column= \(it has 'text'\)"),
        (pandas.DataFrame({"text": ["a"]}), None, r"which column .* \(it has 'text'\)"),
        ({"text": ["a"]}, "body", "the data set has no column 'body'; it has 'text'"),
    ],
)
def test_what_is_no_corpus(texts: Any, column: str | None, message: str) -> None:
    with pytest.raises(td.DreamError, match=message):
        Corpus.of(texts, column)


def test_rows_without_the_column(encoder: torch.nn.Module) -> None:
    with pytest.raises(td.DreamError, match="a row of the data set has no column 'body'; it has 'text', 'label'"):
        read(encoder, rows(), "body")
    with pytest.raises(td.DreamError, match="a row of the data set has no column 'text'; it has none, being a str"):
        read(encoder, ["i walk"], "text")
