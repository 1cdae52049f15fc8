"""What a command puts out: files first, then the result on stdout. What was found is not lost where something can't be
written, or where Ctrl-C or an error ends the run. Progress goes to stderr."""

from __future__ import annotations

import io
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError, require
from tl_dream.results import check_writable, same_file, table, write_json

STDOUT = "-"
"""`--json -`: JSON alone goes to stdout, and all else to stderr."""

EVERY = 5.0
"""Seconds from one line of a progress bar to the next, where stderr is no terminal."""

BRIEF = 4
"""So many dreams are printed in full, more in a table."""


class Lines:
    """A stream that is no terminal (None: nowhere): of a progress bar it gets a line now and then, else everything."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._next = stream or io.StringIO(), math.inf

    def write(self, text: str) -> None:
        if text.startswith("\r"):
            now = time.monotonic()
            self._next = min(self._next, now + EVERY)  # what is done soon gets none
            if now < self._next or not text.strip():
                return
            self._next, text = now + EVERY, text.strip() + "\n"
        self._stream.write(text)

    def __eq__(self, other: object) -> bool:
        return False  # with what tqdm knows for stderr it flushes stdout, which may be closed or full

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def check_outputs(json: str | None, paths: Sequence[str], figures: Sequence[str], inputs: Sequence[str]) -> None:
    """Raise before any work starts unless every file can be written: --json, others, and figures; and unless none of
    them is an input."""
    require(json != STDOUT or sys.stdout is not None, "--json -: stdout is closed")
    require(STDOUT not in (*paths, *figures), "only --json takes - for stdout: give the name of a file")
    given = [*([json] if json not in (None, STDOUT) else []), *paths, *figures]
    places = [os.path.realpath(path) for path in given]
    for path, place in zip(given, places, strict=True):
        check_writable(path)
        for source in inputs:
            told = f"{path!r} is the file {source!r}, which is read: it would be written over; give another one"
            require(not same_file(path, source), told)
        through = os.path.exists(path) and not os.path.isfile(path)  # a device or a pipe takes any number
        require(through or places.count(place) == 1, f"{path!r} is given for two outputs: give each its own file")
    if figures:
        from tl_dream.plotting import check_figure_path

        for path in figures:
            check_figure_path(path)


def put(stream: Any, text: str) -> None:
    """Write a line to a stream of text. What its encoding has not got is escaped; None and a closed one take none."""
    if stream is not None and not stream.closed:
        encoding = stream.encoding or "utf-8"
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        stream.flush()


def complain(message: str) -> None:
    """One line on stderr."""
    with suppress(OSError):
        put(sys.stderr, f"tl-dream: {' '.join(message.split())}")


@contextmanager
def stdout() -> Iterator[Any]:
    """Stdout, to be written and flushed; quiet where its reader has gone (`| head`), else a DreamError where it can't
    be written (a full disk)."""
    try:
        yield sys.stdout
    except OSError as error:
        with suppress(OSError):  # what is left in its buffer goes nowhere: Python would complain of it at its end
            os.dup2(null := os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            os.close(null)
        if not isinstance(error, BrokenPipeError):
            raise DreamError(f"stdout can't be written ({error.strerror or error})") from error


def show(text: str) -> None:
    """Print on stdout."""
    with stdout() as stream:
        put(stream, text)


def finish(work: Callable[[], Any], saved: str | None, quiet: bool, figures: Mapping[str, str]) -> None:
    """Do the work, save and draw what was asked for, and print the result: where Ctrl-C or an error ends the work, what
    was found so far.

    Args:
        work: gives the result, None if it has printed that itself, or a tuple of several: a list in the file, and
            their figures are numbered.
        saved: the file to save to, "-" for stdout; None for none.
        quiet: do not say which files were written.
        figures: for plots of `tl_dream.plotting` by name the file to draw to; for "own" the one that draws such a
            result.
    """
    try:
        result = work()
    except (KeyboardInterrupt, Exception) as error:
        found = getattr(error, "partial", None)
        for trouble in _deliver(found, saved, quiet, figures) if found is not None else ():
            complain(trouble)
        raise
    troubles = [] if result is None else _deliver(result, saved, quiet, figures)
    require(not troubles, "; ".join(troubles))


def _deliver(given: Any, saved: str | None, quiet: bool, figures: Mapping[str, str]) -> list[str]:
    """Save, draw, print; what could not be done is told and does not stop the rest."""
    results = given if isinstance(given, tuple) else (given,)
    written, troubles = list[str](), list[str]()

    def attempt(write: Callable[[], object], path: str = STDOUT) -> None:
        try:
            write()
            written.extend([path] if path != STDOUT and not quiet else [])
        except DreamError as error:
            troubles.append(str(error))

    try:
        if saved is not None:
            attempt(partial(_save, given, results, saved), saved)
        for plot, path in figures.items():
            for number, one in enumerate(results, start=1):
                place = str(Path(path).with_stem(f"{Path(path).stem}-{number}")) if results is given else path
                attempt(partial(_draw, plot, one, place), place)
    finally:  # Ctrl-C too: it is printed last, and may be all there is
        text, known = "\n".join([_told(results), *(f"wrote {path}" for path in written)]), len(troubles)
        if saved != STDOUT:
            attempt(lambda: show(text))
        if saved == STDOUT or len(troubles) > known:
            with suppress(OSError):
                put(sys.stderr, text)
    return troubles


def _save(given: Any, results: Sequence[Any], path: str) -> None:
    if not hasattr(results[0], "to_json"):  # a concept saves itself
        return given.save(path)
    data = [one.to_json() for one in results]
    # of a result whose scores are partly NaN or infinite, which JSON has not got, these become null
    data = json.loads(json.dumps(data if results is given else data[0]), parse_constant=lambda _: None)
    if path != STDOUT:
        return write_json(path, data)
    with stdout() as stream:
        put(stream, json.dumps(data, indent=1, ensure_ascii=stream.encoding != "utf-8"))


def _draw(plot: str, result: Any, path: str) -> None:
    from tl_dream import plotting

    kind = getattr(result, "kind", "")
    plot = plotting.OF_KIND[kind] if plot == "own" else "pareto" if kind == "frontier" else plot
    plotting.save_figure(getattr(plotting, plot)(result).figure, path)


def _told(results: Sequence[Any]) -> str:
    """Results as text; of many dreams a line each."""
    if len(results) <= BRIEF or results[0].kind != "dream":
        return "\n\n".join(map(str, results))
    rows = [(f"{one.start.score:.4f}", f"{one.best.score:.4f}", one.objective, one.best.text) for one in results]
    return table(("start", "best", "objective", "text"), rows)
