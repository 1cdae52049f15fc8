"""Text files in whatever Unicode they are written: told by their first bytes, with a mark there or without; anything
else is refused in one line. Guessing an old code page would read every word that has an accent wrong."""

from __future__ import annotations

import codecs
import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError, require

HEAD = 1 << 16
"""Bytes that tell the encoding."""

LARGEST = 1 << 28
"""Bytes of a file that is read whole."""

MARKS = {  # the mark of UTF-16 begins that of UTF-32
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def encoding_of(head: bytes, name: str) -> str:
    """The encoding of a text file that begins so: what its mark says, or what makes text of it.

    Raises:
        DreamError: of the first lines most are no text in any of them; `name` is the file's.
    """
    marked = next((encoding for mark, encoding in MARKS.items() if head.startswith(mark)), None)
    if marked is not None:
        return marked
    lines = [line for line in head.split(b"\n") if line.strip()]
    bad = sum(not _is_text(line, whole=i + 1 < len(lines)) for i, line in enumerate(lines))
    if 2 * bad <= len(lines):
        return "utf-8"
    if b"\0" in head:
        found = max(("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"), key=lambda wide: _blanks(head, wide))
        if _blanks(head, found) > 0:
            return found
    raise DreamError(
        f"{name!r} is no text in UTF-8, UTF-16 or UTF-32 ({bad:,} of its first {len(lines):,} lines can't be read): "
        "save it as UTF-8 (from Latin-1, say, with `iconv -f latin1 -t utf-8`), or unpack it if it is packed"
    )


def _is_text(line: bytes, whole: bool) -> bool:
    try:
        return "\0" not in codecs.getincrementaldecoder("utf-8")().decode(line, whole)
    except UnicodeDecodeError:
        return False


def _blanks(head: bytes, encoding: str) -> float:
    """The share of blanks and line ends in what an encoding makes of it, by which the order of bytes is told; 0
    where it makes no text."""
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return 0.0
    odd = sum(unicodedata.category(c) in ("Cn", "Co", "Cs") for c in text)
    return sum(map(text.count, " \t\r\n")) / len(text) if text and "\0" not in text and 50 * odd <= len(text) else 0.0


def parts_of(path: Path, encoding: str, longest: int) -> Iterator[tuple[bytes, int, bool]]:
    """The lines of a file part by part: as UTF-8 (a broken one is none), its bytes in the file, whether the line ends.

    Args:
        longest: of a part, in bytes of UTF-8, else in characters.
    """
    wide = encoding != "utf-8"
    file: Any = path.open(encoding=encoding, errors="replace", newline="\n") if wide else path.open("rb")
    with file:
        while part := file.readline(longest):
            ends = len(part) < longest or part[-1:] in ("\n", b"\n")
            if wide:
                yield part.encode() + (b"\xff" if "\ufffd" in part else b""), len(part.encode(encoding)), ends
            else:
                yield part, len(part), ends


def read_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a text file that is small enough to hold.

    Raises:
        DreamError: it can't be read, or a line of it is no text.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, TypeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DreamError(f"can't read {name!r:.200}: {reason}") from error
    require(len(content) <= LARGEST, f"{name!r} has more than {LARGEST:,} bytes: give a text file")
    text = content.decode(encoding_of(content[:HEAD], name), errors="replace").removeprefix("\ufeff")
    lines = re.split(r"\r\n?|\n", text)
    bad = [number for number, line in enumerate(lines, 1) if "\ufffd" in line or "\0" in line]
    require(
        not bad, f"line {bad[0] if bad else 0} of {name!r} is no text in its encoding: mend it, or save it as UTF-8"
    )
    return lines[:-1] if lines[-1] == "" else lines
