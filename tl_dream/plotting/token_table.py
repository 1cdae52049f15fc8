"""A table of tokens over the steps of a search, in blocks that fit the width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes

from tl_dream.plotting.canvas import spread
from tl_dream.plotting.style import (
    GREY,
    INK,
    VERMILLION,
    draw_box,
    draw_scale,
    paper,
    readable,
    scaled,
    shade,
    short_number,
    small,
    text_width,
    themed,
)
from tl_dream.results import Run

MOST_ROWS = 12
WIDEST = 8.5  # inches of the token table; a longer sentence goes on in a block below
ROW = 15.0  # points
BESIDE, BELOW = 4.0, 2.7  # inches of the curves: their width beside the table, their height below it
LEGEND = ("softmax weight", "new since the row above", "bold: not the start's token")


@dataclass(frozen=True)
class _Row:
    """A row of the token table; `weights` is None where no softmax was (the start, the best)."""

    label: str
    score: float
    tokens: tuple[str, ...]
    weights: tuple[float, ...] | None


@dataclass(frozen=True)
class Layout:
    """What stands in the token table, and the size of everything.

    Attributes:
        rows: the start, the steps, the best.
        columns: points of every position.
        blocks: positions [first, last) of every block.
        given: whether it goes into a given place, where the curves may be smaller.
        beside, below: inches of the curves; one of them is 0.
        width, body: inches of table and curves.
        heights: every block in rows, with its header; under the last one is the legend.
    """

    rows: tuple[_Row, ...]
    columns: tuple[float, ...]
    blocks: tuple[tuple[int, int], ...]
    given: bool

    @property
    def beside(self) -> float:
        return scaled(BESIDE) * (0.6 if self.given else 1.0) if len(self.blocks) == 1 else 0.0

    @property
    def below(self) -> float:
        return 0.0 if self.beside else scaled(BELOW) * (0.7 if self.given else 1.0)

    @property
    def wide(self) -> float:
        """Points of the widest block, or of the legend."""
        return max(
            *(_side(self.rows) + sum(self.columns[first:last]) for first, last in self.blocks),
            sum(text_width(text) for text in LEGEND) + 72 * scaled(1.55),
        )

    @property
    def heights(self) -> list[float]:
        heights = [len(self.rows) + 2.0] * len(self.blocks)
        heights[-1] = max(heights[-1] + 1.2, (2.0 if self.given else 3.0) * 72 / ROW if self.beside else 0.0)
        return heights

    @property
    def width(self) -> float:
        return 1.04 * self.wide / 72 + (self.beside or 0.2)

    @property
    def body(self) -> float:
        return sum(self.heights) * scaled(ROW) / 72 + self.below


def lay_out(run: Run, room: tuple[float, float] | None) -> Layout | None:
    """In a figure of our own (no `room`) the number of blocks follows from the sentence, and many blocks show fewer
    steps; in so many inches both are chosen so that the most steps fit, None where there is no room for five."""

    def made(most: int, count: int) -> Layout:
        rows = _rows(run, most)
        columns = [
            max(text_width(readable(row.tokens[i]), bold=True) for row in rows) + 9.0
            for i in range(len(rows[0].tokens))
        ]
        return Layout(rows, tuple(columns), blocks(columns, count), room is not None)

    if room is not None:
        options = (made(most, count) for most in (MOST_ROWS, 8, 5) for count in range(1, 5))
        return next((option for option in options if option.width <= room[0] and option.body <= room[1]), None)
    for count in range(1, 1 + len(run.start.tokens)):
        option = made(MOST_ROWS if count <= 2 else 8 if count <= 4 else 6, count)
        if option.wide <= 72 * scaled(WIDEST if count <= 2 else WIDEST + 2):
            break
    return option


def _rows(run: Run, most: int) -> tuple[_Row, ...]:
    history = run.history
    best_at = [history.step.index(run.best.step)] if run.best.step in history.step else []
    shown = spread(len(history), most, best_at)
    weights = history.weights or ((0.0,) * len(run.start.tokens),) * len(history)  # a search over real tokens has none
    recorded = [_Row(str(history.step[i]), history.hard_score[i], history.tokens[i], weights[i]) for i in shown]
    best = _Row(f"best ({run.best.step})", run.best.score, run.best.tokens, None)
    return (_Row("start", run.start.score, run.start.tokens, None), *recorded, best)


def _side(rows: Sequence[_Row]) -> float:
    """Points for the step and the score, left of the tokens."""
    return _label_width(rows) + max(text_width(short_number(row.score, 2), bold=True) for row in rows) + 18.0


def _label_width(rows: Sequence[_Row]) -> float:
    return max(text_width(f"★ {row.label}", bold=True) for row in rows)


def blocks(columns: Sequence[float], count: int) -> tuple[tuple[int, int], ...]:
    """All positions in `count` blocks of like width (fewer, where there are fewer positions)."""
    limit = sum(columns) / count
    blocks: list[tuple[int, int]] = []
    first, done = 0, 0.0
    for i, width in enumerate(columns):
        if i > first and done + width / 2 > limit * (len(blocks) + 1):
            blocks.append((first, i))
            first = i
        done += width
    return (*blocks, (first, len(columns)))


def draw_tokens(ax: Axes, layout: Layout, block: int, free: Sequence[int]) -> None:
    """One block of the table: x in points, y in rows, downwards."""
    rows, columns, (first, last) = layout.rows, layout.columns, layout.blocks[block]
    start = rows[0].tokens
    left = _side(rows)
    edges = [left]
    for width in columns[first:last]:
        edges.append(edges[-1] + width)
    gap = 0.35  # rows between what was measured in the run and the start above, the best below
    tops = [0.0, *(i + 1 + gap for i in range(len(rows) - 2)), len(rows) - 1 + 2 * gap]
    at = _label_width(rows)
    header: dict[str, Any] = {"va": "center", "color": themed(GREY), "size": small()}
    ax.text(at, -0.6, "step", ha="right", **header)
    ax.text(left - 8, -0.6, "score", ha="right", **header)
    for column, i in enumerate(range(first, last)):
        ax.text(edges[column] + 4, -0.6, str(i), ha="left", **header)
    for number, (row, top) in enumerate(zip(rows, tops, strict=True)):
        above = rows[number - 1].tokens if 0 < number < len(rows) - 1 else row.tokens
        ends = row.weights is None
        star = "★ " if number == len(rows) - 1 else ""
        weight = "bold" if ends else "normal"
        ax.text(at, top + 0.5, star + row.label, ha="right", va="center", weight=weight)
        ax.text(left - 8, top + 0.5, short_number(row.score, 2), ha="right", va="center", weight=weight)
        for column, i in enumerate(range(first, last)):
            x, width = edges[column], columns[i]
            if row.weights is not None and i in free:
                draw_box(ax, x, top, width, 1, shade(row.weights[i]), paper())
            if row.tokens[i] != above[i]:
                draw_box(ax, x + 0.6, top + 0.12, 1.8, 0.76, themed(VERMILLION))
            changed = row.tokens[i] != start[i]
            look: dict[str, Any] = {"color": themed(INK if changed or i in free else GREY), "va": "center"}
            ax.text(x + 4.5, top + 0.5, readable(row.tokens[i]), weight="bold" if changed else "normal", **look)
    bottom = tops[-1] + 1
    for y in (1 + gap / 2, bottom - 1 - gap / 2):
        ax.plot([0, edges[-1]], [y, y], color=themed(GREY), linewidth=0.6)
    if block + 1 == len(layout.blocks):
        draw_legend(ax, bottom + 0.7, any(any(row.weights or ()) for row in rows))
    ax.set(xlim=(0, layout.wide), ylim=(layout.heights[block] - 1.0, -1.0))


def draw_legend(ax: Axes, y: float, shaded: bool) -> None:
    """What shading, bars and bold mean, in the coordinates of the table."""
    weight, new, bold = LEGEND
    x = draw_scale(ax, 0.0, y, f"{weight} 0", "1") + 18 if shaded else 0.0
    draw_box(ax, x, y - 0.38, 1.8, 0.76, themed(VERMILLION))
    ax.text(x + 6, y, new, ha="left", va="center", size=small())
    x += text_width(new, points=small()) + 24
    ax.text(x, y, bold, ha="left", va="center", size=small(), weight="bold")
