"""The manifest tells one sweep from another, and leaves what is not its own alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tl_dream.models import attached, model_hash, versions
from tl_dream.sweeps import manifest
from tl_dream.sweeps.jobs import jobs_of
from tl_dream.sweeps.kinds import Dreams, Portraits
from tl_dream.sweeps.manifest import folder_of, keep_manifest, make_manifest, read_manifest, sweep_id

KIND = Dreams(budget=500, allowed="ascii")
CORPUS = {"name": "the texts given", "lines": 3, "digest": "abc", "sentences": 10}


def made(model: torch.nn.Module, pattern: Any = "mlp_post:0:1-3", **changes: object) -> dict[str, object]:
    with attached(model) as host:
        kind = changes.get("kind") or replace(KIND, **{k: v for k, v in changes.items() if k in vars(KIND)})
        jobs = jobs_of(host, kind, pattern, None, range(2))
        return dict(make_manifest(host, jobs, kind, changes.get("corpus", CORPUS), changes.get("prompt")))


def hashed(model: torch.nn.Module) -> str:
    with attached(model) as host:
        return model_hash(host)


def test_the_hash_is_of_what_a_model_computes_with(fresh_every: Callable[..., torch.nn.Module]) -> None:
    first, model = hashed(fresh_every()), fresh_every()
    assert hashed(model) == first
    model.hook_dict[next(iter(model.hook_dict))].add_hook(lambda activation, hook: None)
    model.train()
    model.tokenizer(["a dog"], padding="max_length", max_length=7)
    assert hashed(model) == first
    hashes = {first, hashed(fresh_every(torch.float64))}
    for parameter in list(model.parameters())[::5]:
        with torch.no_grad():
            parameter[(0,) * parameter.ndim] += 1e-3
        hashes.add(hashed(model))
    assert len(hashes) == 2 + len(list(model.parameters())[::5])
    model.tokenizer.add_tokens(["kickshaws"])
    assert hashed(model) not in hashes
    assert hashed(fresh_every(torch.bfloat16)) not in hashes


def test_two_processes_load_one_model(tiny_checkpoint: Callable[..., Path], backend: str) -> None:
    """The heads that a checkpoint lacks as well."""
    folder = str(tiny_checkpoint("BertModel"))
    first = td.load_model(folder, backend=backend)
    torch.rand(3)
    assert hashed(td.load_model(folder, backend=backend)) == hashed(first)


def test_it_is_kept_and_read(encoder: torch.nn.Module, tmp_path: Path) -> None:
    one = made(encoder)
    keep_manifest(tmp_path, one)
    assert read_manifest(tmp_path) == json.loads(json.dumps(one))
    assert one["versions"].keys() == {"tl-dream", "transformer-lens", "transformers", "torch"}
    content = (tmp_path / "manifest.json").read_bytes()
    assert keep_manifest(tmp_path, made(encoder)) == read_manifest(tmp_path)
    moved = made(encoder, corpus={**CORPUS, "name": "the same, elsewhere"})
    moved["model"] = {**moved["model"], "name": "scratch/bert (HookedEncoder)"}
    assert keep_manifest(tmp_path, moved) == read_manifest(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == content
    assert sweep_id(one) == sweep_id(read_manifest(tmp_path)) == sweep_id(made(encoder, corpus={**CORPUS, "name": "x"}))


CHANGES = {
    "budget was 500 and is 600": {"budget": 600},
    "method was 'auto' and is 'gcg'": {"method": "gcg"},
    "method was 'auto' and is 'Annealing'": {"method": td.Annealing(steps=7)},
    "allowed was 'ascii' and is 'no_special'": {"allowed": "no_special"},
    "corpus's digest was 'abc' and is 'abd'": {"corpus": {**CORPUS, "digest": "abd"}},
    "corpus's sentences was 10 and is 4": {"corpus": {**CORPUS, "sentences": 4}},
    "its prompt was None and is 'the dog'": {"corpus": None, "prompt": "the dog"},
    "it has 6 jobs, not 8 (new: mlp_post:0:4@0, mlp_post:0:4@1)": {"pattern": "mlp_post:0:1-4"},
    "it is of dreams, not of portraits": {"kind": Portraits(budget=500, allowed="ascii")},
    "gone: mlp_post:0:1@0": {"pattern": "mlp_post:0:2-3"},
    "its jobs are others (in another order)": {"pattern": "mlp_post:0:2-3,1"},
}


@pytest.mark.parametrize("told", CHANGES)
def test_another_sweep_is_refused_and_left(encoder: torch.nn.Module, tmp_path: Path, told: str) -> None:
    keep_manifest(tmp_path, made(encoder))
    content = (tmp_path / "manifest.json").read_bytes()
    other = made(encoder, **CHANGES[told])
    with says("holds another sweep", told, "Give another folder"):
        keep_manifest(tmp_path, other)
    assert (tmp_path / "manifest.json").read_bytes() == content
    assert sweep_id(other) != sweep_id(made(encoder))


def test_one_setting_of_a_method_is_told(encoder: torch.nn.Module, tmp_path: Path) -> None:
    keep_manifest(tmp_path, made(encoder, method=td.Annealing(steps=7)))
    with says("left untouched: its method's steps was 7 and is 8. Give"):
        keep_manifest(tmp_path, made(encoder, method=td.Annealing(steps=8)))


def test_another_direction_of_the_same_name_is_refused(encoder: torch.nn.Module, tmp_path: Path) -> None:
    def of(vector: torch.Tensor) -> dict[str, object]:
        return made(encoder, [(td.direction(vector, "block_out", layer=1, name="mine"), "the dog")])

    vector = torch.linspace(-1, 1, 24)
    keep_manifest(tmp_path, of(vector))
    keep_manifest(tmp_path, of(vector * (1 + 1e-6)))  # found anew, it is rounded otherwise
    with says("2 of its jobs hold other numbers, a direction or a target (direction(mine, 'block_out', layer=1) from"):
        keep_manifest(tmp_path, of(vector.flip(0)))


def test_another_model_or_version_is_refused(
    fresh_encoder: Callable[..., torch.nn.Module], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = fresh_encoder()
    keep_manifest(tmp_path, made(model))
    with torch.no_grad():
        next(model.parameters())[0, 0] += 1
    with says("model's hash was"):
        keep_manifest(tmp_path, made(model))
    monkeypatch.setattr(manifest, "versions", lambda: versions() | {"torch": "0.0.1"})
    with says("version of torch was", "and is '0.0.1'"):
        keep_manifest(tmp_path, made(fresh_encoder()))


def test_a_folder_of_something_else_is_left(encoder: torch.nn.Module, tmp_path: Path) -> None:
    for name in (".lock", "starts.checkpoint", ".tl_dream-x.part"):  # left by a sweep that was killed at its start
        (tmp_path / name).touch()
    keep_manifest(tmp_path, made(encoder))
    for name in ("thesis.tex", "worker-0.jsonl", "starts.jsonl"):
        folder = tmp_path / name.split(".")[0]
        folder.mkdir()
        (folder / name).touch()
        with says(name, "holds other files", "give an empty folder", "put its manifest.json back"):
            keep_manifest(folder, made(encoder))
        assert [path.name for path in folder.iterdir()] == [name]


def test_none_or_a_broken_one(tmp_path: Path) -> None:
    with says("None is no folder"):
        folder_of(None)
    with says("is not a folder"):
        read_manifest(tmp_path / "none")
    with says("there is no sweep in"):
        read_manifest(tmp_path)
    file = tmp_path / "manifest.json"
    whole: dict[str, Any] = {"kind": "sweep", "version": 1, "versions": {}, "model": {}, "settings": {}, "corpus": None}
    for content, told in {
        "": "can't read",
        "{": "can't read",
        "[]": "holds None",
        '{"kind": "dream", "version": 1}': "'dream'",
        '{"kind": "sweep", "version": 9}': "version 9",
        '{"kind": "sweep", "version": 1, "model": {}}': "its versions, settings, corpus, jobs are missing",
        json.dumps({**whole, "jobs": [3]}): "its jobs are missing or wrong",
        json.dumps({**whole, "jobs": [{"key": 3}]}): "its jobs are missing or wrong",
        json.dumps({**whole, "jobs": [], "corpus": [1]}): "its corpus are missing or wrong",
    }.items():
        file.write_text(content)
        for meets in (lambda: read_manifest(tmp_path), lambda: keep_manifest(tmp_path, whole)):
            with says(told, f"the manifest of the sweep in {str(tmp_path)!r}", "put it back from a copy"):
                meets()
