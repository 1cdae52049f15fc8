"""`corpus_search`: the sentences of a corpus that score highest, the article's baseline and starts."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tqdm.auto import tqdm

from tl_dream._errors import DreamError, require
from tl_dream.corpora import Corpus, ShardReader
from tl_dream.corpus_checkpoints import Checkpoint
from tl_dream.corpus_pass import CorpusPass
from tl_dream.corpus_results import CorpusResult
from tl_dream.models import attached
from tl_dream.objectives import Objective
from tl_dream.results import Cost
from tl_dream.scoring import check
from tl_dream.substitutions import default_batch_tokens


def corpus_search(
    model: Any,
    objective: Objective | Sequence[Objective],
    texts: str | os.PathLike[str] | Iterable[Any],
    *,
    top: int = 10,
    column: str | None = None,
    max_tokens: int | None = None,
    batch_tokens: int | None = None,
    shard_lines: int = 1024,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> CorpusResult | tuple[CorpusResult, ...]:
    """The sentences of a corpus that score highest.

    Every line is a sentence, scored at every position the objective reads. The corpus is read a shard at a time, so it
    may be larger than memory. Lines that can't be scored (blank, over-long, undecodable, without the position or word)
    are counted by reason; equal texts are returned once.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to measure; or many, in one pass: units of one hook cost about as much together as one.
        texts: a text file with a sentence a line (UTF-8), an iterable of texts, or a data set (`datasets`, pandas, a
            dict of lists, an iterable of dicts) with `column`.
        top: sentences to return.
        column: which column of a data set holds the texts.
        max_tokens: the longest sentence to score, special tokens included; None takes all that the model can read.
        batch_tokens: padded tokens a batch at most; None fits the device. Where memory runs out, batches get smaller.
        shard_lines: lines that are read, sorted by length and batched at a time.
        checkpoint: a file that is rewritten after every shard. If it exists, its shards are not scored again.
        progress: show a progress bar with the rate; None shows it on a terminal only.

    Returns:
        A `CorpusResult`; for several objectives a tuple of them, in their order.

    Raises:
        DreamError: an empty corpus, one in which nothing can be scored, a checkpoint of another search, or bad input
            (see the message).
    """
    began = time.perf_counter()
    objectives = [objective] if isinstance(objective, Objective) else list(objective)
    require(bool(objectives), "no objective to score: give at least one")
    for name, value in (("top", top), ("shard_lines", shard_lines)):
        require(isinstance(value, int) and value >= 1, f"{name} = {value!r}: give a whole number of at least 1")
    with attached(model) as host, torch.no_grad():
        for one in objectives:
            check(host, one)
        corpus = Corpus.of(texts, column)
        longest = host.n_ctx if max_tokens is None else max_tokens
        require(
            isinstance(longest, int) and 1 <= longest <= host.n_ctx,
            f"max_tokens = {max_tokens!r}: give a whole number of at least 1 and at most {host.n_ctx}, the longest "
            "sentence the model reads",
        )
        reader = ShardReader(corpus, host.vocabulary, shard_lines, longest)
        scan = CorpusPass(host, objectives, top, default_batch_tokens(host, batch_tokens))
        same = {
            "model": host.name,
            "objectives": [repr(one) for one in objectives],
            "top": top,
            "max_tokens": longest,
        }
        saved = None if checkpoint is None else Checkpoint(checkpoint, same)
        with tqdm(
            total=corpus.size,
            disable=None if progress is None else not progress,
            desc="corpus search",
            unit=corpus.unit,
            unit_scale=True,
            leave=False,
        ) as bar:
            earlier = 0.0 if saved is None else saved.resume(scan, reader, bar)
            for shard in reader:
                scan.run(shard, bar)
                if saved is not None:
                    saved.write(scan, reader, earlier + time.perf_counter() - began)
        _check_found(corpus, reader, scan)
        cost = Cost(host.meter.forwards, host.meter.forward_tokens, earlier + time.perf_counter() - began)
        results = tuple(
            CorpusResult(
                model=host.name,
                objective=repr(one),
                corpus=corpus.name,
                top=ranking.best(),
                scored=ranking.scored,
                skipped=dict(scan.skipped + ranking.skipped),
                tokens=scan.tokens,
                cost=cost,
            )
            for one, ranking in zip(objectives, scan.rankings, strict=True)
        )
    return results[0] if isinstance(objective, Objective) else results


def _check_found(corpus: Corpus, reader: ShardReader, scan: CorpusPass) -> None:
    require(reader.line > 0, f"the corpus is empty: {corpus.name} has no line")
    if not any(ranking.scored for ranking in scan.rankings):
        reasons = scan.skipped + scan.rankings[0].skipped
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        first = f". The first complaint: {scan.trouble}" if scan.trouble else ""
        raise DreamError(f"not one of the {reader.line:,} lines of {corpus.name} could be scored: {listed}{first}")
