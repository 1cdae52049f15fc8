"""The room plotting.portraits."""

from dataclasses import replace

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from tests.support.hostile import RESULTS
from tests.support.plotting import ODD, assert_nothing_is_cut_or_covered, made_corpus, made_hit, panel, words
from tl_dream import DreamError
from tl_dream.plotting.portraits import corpus_sentences, portrait
from tl_dream.plotting.style import VERMILLION, WEIGHTS
from tl_dream.results.portraits import Measure, Portrait, PortraitDream, Standing


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


# The page of a unit


def page(**changes: object) -> Portrait:
    """Six dreams, the last of them fluent, over four sentences."""
    (made,) = [one for one in RESULTS if isinstance(one, Portrait)]
    dreams = [("seed 0", None), ("seed 1", None), ("diverse 1", None), ("fluent", -6.5)]
    return replace(
        made,
        corpus=made_corpus(*(made_hit(14, 5, 3.0 - i, i + 1) for i in range(4))),
        dreams=tuple(PortraitDream(kind, made.best, judged) for kind, judged in dreams),
        edges=tuple(-1 + 0.1 * i for i in range(21)),
        counts=tuple(1000 // (1 + abs(i - 8)) for i in range(20)),
        standing=Standing(tuple(Measure(f"measure {i}", i != 1, 5.0, (0.0, 1.0, 2.0, 8.0)) for i in range(4))),
        **changes,
    )


def test_the_page_of_a_unit() -> None:
    made = page()
    ax = portrait(made)
    assert_nothing_is_cut_or_covered(ax)
    dreams = words(panel(ax, "dreams"))
    assert dreams.count("seed 0") == 1 and f"{made.height(made.best.whole.score):.1f}" in dreams
    rows: dict[float, list[tuple[str, bool]]] = {}
    for text in panel(ax, "dreams").texts:
        rows.setdefault(text.get_position()[1], []).append((text.get_text(), text.get_weight() == "bold"))
    *told, best, _ = (dict(row) for row in rows.values())
    assert {text for row in told for text, bold in row.items() if bold} == {
        "dog",
        f"{made.height(made.best.whole.score):.1f}",
    }
    high = made.height(made.tokens.top[0].score)
    tokens = {row.token: made.height(row.score) >= high / 2 for row in made.tokens.top}
    assert best == {"best tokens": False, f"{high:.1f}": True, **tokens}
    activation = panel(ax, "activation")
    assert [bar.get_height() for bar in activation.patches] == list(made.counts)
    lines = [path.vertices[0][0] for one in activation.collections for path in one.get_paths()]
    assert lines == pytest.approx([made.best.whole.score] * 4)
    unit = [line for line in panel(ax, "standing").lines if line.get_marker() == "D"]
    assert [float(line.get_xdata()[0]) for line in unit] == pytest.approx([0.625, 0.375, 0.625, 0.625])
    assert "nothing distinguishes this unit from a random direction" in panel(ax, "page").texts[0].get_text()
    assert len([text for text in words(panel(ax, "sentences")) if text == "[CLS]"]) == 4


def test_a_page_without_a_comparison() -> None:
    ax = portrait(replace(page(common=(), neighbourhoods=(), tokens=None), standing=None), sentences=2)
    assert_nothing_is_cut_or_covered(ax)
    assert "best tokens" not in words(panel(ax, "dreams"))
    assert not [other for other in ax.figure.axes if other.get_label() == "standing"]
    assert "not compared with random directions" in panel(ax, "page").texts[0].get_text()
    with pytest.raises(DreamError, match="draws a Portrait"):
        portrait(made_corpus(made_hit()))
