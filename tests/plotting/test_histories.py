"""The figures show exactly the numbers and tokens of the result; wrong requests are told."""

import math
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes

from tests.support.plotting import (
    FREE,
    assert_nothing_is_cut_or_covered,
    bars,
    made_dream,
    made_history,
    panel,
    words,
)
from tl_dream import DreamError, plotting
from tl_dream.results.dreams import Dream, History


def line(ax: Axes, label: str) -> tuple[list[float], list[float]]:
    (found,) = [item for item in ax.get_lines() if item.get_label() == label]
    return [float(x) for x in found.get_xdata()], [float(y) for y in found.get_ydata()]


def test_the_lines_are_the_history():
    dream = made_dream()
    ax = plotting.dream_history(dream)
    score, temperature = panel(ax, "score"), panel(ax, "temperature")
    steps = [float(step) for step in dream.history.step]
    assert line(score, "soft sentence") == (steps, list(dream.history.soft_score))
    assert line(score, "real tokens") == (steps, list(dream.history.hard_score))
    assert line(temperature, "temperature") == (steps, list(dream.history.temperature))
    assert line(score, "start")[1] == [0.5, 0.5]
    assert line(score, "best real tokens") == ([float(dream.best.step)], [dream.best.score])
    assert score.get_ylabel() == "score" and temperature.get_ylabel() == "temperature"
    assert temperature.get_xlabel() == "step"


def test_another_run_can_be_drawn():
    dream = made_dream()
    ax = plotting.dream_history(dream, run=1)
    assert line(panel(ax, "score"), "real tokens")[1] == [0.5, 0.25, 0.0]
    for run in (2, -1):
        with pytest.raises(DreamError, match=f"run {run} does not exist: this dream has runs 0 to 1"):
            plotting.dream_history(dream, run=run)


def test_a_history_without_records_is_told():
    empty = History((), (), (), FREE)
    with pytest.raises(DreamError, match="the history holds no record"):
        plotting.dream_history(made_dream(empty))
    with pytest.raises(DreamError, match="the history holds no record"):
        plotting.annealing(made_dream(empty), 2)


def test_one_record_and_scores_that_are_no_numbers_can_be_drawn():
    plotting.dream_history(made_dream(made_history(1))).figure.canvas.draw()
    history = made_history(4)
    broken = replace(history, hard_score=(1.0, math.nan, math.inf, 0.5), soft_score=(math.nan,) * 4)
    ax = plotting.dream_history(replace(made_dream(history), history=broken))
    ax.figure.canvas.draw()
    assert np.isnan(line(panel(ax, "score"), "soft sentence")[1]).all()


def test_a_method_without_a_temperature_has_no_such_panel():
    bare = replace(made_history(4), temperature=(math.nan,) * 4, top_tokens=((),) * 4, top_weights=((),) * 4)
    dream = made_dream(bare)
    ax = plotting.dream_history(dream)
    ax.figure.canvas.draw()
    assert "temperature" not in [other.get_label() for other in ax.figure.axes]
    assert panel(ax, "score").get_xlabel() == "step"
    with pytest.raises(DreamError, match=r"no softmax to draw: .* Dream with method=td.Annealing\(...\)"):
        plotting.annealing(dream)


def test_one_panel_shows_both_scores_and_the_temperature():
    """On an axis of its own, at the right; and so it is where there is no room for the table."""
    dream = made_dream()
    ax = plotting.dream_history(dream, tokens=False)
    assert_nothing_is_cut_or_covered(ax)
    score, temperature = panel(ax, "score"), panel(ax, "temperature")
    assert "tokens" not in [other.get_label() for other in ax.figure.axes]
    assert line(score, "soft sentence")[1] == list(dream.history.soft_score)
    assert line(score, "real tokens")[1] == list(dream.history.hard_score)
    assert line(temperature, "temperature")[1] == list(dream.history.temperature)
    assert score.get_position().bounds == temperature.get_position().bounds
    assert temperature.yaxis.get_label_position() == "right"
    named = [text.get_text() for text in panel(ax, "legend").get_legend().get_texts()]
    assert named == ["soft sentence", "real tokens", "start", "best real tokens", "temperature"]
    _, (left, right) = plt.subplots(1, 2, figsize=(6, 3), layout="constrained")
    labels = [other.get_label() for other in plotting.dream_history(dream, ax=left).figure.axes]
    assert "tokens" not in labels and "temperature" in labels


def labels(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_the_bars_are_the_softmax():
    dream = made_dream()
    ax = plotting.annealing(dream, 2, steps=[0, 100], k=3)
    for step, record in ((0, 0), (100, 20)):
        cell = panel(ax, f"step {step}")
        shown = 3 if step == 0 else 1  # at the last step the other two weigh nothing
        assert labels(cell) == list(dream.history.top_tokens[record][1][:shown])
        assert bars(cell) == pytest.approx(dream.history.top_weights[record][1][:shown])
        assert f"temperature {dream.history.temperature[record]:.2g}" in cell.get_title()
        assert cell.get_xlim() == (0, 1) and cell.get_xlabel() == "softmax weight"
    legend = panel(ax, "legend").get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["start: red", "last: cold"]
    first, last = panel(ax, "step 0").patches[0], panel(ax, "step 100").patches[0]
    assert first.get_hatch() != last.get_hatch() and first.get_hatch() and last.get_hatch()
    assert_nothing_is_cut_or_covered(ax)


def test_tokens_without_weight_have_no_bar():
    history = made_history(2)
    weights = (((0.5, 0.5, 0.0),) * 6, ((1.0, 0.0, 0.0),) * 6)
    ax = plotting.annealing(made_dream(replace(history, top_weights=weights)), 2)
    assert labels(panel(ax, "step 0")) == ["red", "other"] and labels(panel(ax, "step 5")) == ["cold"]
    assert panel(ax, "step 0").get_ylim() == panel(ax, "step 5").get_ylim()


def test_a_word_that_stays_is_told_so():
    legend = panel(plotting.annealing(made_dream(), "sees", k=1), "legend").get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["last: sees (the start's own)"]


def test_positions_by_number_from_the_end_or_by_word():
    dream = made_dream()
    for pos in (3, -5, "dog"):
        title = words(panel(plotting.annealing(dream, pos, k=1), "title"))[0]
        assert title.startswith("softmax at position 3:")


@pytest.mark.parametrize(
    ("pos", "message"),
    [
        (0, r"position 0 \(\[CLS\]\) was not free in this run; the free positions are: 1 the, 2 red"),
        (-1, r"position 7 \(\[SEP\]\) was not free"),
        (8, "position 8 is outside the sentence of 8 tokens"),
        (-9, "position -9 is outside the sentence of 8 tokens"),
        ("the", "the word 'the' is in the sentence 2 times, at positions 1, 5"),
        ("dogs", "unknown word 'dogs'; nearest: dog"),
    ],
)
def test_wrong_positions_are_told(pos, message):
    with pytest.raises(DreamError, match=message):
        plotting.annealing(made_dream(), pos)


def test_wrong_steps_and_counts_are_told():
    dream = made_dream()
    with pytest.raises(DreamError, match="step 7 was not recorded; nearest: 0, 5, 10, 15"):
        plotting.annealing(dream, 2, steps=[0, 7])
    with pytest.raises(DreamError, match="no step given"):
        plotting.annealing(dream, 2, steps=[])
    for k in (0, 4):
        with pytest.raises(DreamError, match=f"k = {k}: this run's history keeps the 3 most likely"):
            plotting.annealing(dream, 2, k=k)
    with pytest.raises(DreamError, match="run 5 does not exist"):
        plotting.annealing(dream, 2, run=5)


def test_steps_of_its_own_choice_follow_the_settling():
    history = made_history(41)
    drawn = plotting.annealing(made_dream(history), 2, k=2)
    steps = [int(a.get_label()[5:]) for a in drawn.figure.axes if a.get_label().startswith("step ")]
    assert steps == [0, 50, 100, 150, 200]
    quick = tuple(((0.3, 0.2, 0.1),) * 6 if i < 10 else ((1.0, 0.0, 0.0),) * 6 for i in range(41))
    tokens = ((("cold", "other", "third"),) * 6,) * 41
    drawn = plotting.annealing(made_dream(replace(history, top_weights=quick, top_tokens=tokens)), 2, k=2)
    steps = [int(a.get_label()[5:]) for a in drawn.figure.axes if a.get_label().startswith("step ")]
    assert len(steps) == 5 and steps[0] == 0 and steps[-2:] == [50, 200]


def test_many_steps_go_on_in_a_second_row():
    ax = plotting.annealing(made_dream(), 1, steps=[0, 5, 10, 15, 20, 25, 30], k=2)
    assert_nothing_is_cut_or_covered(ax)
    tops = {round(panel(ax, f"step {step}").get_position().y1, 3) for step in (0, 5, 10, 15, 20, 25, 30)}
    assert len(tops) == 2


def test_a_real_dream_is_drawn(encoder):
    import tl_dream as td

    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    dream = td.dream(
        encoder, goal, "the red dog sees the sun", method=td.Annealing(steps=20, evaluate_every=2), starts=2
    )
    ax = plotting.dream_history(dream)
    assert line(panel(ax, "score"), "real tokens")[1] == list(dream.history.hard_score)
    assert_nothing_is_cut_or_covered(ax)
    assert_nothing_is_cut_or_covered(plotting.annealing(dream, "dog"))
    plotting.dream_history(Dream.from_json(dream.to_json()), run=1)
