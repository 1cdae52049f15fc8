"""The room results.layers."""

import json

from tests.conftest import says
from tl_dream.results.layers import LayerReconstructions
from tl_dream.results.reconstructions import Reconstruction


def test_results_come_back_from_their_files(layers, tmp_path):
    layers.save(tmp_path / "layers.json")
    assert LayerReconstructions.load(tmp_path / "layers.json") == layers
    data = json.loads((tmp_path / "layers.json").read_text())
    *_, good, poor = str(layers).splitlines()
    assert " yes " in good and " no " in poor
    keys = {"layer", "text", "tokens", "right", "total", "exact", "certified", "loss", "seconds"}
    assert keys <= set(data["layers"][0]) and data["layers"][0]["text"] == "the red dog was old."
    one = layers.layers[1]
    one.save(tmp_path / "one.json")
    assert Reconstruction.load(tmp_path / "one.json") == one
    with says("'reconstruction', not a 'layer_reconstructions' result"):
        LayerReconstructions.load(tmp_path / "one.json")
    data["layers"][0].pop("certificate")
    with says("not a whole"):
        LayerReconstructions.from_json(data)
