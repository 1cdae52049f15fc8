"""The room results.reconstructions."""

import subprocess
import sys

import tl_dream as td

NUMBERS = """
import sys, numpy, torch
import tl_dream as td

wide = {"rivals": numpy.int64(4), "budget": numpy.int64(300), "starts": torch.tensor(1)}
result = td.reconstruct(td.load_model(sys.argv[1]), "i do see the sun", layer=0, progress=False, **wide)
result.save(sys.argv[2])
assert {type(result.settings[name]) for name in wide} == {int}, result.settings
"""


def test_numbers_of_any_kind_are_saved_as_plain_ones(tiny_folder, tmp_path):
    """JSON has no room for numpy's, and the search would be lost. (Apart, since types are checked in here.)"""
    file = tmp_path / "result.json"
    done = subprocess.run(
        [sys.executable, "-c", NUMBERS, str(tiny_folder), str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert td.Reconstruction.load(file).settings["budget"] == 300
