"""Results -> matplotlib Axes. Nothing here runs a model or shows a figure: save or show `ax.figure` yourself.

    ax = dream_history(result)          # the article's Figure 1
    save_figure(ax.figure, "dream.png")

A picture fills the place of one Axes, made here or given as `ax`. That Axes comes back, emptied; the panels drawn in
its place are in `ax.figure.axes` and found by `get_label()`: "tokens", "score", "temperature", "step 40".
"""

from __future__ import annotations

import io
import math
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import matplotlib
import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.patches import Patch, Rectangle
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from tl_dream._errors import DreamError, require, unknown
from tl_dream.results import Dream, History, Run, check_writable, write_bytes

# ---------------------------------------------------------------- style, shared with the stations plotting_*.py

INK, GREY, PALE = "#000000", "#5c5c5c", "#d9d9d9"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
"""Okabe and Ito's colours, told apart with every kind of colour vision. No meaning rests on colour alone."""

WEIGHTS = LinearSegmentedColormap.from_list("tl_dream_weights", ["#ffffff", SKY])
"""Softmax weights: white (0) to sky blue (1); lighter to darker in grey, and black text stays readable on all of it."""

FONT_SIZE = 8.0
"""Points."""

STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so a figure looks the same everywhere
    "font.size": FONT_SIZE,
    "axes.titlesize": FONT_SIZE + 1,
    "axes.labelsize": FONT_SIZE,
    "xtick.labelsize": FONT_SIZE - 1,
    "ytick.labelsize": FONT_SIZE - 1,
    "legend.fontsize": FONT_SIZE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "lines.linewidth": 1.4,
    "text.parse_math": False,  # "$" is a token
    "text.usetex": False,
    "figure.dpi": 100.0,
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(function: Callable[P, R]) -> Callable[P, R]:
    """Draw in the package's style and leave the user's rcParams as they are."""

    @wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


def place(ax: Axes | None, width: float, height: float) -> Axes:
    """The emptied Axes whose place a picture fills: `ax`, or a new figure of `width` x `height` inches."""
    if ax is None:
        ax = plt.figure(figsize=(width, height), layout="constrained").add_subplot()
    ax.set_axis_off()
    return ax


def split(ax: Axes, rows: int, columns: int, **ratios: Sequence[float] | float) -> GridSpecFromSubplotSpec:
    """A grid in the place of an Axes (`width_ratios`, `height_ratios`, `wspace`, `hspace`)."""
    spec = ax.get_subplotspec()
    if spec is None:  # an Axes put somewhere by hand
        box = ax.get_position()
        spec = GridSpec(1, 1, ax.figure.figure, box.x0, box.y0, box.x1, box.y1)[0]
    return spec.subgridspec(rows, columns, **ratios)


def dpi(ax: Axes) -> float:
    """Pixels an inch of the figure an Axes stands in."""
    return float(ax.figure.figure.dpi)


def panel(ax: Axes, spec: SubplotSpec, label: str, **options: Any) -> Axes:
    """A new Axes in a cell of the grid, found later by its label."""
    owner: Figure | SubFigure = ax.figure
    return owner.add_subplot(spec, label=label, **options)


@lru_cache(maxsize=1)
def _font() -> FT2Font:
    return FT2Font(font_manager.findfont(FontProperties(family=STYLE["font.family"])))


def readable(token: str, longest: int = 18) -> str:
    """A token as it is written in a figure: glyphs the font lacks as their code point, long tokens cut with "…"."""
    shown = "".join(c if c.isprintable() and _font().get_char_index(ord(c)) else f"\\u{ord(c):04x}" for c in token)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


@lru_cache(maxsize=4096)
def text_width(text: str, bold: bool = False, size: float = FONT_SIZE) -> float:
    """The width of a line of text in points."""
    font = FontProperties(family=STYLE["font.family"], weight="bold" if bold else "normal", size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def wrapped(text: str, inches: float, size: float = FONT_SIZE + 1) -> str:
    """A title, broken into lines of at most this width."""
    return textwrap.fill(text, max(20, int(inches * 72 / (0.58 * size))), break_on_hyphens=False)


def caption(host: Axes, spec: SubplotSpec, label: str, text: str, size: float = FONT_SIZE + 1) -> None:
    """Text in a cell of its own: a title over several panels gets room from no layout engine."""
    ax = panel(host, spec, label)
    ax.text(0, 0, text, ha="left", va="bottom", size=size)
    ax.set_axis_off()


def spread(count: int, most: int, always: Sequence[int] = ()) -> list[int]:
    """At most `most` of the indices 0 .. count - 1, evenly spaced, with the first, the last and those in `always`."""
    fixed = sorted({0, count - 1, *always}) if count else []
    for wanted in range(min(most, count), 1, -1):
        chosen = {round(i * (count - 1) / (wanted - 1)) for i in range(wanted)} | set(fixed)
        if len(chosen) <= most:
            return sorted(chosen)
    return fixed


# ---------------------------------------------------------------- files

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

    Args:
        figure: for instance `dream_history(result).figure`; of a part of a figure, the whole.
        path: where to.
        dpi: pixels an inch, of PNG.

    Raises:
        DreamError: another suffix, or a path that can't be written.
    """
    check_figure_path(path)
    kind = os.fspath(path).rsplit(".", 1)[-1].lower()
    content = io.BytesIO()
    dates = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}  # none: a figure is not newer for being drawn again
    with matplotlib.rc_context(STYLE):
        figure.figure.savefig(content, format=kind, dpi=dpi, metadata=dates.get(kind))
    write_bytes(path, content.getvalue())


# ---------------------------------------------------------------- Figure 1

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


@styled
def dream_history(dream: Dream, *, run: int = 0, ax: Axes | None = None) -> Axes:
    """The article's Figure 1: the most likely tokens over the steps, beside the scores and the temperature.

    Rows are recorded steps (at most a dozen, evenly spaced, the best among them), columns positions; a long sentence
    goes on in a second block, and then the curves stand below. Shading is the softmax weight of a token, bold tokens
    differ from the start's, a bar marks those that differ from the row above. The star is the best real tokens.

    Args:
        dream: the result.
        run: 0 for the winner, 1 for the first of `dream.others`, and so on.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "tokens", "score" and "temperature".

    Raises:
        DreamError: no such run, or one without records.
    """
    chosen = get_run(dream, run)
    history = chosen.history
    require(len(history) > 0, "nothing to draw: the history holds no record (the run stopped before its first)")
    annealed = any(math.isfinite(value) for value in history.temperature)  # the discrete methods have none
    layout = _layout(chosen, f"{dream.objective} on {dream.model}", ax)
    scale = 1.0 if ax is None else layout.scale(*_inches(ax))
    host = place(ax, layout.width, layout.height)
    cells = split(host, 2, 1, height_ratios=[layout.head, layout.body])
    caption(host, cells[0], "title", layout.title, scale * (FONT_SIZE + 1))
    if layout.beside:
        whole = cells[1].subgridspec(1, 2, width_ratios=[layout.width - BESIDE, BESIDE])
        curves = whole[1].subgridspec(2, 1, height_ratios=[2.4, 1])
    else:
        whole = cells[1].subgridspec(2, 1, height_ratios=[layout.body - BELOW, BELOW])
        curves = whole[1].subgridspec(1, 2, width_ratios=[2, 1])
    tables = whole[0].subgridspec(len(layout.blocks), 1, height_ratios=layout.heights)
    for i in range(len(layout.blocks)):
        table = panel(host, tables[i], "tokens" if i == 0 else f"tokens {i + 1}")
        _draw_tokens(table, layout, i, history.free, scale * FONT_SIZE)
    with matplotlib.rc_context({key: STYLE[key] * scale for key in STYLE if key.endswith("size")}):
        score = panel(host, curves[0] if annealed else whole[1], "score")
        _draw_scores(score, chosen)
        if annealed:
            temperature = panel(host, curves[1], "temperature", sharex=score)
            temperature.plot(history.step, history.temperature, color=INK, label="temperature")
            temperature.set(xlabel="step", ylabel="temperature")
            temperature.set_ylim(bottom=0)
        if annealed and layout.beside:
            score.tick_params(labelbottom=False)
        else:
            score.set_xlabel("step")
    return host


def get_run(dream: Dream, run: int) -> Run:
    """One run of a dream: 0 is the winner, 1 the first of `others`.

    Raises:
        DreamError: no such run.
    """
    runs = [Run(dream.start, dream.best, dream.soft_score, dream.history), *dream.others]
    require(
        isinstance(run, int) and 0 <= run < len(runs),
        f"run {run!r} does not exist: this dream has runs 0 to {len(runs) - 1}, and 0 is the winner",
    )
    return runs[run]


def _inches(ax: Axes) -> tuple[float, float]:
    """Width and height of an Axes before a layout engine moves it."""
    box = ax.get_window_extent()
    return box.width / dpi(ax), box.height / dpi(ax)


@dataclass(frozen=True)
class _Layout:
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


def _layout(run: Run, title: str, ax: Axes | None) -> _Layout:
    """In a figure of our own the number of blocks follows from the sentence, and many blocks show fewer steps; in a
    given Axes both are chosen for the largest letters."""

    def made(most: int, count: int) -> _Layout:
        rows = _rows(run, most)
        columns = [
            max(text_width(readable(row.tokens[i]), bold=True) for row in rows) + 9.0
            for i in range(len(rows[0].tokens))
        ]
        bare = _Layout(rows, tuple(columns), _blocks(columns, count), "")
        return replace(bare, title=wrapped(title, bare.width))

    if ax is not None:
        options = [made(most, count) for most in (MOST_ROWS, 8, 5) for count in range(1, 7)]
        return max(options, key=lambda option: option.scale(*_inches(ax)))
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
    return _label_width(rows) + max(text_width(_number(row.score), bold=True) for row in rows) + 18.0


def _label_width(rows: Sequence[_Row]) -> float:
    return max(text_width(f"★ {row.label}", bold=True) for row in rows)


def _number(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= abs(value) < 1000 or value == 0 else f"{value:.3g}"


def _blocks(columns: Sequence[float], count: int) -> tuple[tuple[int, int], ...]:
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


def _draw_tokens(ax: Axes, layout: _Layout, block: int, free: Sequence[int], size: float) -> None:
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
    header: dict[str, Any] = {"va": "center", "color": GREY, "size": small}
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
        ax.text(left - 8, top + 0.5, _number(row.score), ha="right", va="center", size=size, weight=weight)
        for column, i in enumerate(range(first, last)):
            x, width = edges[column], columns[i]
            if row.weights is not None and i in free:
                shade = WEIGHTS(float(row.weights[i]))
                ax.add_patch(Rectangle((x, top), width, 1, facecolor=shade, edgecolor="white", linewidth=0.8))
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
                color=INK if changed or i in free else GREY,
            )
    bottom = tops[-1] + 1
    for y in (1 + gap / 2, bottom - 1 - gap / 2):
        ax.plot([0, edges[-1]], [y, y], color=GREY, linewidth=0.6)
    if block + 1 == len(layout.blocks):
        _draw_legend(ax, bottom + 0.7, size, any(any(row.weights or ()) for row in rows))
    ax.set(xlim=(0, layout.wide), ylim=(layout.heights[block] - 1.0, -1.0))
    ax.set_axis_off()


def _draw_legend(ax: Axes, y: float, size: float, shaded: bool) -> None:
    """What shading, bars and bold mean, in the coordinates of the table."""
    x = 0.0
    text: dict[str, Any] = {"ha": "left", "va": "center", "size": size - 1, "color": INK}
    weight, new, bold = LEGEND
    if shaded:
        ax.text(x, y + 0.05, f"{weight} 0", **text)
        x += text_width(f"{weight} 0", size=FONT_SIZE - 1) + 5
        for i in range(5):
            ax.add_patch(Rectangle((x, y - 0.35), 9, 0.7, facecolor=WEIGHTS(i / 4), edgecolor=GREY, linewidth=0.4))
            x += 9
        ax.text(x + 4, y + 0.05, "1", **text)
        x += 26
    ax.add_patch(Rectangle((x, y - 0.38), 1.8, 0.76, facecolor=VERMILLION, linewidth=0))
    ax.text(x + 6, y + 0.05, new, **text)
    x += text_width(new, size=FONT_SIZE - 1) + 24
    ax.text(x, y + 0.05, bold, **{**text, "weight": "bold"})


def _draw_scores(ax: Axes, run: Run) -> None:
    history = run.history
    if history.soft_score:
        ax.plot(history.step, history.soft_score, color=BLUE, linestyle="--", label="soft sentence")
    ax.plot(
        history.step,
        history.hard_score,
        drawstyle="default" if history.soft_score else "steps-post",
        color=VERMILLION,
        marker="o" if len(history) <= 60 else "",
        markersize=2.5,
        linewidth=1.0,
        label="real tokens",
    )
    ax.axhline(run.start.score, color=GREY, linestyle=":", linewidth=1.2, label="start", zorder=1)
    ax.plot(
        [run.best.step],
        [run.best.score],
        linestyle="none",
        marker="*",
        markersize=11,
        markerfacecolor=YELLOW,
        markeredgecolor=INK,
        label="best real tokens",
        zorder=5,
        clip_on=False,
    )
    ax.set_ylabel("score")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.5,
        handlelength=2.4,
    )


# ---------------------------------------------------------------- Figure 2


@styled
def annealing(
    dream: Dream,
    pos: int | str,
    *,
    run: int = 0,
    steps: Sequence[int] | None = None,
    k: int | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The article's Figure 2: how the softmax of one free word settles as the temperature falls.

    Small multiples, one a step: bars are the softmax weights of the `k` most likely tokens, those without any left out.
    Hatched bars follow two tokens: the start's, and the one that is most likely at the last record.

    Args:
        dream: the result of an annealed ascent.
        pos: a free position (negative ones count from the end), or its token in the start.
        run: 0 for the winner, 1 for the first of `dream.others`, and so on.
        steps: recorded steps to show; None takes five: four evenly spaced until the word has settled, and the last.
        k: tokens a step, 1 to the `top_k` of the run; None takes eight, or as many as there are.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "step 0", "step 40", ...

    Raises:
        DreamError: no such run, a position that is not there or was not free, a step that was not recorded, or more
            tokens than the history keeps.
    """
    chosen = get_run(dream, run)
    history = chosen.history
    require(len(history) > 0, "nothing to draw: the history holds no record (the run stopped before its first)")
    position = _position(chosen, pos)
    slot = history.free.index(position)
    kept = len(history.top_tokens[0][slot]) if history.top_tokens[0] else 0
    require(kept > 0, "this run has no softmax to draw: only annealed ascent keeps the weights of each position")
    k = min(8, kept) if k is None else k
    require(
        isinstance(k, int) and 1 <= k <= kept,
        f"k = {k!r}: this run's history keeps the {kept} most likely tokens of each position; give 1 to {kept}",
    )
    records = _settling(history, slot) if steps is None else _recorded(history, steps)
    across = min(len(records), 5)
    down = math.ceil(len(records) / across)
    inches = 1.85 * across + 0.3
    text = wrapped(f"softmax at position {position}: {dream.objective} on {dream.model}", inches)
    head = 0.18 * (1 + text.count("\n")) + 0.06
    body = down * (0.75 + 0.19 * max(k, 3))
    host = place(ax, inches, head + body + 0.45)
    grid = split(host, 3, 1, height_ratios=[head, body, 0.25])
    caption(host, grid[0], "title", text)
    cells = grid[1].subgridspec(down, across)
    before, after = chosen.start.tokens[position], history.tokens[-1][position]
    for number, record in enumerate(records):
        cell = panel(host, cells[number // across, number % across], f"step {history.step[record]}")
        weights = [weight for weight in history.top_weights[record][slot][:k] if weight > 0]  # 0: not allowed
        _draw_bars(cell, history.top_tokens[record][slot][: len(weights)], weights, before, after, k)
        cell.set_title(f"step {history.step[record]}\ntemperature {history.temperature[record]:.2g}", size=FONT_SIZE)
        if number + across >= len(records):
            cell.set_xlabel("softmax weight")
    marks = [(BLUE, "..", f"start: {readable(before)}")] if before != after else []
    marks.append((ORANGE, "//", f"last: {readable(after)}" + ("" if marks else " (the start's own)")))
    key = panel(host, grid[2], "legend")
    key.set_axis_off()
    key.legend(
        handles=[
            Patch(facecolor=colour, edgecolor=INK, hatch=hatch, label=name, linewidth=0.6)
            for colour, hatch, name in marks
        ],
        loc="center",
        ncols=2,
        frameon=False,
        borderaxespad=0,
    )
    return host


def _draw_bars(ax: Axes, tokens: Sequence[str], weights: Sequence[float], before: str, after: str, k: int) -> None:
    for i, (token, weight) in enumerate(zip(tokens, weights, strict=True)):
        colour, hatch = (ORANGE, "//") if token == after else (BLUE, "..") if token == before else (PALE, "")
        ax.barh(i, weight, height=0.75, color=colour, hatch=hatch, edgecolor=INK, linewidth=0.6)
        inside = weight > 0.75
        ax.text(
            weight + (-0.03 if inside else 0.03),
            i,
            f"{weight:.2f}" if weight >= 0.005 else "<0.01",
            ha="right" if inside else "left",
            va="center",
            size=FONT_SIZE - 1.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8} if inside else None,
        )
    ax.set_yticks(range(len(tokens)), [readable(token, 14) for token in tokens])
    for label, token in zip(ax.get_yticklabels(), tokens, strict=True):
        label.set_parse_math(False)
        label.set_fontweight("bold" if token in (before, after) else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), ylim=(k - 0.5, -0.5), xticks=[0, 0.5, 1])


def _settling(history: History, slot: int) -> list[int]:
    """The records to show of one word: most of them until its last token keeps 99 % of the softmax."""
    tokens, weights = history.top_tokens, history.top_weights
    settled = len(history) - 1
    while settled > 0 and tokens[settled][slot][0] == tokens[-1][slot][0] and weights[settled][slot][0] > 0.99:
        settled -= 1
    if settled + 2 >= len(history):
        return spread(len(history), 5)
    return [*spread(settled + 2, 4), len(history) - 1]


def _recorded(history: History, steps: Sequence[int]) -> list[int]:
    """The records of these steps."""
    require(len(steps) > 0, "no step given: name recorded steps, or leave steps= out")
    for step in steps:
        if step not in history.step:
            close = sorted(history.step, key=lambda known: abs(known - step))[:4]
            raise DreamError(
                f"step {step!r} was not recorded; nearest: {', '.join(str(known) for known in sorted(close))} "
                "(a run records every `evaluate_every` steps)"
            )
    return [history.step.index(step) for step in steps]


def _position(run: Run, pos: int | str) -> int:
    """A free position by number or by its token in the start."""
    tokens, free = run.start.tokens, run.history.free
    listed = ", ".join(f"{i} {tokens[i]}" for i in free)
    if isinstance(pos, str):
        found = [i for i, token in enumerate(tokens) if token == pos]
        if not found:
            raise unknown("word", pos, tokens, f"The free positions are: {listed}")
        require(
            len(found) == 1,
            f"the word {pos!r} is in the sentence {len(found)} times, at positions "
            f"{', '.join(map(str, found))}: give the position instead",
        )
        pos = found[0]
    require(
        isinstance(pos, int) and -len(tokens) <= pos < len(tokens),
        f"position {pos!r} is outside the sentence of {len(tokens)} tokens; the free positions are: {listed}",
    )
    pos %= len(tokens)
    require(pos in free, f"position {pos} ({tokens[pos]}) was not free in this run; the free positions are: {listed}")
    return pos
