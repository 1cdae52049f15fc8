"""Pictures of a corpus search: sentences whose tokens are shaded by what the objective finds there.

ax = corpus_sentences(result)
save_figure(ax.figure, "sentences.png")        # from tl_dream.plotting
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tl_dream._arguments import Whole, whole_number
from tl_dream._errors import require
from tl_dream.plotting.canvas import (
    FONT_SIZE,
    GREY,
    INK,
    PALE,
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
from tl_dream.results import CorpusHit, CorpusResult

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
