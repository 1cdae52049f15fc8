"""Pictures of the scans: best tokens (Figure 3), neighbours (Figure 4), masked predictions.

ax = token_bars(table)
save_figure(ax.figure, "tokens.png")        # from tl_dream.plotting
"""

from __future__ import annotations

import math
from typing import Any

from matplotlib.axes import Axes

from tl_dream._arguments import Whole, whole_number
from tl_dream.plotting.canvas import (
    OWN,
    Title,
    add_panel,
    draw_key,
    expect,
    fill,
    fitting,
    framed,
    key_height,
    name_points,
    styled,
)
from tl_dream.plotting.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    YELLOW,
    readable,
    scaled,
    short_number,
    small,
    text_width,
    themed,
    wrapped,
    written,
)
from tl_dream.results import MaskedPredictions, NeighbourTable, TokenTable, around
from tl_dream.results import readable as as_text

WIDTH, BAR = 6.3, 0.19
"""Inches, of a figure made here and of a bar in it."""


def _title(result: TokenTable | NeighbourTable, what: str) -> str:
    where = result.place
    sentence = around(where.tokens, where.pos, 9, readable)
    return f"{what} at position {where.pos}: {result.objective} on {result.model}\n{sentence}"


@styled
def token_bars(table: Any, *, count: Whole | None = None, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """The article's Figure 3: the best tokens at a position as bars, and what the sentence's own token scores.

    Args:
        table: the result of `token_search`.
        count: bars to draw, of those the table holds; None for 20, or as many as a given place has room for.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the bars are in the panel labelled "scores".

    Raises:
        DreamError: fewer than one bar.

    Examples:
        >>> table = td.token_search(bert, td.neuron("mlp_post", layer=1, unit=3, pos=2), "the red dog", pos="red")
        >>> ax = plotting.token_bars(table, count=5, title="What unit 3 likes best")
    """
    expect(table, "of token_search()", TokenTable)
    frame = framed(ax, title, _title(table, "best tokens"), scaled(WIDTH))
    foot = scaled(0.42)  # the axis below
    most = fitting(20, frame.body - foot, 0.8 * scaled(BAR)) if count is None else whole_number("count", count)
    own, rows = table.chosen, table.top[: most if count is not None or not frame.given else max(1, most - 2)]
    shown = [*((row.token, row.score, own is not None and (row.id, row.token) == (own.id, own.token)) for row in rows)]
    listed = own is None or any(mine for _, _, mine in shown)
    if own is not None and not listed:
        shown.append((own.token, own.score, True))
    host, cells = fill(frame, foot + scaled(BAR) * (len(rows) + 1))
    bars = add_panel(host, cells[0], "scores")
    places = [i + (0.5 if mine and not listed else 0.0) for i, (_, _, mine) in enumerate(shown)]
    for at, (_, score, mine) in zip(places, shown, strict=True):
        colour, hatch = (ORANGE, "//") if mine else (BLUE, "")
        bars.barh(at, score, height=0.75, color=themed(colour), hatch=hatch, edgecolor=themed(INK), linewidth=0.6)
        # a column of their own, which neither a bar nor the line at the own score reaches
        across = bars.get_yaxis_transform()
        bars.text(1.0, at, short_number(score), ha="right", va="center", size=small(), transform=across)
    if own is not None:
        bars.axvline(own.score, color=themed(GREY), linestyle=":", linewidth=1.2, zorder=0)
    bars.axvline(0, color=themed(INK), linewidth=0.8)
    bars.set_yticks(places, [readable(token) + (" (its own)" if mine else "") for token, _, mine in shown])
    for label, (_, _, mine) in zip(bars.get_yticklabels(), shown, strict=True):
        label.set_fontweight("bold" if mine else "normal")
    low, high = min(0.0, *(score for _, score, _ in shown)), max(0.0, *(score for _, score, _ in shown))
    reach = high - low or 1.0
    wide = max(text_width(short_number(score), points=small()) for _, score, _ in shown) + 6
    names = max(text_width(label.get_text(), bold=True, points=small()) for label in bars.get_yticklabels()) + 14
    room = wide / max(1.5 * wide, 72 * frame.width - names)  # share of the panel, which stands right of the names
    high += reach * room / (1 - room)
    bars.set(xlim=(low - (0.03 * reach if low < 0 else 0), high), ylim=(places[-1] + 0.6, -0.6), xlabel="score")
    bars.tick_params(axis="y", length=0)
    return host


@styled
def neighbours(table: Any, *, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """The article's Figure 4: distance in embedding space against score, the sentence's own token marked by a star.

    Squares are the neighbours that are among the token search's best themselves; these score what the dashed line
    says, or more. Where the neighbours are far from the token, the axis is broken between them. A token that the font
    has no letters for is written as its number in `print(table)`.

    Args:
        table: the result of `similar_tokens`.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the neighbours are in the panel labelled "scores", the token, if the axis is
        broken, in the one labelled "own".

    Examples:
        >>> goal = td.neuron("mlp_post", layer=1, unit=3, pos=2)
        >>> table = td.similar_tokens(bert, goal, "the red dog", pos="red", k=5)
        >>> ax = plotting.neighbours(table)
    """
    expect(table, "of similar_tokens()", NeighbourTable)
    frame = framed(ax, title, _title(table, "nearest tokens"), scaled(WIDTH))
    rows = table.neighbours
    near, far = min(row.distance for row in rows), max(row.distance for row in rows)
    broken = near > 0.3 * far > 0
    named = [f"the sentence's own: {readable(table.chosen.token)}", f"neighbour among the search's best {table.best}"]
    share = "" if table.share is None else f" ({table.share:.0%} are)"
    named += [f"to be among the search's best {table.best}{share}", "neighbour"]
    foreign = sum(not written(as_text(row.token)) for row in rows)
    said = f"numbers: rows of the printed table whose tokens this font can't write ({foreign} of {len(rows)})"
    said = wrapped(said, frame.width) if foreign else ""
    legend = key_height(named, frame.width) + (scaled(0.17) * (1 + said.count("\n")) if said else 0)
    host, cells = fill(frame, scaled(3.5), legend)
    parts = cells[0].subgridspec(1, 2, width_ratios=[1.3, 8], wspace=0.02) if broken else None
    axes = add_panel(host, parts[1] if parts else cells[0], "scores")
    own = add_panel(host, parts[0], "own", sharey=axes) if parts else axes
    heights = [table.chosen.score, *(row.score for row in rows)]
    heights += [table.cut] if table.cut is not None else []
    margin = 0.08 * (max(heights) - min(heights) or 1.0)
    spread = (far - near if broken else far) or 1.0
    axes.set_xlim(near - 0.12 * spread if broken else -0.04 * spread, far + 0.18 * spread)
    axes.set_ylim(min(heights) - margin, max(heights) + margin)
    handles: list[Any] = []
    for found, marker, colour, name in ((False, "o", BLUE, named[3]), (True, "s", VERMILLION, named[1])):
        if some := [row for row in rows if bool(row.found) == found]:
            x, y = [row.distance for row in some], [row.score for row in some]
            look: dict[str, Any] = {"s": 18, "marker": marker, "color": themed(colour), "edgecolor": themed(INK)}
            handles.append(axes.scatter(x, y, zorder=3, label=name, linewidth=0.4, **look))
    star: dict[str, Any] = {"marker": "*", "markersize": 13, "markerfacecolor": YELLOW, "markeredgecolor": themed(INK)}
    handles += own.plot(
        [table.chosen.distance], [table.chosen.score], linestyle="none", zorder=4, label=named[0], **star
    )
    for panel in {axes, own} if table.cut is not None else ():
        line = panel.axhline(table.cut, color=themed(GREY), linestyle="--", linewidth=1.0, zorder=1, label=named[2])
        handles += [line] if panel is axes else []
    axes.set_xlabel({"euclidean": "Euclidean distance", "cosine": "cosine distance"}.get(table.metric, table.metric))
    own.set_ylabel("score")
    if broken:
        _break(own, axes)
    draw_key(host, cells[1], handles, frame.width, title=said or None, title_fontsize=small())
    # the highest first, numbers last
    order = sorted(range(len(rows)), key=lambda i: (not written(as_text(rows[i].token)), -rows[i].score))
    names = {i: readable(rows[i].token, 14) if written(as_text(rows[i].token)) else str(i + 1) for i in order}
    others = [(table.chosen.distance, table.chosen.score)] if not broken else []
    level = [] if table.cut is None else [table.cut]
    name_points(axes, [*((row.distance, row.score) for row in rows), *others], names, level)
    return host


def _break(own: Axes, axes: Axes) -> None:
    """Mark the break of the axis between the token and its neighbours."""
    own.set(xlim=(-1, 1), xticks=[0])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", left=False, labelleft=False)
    slash: dict[str, Any] = {"marker": [(-1, -2), (1, 2)], "markersize": 8, "linestyle": "none", "color": themed(INK)}
    for panel, at in ((own, 1), (axes, 0)):
        panel.plot([at], [0], transform=panel.transAxes, clip_on=False, mew=1, **slash)


@styled
def prediction_bars(found: Any, *, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """What a masked language model predicts for each [MASK], its probabilities as bars.

    Args:
        found: the result of `predict_masked`.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill, with as many bars as it has room for; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "position 2", ...

    Examples:
        >>> found = td.predict_masked(bert, "the [MASK] dog")
        >>> ax = plotting.prediction_bars(found, title="{}, before fine-tuning")
    """
    expect(found, "of predict_masked()", MaskedPredictions)
    said = f"predictions of {found.model}\n{' '.join(map(readable, found.places[0].tokens))}"
    frame = framed(ax, title, said, scaled(max(3.6, 2.4 * min(len(found.places), 3))))
    across = fitting(min(len(found.places), 3), frame.width, scaled(1.5))
    down = math.ceil(len(found.places) / across)
    most = fitting(max(map(len, found.predictions)), frame.body / down - scaled(0.65), 0.85 * scaled(BAR))
    host, (body,) = fill(frame, down * (scaled(0.65) + scaled(BAR) * most))
    cells = body.subgridspec(down, across)
    for number, (where, rows) in enumerate(zip(found.places, found.predictions, strict=True)):
        bars = add_panel(host, cells[number // across, number % across], f"position {where.pos}")
        for i, row in enumerate(rows[:most]):
            bars.barh(i, row.probability, height=0.75, color=themed(BLUE), edgecolor=themed(INK), linewidth=0.6)
            bars.text(row.probability + 0.02, i, f"{row.probability:.3f}", va="center", size=small())
        bars.set_yticks(range(len(rows[:most])), [readable(row.token, 14) for row in rows[:most]])
        bars.tick_params(axis="y", length=0)
        bars.set(xlim=(0, 1.35), ylim=(most - 0.4, -0.6), xticks=[0, 0.5, 1], title=f"position {where.pos}")
        if number + across >= len(found.places):
            bars.set_xlabel("probability")
    return host
