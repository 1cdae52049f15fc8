"""The figures show exactly the numbers and tokens of the result; wrong requests are told."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from tl_dream import DreamError, plotting
from tl_dream.results import Cost, Dream, History, Run, ScoredText

START = ("[CLS]", "the", "red", "dog", "sees", "the", "sun", "[SEP]")
FREE = (1, 2, 3, 4, 5, 6)
FINAL = ("[CLS]", "the", "cold", "moon", "sees", "a", "river", "[SEP]")


def made_history(records: int = 21, every: int = 5, start: tuple[str, ...] = START) -> History:
    """A run that goes from START to FINAL half way, its weights rising from 0.25 to 1."""
    step = tuple(every * i for i in range(records))
    share = [i / max(1, records - 1) for i in range(records)]
    final = tuple(FINAL[i] if i < len(FINAL) else "moon" for i in range(len(start) - 1)) + ("[SEP]",)
    tokens = tuple(final if s >= 0.5 else start for s in share)
    heavy = [0.25 + 0.75 * s for s in share]
    free = tuple(range(1, len(start) - 1))
    return History(
        step=step,
        temperature=tuple(2.0 - 1.5 * s for s in share),
        soft_score=tuple(4.0 - s for s in share),
        hard_score=tuple(1.0 + math.sin(5 * s) for s in share),
        tokens=tokens,
        weights=tuple((1.0, *[w] * len(free), 1.0) for w in heavy),
        top_tokens=tuple(tuple((row[i], "other", "third") for i in free) for row in tokens),
        top_weights=tuple(tuple((w, 0.75 * (1 - w), 0.25 * (1 - w)) for _ in free) for w in heavy),
        free=free,
    )


def made_dream(history: History | None = None) -> Dream:
    history = made_history() if history is None else history
    at = max(range(len(history)), key=lambda i: history.hard_score[i]) if len(history) else None
    start = history.tokens[0] if len(history) else START
    begin = ScoredText(" ".join(start[1:-1]), start, tuple(range(len(start))), 0.5)
    best = begin
    if at is not None:
        tokens = history.tokens[at]
        best = ScoredText(" ".join(tokens), tokens, begin.ids, history.hard_score[at], history.step[at])
    other = Run(begin, begin, 1.0, replace(made_history(3), hard_score=(0.5, 0.25, 0.0)))
    return Dream(
        model="tiny (HookedEncoder)",
        objective="neuron('block_out', layer=1, unit=3, pos=2)",
        prompt={"text": begin.text, "free": list(FREE)},
        settings={},
        seed=0,
        start=begin,
        best=best,
        soft_score=4.0,
        history=history,
        cost=Cost(10, 100, 1.0),
        others=(other,),
    )


@pytest.fixture(autouse=True)
def no_figure_left():
    yield
    plt.close("all")


def panel(ax: Axes, label: str) -> Axes:
    (found,) = [other for other in ax.figure.axes if other.get_label() == label]
    return found


def line(ax: Axes, label: str) -> tuple[list[float], list[float]]:
    (found,) = [item for item in ax.get_lines() if item.get_label() == label]
    return [float(x) for x in found.get_xdata()], [float(y) for y in found.get_ydata()]


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def assert_nothing_is_cut_or_covered(ax: Axes) -> None:
    """Every text lies inside the figure, and no two texts of one panel overlap."""
    figure = ax.figure
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    for axes in figure.axes:
        texts = [*axes.texts, axes.title]
        if axes.axison:
            texts += [axes.xaxis.label, axes.yaxis.label]
        boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
        for box in boxes:
            assert box.x0 >= -1 and box.y0 >= -1, axes.get_label()
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, axes.get_label()
        for i, one in enumerate(boxes):
            for two in boxes[:i]:
                apart = one.x1 <= two.x0 + 1 or two.x1 <= one.x0 + 1 or one.y1 <= two.y0 + 1 or two.y1 <= one.y0 + 1
                assert apart, f"two texts overlap in the panel {axes.get_label()!r}"


# ---------------------------------------------------------------- Figure 1


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


def test_the_table_shows_start_steps_and_best():
    dream = made_dream()
    ax = plotting.dream_history(dream)
    shown = words(panel(ax, "tokens"))
    assert "start" in shown and f"★ best ({dream.best.step})" in shown
    assert {"0", "100", str(dream.best.step)} <= set(shown)  # first, last, best
    assert shown.count("red") == 1 + sum(row[2] == "red" for row in shown_rows(dream))
    assert f"{dream.best.score:.2f}" in shown and "0.50" in shown
    assert words(panel(ax, "title")) == [f"{dream.objective} on {dream.model}"]


def shown_rows(dream: Dream) -> list[tuple[str, ...]]:
    best_at = dream.history.step.index(dream.best.step)
    chosen = plotting.spread(len(dream.history), plotting.MOST_ROWS, [best_at])
    assert len(chosen) <= plotting.MOST_ROWS and {0, best_at, len(dream.history) - 1} <= set(chosen)
    return [dream.history.tokens[i] for i in chosen] + [dream.best.tokens] * (dream.best.tokens[2] == "red")


def test_changed_tokens_are_bold_new_ones_have_a_bar_and_shades_are_weights():
    history = made_history(3)  # START, FINAL, FINAL
    ax = plotting.dream_history(made_dream(history))
    table = panel(ax, "tokens")
    bold = {text.get_text() for text in table.texts if text.get_fontweight() == "bold"} - {"start"}
    assert {"cold", "moon", "a", "river"} <= bold
    assert not {"red", "dog", "the", "sees", "[CLS]"} & bold
    boxes = [patch for patch in table.patches if isinstance(patch, Rectangle) and patch.get_y() < 4]
    bars = [patch for patch in boxes if to_hex(patch.get_facecolor()).upper() == plotting.VERMILLION]
    assert len(bars) == 4  # "cold moon a river", in the row of step 5 only
    cells = [patch for patch in boxes if patch.get_height() == 1]
    assert len(cells) == 3 * len(FREE)  # fixed positions are not shaded
    tops = sorted({patch.get_y() for patch in cells})
    for top, weight in zip(tops, (0.25, 0.625, 1.0), strict=True):
        shades = {patch.get_facecolor() for patch in cells if patch.get_y() == top}
        assert shades == {plotting.WEIGHTS(weight)}


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
    with pytest.raises(DreamError, match="no softmax to draw"):
        plotting.annealing(dream, 2)


@pytest.mark.parametrize("words_", [1, 6, 14, 38])
def test_nothing_is_cut_off_whatever_the_length(words_):
    vocabulary = ("governmental", "a", "internationally", "of", "##ness", ".")
    sentence = ("[CLS]", *(vocabulary[i % 6] for i in range(words_)), "[SEP]")
    ax = plotting.dream_history(made_dream(made_history(41, start=sentence)))
    assert_nothing_is_cut_or_covered(ax)
    tables = [other for other in ax.figure.axes if other.get_label().startswith("tokens")]
    assert ax.figure.get_size_inches()[0] <= 13
    assert (len(tables) == 1) == (words_ <= 6)
    for i in range(words_ + 2):  # every position stands in one of the blocks
        assert sum(str(i) in words(table)[2:20] for table in tables) >= 1


ODD = ("[CLS]", "$x$", "$$", "東京", "தமிழ்", "antidisestablishmentarianism", "_^{", "\u200d", "%", "[SEP]")


def test_odd_tokens_are_written_out():
    ax = plotting.dream_history(made_dream(made_history(3, start=ODD)))
    assert_nothing_is_cut_or_covered(ax)  # warnings of missing glyphs are errors in there
    shown = words(panel(ax, "tokens"))
    assert {"$x$", "$$", "\\u6771\\u4eac", "antidisestablishm…", "_^{", "\\u200d"} <= set(shown)
    pos = ODD.index("$$")
    assert_nothing_is_cut_or_covered(plotting.annealing(made_dream(made_history(3, start=ODD)), pos, k=2))


def test_readable_leaves_plain_tokens_alone():
    assert [plotting.readable(t) for t in ("##ing", "Ġthe", "α", "[MASK]")] == ["##ing", "Ġthe", "α", "[MASK]"]
    assert plotting.readable("x" * 30) == "x" * 17 + "…"


# ---------------------------------------------------------------- Figure 2


def bars(ax: Axes) -> list[float]:
    return [patch.get_width() for patch in ax.patches]


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


# ---------------------------------------------------------------- a given Axes, style, files


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_a_given_axes_is_filled_and_its_neighbour_left_alone(layout):
    figure, (left, right) = plt.subplots(2, 1, figsize=(9, 8), layout=layout)
    right.plot([1, 2])
    assert plotting.dream_history(made_dream(), ax=left) is left
    figure.canvas.draw()
    place, other = left.get_position(), right.get_position()
    assert panel(left, "tokens").get_position().y0 >= place.y0 - 0.05 > other.y1 - 0.05
    assert len(right.lines) == 1 and right.axison and not left.axison
    sizes = [text.get_fontsize() for text in panel(left, "tokens").texts]
    assert 3 < min(sizes) and max(sizes) <= plotting.FONT_SIZE


def test_an_axes_put_by_hand_is_filled():
    figure = plt.figure(figsize=(12, 6))
    ax = figure.add_axes((0.1, 0.2, 0.8, 0.7))
    plotting.annealing(made_dream(), 2, k=2, ax=ax)
    figure.canvas.draw()
    box = panel(ax, "step 0").get_position()
    assert 0.1 <= box.x0 and 0.2 <= box.y0 and box.y1 <= 0.9 + 1e-6


def test_the_users_style_is_left_alone():
    before = dict(matplotlib.rcParams)
    plotting.dream_history(made_dream())
    plotting.annealing(made_dream(), 2, k=2)
    assert dict(matplotlib.rcParams) == before


def test_spread():
    assert plotting.spread(0, 5) == [] and plotting.spread(1, 5) == [0] and plotting.spread(4, 9) == [0, 1, 2, 3]
    assert plotting.spread(101, 5) == [0, 25, 50, 75, 100]
    chosen = plotting.spread(101, 6, [13])
    assert len(chosen) <= 6 and {0, 13, 100} <= set(chosen)
    assert plotting.spread(101, 1, [13]) == [0, 13, 100]  # what must be shown is shown


@pytest.mark.parametrize(("name", "magic"), [("a.png", b"\x89PNG"), ("b.PDF", b"%PDF"), ("c.svg", b"<?xml")])
def test_save_figure_writes_the_format_of_the_suffix(tmp_path, name, magic):
    plotting.save_figure(plotting.annealing(made_dream(), 2, k=2).figure, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)
    assert [path.name for path in tmp_path.iterdir()] == [name]  # no temporary file stays
    plotting.save_figure(plt.figure(), str(tmp_path / name))  # over it


def test_save_figure_tells_what_is_wrong(tmp_path: Path):
    figure = plt.figure()
    with pytest.raises(DreamError, match=r"unknown figure format '.jpeg'; nearest: .*\.png"):
        plotting.save_figure(figure, tmp_path / "a.jpeg")
    with pytest.raises(DreamError, match="unknown figure format 'picture'"):
        plotting.save_figure(figure, tmp_path / "picture")
    with pytest.raises(DreamError, match="does not exist: create it first"):
        plotting.save_figure(figure, tmp_path / "nowhere" / "a.png")
    with pytest.raises(DreamError, match="is a folder"):
        plotting.save_figure(figure, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_of_a_figure_saves_the_whole(tmp_path):
    figure = plt.figure(figsize=(9, 4))
    left, _ = figure.subfigures(1, 2)
    ax = plotting.annealing(made_dream(), 2, k=2, ax=left.subplots())
    plotting.save_figure(ax.figure, tmp_path / "a.png", dpi=50)
    assert plt.imread(tmp_path / "a.png").shape[:2] == (200, 450)


def test_a_real_dream_is_drawn(tiny_encoder):
    import tl_dream as td

    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    dream = td.dream(tiny_encoder, goal, "the red dog sees the sun", steps=20, starts=2, evaluate_every=2)
    ax = plotting.dream_history(dream)
    assert line(panel(ax, "score"), "real tokens")[1] == list(dream.history.hard_score)
    assert_nothing_is_cut_or_covered(ax)
    assert_nothing_is_cut_or_covered(plotting.annealing(dream, "dog"))
    plotting.dream_history(Dream.from_json(dream.to_json()), run=1)
