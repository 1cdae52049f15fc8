"""What a word on the command line means."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable

from tl_dream._errors import DreamError

POSITIONS = """\
POS is a position ([CLS] is 0, negatives count from the end), a word of the sentence, several of them with commas, or a
slice like 2:5. A word that looks like one of these goes in double quotes: --pos '"1998"'.
"""


def positions(text: str) -> int | str | slice | list[int | str]:
    """What `--pos` and `--free` take (see POSITIONS), as the library's `Positions`.

    Raises:
        argparse.ArgumentTypeError: nothing, or an empty item between commas.
    """
    if text in (",", ":", '"') or (len(text) > 2 and text[0] == text[-1] == '"' and text.count('"') == 2):
        return _item(text)  # one word
    items = re.findall(r'"[^"]+"|[^,]+', text)
    if not items or len(items) != 1 + re.sub(r'"[^"]+"', "", text).count(","):
        raise argparse.ArgumentTypeError(
            f"{text!r} names no position: give a number, a word, several of them with commas, or a slice like 2:5"
        )
    if len(items) == 1:
        return _item(items[0])
    several: list[int | str] = []
    for item in map(_item, items):
        if isinstance(item, slice):
            if item.start is None or item.stop is None or item.start < 0 or item.stop < 0:
                raise argparse.ArgumentTypeError(
                    f"in {text!r} a slice stands in a list: give it start and end, counted from 0 (like 2:5)"
                )
            several += range(item.start, item.stop, item.step or 1)
        else:
            several.append(item)
    return several


def _item(text: str) -> int | str | slice:
    text = text.strip() or text
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    if len(text) > 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    if re.fullmatch(r"(-?\d*):(-?\d*)(:-?\d+)?", text) and any(c.isdigit() for c in text):
        parts = [int(part) if part else None for part in text.split(":")]
        if parts[2:] == [0]:
            raise argparse.ArgumentTypeError(f"the slice {text!r} has step 0: leave the step out")
        return slice(*parts)
    return text


def position(text: str) -> int | str:
    """One position or one word (`--key`)."""
    found = positions(text)
    if not isinstance(found, int | str):
        raise argparse.ArgumentTypeError(f"{text!r} is not one position or word")
    return found


class TokenFile(list[str]):
    """Tokens out of a file, which they remember: `path`."""

    def __init__(self, tokens: Iterable[str], path: str) -> None:
        super().__init__(tokens)
        self.path = path


def token_file(given: str | list[str] | None) -> str | None:
    """The file behind `--allowed`, if there is one."""
    return given.path if isinstance(given, TokenFile) else None


def allowed(text: str) -> str | list[str]:
    """`--allowed`: rules, or `@FILE` with one token a line.

    Raises:
        argparse.ArgumentTypeError: the file can't be read, or holds nothing.
    """
    if not text.startswith("@"):
        return text
    from tl_dream.text import read_lines

    try:
        tokens = " ".join(read_lines(text[1:])).split()
    except DreamError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not tokens:
        raise argparse.ArgumentTypeError(f"the file {text[1:]!r} holds no token: write one a line")
    return TokenFile(tokens, text[1:])


def weight(text: str) -> float:
    """`--fluency`: a finite number.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no weight: give a finite number, such as 0.1")
    return number


def rivals(text: str) -> str | int:
    """`--rivals`: "all", or a number.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    try:
        return text if text == "all" else int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} is no count: give "all", or a whole number of 0 or more') from None


def layers(text: str) -> str | list[int]:
    """`--layers`: "all", or numbers with commas.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    if text == "all":
        return text
    try:
        return [int(item) for item in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f'{text!r} names no layer: give "all", or numbers with commas') from None


def numbers(text: str) -> list[float] | str:
    """`--magnitudes`: numbers with commas, or "least".

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    if text == "least":
        return text
    try:
        return [float(item) for item in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give numbers with commas, such as --magnitudes=-2,0,2, or least"
        ) from None
