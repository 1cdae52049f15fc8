"""The room objectives.preactivations."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import tl_dream as td
from tests.conftest import BACKENDS, PLANTS, VOCAB
from tests.support.search import EVERY_METHOD, START


@pytest.fixture(scope="module")
def relu(planted_folder: Path, backend: str, tmp_path_factory: pytest.TempPathFactory) -> torch.nn.Module:
    """The planted encoder with `relu` for its activation function, its planted units below zero but for their token."""
    folder = Path(shutil.copytree(planted_folder, tmp_path_factory.mktemp("relu") / "model"))
    config = json.loads((folder / "config.json").read_text())
    if backend == "bridge":  # of a HookedEncoder only the blocks can have it
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


@pytest.mark.parametrize(
    ("backend", "method"),
    [*((BACKENDS[0], method) for method in EVERY_METHOD), *((other, "auto") for other in BACKENDS[1:])],
    indirect=["backend"],
    scope="session",
)
def test_a_unit_without_a_slope_fires(relu: torch.nn.Module, method: str) -> None:
    """relu has none where the unit is off; the best single word is known by trying all."""
    plant = PLANTS[0]
    goal = td.neuron("mlp_post", layer=plant.layer, unit=plant.unit, pos=3)
    texts = [f"i do {word} the sun" for word in VOCAB if word.isalpha() and len(word) > 2]
    scores = td.score(relu, goal, texts)
    start = texts[int(scores.argmin())]
    assert scores.min() == 0.0
    options = {"method": td.Annealing(steps=60)} if method == "anneal" else {"method": method, "budget": 4000}
    found = td.dream(relu, goal, start, free=[3], **options)
    assert found.start.score == 0.0 and found.fired and found.best.tokens[3] == plant.token
    assert found.best.score == pytest.approx(td.score(relu, goal, found.best.text).item(), abs=1e-5)
    assert "never fired" not in str(found)


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_unit_in_the_left_tail_of_gelu_fires(encoder: torch.nn.Module, method: str) -> None:
    """From a start where GELU's slope leads away from the top."""
    off = 0
    for unit in range(40):
        goal = td.neuron("mlp_post", layer=1, unit=unit, pos=2)
        before = td.score(encoder, td.neuron("mlp_pre", layer=1, unit=unit, pos=2), START).item()
        if before > -1 or off == 1:
            continue
        off += 1
        options = {"method": td.Annealing(steps=60)} if method == "anneal" else {"method": method, "budget": 3000}
        found = td.dream(encoder, goal, START, **options)
        assert found.fired and found.best.score > 0.1, (unit, before, found.best)
    assert off == 1


def test_a_unit_that_can_not_fire_says_so(tiny_folder: Path) -> None:
    model = td.load_model(str(tiny_folder))
    with torch.no_grad():
        next(value for name, value in model.named_parameters() if value.shape == (40,)).fill_(-100.0)
    goal = td.neuron("mlp_post", layer=0, unit=3, pos=2)
    found = td.dream(model, goal, START, budget=3000)
    assert found.fired is False and "never fired" in str(found)
    assert td.Dream.from_json(found.to_json()).fired is False
    plain = td.dream(model, td.neuron("block_out", layer=0, unit=3, pos=2), START, budget=500)
    assert plain.fired is None and "never fired" not in str(plain)
