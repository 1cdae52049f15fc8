"""Every demo runs as a script, in its smoke mode, and writes its figures."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import tl_dream as td

DEMOS = sorted((Path(__file__).resolve().parents[1] / "demos").glob("[0-9][0-9]_*.py"))


def test_there_are_demos():
    assert [path.name for path in DEMOS][:2] == ["01_dream_figure_1.py", "02_annealing_figure_2.py"]


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)
def test_a_demo_is_in_percent_format(demo):
    lines = demo.read_text("utf-8").split("\n")
    assert lines[0] == "# %% [markdown]" and lines[1].startswith("# # ")
    assert "# %%" in lines


@pytest.mark.parametrize("demo", DEMOS, ids=lambda demo: demo.stem)
def test_a_demo_runs(demo, minilm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TL_DREAM_SMOKE", "1")
    monkeypatch.setenv("TL_DREAM_OUT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(td, "load_model", lambda source: {"minilm": minilm}[source])  # loaded once for all
    runpy.run_path(str(demo), run_name="__main__")
    plt.close("all")
    written = list(tmp_path.iterdir())
    assert written and all(path.stat().st_size > 10_000 for path in written if path.suffix == ".png")
    assert capsys.readouterr().out.strip()
