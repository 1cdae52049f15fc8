"""One engine for many searches: it gathers what they ask, packs it into forward passes, and hands out the answers.

A search is a generator. It yields an `Ask`, is sent the `Answer`, and never runs the model itself; so that many
searches (other units, layers, sentences, seeds, methods) share passes, and what one finds does not depend on those
beside it. No pass mixes lengths: nobody pays for padding, and on a CPU every row comes out to the last bit as it does
alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice
from typing import Any, TypeVar

import torch
from torch import Tensor

from tl_dream._errors import DreamError, require
from tl_dream.models import BertTrunk, Host, default_batch_tokens, in_batches, layers_run
from tl_dream.objectives import TOKENS, Objective, Part, evaluate_parts, positions_known
from tl_dream.search.batch import Batch, Ids
from tl_dream.search.hotflip import token_slopes

SLOPES_AT_ONCE = 50_000_000
"""Slopes of tokens (positions x vocabulary) in one pass: 200 MB."""


class BrokenGradient(DreamError):
    """Slopes that are NaN or infinite, where the score itself is a number; a search ends on them and keeps its best."""


@dataclass(frozen=True, eq=False)
class Soft:
    """Soft sentences in place of the tokens of an `Ask`.

    Attributes:
        embeddings: of every sentence, Float[pos, d_model].
        weights: of every sentence the weight of every token, Float[pos, vocab], where words are read; else None.
        narrow: the pass may run in bf16.
    """

    embeddings: Sequence[Tensor]
    weights: Sequence[Tensor] | None = None
    narrow: bool = False


@dataclass(frozen=True, eq=False)
class Ask:
    """What a search wants to know of some texts.

    Attributes:
        host: whose meter it is charged to.
        batch: what the texts' rows are numbers of.
        objectives: what scores them.
        texts: (row, tokens) of each.
        trunk: what runs in place of the model.
        slopes: of the first objective, the slope of every token at every free position is wanted as well.
        soft: sentences in place of the tokens; the gradient of the first objective is wanted as well.
    """

    host: Host
    batch: Batch
    objectives: tuple[Objective, ...]
    texts: Sequence[tuple[int, Ids]]
    trunk: BertTrunk | None = None
    slopes: bool = False
    soft: Soft | None = None

    @property
    def steep(self) -> bool:
        """Whether a gradient is wanted."""
        return self.slopes or self.soft is not None

    @property
    def reads_words(self) -> bool:
        return any(TOKENS in objective.reads for objective in self.objectives)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The hooks that are read."""
        reads = dict.fromkeys(read for objective in self.objectives for read in objective.reads)
        return tuple(name for read in reads for name in read.resolve(self.host))

    @property
    def layers(self) -> int:
        """That run for it, none where only words are read."""
        return layers_run(self.names, self.host.n_layers) if self.names else 0


@dataclass(eq=False)
class Answer:
    """One entry a text.

    Attributes:
        values: what each objective gives.
        slopes: of every token at the free positions, Float[free, vocab].
        pulls: the gradient with respect to the soft embeddings, Float[pos, d_model].
        direct: the gradient with respect to the weights, Float[pos, vocab], where words are read.
    """

    values: list[tuple[float, ...]]
    slopes: list[Tensor]
    pulls: list[Tensor]
    direct: list[Tensor]


T = TypeVar("T")
K = TypeVar("K")
Search = Generator[Ask, Answer, T]
"""A search that comes to a T."""


@dataclass(eq=False)
class _Live:
    """A search under way: what it asks, or what it came to."""

    key: Any
    search: Search[Any]
    ask: Ask | None = None
    result: Any = None

    def go_on(self, answer: Answer | BaseException | None = None) -> None:
        """Take a step of the search, with the answer to what it asked; it ends with a value or an error."""
        try:
            failed = isinstance(answer, BaseException)
            self.ask = self.search.throw(answer) if failed else self.search.send(answer)  # type: ignore[arg-type]
        except StopIteration as end:
            self.ask, self.result = None, end.value
        except (Exception, KeyboardInterrupt) as error:
            self.ask, self.result = None, error


def run(host: Host, search: Search[T]) -> T:
    """One search by itself.

    Raises:
        BaseException: what the search ended with.
    """
    ((_, result),) = run_many(host, [(None, search)])
    if isinstance(result, BaseException):
        raise result
    return result


def run_many(
    host: Host, searches: Iterable[tuple[K, Search[T]]], width: int = 1
) -> Iterator[tuple[K, T | BaseException]]:
    """What searches come to, each as soon as it ends: a value, or the error that ended it. Ctrl-C ends them all, each
    in its own way (with what it has so far); no other begins.

    Args:
        width: searches side by side; the others wait.
    """
    engine, waiting, live, interrupted = Engine(host), iter(searches), list[_Live](), False
    while True:
        for key, search in islice(waiting, width - len(live)):
            live.append(_Live(key, search))
            live[-1].go_on()
        if not live:
            return
        ended, live = [one for one in live if one.ask is None], [one for one in live if one.ask is not None]
        yield from ((one.key, one.result) for one in ended)
        answers: Sequence[Answer | BaseException]
        if not interrupted and any(isinstance(one.result, KeyboardInterrupt) for one in ended):
            interrupted, answers = True, [KeyboardInterrupt() for _ in live]
        else:
            try:
                answers = engine.answer([one.ask for one in live if one.ask is not None])
            except KeyboardInterrupt as pressed:
                interrupted, answers = True, [pressed if len(live) == 1 else KeyboardInterrupt() for _ in live]
            except Exception as error:
                answers = [error] * len(live)
        if interrupted:
            waiting = iter(())
        for one, answer in zip(live, answers, strict=True):
            one.go_on(answer)


class Engine:
    """Runs what is asked in as few forward passes as fit the device."""

    def __init__(self, host: Host) -> None:
        self._host = host.apart(whole=False)  # each search is charged for its own

    def answer(self, asks: Sequence[Ask]) -> list[Answer | Exception]:
        """The answers, or what went wrong with one; it spoils no other."""
        found = [_blank(ask) for ask in asks]
        failed: dict[int, Exception] = {}
        groups: dict[Hashable, list[tuple[int, int]]] = {}
        for number, ask in enumerate(asks):
            kind = _kind(ask)
            for i, (_, ids) in enumerate(ask.texts):
                groups.setdefault((kind, len(ids)), []).append((number, i))
        for items in groups.values():
            numbers = list(dict.fromkeys(number for number, _ in items))
            try:
                self._run(items, asks, found)
            except Exception as error:
                if len(numbers) == 1:
                    failed[numbers[0]] = error
                    continue
                for number in numbers:
                    try:
                        self._run([item for item in items if item[0] == number], asks, found)
                    except Exception as own:
                        failed[number] = own
        for ask in asks:  # once, whatever had to be run again
            for length, count in Counter(len(ids) for _, ids in ask.texts).items():
                ask.host.meter.add(count, length, max(1, ask.layers), ask.steep)  # what is free would never end
        return [failed.get(number, answer) for number, answer in enumerate(found)]

    def _run(self, items: Sequence[tuple[int, int]], asks: Sequence[Ask], found: Sequence[Answer]) -> None:
        """Texts that can share passes, in passes that fit."""
        number, i = items[0]
        ask, length = asks[number], len(asks[number].texts[i][1])
        size = max(1, default_batch_tokens(self._host, None) // length)
        if ask.slopes:
            size = max(1, min(size, SLOPES_AT_ONCE // (length * self._host.d_vocab)))
        in_batches(items, size, lambda part: self._pass(part, asks, found))

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
        ids = torch.tensor([asks[number].texts[i][1] for number, i in items], device=host.device)
        hooks = {name: point for ask, _ in shares if ask.trunk for name, point in ask.trunk.hooks.items()}
        trunk = BertTrunk(host, hooks) if hooks else None
        embeddings = weights = None
        with torch.set_grad_enabled(first.steep):
            if first.soft is not None:
                embeddings, weights = (_stacked(shares, name) for name in ("embeddings", "weights"))
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
        for (number, own), values in zip(numbered, _listed(scores), strict=True):
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


def _blank(ask: Ask) -> Answer:
    count, nothing = len(ask.texts), torch.empty(0)
    return Answer([()] * count, [nothing] * count, [nothing] * count, [nothing] * count)


def _listed(scores: Sequence[tuple[Tensor, ...]]) -> list[list[tuple[float, ...]]]:
    """Every part's scores as numbers, fetched from the device at once."""
    flat = torch.cat([values.detach().double() for own in scores for values in own]).tolist()
    found, at = [], 0
    for own in scores:
        count = len(own[0])
        columns = [flat[at + k * count : at + (k + 1) * count] for k in range(len(own))]
        at += count * len(own)
        found.append(list(zip(*columns, strict=True)))
    return found


def _stacked(shares: Sequence[tuple[Ask, list[int]]], name: str) -> Tensor | None:
    rows = [getattr(ask.soft, name) for ask, _ in shares]
    if rows[0] is None:
        return None
    return torch.stack([some[i] for some, (_, own) in zip(rows, shares, strict=True) for i in own])


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


def _kind(ask: Ask) -> Hashable:
    """Asks of the same kind share passes: as deep, by the same means, and of the model's blocks."""
    alone = None if ask.names and all(name.startswith("blocks.") for name in ask.names) else id(ask)
    how = (ask.slopes, ask.soft is not None and (ask.soft.narrow, ask.soft.weights is not None), ask.reads_words)
    if ask.trunk is None:
        return (how, None, ask.layers, alone)
    return (how, ask.trunk.deepest, positions_known(ask.objectives), alone)
