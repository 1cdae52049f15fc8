"""The room editing.edits."""

import fractions
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.concepts import QUICK, SENTENCE, SETS, read
from tests.support.editing import TEXT, activation
from tl_dream.concepts.examples import read_examples
from tl_dream.concepts.vectors import ConceptVector, ConceptVectors
from tl_dream.editing.edits import _aim, _Move, _row
from tl_dream.editing.sentence_pool import MovedTarget, SentencePool
from tl_dream.models.host import attached
from tl_dream.results.edits import ConceptEdit, EditRow
from tl_dream.search.engine import run


def test_a_replaced_activation(encoder: torch.nn.Module) -> None:
    found = td.replaced_activation(encoder, SENTENCE, "she", pos="he", layer=1)
    with attached(encoder) as host:
        name = host.resolve("block_out", 1)
    mine, other = read(encoder, name)[0], read(encoder, name, SENTENCE.replace(" he ", " she "))[0]
    assert torch.allclose(found[6], other[6], atol=1e-5)
    rest = [i for i in range(9) if i != 6]
    assert torch.allclose(found[rest], mine[rest], atol=1e-5) and not torch.allclose(mine[rest], other[rest], atol=1e-3)
    with says("is not one token of this vocabulary"):
        td.replaced_activation(encoder, SENTENCE, "kickshaws", pos="he", layer=1)
    with says("pos = [1, 2] is 2 positions, (1, 2)", "give one"):
        td.replaced_activation(encoder, SENTENCE, "she", pos=[1, 2], layer=1)
    assert torch.equal(td.replaced_activation(encoder, SENTENCE, "she", pos=[6], layer=1), found)
    with says("has no row of units for every position"):
        td.replaced_activation(encoder, SENTENCE, "she", pos="he", hook="pattern", layer=1)


def test_the_pronoun_follows_the_concept_and_no_control(encoder: torch.nn.Module) -> None:
    """In the embeddings one natural unit is exactly the way from "he" to "she"."""
    concept = td.fit_concept(encoder, SETS, hook="embed", **QUICK)
    found = td.edit_concept(encoder, concept, TEXT, pos="he", magnitudes=[-1, 1], controls=True)
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
    encoder: torch.nn.Module, concepts: ConceptVectors, magnitude: float, control: str | None, kinds: list[str]
) -> None:
    """Of "he" to "she", and of "she" to "he"."""
    vector = td.fit_concept(encoder, SETS, hook="embed", **QUICK)
    found = []
    with attached(encoder) as host:
        for before, after in (("he", "she"), ("she", "he")):
            sentence = host.vocabulary.read(TEXT.replace("he run", f"{before} run"))
            move = _Move(vector, vector.hook_name, magnitude, control, torch.zeros(24))
            pool = SentencePool(host, sentence, [_aim(move, sentence, [5], host)], host.vocabulary.allowed())
            run(host, pool.add([tuple(host.vocabulary.encode(TEXT.replace("he run", f"{after} run")))]))
            found += [change.kind for change in _row(pool, move, 0, 1, 1.0, 0.0).changed]
    assert found == kinds


def test_a_word_answers_for_its_own_change_alone(encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    """Two words changed: each against the text with its own original word, whatever the other did to it."""
    vector = concepts[2]
    with attached(encoder) as host:
        sentence = host.vocabulary.read(TEXT)
        other = tuple(host.vocabulary.encode("the cat can see she run"))
        pool = SentencePool(
            host, sentence, [MovedTarget(vector.hook_name, torch.zeros(8, 24))], host.vocabulary.allowed()
        )
        run(host, pool.add([other]))
        own = pool.restored(1, vector.hook_name)
        assert own.keys() == {2, 5} and pool.restored(0, vector.hook_name) == {}
        found = activation(encoder, vector.hook_name, list(other))
        for at, text in ((2, "the dog can see she run"), (5, "the cat can see he run")):
            back = activation(encoder, vector.hook_name, list(host.vocabulary.encode(text)))
            assert torch.allclose(own[at], (found - back)[at], atol=1e-5)
            assert not torch.allclose(own[at], pool.change(1, vector.hook_name)[at], atol=1e-2)


@pytest.mark.slow
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


def test_the_gap_is_in_ways_to_a_neighbour(edit: ConceptEdit) -> None:
    rows = [row for row in edit.rows if row.loss > 0]
    assert rows
    for row in rows:
        assert row.gap == pytest.approx(row.loss**0.5 / edit.neighbours[str(row.layer)])


NOUNS = ("cat", "dog")


def carrying(concept: ConceptVector, advised: float | None) -> ConceptVector:
    """The concept with evidence that advises a magnitude."""
    known = concept.evidence.carrying
    assert known is not None
    shares = tuple(float(advised is not None and size >= advised) for size in known.magnitudes)
    return replace(concept, evidence=replace(concept.evidence, carrying=replace(known, shares=shares)))


def test_which_rows_there_are(encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    for advised, sizes in ((None, [-2, -1, 0, 1, 2]), (1.25, [-2, -1, 0, 1, 2]), (6.0, [-6, -3, 0, 3, 6])):
        plain = td.edit_concept(encoder, carrying(concepts[1], advised), TEXT, pos=5, width=1, starts=1)
        assert [(r.layer, r.magnitude, r.control) for r in plain.rows] == [(1, m, None) for m in sizes]
        assert plain.settings["magnitudes"] == sizes
    few = td.edit_concept(
        encoder, concepts, TEXT, pos=[2, "he"], magnitudes=[1], layers=[2, 0], controls=True, randoms=2
    )
    kinds = [(0.0, "zero"), (1, None), (1, "random"), (1, "random"), (1, "shuffled"), (1, "opposite")]
    assert [(r.layer, r.magnitude, r.control) for r in few.rows] == [(layer, *k) for layer in (2, 0) for k in kinds]
    assert few.pos == (2, 5) and few.controls == (None, "zero", "random", "shuffled", "opposite")
    assert few.settings["randoms"] == 2 and set(few.scales) == {"0", "2"}


def test_the_least_magnitude_is_where_another_text_first_is_the_nearest(encoder: torch.nn.Module) -> None:
    """By hand in the embeddings, over the whole vocabulary: a token is as near as the word itself where
    |w|^2 = 2 m (w . s), w being the difference of the two and s a natural unit."""
    concept = td.fit_concept(encoder, SETS, hook="embed", **QUICK)
    nouns = read_examples(*([f"the {{{noun}}} can see the {end}" for end in ("sun", "sea", "cat")] for noun in NOUNS))
    other = td.fit_concept(encoder, nouns, hook="embed", test_share=0.4, **QUICK)
    text, turn = TEXT.replace(" he ", " she "), -1.0  # "she" lies on the positive side, and is moved to the other
    found = td.edit_concept(
        encoder, concept, text, pos="she", magnitudes="least", controls=True, other=other, progress=False
    )
    with attached(encoder) as host:
        vocabulary, ids = host.vocabulary, host.vocabulary.encode(text)
        rows = [(*ids[:5], token, *ids[6:]) for token in vocabulary.allowed().nonzero()[:, 0].tolist()]
        rows = [row for row, whole in zip(rows, vocabulary.retokenizes(rows), strict=True) if whole]
        apart = (host.W_E[[row[5] for row in rows]] - host.W_E[ids[5]]).double()
    ways = {None: concept.direction, "opposite": -concept.direction, "shuffled": concept.control}
    for control, way in (ways | {"other": other.direction}).items():
        (row,) = [row for row in found.rows if row.control == control]
        along = apart @ way.double() * concept.scale * turn
        sizes = torch.where(along > 1e-9, apart.square().sum(1) / (2 * along), torch.inf)
        if control == "opposite":  # of this vocabulary nothing lies that way
            assert sizes.isinf().all() and row.magnitude == 2 * turn and not row.changed
            continue
        assert row.magnitude == pytest.approx(turn * float(sizes.min()), rel=5e-3), control
        assert row.tokens[5] == vocabulary.tokens(rows[int(sizes.argmin())])[5] and len(row.changed) == 1
        assert row.loss < row.start_loss
    (zero,) = [row for row in found.rows if row.control == "zero"]
    assert zero.magnitude == 0 and not zero.changed and found.settings["magnitudes"] == "least"


def test_the_seed_decides(encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    def run(seed: int) -> list[EditRow]:
        found = td.edit_concept(
            encoder, concepts[1], TEXT, pos="he", magnitudes=[1], controls=True, starts=3, width=4, seed=seed
        )
        return [replace(row, seconds=0.0) for row in found.rows]

    one, again, other = run(0), run(0), run(1)
    assert one == again
    assert [r.start_loss for r in one] == pytest.approx([r.start_loss for r in other], rel=1e-4)  # equal norms
    losses = [[r.loss for r in rows if r.control == "random"] for rows in (one, other)]
    assert losses[0] != losses[1]


def test_options_of_an_edit(encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    held = td.Prompt(TEXT, free=["dog"])
    found = td.edit_concept(encoder, concepts[0], held, pos="he", magnitudes=[2.0], width=5)
    assert {c.pos for r in found.rows for c in r.changed} <= {2}
    chosen = td.edit_concept(encoder, concepts[0], TEXT, pos="he", magnitudes=[1.0], allowed=["sun", "she"])
    assert {c.after for r in chosen.rows for c in r.changed} <= {"sun", "she"}
    assert chosen.settings["allowed"] == "2 tokens"
    narrow = td.edit_concept(encoder, concepts[0], TEXT, pos="he", magnitudes=[1.0], width=1, starts=1)
    assert (
        narrow.settings["measured"]
        < td.edit_concept(encoder, concepts[0], TEXT, pos="he", magnitudes=[1.0], width=60, starts=3).settings[
            "measured"
        ]
    )


def test_numbers_of_every_kind(encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    def rows(magnitudes: object, layers: object = None) -> list[tuple[int | None, float]]:
        found = td.edit_concept(encoder, concepts, TEXT, pos="he", magnitudes=magnitudes, layers=layers, width=1)  # type: ignore[arg-type]
        assert all(type(size) is float for size in found.settings["magnitudes"])
        return [(row.layer, row.magnitude) for row in found.rows]

    assert rows(1.25, 1) == rows([1.25], [1]) == rows(numpy.float32(1.25), 1) == [(1, 1.25)]
    assert rows(numpy.array([1, 2]), 1) == rows(torch.tensor([1.0, 2.0]), 1) == [(1, 1.0), (1, 2.0)]
    assert rows(torch.tensor(2.0), [2, 2]) == rows(fractions.Fraction(2), 2) == [(2, 2.0)]
    assert [layer for layer, _ in rows(1, "all")] == [layer for layer, _ in rows(1)] == [0, 1, 2]


@pytest.mark.parametrize("free", [["he"], ["the"]])
def test_a_sentence_without_neighbours_is_refused_before_the_search(
    encoder: torch.nn.Module, concepts: ConceptVectors, free: list[str]
) -> None:
    """Nothing but the word itself is allowed, or nothing that tokenizes back to itself."""
    held = td.Prompt(TEXT, free=free)
    with says("there is nothing to compare 'the dog can see he run' with", "Free more words", "allowed="):
        td.edit_concept(
            encoder, concepts, held, pos="he", magnitudes=[0, 1], allowed=["he"] if free == ["he"] else ["##s"]
        )
    one = td.edit_concept(encoder, concepts[0], td.Prompt(TEXT, free=["he"]), pos="he", allowed=["she"])
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
        ({"magnitudes": "most"}, ("magnitude = 'most'", "a number")),
        ({"layers": "some"}, ("layers = 'some'", '"all"')),
        ({"layers": 5}, ("has no layer 5",)),
        ({"magnitudes": [float("nan")]}, ("magnitude = nan",)),
        ({"starts": 0}, ("starts = 0",)),
        ({"starts": 10**8, "seconds": 1}, ("starts = 100000000: give a whole number from 1 to 10000",)),
        ({"width": 0}, ("width = 0",)),
        ({"randoms": 0}, ("randoms = 0",)),
        ({"layers": [5]}, ("has no layer 5",)),
        ({"layers": []}, ("no layer given",)),
        ({"pos": "she"}, ("the word 'she' is not in the sentence",)),
        ({"allowed": "no_nothing"}, ("unknown allowed-token rule",)),
    ],
)
def test_what_an_edit_refuses(
    encoder: torch.nn.Module, concepts: ConceptVectors, options: dict[str, object], parts: tuple[str, ...]
) -> None:
    with says(*parts):
        td.edit_concept(encoder, concepts, TEXT, **{"pos": "he", **options})


def test_another_concept_is_of_the_same_hook_and_layers(encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    wide = td.fit_concept(encoder, SETS, hook="mlp_post", layer=1, **QUICK)
    for other, parts in ((wide, ("'mlp_post' (40 units)", "'block_out' (24 units)")), (concepts[0], ("no layer 1",))):
        with says(*parts):
            td.edit_concept(encoder, concepts[1], TEXT, pos="he", magnitudes=[1], other=other)


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


FITTED = "walk walked|talk talked|play played|call called|help helped|run ran|sing sang|write wrote|speak spoke|eat ate"
NEW = (("dance", "danced"), ("break", "broke"), ("climb", "climbed"), ("choose", "chose"))


@pytest.mark.slow
def test_verbs_that_were_not_fitted_go_to_the_past_on_minilm(minilm: torch.nn.Module) -> None:
    """The receipt tells that 1.25 natural units do nothing; as far as the first other text is mostly the verb's own
    past, and seldom for a control. ("choose" is read as a past at layer 3, so that the search goes the other way.)"""
    lines = [
        (frame, *pair.split())
        for frame in ("they {} here every day .", "the people {} again in the evening .")
        for pair in FITTED.split("|")
    ]
    past, present = ([line[0].format(f"{{{line[at]}}}") for line in lines] for at in (2, 1))
    concepts = td.fit_concepts(minilm, read_examples(past, present), layers=[1, 3], random_concepts=50, bootstraps=2)
    for evidence in concepts.evidence:
        carrying = evidence.carrying
        assert carrying is not None and carrying.words == 10
        assert carrying.share(1.25) == 0 and carrying.first > 0.8 and (carrying.advised or 0) > 2
    assert "! layer(s) 1, 3: natural magnitudes of 1 or 2 carry few words over" in str(concepts)
    right, by_chance = 0, []
    for word, wanted in NEW:
        text = f"the old women {word} in the house ."
        assert not td.edit_concept(minilm, concepts, text, pos=word, magnitudes=1.25, progress=False).rows[0].changed
        found = td.edit_concept(minilm, concepts, text, pos=word, magnitudes="least", controls=True, progress=False)
        right += sum(row.tokens[4] == wanted for row in found.rows if row.control is None)
        by_chance += [row.tokens[4] == wanted for row in found.rows if row.control is not None]
    assert right >= 6  # of 8
    assert sum(by_chance) <= len(by_chance) / 8 and len(by_chance) >= 24
