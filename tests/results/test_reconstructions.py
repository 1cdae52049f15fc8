"""The room results.reconstructions."""

from pathlib import Path

import numpy
import torch

import tl_dream as td


def test_numbers_of_any_kind_are_saved_as_plain_ones(encoder: torch.nn.Module, unchecked: None, tmp_path: Path) -> None:
    """JSON has no room for numpy's, and the search would be lost."""
    wide = {"rivals": numpy.int64(4), "budget": numpy.int64(300), "starts": torch.tensor(1)}
    result = td.reconstruct(encoder, "i do see the sun", layer=0, progress=False, **wide)
    assert {type(result.settings[name]) for name in wide} == {int}, result.settings
    result.save(tmp_path / "result.json")
    assert td.Reconstruction.load(tmp_path / "result.json").settings["budget"] == 300
