"""The room plotting.token_table."""

import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from tests.support.plotting import (
    FREE,
    ODD,
    assert_nothing_is_cut_or_covered,
    made_dream,
    made_history,
    panel,
    words,
)
from tl_dream import plotting
from tl_dream.plotting import canvas, style
from tl_dream.plotting.token_table import MOST_ROWS
from tl_dream.results.dreams import Dream


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
    chosen = canvas.spread(len(dream.history), MOST_ROWS, [best_at])
    assert len(chosen) <= MOST_ROWS and {0, best_at, len(dream.history) - 1} <= set(chosen)
    return [dream.history.tokens[i] for i in chosen] + [dream.best.tokens] * (dream.best.tokens[2] == "red")


def test_changed_tokens_are_bold_new_ones_have_a_bar_and_shades_are_weights():
    history = made_history(3)  # START, FINAL, FINAL
    ax = plotting.dream_history(made_dream(history))
    table = panel(ax, "tokens")
    bold = {text.get_text() for text in table.texts if text.get_fontweight() == "bold"} - {"start"}
    assert {"cold", "moon", "a", "river"} <= bold
    assert not {"red", "dog", "the", "sees", "[CLS]"} & bold
    boxes = [patch for patch in table.patches if isinstance(patch, Rectangle) and patch.get_y() < 4]
    bars = [patch for patch in boxes if to_hex(patch.get_facecolor()).upper() == style.VERMILLION]
    assert len(bars) == 4  # "cold moon a river", in the row of step 5 only
    cells = [patch for patch in boxes if patch.get_height() == 1]
    assert len(cells) == 3 * len(FREE)  # fixed positions are not shaded
    tops = sorted({patch.get_y() for patch in cells})
    for top, weight in zip(tops, (0.25, 0.625, 1.0), strict=True):
        shades = {patch.get_facecolor() for patch in cells if patch.get_y() == top}
        assert shades == {style.WEIGHTS(weight)}


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


def test_odd_tokens_are_written_out():
    ax = plotting.dream_history(made_dream(made_history(3, start=ODD)))
    assert_nothing_is_cut_or_covered(ax)  # warnings of missing glyphs are errors in there
    shown = words(panel(ax, "tokens"))
    assert {"$x$", "$$", "\\u6771\\u4eac", "antidisestablishm…", "_^{", "\\u200d"} <= set(shown)
    pos = ODD.index("$$")
    assert_nothing_is_cut_or_covered(plotting.annealing(made_dream(made_history(3, start=ODD)), pos, k=2))
