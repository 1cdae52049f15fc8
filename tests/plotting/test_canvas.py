"""The room plotting.canvas."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.text import Text

from tests.support.concepts import made_evidence
from tests.support.figures import DRAW
from tests.support.hostile import RESULTS, in_bytes
from tests.support.plotting import (
    assert_nothing_is_cut_or_covered,
    assert_told_apart,
    made_dream,
    owner,
    panel,
    texts_in,
    words,
)
from tl_dream import DreamError, plotting
from tl_dream.plotting import canvas
from tl_dream.plotting.canvas import name_points

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
    figure, (left, right) = plt.subplots(2, 1, figsize=(12, 9), layout=layout)
    right.plot([1, 2])
    assert plotting.dream_history(made_dream(), ax=left) is left
    figure.canvas.draw()
    place, other = left.get_position(), right.get_position()
    assert panel(left, "tokens").get_position().y0 >= place.y0 - 0.05 > other.y1 - 0.05
    assert len(right.lines) == 1 and right.axison and not left.axison
    assert {text.get_fontsize() for text in panel(left, "tokens").texts} == {7.0, 8.0}  # here as there


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


def test_the_letters_and_fonts_of_the_user_are_taken():
    """His size, family and colours are used where he set them, ours where he left matplotlib's own."""

    def looks(ax: Axes) -> set[tuple[float, str]]:
        texts = [text for panel in ax.figure.axes for text in texts_in(panel)]
        return {(text.get_fontsize(), text.get_fontfamily()[0]) for text in texts}

    assert looks(DRAW["read_back"]()) == {(8.0, "sans-serif")}
    own = {"font.size": 11.0, "font.family": "serif", "axes.edgecolor": "#123456", "text.color": "#202020"}
    with matplotlib.rc_context(own):
        assert looks(DRAW["read_back"]()) == {(11.0, "serif")}
        ax = DRAW["annealing"]()
        assert {size for size, _ in looks(ax)} == {11.0, 0.875 * 11}
        assert panel(ax, "step 0").spines["left"].get_edgecolor() == to_rgba("#123456")
        assert panel(ax, "title").texts[0].get_color() == "#202020"


@pytest.mark.parametrize("name", DRAW)
def test_two_stand_side_by_side_in_a_paper(name):
    """Seven inches by three: no text covers another, is cut, pale or under 6 points; titles are the user's."""
    figure, axes = plt.subplots(1, 2, figsize=(7, 3), layout="constrained")
    assert DRAW[name](ax=axes[0], title="(a) {}") is axes[0]
    DRAW[name](ax=axes[1], title=None)
    assert_nothing_is_cut_or_covered(axes[0])
    assert_told_apart(figure)
    texts = [[text for axes_ in figure.axes if owner(axes_) is ax for text in axes_.texts] for ax in axes]
    starts = [[text.get_text() for text in some if text.get_text().startswith("(a)")] for some in texts]
    assert len(starts[0]) == 1 and not starts[1]


@pytest.mark.parametrize("name", DRAW)
def test_a_figure_of_its_own_has_room_for_larger_letters_and_may_be_dark(name):
    with plt.style.context(["dark_background", {"font.size": 11.0, "font.family": "serif"}]):
        ax = DRAW[name]()
        assert_nothing_is_cut_or_covered(ax)
        assert_told_apart(ax.figure)


def test_titles():
    assert words(panel(DRAW["annealing"](title="Mine: {}"), "title"))[0].startswith("Mine: softmax at position 9")
    assert not [ax for ax in DRAW["annealing"](title=None).figure.axes if ax.get_label() == "title"]


def test_a_notebook_shows_the_second_picture_too(monkeypatch):
    """Its backend turns the interactive mode on at its first use: that must not be undone with our style."""
    monkeypatch.setattr(plt, "draw_if_interactive", lambda: matplotlib.interactive(True))
    try:
        DRAW["cost_curves"]()
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(False)


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


def test_a_pdf_holds_its_fonts_as_outlines(tmp_path):
    plotting.save_figure(plotting.annealing(made_dream(), 2, k=2).figure, tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert b"/FontFile2" in content and b"/CIDFontType2" in content and b"/Type3" not in content


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


def test_what_is_no_place_and_no_title_is_told(tmp_path: Path, unchecked: None) -> None:
    """`plt.subplots(2)[1]` is an array of two."""
    result = RESULTS[0]
    for ax in (plt.subplots(2)[1], plt.figure(), "left"):
        with pytest.raises(DreamError, match=r"^ax is a \w+: give one matplotlib Axes"):
            plotting.dream_history(result, ax=ax)
    with pytest.raises(DreamError, match="^title = 3: give a text, or None"):
        plotting.dream_history(result, title=3)
    with pytest.raises(DreamError, match="^a str is no figure"):
        plotting.save_figure("history", tmp_path / "a.png")
    plt.close("all")


def test_a_part_of_a_figure_saves_the_whole(tmp_path):
    figure = plt.figure(figsize=(9, 4))
    left, _ = figure.subfigures(1, 2)
    ax = plotting.annealing(made_dream(), 2, k=2, ax=left.subplots())
    plotting.save_figure(ax.figure, tmp_path / "a.png", dpi=50)
    assert plt.imread(tmp_path / "a.png").shape[:2] == (200, 450)


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


# Names of points


def test_every_name_stands_beside_its_point_or_has_a_thread():
    figure, ax = plt.subplots(figsize=(4, 3), layout="constrained")
    points = [(0.1 * (i % 4), 0.1 * (i // 4)) for i in range(12)]
    ax.set(xlim=(-0.2, 0.6), ylim=(-0.2, 0.5))
    name_points(ax, points, {i: f"name{i}" for i in range(12)}, lines=[0.15])
    assert sorted(words(ax)) == sorted(f"name{i}" for i in range(12))
    assert_nothing_is_cut_or_covered(ax)
    level = ax.transData.transform((0, 0.15))[1]
    for text in ax.texts:
        x, y = ax.transData.transform(points[int(text.get_text()[4:])])
        box = Text.get_window_extent(text)
        gap = max(box.x0 - x, x - box.x1, box.y0 - y, y - box.y1, 0) * 72 / figure.dpi
        assert gap < 10 or text.arrow_patch is not None
        assert not box.y0 + 1 < level < box.y1 - 1
        for u, v in ax.transData.transform(points):
            assert not (box.x0 < u < box.x1 and box.y0 < v < box.y1)


def test_what_has_no_room_is_left_out_and_the_first_come_first():
    _, ax = plt.subplots(figsize=(2, 2))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    name_points(ax, [(0.5, 0.5)] * 60, {i: f"a long name {i}" for i in reversed(range(60))})
    shown = words(ax)
    assert 1 <= len(shown) < 60 and shown[0] == "a long name 59"
