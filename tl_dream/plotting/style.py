"""Letters and colours: which fonts have a text, how wide it is, and what every eye tells apart, light or dark."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from functools import lru_cache
from typing import Any

import matplotlib
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from tl_dream.results import readable as as_text

FONT_SIZE = 8.0
"""Points, where the user has not set "font.size"; all lengths below are given for it."""

LEAST = 6.0
"""Points; no letter that this package sizes is smaller."""

REGULAR = ("400", "normal", "regular")


def size() -> float:
    """Points of the letters now: the user's, or the package's own."""
    return float(matplotlib.rcParams["font.size"])


def small() -> float:
    """Points of what stands beside: ticks, numbers, notes."""
    return max(LEAST, 0.875 * size())


def scaled(length: float) -> float:
    """A length that was measured with letters of 8 points, with the letters of now."""
    return length * size() / FONT_SIZE


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


@lru_cache(maxsize=8)
def _own(family: str) -> FT2Font:
    return FT2Font(font_manager.findfont(FontProperties(family=[family])))


@lru_cache(maxsize=4096)
def _font_for(character: str, families: tuple[str, ...], count: int) -> str | None:
    """The name of a font that has a character, one of the user's first; None where none has."""
    for family in (*families, "DejaVu Sans"):  # which comes with matplotlib, and has what we draw in bold too
        if _own(family).get_char_index(ord(character)):
            return family
    return next((name for name, known in _faces(count) if ord(character) in known), None)


def _fonts(text: str) -> dict[str, str | None]:
    """The font of every character; None where there is none."""
    families, count = tuple(matplotlib.rcParams["font.family"]), len(font_manager.fontManager.ttflist)
    return {c: _font_for(c, families, count) if c.isprintable() else None for c in dict.fromkeys(text)}


def _families(text: str) -> list[str]:
    """The user's fonts, and those that the text needs beside them."""
    return list(dict.fromkeys([*matplotlib.rcParams["font.family"], *(name for name in _fonts(text).values() if name)]))


def set_fonts(figure: Figure) -> None:
    """Give every text of a figure the fonts that its characters need."""
    for text in figure.findobj(Text):
        needed = _families(text.get_text())
        if len(needed) > len(matplotlib.rcParams["font.family"]):
            text.set_fontfamily(needed)


def written(text: str) -> bool:
    """Whether the fonts on the machine have all of a text."""
    return None not in _fonts(text).values()


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


def text_width(text: str, bold: bool = False, points: float | None = None) -> float:
    """The width of a line of text in points, in letters of so many; None for `size()`."""
    font = FontProperties(family=_families(text), weight="bold" if bold else "normal", size=points or size())
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])


def wrapped(text: str, inches: float, points: float | None = None) -> str:
    """A text, each of its lines broken into lines of at most this width."""
    lines = []
    for line in map(spelled, text.split("\n")):
        letter = max(0.55 * (points or size()), text_width(line, points=points) / max(1, len(line)))
        lines.append(textwrap.fill(line, max(20, int(inches * 72 / letter)), break_on_hyphens=False))
    return "\n".join(lines)


# Colours

INK, GREY, PALE = "#000000", "#5c5c5c", "#d9d9d9"
ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
"""Okabe and Ito's colours, told apart with every kind of colour vision. No meaning rests on colour alone."""

DARK_GREEN, RED = "#00704F", "#B8390E"
"""Green and red as in the article, dark enough for text and told apart by brightness too."""

RIGHT, WRONG = "#bfe3d5", "#f3c4a5"
"""Okabe and Ito's green and vermillion, pale enough for black letters."""

ON_DARK = {DARK_GREEN: "#4FD3A6", RED: "#FF9466", RIGHT: "#00583F", WRONG: "#7A3A00", BLUE: "#3FA9E8"}
"""The same on a dark ground."""

WEIGHTS = LinearSegmentedColormap.from_list("tl_dream_weights", ["#ffffff", SKY])
"""Softmax weights: white (0) to sky blue (1); lighter to darker in grey, and black text stays readable on all of it."""


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


def draw_box(ax: Axes, x: float, y: float, width: float, height: float, colour: Any, edge: Any = "none") -> None:
    """A filled rectangle; without an edge, unless it has a colour."""
    line = 0.0 if edge == "none" else 0.5
    ax.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=edge, linewidth=line))


def draw_scale(ax: Axes, x: float, y: float, low: str, high: str) -> float:
    """Shades of 0 to 1 between two texts, x in points; where it ends."""
    beside: dict[str, Any] = {"ha": "left", "va": "center", "size": small()}
    ax.text(x, y, low, **beside)
    x += text_width(low, points=small()) + 5
    for i in range(5):
        draw_box(ax, x + 9 * i, y - 0.35, 9, 0.7, shade(i / 4), themed(GREY))
    ax.text(x + 49, y, high, **beside)
    return x + 49 + text_width(high, points=small())
