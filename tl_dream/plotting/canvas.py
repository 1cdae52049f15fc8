"""Style, panels, the width of text, and figures saved: what all plots share."""

from __future__ import annotations

import io
import os
import re
import textwrap
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache, wraps
from typing import Any, ParamSpec

import matplotlib
import matplotlib.pyplot as plt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from tl_dream._errors import require, unknown
from tl_dream.results import check_writable, write_bytes
from tl_dream.results import readable as as_text

INK, GREY, PALE = "#000000", "#5c5c5c", "#d9d9d9"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
"""Okabe and Ito's colours, told apart with every kind of colour vision. No meaning rests on colour alone."""

DARK_GREEN, RED = "#00704F", "#B8390E"
"""Green and red as in the article, dark enough for text and told apart by brightness too."""

RIGHT, WRONG = "#bfe3d5", "#f3c4a5"
"""Okabe and Ito's green and vermillion, pale enough for black letters."""

ON_DARK = {DARK_GREEN: "#4FD3A6", RED: "#FF9466", RIGHT: "#00583F", WRONG: "#7A3A00"}
"""The same on a dark ground."""

WEIGHTS = LinearSegmentedColormap.from_list("tl_dream_weights", ["#ffffff", SKY])
"""Softmax weights: white (0) to sky blue (1); lighter to darker in grey, and black text stays readable on all of it."""

FONT_SIZE = 8.0
"""Points."""

FAMILY = "DejaVu Sans"
"""It comes with matplotlib, so a figure looks the same everywhere; what it lacks comes from others."""

STYLE: Any = {
    "font.family": [FAMILY],
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


def styled(function: Callable[P, Axes]) -> Callable[P, Axes]:
    """Draw in the package's style and leave the user's rcParams as they are."""

    @wraps(function)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Axes:
        with matplotlib.rc_context(STYLE):
            drawn = function(*args, **kwargs)
            if len(matplotlib.rcParams["font.family"]) > 1:  # what was made before its letters were known (ticks)
                for text in drawn.figure.figure.findobj(Text):
                    if text.get_fontfamily()[0] == FAMILY:
                        text.set_fontfamily(matplotlib.rcParams["font.family"])
            return drawn

    return draw


def expect(given: Any, source: str, *kinds: type) -> None:
    """Raise `DreamError` unless a plot was given a result of the kinds it draws.

    Args:
        source: where such a result comes from, for the message.
    """
    names = " or ".join(kind.__name__ for kind in kinds)
    require(isinstance(given, kinds), f"this plot draws a {names} ({source}), not {type(given).__name__}")


def fill_axes(ax: Axes | None, width: float, height: float) -> Axes:
    """The emptied Axes whose place a picture fills: `ax`, or a new figure of `width` x `height` inches."""
    if ax is None:
        ax = plt.figure(figsize=(width, height), layout="constrained").add_subplot()
    ax.set_axis_off()
    return ax


def grid_in(ax: Axes, rows: int, columns: int, **ratios: Sequence[float] | float) -> GridSpecFromSubplotSpec:
    """A grid in the place of an Axes (`width_ratios`, `height_ratios`, `wspace`, `hspace`)."""
    spec = ax.get_subplotspec()
    if spec is None:  # an Axes put somewhere by hand
        box = ax.get_position()
        spec = GridSpec(1, 1, ax.figure.figure, box.x0, box.y0, box.x1, box.y1)[0]
    return spec.subgridspec(rows, columns, **ratios)


def dpi(ax: Axes) -> float:
    """Pixels an inch of the figure an Axes stands in."""
    return float(ax.figure.figure.dpi)


def add_panel(ax: Axes, spec: SubplotSpec, label: str, **options: Any) -> Axes:
    """A new Axes in a cell of the grid, found later by its label."""
    owner: Figure | SubFigure = ax.figure
    return owner.add_subplot(spec, label=label, **options)


def paper() -> str:
    """The ground that panels are drawn on, in the user's style."""
    own = matplotlib.rcParams["axes.facecolor"]
    return to_hex(own if own != "none" else matplotlib.rcParams["figure.facecolor"])


def _dark() -> bool:
    red, green, blue = to_rgb(paper())
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.4


def themed(colour: str) -> str:
    """One of the colours above as the user's style has it: what is black, grey and pale is so between the style's text
    and its ground, and text and fills are light or dark enough for these."""
    share = {INK: 1.0, GREY: 0.64, PALE: 0.15}.get(colour)
    if share is None:
        return ON_DARK.get(colour, colour) if _dark() else colour
    text, ground = to_rgb(matplotlib.rcParams["text.color"]), to_rgb(paper())
    red, green, blue = (share * a + (1 - share) * b for a, b in zip(text, ground, strict=True))
    return to_hex((red, green, blue))


def shade(weight: float) -> tuple[float, float, float, float]:
    """A weight from 0 to 1 as a ground that text stays readable on (see `WEIGHTS`)."""
    colours = LinearSegmentedColormap.from_list("tl_dream_dark", [paper(), BLUE]) if _dark() else WEIGHTS
    return colours(float(weight))


REGULAR = ("400", "normal", "regular")


@lru_cache(maxsize=1)
def _faces(count: int) -> list[tuple[str, frozenset[int]]]:
    """Every font on the machine that draws letters in outlines, and the characters it has; of `count` fonts known."""
    found: dict[str, frozenset[int]] = {}
    for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: str(entry.weight) not in REGULAR):
        if entry.style == "normal" and "Last Resort" not in entry.name and entry.name not in found:
            try:
                face = FT2Font(entry.fname)
            except (OSError, RuntimeError):  # gone, or of pixels
                continue
            if face.scalable:
                found[entry.name] = frozenset(face.get_charmap())
    return list(found.items())


@lru_cache(maxsize=1)
def _font() -> FT2Font:
    return FT2Font(font_manager.findfont(FontProperties(family=FAMILY)))


@lru_cache(maxsize=4096)
def _font_for(character: str, count: int) -> str | None:
    """The name of a font that has a character; None where none has."""
    if _font().get_char_index(ord(character)):
        return FAMILY
    return next((name for name, known in _faces(count) if ord(character) in known), None)


def _written(text: str) -> bool:
    """Whether there are fonts for all of a text; those that the text needs are taken into the figure's."""
    every = True
    for character in dict.fromkeys(text):
        name = _font_for(character, len(font_manager.fontManager.ttflist)) if character.isprintable() else None
        family = matplotlib.rcParams["font.family"]
        if name is not None and name not in family and family[0] == FAMILY:
            matplotlib.rcParams["font.family"] = [*family, name]  # until the end of `styled`
        every = every and name is not None
    return every


MARK = "\u200e"
"""No letter, but written from left to right: beside a word that is not, it keeps the order of all others."""


def _turned(text: str) -> bool:
    """Whether letters are in it that are written from right to left."""
    return any(unicodedata.bidirectional(c) in ("R", "AL", "AN") for c in text)


def _ordered(text: str) -> str:
    """A text of several words, those from right to left (Arabic, Hebrew) in their places."""
    if not _turned(text):
        return text
    return " ".join(f"{MARK}{word}{MARK}" if _turned(word) else word for word in text.replace(MARK, "").split(" "))


def written(text: str) -> bool:
    """Whether the fonts on the machine have all of a text."""
    return all(c.isprintable() for c in text) and _written(text)


def _spelled(text: str) -> str:
    kept = f"\n{MARK}" if _turned(text) else "\n"
    return "".join(c if c in kept or written(c) else _named(c) for c in text)


def spelled(text: str) -> str:
    """A text as it is written in a figure: of characters that no font on the machine has the name of the sound or
    picture, else the code point."""
    return _ordered(_spelled(text))


def readable(token: str, longest: int = 18) -> str:
    """A token as it is written in a figure (see `spelled`), a long one cut with "…"."""
    shown = _spelled(as_text(token))
    return _ordered(shown if len(shown) <= longest else shown[: longest - 1] + "…")


def _named(character: str) -> str:
    """What a character is called by Unicode where this is what it sounds like or shows ("‹han›", "‹grinning face›")."""
    name = unicodedata.name(character, "")
    sound = re.search(r"(?:SYLLABLE|LETTER|VOWEL SIGN) ([A-Z-]+(?: [A-Z-]+)?)$", name)
    picture = unicodedata.category(character) == "So" and name
    told = sound[1] if sound else picture
    return f"‹{told.lower()}›" if told else f"\\u{ord(character):04x}"


@lru_cache(maxsize=4096)
def short_number(value: float, digits: int = 3) -> str:
    """A score with so many digits behind the point; with three that count where it is very small or large."""
    plain = 10 ** (1 - digits) <= abs(value) < 1000 or value == 0
    return f"{value:.{digits}f}" if plain else f"{value:.3g}"


def text_width(text: str, bold: bool = False, size: float = FONT_SIZE) -> float:
    """The width of a line of text in points."""
    _written(text)
    font = FontProperties(family=matplotlib.rcParams["font.family"], weight="bold" if bold else "normal", size=size)
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def wrapped(text: str, inches: float, size: float = FONT_SIZE + 1) -> str:
    """A title, broken into lines of at most this width."""
    text = spelled(text)
    letter = max(0.58 * size, text_width(text, size=size) / max(1, len(text)))
    return textwrap.fill(text, max(20, int(inches * 72 / letter)), break_on_hyphens=False)


def caption(host: Axes, spec: SubplotSpec, label: str, text: str, size: float = FONT_SIZE + 1) -> None:
    """Text in a cell of its own: a title over several panels gets room from no layout engine."""
    ax = add_panel(host, spec, label)
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
