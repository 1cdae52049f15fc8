"""Pictures of what a unit looks for: the sentences of a corpus that fire it, and its portrait, a page.

ax = corpus_sentences(result)
save_figure(ax.figure, "sentences.png")        # from tl_dream.plotting
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from tl_dream._arguments import Whole, whole_number
from tl_dream._errors import require
from tl_dream.plotting.canvas import OWN, Title, add_panel, blank, expect, fill, fitting, framed, styled
from tl_dream.plotting.style import (
    BLUE,
    GREY,
    INK,
    SKY,
    VERMILLION,
    draw_box,
    draw_scale,
    readable,
    scaled,
    shade,
    short_number,
    small,
    text_width,
    themed,
    wrapped,
)
from tl_dream.results import CorpusHit, CorpusResult, Portrait, Standing

WIDTH, LINE = 8.0, 0.185
"""Inches, of a figure made here and of a line of text in it."""


@styled
def corpus_sentences(
    result: Any, *, count: Whole | None = None, lines: Whole = 2, title: Title = OWN, ax: Axes | None = None
) -> Axes:
    """The best sentences of a corpus, every token shaded by the objective's value there.

    Long sentences are cut around their highest position, whose token is bold and underlined.

    Args:
        result: of `corpus_search`.
        count: sentences to draw, of those the result holds; None for ten, or as many as a given place has room for.
        lines: lines a sentence may take.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the sentences are in the panel labelled "sentences".

    Raises:
        DreamError: nothing to draw.

    Examples:
        >>> lines = ["the red dog sees the sun", "the moon is cold"]
        >>> found = td.corpus_search(bert, td.neuron("mlp_post", layer=1, unit=3), lines)
        >>> ax = plotting.corpus_sentences(found)
    """
    expect(result, "of corpus_search()", CorpusResult)
    most, lines = 10 if count is None else whole_number("count", count), whole_number("lines", lines)
    require(bool(result.top[:most]), f"nothing to draw: no sentence was scored for {result.objective}")
    said = f"best of {result.scored:,} sentences: {result.objective} on {result.model}"
    frame = framed(ax, title, said, scaled(WIDTH))
    step = scaled(LINE)
    laid = _laid_out(result.top[:most], 70 * frame.width, lines)
    if count is None:
        laid = _as_fit(laid, frame.body / (0.85 * step) - 2.0)
    host, (body,) = fill(frame, step * _rows(laid))
    _draw_sentences(blank(host, body, "sentences"), laid, 70 * frame.width)
    return host


Laid = list[list[tuple[int | None, str, float]]]
"""Lines of a sentence: (position, or None at a cut; what is written; its width in points)."""


def _laid_out(hits: Sequence[CorpusHit], wide: float, lines: int) -> list[tuple[CorpusHit, Laid]]:
    return [(hit, _around(hit, wide - _side(hits) - 8, lines)) for hit in hits]


def _as_fit(laid: list[tuple[CorpusHit, Laid]], rows: float) -> list[tuple[CorpusHit, Laid]]:
    """The first of them that stand in so many rows; one at least."""
    return laid[: max(1, sum(_rows(laid[: n + 1]) <= rows + 2.0 for n in range(len(laid))))]


def _rows(laid: list[tuple[CorpusHit, Laid]]) -> float:
    """Rows of these sentences and of the scale."""
    return sum(len(lay) + 0.45 for _, lay in laid) + 1.6


def _side(hits: Sequence[CorpusHit]) -> float:
    """Points of the scores, left of the sentences."""
    return max(text_width(short_number(hit.score), bold=True) for hit in hits) + 10


def _draw_sentences(axes: Axes, laid: list[tuple[CorpusHit, Laid]], wide: float) -> None:
    values = [value for hit, _ in laid for value in hit.activations or () if value is not None]
    high = max(values, default=0.0)
    low = 0.0 if high > 0 else min(values, default=0.0)
    side = _side([hit for hit, _ in laid])
    y = 0.0
    for hit, lay in laid:
        axes.text(side - 8, y + 0.5, short_number(hit.score), ha="right", va="center", weight="bold")
        for line in lay:
            x = side
            for i, shown, width in line:
                _draw_token(axes, hit, i, shown, (x, y, width), low, high)
                x += width
            y += 1
        y += 0.45
    if high > low:
        draw_scale(axes, side, y + 0.6, f"value at the token: {short_number(low)}", short_number(high))
    axes.set(xlim=(0, wide), ylim=(y + 1.6, -0.1))


def _around(hit: CorpusHit, wide: float, lines: int) -> Laid:
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
        draw_box(ax, x, y + 0.04, wide - 1.0, 0.92, shade(min(1.0, max(0.0, (value - low) / (high - low)))))
    if peak:
        draw_box(ax, x, y + 0.9, wide - 1.0, 0.1, themed(VERMILLION))
    colour = themed(GREY if i is None or i in (0, len(hit.tokens) - 1) else INK)
    weight = "bold" if peak else "normal"
    ax.text(x + (wide - 1.0) / 2, y + 0.5, shown, ha="center", va="center", weight=weight, color=colour)


PAGE = 9.0
"""Inches, the width of a portrait made here."""


@styled
def portrait(result: Any, *, sentences: Whole | None = None, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """What a unit looks for, on one page: how its activation spreads over the corpus with the dreams marked on it,
    where it stands among random directions, its dreams with what carries them in bold, and its best sentences.

    A given place that is too small for all of it leaves out sentences, then dreams, then the random directions.

    Args:
        result: of `portrait`.
        sentences: of the corpus to draw, of those the result holds; None for five, or as many as have room.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "page" (its title), "activation", "standing" (where it
        was compared), "dreams" and "sentences".

    Raises:
        DreamError: something else than a portrait.

    Examples:
        >>> lines = ["the red dog sees the sun", "the moon is cold"] * 20
        >>> page = td.portrait(bert, td.neuron("mlp_post", layer=1, unit=3), lines, placebos=2, budget=2000)
        >>> ax = plotting.portrait(page)
    """
    expect(result, "of portrait()", Portrait)
    most = 5 if sentences is None else whole_number("sentences", sentences)
    frame = framed(ax, title, f"{result.objective} on {result.model}\n{_verdict(result)}", scaled(PAGE))
    step, charts, wide = scaled(0.2), scaled(1.7 if frame.given else 2.3), 70 * frame.width
    told = fitting(len(result.dreams), frame.body - charts - 1.3 * step, step) if frame.body > charts + 3 * step else 0
    heights = [charts, step * (told + 1.2)] if told else [charts]
    laid = _laid_out(result.corpus.top[:most], wide, 2) if result.corpus.top else []
    room = (frame.body - sum(heights)) / scaled(LINE)
    if sentences is None:
        laid = _as_fit(laid, room - 2) if room > 4.1 else []
    if laid:
        heights.append(scaled(LINE) * _rows(laid))
    host, cells = fill(frame, *heights, label="page")
    compared = result.standing if frame.width > scaled(5.0) else None
    shares = [1.25, 1.0] if compared is not None else [1.0]
    grid = cells[0].subgridspec(1, len(shares), width_ratios=shares)
    _draw_activation(add_panel(host, grid[0, 0], "activation"), result)
    if compared is not None:
        _draw_standing(add_panel(host, grid[0, 1], "standing"), compared)
    if told:
        _draw_dreams(blank(host, cells[1], "dreams"), result, told, wide)
    if laid:
        _draw_sentences(blank(host, cells[-1], "sentences"), laid, wide)
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
    ax.bar(page.edges[:-1], page.counts, widths, align="edge", color=themed(SKY), edgecolor=themed(INK), linewidth=0.3)
    ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    ax.set(xlabel="activation at a word", ylabel="words of the corpus")
    top = max(page.counts)
    ax.set_ylim(0, 3 * top)
    for one in page.dreams:
        fluent = one.fluency is not None
        style: dict[str, Any] = {"color": themed(BLUE if fluent else VERMILLION), "linewidth": 1.2}
        ax.vlines(one.essential.whole.score, 0, top, linestyles=":" if fluent else "-", **style)
    best = max(page.dreams, key=lambda one: one.essential.whole.score).essential.whole.score
    ax.text(best, 1.3 * top, f"{page.height(best):.1f} deviations", ha="right", va="bottom", size=small())


def _draw_standing(ax: Axes, standing: Standing) -> None:
    """Each measure on a scale of its own, higher to the right where that means more."""
    for row, one in enumerate(standing.measures):
        values = [one.unit, *one.placebos]
        low, high = min(values), max(values)
        places = [(value - low) / (high - low) if high > low else 0.5 for value in values]
        places = places if one.higher else [1 - place for place in places]
        ax.plot(places[1:], [row] * len(one.placebos), "o", color=themed(GREY), markersize=4, alpha=0.55, linewidth=0)
        look: dict[str, Any] = {"color": themed(VERMILLION), "markeredgecolor": themed(INK), "linewidth": 0}
        ax.plot(places[:1], [row], "D", markersize=7, **look)
        name = wrapped(f"{one.name}: {short_number(one.unit, 2)}", scaled(4.0), small())
        ax.text(-0.03, row - 0.24, name, ha="left", va="bottom", size=small())
    ax.set(xlim=(-0.05, 1.05), ylim=(len(standing.measures) - 0.5, -0.85), xticks=[], yticks=[])
    ax.set_xlabel("grey: random directions; diamond: the unit; right: more like a unit", size=small())
    ax.spines["left"].set_visible(False)


def _draw_dreams(ax: Axes, page: Portrait, count: int, wide: float) -> None:
    kinds = max(text_width(one.kind) for one in page.dreams[:count]) + 34
    for row, one in enumerate(page.dreams[:count]):
        ax.text(0, row + 0.5, one.kind, ha="left", va="center")
        score = f"{page.height(one.essential.whole.score):.1f}"
        ax.text(kinds, row + 0.5, score, ha="right", va="center", weight="bold")
        x = kinds + 10
        for i in one.essential.free:
            shown, kept = readable(one.essential.whole.tokens[i]), i in one.essential.kept
            length = text_width(shown, bold=kept)
            if x + length > wide - 12:
                ax.text(x, row + 0.5, "…", ha="left", va="center", color=themed(GREY))
                break
            colour = themed(INK if kept else GREY)
            weight = "bold" if kept else "normal"
            ax.text(x, row + 0.5, shown, ha="left", va="center", weight=weight, color=colour)
            x += length + 6
    note = "by their height in deviations; bold: the tokens that carry half of it"
    ax.text(0, count + 0.6, note, ha="left", va="center", size=small(), color=themed(GREY))
    ax.set(xlim=(0, wide), ylim=(count + 1.2, 0))
