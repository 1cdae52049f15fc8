"""Pictures of the scans: best tokens (Figure 3), neighbours (Figure 4), masked predictions.

ax = token_bars(table)
save_figure(ax.figure, "tokens.png")        # from tl_dream.plotting
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes

from tl_dream._arguments import Whole, whole_number
from tl_dream.plotting.canvas import (
    BLUE,
    FONT_SIZE,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    YELLOW,
    add_panel,
    caption,
    expect,
    fill_axes,
    grid_in,
    paper,
    readable,
    short_number,
    styled,
    text_width,
    themed,
    wrapped,
    written,
)
from tl_dream.results import MaskedPredictions, Neighbour, NeighbourTable, Place, TokenTable
from tl_dream.results import readable as as_text

WIDTH = 6.3
"""Inches, of a figure made here."""


def _title(result: TokenTable | NeighbourTable, what: str) -> str:
    return f"{what} at position {result.place.pos}: {result.objective} on {result.model}\n{_sentence(result.place)}"


def _sentence(where: Place, reach: int = 9) -> str:
    """The sentence around the position, which stands in brackets."""
    first, last = max(0, where.pos - reach), min(len(where.tokens), where.pos + reach + 1)
    words = [readable(token) for token in where.tokens[first:last]]
    words[where.pos - first] = f"[{words[where.pos - first]}]"
    return ("… " if first else "") + " ".join(words) + (" …" if last < len(where.tokens) else "")


def _lines(text: str, inches: float) -> str:
    return "\n".join(wrapped(line, inches) for line in text.split("\n"))


def _framed(title: str, width: float, height: float, side: float, ax: Axes | None) -> tuple[Axes, Axes]:
    """The Axes whose place is filled, and the panel under the title in it; `side` inches are left of it."""
    text = _lines(title, width - side)
    head = 0.18 * (1 + text.count("\n")) + 0.1
    host = fill_axes(ax, width, head + height)
    grid = grid_in(host, 2, 1, height_ratios=[head, height])
    caption(host, grid[0], "title", text)
    return host, add_panel(host, grid[1], "scores")


@styled
def token_bars(table: Any, *, count: Whole = 20, ax: Axes | None = None) -> Axes:
    """The article's Figure 3: the best tokens at a position as bars, and what the sentence's own token scores.

    Args:
        table: the result of `token_search`.
        count: bars to draw, of those the table holds.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the bars are in the panel labelled "scores".

    Raises:
        DreamError: fewer than one bar.
    """
    expect(table, "of token_search()", TokenTable)
    count = whole_number("count", count)
    rows, own = table.top[:count], table.chosen
    shown = [*((row.token, row.score, own is not None and (row.id, row.token) == (own.id, own.token)) for row in rows)]
    listed = own is None or any(mine for _, _, mine in shown)
    if own is not None and not listed:
        shown.append((own.token, own.score, True))
    names = [readable(token) + (" (its own)" if mine else "") for token, _, mine in shown]
    side = 0.25 + max(text_width(name, bold=True) for name in names) / 72
    host, bars = _framed(_title(table, "best tokens"), WIDTH, 0.35 + 0.19 * (len(rows) + 1), side, ax)
    reach = max(abs(score) for _, score, _ in shown) or 1.0
    for i, (_, score, mine) in enumerate(shown):
        at = i + (0.5 if mine and not listed else 0.0)
        colour, hatch = (ORANGE, "//") if mine else (BLUE, "")
        bars.barh(at, score, height=0.75, color=colour, hatch=hatch, edgecolor=themed(INK), linewidth=0.6)
        bars.text(
            score + math.copysign(0.012 * reach, score),
            at,
            short_number(score),
            ha="left" if score >= 0 else "right",
            va="center",
            size=FONT_SIZE - 1,
            bbox={"facecolor": paper(), "edgecolor": "none", "pad": 0.6},
        )
    if own is not None:
        bars.axvline(own.score, color=themed(GREY), linestyle=":", linewidth=1.2, zorder=0)
    bars.axvline(0, color=themed(INK), linewidth=0.8)
    places = [i + (0.5 if mine and not listed else 0.0) for i, (_, _, mine) in enumerate(shown)]
    bars.set_yticks(places, names)
    for label, (_, _, mine) in zip(bars.get_yticklabels(), shown, strict=True):
        label.set_parse_math(False)
        label.set_fontweight("bold" if mine else "normal")
    low, high = min(0.0, *(score for _, score, _ in shown)), max(0.0, *(score for _, score, _ in shown))
    high = high if high > low else 1.0
    room = 0.13 * (high - low)
    bars.set(
        xlim=(low - (room if low < 0 else 0), high + (room if high > 0 else 0)),
        ylim=(places[-1] + 0.6, -0.6),
        xlabel="score",
    )
    bars.tick_params(axis="y", length=0)
    return host


@styled
def neighbours(table: Any, *, ax: Axes | None = None) -> Axes:
    """The article's Figure 4: distance in embedding space against score, the sentence's own token marked by a star.

    Squares are the neighbours that are among the token search's best themselves; these score what the dashed line
    says, or more. Where the neighbours are far from the token, the axis is broken between them. A token that the font
    has no letters for is written as its number in `print(table)`.

    Args:
        table: the result of `similar_tokens`.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the neighbours are in the panel labelled "scores", the token, if the axis is
        broken, in the one labelled "own".
    """
    expect(table, "of similar_tokens()", NeighbourTable)
    text = _lines(_title(table, "nearest tokens"), WIDTH)
    foreign = sum(not written(as_text(row.token)) for row in table.neighbours)
    head, body, legend = 0.18 * (1 + text.count("\n")) + 0.1, 3.3, 0.62 if foreign else 0.45
    host = fill_axes(ax, WIDTH, head + body + legend)
    grid = grid_in(host, 3, 1, height_ratios=[head, body, legend])
    caption(host, grid[0], "title", text)
    near = min(row.distance for row in table.neighbours)
    far = max(row.distance for row in table.neighbours)
    broken = near > 0.3 * far > 0
    cells = grid[1].subgridspec(1, 2, width_ratios=[1.3, 8], wspace=0.02) if broken else None
    axes = add_panel(host, cells[1] if cells else grid[1], "scores")
    own = add_panel(host, cells[0], "own", sharey=axes) if cells else axes
    heights = [table.chosen.score, *(row.score for row in table.neighbours)]
    heights += [table.cut] if table.cut is not None else []
    margin = 0.08 * (max(heights) - min(heights) or 1.0)
    spread = (far - near if broken else far) or 1.0
    axes.set_xlim(near - 0.12 * spread if broken else -0.04 * spread, far + 0.18 * spread)
    axes.set_ylim(min(heights) - margin, max(heights) + margin)
    handles = _points(axes, table)
    (star,) = own.plot(
        [table.chosen.distance],
        [table.chosen.score],
        linestyle="none",
        marker="*",
        markersize=13,
        markerfacecolor=YELLOW,
        markeredgecolor=themed(INK),
        zorder=4,
        label=f"the sentence's own: {readable(table.chosen.token)}",
    )
    handles.append(star)
    if table.cut is not None:
        share = "" if table.share is None else f" ({table.share:.0%} are)"
        name = f"to be among the search's best {table.best}{share}"
        handles.append(axes.axhline(table.cut, color=themed(GREY), linestyle="--", linewidth=1.0, zorder=1, label=name))
    axes.set_xlabel({"euclidean": "Euclidean distance", "cosine": "cosine distance"}.get(table.metric, table.metric))
    own.set_ylabel("score")
    if broken:
        _break(own, axes, table)
    _name_points(axes, table.neighbours, (4.7 if broken else 5.5, body - 0.4))
    key = add_panel(host, grid[2], "legend")
    key.set_axis_off()
    share = f"{foreign} of {len(table.neighbours)}"
    said = f"numbers: rows of the printed table whose tokens this font can't write ({share})"
    key.legend(
        handles=handles,
        loc="center",
        ncols=2,
        frameon=False,
        borderaxespad=0,
        columnspacing=1.5,
        title=said if foreign else None,
        title_fontsize=FONT_SIZE,
    )
    return host


def _points(ax: Axes, table: NeighbourTable) -> list[Any]:
    """The neighbours, those that the search finds too as squares."""
    handles = []
    for found, marker, colour, name in (
        (False, "o", BLUE, "neighbour"),
        (True, "s", VERMILLION, f"neighbour among the search's best {table.best}"),
    ):
        some = [row for row in table.neighbours if bool(row.found) == found]
        if some:
            x, y = [row.distance for row in some], [row.score for row in some]
            look: dict[str, Any] = {
                "s": 18,
                "marker": marker,
                "color": colour,
                "edgecolor": themed(INK),
                "linewidth": 0.4,
            }
            handles.append(ax.scatter(x, y, zorder=3, label=name, **look))
    return handles


def _break(own: Axes, axes: Axes, table: NeighbourTable) -> None:
    """Mark the break of the axis between the token and its neighbours."""
    own.set(xlim=(-1, 1), xticks=[0])
    if table.cut is not None:
        own.axhline(table.cut, color=themed(GREY), linestyle="--", linewidth=1.0, zorder=1)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", left=False, labelleft=False)
    slash: dict[str, Any] = {"marker": [(-1, -2), (1, 2)], "markersize": 8, "linestyle": "none", "color": themed(INK)}
    own.plot([1], [0], transform=own.transAxes, clip_on=False, mew=1, **slash)
    axes.plot([0], [0], transform=axes.transAxes, clip_on=False, mew=1, **slash)


def _name_points(ax: Axes, points: Sequence[Neighbour], inches: tuple[float, float]) -> None:
    """Write tokens beside their points where there is room: right, left, above or below; the highest scores first, and
    numbers last.

    Args:
        inches: the size of the panel, about.
    """
    left, right, low, high = map(float, (*ax.get_xlim(), *ax.get_ylim()))
    wide, tall = 72 * inches[0], 72 * inches[1]
    at = [((row.distance - left) * wide / (right - left), (row.score - low) * tall / (high - low)) for row in points]
    marks = [(x - 3.5, y - 3.5, x + 3.5, y + 3.5) for x, y in at]
    taken = list(marks)
    size, gap = FONT_SIZE - 1, 5.0
    foreign = [not written(as_text(row.token)) for row in points]
    for i in sorted(range(len(points)), key=lambda i: (foreign[i], -points[i].score)):
        name, (x, y) = str(i + 1) if foreign[i] else readable(points[i].token, 14), at[i]
        length = text_width(name, size=size)
        for dx, dy, ha, va in (
            (gap, 0.0, "left", "center"),
            (-gap, 0.0, "right", "center"),
            (0.0, gap, "center", "bottom"),
            (0.0, -gap, "center", "top"),
        ):
            x0 = x + dx - {"left": 0.0, "right": length, "center": length / 2}[ha]
            y0 = y + dy - {"bottom": 0.0, "top": size, "center": size / 2}[va]
            box = (x0, y0, x0 + length, y0 + size)
            clear = not any(_overlap(box, other) for other in taken if other != marks[i])
            if clear and 0 <= x0 and x0 + length <= wide and 0 <= y0 and y0 + size <= tall:
                style: dict[str, Any] = {"ha": ha, "va": va, "size": size, "textcoords": "offset points"}
                ax.annotate(name, (points[i].distance, points[i].score), (dx, dy), **style)
                taken.append(box)
                break


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


@styled
def prediction_bars(found: Any, *, ax: Axes | None = None) -> Axes:
    """What a masked language model predicts for each [MASK], its probabilities as bars.

    Args:
        found: the result of `predict_masked`.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "position 2", ...
    """
    expect(found, "of predict_masked()", MaskedPredictions)
    across = min(len(found.places), 3)
    down = math.ceil(len(found.places) / across)
    width = max(3.6, 2.4 * across)
    text = _lines(f"predictions of {found.model}\n{' '.join(map(readable, found.places[0].tokens))}", width)
    most = max(len(rows) for rows in found.predictions)
    head, body = 0.18 * (1 + text.count("\n")) + 0.1, down * (0.6 + 0.19 * most)
    host = fill_axes(ax, width, head + body)
    grid = grid_in(host, 2, 1, height_ratios=[head, body])
    caption(host, grid[0], "title", text)
    cells = grid[1].subgridspec(down, across)
    for number, (where, rows) in enumerate(zip(found.places, found.predictions, strict=True)):
        bars = add_panel(host, cells[number // across, number % across], f"position {where.pos}")
        for i, row in enumerate(rows):
            bars.barh(i, row.probability, height=0.75, color=BLUE, edgecolor=themed(INK), linewidth=0.6)
            bars.text(row.probability + 0.02, i, f"{row.probability:.3f}", va="center", size=FONT_SIZE - 1)
        bars.set_yticks(range(len(rows)), [readable(row.token, 14) for row in rows])
        for label in bars.get_yticklabels():
            label.set_parse_math(False)
        bars.tick_params(axis="y", length=0)
        bars.set(xlim=(0, 1.2), ylim=(most - 0.4, -0.6), xticks=[0, 0.5, 1], title=f"position {where.pos}")
        if number + across >= len(found.places):
            bars.set_xlabel("probability")
    return host
