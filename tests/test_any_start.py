"""A dream gets somewhere from any start, looks elsewhere where it does not, and ends."""

import json
import math
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import pytest
import torch
from conftest import PLANTS, VOCAB, _guarded
from safetensors.torch import load_file, save_file
from torch import Tensor

import tl_dream as td
from tl_dream.batches import Batch
from tl_dream.exhaustive import texts_of
from tl_dream.hosts import Budget, attached
from tl_dream.other_starts import OtherStarts, ordinary_sentences
from tl_dream.swapping import Swaps

START = "i do see the sun"
METHODS = ("auto", "anneal", "gcg", "epo", "pez")


@pytest.fixture(scope="module")
def encoder(tiny_folder: Path) -> Iterator[torch.nn.Module]:
    """One backend, for what has nothing to do with it."""
    yield from _guarded(td.load_model(str(tiny_folder)))


@pytest.fixture(scope="module")
def relu(planted_folder: Path, backend: str, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """The planted encoder with `relu` for its activation function, its planted units below zero but for their token."""
    folder = Path(shutil.copytree(planted_folder, tmp_path_factory.mktemp("relu") / "model"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    tensors = load_file(folder / "model.safetensors")
    for plant in PLANTS:
        tensors[f"bert.encoder.layer.{plant.layer}.intermediate.dense.bias"][plant.unit] -= 1.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model = td.load_model(str(folder), backend=backend)
    for block in model.blocks if backend == "hooked" else ():
        block.mlp.act_fn = torch.relu
        model.cfg.act_fn = "relu"
    return model


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fails where what is inside takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# Units that are off at the start


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("plant", PLANTS[:2], ids=lambda plant: plant.token)
def test_a_unit_without_a_slope_fires(relu: torch.nn.Module, plant: object, method: str) -> None:
    """relu has none where the unit is off; the best single word is known by trying all."""
    goal = td.neuron("mlp_post", layer=plant.layer, unit=plant.unit, pos=3)
    texts = [f"i do {word} the sun" for word in VOCAB if word.isalpha() and len(word) > 2]
    scores = td.score(relu, goal, texts)
    start = texts[int(scores.argmin())]
    assert scores.min() == 0.0
    options = {"steps": 60} if method == "anneal" else {"budget": 10_000}
    found = td.dream(relu, goal, start, free=[3], method=method, **options)
    assert found.start.score == 0.0 and found.fired and found.best.tokens[3] == plant.token
    assert found.best.score == pytest.approx(td.score(relu, goal, found.best.text).item(), abs=1e-5)
    assert "never fired" not in str(found)


@pytest.mark.parametrize("method", METHODS)
def test_a_unit_in_the_left_tail_of_gelu_fires(encoder: torch.nn.Module, method: str) -> None:
    """From starts where GELU's slope leads away from the top."""
    off = 0
    for unit in range(40):
        goal = td.neuron("mlp_post", layer=1, unit=unit, pos=2)
        before = td.score(encoder, td.neuron("mlp_pre", layer=1, unit=unit, pos=2), START).item()
        if before > -1 or off == 3:
            continue
        off += 1
        options = {"steps": 60} if method == "anneal" else {"budget": 10_000}
        found = td.dream(encoder, goal, START, method=method, **options)
        assert found.fired and found.best.score > 0.1, (unit, before, found.best)
    assert off == 3


def test_a_unit_that_can_not_fire_says_so(fresh_encoder) -> None:
    model = fresh_encoder()
    with torch.no_grad():
        next(value for name, value in model.named_parameters() if value.shape == (40,)).fill_(-100.0)
    goal = td.neuron("mlp_post", layer=0, unit=3, pos=2)
    found = td.dream(model, goal, START, budget=3000)
    assert found.fired is False and "never fired" in str(found)
    assert td.Dream.from_json(found.to_json()).fired is False
    plain = td.dream(model, td.neuron("block_out", layer=0, unit=3, pos=2), START, budget=500)
    assert plain.fired is None and "never fired" not in str(plain)


# Every search ends


def flat(acts: dict[str, Tensor]) -> Tensor:
    return acts["x"].flatten(1).sum(1) * 0.0


def constant(acts: dict[str, Tensor]) -> Tensor:
    return acts["x"].flatten(1).sum(1) * 0.0 + 3.0


def steps(acts: dict[str, Tensor]) -> Tensor:
    """Jumps, with a slope of zero between."""
    return (acts["x"][:, 2, 5] * 4).floor() + 0.0 * acts["x"][:, 2, 5]


def no_number(acts: dict[str, Tensor]) -> Tensor:
    return acts["x"][:, 2, 5] * math.nan


UNIT = td.neuron("block_out", layer=1, unit=5, pos=2)
STRANGE = {
    "flat": td.custom(flat, {"x": ("block_out", 1)}),
    "constant": td.custom(constant, {"x": ("block_out", 1)}),
    "zero": 0.0 * UNIT,
    "jumps": td.custom(steps, {"x": ("block_out", 1)}),
    **{f"slopes of 1e-{power}": 10.0**-power * UNIT for power in (20, 30, 36, 39, 44)},
    "far below zero": td.neuron("mlp_post", layer=1, unit=5, pos=2) * 1e-37,
    "NaN": td.custom(no_number, {"x": ("block_out", 1)}),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", STRANGE)
def test_every_search_ends(encoder: torch.nn.Module, kind: str, method: str) -> None:
    with within(60):  # seconds where nothing else runs; a machine under load gets its time
        try:
            found = td.dream(encoder, STRANGE[kind], [START, "the red dog"], method=method, budget=6000)
        except td.DreamError as error:
            assert kind == "NaN", error
            found = error.partial
    assert found.cost.forward_tokens <= 6000 or kind == "NaN"


def test_faint_slopes_lead_as_others_do(encoder: torch.nn.Module) -> None:
    """A factor changes nothing, as long as the slopes are numbers of full precision."""
    plain, faint = (td.dream(encoder, factor * UNIT, START, budget=6000) for factor in (1.0, 1e-15))
    assert plain.best.score > plain.start.score + 1 and faint.best.ids == plain.best.ids


# Other starts


def searching(host: object, text: str = START, budget: int = 10_000, free: object = None, **options: object) -> Swaps:
    sentence = host.vocabulary.read(td.Prompt(text, free))
    allowed = options.pop("allowed", host.vocabulary.allowed())
    return Swaps(host, UNIT, Batch.of(host, [sentence], allowed, True, **options), Budget(host.meter, budget))


def test_the_shipped_sentences_are_ordinary() -> None:
    lines = ordinary_sentences()
    assert len(lines) == len(set(lines)) >= 100
    assert all(line.endswith((" .", " ?", " !")) and line.islower() and 8 <= len(line.split()) <= 20 for line in lines)


@pytest.mark.parametrize("limit", [None, 2])
def test_other_starts_keep_what_is_fixed(encoder: torch.nn.Module, limit: int | None) -> None:
    with attached(encoder) as host:
        search = searching(host, free=[1, 3, 4], allowed=host.vocabulary.allowed("whole_words"), max_changes=limit)
        others, draw, home = OtherStarts(search), torch.Generator().manual_seed(0), search.batch.sentences[0].ids
        found = {others.best_of(0, draw) for _ in range(5)}
        assert len(found) > 1
        for ids in [ids for ids, _ in search.seen.known(0)]:
            changed = {at for at, (new, old) in enumerate(zip(ids, home, strict=True)) if new != old}
            assert changed <= {1, 3, 4} and len(changed) <= (limit or 3)
            assert all(bool(search.batch.allowed[ids[at]]) for at in changed)
        assert all(search.seen.returnable(0, list(found)))


def test_a_better_text_is_found_elsewhere(encoder: torch.nn.Module) -> None:
    """Where the text has no slope at all, other starts find what a walk from here would not."""
    word = VOCAB.index("river")

    def island(acts: dict[object, Tensor], rows: object) -> Tensor:
        there = (acts[td.objectives.TOKENS].ids[:, 2] == word).float()
        return there * (1 + acts[td.objectives.Read("block_out", 1)][:, 2, 5])

    goal = td.Objective((td.objectives.Read("block_out", 1), td.objectives.TOKENS), "island", island)
    words = ["river", *[word for word in VOCAB if word.isalpha() and len(word) > 2][:30]]
    found = td.dream(encoder, goal, START, allowed=words, budget=30_000)
    assert found.best.tokens[2] == "river" and found.best.score > 1


# Every text there is


@pytest.mark.parametrize("free, limit", [([2, 4], None), ([1, 2, 3], 2), ([1, 2, 3, 4], 1)])
def test_every_text_is_scored_where_the_budget_covers_all(
    encoder: torch.nn.Module, free: list[int], limit: int | None
) -> None:
    words = [word for word in VOCAB if word.isalpha() and len(word) > 2][:12]
    ids = encoder.tokenizer(START)["input_ids"]
    choices = [[*(VOCAB.index(word) for word in words), ids[at]] for at in free]
    rows = []
    for chosen in product(*choices):
        row = list(ids)
        for at, token in zip(free, chosen, strict=True):
            row[at] = token
        if limit is None or sum(new != old for new, old in zip(row, ids, strict=True)) <= limit:
            rows.append(td.Prompt(ids=row))
    scores = td.score(encoder, UNIT, rows)
    found = td.dream(encoder, UNIT, [START, START], free=free, allowed=words, max_changes=limit, budget=100_000)
    assert found.stopped == "complete" and found.optimum and "every text that may be returned" in str(found)
    assert found.best.score == pytest.approx(scores.max().item(), abs=1e-5)
    with attached(encoder) as host:
        search = searching(host, free=free, allowed=host.vocabulary.allowed(words), max_changes=limit)
        assert texts_of(search, 0) >= len({tuple(row.ids) for row in rows})


@pytest.mark.parametrize("unit", range(8))
def test_three_free_words_end_at_the_best_of_all(encoder: torch.nn.Module, unit: int) -> None:
    """Brute force over 8,000 texts, of which the budget covers two fifths."""
    goal = td.neuron("mlp_post" if unit % 2 else "block_out", layer=2, unit=unit, pos=2)
    words = [word for word in VOCAB if word.isalpha() and len(word) > 2][:20]
    codes = [VOCAB.index(word) for word in words]
    ids = encoder.tokenizer(START)["input_ids"]
    rows = torch.tensor(list(product(codes, repeat=3)))
    texts = [td.Prompt(ids=[*ids[:1], *row, *ids[4:]]) for row in rows.tolist()]
    best = td.score(encoder, goal, texts).max().item()
    found = td.dream(encoder, goal, START, free=[1, 2, 3], allowed=words, budget=3200 * 7 * 3, seed=unit)
    assert found.best.score >= best - 1e-4 and found.stopped == "budget"
