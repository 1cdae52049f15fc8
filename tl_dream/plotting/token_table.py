"""A table of tokens over the steps of a search, in blocks that fit the width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tl_dream.plotting.canvas import (
    FONT_SIZE,
    GREY,
    INK,
    VERMILLION,
    dpi,
    paper,
    readable,
    shade,
    short_number,
    spread,
    text_width,
    themed,
    wrapped,
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


def inches(ax: Axes) -> tuple[float, float]:
    """Width and height of an Axes before a layout engine moves it."""
    box = ax.get_window_extent()
    return box.width / dpi(ax), box.height / dpi(ax)


@dataclass(frozen=True)
class Layout:
    """What stands in the token table, and the size of everything.

    Attributes:
        rows: the start, the steps, the best.
        columns: points of every position.
        blocks: positions [first, last) of every block.
        title: in lines.
    """

    rows: tuple[_Row, ...]
    columns: tuple[float, ...]
    blocks: tuple[tuple[int, int], ...]
    title: str

    @property
    def beside(self) -> bool:
        return len(self.blocks) == 1

    @property
    def wide(self) -> float:
        """Points of the widest block, or of the legend."""
        return max(
            *(_side(self.rows) + sum(self.columns[first:last]) for first, last in self.blocks),
            sum(text_width(text) for text in LEGEND) + 110.0,
        )

    @property
    def heights(self) -> list[float]:
        """Every block in rows, with its header; under the last one is the legend."""
        heights = [len(self.rows) + 2.0] * len(self.blocks)
        heights[-1] = max(heights[-1] + 1.2, 3.0 * 72 / ROW if self.beside else 0.0)
        return heights

    @property
    def width(self) -> float:
        return 1.04 * self.wide / 72 + (BESIDE if self.beside else 0.2)

    @property
    def head(self) -> float:
        return 0.18 * (1 + self.title.count("\n")) + 0.06

    @property
    def body(self) -> float:
        return sum(self.heights) * ROW / 72 + (0.0 if self.beside else BELOW)

    @property
    def height(self) -> float:
        return self.head + self.body + 0.2

    def scale(self, width: float, height: float) -> float:
        """The factor, 1 at most, by which letters must shrink in so many inches."""
        return min(1.0, width / self.width, height / self.height)


def lay_out(run: Run, title: str, ax: Axes | None) -> Layout:
    """In a figure of our own the number of blocks follows from the sentence, and many blocks show fewer steps; in a
    given Axes both are chosen for the largest letters."""

    def made(most: int, count: int) -> Layout:
        rows = _rows(run, most)
        columns = [
            max(text_width(readable(row.tokens[i]), bold=True) for row in rows) + 9.0
            for i in range(len(rows[0].tokens))
        ]
        bare = Layout(rows, tuple(columns), blocks(columns, count), "")
        return replace(bare, title=wrapped(title, bare.width))

    if ax is not None:
        options = [made(most, count) for most in (MOST_ROWS, 8, 5) for count in range(1, 7)]
        return max(options, key=lambda option: option.scale(*inches(ax)))
    for count in range(1, 1 + len(run.start.tokens)):
        option = made(MOST_ROWS if count <= 2 else 8 if count <= 4 else 6, count)
        if option.wide <= 72 * (WIDEST if count <= 2 else WIDEST + 2):
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


def draw_tokens(ax: Axes, layout: Layout, block: int, free: Sequence[int], size: float) -> None:
    """One block of the table: x in points (at full font size), y in rows, downwards."""
    rows, columns, (first, last) = layout.rows, layout.columns, layout.blocks[block]
    start = rows[0].tokens
    left = _side(rows)
    edges = [left]
    for width in columns[first:last]:
        edges.append(edges[-1] + width)
    gap = 0.35  # rows between what was measured in the run and the start above, the best below
    tops = [0.0, *(i + 1 + gap for i in range(len(rows) - 2)), len(rows) - 1 + 2 * gap]
    at = _label_width(rows)
    small = size - 1
    header: dict[str, Any] = {"va": "center", "color": themed(GREY), "size": small}
    ax.text(at, -0.6, "step", ha="right", **header)
    ax.text(left - 8, -0.6, "score", ha="right", **header)
    for column, i in enumerate(range(first, last)):
        ax.text(edges[column] + 4, -0.6, str(i), ha="left", **header)
    for number, (row, top) in enumerate(zip(rows, tops, strict=True)):
        above = rows[number - 1].tokens if 0 < number < len(rows) - 1 else row.tokens
        ends = row.weights is None
        star = "★ " if number == len(rows) - 1 else ""
        weight = "bold" if ends else "normal"
        ax.text(at, top + 0.5, star + row.label, ha="right", va="center", size=size, weight=weight)
        ax.text(left - 8, top + 0.5, short_number(row.score, 2), ha="right", va="center", size=size, weight=weight)
        for column, i in enumerate(range(first, last)):
            x, width = edges[column], columns[i]
            if row.weights is not None and i in free:
                ax.add_patch(
                    Rectangle((x, top), width, 1, facecolor=shade(row.weights[i]), edgecolor=paper(), linewidth=0.8)
                )
            if row.tokens[i] != above[i]:
                ax.add_patch(Rectangle((x + 0.6, top + 0.12), 1.8, 0.76, facecolor=VERMILLION, linewidth=0))
            changed = row.tokens[i] != start[i]
            ax.text(
                x + 4.5,
                top + 0.5,
                readable(row.tokens[i]),
                ha="left",
                va="center",
                size=size,
                weight="bold" if changed else "normal",
                color=themed(INK) if changed or i in free else themed(GREY),
            )
    bottom = tops[-1] + 1
    for y in (1 + gap / 2, bottom - 1 - gap / 2):
        ax.plot([0, edges[-1]], [y, y], color=themed(GREY), linewidth=0.6)
    if block + 1 == len(layout.blocks):
        draw_legend(ax, bottom + 0.7, size, any(any(row.weights or ()) for row in rows))
    ax.set(xlim=(0, layout.wide), ylim=(layout.heights[block] - 1.0, -1.0))
    ax.set_axis_off()


def draw_legend(ax: Axes, y: float, size: float, shaded: bool) -> None:
    """What shading, bars and bold mean, in the coordinates of the table."""
    x = 0.0
    text: dict[str, Any] = {"ha": "left", "va": "center", "size": size - 1, "color": themed(INK)}
    weight, new, bold = LEGEND
    if shaded:
        ax.text(x, y + 0.05, f"{weight} 0", **text)
        x += text_width(f"{weight} 0", size=FONT_SIZE - 1) + 5
        for i in range(5):
            ax.add_patch(
                Rectangle((x, y - 0.35), 9, 0.7, facecolor=shade(i / 4), edgecolor=themed(GREY), linewidth=0.4)
            )
            x += 9
        ax.text(x + 4, y + 0.05, "1", **text)
        x += 26
    ax.add_patch(Rectangle((x, y - 0.38), 1.8, 0.76, facecolor=VERMILLION, linewidth=0))
    ax.text(x + 6, y + 0.05, new, **text)
    x += text_width(new, size=FONT_SIZE - 1) + 24
    ax.text(x, y + 0.05, bold, **{**text, "weight": "bold"})
