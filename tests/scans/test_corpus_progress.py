"""The room scans.corpus_progress."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tl_dream as td
from tests.conftest import says
from tests.support.hostile import COMPACT, damage
from tests.support.scans import GOALS, TEXTS, Model, check_result, search
from tl_dream.scans import corpus_pass
from tl_dream.scans import corpus_progress as corpus_checkpoints


class Stopped(Exception):
    pass


def stops_after(count: int) -> Iterator[str]:
    yield from TEXTS[:count]
    raise Stopped


def test_a_search_goes_on_where_it_stopped(encoder: Model, tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    goals = [*GOALS, 1e6 * GOALS[0]]  # which rounding moves by more than the others are worth
    whole = search(encoder, goals, TEXTS, shard_lines=40)
    with pytest.raises(Stopped):
        search(encoder, goals, stops_after(130), shard_lines=40, checkpoint=path)
    saved = json.loads(path.read_text())
    assert saved["lines"] == 120, "the shard that was not finished does not count"
    resumed = search(encoder, goals, TEXTS, shard_lines=40, checkpoint=path)
    for one, other in zip(resumed, whole, strict=True):
        assert one.top == other.top
        assert (one.scored, one.skipped, one.tokens) == (other.scored, other.skipped, other.tokens)
        assert one.cost.seconds > saved["seconds"]


def test_finished_shards_are_not_scored_again(encoder: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "search.json"
    with pytest.raises(Stopped):
        search(encoder, GOALS[0], stops_after(130), shard_lines=40, checkpoint=path)
    seen: list[str] = []
    whole = corpus_pass.CorpusPass._score

    def watched(self: Any, batch: Any, fits: Any) -> Any:
        seen.extend(line.sentence.text for line in batch)
        return whole(self, batch, fits)

    monkeypatch.setattr(corpus_pass.CorpusPass, "_score", watched)
    search(encoder, GOALS[0], TEXTS, shard_lines=40, checkpoint=path)
    assert sorted(seen) == sorted(TEXTS[120:])
    seen.clear()
    again = search(encoder, GOALS[0], TEXTS, shard_lines=40, checkpoint=path)
    assert seen == [] and again.scored == 300, "a finished search is done"


def test_a_file_goes_on_too(encoder: Model, tmp_path: Path) -> None:
    corpus, path = tmp_path / "corpus.txt", tmp_path / "search.json"
    corpus.write_text("\n".join(TEXTS[:200]) + "\n")
    search(encoder, GOALS[0], corpus, checkpoint=path)
    with corpus.open("a") as file:
        file.write("\n".join(TEXTS[200:]))
    grown = search(encoder, GOALS[0], corpus, checkpoint=path)
    assert grown.scored == 300
    check_result(encoder, GOALS[0], grown, TEXTS, 10)


def test_another_searchs_checkpoint_is_refused(encoder: Model, tiny_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    vector = torch.linspace(-1, 1, 24)
    goal = td.direction(vector, "block_out", layer=1)
    search(encoder, goal, TEXTS[:50], checkpoint=path)
    for objective, options, message in (
        (td.neuron("block_out", layer=1, unit=7), {}, r"is of another search \(its objectives differ\): give another"),
        ([goal, goal], {}, r"its objectives differ"),
        (goal, {"top": 3, "max_tokens": 9}, r"its top and max_tokens differ"),
        (goal, {"texts": TEXTS[1:]}, r"was made on another corpus \(its first 50 lines differ\)"),
        (goal, {"texts": TEXTS[:20]}, r"was made on another corpus"),
        (
            td.direction(-vector, "block_out", layer=1),
            {},
            r"another model or objective of the same name \(its best sent",
        ),
    ):
        given = {"texts": TEXTS, **options}
        with pytest.raises(td.DreamError, match=message):
            search(encoder, objective, given.pop("texts"), checkpoint=path, **given)
    changed = td.load_model(str(tiny_folder))
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1.1)
    with pytest.raises(td.DreamError, match="another model or objective of the same name"):
        search(changed, goal, TEXTS, checkpoint=path)


def test_a_checkpoint_is_not_written_after_every_shard(
    encoder: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a thousand objectives it holds megabytes."""
    path, written = tmp_path / "search.json", []
    whole = corpus_checkpoints.write_bytes
    monkeypatch.setattr(corpus_checkpoints, "write_bytes", lambda *given: (written.append(1), whole(*given)))
    monkeypatch.setattr(corpus_checkpoints, "EVERY", 1e3)
    search(encoder, GOALS[:2], TEXTS[:60], shard_lines=10, checkpoint=path)
    assert len(written) == 1 and json.loads(path.read_text())["lines"] == 60
    path.unlink()
    monkeypatch.setattr(corpus_checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(corpus_checkpoints, "SHARE", 1e9)
    search(encoder, GOALS[:2], TEXTS[:60], shard_lines=10, checkpoint=path)
    assert len(written) == 1 + 6


@pytest.mark.parametrize("stop", [Stopped, KeyboardInterrupt, SystemExit])
def test_what_is_finished_is_saved_however_the_search_ends(
    encoder: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    """Also in the middle of a shard, which then counts for nothing."""
    path, batches = tmp_path / "search.json", []
    whole = corpus_pass.CorpusPass._score
    expected = search(encoder, GOALS[:1], TEXTS, shard_lines=100)

    def stops(self: Any, batch: Any, fits: Any) -> Any:
        batches.append(1)
        if len(batches) == stop_at:
            raise stop
        return whole(self, batch, fits)

    stop_at = 0
    with monkeypatch.context() as counting:
        counting.setattr(corpus_pass.CorpusPass, "_score", stops)
        search(encoder, GOALS[0], TEXTS[:100], batch_tokens=300)
        stop_at = len(batches) + len(batches) // 2 + 1
        batches.clear()
        with pytest.raises(stop):
            search(encoder, GOALS[:1], TEXTS, shard_lines=100, batch_tokens=300, checkpoint=path)
    saved = json.loads(path.read_text())
    assert saved["lines"] == saved["rankings"][0]["scored"] == 100
    (one,) = search(encoder, GOALS[:1], TEXTS, shard_lines=100, checkpoint=path)
    assert [hit.line for hit in one.top] == [hit.line for hit in expected[0].top] and one.scored == 300


def test_a_checkpoint_that_could_not_be_read_is_told_before_the_search(encoder: Model, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (os.devnull, tmp_path / "pipe"):
        with says("the checkpoint", "is a device or a pipe, which can't be read again: give a file"):
            search(encoder, td.custom(lambda acts: 1 / 0, {"x": ("mlp_post", 1)}), TEXTS, checkpoint=path)


@COMPACT
@given(choices=st.data())
def test_a_damaged_checkpoint_is_refused_or_can_be_used(encoder: Model, tmp_path: Path, choices: st.DataObject) -> None:
    path, good = tmp_path / "search.json", tmp_path / "good.json"
    if not good.exists():
        search(encoder, GOALS[0], TEXTS[:3], top=2, checkpoint=good)
    data = json.loads(good.read_text())
    damage(choices.draw, data)
    path.write_text(json.dumps(data))
    try:
        found = search(encoder, GOALS[0], TEXTS[:5], top=2, checkpoint=path)
    except td.DreamError:
        return
    assert str(found) and len(found.to_frame()) == len(found.top)
    assert type(found).from_json(json.loads(json.dumps(found.to_json()))) == found


def test_the_corpus_is_no_checkpoint(encoder: Model, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    for content in ("", "i walk\n"):
        corpus.write_text(content)
        with pytest.raises(td.DreamError, match="corpus.txt' is the corpus itself: give another file"):
            search(encoder, GOALS[0], corpus, checkpoint=f"{tmp_path}/./corpus.txt")
        assert corpus.read_text() == content


DAMAGE: dict[str, Callable[[Any], object]] = {
    "no rankings": lambda data: data.update(rankings=[]),
    "rankings that are none": lambda data: data.update(rankings={"a": 1}),
    "seconds": lambda data: data.update(seconds="q"),
    "lines": lambda data: data.update(lines="a"),
    "fewer than no lines": lambda data: data.update(lines=-1),
    "tokens": lambda data: data.update(tokens=1.5),
    "skipped": lambda data: data.update(skipped=[1]),
    "skipped a word": lambda data: data.update(skipped={"blank": "many"}),
    "scored": lambda data: data["rankings"][0].update(scored=None),
    "a sentence": lambda data: data["rankings"][0].update(hits=[{"a": 1}]),
    "more than a sentence": lambda data: data["rankings"][0]["hits"][0].update(more=1),
    "ids": lambda data: data["rankings"][0]["hits"][0].update(ids=["z"]),
    "fewer ids": lambda data: data["rankings"][0]["hits"][0].update(ids=[4]),
    "ids of another model": lambda data: data["rankings"][0]["hits"][0]["ids"].__setitem__(1, 90_000),
    "score": lambda data: data["rankings"][0]["hits"][0].update(score="high"),
    "activations": lambda data: data["rankings"][0]["hits"][0].update(activations=["a"]),
    "pos": lambda data: data["rankings"][0]["hits"][0].update(pos=99),
    "line": lambda data: data["rankings"][0]["hits"][0].update(line=True),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_told_in_one_line(encoder: Model, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "search.json"
    search(encoder, GOALS[0], TEXTS[:9], checkpoint=path)
    data = json.loads(path.read_text())
    DAMAGE[damage](data)
    path.write_text(json.dumps(data))
    with pytest.raises(td.DreamError, match="is broken .*: give another checkpoint file, or delete this one") as caught:
        search(encoder, GOALS[0], TEXTS[:9], checkpoint=path)
    assert len(str(caught.value)) < 600


def test_a_broken_checkpoint_is_told(encoder: Model, tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    search(encoder, GOALS[0], TEXTS[:50], checkpoint=path)
    data = json.loads(path.read_text())
    for content, message in (
        ("{", "can't read .* as JSON"),
        ('{"kind": "dream", "version": 1}', "the file holds 'dream', not a 'corpus_checkpoint'"),
        (json.dumps({key: value for key, value in data.items() if key != "rankings"}), r"is broken \(KeyError"),
    ):
        path.write_text(content)
        with pytest.raises(td.DreamError, match=message):
            search(encoder, GOALS[0], TEXTS, checkpoint=path)
    path.write_text("")
    assert search(encoder, GOALS[0], TEXTS[:50], checkpoint=path).scored == 50
