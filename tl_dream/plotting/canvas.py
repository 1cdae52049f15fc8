"""The style around a picture, its place, its title and legend, and figures saved: what all plots share."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

import matplotlib
import matplotlib.pyplot as plt
import numpy
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.gridspec import GridSpec, SubplotSpec

from tl_dream._errors import require, unknown
from tl_dream.plotting.style import FONT_SIZE, GREY, LEAST, scaled, set_fonts, size, small, text_width, themed, wrapped
from tl_dream.results import check_writable, write_bytes

STYLE: dict[str, Any] = {
    "font.size": FONT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.linewidth": 1.4,
}
"""What is so unless the user's rcParams say something else than matplotlib's own."""

ALWAYS: Any = {"text.parse_math": False, "text.usetex": False}  # "$" is a token

NARROW = 3.6
"""Inches; in a place that is narrower the package's letters have 7 points."""

P = ParamSpec("P")


def _style(ax: Any) -> Any:
    """The package's style where the user has none of his own."""
    given: Any = matplotlib.rcParams
    plain: Any = matplotlib.rcParamsDefault
    style = {key: value for key, value in STYLE.items() if given[key] == plain[key]}
    if "font.size" in style and isinstance(ax, Axes) and inches(ax)[0] < NARROW:
        style["font.size"] = FONT_SIZE - 1
    points = style.get("font.size", given["font.size"])
    beside = max(LEAST, 0.875 * points)
    sizes = {"axes.titlesize": points, "xtick.labelsize": beside, "ytick.labelsize": beside}
    return {**style, **{key: value for key, value in sizes.items() if given[key] == plain[key]}, **ALWAYS}


def styled(function: Callable[P, Axes]) -> Callable[P, Axes]:
    """Draw in the user's style, and where he has none in the package's; his rcParams stay as they are."""

    @wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Axes:
        plt.draw_if_interactive()  # a notebook's backend turns itself on at its first use: not in there, to be undone
        with matplotlib.rc_context(_style(kwargs.get("ax"))):
            drawn = function(*args, **kwargs)
            _finish(drawn.figure.figure)
            return drawn

    return draw


def expect(given: Any, source: str, *kinds: type) -> None:
    """Raise `DreamError` unless a plot was given a result of the kinds it draws.

    Args:
        source: where such a result comes from, for the message.
    """
    names = " or ".join(kind.__name__ for kind in kinds)
    require(isinstance(given, kinds), f"this plot draws a {names} ({source}), not {type(given).__name__}")


# The place of a picture

Title = str | None
OWN = "{}"
"""The default of `title=`: what the picture is of."""


TEXT = "tl_dream text"
"""The gid of panels that hold text alone."""


@dataclass(frozen=True)
class Frame:
    """The place of a picture.

    Attributes:
        ax: whose place is filled; None for a figure made here.
        title: in lines; empty for none.
        width: inches.
        body: inches below the title; infinite in a figure made here.
    """

    ax: Axes | None
    title: str
    width: float
    body: float

    @property
    def given(self) -> bool:
        return self.ax is not None


def inches(ax: Axes) -> tuple[float, float]:
    """Width and height of an Axes where it stands now."""
    box, dpi = ax.get_window_extent(), ax.figure.figure.dpi
    return float(box.width / dpi), float(box.height / dpi)


def settle(ax: Axes) -> tuple[float, float]:
    """Have the figure's layout engine move all Axes to their places; the width and height of this one in inches."""
    figure = ax.figure.figure
    _finish(figure)
    if (engine := figure.get_layout_engine()) is not None:
        engine.execute(figure)
    return inches(ax)


def _finish(figure: Figure) -> None:
    """Give texts their fonts, and keep the layout engine from making room for what was laid out here."""
    set_fonts(figure)
    for panel in figure.axes:
        for artist in panel.get_children() if panel.get_gid() == TEXT else ():
            artist.set_in_layout(False)


def _head(title: str) -> float:
    return scaled(0.16) * (1 + title.count("\n")) + 0.06 if title else 0.0


def framed(ax: Axes | None, title: Title, own: str, width: float) -> Frame:
    """The place of a picture and its title.

    Args:
        ax: whose place is filled; None for a figure made here, which is `width` inches wide.
        title: the user's; "{}" in it is `own`, None is no title. In a given place it has three lines at most.
    """
    height = math.inf
    require(
        ax is None or isinstance(ax, Axes),
        f"ax is a {type(ax).__name__}: give one matplotlib Axes, such as plt.subplots()[1] or axes[0] of several",
    )
    require(title is None or isinstance(title, str), f"title = {title!r:.80}: give a text, or None")
    if ax is not None:
        ax.set_axis_off()
        width, height = settle(ax)
    text = wrapped((title or "").replace(OWN, own), width).split("\n")
    if ax is not None and len(text) > 3:
        text = [*text[:2], text[2][:-1] + "…"]
    return Frame(ax, "\n".join(text), width, height - _head("\n".join(text)))


def fill(
    frame: Frame, *heights: float, label: str = "title", key: Sequence[str] = ()
) -> tuple[Axes, list[SubplotSpec]]:
    """The Axes whose place is filled, and cells of these heights (inches) below the title, which is in the panel
    `label`; a last one for a legend of the names in `key`. In a place that was given the first cell takes what the
    others leave."""
    heights = (*heights, key_height(key, frame.width)) if key else heights
    if frame.given:
        heights = (max(0.2, frame.body - sum(heights[1:])), *heights[1:])
    rows = [_head(frame.title), *heights] if frame.title else list(heights)
    ax = frame.ax
    if ax is None:
        ax = plt.figure(figsize=(frame.width, sum(rows) + 0.06 * len(rows)), layout="constrained").add_subplot()
    ax.set_axis_off()
    spec = ax.get_subplotspec()
    if spec is None:  # an Axes put somewhere by hand
        box = ax.get_position()
        spec = GridSpec(1, 1, ax.figure.figure, box.x0, box.y0, box.x1, box.y1)[0]
    grid = spec.subgridspec(len(rows), 1, height_ratios=rows)
    if frame.title:  # in a cell of its own: a title over several panels gets room from no layout engine
        over = blank(ax, grid[0], label)
        over.text(0, 0, frame.title, ha="left", va="bottom")
    # each in a grid of its own: what stands beside one panel moves no other
    return ax, [grid[i].subgridspec(1, 1)[0] for i in range(len(rows) - len(heights), len(rows))]


def add_panel(host: Axes, spec: SubplotSpec, label: str, **options: Any) -> Axes:
    """A new Axes in a cell of the grid, found later by its label."""
    owner: Figure | SubFigure = host.figure
    return owner.add_subplot(spec, label=label, **options)


def blank(host: Axes, spec: SubplotSpec, label: str) -> Axes:
    """A new panel for text, without axes."""
    panel = add_panel(host, spec, label, gid=TEXT)
    panel.set_axis_off()
    return panel


def fitting(most: int, room: float, each: float) -> int:
    """How many things of `each` inches there is room for: at most so many, at least one."""
    return max(1, most if math.isinf(room) else min(most, int(room / each)))


def key_columns(names: Sequence[str], width: float) -> int:
    """Columns of a legend in so many inches."""
    for columns in range(len(names), 1, -1):
        down = math.ceil(len(names) / columns)
        parts = [names[i : i + down] for i in range(0, len(names), down)]
        if sum(max(map(text_width, part)) + 5 * size() for part in parts) <= 72 * width:
            return len(parts)
    return 1


def key_height(names: Sequence[str], width: float) -> float:
    """Inches of a legend in so many inches of width."""
    return scaled(0.175) * math.ceil(len(names) / key_columns(names, width)) + 0.06


def draw_key(
    host: Axes, spec: SubplotSpec, handles: Sequence[Any], width: float, names: Sequence[str] = (), **options: Any
) -> None:
    """A legend in a cell of its own; `names` where the handles have none."""
    names = names or [str(handle.get_label()) for handle in handles]
    place: dict[str, Any] = {"loc": "center left", "borderaxespad": 0, "handlelength": 2.8, "columnspacing": 1.2}
    place |= {"ncols": key_columns(names, width), "frameon": False}
    legend = blank(host, spec, "legend").legend(handles, [name.strip("_") or "-" for name in names], **place, **options)
    for text, name in zip(legend.get_texts(), names, strict=True):  # matplotlib leaves out names that begin with "_"
        text.set_text(name)


def spread(count: int, most: int, always: Sequence[int] = ()) -> list[int]:
    """At most `most` of the indices 0 .. count - 1, evenly spaced, with the first, the last and those in `always`."""
    fixed = sorted({0, count - 1, *always}) if count else []
    for wanted in range(min(most, count), 1, -1):
        chosen = {round(i * (count - 1) / (wanted - 1)) for i in range(wanted)} | set(fixed)
        if len(chosen) <= most:
            return sorted(chosen)
    return fixed


# Names of points

MARK = 4.5
"""Points: half the width of a mark, and how far beside it a name begins."""

PLACES = [
    (far, numpy.array([math.cos(math.radians(turn)), math.sin(math.radians(turn))]))
    for far in (MARK, 8.0, 12.0, 17.0, 23.0, 30.0, 38.0, 48.0, 60.0, 75.0)
    for turn in (0, 180, 90, -90, 30, 150, -30, -150, 60, 120, -60, -120, 15, 165, -15, -165, 45, 135, -45, -135)
]
"""Where a name may begin: points away from its own, and the direction."""


def name_points(
    ax: Axes, points: Sequence[tuple[float, float]], names: Mapping[int, str], lines: Sequence[float] = ()
) -> None:
    """Write names beside points, or where the next room is, with a thread to the point. What finds no room near its
    point is left out.

    Args:
        points: all marks, which names keep clear of.
        names: by the number of the point; the first is placed first.
        lines: heights of level lines that names keep clear of.
    """
    bounds = 72 * numpy.array(settle(ax))  # the panel is where it will be drawn
    at = ax.transLimits.transform(points) * bounds
    heights = [ax.transLimits.transform((0, line))[1] * bounds[1] for line in lines]
    clear = [[x - 3.5, y - 3.5, x + 3.5, y + 3.5] for x, y in at]  # of names; threads may pass over marks and lines
    clear += [[0, height - 0.8, bounds[0], height + 0.8] for height in heights]
    taken: list[list[float]] = []  # by names and threads
    for i, name in names.items():
        half = numpy.array([text_width(name, points=small()) + 3, 1.25 * small() + 1]) / 2
        others = [numpy.array([*clear[:i], *clear[i + 1 :]]).reshape(-1, 4), numpy.array(taken).reshape(-1, 4)]
        for far, way in (place for place in PLACES if place[0] < bounds.min() / 3):
            middle = at[i] + far * way + numpy.abs(way) / numpy.abs(way).max() * half * numpy.sign(way)
            thread = [at[i] + share * far * way for share in (0.5, 0.625, 0.75, 0.875, 1.0) if far > MARK]
            boxes = numpy.array([[*(middle - half), *(middle + half)], *([*(p - 0.6), *(p + 0.6)] for p in thread)])
            inside = (boxes[0, :2] >= 0).all() and (boxes[0, 2:] <= bounds).all()
            if inside and not _overlap(boxes[:1], others[0]) and not _overlap(boxes, others[1]):
                line = {"arrowstyle": "-", "color": themed(GREY), "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2.5}
                look: dict[str, Any] = {"ha": "center", "va": "center", "size": small()}
                look |= {"xytext": tuple(middle - at[i]), "textcoords": "offset points"}
                ax.annotate(name, points[i], arrowprops=line if thread else None, **look)
                taken += boxes.tolist()
                break


def _overlap(some: Any, others: Any) -> bool:
    """Whether a box (left, bottom, right, top; a row each) overlaps one of the others."""
    a, b = some[:, None], others[None]
    return bool(((a[..., :2] < b[..., 2:]) & (b[..., :2] < a[..., 2:])).all(-1).any())


# Files

FORMATS = ("png", "pdf", "svg")


def check_figure_path(path: str | os.PathLike[str]) -> None:
    """Raise before any work starts unless `path` can be written and ends in .png, .pdf or .svg."""
    target = check_writable(path)
    if target.suffix.lower().lstrip(".") not in FORMATS:
        raise unknown(
            "figure format", target.suffix or target.name, [f".{name}" for name in FORMATS], "The suffix chooses it."
        )


def save_figure(figure: Figure | SubFigure, path: str | os.PathLike[str], *, dpi: float = 200.0) -> None:
    """Write a figure whole or not at all, as PNG, PDF or SVG by the suffix of `path`.

    A PDF holds its fonts as outlines that can be edited and searched (type 42), as journals ask.

    Args:
        figure: for instance `dream_history(result).figure`; of a part of a figure, the whole.
        path: where to.
        dpi: pixels an inch, of PNG.

    Raises:
        DreamError: another suffix, or a path that can't be written.

    Examples:
        >>> dream = td.dream(bert, td.neuron("mlp_post", layer=1, unit=3, pos=2), "the red dog", budget=1000)
        >>> plotting.save_figure(plotting.dream_history(dream, tokens=False).figure, "dream.pdf")
    """
    require(
        isinstance(getattr(figure, "figure", None), Figure | SubFigure),
        f"a {type(figure).__name__} is no figure: give dream_history(result).figure, for instance",
    )
    check_figure_path(path)
    kind = os.fspath(path).rsplit(".", 1)[-1].lower()
    content = io.BytesIO()
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # none: a figure is not newer for being drawn again
    with matplotlib.rc_context({**ALWAYS, "pdf.fonttype": 42}):
        figure.figure.savefig(content, format=kind, dpi=dpi, metadata=dates.get(kind))
    write_bytes(path, content.getvalue())
