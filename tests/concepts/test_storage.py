"""The room concepts.storage."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tl_dream as td
from tests.conftest import says
from tests.support.concepts import SENTENCE
from tests.support.hostile import COMPACT, damage
from tl_dream.concepts import storage
from tl_dream.concepts.vectors import ConceptVector, ConceptVectors


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


def test_a_file_of_before_carrying_was_measured_is_read(
    concept: ConceptVector, tiny_encoder: torch.nn.Module, tmp_path: Path
) -> None:
    path = tmp_path / "c.safetensors"
    concept.save(path)
    with safe_open(path, "pt") as file:
        data = json.loads(file.metadata()["tl_dream"])
    assert data["vectors"][0]["evidence"].pop("carrying")["pairs"] == 12
    save_file(load_file(path), path, {"tl_dream": json.dumps(data)})
    old = ConceptVector.load(path, tiny_encoder)
    assert old.evidence == replace(concept.evidence, carrying=None) and "carried over" not in str(old)
    found = td.edit_concept(tiny_encoder, old, SENTENCE, pos="he", width=1)
    assert [row.magnitude for row in found.rows] == [-2, -1, 0, 1, 2]


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


ODD = [
    lambda x: 2 * x,
    lambda x: x * torch.nan,
    lambda x: x[:-1],
    lambda x: x[None],
    lambda x: x[0],
    lambda x: x.long(),
    lambda x: x.double(),
    lambda x: x.to(torch.float8_e5m2),
    lambda x: torch.zeros(0),
]


@COMPACT
@given(choices=st.data())
def test_a_damaged_file_is_refused_or_can_be_used(
    concepts: ConceptVectors, tmp_path: Path, choices: st.DataObject
) -> None:
    path = tmp_path / "c.safetensors"
    ConceptVectors(concepts.vectors[:2]).save(path)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["tl_dream"])
    what = choices.draw(st.sampled_from(["header", "tensor", "bytes"]))
    if what == "bytes":
        content = bytearray(path.read_bytes())
        at = choices.draw(st.integers(0, len(content) - 1))
        path.write_bytes(content[:at] if choices.draw(st.booleans()) else content[:at] + b"\xff" + content[at + 1 :])
    else:
        if what == "tensor":
            name = choices.draw(st.sampled_from(sorted(tensors)))
            tensors[name] = choices.draw(st.sampled_from(ODD))(tensors[name])
        else:
            damage(choices.draw, header)
        save_file(tensors, path, {"tl_dream": json.dumps(header)})
    try:
        loaded = ConceptVectors.load(path)
    except td.DreamError:
        return
    assert str(loaded)
    for vector in loaded:
        assert vector.coordinate(vector.shift(torch.zeros(3, vector.width), 1, 0.5)).isfinite().all()
    loaded.save(path)
    assert str(ConceptVectors.load(path)) == str(loaded)


def test_what_no_concept_file_holds(concept: ConceptVector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.safetensors"
    concept.save(path)
    tensors = load_file(path)
    save_file(tensors, path, {"tl_dream": '{"a": ' + "[" * 100_000})
    with says("is not a concept file (safetensors): its parts stand too deep in each other"):
        ConceptVector.load(path)
    concept.save(path)
    monkeypatch.setattr(storage, "LARGEST", 1000)
    with says("bytes: a concept of any model has less than 1,000"):
        ConceptVector.load(path)


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
    before = td.classify(model, concepts, SENTENCE, pos=6)
    model.add_hook(*ConceptVector.load(tmp_path / "c.safetensors", model, layer=1).steer(2.0, pos=6))
    after = td.classify(model, loaded, SENTENCE, pos=6)
    model.reset_hooks()
    assert [b.value - a.value for a, b in zip(before.rows[:2], after.rows, strict=False)] == pytest.approx(
        [0, 2], abs=1e-4
    )
