"""The room plotting.canvas."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import pytest

from tests.support.plotting import made_dream, panel
from tl_dream import DreamError, plotting
from tl_dream.plotting import canvas


def test_readable_leaves_plain_tokens_alone():
    assert [canvas.readable(t) for t in ("##ing", "Ġthe", "α", "[MASK]")] == ["##ing", "Ġthe", "α", "[MASK]"]
    assert canvas.readable("x" * 30) == "x" * 17 + "…"


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
