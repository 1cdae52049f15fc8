"""The room scans.corpus_pass."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tl_dream as td
from tests.support.scans import OBJECTIVES, TEXTS, Model, check_result, search
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.results.corpora import CorpusResult
from tl_dream.scans import corpus as corpus_scan
from tl_dream.scans import corpus_pass


def test_positions_and_values_of_the_tokens(tiny_encoder: Model) -> None:
    for objective, sign in (
        (td.neuron("block_out", layer=2, unit=7), 1),
        (-td.neuron("block_out", layer=2, unit=7), -1),
    ):
        result = search(tiny_encoder, objective, TEXTS, top=5)
        with attached(tiny_encoder) as host, torch.no_grad():
            name = host.resolve("block_out", 2)
            for hit in result.top:
                values = sign * forward(host, torch.tensor([hit.ids]), [name])[name][0, :, 7]
                assert list(hit.activations or ()) == pytest.approx(values.tolist(), abs=1e-5)
                assert len(hit.tokens) == len(hit.ids) == len(values)
                assert hit.tokens == host.vocabulary.tokens(hit.ids)
                within = sign * values[1:-1]
                assert hit.pos == 1 + int(within.argmax())
                assert hit.score == pytest.approx(float(values[hit.pos]), abs=1e-5)


def test_your_own_function_has_no_place(encoder: Model) -> None:
    result = search(encoder, OBJECTIVES["your own"](), TEXTS[:20], top=2)
    assert result.top[0].pos is None and result.top[0].activations is None


def test_values_that_are_no_numbers_are_left_out(encoder: Model, tmp_path: Path) -> None:
    goal = td.neuron("block_out", layer=2, unit=7)
    assert goal.per_token is not None
    odd = replace(goal, unit=None, per_token=lambda acts, rows: (goal.per_token(acts, rows) - 0.5).log())
    result = search(encoder, odd, TEXTS[:40], top=2)
    assert result.texts() == search(encoder, goal, TEXTS[:40], top=2).texts()
    assert all(None in (hit.activations or ()) and hit.pos is not None for hit in result.top)
    result.save(tmp_path / "result.json")
    assert CorpusResult.load(tmp_path / "result.json") == result
    assert "<span" in result._repr_html_()


def test_equal_texts_are_returned_once_and_counted_each_time(encoder: Model) -> None:
    texts = TEXTS[:30] * 3 + ["  " + TEXTS[0] + " "]
    objective = td.neuron("block_out", layer=1, unit=7)
    whole, shards = search(encoder, objective, texts), search(encoder, objective, texts, shard_lines=7)
    assert [hit.line for hit in whole.top] == [hit.line for hit in shards.top]
    assert all(hit.line <= 30 for hit in whole.top) and len(set(whole.texts())) == 10
    assert whole.scored == shards.scored == 91
    assert whole.tokens == shards.tokens
    assert whole.cost.forwards == len(set(TEXTS[:30])) + 1


def constant(acts: dict[str, torch.Tensor]) -> torch.Tensor:
    return acts["a"][:, 0, 0] * 0


@pytest.mark.parametrize("shard", [5, 40, 1000])
def test_equal_scores_come_by_line(encoder: Model, shard: int) -> None:
    texts = list(dict.fromkeys(TEXTS))[:60]
    goals = [
        td.custom(constant, {"a": ("block_out", 0)}, name="constant"),
        td.neuron("full_embed", unit=3, pos=0),  # [CLS] before it knows of any other word
        td.custom(lambda acts: (acts["a"][:, 1, 7] > 0).float(), {"a": ("block_out", 1)}, name="step"),
        td.neuron("block_out", layer=1, unit=7),
    ]
    found = search(encoder, goals, texts, top=2, shard_lines=shard)
    for goal, result in zip(goals, found, strict=True):
        scores = td.score(encoder, goal, texts).tolist()
        best = sorted(range(len(texts)), key=lambda i: (-scores[i], i))[:2]
        assert [hit.line - 1 for hit in result.top] == best, goal


@pytest.mark.parametrize("shard", [1, 2, 100])
def test_lines_of_the_same_tokens_are_one_however_they_are_written(encoder: Model, shard: int) -> None:
    texts = ["Red dog", "red dog", "the sea", "RED  DOG", "i walk"]
    result = search(encoder, td.neuron("block_out", layer=1, unit=3), texts, top=5, shard_lines=shard)
    assert sorted((hit.line, hit.text) for hit in result.top) == [(1, "Red dog"), (3, "the sea"), (5, "i walk")]
    assert result.scored == 5


def test_every_line_is_scored_or_counted(encoder: Model) -> None:
    texts = ["i hate it", "", "  ", "you " * 50, "b\udc00d", None, *TEXTS[:10]]
    result = search(encoder, td.neuron("block_out", layer=1, unit=7), texts)
    assert result.scored == 11
    assert result.skipped == {"blank": 2, "over-long (more than 32 tokens)": 1, "undecodable": 1, "not text": 1}
    assert result.scored + sum(result.skipped.values()) == len(texts)
    assert "11 lines of the texts given scored" in str(result) and "skipped: 2 blank" in str(result)
    short = search(encoder, td.neuron("block_out", layer=1, unit=7), texts, max_tokens=5)
    assert all(len(hit.ids) <= 5 for hit in short.top) and short.skipped["over-long (more than 5 tokens)"] > 1


@pytest.mark.parametrize(
    ("pos", "reason", "fits"),
    [
        (5, "without position 5", lambda ids, words: len(ids) > 5),
        (-6, "without position -6", lambda ids, words: len(ids) >= 6),
        ("dog", "without the word 'dog' (as one token, exactly once)", lambda ids, words: words.count("dog") == 1),
        (["dog", 1], "without the positions ['dog', 1]", lambda ids, words: words.count("dog") == 1),
    ],
)
def test_lines_without_the_place(encoder: Model, pos: Any, reason: str, fits: Callable[..., bool]) -> None:
    objective = td.neuron("block_out", layer=1, unit=7, pos=pos)
    other = td.neuron("block_out", layer=1, unit=8)
    texts = TEXTS[:80]
    with attached(encoder) as host:
        good = [text for text in texts if fits(host.vocabulary.encode(text), text.split())]
    assert 5 < len(good) < 75
    both = search(encoder, [objective, other], texts, top=5, shard_lines=30)
    for result in (search(encoder, objective, texts, top=5), both[0]):
        assert result.scored == len(good) and result.skipped == {reason: 80 - len(good)}
        scores = td.score(encoder, objective, good)
        assert [hit.score for hit in result.top] == pytest.approx(scores.topk(5).values.tolist(), abs=1e-5)
    assert both[1].scored == 80 and both[1].skipped == {}
    check_result(encoder, other, both[1], texts, 5)


def test_an_objective_that_does_not_say_where_it_reads(encoder: Model) -> None:
    objective = td.neuron("block_out", layer=1, unit=7, pos=5) + td.neuron("block_out", layer=0, unit=7, pos="dog")
    texts = TEXTS[:60]
    good = []
    for text in texts:
        try:
            good.append((float(td.score(encoder, objective, text)), text))
        except td.DreamError:
            pass
    assert 3 < len(good) < 50
    result = search(encoder, objective, texts, top=3)
    assert result.scored == len(good) and sum(result.skipped.values()) == 60 - len(good)
    assert result.texts(3) == tuple(text for _, text in sorted(good, reverse=True)[:3])


def test_scores_that_are_no_number_are_counted(encoder: Model) -> None:
    """The logarithm of a negative value."""
    objective = td.custom(lambda acts: acts["a"][:, 1, 7].log(), {"a": ("block_out", 1)}, name="log")
    result = search(encoder, objective, TEXTS[:60], top=3)
    assert result.scored + result.skipped["scored as not a number"] == 60
    assert 0 < result.scored < 60 and all(hit.score == hit.score for hit in result.top)


def test_too_little_memory_makes_smaller_batches(encoder: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    goals = [td.neuron("block_out", layer=1, unit=unit) for unit in range(3)]
    expected = search(encoder, goals, TEXTS)
    whole, sizes = corpus_pass.read_activations, []

    def small(host: Any, reads: Any, ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(ids))
        if len(ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(host, reads, ids, **options)

    monkeypatch.setattr(corpus_pass, "read_activations", small)
    found = search(encoder, goals, TEXTS)
    for one, other in zip(found, expected, strict=True):
        assert [hit.line for hit in one.top] == [hit.line for hit in other.top]
        assert one.scored == other.scored == 300
    assert max(sizes) > 5


def test_a_bar_with_the_rate(encoder: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, bars = tmp_path / "corpus.txt", []
    path.write_text("\n".join(TEXTS))

    class Bar(corpus_scan.tqdm):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "mininterval": 0})
            self.rates: list[str] = []
            bars.append(self)

        def set_postfix_str(self, text: str = "", refresh: bool = True) -> None:
            self.rates.append(text)

    monkeypatch.setattr(corpus_scan, "tqdm", Bar)
    goal = td.neuron("block_out", layer=1, unit=7)
    search(encoder, goal, path, progress=True, shard_lines=50)
    search(encoder, goal, iter(TEXTS), progress=True)
    search(encoder, goal, path)
    assert [(bar.total, round(bar.n), bar.unit) for bar in bars[:2]] == [
        (path.stat().st_size, path.stat().st_size, "B"),
        (None, 300, "line"),
    ]
    assert bars[0].rates and all(rate.endswith("tokens/s") for rate in bars[0].rates)
    assert bars[2].disable
