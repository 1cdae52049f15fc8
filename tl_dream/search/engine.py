"""One engine for many searches: it gathers what they ask, packs it into forward passes, and hands out the answers.

A search is a generator. It yields an `Ask`, is sent the `Answer`, and never runs the model itself; so that many
searches (other units, layers, sentences, seeds, methods) share passes, and what one finds does not depend on those
beside it. No pass mixes lengths: nobody pays for padding, and on a CPU every row comes out to the last bit as it does
alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Any, TypeVar

import numpy
import torch
from torch import Tensor

from tl_dream._errors import DreamError, require
from tl_dream.models import BertTrunk, Host, default_batch_tokens, few_passes, forward, in_batches, user_hooks
from tl_dream.objectives import Part, evaluate_parts, listed_scores, positions_known
from tl_dream.search.batch import Answer, Ask, Ids, Look, Search, Together, stacked
from tl_dream.search.proposals import together, token_slopes

SLOPES_AT_ONCE = {"cpu": 50_000_000, "cuda": 500_000_000}
"""Slopes of tokens (positions x vocabulary) in one pass: 200 MB, and 2 GB on a GPU."""

SMALL = 16_384
"""Positions of texts that share a pass on a GPU however deep they are read: to start one takes longer than it runs."""

PADDED = 8
"""Soft texts that are looked at share passes where their lengths round up to the same multiple of this: what they come
to is no result, so that their last bits may feel the filling."""

Item = list[tuple[int, int]]
"""One text of a pass: the numbers of those that ask for it, and its number there."""


class BrokenGradient(DreamError):
    """Slopes that are NaN or infinite, where the score itself is a number; a search ends on them and keeps its best."""


T = TypeVar("T")
K = TypeVar("K")


@dataclass(eq=False)
class _Live:
    """A search under way: what it asks, or what it came to."""

    key: Any
    search: Search[Any]
    ask: Ask | Look | Together | None = None
    result: Any = None

    def go_on(self, answer: Any = None) -> None:
        """Take a step of the search, with the answer to what it asked; it ends with a value or an error."""
        try:
            failed = isinstance(answer, BaseException)
            self.ask = self.search.throw(answer) if failed else self.search.send(answer)
        except StopIteration as end:
            self.ask, self.result = None, end.value
        except (Exception, KeyboardInterrupt) as error:
            self.ask, self.result = None, error


def run(host: Host, search: Search[T]) -> T:
    """One search by itself.

    Raises:
        BaseException: what the search ended with.
    """
    (result,) = run_all(host, [search])
    return result


def run_all(host: Host, searches: Iterable[Search[T]], width: int = 1) -> list[T]:
    """What searches come to, in their order.

    Args:
        width: as in `run_many`.

    Raises:
        BaseException: what the first of those ended with that failed.
    """
    ended = dict(run_many(host, enumerate(searches), width))
    found = []
    for _, result in sorted(ended.items(), key=lambda item: item[0]):
        if isinstance(result, BaseException):
            raise result
        found.append(result)
    return found


def run_many(
    host: Host, searches: Iterable[tuple[K, Search[T]]], width: int = 1
) -> Iterator[tuple[K, T | BaseException]]:
    """What searches come to, each as soon as it ends: a value, or the error that ended it. Ctrl-C ends them all, each
    in its own way (with what it has so far); no other begins.

    Args:
        width: searches side by side; the others wait. Those that wait themselves are not counted, up to as many.
    """
    engine, waiting, live, patient, interrupted = Engine(host), iter(searches), list[_Live](), list[_Live](), False
    while True:
        stop: KeyboardInterrupt | None = None
        try:
            for key, search in islice(waiting, max(0, width - len(live))):
                live.append(_Live(key, search))
                live[-1].go_on()
        except KeyboardInterrupt as pressed:  # while the next one was made
            stop = pressed
        ended, live = [one for one in live if one.ask is None], [one for one in live if one.ask is not None]
        patient += [one for one in live if one.ask is not None and one.ask.patient]
        live = [one for one in live if one.ask is not None and not one.ask.patient]
        if interrupted or len(patient) >= width or not live and not ended:
            live, patient = [*live, *patient], []
        if not live and not ended and stop is None:
            return
        yield from ((one.key, one.result) for one in ended)
        now = [one for one in live if isinstance(one.ask, Together)] or live  # the others wait, for full passes
        answers: Sequence[Any]
        if not interrupted and (stop or any(isinstance(one.result, KeyboardInterrupt) for one in ended)):
            live, patient, interrupted = [*live, *patient], [], True
            if stop is not None and not live:
                raise stop
            now, answers = live, [KeyboardInterrupt() for _ in live]
        else:
            try:
                answers = engine.answer([one.ask for one in now])
            except KeyboardInterrupt as pressed:
                live, patient, interrupted = [*live, *patient], [], True
                now, answers = live, [pressed if len(live) == 1 else KeyboardInterrupt() for _ in live]
            except Exception as error:
                answers = [error] * len(now)
        if interrupted:
            waiting = iter(())
        for one, answer in zip(now, answers, strict=True):
            one.go_on(answer)


class Engine:
    """Runs what is asked in as few forward passes as fit the device."""

    def __init__(self, host: Host) -> None:
        self._host = host.apart(whole=False)  # each search is charged for its own
        self._pads = (host.causal or host.masks) and not user_hooks(host.model)

    def answer(self, asks: Sequence[Any]) -> list[Any]:
        """The answers, or what went wrong with one; it spoils no other.

        Args:
            asks: all of them `Together`, or none.
        """
        if asks and isinstance(asks[0], Together):
            return together(asks, self._host.device)
        found = [Answer.blank(ask) for ask in asks]
        failed: dict[int, Exception] = {}
        for items in self._groups(asks):
            numbers = list(dict.fromkeys(number for item in items for number, _ in item))
            try:
                self._run(items, asks, found)
            except Exception as error:
                if len(numbers) == 1:
                    failed[numbers[0]] = error
                    continue
                for number in numbers:
                    mine = [[member for member in item if member[0] == number] for item in items]
                    try:
                        self._run([item for item in mine if item], asks, found)
                    except Exception as own:
                        failed[number] = own
        for ask in asks:  # once, whatever had to be run again
            for length, count in Counter(map(len, ask.tokens)).items():
                ask.host.meter.add(count, length, max(1, ask.layers), ask.steep)  # what is free would never end
        return [failed.get(number, answer) for number, answer in enumerate(found)]

    def _groups(self, asks: Sequence[Ask | Look]) -> list[list[Item]]:
        """What can share passes. A text that several look at is one item."""
        wanted: dict[Ids, frozenset[str]] = {}
        for ask in asks:
            if isinstance(ask, Look) and ask.soft is None:
                wanted |= {ids: wanted.get(ids, frozenset()) | {*ask.names} for ids in ask.tokens}
        groups: dict[Hashable, dict[Hashable, Item]] = {}
        kinds = [None if isinstance(ask, Look) else _kind(ask) for ask in asks]
        if few_passes(self._host.device):
            kinds = _fewer(kinds, asks)
        for number, (ask, kind) in enumerate(zip(asks, kinds, strict=True)):
            for i, ids in enumerate(ask.tokens):
                same: Hashable = (number, i)
                if kind is not None:
                    group: Hashable = (kind, len(ids))
                elif ask.soft is None:
                    group, same = (wanted[ids], len(ids)), ids
                else:
                    inside = all(name.startswith("blocks.") for name in ask.names)
                    length = -(-len(ids) // PADDED) if self._pads else -len(ids)
                    group = (ask.layers if inside else ask.names, length)
                groups.setdefault(group, {}).setdefault(same, []).append((number, i))
        return [list(items.values()) for items in groups.values()]

    def _run(self, items: Sequence[Item], asks: Sequence[Any], found: Sequence[Answer]) -> None:
        """Texts that can share passes, in passes that fit."""
        ask, length = asks[items[0][0][0]], max(len(asks[number].tokens[i]) for ((number, i), *_) in items)
        size = max(1, default_batch_tokens(self._host, None, ask.steep) // length)
        if isinstance(ask, Look):
            in_batches(items, size, lambda part: self._look(part, asks, found))
            return
        if ask.slopes:
            most = SLOPES_AT_ONCE.get(self._host.device.type, SLOPES_AT_ONCE["cpu"])
            size = max(1, min(size, most // (length * self._host.d_vocab)))
        in_batches([own for (own,) in items], size, lambda part: self._pass(part, asks, found))

    def _look(self, items: Sequence[Item], looks: Sequence[Look], found: Sequence[Answer]) -> None:
        """One forward pass, in which every text is run once for all that look at it."""
        host = self._host
        rows: dict[int, list[int]] = {}
        which: dict[int, list[int]] = {}
        for row, item in enumerate(items):
            for number, i in item:
                rows.setdefault(number, []).append(row)
                which.setdefault(number, []).append(i)
        ids, mask = host.pad([looks[number].tokens[i] for ((number, i), *_) in items])
        names = dict.fromkeys(name for number in rows for name in looks[number].names)
        soft = None
        if looks[items[0][0][0]].soft is not None:
            embeddings = [looks[number].soft[i] for ((number, i),) in items]  # type: ignore[index]
            soft = torch.nn.utils.rnn.pad_sequence(embeddings, batch_first=True).detach().requires_grad_()
        with torch.set_grad_enabled(soft is not None):
            got = forward(host, ids, list(names), embeddings=soft, mask=None if bool(mask.all()) else mask)
            values = {}
            for number, own in rows.items():
                look = looks[number]
                mine = {name: got[name][own][:, : len(look.tokens[0])] for name in look.names}
                values[number] = look.read(mine, which[number])
            if soft is not None:
                total = sum(numbers[:, 0].sum() for numbers in values.values())
                (pulls,) = torch.autograd.grad(total, soft)  # type: ignore[arg-type]
        for number, numbers in values.items():
            answer, length = found[number], len(looks[number].tokens[0])
            for row, i, some in zip(rows[number], which[number], numbers.tolist(), strict=True):
                answer.values[i] = tuple(some)
                if soft is not None:
                    answer.pulls[i] = pulls[row, :length]

    def _pass(self, items: Sequence[tuple[int, int]], asks: Sequence[Ask], found: Sequence[Answer]) -> None:
        """One forward pass, and the gradient where it is wanted."""
        host = self._host
        numbered = [(number, [i for _, i in own]) for number, own in groupby(items, key=lambda item: item[0])]
        shares = [(asks[number], own) for number, own in numbered]
        parts = [
            Part(ask.objectives, ask.batch.context(host, [ask.texts[i][0] for i in own]), ask.host.meter)
            for ask, own in shares
        ]
        first = shares[0][0]
        # by numpy: torch reads nested lists number by number
        ids = torch.from_numpy(numpy.array([asks[number].texts[i][1] for number, i in items])).to(host.device)
        hooks = {name: point for ask, _ in shares if ask.trunk for name, point in ask.trunk.hooks.items()}
        trunk = BertTrunk(host, hooks) if hooks else None
        embeddings = weights = None
        with torch.set_grad_enabled(first.steep):
            if first.soft is not None:
                embeddings, weights = (stacked(shares, name) for name in ("embeddings", "weights"))
            elif first.steep:
                embeddings = host.W_E[ids]
                if first.reads_words:
                    weights = torch.nn.functional.one_hot(ids, host.d_vocab).to(host.W_E.dtype)
            inputs = [value.detach().requires_grad_() for value in (embeddings, weights) if value is not None]
            narrow = first.soft is not None and first.soft.narrow
            with torch.autocast(host.device.type, torch.bfloat16, enabled=narrow):
                soft = dict(zip(("embeddings", "weights"), inputs, strict=False))
                scores = evaluate_parts(host, parts, ids, trunk=trunk, **soft)
        pulls = _gradients([own[0] for own in scores], inputs, parts) if first.steep else []
        at = 0
        for (number, own), values in zip(numbered, listed_scores(scores), strict=True):
            answer = found[number]
            for i, value in zip(own, values, strict=True):
                answer.values[i] = value
                if first.soft is not None:
                    answer.pulls[i] = pulls[0][at]
                    if len(pulls) > 1:
                        answer.direct[i] = pulls[1][at]
                at += 1
        if first.slopes:
            self._slopes(items, asks, found, pulls)

    def _slopes(
        self,
        items: Sequence[tuple[int, int]],
        asks: Sequence[Ask],
        found: Sequence[Answer],
        pulls: Sequence[Tensor],
    ) -> None:
        """The tokens' slopes at the free positions of every row of a pass, from one matrix product."""
        free = [asks[number].batch.sentences[asks[number].texts[i][0]].free for number, i in items]
        row = torch.tensor([n for n, own in enumerate(free) for _ in own], device=self._host.device)
        pos = torch.tensor([at for own in free for at in own], device=self._host.device)
        direct = pulls[1][row, pos] if len(pulls) > 1 else None
        steep = token_slopes(pulls[0][row, pos], direct, self._host)
        wide = torch.promote_types(steep.dtype, torch.float32)
        whole = steep.sum(1, dtype=wide).isfinite()  # a sum hides no number that is none
        parts = steep.split([len(own) for own in free])
        good = whole.split([len(own) for own in free]) if not bool(whole.all()) else None
        for n, (number, i) in enumerate(items):
            value = found[number].values[i][0]
            if good is not None and not bool(good[n].all()) and abs(value) < float("inf"):
                climb = asks[number].objectives[0]
                raise BrokenGradient(f"the gradient of {climb} became NaN or infinite where the score is {value:.4f}")
            found[number].slopes[i] = parts[n]


def _gradients(scores: Sequence[Tensor], inputs: Sequence[Tensor], parts: Sequence[Part]) -> list[Tensor]:
    """The gradients of every row's score with respect to the soft embeddings and the weights of its words.

    Raises:
        DreamError: scores that do not depend on the words.
    """
    found: list[Tensor | None] = [None] * len(inputs)
    if all(values.requires_grad for values in scores):
        found = list(torch.autograd.grad(torch.cat([*scores]).sum(), inputs, allow_unused=True))
    require(
        any(pull is not None for pull in found),
        f"the objective {parts[0].objectives[0]} does not change with the words, so it has no gradient: read a hook "
        "that sees them, and detach nothing in a function of your own",
    )
    return [torch.zeros_like(x) if pull is None else pull for pull, x in zip(found, inputs, strict=True)]


Kind = tuple[Hashable, ...]


def _kind(ask: Ask) -> Kind:
    """Asks of the same kind share passes: as deep, by the same means, and of the model's blocks."""
    alone = None if ask.names and all(name.startswith("blocks.") for name in ask.names) else id(ask)
    how = (ask.slopes, ask.soft is not None and (ask.soft.narrow, ask.soft.weights is not None), ask.reads_words)
    if ask.trunk is None:
        return (ask.layers, how, alone)
    return (ask.trunk.deepest, how, alone, positions_known(ask.objectives))


def _fewer(kinds: Sequence[Kind | None], asks: Sequence[Ask | Look]) -> list[Kind | None]:
    """The kinds without their depth, where their texts are few."""
    positions: Counter[Kind] = Counter()
    for ask, kind in zip(asks, kinds, strict=True):
        positions[(kind or ())[1:]] += sum(map(len, ask.tokens))
    return [kind[1:] if kind and positions[kind[1:]] <= SMALL else kind for kind in kinds]
