"""What a command puts out: files first, then the result on stdout. What was found is not lost where something can't be
written, or where Ctrl-C or an error ends the run."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from tl_dream._errors import DreamError
from tl_dream.results import as_json, write_json

STDOUT = "-"
"""`--json -`: JSON alone goes to stdout, and all else to stderr."""


def put(stream: Any, text: str) -> None:
    """Write a line to a stream of text. What its encoding has not got is escaped; None and a closed one take none."""
    if stream is None or stream.closed:
        return
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def complain(message: str) -> None:
    """One line on stderr."""
    with suppress(OSError):
        put(sys.stderr, f"tl-dream: {' '.join(message.split())}")


@contextmanager
def stdout() -> Iterator[Any]:
    """Stdout, to be written and flushed; quiet where its reader has gone (`| head`).

    Raises:
        DreamError: it can't be written (a full disk).
    """
    try:
        yield sys.stdout
    except OSError as error:
        with suppress(OSError):  # what is left in its buffer goes nowhere: Python would complain of it at its end
            os.dup2(null := os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            os.close(null)
        if not isinstance(error, BrokenPipeError):
            raise DreamError(f"stdout can't be written ({error.strerror or error})") from error


def show(text: str) -> None:
    """Print on stdout.

    Raises:
        DreamError: it can't be written.
    """
    with stdout() as stream:
        put(stream, text)


def finish(work: Callable[[], Any], saved: str | None, **figures: str | None) -> None:
    """Do the work, save and draw what was asked for, and print the result: where Ctrl-C or an error ends the work, what
    was found so far.

    Args:
        work: gives the result.
        saved: the file to save to, "-" for stdout; None for none.
        figures: for every plot of `tl_dream.plotting` by name the file to draw to; None for none.

    Raises:
        KeyboardInterrupt, DreamError: what ended the work.
        DreamError: something could not be written; everything else was.
    """
    try:
        result = work()
    except (KeyboardInterrupt, DreamError) as error:
        partial = getattr(error, "partial", None)
        if partial is not None:
            for trouble in _deliver(partial, lambda: _finite(partial.to_json()), saved, figures):
                complain(trouble)
        raise
    troubles = _deliver(result, lambda: result.to_json(), saved, figures)
    if troubles:
        raise DreamError("; ".join(troubles))


def _deliver(result: Any, data: Callable[[], Any], saved: str | None, figures: Mapping[str, str | None]) -> list[str]:
    """Save, draw, print; what could not be done is told and does not stop the rest.

    Args:
        data: the result for JSON; a concept saves itself.
    """
    written: list[str] = []
    troubles: list[str] = []

    def attempt(write: Callable[[], object], path: str = STDOUT) -> bool:
        try:
            write()
        except DreamError as error:
            troubles.append(str(error))
            return False
        written.extend([path] if path != STDOUT else [])
        return True

    def draw(name: str, path: str) -> None:
        from tl_dream import plotting

        plotting.save_figure(getattr(plotting, name)(result).figure, path)

    try:
        if saved == STDOUT:
            attempt(lambda: _send(data()))
        elif saved is not None:
            attempt(lambda: write_json(saved, data()) if hasattr(result, "to_json") else result.save(saved), saved)
        for name, path in figures.items():
            if path is not None:
                attempt(lambda name=name, path=path: draw(name, path), path)  # type: ignore[misc]
    finally:  # Ctrl-C too: it is printed last, and may be all there is
        text = "\n".join([str(result), *(f"wrote {path}" for path in written)])
        if saved == STDOUT or not attempt(lambda: show(text)):
            with suppress(OSError):
                put(sys.stderr, text)
    return troubles


def _send(data: Any) -> None:
    """JSON to stdout, in UTF-8 whatever its encoding."""
    with stdout() as stream:
        if stream is None:
            raise DreamError("--json -: stdout is closed")
        if hasattr(stream, "buffer"):
            stream.flush()
            stream.buffer.write(as_json(data))
        else:  # somebody's own, which takes text
            stream.write(as_json(data).decode())
        stream.flush()


def _finite(data: Any) -> Any:
    """The data of a result whose scores are partly NaN or infinite, which JSON has not got: they become null."""
    if isinstance(data, Mapping):
        return {key: _finite(item) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(item) for item in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
