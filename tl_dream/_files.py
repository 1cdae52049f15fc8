"""Files: JSON, strictly, written whole or not at all."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError, require


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Raise before any work starts if `path` could not be written at its end; nothing is left behind.

    Returns:
        The file itself, where `path` is a link to it.
    """
    given = repr(str(path))
    try:
        target = Path(path)
        found = target.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except (OSError, TypeError, ValueError) as error:  # a name too long, a circle of links, a name that is no text
        raise DreamError(f"{given} can't be written: {_reason(error)}; give another name") from error
    if found is not None and not stat.S_ISREG(found):  # never replaced: root could, for the whole machine
        require(not stat.S_ISDIR(found), f"{given} is a folder: give the name of a file in it")
        require(
            stat.S_ISCHR(found) or stat.S_ISFIFO(found) or _standard_output(target) is not None,
            f"{given} is neither a file nor a pipe: give the name of a file",
        )
    else:
        target = Path(os.path.realpath(target)) if target.is_symlink() else target
        require(target.parent.is_dir(), f"the folder {str(target.parent)!r} does not exist: create it first")
    place = target if found is not None else target.parent
    require(os.access(place, os.W_OK), f"{given} can't be written: no permission for {str(place)!r}")
    if found is None or stat.S_ISREG(found):
        try:  # some folders take no files, whatever their permissions say
            handle, temporary = _temporary(target)
            os.close(handle)
            os.unlink(temporary)
        except OSError as error:
            raise DreamError(f"{given} can't be written: {_reason(error)}; give another place") from error
    return target


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _temporary(target: Path) -> tuple[int, str]:
    """A new file beside `target`, open for writing; as long a name as `target` may have."""
    return tempfile.mkstemp(dir=target.parent, prefix=".tl_dream-", suffix=".part")


def _standard_output(target: Path) -> int | None:
    """The descriptor of stdout or stderr, where `target` is what one of them writes to (/dev/stdout, `> target`)."""
    for descriptor in (1, 2):
        try:
            if os.path.samestat(os.fstat(descriptor), target.stat()):
                return descriptor
        except OSError:  # closed, or not there
            continue
    return None


def same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one file, by whatever names; it need not be there."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all: to a temporary file beside it, then rename. Links stay, and so do devices and
    pipes, which are written through.

    Raises:
        DreamError: it can't be written.
    """
    target = check_writable(path)
    output = _standard_output(target)
    try:
        if output is not None or target.exists() and not target.is_file():
            if output is not None and sys.stdout is not None:
                sys.stdout.flush()  # what was printed before stands before
            with open(os.dup(output) if output is not None else target, "wb") as file:
                file.write(content)
            return
        handle, temporary = _temporary(target)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:  # a full disk, a quota, a limit on the size of files, a pipe that nobody reads
        raise DreamError(
            f"{str(path)!r} can't be written ({_reason(error)}); what it held before, if anything, is "
            "untouched: make room, or give another place"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def as_json(data: Any) -> bytes:
    """JSON (UTF-8, no NaN), a line at its end."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1)
    except ValueError as error:
        raise DreamError(f"a result with NaN or infinite numbers can't be saved as JSON: {error}") from error
    return text.encode(errors="replace") + b"\n"  # half a surrogate pair: of a folder's name that is no UTF-8


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write JSON (UTF-8, no NaN), whole or not at all."""
    write_bytes(path, as_json(data))


LARGEST = 1 << 28
"""Bytes of a file that is read whole; a pipe or a device may have no end."""


def read_json(path: str | os.PathLike[str], largest: int | None = None) -> Any:
    """Read JSON (in UTF-8, or what Windows makes of it: with a mark at its start, or in UTF-16), strictly.

    Args:
        largest: bytes; None for LARGEST.

    Raises:
        DreamError: a file that is missing or too large, or no JSON (see `parse_json`).
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read((largest or LARGEST) + 1)
        if len(content) > (largest or LARGEST):
            raise ValueError(f"it gives more than {largest or LARGEST:,} bytes")
        return parse_json(content.decode(json.detect_encoding(content)))
    except (OSError, TypeError, ValueError) as error:
        raise DreamError(f"can't read {str(path)!r} as JSON: {error}") from error


def parse_json(text: str) -> Any:
    """JSON, strictly.

    Raises:
        ValueError: no JSON, or too deep; numbers that are not finite, or whole ones that don't fit 64 bits; a key given
            twice; half a surrogate pair.
    """
    try:
        data = json.loads(
            text, object_pairs_hook=_once, parse_constant=_no_number, parse_float=_finite, parse_int=_in_64_bits
        )
    except RecursionError:
        raise ValueError("its parts stand too deep in each other") from None
    if re.search(r"\\u[dD][89a-fA-F]", text):
        json.dumps(data, ensure_ascii=False).encode()
    return data


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key is given twice: {', '.join(key for key, _ in pairs)[:80]}")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    return float(digits) if math.isfinite(float(digits)) else _no_number(digits[:40])


def _in_64_bits(digits: str) -> int:
    return int(digits) if len(digits) <= 20 and abs(int(digits)) < 1 << 63 else _no_number(digits[:40])
