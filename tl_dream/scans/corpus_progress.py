"""How far a corpus search got: a file that is replaced whole, every few seconds and at the end."""

from __future__ import annotations

import json
import math
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError, require
from tl_dream.objectives import BatchContext, evaluate
from tl_dream.results import VERSION, CorpusHit, check_kind, check_writable, read_json, read_value, write_bytes
from tl_dream.scans.corpus_pass import CorpusPass
from tl_dream.text import Sentence, ShardReader

KIND = "corpus_checkpoint"

EVERY = 5.0
"""Seconds of work between two writes, at least."""

SHARE = 0.05
"""Of the time that writing may take: for a thousand objectives a write takes a good part of a second."""


LARGEST = 1 << 32
"""Bytes of a checkpoint: a thousand objectives with a hundred long sentences each make half a gigabyte."""


class SavedProgress:
    """The checkpoint of one search: `keep` after every shard, `flush` at the end, however it comes.

    Args:
        path: the file; it need not exist yet.
        identity: what must be the same for a search to go on where another stopped.

    Raises:
        DreamError: the file can't be written, is none, or holds something else.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        self._path = check_writable(path)
        require(
            self._path.is_file() or not self._path.exists(),
            f"the checkpoint {str(self._path)!r} is a device or a pipe, which can't be read again: give a file",
        )
        self._identity = dict(identity)
        self._unwritten: dict[str, Any] | None = None
        self._due = time.monotonic() + EVERY

    def keep(self, scan: CorpusPass, reader: ShardReader, seconds: float) -> None:
        """Take down everything up to the last shard, and write it if the last write is long enough ago."""
        meter = scan.host.meter
        self._unwritten = {
            "kind": KIND,
            "version": VERSION,
            **self._identity,
            "lines": reader.line,
            "digest": reader.digest,
            "tokens": scan.tokens,
            "forwards": meter.forwards,
            "forward_tokens": meter.forward_tokens,
            "seconds": seconds,
            "skipped": dict(scan.skipped),
            "rankings": [
                {"scored": ranking.scored, "skipped": dict(ranking.skipped), "hits": ranking.best()}
                for ranking in scan.rankings
            ],
        }
        if time.monotonic() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Write what was taken down since the last write, whole or not at all."""
        if self._unwritten is None:
            return
        began = time.monotonic()
        text = json.dumps(self._unwritten, ensure_ascii=False, allow_nan=False, default=_as_data)
        write_bytes(self._path, text.encode())
        self._unwritten = None
        now = time.monotonic()
        self._due = now + max(EVERY, (now - began) / SHARE)

    def resume(self, scan: CorpusPass, reader: ShardReader, bar: Any) -> float:
        """Take up what an earlier search did, if there is one; returns the seconds it took.

        Raises:
            DreamError: the file is of another search, or the corpus is not the one it was made on.
        """
        if not Path(self._path).exists() or Path(self._path).stat().st_size == 0:
            return 0.0
        data = read_json(self._path, LARGEST)
        check_kind(data, KIND)
        other = [key for key, value in self._identity.items() if data.get(key) != value]
        advice = "give another checkpoint file, or delete this one to start afresh"
        require(
            not other,
            f"the checkpoint {str(self._path)!r} is of another search (its {' and '.join(other)} differ): {advice}",
        )
        try:
            self._take_up(data, scan)
            lines, seconds = _count(data["lines"]), data["seconds"]
            if not isinstance(seconds, int | float) or not math.isfinite(seconds):
                raise ValueError(f"seconds is {seconds!r}")
            require(
                self._scores_again(scan),
                f"the checkpoint {str(self._path)!r} was made with another model or objective of the same name (its "
                f"best sentences score differently now): {advice}",
            )
            bar.update(reader.skip(lines))
            require(
                reader.line == lines and reader.digest == data["digest"],
                f"the checkpoint {str(self._path)!r} was made on another corpus (its first {lines:,} lines differ): "
                f"{advice}",
            )
            return float(seconds)
        except DreamError:
            raise
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DreamError(f"the checkpoint {str(self._path)!r} is broken ({error!r}): {advice}") from error

    def _scores_again(self, scan: CorpusPass) -> bool:
        """Whether the best sentences of some objectives, 16 or more where there are so many, score as they did."""
        kept = [
            (one, ranking.best()[0])
            for one, ranking in zip(scan.objectives, scan.rankings, strict=True)
            if ranking.best()
        ]
        frame = scan.host.vocabulary.frame_ids
        for objective, hit in kept[:: max(1, len(kept) // 16)]:
            sentence = Sentence(hit.text, hit.ids, hit.tokens, tuple(i in frame for i in hit.ids), ())
            ids, _ = scan.host.pad([hit.ids])
            again = float(evaluate(scan.host, objective, ids, BatchContext.of(scan.host, [sentence])))
            if not abs(again - hit.score) <= 1e-3 * max(1.0, abs(hit.score)):
                return False
        return True

    def _take_up(self, data: Mapping[str, Any], scan: CorpusPass) -> None:
        scan.skipped = _counts(data["skipped"])
        scan.tokens = _count(data["tokens"])
        scan.host.meter.forwards += _count(data["forwards"])
        scan.host.meter.forward_tokens += _count(data["forward_tokens"])
        for ranking, saved in zip(scan.rankings, data["rankings"], strict=True):
            ranking.scored = _count(saved["scored"])
            ranking.skipped = _counts(saved["skipped"])
            for hit in (read_value("a sentence", CorpusHit, hit) for hit in saved["hits"]):
                if not hit.ids or max(hit.ids) >= scan.host.d_vocab or len(hit.ids) > scan.host.n_ctx:
                    raise ValueError(f"the model does not read {hit.text!r:.80}")
                ranking.add(hit.score, hit.line, hit.ids, hit)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r:.80} is no count")
    return value


def _counts(value: Any) -> Counter[str]:
    return Counter({str(reason): _count(count) for reason, count in value.items()})


def _as_data(hit: CorpusHit) -> dict[str, Any]:
    """A sentence for JSON; `asdict` copies every number of it, which takes most of a write."""
    return {field.name: getattr(hit, field.name) for field in fields(hit)}
