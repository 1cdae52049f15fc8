"""Corpus search against `score`; many objectives at once; what is skipped; resuming; what is refused."""

import inspect
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tl_dream as td
from tl_dream import corpus_checkpoints, corpus_pass, corpus_scan, unit_groups
from tl_dream.corpus_results import CorpusHit, CorpusResult
from tl_dream.corpus_scan import corpus_search
from tl_dream.hosts import attached
from tl_dream.models import forward
from tl_dream.prompts import Vocabulary
from tl_dream.results import Cost
from tl_dream.unit_groups import grouped

Model = torch.nn.Module

WORDS = "i you we the a red dog cat moon sea is was cold warm and hate love walk read good very . ,".split()


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 14))) for _ in range(count)]


TEXTS = sentences(300)


def search(model: Model, objective: Any, texts: Any, **options: Any) -> Any:
    return corpus_search(model, objective, texts, **{"progress": False, **options})


def check_result(model: Model, objective: td.Objective, result: CorpusResult, texts: list[str], top: int) -> None:
    """The sentences are those of a loop over `score`, the first of equal texts."""
    scores = [float(td.score(model, objective, text)) for text in texts]
    first = {text: i for i, text in reversed(list(enumerate(texts)))}
    best = sorted(first.values(), key=lambda i: (-scores[i], i))[:top]
    assert [hit.line - 1 for hit in result.top] == best
    assert [hit.score for hit in result.top] == pytest.approx([scores[i] for i in best], abs=1e-5)
    assert result.texts(top) == tuple(texts[i] for i in best)


OBJECTIVES: dict[str, Callable[[], td.Objective]] = {
    "any word": lambda: td.neuron("block_out", layer=2, unit=7),
    "a mean": lambda: td.neuron("mlp_post", layer=1, unit=30, reduce="mean"),
    "the lowest": lambda: td.neuron("mlp_post", layer=1, unit=30, reduce="min"),
    "a position": lambda: td.neuron("z", layer=1, head=2, unit=3, pos=2),
    "from the end": lambda: td.neuron("block_out", layer=0, unit=3, pos=-1),
    "downwards": lambda: -td.neuron("block_out", layer=2, unit=7),
    "a direction": lambda: td.direction(torch.linspace(-1, 1, 24), "block_out", layer=1),
    "a sum": lambda: td.neuron("block_out", layer=2, unit=7) + 2 * td.neuron("block_out", layer=0, unit=1, pos=1),
    "normalized": lambda: td.normalized(td.neuron("block_out", layer=1, unit=5)),
    "attention": lambda: td.attention(layer=1, head=1, query=1, key=2),
    "a prediction": lambda: td.logit("dog", log_prob=True),
    "your own": lambda: td.custom(lambda acts: acts["a"][:, -1].sum(-1), {"a": ("block_out", 1)}),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_best_are_those_of_score(tiny_encoder: Model, name: str) -> None:
    objective = OBJECTIVES[name]()
    texts = TEXTS[:60]
    result = search(tiny_encoder, objective, texts, top=7, batch_tokens=64, shard_lines=25)
    check_result(tiny_encoder, objective, result, texts, 7)
    assert result.scored == 60 and result.skipped == {}
    assert result.objective == repr(objective) and len(result.top) == 7


def test_a_causal_model(tiny_causal: Model) -> None:
    objective = td.neuron("block_out", layer=1, unit=7)
    draw = random.Random(0)
    texts = [
        "the " + " ".join(draw.choices("red dog cat sun moon sees hates loves".split(), k=n)) for n in range(2, 20)
    ]
    check_result(tiny_causal, objective, search(tiny_causal, objective, texts, top=5), texts, 5)


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


def test_your_own_function_has_no_place(tiny_encoder: Model) -> None:
    result = search(tiny_encoder, OBJECTIVES["your own"](), TEXTS[:20], top=2)
    assert result.top[0].pos is None and result.top[0].activations is None


def test_values_that_are_no_numbers_are_left_out(tiny_encoder: Model, tmp_path: Path) -> None:
    goal = td.neuron("block_out", layer=2, unit=7)
    assert goal.per_token is not None
    odd = replace(goal, per_token=lambda acts, rows: (goal.per_token(acts, rows) - 0.5).log())
    result = search(tiny_encoder, odd, TEXTS[:40], top=2)
    assert result.texts() == search(tiny_encoder, goal, TEXTS[:40], top=2).texts()
    assert all(None in (hit.activations or ()) and hit.pos is not None for hit in result.top)
    result.save(tmp_path / "result.json")
    assert CorpusResult.load(tmp_path / "result.json") == result
    assert "<span" in result._repr_html_()


def test_equal_texts_are_returned_once_and_counted_each_time(tiny_encoder: Model) -> None:
    texts = TEXTS[:30] * 3 + ["  " + TEXTS[0] + " "]
    objective = td.neuron("block_out", layer=1, unit=7)
    whole, shards = search(tiny_encoder, objective, texts), search(tiny_encoder, objective, texts, shard_lines=7)
    assert [hit.line for hit in whole.top] == [hit.line for hit in shards.top]
    assert all(hit.line <= 30 for hit in whole.top) and len(set(whole.texts())) == 10
    assert whole.scored == shards.scored == 91
    assert whole.tokens == shards.tokens
    assert whole.cost.forwards == len(set(TEXTS[:30])) + 1


def constant(acts: dict[str, torch.Tensor]) -> torch.Tensor:
    return acts["a"][:, 0, 0] * 0


@pytest.mark.parametrize("shard", [5, 40, 1000])
def test_equal_scores_come_by_line(tiny_encoder: Model, shard: int) -> None:
    texts = list(dict.fromkeys(TEXTS))[:60]
    goals = [
        td.custom(constant, {"a": ("block_out", 0)}, name="constant"),
        td.neuron("full_embed", unit=3, pos=0),  # [CLS] before it knows of any other word
        td.custom(lambda acts: (acts["a"][:, 1, 7] > 0).float(), {"a": ("block_out", 1)}, name="step"),
        td.neuron("block_out", layer=1, unit=7),
    ]
    found = search(tiny_encoder, goals, texts, top=2, shard_lines=shard)
    for goal, result in zip(goals, found, strict=True):
        scores = td.score(tiny_encoder, goal, texts).tolist()
        best = sorted(range(len(texts)), key=lambda i: (-scores[i], i))[:2]
        assert [hit.line - 1 for hit in result.top] == best, goal


@pytest.mark.parametrize("shard", [1, 2, 100])
def test_lines_of_the_same_tokens_are_one_however_they_are_written(tiny_encoder: Model, shard: int) -> None:
    texts = ["Red dog", "red dog", "the sea", "RED  DOG", "i walk"]
    result = search(tiny_encoder, td.neuron("block_out", layer=1, unit=3), texts, top=5, shard_lines=shard)
    assert sorted((hit.line, hit.text) for hit in result.top) == [(1, "Red dog"), (3, "the sea"), (5, "i walk")]
    assert result.scored == 5


def test_fewer_sentences_than_asked_for(tiny_encoder: Model) -> None:
    result = search(tiny_encoder, td.neuron("block_out", layer=1, unit=7), ["i walk", "you walk"], top=10)
    assert len(result.top) == 2 and len(result.texts(10)) == 2 and len(result.texts(1)) == 1


# ---------------------------------------------------------------- many objectives


def test_many_objectives_in_one_pass(tiny_encoder: Model) -> None:
    goals = [
        *(td.neuron("block_out", layer=2, unit=unit) for unit in range(24)),
        *(td.neuron("mlp_post", layer=0, unit=unit, pos=1) for unit in range(5)),
        *(td.neuron("z", layer=1, unit=unit, reduce="mean") for unit in (0, 7, 23)),
        *(make() for make in OBJECTIVES.values()),
    ]
    together = search(tiny_encoder, goals, TEXTS[:80], top=4, batch_tokens=100, shard_lines=30)
    assert isinstance(together, tuple) and [one.objective for one in together] == [repr(goal) for goal in goals]
    for goal, one in zip(goals, together, strict=True):
        alone = search(tiny_encoder, goal, TEXTS[:80], top=4)
        assert [hit.line for hit in one.top] == [hit.line for hit in alone.top], goal
        assert [hit.score for hit in one.top] == pytest.approx([hit.score for hit in alone.top], abs=1e-5)
        assert [hit.pos for hit in one.top] == [hit.pos for hit in alone.top]
        assert one.scored == alone.scored
    assert search(tiny_encoder, goals[:1], TEXTS[:9])[0].scored == 9


def test_units_of_a_hook_are_found_out(tiny_encoder: Model) -> None:
    units = [td.neuron("block_out", layer=2, unit=unit) for unit in (3, -1, 8)]
    heads = [td.neuron("q", layer=1, head=2, unit=3), td.neuron("q", layer=1, unit=13)]
    vector = torch.zeros(24)
    vector[5] = 1.0
    others = [
        2 * units[0],
        units[0] + 1,
        -units[0],
        td.direction(torch.ones(24), "block_out", layer=2),
        td.attention(layer=0, head=0, query=1, key=2),
        td.neuron("block_out", layer=2, unit=3, pos=1) + td.neuron("block_out", layer=2, unit=3, pos=2),
    ]
    with attached(tiny_encoder) as host:
        groups = grouped(host, [*units, *heads, *others], host.vocabulary.read("i hate the dog"))
    found = {group.members: None if group.units is None else group.units.tolist() for group in groups}
    assert found.pop((0, 1, 2)) == [3, 23, 8]
    assert found.pop((3, 4)) == [15, 13]
    assert found == {(i,): None for i in range(5, 11)}


def test_a_word_is_looked_up_once_however_many_objectives_read_there(
    tiny_encoder: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, whole = [], Vocabulary.locate

    def watched(self: Vocabulary, sentence: Any, pos: Any, **options: Any) -> Any:
        if pos == "dog":
            looked.append(sentence.text)
        return whole(self, sentence, pos, **options)

    monkeypatch.setattr(Vocabulary, "locate", watched)
    counts = []
    for number in (1, 7):
        looked.clear()
        goals = [td.direction(torch.linspace(-1, k, 24), "block_out", layer=1, pos="dog") for k in range(number)]
        search(tiny_encoder, goals, TEXTS[:60])
        counts.append(len(looked))
    assert counts[0] == counts[1] > 5


def test_a_unit_that_is_not_there_is_told_at_once(tiny_encoder: Model) -> None:
    with pytest.raises(td.DreamError, match="unit 24 does not exist: the hook 'block_out' has units 0 to 23"):
        search(tiny_encoder, [td.neuron("block_out", layer=0, unit=u) for u in (3, 24)], TEXTS)


# ---------------------------------------------------------------- what is skipped


def test_every_line_is_scored_or_counted(tiny_encoder: Model) -> None:
    texts = ["i hate it", "", "  ", "you " * 50, "b\udc00d", None, *TEXTS[:10]]
    result = search(tiny_encoder, td.neuron("block_out", layer=1, unit=7), texts)
    assert result.scored == 11
    assert result.skipped == {"blank": 2, "over-long (more than 32 tokens)": 1, "undecodable": 1, "not text": 1}
    assert result.scored + sum(result.skipped.values()) == len(texts)
    assert "11 lines of the texts given scored" in str(result) and "skipped: 2 blank" in str(result)
    short = search(tiny_encoder, td.neuron("block_out", layer=1, unit=7), texts, max_tokens=5)
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
def test_lines_without_the_place(tiny_encoder: Model, pos: Any, reason: str, fits: Callable[..., bool]) -> None:
    objective = td.neuron("block_out", layer=1, unit=7, pos=pos)
    other = td.neuron("block_out", layer=1, unit=8)
    texts = TEXTS[:80]
    with attached(tiny_encoder) as host:
        good = [text for text in texts if fits(host.vocabulary.encode(text), text.split())]
    assert 5 < len(good) < 75
    both = search(tiny_encoder, [objective, other], texts, top=5, shard_lines=30)
    for result in (search(tiny_encoder, objective, texts, top=5), both[0]):
        assert result.scored == len(good) and result.skipped == {reason: 80 - len(good)}
        scores = td.score(tiny_encoder, objective, good)
        assert [hit.score for hit in result.top] == pytest.approx(scores.topk(5).values.tolist(), abs=1e-5)
    assert both[1].scored == 80 and both[1].skipped == {}
    check_result(tiny_encoder, other, both[1], texts, 5)


def test_an_objective_that_does_not_say_where_it_reads(tiny_encoder: Model) -> None:
    objective = td.neuron("block_out", layer=1, unit=7, pos=5) + td.neuron("block_out", layer=0, unit=7, pos="dog")
    texts = TEXTS[:60]
    good = []
    for text in texts:
        try:
            good.append((float(td.score(tiny_encoder, objective, text)), text))
        except td.DreamError:
            pass
    assert 3 < len(good) < 50
    result = search(tiny_encoder, objective, texts, top=3)
    assert result.scored == len(good) and sum(result.skipped.values()) == 60 - len(good)
    assert result.texts(3) == tuple(text for _, text in sorted(good, reverse=True)[:3])


def test_scores_that_are_no_number_are_counted(tiny_encoder: Model) -> None:
    """The logarithm of a negative value."""
    objective = td.custom(lambda acts: acts["a"][:, 1, 7].log(), {"a": ("block_out", 1)}, name="log")
    result = search(tiny_encoder, objective, TEXTS[:60], top=3)
    assert result.scored + result.skipped["scored as not a number"] == 60
    assert 0 < result.scored < 60 and all(hit.score == hit.score for hit in result.top)


@pytest.mark.parametrize(
    ("texts", "objective", "message"),
    [
        ([], None, "the corpus is empty: the texts given has no line"),
        (["", " ", "you " * 50], None, r"not one of the 3 lines .* could be scored: 2 blank, 1 over-long"),
        (["i walk", "we walk"], "dog", r"not one of the 2 lines .*: 2 without the word 'dog'"),
        (["i walk"], "kickshaws", r"not one of the 1 lines .*: 1 without the word 'kickshaws'"),
        (["i dog dog"], "dog", "The first complaint: the word 'dog' is in the sentence 2 times, at positions 2, 3"),
        (["i walk"], 9, "1 without position 9"),
    ],
)
def test_nothing_to_score(tiny_encoder: Model, texts: Any, objective: Any, message: str) -> None:
    goal = td.neuron("block_out", layer=1, unit=7, pos=objective)
    with pytest.raises(td.DreamError, match=message):
        search(tiny_encoder, goal, texts)


def test_an_empty_file(tiny_encoder: Model, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(td.DreamError, match=r"the corpus is empty: .*empty.txt has no line"):
        search(tiny_encoder, td.neuron("block_out", layer=1, unit=7), tmp_path / "empty.txt")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top": 0}, "top = 0: give a whole number of at least 1"),
        ({"shard_lines": 0}, "shard_lines = 0: give a whole number of at least 1"),
        ({"max_tokens": 33}, "max_tokens = 33: give a whole number from 1 to 32, the longest sentence the model reads"),
        ({"max_tokens": True}, "max_tokens = True: give a whole number from 1 to 32"),
        ({"top": True}, "top = True: give a whole number of at least 1"),
        ({"top": "3"}, "top = '3': give a whole number of at least 1"),
        ({"batch_tokens": -1}, "batch_tokens = -1: give a whole number of at least 1, or None"),
        ({"column": "text", "texts": "x.txt"}, "column= goes with a data set"),
        ({"objective": []}, "no objective to score: give at least one"),
        ({"objective": None}, "an objective was expected, not NoneType"),
        ({"objective": "neuron"}, "an objective was expected, not str"),
        ({"objective": ["a"]}, "an objective was expected, not str"),
        ({"texts": [{"a": "i walk"}]}, r"the corpus has rows \('a'\), not texts: say which .* with column="),
        ({"texts": {"a": 5}, "column": "a"}, "the column 'a' is one int: give a list of texts"),
        ({"texts": {"a": "i walk"}, "column": "a"}, "the column 'a' is one str: give a list of texts"),
        ({"texts": 7, "column": "a"}, "column= goes with a data set or an iterable of rows, not with int"),
        ({"objective": td.neuron("block_out", layer=9, unit=7)}, "layer 9 does not exist"),
        ({"checkpoint": "no/such/folder/x.json"}, "the folder 'no/such/folder' does not exist"),
    ],
)
def test_what_a_corpus_search_refuses(tiny_encoder: Model, options: dict[str, Any], message: str) -> None:
    given = {"objective": td.neuron("block_out", layer=1, unit=7), "texts": TEXTS, "progress": False, **options}
    with pytest.raises(td.DreamError, match=message):  # as a user meets it, without the tests' check of types
        inspect.unwrap(corpus_search)(tiny_encoder, given.pop("objective"), given.pop("texts"), **given)


# ---------------------------------------------------------------- memory, progress


def test_too_little_memory_makes_smaller_batches(tiny_encoder: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    goals = [td.neuron("block_out", layer=1, unit=unit) for unit in range(3)]
    expected = search(tiny_encoder, goals, TEXTS)
    whole, sizes = corpus_pass.read_activations, []

    def small(host: Any, reads: Any, ids: torch.Tensor, **options: Any) -> Any:
        sizes.append(len(ids))
        if len(ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return whole(host, reads, ids, **options)

    monkeypatch.setattr(corpus_pass, "read_activations", small)
    found = search(tiny_encoder, goals, TEXTS)
    for one, other in zip(found, expected, strict=True):
        assert [hit.line for hit in one.top] == [hit.line for hit in other.top]
        assert one.scored == other.scored == 300
    assert max(sizes) > 5


def test_a_bar_with_the_rate(tiny_encoder: Model, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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
    search(tiny_encoder, goal, path, progress=True, shard_lines=50)
    search(tiny_encoder, goal, iter(TEXTS), progress=True)
    search(tiny_encoder, goal, path)
    assert [(bar.total, round(bar.n), bar.unit) for bar in bars[:2]] == [
        (path.stat().st_size, path.stat().st_size, "B"),
        (None, 300, "line"),
    ]
    assert bars[0].rates and all(rate.endswith("tokens/s") for rate in bars[0].rates)
    assert bars[2].disable


def test_what_a_corpus_result_tells(tiny_encoder: Model, tmp_path: Path) -> None:
    result = search(tiny_encoder, td.neuron("block_out", layer=1, unit=7), TEXTS, top=3)
    result.save(tmp_path / "result.json")
    assert CorpusResult.load(tmp_path / "result.json") == result
    data = json.loads((tmp_path / "result.json").read_text())
    assert data["kind"] == "corpus_result" and data["scored"] == 300 and data["seconds"] > 0
    assert {"text", "tokens", "pos", "score", "activations", "line"} <= set(data["top"][0])
    hit = result.top[0]
    assert f"[{hit.tokens[hit.pos]}]" in str(result)
    assert list(result.to_frame()["token"]) == [one.tokens[one.pos] for one in result.top]
    page = result._repr_html_()
    assert page.count("<span") == sum(len(one.tokens) for one in result.top) and "underline" in page
    with pytest.raises(td.DreamError, match="top = 0: give a whole number of at least 1"):
        result.texts(0)
    with pytest.raises(td.DreamError, match="is not a whole corpus_result result"):
        CorpusResult.from_json({key: value for key, value in data.items() if key != "top"})


def test_html_is_escaped() -> None:
    hit = CorpusHit("<b> & walk", ("[CLS]", "<b>", "&", "[SEP]"), (4, 8, 9, 5), 1, 1.5, (0.0, 1.5, 0.5, 0.0), 1)
    result = CorpusResult("<i>m</i>", "<u>goal</u>", "x", (hit,), 1, {}, 4, Cost(1, 4, 1.0))
    page = result._repr_html_()
    assert "&lt;b&gt;" in page and ">&amp;<" in page and "&lt;i&gt;m" in page and "&lt;u&gt;goal" in page
    assert not [raw for raw in ("<b>", "<i>", "<u>", ">&<") if raw in page]


# ---------------------------------------------------------------- resuming


class Stopped(Exception):
    pass


def stops_after(count: int) -> Iterator[str]:
    yield from TEXTS[:count]
    raise Stopped


GOALS = [
    td.neuron("block_out", layer=1, unit=7),
    td.neuron("block_out", layer=1, unit=8, pos="dog"),
    td.custom(lambda acts: acts["a"][:, -1].sum(-1), {"a": ("block_out", 1)}, name="mine"),
]


def test_a_search_goes_on_where_it_stopped(tiny_encoder: Model, tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    whole = search(tiny_encoder, GOALS, TEXTS, shard_lines=40)
    with pytest.raises(Stopped):
        search(tiny_encoder, GOALS, stops_after(130), shard_lines=40, checkpoint=path)
    saved = json.loads(path.read_text())
    assert saved["lines"] == 120, "the shard that was not finished does not count"
    resumed = search(tiny_encoder, GOALS, TEXTS, shard_lines=40, checkpoint=path)
    for one, other in zip(resumed, whole, strict=True):
        assert one.top == other.top
        assert (one.scored, one.skipped, one.tokens) == (other.scored, other.skipped, other.tokens)
        assert one.cost.seconds > saved["seconds"]


def test_finished_shards_are_not_scored_again(
    tiny_encoder: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "search.json"
    with pytest.raises(Stopped):
        search(tiny_encoder, GOALS[0], stops_after(130), shard_lines=40, checkpoint=path)
    seen: list[str] = []
    whole = corpus_pass.CorpusPass._score

    def watched(self: Any, batch: Any, fits: Any) -> Any:
        seen.extend(line.sentence.text for line in batch)
        return whole(self, batch, fits)

    monkeypatch.setattr(corpus_pass.CorpusPass, "_score", watched)
    search(tiny_encoder, GOALS[0], TEXTS, shard_lines=40, checkpoint=path)
    assert sorted(seen) == sorted(TEXTS[120:])
    seen.clear()
    again = search(tiny_encoder, GOALS[0], TEXTS, shard_lines=40, checkpoint=path)
    assert seen == [] and again.scored == 300, "a finished search is done"


def test_a_file_goes_on_too(tiny_encoder: Model, tmp_path: Path) -> None:
    corpus, path = tmp_path / "corpus.txt", tmp_path / "search.json"
    corpus.write_text("\n".join(TEXTS[:200]) + "\n")
    search(tiny_encoder, GOALS[0], corpus, checkpoint=path)
    with corpus.open("a") as file:
        file.write("\n".join(TEXTS[200:]))
    grown = search(tiny_encoder, GOALS[0], corpus, checkpoint=path)
    assert grown.scored == 300
    check_result(tiny_encoder, GOALS[0], grown, TEXTS, 10)


def test_another_searchs_checkpoint_is_refused(
    tiny_encoder: Model, fresh_encoder: Callable[..., Model], tmp_path: Path
) -> None:
    path = tmp_path / "search.json"
    vector = torch.linspace(-1, 1, 24)
    goal = td.direction(vector, "block_out", layer=1)
    search(tiny_encoder, goal, TEXTS[:50], checkpoint=path)
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
            search(tiny_encoder, objective, given.pop("texts"), checkpoint=path, **given)
    changed = fresh_encoder()
    with torch.no_grad():
        for parameter in changed.parameters():
            parameter.mul_(1.1)
    with pytest.raises(td.DreamError, match="another model or objective of the same name"):
        search(changed, goal, TEXTS, checkpoint=path)


def test_a_checkpoint_is_not_written_after_every_shard(
    tiny_encoder: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a thousand objectives it holds megabytes."""
    path, written = tmp_path / "search.json", []
    whole = corpus_checkpoints.write_bytes
    monkeypatch.setattr(corpus_checkpoints, "write_bytes", lambda *given: (written.append(1), whole(*given)))
    monkeypatch.setattr(corpus_checkpoints, "EVERY", 1e3)
    search(tiny_encoder, GOALS[:2], TEXTS[:60], shard_lines=10, checkpoint=path)
    assert len(written) == 1 and json.loads(path.read_text())["lines"] == 60
    path.unlink()
    monkeypatch.setattr(corpus_checkpoints, "EVERY", 0.0)
    monkeypatch.setattr(corpus_checkpoints, "SHARE", 1e9)
    search(tiny_encoder, GOALS[:2], TEXTS[:60], shard_lines=10, checkpoint=path)
    assert len(written) == 1 + 6


@pytest.mark.parametrize("stop", [Stopped, KeyboardInterrupt, SystemExit])
def test_what_is_finished_is_saved_however_the_search_ends(
    tiny_encoder: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    """Also in the middle of a shard, which then counts for nothing."""
    path, batches = tmp_path / "search.json", []
    whole = corpus_pass.CorpusPass._score
    expected = search(tiny_encoder, GOALS[:1], TEXTS, shard_lines=100)

    def stops(self: Any, batch: Any, fits: Any) -> Any:
        batches.append(1)
        if len(batches) == stop_at:
            raise stop
        return whole(self, batch, fits)

    stop_at = 0
    with monkeypatch.context() as counting:
        counting.setattr(corpus_pass.CorpusPass, "_score", stops)
        search(tiny_encoder, GOALS[0], TEXTS[:100], batch_tokens=300)
        stop_at = len(batches) + len(batches) // 2 + 1
        batches.clear()
        with pytest.raises(stop):
            search(tiny_encoder, GOALS[:1], TEXTS, shard_lines=100, batch_tokens=300, checkpoint=path)
    saved = json.loads(path.read_text())
    assert saved["lines"] == saved["rankings"][0]["scored"] == 100
    (one,) = search(tiny_encoder, GOALS[:1], TEXTS, shard_lines=100, checkpoint=path)
    assert [hit.line for hit in one.top] == [hit.line for hit in expected[0].top] and one.scored == 300


def test_the_corpus_is_no_checkpoint(tiny_encoder: Model, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.txt"
    for content in ("", "i walk\n"):
        corpus.write_text(content)
        with pytest.raises(td.DreamError, match="corpus.txt' is the corpus itself: give another file"):
            search(tiny_encoder, GOALS[0], corpus, checkpoint=f"{tmp_path}/./corpus.txt")
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
def test_a_damaged_checkpoint_is_told_in_one_line(tiny_encoder: Model, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "search.json"
    search(tiny_encoder, GOALS[0], TEXTS[:9], checkpoint=path)
    data = json.loads(path.read_text())
    DAMAGE[damage](data)
    path.write_text(json.dumps(data))
    with pytest.raises(td.DreamError, match="is broken .*: give another checkpoint file, or delete this one") as caught:
        search(tiny_encoder, GOALS[0], TEXTS[:9], checkpoint=path)
    assert len(str(caught.value)) < 600


def test_a_broken_checkpoint_is_told(tiny_encoder: Model, tmp_path: Path) -> None:
    path = tmp_path / "search.json"
    search(tiny_encoder, GOALS[0], TEXTS[:50], checkpoint=path)
    data = json.loads(path.read_text())
    for content, message in (
        ("{", "can't read .* as JSON"),
        ('{"kind": "dream", "version": 1}', "the file holds 'dream', not a 'corpus_checkpoint'"),
        (json.dumps({key: value for key, value in data.items() if key != "rankings"}), r"is broken \(KeyError"),
    ):
        path.write_text(content)
        with pytest.raises(td.DreamError, match=message):
            search(tiny_encoder, GOALS[0], TEXTS, checkpoint=path)
    path.write_text("")
    assert search(tiny_encoder, GOALS[0], TEXTS[:50], checkpoint=path).scored == 50


def test_probing_needs_no_random_numbers_of_yours(tiny_encoder: Model) -> None:
    state = torch.get_rng_state()
    search(tiny_encoder, GOALS, TEXTS[:20])
    assert torch.equal(torch.get_rng_state(), state)
    assert unit_groups.Group.__doc__
