"""The room plotting.corpora."""

from dataclasses import replace

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from tests.support.plotting import ODD, assert_nothing_is_cut_or_covered, made_corpus, made_hit, panel, words
from tl_dream import DreamError
from tl_dream.plotting.canvas import VERMILLION, WEIGHTS
from tl_dream.plotting.portraits import corpus_sentences


def shades(ax: Axes) -> list[str]:
    return [to_hex(p.get_facecolor()).upper() for p in ax.patches if isinstance(p, Rectangle) and p.get_height() > 0.8]


def test_tokens_are_shaded_by_their_value():
    hit = made_hit()
    ax = corpus_sentences(made_corpus(hit))
    axes = panel(ax, "sentences")
    assert words(axes)[:9] == ["2.000", *hit.tokens]
    expected = [to_hex(WEIGHTS(value / 2.0)).upper() for value in hit.activations or ()]
    assert shades(axes)[:8] == expected
    bold = [text.get_text() for text in axes.texts if text.get_fontweight() == "bold"]
    assert bold == ["2.000", "word4"]
    (mark,) = [p for p in axes.patches if to_hex(p.get_facecolor()).upper() == VERMILLION]
    (text,) = [text for text in axes.texts if text.get_text() == "word4"]
    assert mark.get_x() < text.get_position()[0] < mark.get_x() + mark.get_width()
    assert_nothing_is_cut_or_covered(ax)


@pytest.mark.parametrize(("pos", "first", "last"), [(1, "[CLS]", "…"), (60, "…", "…"), (118, "…", "[SEP]")])
def test_long_sentences_are_cut_around_the_position(pos: int, first: str, last: str):
    ax = corpus_sentences(made_corpus(made_hit(120, pos)), lines=2)
    shown = words(panel(ax, "sentences"))
    assert f"word{pos}" in shown and shown[1] == first
    assert shown[shown.index(f"word{pos}") :].count("…") == (last == "…")
    assert len({text.get_position()[1] for text in panel(ax, "sentences").texts}) == 3  # two lines and the scale
    assert_nothing_is_cut_or_covered(ax)


def test_many_sentences_and_odd_tokens():
    odd = replace(made_hit(), tokens=ODD[:7] + ("[SEP]",))
    bare = replace(made_hit(), pos=None, activations=None)
    below = replace(made_hit(score=-2.0), activations=tuple(-3.0 + 0.1 * i for i in range(8)))
    gaps = replace(made_hit(), activations=(None, 1.0, None, 0.5, 2.0, 1.0, None, None))
    for hits in ([odd], [bare], [below], [gaps], [made_hit(30, 9, 5.0 - i, i) for i in range(10)], [odd, bare, below]):
        assert_nothing_is_cut_or_covered(corpus_sentences(made_corpus(*hits)))
    assert len(shades(panel(corpus_sentences(made_corpus(below)), "sentences"))) >= 8
    ten = corpus_sentences(made_corpus(*[made_hit(8, 4, 5.0, i) for i in range(10)]), count=3)
    assert words(panel(ten, "sentences")).count("5.000") == 4  # three scores and the scale


def test_what_corpus_sentences_refuses():
    with pytest.raises(DreamError, match="nothing to draw: no sentence was scored for neuron"):
        corpus_sentences(made_corpus())
    for options in ({"count": 0}, {"lines": 0}):
        with pytest.raises(DreamError, match="= 0: give a whole number of at least 1"):
            corpus_sentences(made_corpus(made_hit()), **options)
