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
    OWN,
    Title,
    add_panel,
    blank,
    draw_key,
    expect,
    fill,
    fitting,
    framed,
    key_height,
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
    RIGHT,
    SKY,
    VERMILLION,
    WRONG,
    readable,
    scaled,
    text_width,
    themed,
)
from tl_dream.plotting.token_table import blocks
from tl_dream.results import KeptTokens, LayerReconstructions, Reconstruction

WIDEST = 9.0  # inches of a row of tokens; a longer sentence goes on in a block below
LINE = 16.0  # points
GAP = 4.0  # points between two tokens
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
COLOURS = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, INK, GREY)


@styled
def read_back(result: Any, *, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """The article's Figure 5: a row a layer, right tokens green, wrong ones red, the cost beside it.

    Without colour: wrong tokens have a thick frame and a cross before them; the true token stands in the first row.
    A row says how many tokens are right, whether they are certified, the mean squared error and the seconds. A given
    place shows as many layers, evenly spaced, and as many of these numbers as it has room for.

    Args:
        result: of `reconstruct_layers`, or of `reconstruct` where the truth is known.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the rows are in the panels labelled "tokens", "tokens 2", ...

    Raises:
        DreamError: a result whose truth is not known.

    Examples:
        >>> layers = td.reconstruct_layers(bert, "the red dog", layers=[0, 1])
        >>> ax = plotting.read_back(layers, title=None)
    """
    expect(result, "of reconstruct_layers() or reconstruct()", LayerReconstructions, Reconstruction)
    rows = result.by_layer if isinstance(result, LayerReconstructions) else (result,)
    truth, free = rows[0].truth, rows[0].free
    require(
        truth is not None and all(len(row.tokens) == len(rows[0].tokens) for row in rows),
        "nothing to compare with: give reconstruct() the truth=, or use reconstruct_layers()",
    )
    assert truth is not None
    columns = [
        GAP + 4 + max(text_width(_shown(tokens, i, row)) for tokens, row in _lines(rows, truth.tokens)) for i in free
    ]
    side = 8 + max(text_width(name, bold=True) for name in ("recorded", *map(_name, rows)))
    costs = _costs(rows)
    beside = sum(width for _, width in costs.values()) + 14
    widest = max(sum(columns[a:b]) for a, b in _blocks(columns, 72 * scaled(WIDEST) - side))
    damage = result.damage if isinstance(result, LayerReconstructions) else None
    said = f"read back from {rows[0].short_hook} on {rows[0].model}, method {rows[0].method}"
    said += f", after {damage}" if damage else ""
    frame = framed(ax, title, said, (side + widest + beside) / 72)
    wide = 0.97 * 72 * frame.width if frame.given else side + widest + beside
    while frame.given and len(costs) > 1 and wide - side - beside < min(sum(columns), 0.6 * wide):
        beside -= costs.popitem()[1][1]
    parts = _blocks(columns, wide - side - beside + 0.1)
    names = ["the recorded token", "× another token"]
    legend, line = key_height(names, frame.width), scaled(LINE) / 72
    most = fitting(len(rows), (frame.body - legend - 0.1) / len(parts) - 1.2 * line, 0.75 * line)
    chosen = spread(len(rows), most)[:most]
    rows = tuple(rows[i] for i in chosen)
    host, cells = fill(frame, len(parts) * (len(rows) + 1.6) * line, legend)
    tables = cells[0].subgridspec(len(parts), 1, hspace=0)
    for number, block in enumerate(parts):
        table = blank(host, tables[number], "tokens" if number == 0 else f"tokens {number + 1}")
        _draw_rows(table, rows, truth.tokens, columns, block, side)
        table.set(xlim=(0, wide), ylim=(len(rows) + 0.6, -0.6))
    panel, left = next(axes for axes in host.figure.axes[::-1] if axes.get_label() == "tokens"), wide - beside + 14
    for name, (written, width) in costs.items():
        for row, cell in enumerate([name, *(written[i] for i in chosen)]):
            panel.text(left, row, cell, ha="left", va="center", weight="normal" if row else "bold")
        left += width
    handles = [Rectangle((0, 0), 1, 1, label=name, **_look(wrong)) for wrong, name in enumerate(names)]
    draw_key(host, cells[1], handles, frame.width)
    return host


def _name(row: Reconstruction) -> str:
    return f"layer {row.layer}" if row.layer is not None else row.hook


def _costs(rows: tuple[Reconstruction, ...]) -> dict[str, tuple[list[str], float]]:
    """Right tokens, certificate, loss and seconds of every row, as far as they are known, and points for them."""
    columns = {name: [row.cells[name] for row in rows] for name in rows[0].cells}
    return {
        name: (cells, max(text_width(name, bold=True), *map(text_width, cells)) + 9)
        for name, cells in columns.items()
        if set(cells) != {"-"}
    }


def _look(wrong: bool | int) -> dict[str, Any]:
    return {"fc": themed(WRONG), "ec": VERMILLION, "lw": 1.6} if wrong else {"fc": themed(RIGHT), "ec": "none", "lw": 0}


def _lines(rows: tuple[Reconstruction, ...], truth: tuple[str, ...]) -> list[tuple[tuple[str, ...], Any]]:
    return [(truth, None), *((row.tokens, row) for row in rows)]


def _shown(tokens: tuple[str, ...], pos: int, row: Reconstruction | None) -> str:
    wrong = row is not None and pos in (row.wrong or ())
    return ("× " if wrong else "") + readable(tokens[pos])


def _blocks(columns: list[float], room: float) -> tuple[tuple[int, int], ...]:
    """As few blocks as fit in so many points."""
    options = (blocks(columns, count) for count in range(1, len(columns)))
    fits = (option for option in options if max(sum(columns[a:b]) for a, b in option) <= room)
    return next(fits, blocks(columns, len(columns)))


def _draw_rows(
    table: Axes,
    rows: tuple[Reconstruction, ...],
    truth: tuple[str, ...],
    columns: list[float],
    block: tuple[int, int],
    side: float,
) -> None:
    """The tokens of a block of positions, the recorded ones first; `side` points are left of them."""
    free = rows[0].free
    for line, (tokens, row) in enumerate(_lines(rows, truth)):
        name = "recorded" if row is None else _name(row)
        table.text(side - 8, line, name, ha="right", va="center", weight="bold" if row is None else "normal")
        x = side
        for slot in range(*block):
            pos, width = free[slot], columns[slot] - GAP
            if row is not None:
                wrong = pos in (row.wrong or ())
                table.add_patch(Rectangle((x, line - 0.42), width, 0.84, **_look(wrong)))
            table.text(x + width / 2, line, _shown(tokens, pos, row), ha="center", va="center")
            x += columns[slot]


@styled
def kept_curves(result: Any, *, title: Title = OWN, ax: Axes | None = None) -> Axes:
    """The share of tokens that each layer keeps under damage: noise as a curve, everything else as points beside it.

    A filled mark is the text that fits the damaged target best; a hollow one what the blind search read back, where it
    is less: that difference is the search's failure and not the layer's.

    Args:
        result: of `kept_tokens`.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the marks are in the panel labelled "kept".

    Raises:
        DreamError: a result without records.

    Examples:
        >>> kept = td.kept_tokens(bert, ["the red dog"], layers=[0, 1], damages=["noise 0.2", "int8"])
        >>> ax = plotting.kept_curves(kept)
    """
    expect(result, "of kept_tokens()", KeptTokens)
    require(bool(result.records), "nothing to draw: the result holds no record")
    damages = sorted(result.damages, key=lambda damage: not damage.startswith("noise"))
    noises = sum(damage.startswith("noise") for damage in damages)
    count = len(result.texts)
    said = f"tokens kept by {result.hook} of {result.model}: {count} sentence{'s' * (count != 1)}"
    frame = framed(ax, title, said, scaled(6.6))
    host, cells = fill(frame, scaled(3.4), key=[f"layer {layer}" for layer in result.layers])
    axes = add_panel(host, cells[0], "kept")
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
        if lower:
            axes.plot([places[k] for k in lower], [right[k] for k in lower], linestyle="none", mfc="none", **look)
    for k in range(len(damages) - 1):
        axes.axvline(k + 0.5, color=themed(PALE), linewidth=0.6, zorder=0)
    axes.set_xticks(range(len(damages)), [_damage(damage) for damage in damages])
    axes.set(xlim=(-0.5, len(damages) - 0.5), ylim=(-0.02, 1.02), ylabel="share of tokens kept")
    axes.set_xlabel("damage (noise: share of the scale)" if noises else "damage")
    draw_key(host, cells[1], handles, frame.width)
    return host


def _damage(damage: str) -> str:
    kind, *amount = damage.split()
    return f"{kind}\n{float(amount[0]):.0%}" if kind == "noise" else "\n".join([kind, *amount])
