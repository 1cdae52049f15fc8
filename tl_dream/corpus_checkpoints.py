"""How far a corpus search got: a file that is replaced whole after every shard."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError, require
from tl_dream.corpora import ShardReader
from tl_dream.corpus_pass import CorpusPass
from tl_dream.corpus_results import CorpusHit
from tl_dream.prompts import Sentence
from tl_dream.results import VERSION, check_kind, check_writable, read_json, write_bytes
from tl_dream.rows import Rows
from tl_dream.scoring import evaluate

KIND = "corpus_checkpoint"


class Checkpoint:
    """The checkpoint of one search.

    Args:
        path: the file; it need not exist yet.
        identity: what must be the same for a search to go on where another stopped.

    Raises:
        DreamError: the file can't be written, or holds something else.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        self._path = check_writable(path)
        self._identity = dict(identity)

    def write(self, scan: CorpusPass, reader: ShardReader, seconds: float) -> None:
        """Everything up to the last shard, whole or not at all."""
        meter = scan.host.meter
        data = {
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
                {
                    "scored": ranking.scored,
                    "skipped": dict(ranking.skipped),
                    "hits": [asdict(hit) for hit in ranking.best()],
                }
                for ranking in scan.rankings
            ],
        }
        write_bytes(self._path, json.dumps(data, ensure_ascii=False, allow_nan=False).encode())

    def resume(self, scan: CorpusPass, reader: ShardReader, bar: Any) -> float:
        """Take up what an earlier search did, if there is one; returns the seconds it took.

        Raises:
            DreamError: the file is of another search, or the corpus is not the one it was made on.
        """
        if not Path(self._path).exists() or Path(self._path).stat().st_size == 0:
            return 0.0
        data = read_json(self._path)
        check_kind(data, KIND)
        other = [key for key, value in self._identity.items() if data.get(key) != value]
        advice = "give another checkpoint file, or delete this one to start afresh"
        require(
            not other,
            f"the checkpoint {str(self._path)!r} is of another search (its {' and '.join(other)} differ): {advice}",
        )
        try:
            self._take_up(data, scan)
            require(
                self._scores_again(scan),
                f"the checkpoint {str(self._path)!r} was made with another model or objective of the same name (its "
                f"best sentences score differently now): {advice}",
            )
            bar.update(reader.skip(data["lines"]))
            require(
                reader.line == data["lines"] and reader.digest == data["digest"],
                f"the checkpoint {str(self._path)!r} was made on another corpus (its first {data['lines']:,} lines "
                f"differ): {advice}",
            )
            return float(data["seconds"])
        except (AttributeError, KeyError, TypeError) as error:
            raise DreamError(f"the checkpoint {str(self._path)!r} is broken ({error!r}): {advice}") from error

    def _scores_again(self, scan: CorpusPass, most: int = 16) -> bool:
        """Whether the best sentences of some objectives score as they did."""
        kept = [
            (one, ranking.best()[0])
            for one, ranking in zip(scan.objectives, scan.rankings, strict=True)
            if ranking.best()
        ]
        frame = scan.host.vocabulary.frame_ids
        for objective, hit in kept[:: max(1, len(kept) // most)]:
            sentence = Sentence(hit.text, hit.ids, hit.tokens, tuple(i in frame for i in hit.ids), ())
            ids, _ = scan.host.pad([hit.ids])
            again = float(evaluate(scan.host, objective, ids, Rows.of(scan.host, [sentence])))
            if not abs(again - hit.score) <= 1e-3 * max(1.0, abs(hit.score)):
                return False
        return True

    def _take_up(self, data: Mapping[str, Any], scan: CorpusPass) -> None:
        scan.skipped = Counter(data["skipped"])
        scan.tokens = data["tokens"]
        scan.host.meter.forwards += data["forwards"]
        scan.host.meter.forward_tokens += data["forward_tokens"]
        for ranking, saved in zip(scan.rankings, data["rankings"], strict=True):
            ranking.scored = saved["scored"]
            ranking.skipped = Counter(saved["skipped"])
            for hit in saved["hits"]:
                ranking.add(CorpusHit.from_json(hit))
