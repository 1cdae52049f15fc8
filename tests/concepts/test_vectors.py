"""A concept in use: shifts, hooks, files, classification and sensitivity, each against plain arithmetic."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import BACKENDS, says
from tests.support.concepts import QUICK, SENTENCE, SETS, read
from tl_dream.concepts.vectors import ConceptVector


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


def test_steering_and_erasing_are_transformer_lens_hooks(
    fresh_encoder: Callable[..., torch.nn.Module], concept: ConceptVector
) -> None:
    model = fresh_encoder()
    before = read(model, concept.hook_name)
    model.add_hook(*concept.steer(2.0, pos=[1, 6]))
    assert torch.equal(read(model, concept.hook_name), concept.shift(before, [1, 6], 2.0))
    behind = td.score(model, td.neuron("block_out", layer=2, unit=0, pos=3), SENTENCE)
    model.reset_hooks()
    assert behind != td.score(model, td.neuron("block_out", layer=2, unit=0, pos=3), SENTENCE)
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


DAMAGES = """
import json, sys
import numpy, torch
from safetensors import safe_open
from safetensors.torch import save_file
import tl_dream as td
from tl_dream import DreamError
from tl_dream._arguments import finite_numbers, layers_of

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
    assert path in told and sum(map(told.count, ("damaged", "holds no vector", "is no number"))) == 1, (damage, told)
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
assert layers_of(numpy.arange(2)) == [0, 1] and finite_numbers("magnitude", torch.arange(2), "a number") == [0.0, 1.0]
"""


def test_what_is_no_concept_or_number_is_told_without_type_checks_too(
    concept: ConceptVector,
    tiny_folder: Path,
    backend: str,
    tmp_path: Path,
    unchecked: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if backend != BACKENDS[0]:
        pytest.skip("files are read alike on every backend")
    concept.save(tmp_path / "c.safetensors")
    monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "c.safetensors"), str(tiny_folder)])
    exec(DAMAGES, {})
    told = capsys.readouterr().out
    for part in ("NaN is no number", "torch.int32 of shape (24,)", "held_out = 1.5"):
        assert part in told


def test_the_objective_is_the_coordinate(tiny_encoder: torch.nn.Module, concept: ConceptVector) -> None:
    texts = [SENTENCE, "she was warm"]
    found = td.score(tiny_encoder, concept.objective(pos=2), texts)
    expected = [float(concept.coordinate(read(tiny_encoder, concept.hook_name, text))[0, 2]) for text in texts]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)
    goal = concept.objective(pos=2, reduce="mean")
    assert repr(goal) == "concept('he -> she', 'block_out', layer=1, pos=2, reduce='mean')"
    every = td.score(tiny_encoder, concept.objective(), SENTENCE)
    assert float(every) == pytest.approx(
        float(concept.coordinate(read(tiny_encoder, concept.hook_name))[0, 1:-1].max()), abs=1e-5
    )
    lowest = td.score(tiny_encoder, -concept.objective(reduce="min"), SENTENCE)
    assert float(lowest) == pytest.approx(
        -float(concept.coordinate(read(tiny_encoder, concept.hook_name))[0, 1:-1].min()), abs=1e-5
    )
