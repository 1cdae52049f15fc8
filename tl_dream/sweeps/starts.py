"""Where units start: their best sentences of a corpus, found in one pass for all of them and kept beside the jobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError, require
from tl_dream.models import Host
from tl_dream.results import write_bytes
from tl_dream.scans import corpus_search
from tl_dream.sweeps.patterns import Unit
from tl_dream.text import Corpus

FILE = "starts.jsonl"
PARTIAL = "starts.checkpoint"
"""Of a pass that is under way."""


def describe_corpus(texts: Any, column: str | None, sentences: int) -> dict[str, Any]:
    """What the manifest knows of a corpus.

    Raises:
        DreamError: no corpus, or one that can be read but once.
    """
    require(not isinstance(texts, Iterator), "the corpus can be read only once: give a file, a list or a data set")
    corpus, digest, lines = Corpus.of(texts, column), hashlib.sha256(), 0
    for line, _ in corpus.lines():
        lines += 1
        digest.update((line if isinstance(line, bytes) else repr(line).encode()) + b"\n")
    return {"name": corpus.name, "lines": lines, "digest": digest.hexdigest(), "sentences": sentences}


def find_starts(
    host: Host,
    units: Sequence[Unit],
    texts: Any,
    *,
    column: str | None,
    sentences: int,
    folder: Path,
    progress: bool | None,
) -> None:
    """One pass over the corpus for all units, unless it was made before; a pass that was interrupted goes on.

    Raises:
        DreamError: a corpus in which nothing can be scored, or files that can't be written.
    """
    if (folder / FILE).exists():
        return
    checkpoint = folder / PARTIAL
    goals = [unit.objective() for unit in units]
    found: Any = corpus_search(
        host, goals, texts, top=sentences, column=column, checkpoint=checkpoint, progress=progress
    )
    lines = [
        {"unit": str(unit), "top": [{"score": hit.score, "line": hit.line, "text": hit.text} for hit in result.top]}
        for unit, result in zip(units, found, strict=True)
    ]
    content = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_bytes(folder / FILE, content.encode())
    checkpoint.unlink(missing_ok=True)


def read_starts(folder: Path) -> Mapping[str, list[Mapping[str, Any]]]:
    """The best sentences of every unit, best first: `score`, `line` and `text`; nothing where there was no corpus.

    Raises:
        DreamError: the file is broken.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        with path.open("rb") as file:
            lines = [json.loads(line) for line in file]
        names = ("score", "line", "text")
        return {line["unit"]: [{name: hit[name] for name in names} for hit in line["top"]] for line in lines}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise DreamError(f"{str(path)!r} is broken ({error!r}): delete it, and the corpus is searched again") from error
