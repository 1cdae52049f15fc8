"""A concept in use: shifts, hooks, files, classification and sensitivity, each against plain arithmetic."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy
import pytest
import torch
from conftest import BACKENDS, says
from safetensors.torch import load_file, save_file
from test_concept_fitting import QUICK, SETS

import tl_dream as td
from tl_dream.concept_results import ConceptReading
from tl_dream.concept_vectors import ConceptVector, ConceptVectors
from tl_dream.concepts import vectors_of
from tl_dream.hosts import attached
from tl_dream.models import forward

TEXT = "so the dog can see he run"


@pytest.fixture(scope="module")
def concepts(tiny_encoder: torch.nn.Module) -> ConceptVectors:
    return td.fit_concepts(tiny_encoder, SETS, **QUICK)


@pytest.fixture(scope="module")
def concept(concepts: ConceptVectors) -> ConceptVector:
    return concepts[1]


def read(model: torch.nn.Module, name: str, text: str = TEXT) -> torch.Tensor:
    with attached(model) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode(text)])
        return forward(host, ids, [name])[name]


# ---------------------------------------------------------------- activations


@pytest.mark.parametrize(
    ("pos", "moved"), [(2, [2]), (-1, [8]), ([1, -3], [1, 6]), (slice(3, 5), [3, 4]), (None, list(range(9)))]
)
def test_a_shift_moves_by_natural_units_at_these_positions_alone(
    concept: ConceptVector, pos: object, moved: list[int]
) -> None:
    activation = torch.randn(2, 9, 24, generator=torch.Generator().manual_seed(0))
    found = concept.shift(activation, pos, -1.5)
    change = found - activation
    still = [i for i in range(9) if i not in moved]
    assert torch.equal(found[:, still], activation[:, still])
    assert torch.allclose(
        change[:, moved], (-1.5 * concept.scale * concept.direction).expand(2, len(moved), 24), atol=1e-5
    )
    assert torch.allclose(
        concept.coordinate(found) - concept.coordinate(activation),
        change @ concept.direction / concept.scale,
        atol=1e-5,
    )
    assert torch.allclose(
        (concept.coordinate(found) - concept.coordinate(activation))[:, moved], torch.tensor(-1.5), atol=1e-5
    )
    assert torch.equal(concept.shift(activation[0], pos, -1.5), found[0])  # without a batch axis


def test_a_shift_of_nothing_and_along_another_direction(concept: ConceptVector) -> None:
    activation = torch.randn(9, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(concept.shift(activation, 2, 0), activation)
    for two in (numpy.float32(2), numpy.array(2), torch.tensor(2.0), Fraction(2)):
        assert torch.equal(concept.shift(activation, 2, two), concept.shift(activation, 2, 2))
    other = concept.shift(activation, 2, 2.0, along=concept.control)
    assert torch.allclose((other - activation)[2], 2 * concept.scale * concept.control, atol=1e-5)
    heads = concept.shift(activation.reshape(9, 4, 6), 2, 1)
    assert torch.equal(heads.reshape(9, 24), concept.shift(activation, 2, 1))


def test_erasing_leaves_everything_but_the_concept(concept: ConceptVector) -> None:
    activation = torch.randn(3, 9, 24, generator=torch.Generator().manual_seed(0))
    found = concept.erase(activation, [1, 2])
    assert torch.allclose(concept.coordinate(found)[:, [1, 2]], torch.zeros(3, 2), atol=1e-5)
    assert torch.equal(found[:, 3:], activation[:, 3:])
    across = torch.randn(24, generator=torch.Generator().manual_seed(1))
    across -= (across @ concept.direction) * concept.direction
    assert torch.allclose(found @ across, activation @ across, atol=1e-4)
    assert torch.allclose(concept.coordinate(concept.erase(activation)), torch.zeros(3, 9), atol=1e-5)


@pytest.mark.parametrize(
    ("call", "parts"),
    [
        (lambda c: c.shift(torch.zeros(9, 23), 1, 1.0), ("shape (9, 23)", "24 units", "[batch, pos, 24]")),
        (lambda c: c.shift(torch.zeros(24), 0, 1.0), ("shape (24,)",)),
        (lambda c: c.shift(torch.zeros(9, 24), 9, 1.0), ("position 9 is outside", "has 9")),
        (lambda c: c.shift(torch.zeros(9, 24), "he", 1.0), ("'he' is no position by number",)),
        (lambda c: c.shift(torch.zeros(9, 24), [], 1.0), ("no position given",)),
        (lambda c: c.shift(torch.zeros(9, 24), slice(9, 12), 1.0), ("holds none of the 9 positions",)),
        (lambda c: c.shift(torch.zeros(9, 24), 1, float("nan")), ("magnitude = nan",)),
        (lambda c: c.steer(float("inf")), ("magnitude = inf",)),
        (lambda c: c.coordinate(torch.zeros(23)), ("the concept has 24 units, the activation 23",)),
    ],
)
def test_what_a_concept_refuses(
    concept: ConceptVector, call: Callable[[ConceptVector], object], parts: tuple[str, ...]
) -> None:
    with says(*parts):
        call(concept)


# ---------------------------------------------------------------- hooks


def test_steering_and_erasing_are_transformer_lens_hooks(
    fresh_encoder: Callable[..., torch.nn.Module], concept: ConceptVector
) -> None:
    model = fresh_encoder()
    before = read(model, concept.hook_name)
    model.add_hook(*concept.steer(2.0, pos=[1, 6]))
    assert torch.equal(read(model, concept.hook_name), concept.shift(before, [1, 6], 2.0))
    behind = td.score(model, td.neuron("block_out", layer=2, unit=0, pos=3), TEXT)
    model.reset_hooks()
    assert behind != td.score(model, td.neuron("block_out", layer=2, unit=0, pos=3), TEXT)
    model.add_hook(*concept.eraser(pos=6))
    assert torch.equal(read(model, concept.hook_name), concept.erase(before, 6))
    model.reset_hooks()
    ids = torch.tensor([[4, 30, 31, 5]])
    seen = []
    watch = (concept.hook_name, lambda activation, hook: seen.append(activation.detach().clone()))
    model.run_with_hooks(ids, fwd_hooks=[watch])
    model.run_with_hooks(ids, fwd_hooks=[concept.steer(-1, model=model), watch])
    assert torch.equal(seen[1], concept.shift(seen[0], None, -1))


def test_a_concept_at_heads(tiny_encoder: torch.nn.Module) -> None:
    concept = td.fit_concept(tiny_encoder, SETS, hook="z", layer=0, **QUICK)
    assert concept.width == 24
    before = read(tiny_encoder, concept.hook_name)
    assert before.shape == (1, 9, 4, 6)
    moved = concept.steer(1.0, pos=6)[1](before)
    assert torch.allclose((moved - before)[0, 6].flatten(), concept.scale * concept.direction, atol=1e-5)
    assert torch.equal(moved[0, :6], before[0, :6])


# ---------------------------------------------------------------- files


def test_files_hold_everything(concepts: ConceptVectors, tiny_encoder: torch.nn.Module, tmp_path: Path) -> None:
    concepts.save(tmp_path / "c.safetensors")
    again = ConceptVectors.load(tmp_path / "c.safetensors", tiny_encoder)
    assert str(again) == str(concepts) and again.layers == concepts.layers
    for one, other in zip(concepts, again, strict=True):
        assert torch.equal(one.direction, other.direction) and torch.equal(one.control, other.control)
        assert one.evidence == other.evidence and one.threshold == other.threshold and one.scale == other.scale
        assert one.examples == other.examples
    assert ConceptVector.load(tmp_path / "c.safetensors", layer=2).layer == 2
    with says("holds the layers (0, 1, 2)", "say layer="):
        ConceptVector.load(tmp_path / "c.safetensors")
    concepts[1].save(tmp_path / "one.safetensors")
    assert ConceptVector.load(tmp_path / "one.safetensors", tiny_encoder).layer == 1
    assert (tmp_path / "one.safetensors").read_bytes()[:1] != b"\x80"  # no pickle
    assert set(load_file(tmp_path / "one.safetensors")) == {
        f"0.{n}" for n in ("direction", "control", "probe", "embedding")
    }


def test_a_file_of_another_model_hook_or_width_is_refused(
    concept: ConceptVector,
    tiny_encoder: torch.nn.Module,
    tiny_checkpoint: Callable[..., Path],
    backend: str,
    tmp_path: Path,
) -> None:
    path = tmp_path / "c.safetensors"
    concept.save(path)
    other = td.load_model(str(tiny_checkpoint(seed=1)), backend=backend)
    with says("was fitted on", "is another model, with other word embeddings"):
        ConceptVector.load(path, other)
    with says("another model"):
        td.classify(other, concept, "a dog")
    narrow = td.load_model(str(tiny_checkpoint(seed=1, width=16)), backend=backend)
    with says("another model"):
        ConceptVector.load(path, narrow)
    replace(concept, hook="mlp_post").save(path)
    with says("has 24 units, the hook", "has 40"):
        ConceptVector.load(path, tiny_encoder)
    replace(concept, layer=2).save(path)
    with says("is another model", "numerical precision"):  # the same embeddings and width, other activations
        ConceptVector.load(path, tiny_encoder)
    replace(concept, layer=7).save(path)
    with says("layer 7 does not exist"):
        ConceptVector.load(path, tiny_encoder)


def test_the_same_model_in_another_precision_is_no_other_model(
    concept: ConceptVector, fresh_encoder: Callable[..., torch.nn.Module], tmp_path: Path
) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        concept.check(fresh_encoder(dtype=dtype))
    changed = fresh_encoder()
    with torch.no_grad():
        last = [p for n, p in changed.named_parameters() if "blocks.1" in n or "layer.1." in n][0]
        last.mul_(1.5)
    with says("another model"):
        concept.check(changed)


def test_broken_files(concept: ConceptVector, tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    with says("there is no concept file", "concept fit"):
        ConceptVector.load(path)
    path.write_bytes(b"\x80\x04pickle")
    with says("is not a concept file"):
        ConceptVector.load(path)
    save_file({"a": torch.zeros(1)}, path)
    with says("holds None, not a 'concept'"):
        ConceptVector.load(path)
    save_file({"a": torch.zeros(1)}, path, {"tl_dream": '{"kind": "concept", "version": 1, "vectors": [{}]}'})
    with says("is not a whole concept file"):
        ConceptVector.load(path)
    replace(concept, direction=2 * concept.direction).save(path)
    with says("or it is damaged: the numbers of vector 0 do not fit together"):
        ConceptVector.load(path)
    with says("does not exist: create it first"):
        concept.save(tmp_path / "no" / "c.safetensors")


def test_a_concept_loaded_for_another_backend_steers_it(
    concepts: ConceptVectors, fresh_encoder: Callable[..., torch.nn.Module], backend: str, tmp_path: Path
) -> None:
    """As in the README, load and then steer; the file holds the hook's name on the backend it was fitted on."""
    other = "blocks.{}.hook_out" if backend == "hooked" else "blocks.{}.hook_normalized_resid_post"
    away = [replace(vector, hook_name=other.format(vector.layer)) for vector in concepts]
    ConceptVectors(tuple(away)).save(tmp_path / "c.safetensors")
    model = fresh_encoder()
    assert [v.hook_name for v in ConceptVectors.load(tmp_path / "c.safetensors")] == [v.hook_name for v in away]
    loaded = ConceptVectors.load(tmp_path / "c.safetensors", model)
    assert [vector.hook_name for vector in loaded] == [vector.hook_name for vector in concepts]
    before = td.classify(model, concepts, TEXT, pos=6)
    model.add_hook(*ConceptVector.load(tmp_path / "c.safetensors", model, layer=1).steer(2.0, pos=6))
    after = td.classify(model, loaded, TEXT, pos=6)
    model.reset_hooks()
    assert [b.value - a.value for a, b in zip(before.rows[:2], after.rows, strict=False)] == pytest.approx(
        [0, 2], abs=1e-4
    )


DAMAGES = """
import json, sys
import numpy, torch
from safetensors import safe_open
from safetensors.torch import save_file
import tl_dream as td
from tl_dream import DreamError
from tl_dream.concept_shifts import layers_of, numbers_of

path = sys.argv[1]
with safe_open(path, "pt") as file:
    header, tensors = file.metadata()["tl_dream"], {key: file.get_tensor(key) for key in file.keys()}
NAN, INF = float("nan"), float("inf")


def refusal(call):
    try:
        return f"none: {call()}"
    except DreamError as error:
        return str(error)


def load(vector=None, evidence=None, tensor=None, whole=None):
    data = {**json.loads(header), **(whole or {})}
    if evidence:
        data["vectors"][0]["evidence"].update(evidence)
    if vector:
        data["vectors"][0].update(vector)
    save_file({**tensors, **(tensor or {})}, path, {"tl_dream": json.dumps(data)})
    return td.ConceptVector.load(path)


assert load().layer == 1
unit = torch.zeros(24)
unit[3] = 1
damages = [
    *({"vector": {"threshold": value}} for value in (NAN, "x", None, True, 10**400)),
    *({"vector": {"scale": value}} for value in (INF, NAN, 0, -1.0, "2")),
    *({"vector": {"layer": value}} for value in ("0", 0.0, True)),
    *({"vector": {name: 3}} for name in ("name", "hook", "hook_name", "model", "positive")),
    *({"vector": {"examples": value}} for value in ({}, None, [1], {"negatives": "x"})),
    {"vector": {"seed": None}},
    {"vector": {"evidence": []}},
    *({"evidence": {"interval": value}} for value in ([1], None, [0.1, "x"], [0, 1, 2])),
    *({"evidence": {"intervals": value}} for value in ({"mean": [1]}, {}, [1], {"mean": [0.1, NAN]})),
    *({"evidence": {"accuracy": value}} for value in (NAN, None, "1")),
    *({"evidence": {"agreement": value}} for value in ({}, {"mean": 1}, None)),
    {"evidence": {"held_out": 1.5}},
    {"evidence": {"estimator": "svn"}},
    {"tensor": {"0.direction": unit.int()}},
    {"tensor": {"0.direction": unit * INF}},
    {"tensor": {"0.direction": unit[None]}},
    {"tensor": {"0.control": unit * 2}},
    {"tensor": {"0.probe": unit[:20].clone()}},
    {"tensor": {"0.embedding": unit.bool()}},
    *({"whole": {"vectors": value}} for value in (None, "abc", [], [None], 3)),
]
for damage in damages:
    told = refusal(lambda: load(**damage))
    assert path in told and told.count("damaged") + told.count("holds no vector") == 1, (damage, told)
    print(told)
load()
concept, model = td.ConceptVector.load(path), td.load_model(sys.argv[2])
both, text = td.ConceptVectors((concept,)), "the dog can see he run"
for call, part in [
    (lambda: td.edit_concept(model, concept, text, pos="he", magnitudes="12"), "magnitude = '12'"),
    (lambda: td.edit_concept(model, concept, text, pos="he", magnitudes=[None]), "magnitude = None"),
    (lambda: td.edit_concept(model, concept, text, pos="he", magnitudes=[1], layers=[1.0]), "layers = [1.0]"),
    (lambda: td.edit_concept(model, concept, text, pos="he", magnitudes=[1], layers=[True]), "layers = [True]"),
    (lambda: td.edit_concept(model, "she", text, pos="he"), "a concept was expected, not str"),
    (lambda: td.fit_concepts(model, "he_she", layers=1.5), "layers = 1.5"),
    (lambda: td.fit_concepts(model, "he_she", layers=["a", 1]), "layers = ['a', 1]"),
    (lambda: concept.shift(torch.zeros(9, 24), 1, "2"), "magnitude = '2'"),
    (lambda: concept.shift(torch.zeros(9, 24), 1, numpy.ones(2)), "give a number"),
    (lambda: concept.steer(None), "magnitude = None"),
    (lambda: td.sensitivity(model, concept.objective(), text, concept=None), "a concept was expected, not NoneType"),
]:
    told = refusal(call)
    assert part in told, told
assert layers_of(numpy.arange(2)) == [0, 1] and numbers_of(torch.arange(2)) == [0.0, 1.0]
"""


def test_what_is_no_concept_or_number_is_told_without_type_checks_too(
    concept: ConceptVector, tiny_folder: Path, backend: str, tmp_path: Path
) -> None:
    """In a process of its own: the tests' own type checks would find these things first, and users have none."""
    if backend != BACKENDS[0]:
        pytest.skip("files are read alike on every backend")
    concept.save(tmp_path / "c.safetensors")
    arguments = [sys.executable, "-c", DAMAGES, str(tmp_path / "c.safetensors"), str(tiny_folder)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    for part in ("threshold = nan is not a finite number", "torch.int32 of shape (24,)", "held_out = 1.5"):
        assert part in done.stdout


# ---------------------------------------------------------------- classify


def test_classify(tiny_encoder: torch.nn.Module, concepts: ConceptVectors, tmp_path: Path) -> None:
    found = td.classify(tiny_encoder, concepts, TEXT, pos="he")
    assert [(row.layer, row.pos, row.token, row.label) for row in found.rows] == [(i, 6, "he", "he") for i in range(3)]
    she = td.classify(tiny_encoder, concepts, "the dog can see she run", pos="she")
    assert [row.label for row in she.rows] == ["she"] * 3 and all(row.value > 0 for row in she.rows)
    whole = td.classify(tiny_encoder, concepts[1], TEXT)
    assert [row.pos for row in whole.rows] == list(range(1, 8))
    values = (read(tiny_encoder, concepts[1].hook_name)[0] @ concepts[1].direction - concepts[1].threshold) / concepts[
        1
    ].scale
    assert [row.value for row in whole.rows] == pytest.approx(values[1:-1].tolist(), abs=1e-5)
    assert "he -> she at block_out" in str(whole) and "coordinate" in str(whole)
    whole.save(tmp_path / "r.json")
    assert ConceptReading.load(tmp_path / "r.json") == whole
    with says("a concept was expected, not str"):
        vectors_of("he")
    with says("the word 'she' is not in the sentence"):
        td.classify(tiny_encoder, concepts, TEXT, pos="she")


# ---------------------------------------------------------------- objectives and sensitivity


def test_the_objective_is_the_coordinate(tiny_encoder: torch.nn.Module, concept: ConceptVector) -> None:
    texts = [TEXT, "she was warm"]
    found = td.score(tiny_encoder, concept.objective(pos=2), texts)
    expected = [float(concept.coordinate(read(tiny_encoder, concept.hook_name, text))[0, 2]) for text in texts]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    goal = concept.objective(pos=2, reduce="mean")
    assert repr(goal) == "concept('he -> she', 'block_out', layer=1, pos=2, reduce='mean')"
    every = td.score(tiny_encoder, concept.objective(), TEXT)
    assert float(every) == pytest.approx(
        float(concept.coordinate(read(tiny_encoder, concept.hook_name))[0, 1:-1].max()), abs=1e-5
    )
    lowest = td.score(tiny_encoder, -concept.objective(reduce="min"), TEXT)
    assert float(lowest) == pytest.approx(
        -float(concept.coordinate(read(tiny_encoder, concept.hook_name))[0, 1:-1].min()), abs=1e-5
    )


def test_concept_to_text(tiny_encoder: torch.nn.Module, concept: ConceptVector) -> None:
    """The sentence furthest along the concept, in real tokens."""
    found = td.dream(tiny_encoder, concept.objective(pos=2), TEXT, steps=20, progress=False)
    assert found.best.score > found.start.score
    assert found.best.score == pytest.approx(
        float(td.score(tiny_encoder, concept.objective(pos=2), found.best.text)), abs=1e-4
    )


def test_sensitivity_is_the_derivative(fresh_encoder: Callable[..., torch.nn.Module], backend: str) -> None:
    model = fresh_encoder(dtype=torch.float64)
    concept = td.fit_concept(model, SETS, layer=0, **QUICK)
    goal = td.neuron("mlp_post", layer=2, unit=5, pos=3)
    texts = [TEXT, "she was warm and red", "the cat and he run"]
    found = td.sensitivity(model, goal, texts, concept=concept, pos=[2, 3])
    step = 1e-5
    base = td.score(model, goal, texts)
    model.add_hook(*concept.steer(step, pos=[2, 3]))
    moved = td.score(model, goal, texts)
    model.reset_hooks()
    assert found.values == pytest.approx(((moved - base) / step).tolist(), rel=1e-2, abs=1e-5)
    assert found.share == sum(v > 0 for v in found.values) / 3
    assert 0 <= found.interval[0] <= found.share <= found.interval[1] <= 1
    assert 0.2 < found.random_share < 0.8 and 0 < found.p_value <= 1
    assert "a natural unit on average over 3 text(s)" in str(found)
    words = td.sensitivity(model, goal, TEXT, concept=concept)
    model.add_hook(*concept.steer(step, pos=slice(1, -1)))
    moved = td.score(model, goal, TEXT)
    model.reset_hooks()
    assert words.values[0] == pytest.approx(float((moved - base[:1]) / step), rel=1e-2, abs=1e-5)


def test_a_planted_dependence_is_significant_and_its_absence_is_not(tiny_encoder: torch.nn.Module) -> None:
    concept = td.fit_concept(tiny_encoder, SETS, layer=1, **QUICK)
    along = td.sensitivity(tiny_encoder, concept.objective(pos=2), TEXT, concept=concept, pos=2)
    assert along.values == pytest.approx((1.0,), abs=1e-5) and along.p_value == pytest.approx(1 / 1001)
    across = torch.randn(24, generator=torch.Generator().manual_seed(1))
    across -= (across @ concept.direction) * concept.direction
    goal = td.direction(across, "block_out", layer=1, pos=2)
    blind = td.sensitivity(tiny_encoder, goal, TEXT, concept=concept, pos=2, random_directions=100, seed=3)
    assert abs(blind.values[0]) < 1e-3 and blind.p_value > 0.9 and blind.random_directions == 100


def test_what_sensitivity_refuses(tiny_encoder: torch.nn.Module, concepts: ConceptVectors) -> None:
    before = td.neuron("block_out", layer=0, unit=1, pos=1)
    with says("does not depend on block_out, layer 1", "behind it"):
        td.sensitivity(tiny_encoder, before, TEXT, concept=concepts[1])
    with says("random_directions = 10"):
        td.sensitivity(tiny_encoder, before, TEXT, concept=concepts[0], random_directions=10)
    with says("no text given"):
        td.sensitivity(tiny_encoder, before, [], concept=concepts[0])
    with says("the concept has the layers [0, 1, 2]", "such as concept[0]"):
        td.sensitivity(tiny_encoder, before, TEXT, concept=concepts)
    goal = concepts[1].objective(pos=2)
    alone = td.sensitivity(tiny_encoder, goal, TEXT, concept=ConceptVectors((concepts[1],)), pos=2)
    assert alone.values == td.sensitivity(tiny_encoder, goal, TEXT, concept=concepts[1], pos=2).values


# ---------------------------------------------------------------- replacing a word's activation


def test_a_replaced_activation(tiny_encoder: torch.nn.Module) -> None:
    found = td.replaced_activation(tiny_encoder, TEXT, "she", pos="he", layer=1)
    with attached(tiny_encoder) as host:
        name = host.resolve("block_out", 1)
    mine, other = read(tiny_encoder, name)[0], read(tiny_encoder, name, TEXT.replace(" he ", " she "))[0]
    assert torch.allclose(found[6], other[6], atol=1e-5)
    rest = [i for i in range(9) if i != 6]
    assert torch.allclose(found[rest], mine[rest], atol=1e-5) and not torch.allclose(mine[rest], other[rest], atol=1e-3)
    with says("is not one token of this vocabulary"):
        td.replaced_activation(tiny_encoder, TEXT, "kickshaws", pos="he", layer=1)
    with says("pos = [1, 2] is 2 positions, (1, 2)", "give one"):
        td.replaced_activation(tiny_encoder, TEXT, "she", pos=[1, 2], layer=1)
    assert torch.equal(td.replaced_activation(tiny_encoder, TEXT, "she", pos=[6], layer=1), found)
    with says("has no row of units for every position"):
        td.replaced_activation(tiny_encoder, TEXT, "she", pos="he", hook="pattern", layer=1)
