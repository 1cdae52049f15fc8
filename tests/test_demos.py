"""Every demo runs as a script, in its smoke mode, and writes its figures."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

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


LINES = [  # what people write: no line of it fires the unit of the demos as a dream does
    "The nation was at war , and the national assembly met every day .",
    "He wrote a paper on national defence .",
    "The Washington Post reported growing resentment in the nation towards the United States .",
    "In the early years of the 20th century there was no such office .",
]


def _above_the_corpus(demo: dict[str, Any], *dreams: td.Dream) -> None:
    corpus = td.corpus_search(demo["bert"], td.neuron("block_out", layer=2, unit=291), LINES, progress=False).top[0]
    for dream in dreams:
        assert dream.best.score > max(corpus.score, dream.start.score) + 0.8, (dream.best, corpus)


def _figure_1(demo: dict[str, Any]) -> None:
    _above_the_corpus(demo, demo["found"])
    assert demo["found"].best.score > demo["result"].best.score >= demo["result"].start.score


def _figure_5(demo: dict[str, Any]) -> None:
    assert all(layer.right == layer.total and layer.certified for layer in demo["layers"].layers)
    assert demo["nearest"].loss > 0


def _figure_6(demo: dict[str, Any]) -> None:
    assert all(evidence.accuracy > 0.95 for evidence in demo["concepts"].evidence)
    moved = [row for row in demo["edit"].rows if row.control is None and row.magnitude == 1.25]
    assert moved and all("she" in row.tokens and "doctor" in row.tokens for row in moved)
    assert not any("she" in row.tokens for row in demo["edit"].rows if row.control == "random")


def _searches(demo: dict[str, Any]) -> None:
    _above_the_corpus(demo, *demo["dreams"]["auto"])
    judge, best = demo["judge"], demo["dreams"]["auto"][0].best.text
    fluent, plain = td.score(demo["bert"], judge, [demo["readable"].best.text, best])
    assert fluent > plain  # more readable than without the judge


def _portrait(demo: dict[str, Any]) -> None:
    assert demo["ours"].best.score > max(demo["article"].best.score, demo["page"].corpus.top[0].score)


GOOD = {"01": _figure_1, "05": _figure_5, "06": _figure_6, "07": _searches, "08": _portrait}
"""What must come of a demo, by its number: that it does what it says, not only that it runs. It takes its time."""

RUNS = [pytest.param(demo, marks=[pytest.mark.slow] if demo.stem[:2] in GOOD else []) for demo in DEMOS]


@pytest.mark.parametrize("demo", RUNS, ids=lambda demo: demo.stem)
def test_a_demo_runs_and_its_results_are_good(demo, minilm, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TL_DREAM_SMOKE", "1")
    monkeypatch.setenv("TL_DREAM_OUT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(td, "load_model", lambda source: {"minilm": minilm}[source])  # loaded once for all
    made = runpy.run_path(str(demo), run_name="__main__")
    plt.close("all")
    written = list(tmp_path.iterdir())
    assert written and all(path.stat().st_size > 10_000 for path in written if path.suffix == ".png")
    assert capsys.readouterr().out.strip()
    GOOD.get(demo.stem[:2], lambda made: None)(made)
