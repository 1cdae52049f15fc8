"""The room text.encodings: a text file reads the same in every Unicode encoding, and nothing else passes for text."""

import gzip
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import says
from tests.support.hostile import COMPACT
from tl_dream._errors import DreamError
from tl_dream.models.host import attached
from tl_dream.text import Corpus, ShardReader, encodings, read_lines
from tl_dream.text.encodings import encoding_of
from tl_dream.text.vocabulary import Vocabulary

ENGLISH = "the red dog\ni walk — α\n\nyou walk"
CHINESE = "一東一\n我恨它\n东东"  # "一" is 4E00: its bytes look like those of a letter in the other order
WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
@pytest.mark.parametrize("encoding", ["utf-8", *WIDE])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_encoding_gives_the_same_lines(
    encoder: torch.nn.Module, tmp_path: Path, text: str, encoding: str, mark: str
) -> None:
    path = tmp_path / "corpus.txt"
    path.write_bytes((mark + text).replace("\n", "\r\n").encode(encoding))
    lines = text.split("\n")
    assert read_lines(path) == lines
    with attached(encoder) as host:
        (shard,) = ShardReader(Corpus.of(path), host.vocabulary, 100, 12)
    assert [sentence.text for sentence in shard.sentences] == [line for line in lines if line]
    assert shard.read == len(lines) and shard.size == path.stat().st_size


def test_a_character_cut_at_the_end_of_the_head() -> None:
    for encoding in ("utf-8", *WIDE):
        whole = "a 東 𝔸\n".encode(encoding)
        assert {encoding_of(whole[: -1 - cut], "x") for cut in range(4)} == {encoding}


@pytest.mark.parametrize(
    "content",
    [
        "crème brûlée\nà gogo\nthe rest\n".encode("latin-1"),
        "我恨它\n东西\n".encode("gbk"),
        "日本語".encode("shift-jis"),
        "\u4e00\u6771".encode("utf-16-le"),  # no mark, no letter, no line: nothing tells
        gzip.compress(ENGLISH.encode(), mtime=0),
        b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x01\x00\x00\x00\x01\x00",
        b"\x10\x00\x00\x00\x00\x00\x00\x00{}" + bytes(1000),
        bytes(64),
        torch.randint(256, (4096,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy().tobytes(),
    ],
    ids=["latin-1", "gbk", "shift-jis", "two letters", "gzip", "png", "binary", "zeros", "noise"],
)
def test_what_is_no_text_gets_one_clear_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.txt"
    path.write_bytes(content)
    for read in (Corpus.of, read_lines):
        with says(f"{str(path)!r} is no text in UTF-8, UTF-16 or UTF-32 (", "save it as UTF-8"):
            read(path)


def test_single_lines_that_are_no_text_are_counted(encoder: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    good = b"i walk\nyou walk\nthe red dog\n"
    path.write_bytes(good + b"a\0b\ncr\xe8me\n")
    with attached(encoder) as host:
        (shard,) = ShardReader(Corpus.of(path), host.vocabulary, 100, 12)
        assert shard.skipped == {"with a NUL character": 1, "undecodable": 1} and len(shard.lines) == 3
        path.write_bytes(good.decode().encode("utf-16") + b"\x00\xd8\n\0y\0o")  # half a pair, half a character
        (shard,) = ShardReader(Corpus.of(path), host.vocabulary, 100, 12)
        assert shard.skipped == {"undecodable": 2} and len(shard.lines) == 3
        (shard,) = ShardReader(Corpus.of(["i walk", "a\0b"]), host.vocabulary, 100, 12)
        assert shard.skipped == {"with a NUL character": 1}


def test_small_files_are_read_strictly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    for bad in (b"a\0b", b"cr\xe8me"):
        path.write_bytes(b"i walk\nyou walk\n" + bad + b"\nx\n")
        with says(f"line 3 of {str(path)!r} is no text in its encoding"):
            read_lines(path)
    path.write_bytes("one\x85still\u2028one\rtwo\r\nthree".encode())
    assert read_lines(path) == ["one\x85still\u2028one", "two", "three"]
    with says("can't read '/proc/self/mem': "):
        read_lines("/proc/self/mem")
    monkeypatch.setattr(encodings, "LARGEST", 100)
    with says("'/dev/zero' has more than 100 bytes"):
        read_lines("/dev/zero")


def test_a_corpus_that_cannot_be_read() -> None:
    with says("can't read the corpus '/proc/self/mem': "):
        Corpus.of("/proc/self/mem")


LINES = st.lists(
    st.sampled_from(["", "the red dog", "[MASK]", "\ufeff", "\0", "東 𝔸", "a\r\x85", "a" * 400]), max_size=6
)
FILES = st.binary(max_size=80) | st.builds(
    lambda lines, encoding: "\n".join(lines).encode(encoding, "replace"), LINES, st.sampled_from(["utf-8", *WIDE])
)


@COMPACT
@given(content=FILES)
def test_any_file_is_read_or_told_why_not(words: Vocabulary, tmp_path: Path, content: bytes) -> None:
    """Every line of it is a sentence or counted, and every byte of it was read."""
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    try:
        shards = list(ShardReader(Corpus.of(path), words, 2, 12))
    except DreamError as error:
        assert "is no text in" in str(error)
        return
    assert sum(shard.size for shard in shards) == len(content)
    for shard in shards:
        assert shard.read == len(shard.lines) + sum(shard.skipped.values())
        assert all(len(sentence.ids) <= 12 and sentence.text for sentence in shard.sentences)


def test_what_is_no_path_is_told(unchecked: None) -> None:
    with says("can't read \"[('he', 'she')]\": expected str"):
        read_lines([("he", "she")])
