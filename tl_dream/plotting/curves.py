"""Curves: the front of activation against fluency, what a score cost, and how well concepts are told apart by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from tl_dream._arguments import listed
from tl_dream._errors import require
from tl_dream.plotting.canvas import (
    OWN,
    Frame,
    Title,
    add_panel,
    blank,
    draw_key,
    expect,
    fill,
    fitting,
    framed,
    name_points,
    spread,
    styled,
)
from tl_dream.plotting.style import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    SKY,
    VERMILLION,
    readable,
    scaled,
    spelled,
    text_width,
    themed,
)
from tl_dream.results import Dream, Evidence, Frontier

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

AXES = ("forward-tokens (rows x positions x layers)", "score of the best real tokens")


@styled
def pareto(frontier: Any, *, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """The texts that nothing seen beats in both score and fluency, numbered, with the start.

    Args:
        frontier: from `epo`.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "front" and "texts".

    Raises:
        DreamError: the search had no judge, so there is no fluency to draw.

    Examples:
        >>> judge = td.fluency(td.count_bigrams(bert, ["the red dog sees the sun"]))
        >>> goal = td.neuron("mlp_post", layer=1, unit=3, pos=2)
        >>> front = td.epo(bert, goal, "the red dog", method=td.EPO(fluency=judge), budget=1000)
        >>> ax = plotting.pareto(front)
    """
    expect(frontier, "of epo()", Frontier)
    require(
        frontier.fluency is not None,
        "the search was run without a judge of fluency: run epo with fluency= (see `fluency`)",
    )
    entries = [_entry(str(n + 1), point.scored.text) for n, point in enumerate(frontier.front)]
    begin = _entry("×", f"(start) {frontier.start.scored.text}")
    natural = max(scaled(7.5), min(scaled(11.0), (max(map(text_width, [*entries, begin])) + 20) / 72))
    said = f"{frontier.objective} against {frontier.fluency} on {frontier.model}"
    frame = framed(ax, title, said, natural)
    step, chart = scaled(0.19), scaled(1.9 if frame.given else 3.2)
    shown = spread(len(entries), max(2, fitting(MOST_TEXTS, frame.body - chart - step, step)))
    lines = [_cut(line, 70 * frame.width) for line in (*(entries[i] for i in shown), begin)]
    lines = lines if not frame.given or frame.body > chart + step * len(lines) else []
    host, cells = fill(frame, chart, *([step * (len(lines) + 0.5)] if lines else []))
    score = add_panel(host, cells[0], "front")
    points = [(point.fluency or 0.0, point.scored.score) for point in frontier.front]
    start = (frontier.start.fluency or 0.0, frontier.start.scored.score)
    score.step([x for x, _ in points], [y for _, y in points], where="pre", color=themed(BLUE), linewidth=1.0)
    score.plot([x for x, _ in points], [y for _, y in points], "o", color=themed(BLUE), markersize=4)
    score.plot([start[0]], [start[1]], "X", color=themed(VERMILLION), markersize=7)
    score.set(xlabel="fluency, nats per token (right: more readable)", ylabel="score")
    score.margins(x=0.08, y=0.12)
    if lines:
        texts = blank(host, cells[1], "texts")
        texts.set(xlim=(0, 1), ylim=(len(lines) + 0.5, 0))
        for row, line in enumerate(lines):
            texts.text(0, row + 0.5, line, va="center", ha="left")
    names = {len(points): "start"} | {i: str(i + 1) for i in shown}
    name_points(score, [*points, start], names)
    return host


def _cut(line: str, wide: float) -> str:
    """As much of a line as so many points hold."""
    if text_width(line) <= wide:
        return line
    return line[: max(1, int(len(line) * wide / text_width(line)) - 3)] + "…"


def _entry(number: str, text: str) -> str:
    return f"{number}   " + " ".join(readable(word, 24) for word in text.split())


@styled
def search_costs(dreams: Any, *, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """The best real tokens so far against what they cost, a line a method (the median where there are several runs).

    A dream of several starts counts as one: the best of all its rows so far. The line "start" is the best start of all.

    Args:
        dreams: {name: a dream, or several of other seeds}, all of one objective.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the lines are in the panel labelled "curves".

    Raises:
        DreamError: nothing to draw, dreams of several objectives, or one whose history does not tell what it cost.

    Examples:
        >>> goal = td.neuron("mlp_post", layer=1, unit=3, pos=2)
        >>> dreams = {name: td.dream(bert, goal, "the red dog", method=name, budget=1000) for name in ("auto", "gcg")}
        >>> ax = plotting.search_costs(dreams, title="Two searches")
    """
    expect(dreams, "{name: dream, or several}", Mapping)
    runs: dict[str, list[Dream]] = {name: listed(one) for name, one in dreams.items()}
    every = [dream for some in runs.values() for dream in some]
    for dream in every:
        expect(dream, "of dream()", Dream)
    require(bool(every) and all(runs.values()), "no dream to draw: give {name: dream}")
    named = {dream.objective for dream in every}
    require(len(named) == 1, f"the dreams are of {len(named)} objectives ({', '.join(sorted(named))}): give one's")
    curves = {name: median_curve([_curve(one) for one in some]) for name, some in runs.items()}
    start = max(score for one in every for score in _starts(one))
    return _draw(curves, start, framed(ax, title, f"{every[0].objective} on {every[0].model}", scaled(7.0)), *AXES)


Curve = Sequence[tuple[float, float]]
"""(cost, best so far), cost rising."""


def _starts(dream: Dream) -> list[float]:
    return [dream.start.score, *(run.start.score for run in dream.others)]


def _curve(dream: Dream) -> Curve:
    records: list[tuple[int, float]] = []
    for history in (dream.history, *(run.history for run in dream.others)):
        require(
            len(history.forward_tokens) == len(history.hard_score),
            "a dream's history does not tell what it cost (forward_tokens), as those of the article's files don't: "
            "dream anew",
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
    curves: Any, *, xlabel: str = AXES[0], ylabel: str = AXES[1], title: str | None = None, ax: Axes | None = None
) -> Axes:
    """Lines of (cost, score), a name each.

    Args:
        curves: {name: [(cost, score), ...]}.
    """
    expect(curves, "{name: [(cost, score), ...]}", Mapping)
    return _draw(curves, None, framed(ax, title, "", scaled(7.0)), xlabel, ylabel)


def _draw(curves: Mapping[Any, Curve], start: float | None, frame: Frame, xlabel: str, ylabel: str) -> Axes:
    require(0 < len(curves) <= len(LINES), f"{len(curves)} lines to draw: give 1 to {len(LINES)}")
    names = [spelled(str(name)) for name in curves] + (["start"] if start is not None else [])
    host, cells = fill(frame, scaled(3.2), key=names)
    ax = add_panel(host, cells[0], "curves")
    handles = []
    for curve, (color, dashes, marker) in zip(curves.values(), LINES, strict=False):
        xs, ys, look = [x for x, _ in curve], [y for _, y in curve], {"color": themed(color), "linestyle": dashes}
        ax.step(xs, ys, where="post", linewidth=1.4, **look)
        handles += ax.plot(xs[-1:], ys[-1:], marker=marker, markersize=5, clip_on=False, **look)
    if start is not None:
        handles.append(ax.axhline(start, color=themed(GREY), linestyle=START, linewidth=1.2, zorder=1))
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_xlim(left=0)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 10 else f"{value:g}"))
    draw_key(host, cells[1], handles, frame.width, names)
    return host


ESTIMATOR_MARKS = {
    "mean": (BLUE, "o"),
    "pattern": (SKY, "s"),
    "logistic": (ORANGE, "^"),
    "svm": (GREEN, "D"),
    "lda": (VERMILLION, "v"),
}


@styled
def accuracy_by_layer(evidence: Any, *, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """Held-out accuracy of every estimator at every layer, with 95% intervals, over what random labels reach.

    Args:
        evidence: concepts, of one layer or several, or their evidence (`concepts.evidence`).
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the marks are in the panel labelled "accuracy".

    Raises:
        DreamError: nothing to draw.

    Examples:
        >>> ax = plotting.accuracy_by_layer(concept)  # of fit_concept() or fit_concepts()
    """
    rows: list[Evidence] = listed(getattr(evidence, "evidence", evidence))
    require(bool(rows), "nothing to draw: give concepts.evidence")
    for row in rows:
        expect(row, "of a concept: give concepts or concepts.evidence", Evidence)
    at = list(range(len(rows)))
    names = [name for name in ESTIMATOR_MARKS if any(name in row.accuracies for row in rows)]
    labels = {name: name + (" (the concept's)" if name == rows[0].estimator else "") for name in names}
    frame = framed(ax, title, "held-out accuracy of a concept, by layer", scaled(5.6))
    wide, drawn = frame.width > scaled(5.0), rows[0].random_concepts
    random = f"random labels, mean to best of {drawn}" if wide else f"random labels ({drawn})"
    ax, cells = fill(frame, scaled(3.0), key=[*labels.values(), random])
    host = add_panel(ax, cells[0], "accuracy")
    handles: list[Any] = []
    for i, name in enumerate(names):
        colour, marker = ESTIMATOR_MARKS[name]
        shift = 0.13 * (i - (len(names) - 1) / 2)
        some = [(x + shift, row) for x, row in zip(at, rows, strict=True) if name in row.accuracies]
        y = [row.accuracies[name] for _, row in some]
        bars = [
            [max(0.0, value - row.intervals[name][0]) for value, (_, row) in zip(y, some, strict=True)],
            [max(0.0, row.intervals[name][1] - value) for value, (_, row) in zip(y, some, strict=True)],
        ]
        style: dict[str, Any] = {
            "linestyle": "none",
            "markeredgecolor": themed(INK),
            "markeredgewidth": 0.5,
            "capsize": 2,
        }
        style |= {"color": themed(colour), "marker": marker, "markersize": 5, "label": labels[name]}
        handles.append(host.errorbar([x for x, _ in some], y, yerr=bars, **style))
    mean, best = [row.random_mean for row in rows], [row.random_best for row in rows]
    heights = [high - low for low, high in zip(mean, best, strict=True)]
    handles.append(host.bar(at, heights, 0.8, mean, color=themed(PALE), zorder=0, label=random))
    host.axhline(0.5, color=themed(GREY), linestyle=":", linewidth=1.0, zorder=0)
    host.set_xticks(at, ["-" if row.layer is None else str(row.layer) for row in rows])
    low = min(0.5, *mean, *(row.intervals[name][0] for row in rows for name in row.intervals))
    host.set(
        xlabel="layer", ylabel="held-out accuracy", ylim=(max(0.0, low - 0.05), 1.03), xlim=(-0.6, len(rows) - 0.4)
    )
    host.yaxis.set_major_formatter(PercentFormatter(1.0))
    draw_key(ax, cells[1], handles, frame.width)
    return ax
