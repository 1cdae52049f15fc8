"""`corpus_search`: the sentences of a corpus that score highest, the article's baseline and starts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from tqdm.auto import tqdm

from tl_dream._arguments import Number, Whole, plain, whole_number
from tl_dream._errors import DreamError, keeping, require
from tl_dream.models import attached, default_batch_tokens
from tl_dream.objectives import Objective, check
from tl_dream.results import CorpusResult, same_file
from tl_dream.scans.corpus_pass import CorpusPass
from tl_dream.scans.corpus_progress import SavedProgress
from tl_dream.text import Corpus, ShardReader


def corpus_search(
    model: Any,
    objective: Objective | Sequence[Objective],
    texts: str | os.PathLike[str] | Iterable[Any],
    *,
    top: Whole = 10,
    column: str | None = None,
    max_tokens: Whole | None = None,
    batch_tokens: Whole | None = None,
    shard_lines: Whole = 1024,
    checkpoint: str | os.PathLike[str] | None = None,
    seconds: Number | None = None,
    progress: bool | None = None,
) -> CorpusResult | tuple[CorpusResult, ...]:
    """The sentences of a corpus that score highest.

    Every line is a sentence, scored at every position the objective reads. The corpus is read a shard at a time, so it
    may be larger than memory. Lines that can't be scored (blank, over-long, undecodable, without the position or word)
    are counted by reason. Lines that are the same tokens to the model are returned once, the first of them; equal
    scores come by line. (A score is what a batch gave: in float32 it is good to about one part in a million.)

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to measure; or many, in one pass: units of one hook cost about as much together as one.
        texts: a text file with a sentence a line (UTF-8, or another Unicode), an iterable of texts, or a
            data set (`datasets`, pandas, a dict of lists, an iterable of dicts) with `column`.
        top: sentences to return.
        column: which column of a data set holds the texts.
        max_tokens: the longest sentence to score, special tokens included; None takes all that the model can read.
        batch_tokens: padded tokens a batch at most; None fits the device. Where memory runs out, batches get smaller.
        shard_lines: lines that are read, sorted by length and batched at a time; of long ones fewer. Only speed and
            memory depend on it.
        checkpoint: a file that is rewritten every few seconds, at the end, and when the search is interrupted (an
            error, Ctrl-C). If it exists, the shards it knows of are not scored again.
        seconds: to take at most, by the wall clock, but for the shard that is under way; `stopped` is then "seconds".
            With a checkpoint the next call goes on from there.
        progress: show a progress bar with the rate and the best so far; None shows it on a terminal only.

    Returns:
        A `CorpusResult`; for several objectives a tuple of them, in their order.

    Raises:
        DreamError: an empty corpus, one in which nothing can be scored, a checkpoint of another search, or bad input
            (see the message).
        DreamError, KeyboardInterrupt: what ends the search after some work (Ctrl-C too) brings what was found so far as
            its `partial`, as it would have been returned.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3)
        >>> found = td.corpus_search(bert, goal, ["the red dog", "a cat", "the moon is bright"], top=2)
        >>> len(found.top)
        2
    """
    given: Any = plain(objective)
    many = isinstance(given, list)
    objectives: list[Any] = given if many else [given]
    require(bool(objectives), "no objective to score: give at least one")
    top, shard_lines = whole_number("top", top), whole_number("shard_lines", shard_lines)
    with attached(model, seconds) as host, torch.no_grad():
        before = host.meter.now()
        for one in objectives:
            check(host, one)
        corpus = Corpus.of(texts, column)
        longest = host.n_ctx
        if max_tokens is not None:
            longest = whole_number("max_tokens", max_tokens, 1, host.n_ctx, ", the longest sentence the model reads")
        if checkpoint is not None and isinstance(texts, str | os.PathLike):
            require(
                not same_file(checkpoint, texts),
                f"the checkpoint {os.fspath(checkpoint)!r} is the corpus itself: give another file",
            )
        reader = ShardReader(corpus, host.vocabulary, shard_lines, longest)
        scan = CorpusPass(host, objectives, top, default_batch_tokens(host, batch_tokens))
        same = {"model": host.name, "objectives": [*map(repr, objectives)], "top": top, "max_tokens": longest}
        saved = None if checkpoint is None else SavedProgress(checkpoint, same)
        earlier = 0.0

        def found(stopped: str = "complete") -> CorpusResult | tuple[CorpusResult, ...]:
            _check_found(corpus, reader, scan)
            cost = host.meter.now() - before
            cost = replace(cost, seconds=earlier + cost.seconds)
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
                    stopped=stopped,
                )
                for one, ranking in zip(objectives, scan.rankings, strict=True)
            )
            return results if many else results[0]

        with tqdm(
            total=corpus.size,
            disable=None if progress is None else not progress,
            desc="corpus search",
            unit=corpus.unit,
            unit_scale=True,
            leave=False,
        ) as bar:
            if saved is not None:
                earlier = saved.resume(scan, reader, bar)
            with keeping(lambda _, why: found(why)), ExitStack() as after:
                if saved is not None:
                    after.callback(saved.flush)  # whatever ends the search, what was finished is written
                for shard in reader:
                    scan.run(shard, bar)
                    if saved is not None:
                        saved.keep(scan, reader, earlier + (host.meter.now() - before).seconds)
                    if host.late:
                        return found("seconds")
        return found()


def _check_found(corpus: Corpus, reader: ShardReader, scan: CorpusPass) -> None:
    require(reader.line > 0, f"the corpus is empty: no line in {corpus.name}")
    if not any(ranking.scored for ranking in scan.rankings):
        reasons = scan.skipped + scan.rankings[0].skipped
        listed = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
        first = f". The first complaint: {scan.trouble}" if scan.trouble else ""
        raise DreamError(f"not one of the {reader.line:,} lines of {corpus.name} could be scored: {listed}{first}")
