"""The pictures of the scans show exactly the numbers and tokens of the result; wrong requests are told."""

from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex

from tests.support.plotting import (
    COST,
    GOAL,
    MODEL,
    ODD,
    assert_nothing_is_cut_or_covered,
    made_corpus,
    made_hit,
    panel,
    words,
)
from tl_dream import DreamError
from tl_dream.plotting.portraits import corpus_sentences
from tl_dream.plotting.scans import neighbours, prediction_bars, token_bars
from tl_dream.plotting.style import ORANGE
from tl_dream.results.scans import (
    MaskedPredictions,
    Neighbour,
    NeighbourTable,
    Place,
    Prediction,
    TokenScore,
    TokenTable,
)

TOKENS = ("[CLS]", "i", "hate", "the", "red", "dog", ".", "[SEP]")


WHERE = Place("i hate the red dog .", TOKENS, tuple(range(8)), 4)


def made_table(scores: list[float], own: float = 0.5, tokens: tuple[str, ...] = ()) -> TokenTable:
    names = tokens or tuple(f"token{i}" for i in range(len(scores)))
    top = tuple(TokenScore(name, 100 + i, score) for i, (name, score) in enumerate(zip(names, scores, strict=True)))
    return TokenTable(MODEL, GOAL, WHERE, TokenScore("red", 4, own), top, 200, "f00", "bf16", 0.01, 50, 20, COST)


def made_neighbours(count: int = 12, cut: float | None = 1.0, nearest: float = 1.0) -> NeighbourTable:
    scores = [1.2 - 0.1 * i for i in range(count)]
    rows = tuple(
        Neighbour(f"near{i}", 100 + i, nearest + 0.05 * i, score, None if cut is None else score >= cut)
        for i, score in enumerate(scores)
    )
    share = None if cut is None else sum(bool(row.found) for row in rows) / count
    best = 0 if cut is None else 30
    own = Neighbour("red", 4, 0.0, 0.7)
    return NeighbourTable(MODEL, GOAL, WHERE, "euclidean", own, rows, best, cut, share, COST)


def ticks(ax: Axes) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_the_bars_are_the_scores_and_the_own_token_stands_below():
    ax = token_bars(made_table([2.0, 1.5, 1.0]))
    bars = panel(ax, "scores")
    assert [bar.get_width() for bar in bars.patches] == [2.0, 1.5, 1.0, 0.5]
    assert ticks(bars) == ["token0", "token1", "token2", "red (its own)"]
    assert bars.patches[3].get_y() > bars.patches[2].get_y() + 1
    assert bars.patches[3].get_hatch() and to_hex(bars.patches[3].get_facecolor()).upper() == ORANGE
    assert words(bars) == ["2.000", "1.500", "1.000", "0.500"]
    assert "position 4" in words(panel(ax, "title"))[0] and "[red]" in words(panel(ax, "title"))[0]
    assert_nothing_is_cut_or_covered(ax)


def test_the_own_token_may_be_among_the_best():
    table = made_table([2.0, 1.5, 1.0])
    table = replace(
        table, top=(table.top[0], TokenScore("red", 4, 1.5), table.top[2]), chosen=TokenScore("red", 4, 1.5)
    )
    bars = panel(token_bars(table), "scores")
    assert ticks(bars) == ["token0", "red (its own)", "token2"] and len(bars.patches) == 3


@pytest.mark.parametrize("scores", [[-0.1, -0.2, -0.9], [0.3, 0.0, -0.3], [0.0, 0.0], [1e-5, 1e-6], [4e4, 3e4]])
def test_bars_of_any_sign_and_size(scores: list[float]):
    ax = token_bars(made_table(scores, own=scores[-1]))
    bars = panel(ax, "scores")
    assert [bar.get_width() for bar in bars.patches[:-1]] == scores
    low, high = bars.get_xlim()
    assert low <= min(0, *scores) and high >= max(0, *scores) and low < high
    assert_nothing_is_cut_or_covered(ax)


def test_fewer_bars_and_odd_tokens():
    assert len(panel(token_bars(made_table([3.0, 2.0, 1.0]), count=2), "scores").patches) == 3
    table = made_table([float(20 - i) for i in range(len(ODD))], tokens=ODD)
    ax = token_bars(replace(table, place=Place("x", ODD, tuple(range(len(ODD))), 3)))
    assert "\\u6771\\u4eac" in ticks(panel(ax, "scores"))
    assert_nothing_is_cut_or_covered(ax)
    with pytest.raises(DreamError, match="count = 0: give a whole number of at least 1"):
        token_bars(table, count=0)


def test_a_long_sentence_is_cut_around_its_position():
    tokens = ("[CLS]", *(f"w{i}" for i in range(60)), "[SEP]")
    table = replace(made_table([1.0]), place=Place("x", tokens, tuple(range(62)), 30))
    text = words(panel(token_bars(table), "title"))[0]
    assert "… w20" in text and "[w29]" in text and "w38 …" in text


def points(ax: Axes) -> set[tuple[float, float]]:
    return {(float(x), float(y)) for group in ax.collections for x, y in group.get_offsets()}


@pytest.mark.parametrize(("nearest", "broken"), [(1.0, True), (0.01, False)])
def test_points_are_distance_and_score(nearest: float, broken: bool):
    table = made_neighbours(nearest=nearest)
    ax = neighbours(table)
    scores = panel(ax, "scores")
    assert points(scores) == {(row.distance, row.score) for row in table.neighbours}
    squares = scores.collections[1]
    assert {float(y) for _, y in squares.get_offsets()} == {row.score for row in table.neighbours if row.score >= 1.0}
    own = panel(ax, "own") if broken else scores
    (star,) = [line for line in own.get_lines() if line.get_marker() == "*"]
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (0.0, 0.7)
    assert ("own" in [other.get_label() for other in ax.figure.axes]) == broken
    (left, right), (low, high) = scores.get_xlim(), scores.get_ylim()
    assert left < nearest and right > table.neighbours[-1].distance and low < 0.1 and high > 1.2
    assert_nothing_is_cut_or_covered(ax)
    legend = [text.get_text() for text in panel(ax, "legend").get_legend().get_texts()]
    assert "the sentence's own: red" in legend and "to be among the search's best 30 (25% are)" in legend


def test_squares_are_those_that_were_found():
    """Of several that score the same at the cut, some are among the search's best and some are not."""
    table = made_neighbours()
    rows = tuple(replace(row, score=1.0, found=i in (2, 5)) for i, row in enumerate(table.neighbours))
    scores = panel(neighbours(replace(table, neighbours=rows, share=2 / 12)), "scores")
    circles, squares = scores.collections
    assert {float(x) for x, _ in squares.get_offsets()} == {rows[2].distance, rows[5].distance}
    assert len(circles.get_offsets()) == 10


def test_what_the_font_cannot_write_is_a_number():
    table = made_neighbours()
    names = ["東", "near", "国", *(f"near{i}" for i in range(9))]
    rows = tuple(replace(row, token=name) for row, name in zip(table.neighbours, names, strict=True))
    ax = neighbours(replace(table, neighbours=rows))
    assert {"1", "3", "near"} <= set(words(panel(ax, "scores"))) and "\\u" not in str(words(panel(ax, "scores")))
    title = panel(ax, "legend").get_legend().get_title().get_text()
    assert title == "numbers: rows of the printed table whose tokens this font can't write (2 of 12)"
    assert not panel(neighbours(table), "legend").get_legend().get_title().get_text()
    assert_nothing_is_cut_or_covered(ax)


def test_without_a_search_there_is_no_line():
    ax = neighbours(made_neighbours(cut=None))
    assert len(panel(ax, "scores").collections) == 1
    legend = [text.get_text() for text in panel(ax, "legend").get_legend().get_texts()]
    assert legend == ["neighbour", "the sentence's own: red"]
    assert_nothing_is_cut_or_covered(ax)


def test_names_stand_at_their_points_and_never_over_each_other():
    crowd = tuple(Neighbour(f"neighbouring{i}", i, 1.4 + 0.0005 * (i % 3), 0.02 * i) for i in range(90))
    ax = neighbours(replace(made_neighbours(), neighbours=crowd))
    assert_nothing_is_cut_or_covered(ax)
    named = words(panel(ax, "scores"))
    assert 3 < len(named) < 90 and "neighbouring89" in named
    one = neighbours(replace(made_neighbours(), neighbours=crowd[:1]))
    assert words(panel(one, "scores")) == ["neighbouring0"]
    assert "cosine distance" == panel(neighbours(replace(made_neighbours(), metric="cosine")), "scores").get_xlabel()


def test_predictions_are_drawn_for_each_mask():
    rows = tuple(Prediction(name, i, 3.0 - i, 0.5 / (i + 1)) for i, name in enumerate(("cat", "$x$", "東京")))
    found = MaskedPredictions(MODEL, tuple(replace(WHERE, pos=pos) for pos in (1, 2, 4, 5)), (rows,) * 4, COST)
    ax = prediction_bars(found)
    for pos in (1, 2, 4, 5):
        bars = panel(ax, f"position {pos}")
        assert [bar.get_width() for bar in bars.patches] == [0.5, 0.25, 0.5 / 3]
        assert ticks(bars) == ["cat", "$x$", "\\u6771\\u4eac"]
    assert_nothing_is_cut_or_covered(ax)


def test_a_given_axes_is_filled_and_the_style_left_alone():
    before = dict(matplotlib.rcParams)
    figure, axes = plt.subplots(2, 2, figsize=(12, 9))
    axes[1, 1].plot([1, 2])
    predictions = MaskedPredictions(MODEL, (WHERE,), ((Prediction("cat", 1, 1.0, 0.5),),), COST)
    assert token_bars(made_table([1.0, 0.5]), ax=axes[0, 0]) is axes[0, 0]
    assert neighbours(made_neighbours(), ax=axes[0, 1]) is axes[0, 1]
    assert corpus_sentences(made_corpus(made_hit(40, 20)), ax=axes[1, 0]) is axes[1, 0]
    assert prediction_bars(predictions, ax=plt.figure().add_subplot()) is not None
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in panel(axes[1, 0], "sentences").texts]
    assert not any(one.overlaps(two) for i, one in enumerate(boxes) for two in boxes[:i])
    assert axes[1, 1].axison and len(axes[1, 1].lines) == 1 and not axes[0, 0].axison
    assert dict(matplotlib.rcParams) == before
