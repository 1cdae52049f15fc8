"""What the jobs of a sweep may be: dreams, portraits or reconstructions; how each is done and told."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from tl_dream._arguments import Whole
from tl_dream._errors import require
from tl_dream.dreaming import Method, dream_many
from tl_dream.models import Host, attached
from tl_dream.objectives import Objective, check, neuron
from tl_dream.portraits import LINES, SENTENCES, Choices, Painter, check_comparable, check_varies, read_choices, sampled
from tl_dream.reconstruction import read_layers, reconstruct_many
from tl_dream.results import CorpusResult, Dream, Portrait, Reconstruction
from tl_dream.sweeps.jobs import Ended, Job, Kind, Recorded
from tl_dream.sweeps.patterns import Unit, units
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Prompt, read_lines


@dataclass(frozen=True)
class Dreams(Kind):
    """Dreams of units, or of any objective; the fields are options of `dream_many`."""

    method: str | Method = "auto"
    budget: int | None = None
    allowed: Allowed = DEFAULT_ALLOWED
    banned: Any = None
    max_changes: int | None = None
    retokenize: bool = True

    called = "dreams"
    result = Dream
    columns = "corpus_score corpus_text start_score start_text score text step retokenizes fired optimum stopped"

    def job(self, host: Host, item: Any, prompt: Any, seed: int) -> Iterator[Job]:
        if isinstance(item, str | Unit):
            yield from _jobs_of_units(host, item, prompt, seed)
            return
        require(
            isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], Objective),
            f"a job is {item!r:.80}: give patterns of units (see `units`), units, or (objective, prompt) pairs",
        )
        goal, start = item
        require(
            isinstance(start, str | Prompt | list | tuple),
            f"{goal} starts from {start!r:.80}: give a sentence, or a list of them",
        )
        yield Job(goal, list(start) if isinstance(start, tuple) else start, seed)

    def try_out(self, host: Host, prompt: Any) -> None:
        """The shortest dream there is asks for all of them."""
        goal, options = neuron("block_out", layer=0, unit=0), {**vars(self), "budget": 1}
        for one in dream_many(host, [(goal, "a b c" if prompt is None else prompt)], **options, progress=False):
            if one.error is not None:
                raise one.error

    def run(
        self, model: Any, jobs: Sequence[Job], seed: int, width: int | None, found: dict[str, Any]
    ) -> Iterator[Ended]:
        pairs = [(job.objective, job.start) for job in jobs]
        for one in dream_many(model, pairs, **vars(self), seed=seed, width=width, progress=False):
            yield one.number, one.dream, one.error

    @staticmethod
    def told(result: Mapping[str, Any]) -> dict[str, Any]:
        scored = {f"start_{name}": result["start"][name] for name in ("score", "text")}
        scored |= {name: result["best"][name] for name in ("score", "text", "step", "retokenizes")}
        return scored | {name: result[name] for name in ("fired", "optimum", "stopped")}


@dataclass(frozen=True)
class Portraits(Kind):
    """Portraits of units over a corpus, as jobs of a sweep (`what`). What random directions of a hook come to is found
    once a worker.

    Attributes:
        seeds, placebos, fluent, tokens, budget, allowed: as in `portrait`. Fluent dreams and the exact best tokens take
            longer than all else, and are left out unless asked for.
    """

    seeds: Whole = 2
    placebos: Whole = 20
    fluent: bool = False
    tokens: bool = False
    budget: Whole = 30_000
    allowed: Allowed = DEFAULT_ALLOWED

    called = "portraits"
    result = Portrait
    at_once = 16
    sentences = SENTENCES
    columns = "corpus_score corpus_text score height text essential common deviations distinguished verdict"

    def choices(self, seed: int) -> Choices:
        return read_choices(**vars(self), seed=seed)

    def job(self, host: Host, item: Any, prompt: Any, seed: int) -> Iterator[Job]:
        require(
            isinstance(item, str | Unit | Objective),
            f"a job is {item!r:.80}: give patterns of units (see `units`), units, or objectives",
        )
        for job in [Job(item, None, seed)] if isinstance(item, Objective) else _jobs_of_units(host, item, None, seed):
            check(host, job.objective)
            check_comparable(job.objective)
            yield job

    def try_out(self, host: Host, prompt: Any) -> None:
        host.vocabulary.allowed(self.choices(0).allowed)

    def started(
        self, host: Host, jobs: Iterable[Job], starts: Mapping[str, Mapping[str, Any]], texts: Any, column: str | None
    ) -> list[Job]:
        """Of the corpus they need a sample besides, so that workers do without it."""
        sample = cache(lambda seed: [one.text for one in sampled(host, texts, LINES, seed, column)])
        return [replace(job, start=(CorpusResult.from_json(starts[job.name]), sample(job.seed))) for job in jobs]

    def run(
        self, model: Any, jobs: Sequence[Job], seed: int, width: int | None, found: dict[str, Any]
    ) -> Iterator[Ended]:
        """Where one of those side by side fails they are done again in halves, until it fails alone."""
        size, every = width or self.at_once, list(enumerate(jobs))
        groups = [every[at : at + size] for at in range(0, len(every), size)]
        for some in groups:
            try:
                with attached(model) as host:
                    painter = Painter(host, jobs[0].start[1], None, None, self.choices(seed))
                    painter.placebos = found
                    seen = painter.look([job.objective for _, job in some], [job.start[0] for _, job in some])
                    for one in seen:
                        check_varies(one.goal, one.values)
                    pages = painter.paint(seen)
            except Exception as error:
                if len(some) == 1:
                    yield some[0][0], None, error
                else:
                    groups += [some[: len(some) // 2], some[len(some) // 2 :]]
            else:
                yield from ((number, page, None) for (number, _), page in zip(some, pages, strict=True))

    @staticmethod
    def told(result: Mapping[str, Any]) -> dict[str, Any]:
        page = Portrait.from_json(result)
        best, placed = page.best.whole, page.standing
        shared = [" ".join(one.tokens) for one in (*page.common, *page.neighbourhoods)]
        return {
            "score": best.score,
            "height": page.height(best.score),
            "text": best.text,
            "essential": page.best.short,
            "common": ", ".join(shared),
            "deviations": placed and placed.deviations,
            "distinguished": placed and placed.distinguished,
            "verdict": placed and placed.verdict,
        }


@dataclass(frozen=True)
class Reconstructions(Kind):
    """Texts that are read back from what layers make of them, as jobs of a sweep (`what`).

    Attributes:
        layers: "all", one, or a list.
        hook, method, steps, starts, patience, allowed, rivals, budget: as in `reconstruct`.
    """

    layers: Any = "all"
    hook: str = "block_out"
    method: str = "auto"
    steps: Whole | None = None
    starts: Whole = 1
    patience: Whole = 2
    allowed: Allowed = "no_unused"
    rivals: Whole | str | None = None
    budget: Whole = 10_000

    called = "reconstructions"
    result = Reconstruction
    columns = "truth text right total exact certified loss gap stopped"

    def job(self, host: Host, item: Any, prompt: Any, seed: int) -> Iterator[Job]:
        require(isinstance(item, str | os.PathLike), f"a job is {item!r:.80}: give texts, or a file (a pathlib.Path)")
        texts = [item] if isinstance(item, str) else [line.strip() for line in read_lines(item) if line.strip()]
        for text in texts:
            for layer in read_layers(host, self.hook, self.layers):
                yield Job(Recorded(self.hook, layer, text), None, seed)

    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "layers"}

    def try_out(self, host: Host, prompt: Any) -> None:
        """What concerns all jobs is told before the first; the shortest search there is asks for the rest."""
        pairs = [("a b c", read_layers(host, self.hook, self.layers)[0])]
        reconstruct_many(host, pairs, **self._options())
        least = {"budget": 1, "rivals": 0, "steps": None if self.steps is None else 1}
        for one in reconstruct_many(host, pairs, **{**self._options(), **least}, progress=False):
            if one.error is not None:
                raise one.error

    def run(
        self, model: Any, jobs: Sequence[Job], seed: int, width: int | None, found: dict[str, Any]
    ) -> Iterator[Ended]:
        goals: list[Any] = [job.goal for job in jobs]
        pairs = [(goal.truth, goal.layer) for goal in goals]
        for one in reconstruct_many(model, pairs, **self._options(), seed=seed, width=width, progress=False):
            yield one.number, one.reconstruction, one.error

    @staticmethod
    def told(result: Mapping[str, Any]) -> dict[str, Any]:
        found = Reconstruction.from_json(result)
        return {name: getattr(found, name) for name in "text right total exact certified loss gap stopped".split()}


KINDS: dict[str, type[Kind]] = {kind.called: kind for kind in (Dreams, Portraits, Reconstructions)}


def _jobs_of_units(host: Host, item: str | Unit, prompt: Any, seed: int) -> Iterator[Job]:
    found = units(host, item, seed=seed) if isinstance(item, str) else [item]
    return (Job(unit, prompt, seed) for unit in found)
