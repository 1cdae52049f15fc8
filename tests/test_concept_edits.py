"""Moved activations read back: the search against brute force, losses against plain arithmetic, controls."""

from __future__ import annotations

import fractions
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch
from conftest import VOCAB, says
from test_concept_fitting import QUICK, SETS

import tl_dream as td
from tl_dream.concept_edit_results import Change, ConceptEdit, EditRow
from tl_dream.concept_edits import _aim, _Move, _row
from tl_dream.concept_pool import Aim, Pool
from tl_dream.concept_search import search
from tl_dream.concept_tests import deal
from tl_dream.concept_vectors import ConceptVectors
from tl_dream.hosts import attached
from tl_dream.models import forward

TEXT = "the dog can see he run"
WORDS = "dog cat sun moon he she red warm".split()


@pytest.fixture(scope="module")
def tiny_encoder(tiny_folder: Path) -> torch.nn.Module:
    """On one backend: test_concepts and test_no_trace go through all of them."""
    return td.load_model(str(tiny_folder))


@pytest.fixture(scope="module")
def concepts(tiny_encoder: torch.nn.Module) -> ConceptVectors:
    return td.fit_concepts(tiny_encoder, SETS, **QUICK)


@pytest.fixture(scope="module")
def edit(tiny_encoder: torch.nn.Module, concepts: ConceptVectors) -> ConceptEdit:
    return td.edit_concept(
        tiny_encoder, concepts, TEXT, pos="he", magnitudes=[-1, 0, 2], layers=[0, 2], controls=True, width=8
    )


def activation(model: torch.nn.Module, name: str, ids: list[int]) -> torch.Tensor:
    with attached(model) as host, torch.no_grad():
        return forward(host, torch.tensor([ids]), [name])[name][0]


# ---------------------------------------------------------------- pool and search


def aims_of(model: torch.nn.Module, text: str, names: list[str], seed: int = 0, size: float = 3.0) -> list[Aim]:
    """Random moves of one position."""
    draw = torch.Generator().manual_seed(seed)
    with attached(model) as host:
        sentence = host.vocabulary.read(text)
        made = []
        for name in names:
            change = torch.zeros(len(sentence), 24)
            change[2] = size * torch.randn(24, generator=draw)
            made.append(Aim(name, change))
    return made


def test_the_pool_measures_what_a_plain_loop_measures(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        names = [host.resolve("block_out", layer) for layer in (0, 2)]
        sentence = host.vocabulary.read("the dog was red")
        aims = aims_of(tiny_encoder, "the dog was red", names)
        pool = Pool(host, sentence, aims, host.vocabulary.allowed())
        rows = [tuple(host.vocabulary.encode(t)) for t in ("the cat was red", "a dog was warm", "the dog was red")]
        pool.add([*rows, rows[0]])
        assert pool.rows == [sentence.ids, rows[0], rows[1]]
        origin = {name: activation(tiny_encoder, name, list(sentence.ids)) for name in names}
        for number, row in enumerate(pool.rows):
            for i, aim in enumerate(aims):
                found = activation(tiny_encoder, aim.name, list(row))
                expected = float((found - origin[aim.name] - aim.change).square().mean())
                assert float(pool.losses[number, i]) == pytest.approx(expected, rel=1e-4, abs=1e-7)
                assert pool.exact(number, i) == pytest.approx(expected, rel=1e-4, abs=1e-7)
                moved = float((found - origin[aim.name]).square().mean().sqrt())
                assert float(pool.moved(aim.name)[number]) == pytest.approx(moved, rel=1e-4, abs=1e-6)


def test_the_pool_takes_real_text_alone(tiny_encoder: torch.nn.Module) -> None:
    """What does not tokenize back to itself is not measured; what is not allowed is no result."""
    with attached(tiny_encoder) as host:
        name = host.resolve("block_out", 1)
        sentence = host.vocabulary.read("the dog was red")
        goal = list(host.vocabulary.encode("the cat was red"))
        change = activation(tiny_encoder, name, goal) - activation(tiny_encoder, name, list(sentence.ids))
        pool = Pool(host, sentence, [Aim(name, change)], host.vocabulary.allowed("no_special no_unused"))
        unreal = (sentence.ids[0], VOCAB.index("a"), VOCAB.index("##n"), *sentence.ids[3:])  # "an" is a word
        pool.add([unreal, tuple(goal)])
        assert pool.find(unreal) is None and pool.best() == [1]
        few = Pool(host, sentence, [Aim(name, change)], host.vocabulary.allowed(["dog", "sun"]))
        few.add([tuple(goal)])
        assert few.best() == [0]


@pytest.mark.parametrize("layer", [0, 2])
def test_the_search_finds_the_best_of_all_single_and_double_swaps(tiny_encoder: torch.nn.Module, layer: int) -> None:
    text = "the dog was red"
    with attached(tiny_encoder) as host:
        name = host.resolve("block_out", layer)
        sentence = host.vocabulary.read(text)
        ids = [host.vocabulary.token_id(word) for word in WORDS]
        hits = 0
        for seed in range(3):
            aims = aims_of(tiny_encoder, text, [name], seed)
            pool = Pool(host, sentence, aims, host.vocabulary.allowed(WORDS))
            search(pool, starts=3, seed=0, tick=lambda: None)
            every = Pool(host, sentence, aims, host.vocabulary.allowed(WORDS))
            rows = []
            for i, j in itertools.combinations(sentence.free, 2):
                for a, b in itertools.product([*ids, None], repeat=2):
                    row = list(sentence.ids)
                    row[i], row[j] = a or row[i], b or row[j]
                    rows.append(tuple(row))
            every.add(rows)
            found, best = float(pool.losses[pool.best()[0], 0]), float(every.losses.min())
            assert found <= float(every.losses[0, 0])
            hits += found <= best + 1e-9
        assert hits >= 2


@pytest.mark.parametrize(("goal", "layer"), [("the moon was red", 2), ("the moon was warm", 0)])
def test_a_reachable_target_is_reached_exactly(tiny_encoder: torch.nn.Module, goal: str, layer: int) -> None:
    """The activation of another text, of one other word and of two."""
    with attached(tiny_encoder) as host:
        name = host.resolve("block_out", layer)
        sentence, ids = host.vocabulary.read("the dog was red"), host.vocabulary.encode(goal)
        change = activation(tiny_encoder, name, list(ids)) - activation(tiny_encoder, name, list(sentence.ids))
        for starts in (1, 3):
            pool = Pool(host, sentence, [Aim(name, change)], host.vocabulary.allowed())
            search(pool, starts=starts, width=600 if layer else 32, seed=0, tick=lambda: None)
            (best,) = pool.best()
            assert pool.rows[best] == tuple(ids) and pool.exact(best, 0) < 1e-10


# ---------------------------------------------------------------- edit_concept


def test_magnitude_zero_changes_nothing(edit: ConceptEdit) -> None:
    rows = [row for row in edit.rows if row.magnitude == 0]
    assert [row.layer for row in rows] == [0, 2]
    assert all(row.tokens == edit.tokens and not row.changed and row.loss == row.gap == 0 for row in rows)


def test_rows_by_hand(tiny_encoder: torch.nn.Module, concepts: ConceptVectors, edit: ConceptEdit) -> None:
    assert edit.pos == (5,) and edit.tokens[5] == "he"
    for row in edit.rows:
        if row.control not in (None, "opposite", "shuffled"):
            continue
        vector = concepts[row.layer]
        ids = [VOCAB.index(token) for token in row.tokens]
        origin = activation(tiny_encoder, vector.hook_name, [VOCAB.index(token) for token in edit.tokens])
        along = {None: vector.direction, "opposite": -vector.direction, "shuffled": vector.control}[row.control]
        target = origin.clone()
        target[5] += row.magnitude * vector.scale * along
        found = activation(tiny_encoder, vector.hook_name, ids)
        assert row.loss == pytest.approx(float((found - target).square().mean()), rel=1e-3, abs=1e-9)
        assert row.start_loss == pytest.approx(float((origin - target).square().mean()), rel=1e-3, abs=1e-9)
        assert row.loss <= row.start_loss + 1e-9
        assert row.gap == pytest.approx(row.loss**0.5 / edit.neighbours[str(row.layer)], rel=1e-4)
        assert td.score(tiny_encoder, td.neuron("embed", unit=0, pos=1), row.text) is not None
        assert [c.pos for c in row.changed] == [
            i for i, (a, b) in enumerate(zip(row.tokens, edit.tokens, strict=True)) if a != b
        ]
        for change in row.changed:
            back = [*ids]
            back[change.pos] = VOCAB.index(change.before)
            own = (found - activation(tiny_encoder, vector.hook_name, back))[change.pos]
            value = float(own @ vector.direction / vector.scale)
            sign = (1 if row.magnitude > 0 else -1) * (-1 if row.control == "opposite" else 1)
            assert change.value == pytest.approx(value, abs=1e-4)
            assert (change.kind == "concept") == (value * sign >= 0.25)
            assert (change.before, change.after) == (edit.tokens[change.pos], row.tokens[change.pos])


def test_the_pronoun_follows_the_concept_and_no_control(tiny_encoder: torch.nn.Module) -> None:
    """In the embeddings one natural unit is exactly the way from "he" to "she"."""
    concept = td.fit_concept(tiny_encoder, SETS, hook="embed", **QUICK)
    found = td.edit_concept(tiny_encoder, concept, TEXT, pos="he", magnitudes=[-1, 1], controls=True)
    rows = {(row.control, row.magnitude): row for row in found.rows}
    there, back = rows[None, 1], rows["opposite", -1]
    assert there.tokens[5] == back.tokens[5] == "she" and there.loss < 1e-10 and there.gap < 1e-4
    assert [(c.pos, c.kind, c.value) for c in there.changed] == [(5, "concept", pytest.approx(1, abs=1e-4))]
    assert [(c.pos, c.kind) for c in back.changed] == [(5, "concept")]  # minus one against the concept is one along it
    others = [row for key, row in rows.items() if key not in ((None, 1), ("opposite", -1))]
    assert len(others) == 7 and not any(row.tokens[5] == "she" for row in others)
    assert found.rates()["moved"] == found.rates("opposite")["moved"] == 0.5 and found.rates("random")["moved"] == 0


@pytest.mark.parametrize(
    ("magnitude", "control", "kinds"),
    [
        (1.0, None, ["concept", "other"]),
        (-1.0, None, ["other", "concept"]),
        (1.0, "opposite", ["other", "concept"]),
        (-1.0, "opposite", ["concept", "other"]),
        (1.0, "random", ["concept", "other"]),
        (0.0, None, ["other", "other"]),
    ],
)
def test_a_change_is_judged_by_the_way_its_own_move_went(
    tiny_encoder: torch.nn.Module, concepts: ConceptVectors, magnitude: float, control: str | None, kinds: list[str]
) -> None:
    """Of "he" to "she", and of "she" to "he"."""
    vector = td.fit_concept(tiny_encoder, SETS, hook="embed", **QUICK)
    found = []
    with attached(tiny_encoder) as host:
        for before, after in (("he", "she"), ("she", "he")):
            sentence = host.vocabulary.read(TEXT.replace("he run", f"{before} run"))
            move = _Move(vector, vector.hook_name, magnitude, control, torch.zeros(24))
            pool = Pool(host, sentence, [_aim(move, sentence, [5], host)], host.vocabulary.allowed())
            pool.add([tuple(host.vocabulary.encode(TEXT.replace("he run", f"{after} run")))])
            found += [change.kind for change in _row(pool, move, 0, 1, 1.0, 0.0).changed]
    assert found == kinds


def test_a_word_answers_for_its_own_change_alone(tiny_encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    """Two words changed: each against the text with its own original word, whatever the other did to it."""
    vector = concepts[2]
    with attached(tiny_encoder) as host:
        sentence = host.vocabulary.read(TEXT)
        other = tuple(host.vocabulary.encode("the cat can see she run"))
        pool = Pool(host, sentence, [Aim(vector.hook_name, torch.zeros(8, 24))], host.vocabulary.allowed())
        pool.add([other])
        own = pool.restored(1, vector.hook_name)
        assert own.keys() == {2, 5} and pool.restored(0, vector.hook_name) == {}
        found = activation(tiny_encoder, vector.hook_name, list(other))
        for at, text in ((2, "the dog can see she run"), (5, "the cat can see he run")):
            back = activation(tiny_encoder, vector.hook_name, list(host.vocabulary.encode(text)))
            assert torch.allclose(own[at], (found - back)[at], atol=1e-5)
            assert not torch.allclose(own[at], pool.change(1, vector.hook_name)[at], atol=1e-2)


def test_a_spilled_word_is_not_the_concepts_because_its_neighbour_is(minilm: torch.nn.Module) -> None:
    """At MiniLM's last layer "a" lies 0.39 towards "she" in "she is a doctor" already; that "an" stands there adds
    nothing."""
    concept = td.fit_concept(minilm, layer=5, random_concepts=50, bootstraps=1)
    found = td.edit_concept(minilm, concept, "he is a doctor", pos="he", magnitudes=[1.25], progress=False)
    ((she, an),) = [row.changed for row in found.rows]
    assert (she.before, she.after, she.kind) == ("he", "she", "concept") and she.value > 0.9
    assert (an.before, an.after, an.kind) == ("a", "an", "other") and abs(an.value) < 0.1
    assert found.rates()["spill"] == 1 and found.rates()["spill_concept"] == 0
    context = td.classify(minilm, concept, "she is a doctor", pos="a").rows[0].value
    assert context - td.classify(minilm, concept, "he is a doctor", pos="a").rows[0].value > 0.25


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_an_edit_in_another_precision(
    tiny_folder: Path, concepts: ConceptVectors, edit: ConceptEdit, dtype: torch.dtype
) -> None:
    model = td.load_model(str(tiny_folder), dtype=dtype)
    found = td.edit_concept(
        model, concepts, TEXT, pos="he", magnitudes=[-1, 0, 2], layers=[0, 2], controls=True, width=8, progress=False
    )
    assert all(row.loss <= row.start_loss for row in found.rows)
    assert all(row.loss == 0 and not row.changed for row in found.rows if row.magnitude == 0)
    if dtype == torch.float64:
        assert [row.tokens for row in found.rows] == [row.tokens for row in edit.rows]
        assert [row.loss for row in found.rows] == pytest.approx([row.loss for row in edit.rows], rel=1e-3, abs=1e-8)
        fitted = td.fit_concept(model, SETS, layer=1, **QUICK)
        assert td.edit_concept(model, fitted, TEXT, pos="he", magnitudes=[1]).rows[0].loss > 0


def test_which_rows_there_are(tiny_encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    plain = td.edit_concept(tiny_encoder, concepts[1], TEXT, pos=5)
    assert [(r.layer, r.magnitude, r.control) for r in plain.rows] == [(1, m, None) for m in (-2, -1, 0, 1, 2)]
    few = td.edit_concept(
        tiny_encoder, concepts, TEXT, pos=[2, "he"], magnitudes=[1], layers=[2, 0], controls=True, randoms=2
    )
    kinds = [(0.0, "zero"), (1, None), (1, "random"), (1, "random"), (1, "shuffled"), (1, "opposite")]
    assert [(r.layer, r.magnitude, r.control) for r in few.rows] == [(layer, *k) for layer in (2, 0) for k in kinds]
    assert few.pos == (2, 5) and few.controls == (None, "zero", "random", "shuffled", "opposite")
    assert few.settings["randoms"] == 2 and set(few.scales) == {"0", "2"}


def test_the_seed_decides(tiny_encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    def run(seed: int) -> list[EditRow]:
        found = td.edit_concept(
            tiny_encoder, concepts[1], TEXT, pos="he", magnitudes=[1], controls=True, starts=3, width=4, seed=seed
        )
        return [replace(row, seconds=0.0) for row in found.rows]

    one, again, other = run(0), run(0), run(1)
    assert one == again
    assert [r.start_loss for r in one] == pytest.approx([r.start_loss for r in other], rel=1e-4)  # equal norms
    losses = [[r.loss for r in rows if r.control == "random"] for rows in (one, other)]
    assert losses[0] != losses[1]


def test_options_of_an_edit(tiny_encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    held = td.Prompt(TEXT, free=["dog"])
    found = td.edit_concept(tiny_encoder, concepts[0], held, pos="he", magnitudes=[2.0], width=5)
    assert {c.pos for r in found.rows for c in r.changed} <= {2}
    chosen = td.edit_concept(tiny_encoder, concepts[0], TEXT, pos="he", magnitudes=[1.0], allowed=["sun", "she"])
    assert {c.after for r in chosen.rows for c in r.changed} <= {"sun", "she"}
    assert chosen.settings["allowed"] == "2 tokens"
    narrow = td.edit_concept(tiny_encoder, concepts[0], TEXT, pos="he", magnitudes=[1.0], width=1, starts=1)
    assert (
        narrow.settings["measured"]
        < td.edit_concept(tiny_encoder, concepts[0], TEXT, pos="he", magnitudes=[1.0], width=60, starts=3).settings[
            "measured"
        ]
    )


def test_numbers_of_every_kind(tiny_encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    def rows(magnitudes: object, layers: object = None) -> list[tuple[int | None, float]]:
        found = td.edit_concept(tiny_encoder, concepts, TEXT, pos="he", magnitudes=magnitudes, layers=layers, width=1)  # type: ignore[arg-type]
        assert all(type(size) is float for size in found.settings["magnitudes"])
        return [(row.layer, row.magnitude) for row in found.rows]

    assert rows(1.25, 1) == rows([1.25], [1]) == rows(numpy.float32(1.25), 1) == [(1, 1.25)]
    assert rows(numpy.array([1, 2]), 1) == rows(torch.tensor([1.0, 2.0]), 1) == [(1, 1.0), (1, 2.0)]
    assert rows(torch.tensor(2.0), [2, 2]) == rows(fractions.Fraction(2), 2) == [(2, 2.0)]
    assert [layer for layer, _ in rows(1, "all")] == [layer for layer, _ in rows(1)] == [0, 1, 2]


@pytest.mark.parametrize("free", [["he"], ["the"]])
def test_a_sentence_without_neighbours_is_refused_before_the_search(
    tiny_encoder: torch.nn.Module, concepts: ConceptVectors, free: list[str]
) -> None:
    """Nothing but the word itself is allowed, or nothing that tokenizes back to itself."""
    held = td.Prompt(TEXT, free=free)
    with says("there is nothing to compare 'the dog can see he run' with", "Free more words", "allowed="):
        td.edit_concept(
            tiny_encoder, concepts, held, pos="he", magnitudes=[0, 1], allowed=["he"] if free == ["he"] else ["##s"]
        )
    one = td.edit_concept(tiny_encoder, concepts[0], td.Prompt(TEXT, free=["he"]), pos="he", allowed=["she"])
    assert all(0 <= row.gap < 100 for row in one.rows)  # one other word is a neighbour


def test_a_sentence_that_the_model_can_not_read_is_refused(
    tiny_folder: Path, concepts: ConceptVectors, tmp_path: Path
) -> None:
    model = td.load_model(str(tiny_folder))
    concept = concepts[1]
    model.add_hook(concept.hook_name, lambda activation, hook: activation * float("nan"))
    with says("hold NaN or infinite numbers"):
        td.edit_concept(model, concept, TEXT, pos="he")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"magnitudes": []}, ("no magnitude given",)),
        ({"magnitudes": torch.ones(2, 2)}, ("give a number",)),
        ({"layers": "some"}, ("layers = 'some'", '"all"')),
        ({"layers": 5}, ("has no layer 5",)),
        ({"magnitudes": [float("nan")]}, ("magnitude = nan",)),
        ({"starts": 0}, ("starts = 0",)),
        ({"width": 0}, ("width = 0",)),
        ({"randoms": 0}, ("randoms = 0",)),
        ({"layers": [5]}, ("has no layer 5",)),
        ({"layers": []}, ("no layer given",)),
        ({"pos": "she"}, ("the word 'she' is not in the sentence",)),
        ({"allowed": "no_nothing"}, ("unknown allowed-token rule",)),
    ],
)
def test_what_an_edit_refuses(
    tiny_encoder: torch.nn.Module, concepts: ConceptVectors, options: dict[str, object], parts: tuple[str, ...]
) -> None:
    with says(*parts):
        td.edit_concept(tiny_encoder, concepts, TEXT, **{"pos": "he", **options})


def test_a_concept_of_another_model_is_refused(concepts: ConceptVectors, tiny_checkpoint: Callable[..., Path]) -> None:
    other = td.load_model(str(tiny_checkpoint(seed=1)))
    with says("is another model"):
        td.edit_concept(other, concepts, TEXT, pos="he")


def test_a_model_with_other_upper_layers_is_refused_unless_hooks_are_on_it(
    tiny_folder: Path, concepts: ConceptVectors
) -> None:
    """The embeddings and the widths are the concept's; only what is computed tells."""
    other = td.load_model(str(tiny_folder))
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            parameter.mul_(1.5 if "blocks.2" in name or "layer.2." in name else 1.0)
    goal = td.neuron("block_out", layer=2, unit=1, pos=1)
    for call in (
        lambda: td.edit_concept(other, concepts, TEXT, pos="he", magnitudes=[1]),
        lambda: td.classify(other, concepts, TEXT),
        lambda: td.sensitivity(other, goal, TEXT, concept=concepts[2]),
        lambda: concepts[2].steer(1, model=other),
    ):
        with says("is another model: its activation at", "numerical precision"):
            call()
    assert td.classify(other, concepts[0], TEXT).rows  # below the change it is the same model
    same = td.load_model(str(tiny_folder))
    same.add_hook(*concepts[0].steer(2.0, pos=1))
    before, after = td.classify(other, concepts[0], TEXT, pos=1), td.classify(same, concepts, TEXT, pos=1)
    assert after.rows[0].value - before.rows[0].value == pytest.approx(2, abs=1e-4)
    assert td.edit_concept(same, concepts, TEXT, pos="he", magnitudes=[0], layers=2).rows[0].loss == 0


# ---------------------------------------------------------------- results


def made_edit(*rows: EditRow, tokens: tuple[str, ...] = ("[CLS]", "he", "lost", "his", "dog", "[SEP]")) -> ConceptEdit:
    return ConceptEdit(
        "tiny (HookedEncoder)",
        "he -> she",
        "block_out",
        "he",
        "she",
        " ".join(tokens[1:-1]),
        tokens,
        (1,),
        rows,
        {"3": 2.0},
        {"3": 1.0},
        {"magnitudes": [1.0]},
        0,
        td.results.Cost(10, 100, 1.0),
    )


def made_row(magnitude: float, control: str | None, *changes: Change, layer: int | None = 3) -> EditRow:
    tokens = ["[CLS]", "he", "lost", "his", "dog", "[SEP]"]
    for change in changes:
        tokens[change.pos] = change.after
    text = " ".join(tokens[1:-1])
    return EditRow(layer, magnitude, control, text, tuple(tokens), changes, 0.25, 1.0, 0.5, 0.1)


SHE, HER, CAT = (
    Change(1, "he", "she", "concept", 1.0),
    Change(3, "his", "her", "concept", 0.5),
    Change(4, "dog", "cat", "other", 0.0),
)
WHO = Change(1, "he", "who", "other", 0.1)


def test_rates_tell_moved_words_from_spill_over() -> None:
    made = made_edit(
        made_row(0.0, None),
        made_row(1.0, None, SHE),
        made_row(2.0, None, SHE, HER),
        made_row(3.0, None, WHO, CAT),
        made_row(4.0, None),
        made_row(1.0, "random", CAT),
        made_row(2.0, "random"),
    )
    assert made.rates() == {
        "rows": 4,
        "moved": 0.5,
        "moved_otherwise": 0.25,
        "spill": 0.5,
        "spill_concept": 0.25,
        "unchanged": 0.25,
    }
    assert made.rates("random") == {
        "rows": 2,
        "moved": 0.0,
        "moved_otherwise": 0.0,
        "spill": 0.5,
        "spill_concept": 0.0,
        "unchanged": 0.5,
    }
    assert made.rates("shuffled")["rows"] == 0 and made.rates("shuffled")["moved"] == 0
    assert made.controls == (None, "random")


def test_json_is_as_documented_and_comes_back(tmp_path: Path) -> None:
    made = made_edit(made_row(2.0, None, SHE, HER), made_row(1.0, "random", CAT))
    made.save(tmp_path / "e.json")
    data = json.loads((tmp_path / "e.json").read_text())
    assert data["rows"][0]["control"] is None and data["rows"][1]["control"] == "random"
    assert data["rows"][0]["changed"][0] == {"pos": 1, "from": "he", "to": "she", "kind": "concept", "value": 1.0}
    assert {"layer", "magnitude", "control", "tokens", "changed", "loss", "gap", "seconds"} <= set(data["rows"][0])
    assert data["rows"][0]["tokens"] == ["[CLS]", "she", "lost", "her", "dog", "[SEP]"]
    assert ConceptEdit.load(tmp_path / "e.json") == made
    del data["rows"][0]["changed"][0]["from"]
    with says("is not a whole concept_edit result"):
        ConceptEdit.from_json(data)
    frame = made.to_frame()
    assert list(frame.changed) == [2, 1] and list(frame.magnitude) == [2.0, 1.0]


def test_an_edit_prints_what_changed() -> None:
    text = str(made_edit(made_row(2.0, None, SHE, HER), made_row(1.0, "random")))
    for part in (
        "he -> she (1, concept), his -> her (3, concept)",
        "moved: 1 he",
        "nothing",
        "0.50",
        "seed 0",
        "10 forwards",
    ):
        assert part in text


def test_dealt_labels_are_even_in_both_sets() -> None:
    import numpy

    labels = numpy.arange(20) < 8
    dealt = deal(labels, numpy.random.default_rng(0))
    assert dealt[labels].sum() == 4 and dealt[~labels].sum() == 6
    assert not numpy.array_equal(dealt, deal(labels, numpy.random.default_rng(1)))
    assert numpy.array_equal(~deal(~labels, numpy.random.default_rng(0)), dealt)


@pytest.mark.slow
def test_he_becomes_she_on_minilm(minilm: torch.nn.Module) -> None:
    """The article's sentence, at every layer, at once and a half the natural scale; no control does it."""
    concepts = td.fit_concepts(minilm, random_concepts=50, bootstraps=2)
    found = td.edit_concept(minilm, concepts, "he is a doctor", pos="he", magnitudes=[0, 1.5], controls=True)
    for row in found.rows:
        if row.magnitude == 0:
            assert not row.changed
        elif row.control is None:
            assert row.tokens[1] == "she" and len(row.changed) <= 2
        else:
            assert row.tokens[1] != "she"
