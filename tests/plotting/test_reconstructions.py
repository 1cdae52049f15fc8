"""The room plotting.reconstructions."""

from dataclasses import replace

from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from tests.conftest import says
from tests.support.plotting import assert_nothing_is_cut_or_covered, panel, words
from tl_dream.plotting.reconstructions import kept_curves, read_back
from tl_dream.plotting.style import RIGHT, VERMILLION, WRONG
from tl_dream.results.base import Cost
from tl_dream.results.layers import Kept, KeptTokens


def test_figure_5_shows_right_and_wrong(layers):
    ax = read_back(layers)
    tokens = panel(ax, "tokens")
    shown = words(tokens)
    wrong = layers.layers[1].wrong
    assert wrong and shown.count("dog") == 1 + 1 + (3 not in wrong)
    assert sum(text.startswith("× ") for text in shown) == len(wrong)
    boxes = [patch for patch in tokens.patches if isinstance(patch, Rectangle)]
    assert len(boxes) == 12
    assert sum(to_hex(box.get_facecolor()) == WRONG for box in boxes) == len(wrong)
    assert sum(to_hex(box.get_facecolor()) == RIGHT for box in boxes) == 12 - len(wrong)
    framed = [box for box in boxes if box.get_linewidth() > 1]
    assert len(framed) == len(wrong) and to_hex(framed[0].get_edgecolor()).upper() == VERMILLION
    assert {"6/6", "yes", "no", "layer 0", "layer 2", "recorded", "seconds"} <= set(shown)
    assert_nothing_is_cut_or_covered(ax.figure)


def test_a_long_sentence_goes_on_below(layers):
    one = layers.layers[0]
    words_ = tuple(f"word{i}" for i in range(60))
    long = replace(
        one,
        best=replace(one.best, tokens=words_, ids=tuple(range(60))),
        truth=replace(one.truth, tokens=words_, ids=tuple(range(60))),
        free=tuple(range(60)),
    )
    ax = read_back(long)
    labels = [axes.get_label() for axes in ax.figure.axes]
    assert {"tokens", "tokens 2", "tokens 3"} <= set(labels)
    drawn = [text for label in labels if label.startswith("tokens") for text in words(panel(ax, label))]
    assert all(drawn.count(word) == 2 for word in words_)
    with says("nothing to compare with"):
        read_back(replace(one, truth=None))


def made_kept() -> KeptTokens:
    records = [
        Kept(0, layer, damage, 10, right, kept, right < kept, 0.1, 0.1, "x", 1.0)
        for layer, damage, right, kept in (
            (0, "noise 0.1", 10, 10),
            (0, "noise 1", 8, 9),
            (0, "int8", 10, 10),
            (3, "noise 0.1", 10, 10),
            (3, "noise 1", 4, 4),
            (3, "int8", 7, 9),
        )
    ]
    return KeptTokens("tiny", "block_out", ("a b",), tuple(records), 0, Cost(1, 1, 1.0))


def test_the_curves_are_the_shares():
    ax = kept_curves(made_kept())
    axes = panel(ax, "kept")
    lines = [[float(y) for y in line.get_ydata()] for line in axes.lines]
    assert [1.0, 0.9, 1.0] in lines and [1.0, 0.4, 0.9] in lines and [0.8] in lines and [0.7] in lines
    assert [1.0, 0.9] in lines, "noise is joined"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["noise\n10%", "noise\n100%", "int8"]
    assert len({line.get_marker() for line in axes.lines if line.get_label().startswith("layer")}) == 2
    assert_nothing_is_cut_or_covered(ax.figure)
    with says("the result holds no record"):
        kept_curves(replace(made_kept(), records=()))
