"""The room plotting.canvas."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy
import pytest
from matplotlib.colors import to_rgb

from tests.support.concepts import made_evidence
from tests.support.hostile import RESULTS, in_bytes
from tests.support.plotting import START, assert_nothing_is_cut_or_covered, made_dream, made_history, panel
from tl_dream import DreamError, plotting
from tl_dream.plotting import canvas


def test_readable_leaves_plain_tokens_alone():
    assert [canvas.readable(t) for t in ("##ing", "the", "α", "[MASK]")] == ["##ing", "the", "α", "[MASK]"]
    assert canvas.readable("x" * 30) == "x" * 17 + "…"


DRAWN = {kind: name for kind, name in plotting.OF_KIND.items() if kind != "word_weights"}
DRAWN |= {"portrait": "portrait", "corpus_result": "corpus_sentences", "masked_predictions": "prediction_bars"}


@pytest.mark.parametrize("kind", DRAWN)
def test_tokens_of_bytes_are_drawn_as_text(kind):
    (result,) = [in_bytes(one) for one in RESULTS if one.kind == kind]
    figure = getattr(plotting, DRAWN[kind])(result).figure
    drawn = "".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))
    assert "café" in drawn and "Ġ" not in drawn and "Ã" not in drawn


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
    assert 3 < min(sizes) and max(sizes) <= canvas.FONT_SIZE


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
    assert canvas.spread(0, 5) == [] and canvas.spread(1, 5) == [0] and canvas.spread(4, 9) == [0, 1, 2, 3]
    assert canvas.spread(101, 5) == [0, 25, 50, 75, 100]
    chosen = canvas.spread(101, 6, [13])
    assert len(chosen) <= 6 and {0, 13, 100} <= set(chosen)
    assert canvas.spread(101, 1, [13]) == [0, 13, 100]  # what must be shown is shown


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


# Letters


def test_letters_that_our_font_lacks_come_from_another_on_the_machine():
    """STIX comes with matplotlib and has them."""
    token = "\u24b6\u20dd"
    assert canvas.readable(token) == token and canvas.written(token)
    history = made_history(start=("[CLS]", token, *START[2:]))
    ax = plotting.dream_history(made_dream(history))
    (drawn, *_) = [text for text in panel(ax, "tokens").texts if text.get_text() == token]
    assert len(drawn.get_fontfamily()) > 1
    assert_nothing_is_cut_or_covered(ax)  # no warning of missing glyphs
    assert canvas.FAMILY not in matplotlib.rcParams["font.family"]  # the user's own is as it was
    bars = plotting.annealing(made_dream(history), 1, k=2)
    labels = panel(bars, "step 0").get_yticklabels()
    assert token in [text.get_text() for text in labels] and len(labels[0].get_fontfamily()) > 1


def test_what_no_font_has_is_spelled():
    assert canvas.readable("한국") == "‹han›‹gug›" and canvas.readable("ひ") == "‹hi›"
    assert canvas.readable("我") == "\\u6211" and not canvas.written("我")
    assert canvas.wrapped("neuron(pos='我')", 9.0) == "neuron(pos='\\u6211')"


@pytest.mark.parametrize("word", ["كتاب", "שלום", "##ات"])
def test_a_word_from_right_to_left_leaves_the_others_in_their_places(word):
    """What stands right of it on paper comes after it in the text."""
    line = canvas.spelled(f"{word} the dog")
    figure = plt.figure(figsize=(6, 1))
    with matplotlib.rc_context(canvas.STYLE):
        ends = []
        for text in (line, line.removesuffix(" the dog") + " the"):
            drawn = figure.text(0, 0, text)
            figure.canvas.draw()
            picture = numpy.asarray(figure.canvas.buffer_rgba())[..., 0] < 128
            ends.append(picture)
            drawn.remove()
    common = ends[1].any(0).nonzero()[0].max()  # the longer line begins as the shorter one
    assert (ends[0][:, :common] == ends[1][:, :common]).all() and ends[0][:, common + 1 :].any()
    assert canvas.spelled(line) == line


# Colours


def contrast(one: object, two: object) -> float:
    """The ratio of two colours' luminances (WCAG): 4.5 and more is readable, 3 is told apart."""
    lights = []
    for colour in (one, two):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("style", ["default", "dark_background", "ggplot", "Solarize_Light2"])
def test_text_and_lines_are_told_apart_from_the_ground_in_any_style(style):
    with plt.style.context(style):
        for ax in (
            plotting.dream_history(made_dream()),
            plotting.annealing(made_dream(), 2, k=2),
            plotting.cost_curves({"_one": [(0, 1.0), (1, 2.0)], "two": [(0, 1.0), (1, 3.0)]}),
            plotting.accuracy_by_layer([made_evidence()]),
        ):
            figure = ax.figure
            for axes in figure.axes:
                ground = axes.get_facecolor() if axes.axison else figure.get_facecolor()
                for text in (*axes.texts, *([axes.xaxis.label, axes.yaxis.label] if axes.axison else [])):
                    own = text.get_bbox_patch()
                    behind = ground if own is None else own.get_facecolor()
                    assert contrast(text.get_color(), behind) > 3, (style, text.get_text())
                for line in axes.lines:
                    assert contrast(line.get_color(), ground) > 2, (style, line.get_label())
        with matplotlib.rc_context(canvas.STYLE):
            for colour in (canvas.INK, canvas.DARK_GREEN, canvas.RED):
                assert contrast(canvas.themed(colour), canvas.paper()) > 3
            for fill in (canvas.shade(1.0), canvas.themed(canvas.RIGHT), canvas.themed(canvas.WRONG)):
                assert contrast(canvas.themed(canvas.INK), fill) > 3


def test_another_result_than_the_plot_draws_is_told():
    dream, other = made_dream(), made_evidence()
    for name, kind in [
        ("accuracy_by_layer", "Evidence"),
        ("edit_table", "ConceptEdit"),
        ("dose_response", "ConceptEdit"),
        ("corpus_sentences", "CorpusResult"),
        ("dream_history", "Dream"),
        ("kept_curves", "KeptTokens"),
        ("read_back", "LayerReconstructions or Reconstruction"),
        ("neighbours", "NeighbourTable"),
        ("prediction_bars", "MaskedPredictions"),
        ("token_bars", "TokenTable"),
        ("pareto", "Frontier"),
        ("search_costs", "Mapping"),
        ("cost_curves", "Mapping"),
    ]:
        wrong = other if kind == "Dream" else dream
        with pytest.raises(DreamError, match=f"this plot draws a {kind} .*, not {type(wrong).__name__}"):
            getattr(plotting, name)(wrong)
    with pytest.raises(DreamError, match="this plot draws a Dream .*, not Evidence"):
        plotting.annealing(other, 1)
    with pytest.raises(DreamError, match="this plot draws a Dream .*, not Evidence"):
        plotting.search_costs({"a": other})
