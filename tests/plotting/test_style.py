"""The room plotting.style."""

import matplotlib
import matplotlib.pyplot as plt
import numpy
import pytest

from tests.support.figures import DRAW
from tests.support.plotting import (
    START,
    assert_nothing_is_cut_or_covered,
    assert_told_apart,
    contrast,
    made_dream,
    made_history,
    panel,
)
from tl_dream import plotting
from tl_dream.plotting import style


def test_readable_leaves_plain_tokens_alone():
    assert [style.readable(t) for t in ("##ing", "the", "α", "[MASK]")] == ["##ing", "the", "α", "[MASK]"]
    assert style.readable("x" * 30) == "x" * 17 + "…"


def test_letters_that_our_font_lacks_come_from_another_on_the_machine():
    """STIX comes with matplotlib and has them."""
    token = "\u24b6\u20dd"
    assert style.readable(token) == token and style.written(token)
    history = made_history(start=("[CLS]", token, *START[2:]))
    ax = plotting.dream_history(made_dream(history))
    (drawn, *_) = [text for text in panel(ax, "tokens").texts if text.get_text() == token]
    assert len(drawn.get_fontfamily()) > 1
    assert_nothing_is_cut_or_covered(ax)  # no warning of missing glyphs
    assert "STIXGeneral" not in matplotlib.rcParams["font.family"]  # the user's own is as it was
    bars = plotting.annealing(made_dream(history), 1, k=2)
    labels = panel(bars, "step 0").get_yticklabels()
    assert token in [text.get_text() for text in labels] and len(labels[0].get_fontfamily()) > 1


def test_what_no_font_has_is_spelled():
    assert style.readable("한국") == "‹han›‹gug›" and style.readable("ひ") == "‹hi›"
    assert style.readable("我") == "\\u6211" and not style.written("我")
    assert style.wrapped("neuron(pos='我')", 9.0) == "neuron(pos='\\u6211')"


@pytest.mark.parametrize("word", ["كتاب", "שלום", "##ات"])
def test_a_word_from_right_to_left_leaves_the_others_in_their_places(word):
    """What stands right of it on paper comes after it in the text."""
    line = style.spelled(f"{word} the dog")
    figure = plt.figure(figsize=(6, 1))
    with matplotlib.rc_context({"text.parse_math": False}):
        ends = []
        for text in (line, line.removesuffix(" the dog") + " the"):
            drawn = figure.text(0, 0, text)
            figure.canvas.draw()
            picture = numpy.asarray(figure.canvas.buffer_rgba())[..., 0] < 128
            ends.append(picture)
            drawn.remove()
    common = ends[1].any(0).nonzero()[0].max()  # the longer line begins as the shorter one
    assert (ends[0][:, :common] == ends[1][:, :common]).all() and ends[0][:, common + 1 :].any()
    assert style.spelled(line) == line


# Colours


@pytest.mark.parametrize("style", ["ggplot", "Solarize_Light2"])
def test_text_and_lines_are_told_apart_in_a_style_of_the_user(style):
    """Such a style may have less contrast to begin with than WCAG asks (4.5, which `test_canvas` asks of ours)."""
    with plt.style.context(style):
        for name in ("annealing", "search_costs"):
            assert_told_apart(DRAW[name]().figure, least=3.0)


def test_colours_follow_the_style():
    with plt.style.context("dark_background"):
        assert style.paper() == "#000000" and style.themed(style.INK) == "#ffffff"
        for fill in (style.shade(1.0), style.themed(style.RIGHT), style.themed(style.WRONG)):
            assert contrast(style.themed(style.INK), fill) >= 4.5
    assert style.themed(style.INK) == "#000000" and style.shade(1.0) == style.WEIGHTS(1.0)
