"""Pictures of concepts: what moved activations stand for (Figure 6), dose and response.

ax = edit_table(edit)
save_figure(ax.figure, "figure6.png")        # from tl_dream.plotting
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from tl_dream._arguments import Whole, listed
from tl_dream._errors import require, unknown
from tl_dream.plotting.canvas import (
    OWN,
    Title,
    add_panel,
    blank,
    draw_key,
    expect,
    fill,
    fitting,
    framed,
    spread,
    styled,
)
from tl_dream.plotting.style import (
    BLUE,
    DARK_GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    RED,
    readable,
    scaled,
    short_number,
    text_width,
    themed,
)
from tl_dream.results import ConceptEdit, EditRow

ROW = 0.21
"""Inches, of a row of tokens."""

NARROWEST = 4.2
"""Inches; the legend's width."""

WIDEST = 11.0
"""Inches; of a longer sentence the columns around the changes are shown."""

KINDS: dict[str, dict[str, Any]] = {
    "concept": {"color": DARK_GREEN, "weight": "bold", "boxstyle": "round,pad=0.02", "linestyle": "-"},
    "other": {"color": RED, "style": "italic", "boxstyle": "square,pad=0.02", "linestyle": (0, (2, 1.5))},
    "target": {"weight": "bold"},
}
"""How a changed word is written and framed, and the word that a target names."""

CONTROLS: dict[str | None, tuple[str, str, str, Any, int]] = {
    "random": ("random direction", ORANGE, "s", "--", -2),
    "shuffled": ("shuffled labels", PURPLE, "^", ":", -1),
    "other": ("another concept", RED, "v", (0, (3, 1, 1, 1, 1, 1)), 2),
    "opposite": ("opposite sign", GREY, "D", "-.", 1),
    None: ("the concept", BLUE, "o", "-", 0),
}
"""Name, colour, marker, line and place beside the magnitude of every control; in the order they are drawn, so that none
hides the concept."""

Places = Sequence[tuple[int | None, float]]
"""Positions (None for left-out ones) and where they are written."""

BESIDE = 0.018
"""How far beside each other the points of one magnitude stand, as a share of the magnitudes' range."""


@styled
def edit_table(
    edit: Any,
    *,
    layers: Whole | Iterable[Any] | None = None,
    control: str | None = None,
    title: Title = OWN,
    ax: Axes | None = None,
) -> Axes:
    """The article's Figure 6: target, input, and for every layer and magnitude the text that the moved activation is.

    A row "target" says where the moves lead, with the name of the set (the concept word, where it is one) in the moved
    word's place: "target +" the positive set, which positive magnitudes lead to, "target -" the negative one; controls
    that lead nowhere have none. Words that changed with the concept are green, bold and in a round solid frame; those
    that changed otherwise red, italic and in a square dashed frame; all others black, the moved word underlined. On the
    right is the reachability gap, or the loss where no gap is known. Magnitudes rise from above.

    Args:
        edit: the result of `edit_concept`.
        layers: which; None for all, or as many, evenly spaced, as a given place has room for.
        control: draw a control's rows instead of the concept's.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the rows are in the panel labelled "rows".

    Raises:
        DreamError: a layer or control that the result has not got.

    Examples:
        >>> edit = td.edit_concept(bert, concept, "the dog is a star", pos="dog", magnitudes=[1], controls=True)
        >>> ax = plotting.edit_table(edit)
    """
    expect(edit, "of edit_concept()", ConceptEdit)
    if control not in edit.controls:
        raise unknown("control", control, [name for name in edit.controls if name])
    found = [row for row in edit.rows if row.control == control]
    every = sorted({row.layer for row in found}, key=lambda layer: -1 if layer is None else layer)
    chosen = every if layers is None else listed(layers)
    for layer in chosen:
        require(layer in every, f"the result has no layer {layer!r}; it has {every}")
    blocks = [
        (layer, sorted((row for row in found if row.layer == layer), key=lambda row: row.magnitude)) for layer in chosen
    ]
    drawn = [row for _, rows in blocks for row in rows]
    left, right, step = scaled(1.15), scaled(0.45), scaled(ROW)
    columns = _columns(edit, drawn, scaled(WIDEST))
    ways = _ways(edit, control, [row.magnitude for row in drawn])
    name = "" if control is None else f" ({CONTROLS.get(control, (control,))[0]})"
    units = "magnitudes in natural units" + "".join(f", {mark} towards {name}" for mark, name in ways.items())
    said = f"{edit.concept}{name} at {edit.hook} on {edit.model}\n{units}"
    frame = framed(ax, title, said, max(left + sum(_widths(edit, drawn, columns)) + right, scaled(NARROWEST)))
    foot = 2 * step + 0.1
    if frame.given:
        columns = _columns(edit, drawn, frame.width - left - right)
        room = (frame.body - foot) / (0.8 * step) - 2.2 - len(ways)
        if layers is None:
            blocks = [blocks[i] for i in spread(len(blocks), fitting(len(blocks), room, len(blocks[0][1]) + 0.6))]
        if len(blocks) * (len(blocks[0][1]) + 0.6) > room:  # one layer is too high
            blocks, most = blocks[:1], max(1, int(room - 0.6))
            blocks = [(layer, [rows[i] for i in spread(len(rows), most)][:most]) for layer, rows in blocks]
        drawn = [row for _, rows in blocks for row in rows]
    losses = all(row.gap is None for row in drawn)
    sides = _widths(edit, drawn, columns)
    targets = {
        f"target {mark}": tuple(name if at in edit.pos else token for at, token in enumerate(edit.tokens))
        for mark, name in ways.items()
    }
    body = 1 + len(targets) + len(drawn) + 0.6 * len(blocks) + 1
    host, cells = fill(frame, step * body, foot)
    table = blank(host, cells[0], "rows")
    table.set(xlim=(0, frame.width), ylim=(body, 0))
    places = [(at, left + sum(sides[:i])) for i, at in enumerate(columns)]
    end = left + sum(sides) + right
    head: dict[str, Any] = {"ha": "right", "va": "center"}
    y = 0.6
    table.text(end - 0.05, y, "loss" if losses else "gap", color=themed(GREY), **head)
    for label, tokens in targets.items():
        table.text(left - 0.12, y, label, **head)
        _write(table, y, tokens, places, dict.fromkeys(edit.pos, "target"), ())
        y += 1
    table.text(left - 0.12, y, "input", **head)
    _write(table, y, edit.tokens, places, {}, edit.pos)
    y += 0.4
    for layer, rows in blocks:
        y += 0.6
        table.plot([0.02, end], [y, y], color=themed(PALE), linewidth=0.8, zorder=0)
        for i, row in enumerate(rows):
            y += 1 if i else 0.6
            if i == 0 and layer is not None:
                table.text(0.05, y, f"layer {layer}", va="center", weight="bold")
            table.text(left - 0.12, y, f"{row.magnitude:+g}" if row.magnitude else "0", **head)
            kinds = {change.pos: change.kind for change in row.changed}
            _write(table, y, row.tokens, places, kinds, edit.pos)
            shown = short_number(row.loss) if losses else "-" if row.gap is None else f"{row.gap:.2f}"
            table.text(end - 0.05, y, shown, color=themed(GREY), **head)
        y += 0.4
    _key(blank(host, cells[1], "legend"), frame.width, foot)
    return host


def _ways(edit: ConceptEdit, control: str | None, magnitudes: Sequence[float]) -> dict[str, str]:
    """The set that magnitudes of either sign lead to, by sign; none where a control leads to neither."""
    turn = {None: 1, "opposite": -1}.get(control, 0)
    return {
        mark: edit.positive if sign * turn > 0 else edit.negative
        for sign, mark in ((1, "+"), (-1, "-"))
        if turn and any(magnitude * sign > 0 for magnitude in magnitudes)
    }


def _columns(edit: ConceptEdit, rows: Sequence[EditRow], wide: float) -> list[int | None]:
    """The positions shown in so many inches, without the special tokens at the ends; None stands for left-out ones."""
    count = len(edit.tokens)
    inner = [i for i in range(count) if not (i in (0, count - 1) and edit.tokens[i] in ("[CLS]", "[SEP]"))]
    marked = {change.pos for row in rows for change in row.changed} | set(edit.pos)
    shown: list[int | None] = list(inner)
    for near in (3, 2, 1, 0):
        if sum(_widths(edit, rows, shown)) <= wide:
            break
        kept = [i for i in inner if any(abs(i - at) <= near for at in marked)]
        shown = []
        for i in kept:
            shown += [None, i] if i != inner[0] and i - 1 not in kept else [i]
        shown += [None] if kept[-1] != inner[-1] else []
    return shown


def _widths(edit: ConceptEdit, rows: Sequence[EditRow], columns: Sequence[int | None]) -> list[float]:
    """Inches, of every column."""
    names, every = (edit.negative, edit.positive), range(len(edit.tokens))
    named = [tuple(name if at in edit.pos else "" for at in every) for name in names]
    texts = [edit.tokens, *named, *(row.tokens for row in rows)]
    words = [[] if at is None else [readable(tokens[at]) for tokens in texts] for at in columns]
    return [scaled(0.14) + max((text_width(w, bold=True) / 72 for w in some), default=scaled(0.06)) for some in words]


def _write(
    ax: Axes, y: float, tokens: Sequence[str], places: Places, kinds: dict[int, str], moved: Sequence[int]
) -> None:
    """One sentence, its changed words in their style."""
    for at, x in places:
        if at is None:
            ax.text(x, y, "…", va="center", color=themed(GREY))
            continue
        look, word = KINDS.get(kinds.get(at, ""), {}), readable(tokens[at])
        options = {key: look[key] for key in ("weight", "style") if key in look}
        ax.text(x, y, word, va="center", color=themed(look.get("color", INK)), **options)
        size = text_width(word, bold="weight" in look) / 72
        if "boxstyle" in look:
            style = {key: look[key] for key in ("boxstyle", "linestyle")} | {"fc": "none", "ec": themed(look["color"])}
            ax.add_patch(FancyBboxPatch((x - 0.03, y - 0.42), size + 0.06, 0.84, linewidth=0.9, **style))
        elif at in moved:
            ax.plot([x, x + size], [y + 0.4, y + 0.4], color=themed(INK), linewidth=0.8)


def _key(ax: Axes, width: float, height: float) -> None:
    """What the marks mean, each written as it is above; two lines of two."""
    ax.set(xlim=(0, width), ylim=(height / scaled(ROW), 0))
    black = "black" if themed(INK) == INK else "plain"
    entries = [
        ("green", "changed with the concept", "concept", False),
        ("red", "changed otherwise", "other", False),
        (black, "did not change", "", False),
        (black, "moved, did not change", "", True),
    ]
    half = scaled(0.53) + max(text_width(meaning) for _, meaning, _, _ in entries[::2]) / 72
    for i, (sample, meaning, kind, moved) in enumerate(entries):
        x, y = 0.05 + (i % 2) * half, 0.6 + (i // 2) * 1.1
        _write(ax, y, [sample], [(0, x)], {0: kind}, (0,) if moved else ())
        ax.text(x + scaled(0.45), y, meaning, va="center")


@styled
def dose_response(edits: Any, *, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """How often the moved word follows the move, and how far the text stays behind, by magnitude; with controls.

    A word follows the move that changes along the concept the way the move went; under the control "opposite" that is
    the other way. The controls' points stand beside their magnitude, so that curves which run together stay apart. Both
    are means over the layers, and over the sentences where several edits are given.

    Args:
        edits: one or several results of `edit_concept`, best with `controls=True`.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "response" and "gap".

    Raises:
        DreamError: nothing to draw.

    Examples:
        >>> edit = td.edit_concept(bert, concept, "the dog is a star", pos="dog", magnitudes=[-1, 1], controls=True)
        >>> ax = plotting.dose_response(edit)
    """
    given: list[ConceptEdit] = listed(edits)
    require(bool(given), "nothing to draw: give at least one result of edit_concept")
    for edit in given:
        expect(edit, "of edit_concept()", ConceptEdit)
    first = given[0]
    many = "" if len(given) == 1 else f", {len(given)} sentences"
    controls = [control for control in CONTROLS if any(row.control == control for edit in given for row in edit.rows)]
    said = f"{first.concept} at {first.hook} on {first.model}{many}"
    frame = framed(ax, title, said, scaled(6.6))
    host, parts = fill(frame, scaled(2.5), key=[CONTROLS[control][0] for control in controls])
    cells = parts[0].subgridspec(1, 2)
    response, gap = add_panel(host, cells[0], "response"), add_panel(host, cells[1], "gap")
    sizes = sorted({row.magnitude for edit in given for row in edit.rows})
    apart = [high - low for low, high in zip(sizes, sizes[1:], strict=False)]
    step = min(BESIDE * sum(apart), min(apart) / 5) if apart else 0.0
    handles = []
    for control, (name, colour, marker, line, slot) in CONTROLS.items():
        points: dict[float, list[tuple[bool, float]]] = {}
        for edit in given:
            for row in edit.rows:
                if row.control == control or row.magnitude == 0:  # a move of nothing is the same for all
                    hit = any(change.pos in edit.pos and change.kind == "concept" for change in row.changed)
                    points.setdefault(row.magnitude, []).append((hit, math.nan if row.gap is None else row.gap))
        if not points or all(magnitude == 0 for magnitude in points) and control is not None:
            continue
        drawn = sorted(points)
        x, colour = [magnitude + step * slot for magnitude in drawn], themed(colour)
        look: dict[str, Any] = {"color": colour, "marker": marker, "linestyle": line, "markersize": 5, "label": name}
        look |= {"markeredgecolor": colour, "markeredgewidth": 1.2}
        look |= {} if control is None else {"markerfacecolor": "none", "markersize": 5.5, "linewidth": 1.1}
        handles += response.plot(x, [sum(hit for hit, _ in points[m]) / len(points[m]) for m in drawn], **look)
        gap.plot(x, [sum(value for _, value in points[m]) / len(points[m]) for m in drawn], **look)
    require(bool(handles), "nothing to draw: the edits hold no row with a magnitude other than 0")
    below = "magnitude,\nnatural units" if frame.width < scaled(5.0) else "magnitude, natural units"
    response.set(xlabel=below, ylabel="moved word changed\nthe way of the move", ylim=(-0.04, 1.04))
    response.yaxis.set_major_formatter(PercentFormatter(1.0))
    gap.set(xlabel=below, ylabel="reachability gap")
    gap.set_ylim(bottom=0)
    for axes in (response, gap):
        axes.xaxis.set_major_locator(MaxNLocator(nbins=7 if frame.width > scaled(5.0) else 4, steps=[1, 2, 5, 10]))
    draw_key(host, parts[1], [handles[-1], *handles[:-1]], frame.width)
    return host
