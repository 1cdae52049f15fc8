"""Searches -> matplotlib Axes: the front of activation against fluency, and what a score cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from tl_dream._arguments import listed
from tl_dream._errors import require
from tl_dream.plotting.canvas import (
    BLUE,
    FONT_SIZE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PURPLE,
    VERMILLION,
    add_panel,
    caption,
    expect,
    fill_axes,
    grid_in,
    readable,
    spelled,
    spread,
    styled,
    text_width,
    themed,
    wrapped,
)
from tl_dream.results import Dream, Frontier

LINES: tuple[tuple[str, Any, str], ...] = (
    (INK, "-", "o"),
    (BLUE, "--", "s"),
    (VERMILLION, "-.", "^"),
    (PURPLE, ":", "D"),
    (ORANGE, (0, (8, 2.5)), "v"),
    (GREEN, (0, (4, 1, 1, 1, 1, 1)), "X"),
)
"""Colour, dashes and marker of each line: told apart without colour too."""

START: Any = (0, (1, 6))
"""Dashes of the line at the start's score: like none of the others."""

MOST_TEXTS = 10


@styled
def pareto(frontier: Any, *, ax: Axes | None = None) -> Axes:
    """The texts that nothing seen beats in both score and fluency, numbered, with the start.

    Args:
        frontier: from `epo`.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "front" and "texts".

    Raises:
        DreamError: the search had no judge, so there is no fluency to draw.
    """
    expect(frontier, "of epo()", Frontier)
    require(
        frontier.fluency is not None,
        "the search was run without a judge of fluency: run epo with fluency= (see `fluency`)",
    )
    shown = spread(len(frontier.front), MOST_TEXTS)
    lines = [_entry(str(n + 1), frontier.front[i].scored.text) for n, i in enumerate(shown)]
    lines.append(_entry("×", f"(start) {frontier.start.scored.text}"))
    width = max(7.5, min(11.0, (max(text_width(line) for line in lines) + 20) / 72))
    title = wrapped(f"{frontier.objective} against {frontier.fluency} on {frontier.model}", width)
    head = 0.2 * (1 + title.count("\n"))
    below = 0.19 * (len(lines) + 1)
    host = fill_axes(ax, width, head + 3.2 + below)
    cells = grid_in(host, 3, 1, height_ratios=[head, 3.2, below])
    caption(host, cells[0], "title", title)
    score = add_panel(host, cells[1], "front")
    points = [(point.fluency or 0.0, point.scored.score) for point in frontier.front]
    start = (frontier.start.fluency or 0.0, frontier.start.scored.score)
    score.step([x for x, _ in points], [y for _, y in points], where="pre", color=BLUE, linewidth=1.0)
    score.plot([x for x, _ in points], [y for _, y in points], "o", color=BLUE, markersize=4)
    for n, i in enumerate(shown):
        score.annotate(str(n + 1), points[i], xytext=(4, 4), textcoords="offset points", size=FONT_SIZE)
    score.plot([start[0]], [start[1]], "X", color=VERMILLION, markersize=7)
    score.annotate("start", start, xytext=(6, -3), textcoords="offset points", size=FONT_SIZE)
    score.set(xlabel="fluency, nats per token (more readable to the right)", ylabel="score")
    score.margins(x=0.06, y=0.1)
    texts = add_panel(host, cells[2], "texts")
    texts.set_axis_off()
    texts.set(xlim=(0, 1), ylim=(len(lines), 0))
    for row, line in enumerate(lines):
        texts.text(0, row + 0.5, line, va="center", ha="left")
    return host


def _entry(number: str, text: str) -> str:
    return f"{number}   " + " ".join(readable(word, 24) for word in text.split())


@styled
def search_costs(dreams: Any, *, ax: Axes | None = None) -> Axes:
    """The best real tokens so far against what they cost, a line a method (the median where there are several runs).

    A dream of several starts counts as one: the best of all its rows so far. The line "start" is the best start of all.

    Args:
        dreams: {name: a dream, or several of other seeds}, all of one objective.
        ax: the Axes to draw in.

    Raises:
        DreamError: nothing to draw, dreams of several objectives, or one whose history does not tell what it cost.
    """
    expect(dreams, "{name: dream, or several}", Mapping)
    runs: dict[str, list[Dream]] = {name: listed(one) for name, one in dreams.items()}
    every = [dream for some in runs.values() for dream in some]
    for dream in every:
        expect(dream, "of dream()", Dream)
    require(bool(every) and all(runs.values()), "no dream to draw: give {name: dream}")
    named = {dream.objective for dream in every}
    require(len(named) == 1, f"the dreams are of {len(named)} objectives ({', '.join(sorted(named))}): give one's")
    ax = cost_curves({name: median_curve([_curve(one) for one in some]) for name, some in runs.items()}, ax=ax)
    start = max(score for one in every for score in _starts(one))
    ax.axhline(start, color=themed(GREY), linestyle=START, linewidth=1.2, zorder=1, label="start")
    _legend(ax)
    ax.set_title(wrapped(f"{every[0].objective} on {every[0].model}", 5.5), loc="left")
    return ax


Curve = Sequence[tuple[float, float]]
"""(cost, best so far), cost rising."""


def _starts(dream: Dream) -> list[float]:
    return [dream.start.score, *(run.start.score for run in dream.others)]


def _curve(dream: Dream) -> Curve:
    records: list[tuple[int, float]] = []
    for history in (dream.history, *(run.history for run in dream.others)):
        require(
            len(history.forward_tokens) == len(history.hard_score),
            "a dream's history does not tell what it cost (forward_tokens): it was saved by an earlier version; dream "
            "anew",
        )
        records += zip(history.forward_tokens, history.hard_score, strict=True)
    best = max(_starts(dream))
    found = [(0.0, best)]
    for spent, value in sorted(records):
        best = max(best, min(value, dream.best.score))  # annealing records what may not be returned as well
        found.append((float(spent), best))
    return [*found, (float(dream.cost.forward_tokens), dream.best.score)]


def median_curve(curves: Sequence[Curve]) -> Curve:
    """The median of several at every cost at which one of them changes."""
    costs = sorted({cost for curve in curves for cost, _ in curve})
    found = []
    for at in costs:
        values = sorted(max(y for x, y in curve if x <= at) for curve in curves if curve[0][0] <= at)
        found.append((at, values[len(values) // 2]))
    return found


@styled
def cost_curves(
    curves: Any,
    *,
    xlabel: str = "forward-tokens (rows x positions x layers)",
    ylabel: str = "score of the best real tokens",
    ax: Axes | None = None,
) -> Axes:
    """Lines of (cost, score), a name each.

    Args:
        curves: {name: [(cost, score), ...]}.
    """
    expect(curves, "{name: [(cost, score), ...]}", Mapping)
    require(0 < len(curves) <= len(LINES), f"{len(curves)} lines to draw: give 1 to {len(LINES)}")
    if ax is None:
        ax = plt.figure(figsize=(7.0, 3.6), layout="constrained").add_subplot()
    for (name, curve), (color, dashes, marker) in zip(curves.items(), LINES, strict=False):
        xs, ys, color = [x for x, _ in curve], [y for _, y in curve], themed(color)
        ax.step(xs, ys, where="post", color=color, linestyle=dashes, linewidth=1.4)
        ax.plot(
            xs[-1:], ys[-1:], marker=marker, color=color, linestyle=dashes, label=str(name), markersize=5, clip_on=False
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    _legend(ax)
    return ax


def _legend(ax: Axes) -> None:
    """Beside the axes: lines may go anywhere inside. matplotlib leaves out names that begin with "_", and its own."""
    lines = [line for line in ax.lines if not str(line.get_label()).startswith("_child")]
    names = [str(line.get_label()) for line in lines]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "borderaxespad": 0.0}
    legend = ax.legend(lines, [name.strip("_") or "-" for name in names], frameon=False, handlelength=5.5, **place)
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_text(spelled(name))
