"""Pictures of what a unit looks for: the sentences of a corpus that fire it, and its portrait, a page.

ax = corpus_sentences(result)
save_figure(ax.figure, "sentences.png")        # from tl_dream.plotting
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

from tl_dream._arguments import Whole, whole_number
from tl_dream._errors import require
from tl_dream.plotting.canvas import (
    BLUE,
    FONT_SIZE,
    GREY,
    INK,
    PALE,
    SKY,
    VERMILLION,
    add_panel,
    caption,
    expect,
    fill_axes,
    grid_in,
    readable,
    shade,
    short_number,
    styled,
    text_width,
    themed,
    wrapped,
)
from tl_dream.results import CorpusHit, CorpusResult, Portrait, PortraitDream, Standing

WIDTH = 8.0
"""Inches, of a figure made here."""


@styled
def corpus_sentences(result: Any, *, count: Whole = 10, lines: Whole = 2, ax: Axes | None = None) -> Axes:
    """The best sentences of a corpus, every token shaded by the objective's value there.

    Long sentences are cut around their highest position, whose token is bold and underlined.

    Args:
        result: of `corpus_search`.
        count: sentences to draw, of those the result holds.
        lines: lines a sentence may take.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the sentences are in the panel labelled "sentences".

    Raises:
        DreamError: nothing to draw.
    """
    expect(result, "of corpus_search()", CorpusResult)
    count, lines = whole_number("count", count), whole_number("lines", lines)
    hits = result.top[:count]
    require(bool(hits), f"nothing to draw: no sentence was scored for {result.objective}")
    width = WIDTH if ax is None else max(3.0, ax.get_position().width * ax.figure.figure.get_size_inches()[0])
    scores = [short_number(hit.score) for hit in hits]
    side = max(text_width(score, bold=True) for score in scores) + 10
    laid = [_laid_out(hit, 72 * width - side - 8, lines) for hit in hits]
    values = [value for hit in hits for value in hit.activations or () if value is not None]
    high = max(values, default=0.0)
    low = 0.0 if high > 0 else min(values, default=0.0)
    rows = sum(len(lay) for lay in laid) + 0.45 * len(laid)
    text = wrapped(f"best of {result.scored:,} sentences: {result.objective} on {result.model}", width)
    head, step = 0.18 * (1 + text.count("\n")) + 0.06, 0.185
    host = fill_axes(ax, width, head + step * (rows + 1.6))
    grid = grid_in(host, 2, 1, height_ratios=[head, step * (rows + 1.6)])
    caption(host, grid[0], "title", text)
    axes = add_panel(host, grid[1], "sentences")
    y = 0.0
    for hit, lay, score in zip(hits, laid, scores, strict=True):
        axes.text(side - 8, y + 0.5, score, ha="right", va="center", size=FONT_SIZE, weight="bold")
        for line in lay:
            x = side
            for i, shown, wide in line:
                _draw_token(axes, hit, i, shown, (x, y, wide), low, high)
                x += wide
            y += 1
        y += 0.45
    _draw_scale(axes, side, y + 0.6, low, high)
    axes.set(xlim=(0, 72 * width), ylim=(y + 1.6, -0.1))
    axes.set_axis_off()
    return host


Laid = list[list[tuple[int | None, str, float]]]
"""Lines of a sentence: (position, or None at a cut; what is written; its width in points)."""


def _laid_out(hit: CorpusHit, wide: float, lines: int) -> Laid:
    """As much of a sentence around its highest position as fits."""
    widths = [text_width(readable(token), bold=i == hit.pos) + 6.0 for i, token in enumerate(hit.tokens)]
    cut = text_width("…") + 6.0
    first = last = hit.pos or 0
    best: Laid = []
    grown = True
    while grown:  # a token to the right, a token to the left, while it fits
        grown = False
        for left, right in ((0, 1), (1, 0)):
            a, b = first - left, last + right
            if a < 0 or b >= len(hit.tokens):
                continue
            tried = _broken(hit, a, b, widths, cut, wide)
            if len(tried) <= lines:
                first, last, best, grown = a, b, tried, True
    return best or _broken(hit, first, last, widths, cut, wide)


def _broken(hit: CorpusHit, first: int, last: int, widths: Sequence[float], cut: float, wide: float) -> Laid:
    """The tokens `first` to `last` in lines."""
    items: list[tuple[int | None, str, float]] = [(None, "…", cut)] if first > 0 else []
    items += [(i, readable(hit.tokens[i]), widths[i]) for i in range(first, last + 1)]
    items += [(None, "…", cut)] if last < len(hit.tokens) - 1 else []
    lines: Laid = [[]]
    room = wide
    for item in items:
        if item[2] > room and lines[-1]:
            lines.append([])
            room = wide
        lines[-1].append(item)
        room -= item[2]
    return lines


def _draw_token(
    ax: Axes, hit: CorpusHit, i: int | None, shown: str, box: tuple[float, float, float], low: float, high: float
) -> None:
    x, y, wide = box
    peak = i is not None and i == hit.pos
    value = hit.activations[i] if i is not None and hit.activations is not None else None
    if value is not None and high > low:
        depth = min(1.0, max(0.0, (value - low) / (high - low)))
        ax.add_patch(Rectangle((x, y + 0.04), wide - 1.0, 0.92, facecolor=shade(depth), linewidth=0))
    if peak:
        ax.add_patch(Rectangle((x, y + 0.9), wide - 1.0, 0.1, facecolor=VERMILLION, linewidth=0))
    frame = i is not None and i in (0, len(hit.tokens) - 1)
    ax.text(
        x + (wide - 1.0) / 2,
        y + 0.5,
        shown,
        ha="center",
        va="center",
        size=FONT_SIZE,
        weight="bold" if peak else "normal",
        color=themed(GREY) if frame or i is None else themed(INK),
    )


def _draw_scale(ax: Axes, x: float, y: float, low: float, high: float) -> None:
    """What the shading means."""
    if high <= low:
        return
    small: dict[str, Any] = {"ha": "left", "va": "center", "size": FONT_SIZE - 1}
    name = f"value at the token: {short_number(low)}"
    ax.text(x, y, name, **small)
    x += text_width(name, size=FONT_SIZE - 1) + 5
    for i in range(6):
        ax.add_patch(Rectangle((x, y - 0.35), 9, 0.7, facecolor=shade(i / 5), edgecolor=themed(PALE), linewidth=0.4))
        x += 9
    ax.text(x + 4, y, short_number(high), **small)


PAGE = 9.0
"""Inches, the width of a portrait made here."""


@styled
def portrait(result: Any, *, sentences: Whole = 5, ax: Axes | None = None) -> Axes:
    """What a unit looks for, on one page: how its activation spreads over the corpus with the dreams marked on it,
    where it stands among random directions, its dreams with what carries them in bold, and its best sentences.

    Args:
        result: of `portrait`.
        sentences: of the corpus to draw, of those the result holds.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "page" (its title), "activation", "standing" (where it
        was compared), "dreams" and "sentences".

    Raises:
        DreamError: something else than a portrait.
    """
    expect(result, "of portrait()", Portrait)
    count = min(whole_number("sentences", sentences), len(result.corpus.top))
    width = PAGE if ax is None else max(3.0, ax.get_position().width * ax.figure.figure.get_size_inches()[0])
    text = "\n".join(wrapped(line, width) for line in (f"{result.objective} on {result.model}", _verdict(result)))
    head, step = 0.18 * (1 + text.count("\n")) + 0.08, 0.2
    heights = [head, 2.3, step * (len(result.dreams) + 1.2), 0.62 + 0.36 * count]
    host = fill_axes(ax, width, sum(heights) + 0.3)
    grid = grid_in(host, 4, 1, height_ratios=heights)
    caption(host, grid[0], "page", text)
    shares = [1.25, 1.0] if result.standing is not None else [1.0]
    charts = grid[1].subgridspec(1, len(shares), width_ratios=shares)
    _draw_activation(add_panel(host, charts[0, 0], "activation"), result)
    if result.standing is not None:
        _draw_standing(add_panel(host, charts[0, 1], "standing"), result.standing)
    _draw_dreams(add_panel(host, grid[2], "dreams"), result, 72 * width)
    corpus_sentences(result.corpus, count=max(1, count), ax=add_panel(host, grid[3], "corpus"))
    return host


def _verdict(page: Portrait) -> str:
    parts = []
    if page.standing is not None:
        parts.append(f"{page.standing.verdict} ({page.standing.deviations:+.1f} deviations)")
    parts += [
        f"in common: {', '.join(readable(token, 40) for token in one.tokens)} ({one.dreams} of {page.compared} dreams)"
        for one in (*page.common, *page.neighbourhoods)[:3]
    ]
    return "; ".join(parts) or "not compared with random directions"


def _draw_activation(ax: Axes, page: Portrait) -> None:
    """Bars by the logarithm of their count: most words leave a unit cold."""
    widths = [right - left for left, right in zip(page.edges, page.edges[1:], strict=False)]
    ax.bar(page.edges[:-1], page.counts, widths, align="edge", color=SKY, edgecolor=themed(INK), linewidth=0.3)
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set(xlabel="activation at a word", ylabel="words of the corpus")
    top = max(page.counts)
    ax.set_ylim(0, 3 * top)
    for one in page.dreams:
        fluent = one.fluency is not None
        style: dict[str, Any] = {"color": BLUE if fluent else VERMILLION, "linewidth": 1.2}
        ax.vlines(one.essential.whole.score, 0, top, linestyles=":" if fluent else "-", **style)
    best = max(page.dreams, key=lambda one: one.essential.whole.score).essential.whole.score
    ax.text(best, 1.3 * top, f"{page.height(best):.1f} deviations", ha="right", va="bottom", size=FONT_SIZE - 1)


def _draw_standing(ax: Axes, standing: Standing) -> None:
    """Each measure on a scale of its own, higher to the right where that means more."""
    for row, one in enumerate(standing.measures):
        values = [one.unit, *one.placebos]
        low, high = min(values), max(values)
        places = [(value - low) / (high - low) if high > low else 0.5 for value in values]
        places = places if one.higher else [1 - place for place in places]
        ax.plot(places[1:], [row] * len(one.placebos), "o", color=themed(GREY), markersize=4, alpha=0.55, linewidth=0)
        ax.plot(places[:1], [row], "D", color=VERMILLION, markersize=7, markeredgecolor=themed(INK), linewidth=0)
        name = wrapped(f"{one.name}: {short_number(one.unit, 2)}", 4.0, FONT_SIZE - 1)
        ax.text(-0.03, row - 0.24, name, ha="left", va="bottom", size=FONT_SIZE - 1)
    ax.set(xlim=(-0.05, 1.05), ylim=(len(standing.measures) - 0.5, -0.85), xticks=[], yticks=[])
    ax.set_xlabel("grey: random directions; diamond: the unit; right: more like a unit", size=FONT_SIZE - 1)
    ax.spines["left"].set_visible(False)


def _draw_dreams(ax: Axes, page: Portrait, wide: float) -> None:
    for row, one in enumerate(page.dreams):
        ax.text(0, row + 0.5, one.kind, ha="left", va="center", size=FONT_SIZE)
        score = f"{page.height(one.essential.whole.score):.1f}"
        ax.text(88, row + 0.5, score, ha="right", va="center", size=FONT_SIZE, weight="bold")
        x = 98.0
        for token, kept in _told(one):
            shown = readable(token)
            length = text_width(shown, bold=kept)
            if x + length > wide - 12:
                ax.text(x, row + 0.5, "…", ha="left", va="center", size=FONT_SIZE, color=themed(GREY))
                break
            colour = themed(INK if kept else GREY)
            weight = "bold" if kept else "normal"
            ax.text(x, row + 0.5, shown, ha="left", va="center", size=FONT_SIZE, weight=weight, color=colour)
            x += length + 6
    note = "dreams by their height in deviations; bold: the tokens that carry half of it"
    ax.text(0, len(page.dreams) + 0.6, note, ha="left", va="center", size=FONT_SIZE - 1, color=themed(GREY))
    ax.set(xlim=(0, wide), ylim=(len(page.dreams) + 1.2, 0))
    ax.set_axis_off()


def _told(dream: PortraitDream) -> list[tuple[str, bool]]:
    """The free tokens of a dream, and whether they carry it."""
    return [(dream.essential.whole.tokens[i], i in dream.essential.kept) for i in dream.essential.free]
