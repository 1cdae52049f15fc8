"""The jobs of a sweep, what they are called, and how all of them are done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any

from tl_dream._arguments import plain
from tl_dream._errors import require
from tl_dream.dreaming import Method
from tl_dream.models import Host
from tl_dream.objectives import Objective
from tl_dream.sweeps.patterns import Unit, units
from tl_dream.text import Allowed, Prompt


@dataclass(frozen=True)
class Job:
    """One dream of a sweep.

    Attributes:
        goal: what it climbs: a unit, or an objective.
        prompt: the sentence or sentences it starts from; None where a corpus is still to say.
        seed: of its random numbers.
    """

    goal: Unit | Objective
    prompt: Any
    seed: int

    @property
    def key(self) -> str:
        """What it is called: "mlp_post:3:17@0" for a unit, with the seed after the @."""
        if isinstance(self.goal, Unit):
            return f"{self.goal}@{self.seed}"
        return f"{self.goal} from {_quoted(self.prompt)}@{self.seed}"

    @property
    def objective(self) -> Objective:
        return self.goal.objective() if isinstance(self.goal, Unit) else self.goal

    def described(self) -> dict[str, Any]:
        """As the manifest lists it."""
        if isinstance(self.goal, Unit):
            return {"key": self.key, **asdict(self.goal), "seed": self.seed}
        return {"key": self.key, "objective": repr(self.goal), "prompt": _quoted(self.prompt), "seed": self.seed}


def _quoted(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else repr(prompt)


@dataclass(frozen=True)
class Settings:
    """How every job is done; the fields are the options of `sweep`."""

    method: str | Method
    budget: int | None
    allowed: Allowed
    banned: Any
    max_changes: int | None
    retokenize: bool

    def described(self) -> dict[str, Any]:
        """As the manifest tells them: what JSON can hold as it is, a method's settings field by field, the rest as its
        formula."""
        return {name: _as_json(value) for name, value in vars(self).items()}


def _as_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):  # the settings of a method
        return {
            "kind": type(value).__name__,
            **{field.name: _as_json(getattr(value, field.name)) for field in fields(value)},
        }
    try:
        return json.loads(json.dumps(plain(value), allow_nan=False))
    except (TypeError, ValueError):
        return repr(value)


def jobs_of(host: Host, given: Any, prompt: Any, seeds: Iterable[int]) -> list[Job]:
    """A job for every unit or pair and every seed, seed by seed.

    Args:
        given: patterns, units and (objective, prompt) pairs.
        prompt: what units start from; None where a corpus says.

    Raises:
        DreamError: none, something else, or one twice.
    """
    seeds = list(seeds)
    if isinstance(given, str | Unit):
        given = [given]
    require(isinstance(given, Iterable), f"jobs is a {type(given).__name__}: give patterns, units or pairs")
    found: list[Job] = []
    for item in given:
        if isinstance(item, str):
            found += [Job(unit, prompt, seeds[0]) for unit in units(host, item, seed=seeds[0])]
        elif isinstance(item, Unit):
            found.append(Job(item, prompt, seeds[0]))
        else:
            pair = isinstance(item, tuple | list) and len(item) == 2 and isinstance(item[0], Objective)
            require(
                pair,
                f"a job is {item!r:.80}: give patterns of units (see `units`), units, or (objective, prompt) pairs",
            )
            goal, start = item
            require(
                isinstance(start, str | Prompt | list | tuple),
                f"{goal} starts from {start!r:.80}: give a sentence, or a list of them",
            )
            found.append(Job(goal, start, seeds[0]))
    require(bool(found), "there is no job: give at least one")
    known: dict[str, Job] = {}
    for job in found:
        twice = known.setdefault(job.key, job)
        require(
            twice is job or isinstance(job.goal, Unit),
            f"two jobs are the same, {job.key!r}: functions of your own need names that differ",
        )
    return [replace(job, seed=seed) for seed in seeds for job in known.values()]


def has_units(jobs: Iterable[Job]) -> bool:
    return any(isinstance(job.goal, Unit) for job in jobs)


def started_from(jobs: Iterable[Job], starts: Mapping[str, Iterable[Mapping[str, Any]]]) -> list[Job]:
    """The jobs, those of units with the sentences that were found for them."""

    def started(job: Job) -> Job:
        return replace(job, prompt=[hit["text"] for hit in starts[str(job.goal)]])

    return [started(job) if isinstance(job.goal, Unit) else job for job in jobs]
