"""Token search against the plain loop; neighbours; masked predictions; what they refuse."""

import inspect
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertForMaskedLM

import tl_dream as td
from tests.support.scans import SENTENCE, Case, Model, found_by, loop, one_by_one, ranked
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.results.scans import MaskedPredictions, NeighbourTable, TokenTable
from tl_dream.scans.tokens import predict_masked, similar_tokens, token_search

WORDS = "i you we the a red dog cat moon sea is was cold warm and hate love walk read good very . ,".split()


HOOKS = ("block_out", "mlp_post", "mlp_pre", "attn_out", "resid_mid", "z", "q")


WIDTHS = {"mlp_post": 40, "mlp_pre": 40}


def check_cases(
    model: Model,
    sentence: str,
    pos: int,
    cases: list[Case],
    tokens: Sequence[int] | None = None,
    precisions: Sequence[str] = ("full", "bf16"),
) -> None:
    """The search, in each precision, against one plain loop for all the cases."""
    tokens, scores = loop(model, sentence, pos, cases, tokens)
    for (hook, layer, unit, read), each in zip(cases, scores, strict=True):
        objective = td.neuron(hook, layer=layer, unit=unit, pos=read)
        for precision in precisions:
            found = found_by(model, objective, sentence, pos=pos, allowed=tokens, precision=precision)
            assert found == ranked(tokens, each), (objective, sentence, pos, precision)


def check_random_cases(model: Model, seed: int, count: int, size: int | None = None) -> None:
    """Random units, positions that are read and layers; a random sentence and a position of it; `size` tokens of the
    vocabulary, or all."""
    draw = random.Random(seed)
    sentence = " ".join(draw.choices(WORDS, k=draw.randint(2, 12)))
    with attached(model) as host:
        length = len(host.vocabulary.encode(sentence))
        every = host.vocabulary.allowed().nonzero().flatten().tolist()
    pos = draw.randrange(length)
    cases = []
    for _ in range(count):
        hook, read = draw.choice(HOOKS), draw.choice([pos, pos, draw.randrange(length)])
        cases.append((hook, draw.randrange(3), draw.randrange(WIDTHS.get(hook, 24)), read))
    tokens = None if size is None else sorted(draw.sample(every, size))
    check_cases(model, sentence, pos, cases, tokens, [draw.choice(["full", "bf16"])])


@pytest.mark.parametrize("seed", range(2))
def test_the_top_20_are_those_of_the_plain_loop(tiny_encoder: Model, few_samples: None, seed: int) -> None:
    check_random_cases(tiny_encoder, seed, 3, 90)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 105))
def test_20_random_cases_a_backend(tiny_encoder: Model, few_samples: None, seed: int) -> None:
    check_random_cases(tiny_encoder, seed, 4)


MINILM = "The hearing took place in Blythe 's absence ."


@pytest.mark.slow
def test_minilm_block_0_over_a_share_of_the_vocabulary(minilm: Model) -> None:
    cases = [
        ("block_out", 0, 17, 5),
        ("block_out", 0, 300, 2),
        ("mlp_post", 0, 1000, 5),
        ("mlp_post", 0, 7, 9),
        ("z", 0, 200, 5),
    ]
    with attached(minilm) as host:
        part = host.vocabulary.allowed().nonzero().flatten()[::24].tolist()
    check_cases(minilm, MINILM, 5, cases, part)


@pytest.mark.slow
def test_minilm_deeper_over_a_share_of_the_vocabulary(minilm: Model) -> None:
    """All of it takes the plain loop a quarter of an hour."""
    with attached(minilm) as host:
        every = host.vocabulary.allowed().nonzero().flatten()
    part = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(1))[: len(every) // 64]]
    cases = [
        ("block_out", 5, 13, 8),
        ("block_out", 5, 250, 3),
        ("mlp_pre", 3, 900, 8),
        ("mlp_pre", 3, 31, 0),
        ("block_out", 2, 291, 8),
    ]
    check_cases(minilm, MINILM, 8, cases, part.sort().values.tolist(), ["bf16"])


@pytest.mark.slow
def test_minilm_screened_in_bf16_on_any_hardware(minilm: Model, few_samples: None) -> None:
    with attached(minilm) as host:
        every = host.vocabulary.allowed().nonzero().flatten()
    part = every[torch.randperm(len(every), generator=torch.Generator().manual_seed(0))[:400]].sort().values.tolist()
    cases = [("block_out", 0, 17, 5), ("block_out", 1, 300, 2), ("mlp_post", 0, 1000, 5)]
    check_cases(minilm, MINILM, 5, cases, part, ["bf16"])
    goal = td.neuron("block_out", layer=0, unit=17, pos=5)
    table = token_search(minilm, goal, MINILM, pos=5, allowed=part, precision="bf16", top=5, progress=False)
    assert table.screen.startswith("bfloat16")
    assert table.rescored <= table.shortlisted < 200 < table.evaluated == 400, "the screen drops most of them"


def test_a_causal_model(tiny_causal: Model) -> None:
    goal = td.neuron("block_out", layer=1, unit=7, pos=-1)
    found = found_by(tiny_causal, goal, "the red dog sees the moon", pos=2)
    assert found == one_by_one(tiny_causal, goal, "the red dog sees the moon", 2)


def test_equal_scores_come_by_id(tiny_causal: Model) -> None:
    """What comes before a token in a causal model does not know it."""
    goal = td.neuron("block_out", layer=1, unit=7, pos=1)
    table = token_search(tiny_causal, goal, "the red dog sees the moon", pos=4, top=10, progress=False)
    with attached(tiny_causal) as host:
        first = host.vocabulary.allowed().nonzero().flatten()[:10].tolist()
    assert [row.id for row in table.top] == first
    assert len({row.score for row in table.top}) == 1
    assert table.rescored < table.evaluated / 2, "a crowd is not scored one by one"


def test_what_a_token_table_tells(encoder: Model, tmp_path: Path) -> None:
    goal = td.neuron("block_out", layer=2, unit=7, pos="red")
    table = token_search(encoder, goal, td.Prompt(SENTENCE, free="red"), top=5, progress=False)
    assert table.place.pos == 4 and table.place.tokens[4] == "red" and table.place.text == SENTENCE
    assert len(table.top) == 5
    assert table.chosen.token == "red"
    assert table.chosen.score == float(td.score(encoder, goal, SENTENCE))
    with attached(encoder) as host:
        assert table.evaluated == int(host.vocabulary.allowed().sum())
    table.save(tmp_path / "table.json")
    assert TokenTable.load(tmp_path / "table.json") == table
    data = table.to_json()
    assert data["kind"] == "token_table" and data["evaluated"] == table.evaluated and data["seconds"] > 0
    assert data["top"][0] == {"token": table.top[0].token, "id": table.top[0].id, "score": table.top[0].score}
    shown = str(table)
    assert "position 4 of: [CLS] i hate the [red] dog . [SEP]" in shown
    assert table.top[0].token in shown and "red (the sentence's own)" in shown and "by the model itself" in shown
    assert table.evaluated >= table.shortlisted >= table.rescored >= len(table.top) and table.bound > 0
    assert list(table.to_frame()["id"]) == [row.id for row in table.top]


def test_a_table_in_which_no_token_turns_the_unit_on_says_so(encoder: Model) -> None:
    """A unit behind its activation function; of another nothing is said."""
    for unit in range(20):
        objective = td.neuron("mlp_post", layer=1, unit=unit, pos="red")
        every = token_search(encoder, objective, SENTENCE, pos="red", top=200, allowed="no_special", progress=False)
        on, off = ([row.token for row in every.top if (row.score > 0) == fires][:5] for fires in (True, False))
        if len(on) == len(off) == 5:
            break
    for tokens, fired in ((on, True), (off, False)):
        table = token_search(encoder, objective, SENTENCE, pos="red", top=3, allowed=tokens, progress=False)
        assert table.fired is fired and ("no token turns the unit on" in str(table)) is not fired
        assert TokenTable.from_json(table.to_json()) == table
    plain = td.neuron("block_out", layer=1, unit=3, pos="red")
    assert token_search(encoder, plain, SENTENCE, pos="red", top=3, allowed=off, progress=False).fired is None


def test_only_allowed_tokens_are_searched(encoder: Model) -> None:
    goal = td.neuron("block_out", layer=2, unit=7, pos=4)
    table = token_search(encoder, goal, SENTENCE, pos=4, top=2, allowed=["dog", "cat", "bird"], progress=False)
    assert table.evaluated == 3 and {row.token for row in table.top} < {"dog", "cat", "bird"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pos": 8}, r"position 8 is outside the sentence of 8 tokens: 0 \[CLS\], 1 i, 2 hate"),
        ({"pos": "moon"}, r"the word 'moon' is not in the sentence"),
        ({"pos": "all"}, r"pos = 'all': give one position or one word"),
        ({}, r"which position\? give pos= \(one of 0 \[CLS\], 1 i, .*\), or a Prompt with exactly one free position"),
        ({"pos": 4, "top": 0}, r"top = 0: give a whole number of at least 1"),
        ({"pos": 4, "top": 500}, r"top = 500 is more than the \d+ tokens that are allowed: ask for fewer"),
        ({"pos": 4, "top": 3, "allowed": ["dog"]}, r"top = 3 is more than the 1 tokens that are allowed"),
        ({"pos": 4, "precision": "fp8"}, r"unknown precision 'fp8'; nearest: auto, bf16, full"),
        ({"pos": 4, "batch_tokens": 0}, r"batch_tokens = 0: give a whole number of at least 1, or None"),
        ({"pos": 4, "batch_tokens": True}, r"batch_tokens = True: give a whole number of at least 1, or None"),
        ({"pos": 4, "top": True}, r"top = True: give a whole number of at least 1"),
        ({"pos": 4, "top": 3.0}, r"top = 3\.0: give a whole number of at least 1"),
        ({"pos": 4, "seed": "a"}, r"seed = 'a': give a whole number from 0 to"),
        ({"pos": True}, r"pos = True: give one position or one word"),
        ({"pos": [4]}, r"pos = \[4\]: give one position or one word"),
        ({"pos": 4, "prompt": 5}, r"a sentence is text or a Prompt, not int"),
    ],
)
def test_what_a_token_search_refuses(encoder: Model, options: dict[str, Any], message: str) -> None:
    given = {"prompt": SENTENCE, "progress": False, **options}
    goal = td.neuron("block_out", layer=2, unit=7, pos=4)
    with pytest.raises(td.DreamError, match=message):  # as a user meets it, without the tests' check of types
        inspect.unwrap(token_search)(encoder, goal, given.pop("prompt"), **given)


def test_true_is_no_position(encoder: Model) -> None:
    with pytest.raises(td.DreamError, match="True is not a position: give a number, a word"):
        td.score(encoder, td.neuron("block_out", layer=1, unit=7, pos=True), SENTENCE)


def test_a_prompt_with_several_free_positions_is_no_answer(encoder: Model) -> None:
    goal = td.neuron("block_out", layer=2, unit=7, pos=4)
    with pytest.raises(td.DreamError, match="which position"):
        token_search(encoder, goal, td.Prompt(SENTENCE, free=["red", "dog"]))
    with pytest.raises(td.DreamError, match="unit 99 does not exist"):
        token_search(encoder, td.neuron("block_out", layer=2, unit=99, pos=4), SENTENCE, pos=4)


def test_scores_that_are_no_numbers(encoder: Model) -> None:
    """The logarithm of a negative activation."""
    with attached(encoder) as host, torch.no_grad():
        name = host.resolve("block_out", 1)
        own = forward(host, torch.tensor([host.vocabulary.encode(SENTENCE)]), [name])[name][0, 4]
    above, below = int(own.masked_fill(own < 0, 9.0).argmin()), int(own.argmin())
    for unit in (above, below):
        objective = td.custom(lambda acts, unit=unit: acts["a"][:, 4, unit].log(), {"a": ("block_out", 1)}, name="log")
        if unit == below:
            with pytest.raises(td.DreamError, match=f"the sentence '{SENTENCE}' itself scores nan"):
                token_search(encoder, objective, SENTENCE, pos=4, top=3)
            continue
        plain = one_by_one(encoder, objective, SENTENCE, 4)
        assert 3 < len(plain) and found_by(encoder, objective, SENTENCE, pos=4, top=3) == plain[:3]
        with pytest.raises(td.DreamError, match="candidates have a score, and the best 40 were asked for"):
            found_by(encoder, objective, SENTENCE, pos=4, top=40)
        with pytest.raises(td.DreamError, match="of the 60 neighbours and the token itself score NaN or infinity"):
            similar_tokens(encoder, objective, SENTENCE, pos=4, k=60, search=False)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_are_the_nearest(encoder: Model, metric: str) -> None:
    goal = td.neuron("block_out", layer=1, unit=7, pos=4)
    table = similar_tokens(encoder, goal, SENTENCE, pos="red", k=12, metric=metric, progress=False)
    with attached(encoder) as host:
        W_E = host.W_E.double()
        own = host.vocabulary.token_id("red")
        words = host.vocabulary.allowed().nonzero().flatten().tolist()
    if metric == "euclidean":
        distance = {i: float((W_E[i] - W_E[own]).square().sum().sqrt()) for i in words if i != own}
    else:
        unit = W_E / W_E.norm(dim=1, keepdim=True)
        distance = {i: 1 - float(unit[i] @ unit[own]) for i in words if i != own}
    expected = sorted(distance, key=lambda i: (distance[i], i))[:12]
    assert [row.id for row in table.neighbours] == expected
    assert [row.distance for row in table.neighbours] == pytest.approx([distance[i] for i in expected], abs=1e-9)
    texts = [td.Prompt(ids=[*table.place.ids[:4], row.id, *table.place.ids[5:]]) for row in table.neighbours]
    assert [row.score for row in table.neighbours] == pytest.approx(td.score(encoder, goal, texts).tolist(), abs=1e-5)
    assert table.chosen.token == "red" and table.chosen.distance == 0
    assert table.chosen.score == pytest.approx(float(td.score(encoder, goal, SENTENCE)), abs=1e-5)


def test_the_share_of_neighbours_that_the_search_finds(encoder: Model, tmp_path: Path) -> None:
    goal = td.neuron("block_out", layer=0, unit=7, pos=4)
    search = token_search(encoder, goal, SENTENCE, pos=4, top=40, progress=False)
    table = similar_tokens(encoder, goal, SENTENCE, pos=4, k=50, search=search)
    best = {row.id for row in search.top[:30]}
    assert table.share == sum(row.id in best for row in table.neighbours) / 50 > 0
    assert table.best == 30 and table.cut == search.top[29].score
    again = similar_tokens(encoder, goal, SENTENCE, pos=4, k=50, progress=False)
    assert (again.share, again.cut, again.neighbours) == (table.share, table.cut, table.neighbours)
    assert again.cost.forwards > table.cost.forwards
    bare = similar_tokens(encoder, goal, SENTENCE, pos=4, k=50, search=False)
    assert (bare.share, bare.cut, bare.best) == (None, None, 0) and [row.id for row in bare.neighbours] == [
        row.id for row in table.neighbours
    ]
    table.save(tmp_path / "near.json")
    assert NeighbourTable.load(tmp_path / "near.json") == table
    assert "are among the token search's best 30" in str(table) and "are among" not in str(bare)
    assert list(table.to_frame()["token"]) == [row.token for row in table.neighbours]
    assert [row.found for row in table.neighbours] == [row.id in best for row in table.neighbours]
    assert {row.found for row in bare.neighbours} == {None}


def test_of_equal_scores_at_the_cut_those_with_the_lowest_ids_are_found(encoder: Model) -> None:
    constant = td.custom(lambda acts: acts["a"][:, 0, 0] * 0, {"a": ("full_embed")}, name="constant")
    table = similar_tokens(encoder, constant, SENTENCE, pos=4, k=150, best=30, progress=False)
    found = {row.id for row in table.neighbours if row.found}
    assert table.share == len(found) / 150 < 1 and all(row.score == table.cut for row in table.neighbours)
    assert max(found) < min(row.id for row in table.neighbours if not row.found)


def test_what_similar_tokens_refuses(encoder: Model) -> None:
    goal = td.neuron("block_out", layer=0, unit=7, pos=4)
    search = token_search(encoder, goal, SENTENCE, pos=4, top=10, progress=False)
    other = token_search(encoder, goal, SENTENCE, pos=3, top=30, progress=False)
    fewer = token_search(encoder, goal, SENTENCE, pos=4, top=30, allowed=range(40, 80), progress=False)
    for options, message in (
        ({"metric": "manhattan"}, "unknown metric 'manhattan'; nearest: euclidean, cosine"),
        ({"k": 0}, "k = 0: give a whole number of at least 1"),
        ({"k": 5000}, r"k = 5000 is more than the \d+ other tokens that are allowed: ask for fewer"),
        ({"best": 0}, "best = 0: give a whole number of at least 1"),
        ({"search": search}, "the token search holds the best 10 tokens, and best = 30: search with top=30"),
        ({"search": other}, r"the token search is of another question \(.*\): give that of this objective"),
        ({"search": fewer}, r"the token search looked at 40 tokens that are not the \d+ allowed here: give both the"),
        ({"search": "yes"}, "search = 'yes': give True, False, or the result of a token_search"),
        ({"search": 1}, "search = 1: give True, False, or the result of a token_search"),
        ({"k": True}, "k = True: give a whole number of at least 1"),
        ({"best": 9999}, r"best = 9999 is more than the \d+ tokens that are allowed: compare with fewer"),
        ({"pos": 20}, "position 20 is outside the sentence"),
    ):
        with pytest.raises(td.DreamError, match=message):
            inspect.unwrap(similar_tokens)(encoder, goal, SENTENCE, **{"pos": 4, **options})


def test_predictions_are_hugging_faces(tiny_encoder: Model, tiny_folder: Path, tmp_path: Path) -> None:
    found = predict_masked(tiny_encoder, "i [MASK] the [MASK] dog .", top=7)
    hf = BertForMaskedLM.from_pretrained(tiny_folder).eval()
    with torch.no_grad():
        logits = hf(torch.tensor([found.places[0].ids])).logits[0]
    assert [place.pos for place in found.places] == [2, 4]
    for place, rows in zip(found.places, found.predictions, strict=True):
        want = logits[place.pos].topk(7)
        assert [row.id for row in rows] == want.indices.tolist()
        assert [row.logit for row in rows] == pytest.approx(want.values.tolist(), abs=1e-4)
        shares = logits[place.pos].softmax(0)[want.indices].tolist()
        assert [row.probability for row in rows] == pytest.approx(shares, abs=1e-5)
    found.save(tmp_path / "found.json")
    assert MaskedPredictions.load(tmp_path / "found.json") == found
    assert "position 4 of: [CLS] i [MASK] the [[MASK]] dog . [SEP]" in str(found)
    assert list(found.to_frame()["pos"]) == [2] * 7 + [4] * 7


def test_a_prediction_can_be_searched(tiny_encoder: Model) -> None:
    """The article's dreams of a prediction: a word at one place that makes the model predict another elsewhere."""
    goal = td.logit("cat", pos=5)
    sentence = "i hate the red [MASK] ."
    assert found_by(tiny_encoder, goal, sentence, pos=4) == one_by_one(tiny_encoder, goal, sentence, 4)


def test_what_predict_masked_refuses(
    tiny_encoder: Model, tiny_causal: Model, tiny_checkpoint: Callable[..., Path], backend: str
) -> None:
    with pytest.raises(td.DreamError, match=r"the sentence 'i hate it' has no \[MASK\]: put \[MASK\] where a token"):
        predict_masked(tiny_encoder, "i hate it")
    with pytest.raises(td.DreamError, match=r"top = 0: give a whole number from 1 to \d+, the size of the vocabulary"):
        predict_masked(tiny_encoder, "i [MASK] it", top=0)
    for text in (5, ["i [MASK] it"], None):
        with pytest.raises(td.DreamError, match="a sentence is text or a Prompt, not (int|list|NoneType)"):
            inspect.unwrap(predict_masked)(tiny_encoder, text)
    with pytest.raises(td.DreamError, match="top = True"):
        predict_masked(tiny_encoder, "i [MASK] it", top=True)
    with pytest.raises(td.DreamError, match="top = 90000"):
        predict_masked(tiny_encoder, "i [MASK] it", top=90000)
    with pytest.raises(td.DreamError, match="has no mask token: predict_masked needs a masked language model"):
        predict_masked(tiny_causal, "the red")
    bare = td.load_model(str(tiny_checkpoint("BertModel")), backend=backend)
    with pytest.raises(td.DreamError, match="lies behind the .* head, and the checkpoint of .* carries none"):
        predict_masked(bare, "i [MASK] it")


def test_a_small_vocabulary_has_fewer_neighbours_than_are_asked_for_by_default(encoder: Model) -> None:
    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    table = td.similar_tokens(encoder, goal, "i see the moon", pos=2, allowed=["dog", "cat", "see", "sun"])
    assert len(table.neighbours) == 3 and table.best == 4
