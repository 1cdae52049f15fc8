"""The jobs of a sweep: what they are called, and what a corpus, searched once for all of them, has them start from."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from tl_dream._arguments import plain
from tl_dream._errors import DreamError, require
from tl_dream.models import Host
from tl_dream.objectives import Objective, sketch
from tl_dream.results import SavedResult, write_bytes
from tl_dream.scans import corpus_search
from tl_dream.sweeps.patterns import Unit, units
from tl_dream.text import Corpus, Prompt, clean_text


@dataclass(frozen=True)
class Recorded:
    """A text that is to be read back from what a layer makes of it.

    Attributes:
        hook, layer: as in `reconstruct`.
        truth: the text.
    """

    hook: str
    layer: int
    truth: str

    def __str__(self) -> str:
        return f"{self.hook}:{self.layer}:{self.truth}"


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        goal: what is dreamed of, portrayed or read back.
        start: the sentence or sentences that a dream starts from; of a portrait its best sentences of the corpus, and a
            sample of that; None where the corpus is still to be searched, and for a text that is read back.
        seed: of its random numbers.
    """

    goal: Unit | Objective | Recorded
    start: Any
    seed: int

    @property
    def name(self) -> str:
        """What it is called but for the seed: "mlp_post:3:17" for a unit."""
        pair = isinstance(self.goal, Objective) and isinstance(self.start, str | Prompt | list)
        return f"{self.goal} from {_quoted(self.start)}" if pair else str(self.goal)

    @property
    def key(self) -> str:
        """What it is called, with the seed after the @."""
        return f"{self.name}@{self.seed}"

    @property
    def objective(self) -> Any:
        return self.goal.objective() if isinstance(self.goal, Unit) else self.goal

    @property
    def searched(self) -> bool:
        """Whether a corpus is searched for where it starts."""
        return self.start is None and not isinstance(self.goal, Recorded)

    def described(self) -> dict[str, Any]:
        """As the manifest lists it."""
        if isinstance(self.goal, Objective):
            about = {"objective": repr(self.goal), "prompt": self.start and _quoted(self.start)}
            about |= {} if (numbers := sketch(self.goal)) is None else {"numbers": numbers}
        else:
            about = asdict(self.goal)
        return {"key": self.key, **about, "seed": self.seed}


def _quoted(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else repr(prompt)


Ended = tuple[int, SavedResult | None, BaseException | None]
"""A job that has ended: its number, what it came to, or why it failed."""


class Kind(ABC):
    """What the jobs of a sweep are; its fields are the options that all of them share.

    Attributes:
        called: its name, which `what` of a sweep takes.
        result: what a job comes to.
        columns: what the table tells of a job besides what is the same for all kinds.
        at_once: jobs of a chunk that goes to a worker of a cluster.
        sentences: best sentences of a corpus that a job starts from, all that is known of them; None for their texts
            alone, as many as the sweep is told.
    """

    called: ClassVar[str]
    result: ClassVar[type[SavedResult]]
    columns: ClassVar[str]
    at_once: ClassVar[int] = 64
    sentences: ClassVar[int | None] = None

    @abstractmethod
    def job(self, host: Host, item: Any, prompt: Any, seed: int) -> Iterator[Job]:
        """The jobs that something given stands for. Raises `DreamError` where it stands for none."""

    @abstractmethod
    def try_out(self, host: Host, prompt: Any) -> None:
        """Raise what is wrong with the options before they are written down: afterwards no others would be taken."""

    def started(
        self, host: Host, jobs: Iterable[Job], starts: Mapping[str, Mapping[str, Any]], texts: Any, column: str | None
    ) -> list[Job]:
        """The jobs, those that start in a corpus with what was found for them there.

        Args:
            starts: that (see `read_starts`).
            texts, column: the corpus.
        """
        return [
            replace(job, start=[hit["text"] for hit in starts[job.name]["top"]]) if job.searched else job
            for job in jobs
        ]

    @abstractmethod
    def run(
        self, model: Any, jobs: Sequence[Job], seed: int, width: int | None, found: dict[str, Any]
    ) -> Iterator[Ended]:
        """Do jobs of one seed side by side, and hand out each as it ends.

        Args:
            found: what is found once and used by later calls with this seed.
        """

    @staticmethod
    @abstractmethod
    def told(result: Mapping[str, Any]) -> dict[str, Any]:
        """What the table tells of a job: a number, text or flag for each of `columns`, from the result's JSON."""

    def described(self) -> dict[str, Any]:
        """As the manifest tells it: what JSON can hold as it is, a method's settings field by field, the rest as its
        formula."""
        return {"what": self.called, **{name: _as_json(value) for name, value in vars(self).items()}}


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


def jobs_of(host: Host, kind: Kind, given: Any, prompt: Any, seeds: Iterable[int]) -> list[Job]:
    """A job for everything that is given and every seed, seed by seed.

    Args:
        given: patterns, units, objectives, pairs or texts; which of them, the kind says.
        prompt: what units start from; None where a corpus says.

    Raises:
        DreamError: none, something else, one twice, or one whose name can't be written.
    """
    first, *others = seeds
    if isinstance(given, str | Unit | os.PathLike):
        given = [given]
    require(isinstance(given, Iterable), f"jobs is a {type(given).__name__}: give a list of them")
    given, known = list(given), dict[str, Job]()
    if named := [str(item) for item in given if isinstance(item, Unit)]:
        units(host, named)  # one that is not there is told before any work
    for item in given:
        for job in kind.job(host, item, prompt, first):
            twice = known.setdefault(clean_text(job.key), job)
            require(
                twice is job or not isinstance(job.goal, Objective),
                f"two jobs are the same, {job.key!r}: give directions and functions of your own other names",
            )
    require(bool(known), "there is no job: give at least one")
    return [replace(job, seed=seed) for seed in (first, *others) for job in known.values()]


STARTS = "starts.jsonl"
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
    kind: Kind,
    jobs: Iterable[Job],
    texts: Any,
    *,
    column: str | None,
    sentences: int,
    folder: Path,
    progress: bool | None,
) -> None:
    """One pass over the corpus for all jobs that start there, unless it was made before; a pass that was interrupted
    goes on.

    Raises:
        DreamError: a corpus in which nothing can be scored, or files that can't be written.
    """
    if (folder / STARTS).exists():
        return
    checkpoint = folder / PARTIAL
    goals = {job.name: job.objective for job in jobs if job.searched}
    found: Any = corpus_search(
        host, list(goals.values()), texts, top=sentences, column=column, checkpoint=checkpoint, progress=progress
    )
    lines = []
    for name, result in zip(goals, found, strict=True):
        hits = [{"score": hit.score, "line": hit.line, "text": hit.text} for hit in result.top]
        lines.append({"unit": name, **({"top": hits} if kind.sentences is None else result.to_json())})
    content = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    write_bytes(folder / STARTS, content.encode())
    checkpoint.unlink(missing_ok=True)


def read_starts(folder: Path, wanted: Iterable[str] = ()) -> Mapping[str, Mapping[str, Any]]:
    """By the name of a job its best sentences, `top`, best first: `score`, `line` and `text` of each; of a portrait
    the whole `CorpusResult`, as JSON. Nothing where there was no corpus.

    Args:
        wanted: names that must be among them.

    Raises:
        DreamError: the file is broken, or lacks one of them.
    """
    path, found = folder / STARTS, dict[str, Mapping[str, Any]]()
    if path.exists():
        try:
            with path.open("rb") as file:
                for line in map(json.loads, file):
                    assert all(hit.keys() >= {"score", "line", "text"} for hit in line["top"])
                    found[line["unit"]] = line
            assert not (lost := set(wanted) - found.keys()), f"nothing of {min(lost)}"
        except OSError as error:
            raise DreamError(f"{str(path)!r} can't be read: {error.strerror or error}") from error
        except (AssertionError, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            told = f"{str(path)!r} is broken ({error!r}): delete it, and the corpus is searched again"
            raise DreamError(told) from error
    return found
