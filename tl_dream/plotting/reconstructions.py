"""Pictures of reconstruction: a sentence read back from every layer (Figure 5), and what damage leaves of sentences.

ax = read_back(layers)
save_figure(ax.figure, "figure5.png")        # from tl_dream.plotting
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tl_dream._errors import require
from tl_dream.plotting.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PALE,
    PURPLE,
    RIGHT,
    SKY,
    VERMILLION,
    WRONG,
    add_panel,
    caption,
    expect,
    fill_axes,
    grid_in,
    readable,
    styled,
    text_width,
    themed,
    wrapped,
)
from tl_dream.results import KeptTokens, LayerReconstructions, Reconstruction

WIDEST = 9.0  # inches of a row of tokens; a longer sentence goes on in a block below
LINE = 16.0  # points
GAP = 4.0  # points between two tokens
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK, GREY)


@styled
def read_back(result: Any, *, ax: Axes | None = None) -> Axes:
    """The article's Figure 5: a row a layer, right tokens green, wrong ones red, the cost beside it.

    Without colour: wrong tokens have a thick frame and a cross before them; the true token stands in the first row.
    A row says how many tokens are right, whether they are certified, the mean squared error and the seconds.

    Args:
        result: of `reconstruct_layers`, or of `reconstruct` where the truth is known.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the rows are in the panels labelled "tokens", "tokens 2", ...

    Raises:
        DreamError: a result whose truth is not known.
    """
    expect(result, "of reconstruct_layers() or reconstruct()", LayerReconstructions, Reconstruction)
    rows = result.by_layer if isinstance(result, LayerReconstructions) else (result,)
    truth = rows[0].truth
    require(
        truth is not None and all(len(row.tokens) == len(rows[0].tokens) for row in rows),
        "nothing to compare with: give reconstruct() the truth=, or use reconstruct_layers()",
    )
    assert truth is not None
    free = rows[0].free
    columns = [
        GAP + 4 + max(text_width(_shown(tokens, i, row)) for tokens, row in _lines(rows, truth.tokens)) for i in free
    ]
    names = ["recorded", *(_name(row) for row in rows)]
    side = 8 + max(text_width(name, bold=True) for name in names)
    blocks = _blocks(columns, WIDEST * 72 - side)
    title = _title(result, rows[0])
    wide = (side + max(sum(columns[a:b]) for a, b in blocks)) / 72
    beside = 2.9
    text = wrapped(title, wide + beside)
    head, body = 0.18 * (1 + text.count("\n")) + 0.1, (len(blocks) * (len(rows) + 1.6)) * LINE / 72
    host = fill_axes(ax, wide + beside, head + body + 0.35)
    grid = grid_in(host, 3, 1, height_ratios=[head, body, 0.35])
    caption(host, grid[0], "title", text)
    tables = grid[1].subgridspec(len(blocks), 1)
    for number, (first, last) in enumerate(blocks):
        table = add_panel(host, tables[number], "tokens" if number == 0 else f"tokens {number + 1}")
        _draw_rows(table, rows, truth.tokens, columns, (first, last), names, side)
        table.set(xlim=(0, 72 * (wide + beside)), ylim=(len(rows) + 0.6, -0.6))
        table.set_axis_off()
        if number == 0:
            _draw_cost(table, rows, 72 * wide + 14)
    _draw_key(add_panel(host, grid[2], "legend"))
    return host


def _name(row: Reconstruction) -> str:
    return f"layer {row.layer}" if row.layer is not None else row.hook


def _title(result: LayerReconstructions | Reconstruction, first: Reconstruction) -> str:
    hook = first.hook.split(".", 2)[-1] if first.layer is not None else first.hook
    damage = result.damage if isinstance(result, LayerReconstructions) else None
    return f"read back from {hook} on {first.model}, method {first.method}" + (f", after {damage}" if damage else "")


def _lines(rows: tuple[Reconstruction, ...], truth: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    return [(truth, None), *((row.tokens, row) for row in rows)]


def _shown(tokens: tuple[str, ...], pos: int, row: Reconstruction | None) -> str:
    wrong = row is not None and pos in (row.wrong or ())
    return ("× " if wrong else "") + readable(tokens[pos])


def _blocks(columns: list[float], room: float) -> list[tuple[int, int]]:
    """Slots [first, last) of every block, each at most so many points wide."""
    blocks, first, width = [], 0, 0.0
    for slot, column in enumerate(columns):
        if slot > first and width + column > room:
            blocks.append((first, slot))
            first, width = slot, 0.0
        width += column
    return [*blocks, (first, len(columns))]


def _draw_rows(
    table: Axes,
    rows: tuple[Reconstruction, ...],
    truth: tuple[str, ...],
    columns: list[float],
    block: tuple[int, int],
    names: list[str],
    side: float,
) -> None:
    """The tokens of a block of positions, the recorded ones first; `side` points are left of them."""
    first, last = block
    free = rows[0].free
    for line, (tokens, row) in enumerate(_lines(rows, truth)):
        table.text(side - 8, line, names[line], ha="right", va="center", weight="bold" if row is None else "normal")
        x = side
        for slot in range(first, last):
            pos = free[slot]
            wrong = row is not None and pos in (row.wrong or ())
            if row is not None:
                table.add_patch(
                    Rectangle(
                        (x, line - 0.42),
                        columns[slot] - GAP,
                        0.84,
                        facecolor=themed(WRONG) if wrong else themed(RIGHT),
                        edgecolor=VERMILLION if wrong else "none",
                        linewidth=1.6 if wrong else 0,
                    )
                )
            table.text(x + (columns[slot] - GAP) / 2, line, _shown(tokens, pos, row), ha="center", va="center")
            x += columns[slot]


def _draw_cost(table: Axes, rows: tuple[Reconstruction, ...], left: float) -> None:
    """Right tokens, certificate, loss and seconds of every row, as far as they are known, from `left` points on."""
    columns = {
        "right": [f"{row.right}/{row.total}" for row in rows],
        "certified": ["-" if row.certificate is None else "yes" if row.certified else "no" for row in rows],
        "loss": [f"{row.loss:.1e}" for row in rows],
        "seconds": [f"{row.cost.seconds:.1f}" if row.cost.known else "-" for row in rows],
    }
    widths = {"right": 40, "certified": 58, "loss": 50, "seconds": 50}
    for name in [name for name in columns if set(columns[name]) != {"-"}]:
        table.text(left, 0, name, ha="left", va="center", weight="bold")
        for line, cell in enumerate(columns[name], start=1):
            table.text(left, line, cell, ha="left", va="center")
        left += widths[name]


def _draw_key(ax: Axes) -> None:
    """What the colours and marks mean."""
    ax.set_axis_off()
    handles = [
        Rectangle((0, 0), 1, 1, facecolor=themed(RIGHT), edgecolor="none", label="the recorded token"),
        Rectangle((0, 0), 1, 1, facecolor=themed(WRONG), edgecolor=VERMILLION, linewidth=1.6, label="× another token"),
    ]
    ax.legend(handles=handles, loc="center left", ncols=2, frameon=False, borderaxespad=0)


@styled
def kept_curves(result: Any, *, ax: Axes | None = None) -> Axes:
    """The share of tokens that each layer keeps under damage: noise as a curve, everything else as points beside it.

    A filled mark is the text that fits the damaged target best; a hollow one what the blind search read back, where it
    is less: that difference is the search's failure and not the layer's.

    Args:
        result: of `kept_tokens`.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the marks are in the panel labelled "kept".

    Raises:
        DreamError: a result without records.
    """
    expect(result, "of kept_tokens()", KeptTokens)
    require(bool(result.records), "nothing to draw: the result holds no record")
    damages = sorted(result.damages, key=lambda damage: not damage.startswith("noise"))
    noises = sum(damage.startswith("noise") for damage in damages)
    count = len(result.texts)
    text = wrapped(f"tokens kept by {result.hook} of {result.model}: {count} sentence{'s' * (count != 1)}", 6.6)
    head = 0.18 * (1 + text.count("\n")) + 0.1
    host = fill_axes(ax, 6.6, head + 3.7)
    grid = grid_in(host, 2, 1, height_ratios=[head, 3.7])
    caption(host, grid[0], "title", text)
    axes = add_panel(host, grid[1], "kept")
    handles = []
    for i, layer in enumerate(result.layers):
        shift = 0.5 * (i / max(1, len(result.layers) - 1) - 0.5)  # layers stand beside each other
        places = [k + shift for k in range(len(damages))]
        kept, right = ([result.share(layer, damage, what) for damage in damages] for what in ("kept", "right"))
        look: dict[str, Any] = {
            "marker": MARKS[i % len(MARKS)],
            "color": themed(COLOURS[i % len(COLOURS)]),
            "markersize": 5.0,
            "clip_on": False,
        }
        axes.plot(places[:noises], kept[:noises], color=look["color"], linewidth=0.9)
        handles += axes.plot(
            places, kept, linestyle="none", label=f"layer {layer}", markeredgecolor=themed(INK), **look
        )
        lower = [k for k in range(len(damages)) if right[k] < kept[k]]
        axes.plot([places[k] for k in lower], [right[k] for k in lower], linestyle="none", mfc="none", **look)
    for k in range(len(damages) - 1):
        axes.axvline(k + 0.5, color=themed(PALE), linewidth=0.6, zorder=0)
    axes.set_xticks(range(len(damages)), [_damage(damage) for damage in damages])
    axes.set(xlim=(-0.5, len(damages) - 0.5), ylim=(-0.02, 1.02), ylabel="share of tokens kept")
    axes.set_xlabel("damage; noise as a share of the target's scale" if noises else "damage")
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "borderaxespad": 0}
    axes.legend(handles=handles, ncols=min(6, len(handles)), frameon=False, **below)
    return host


def _damage(damage: str) -> str:
    kind, *amount = damage.split()
    return f"{kind}\n{float(amount[0]):.0%}" if kind == "noise" else "\n".join([kind, *amount])
