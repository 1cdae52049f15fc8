"""What comes back: frozen data that prints, saves, loads and becomes a table. Nothing here runs a model."""

from __future__ import annotations

import html
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tl_dream._errors import DreamError, require

if TYPE_CHECKING:
    import pandas

VERSION = 1


@dataclass(frozen=True)
class ScoredText:
    """Real tokens and what they score.

    Attributes:
        text: plain text of the tokens, special ones left out at the ends.
        tokens: the vocabulary's own strings, special ones included.
        ids: token ids, as many as tokens.
        score: the objective on exactly these ids, in the objective's own units.
        step: the optimiser's step at which these tokens were seen; 0 is the start.
        retokenizes: whether `text` tokenizes back to exactly `ids`.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    score: float
    step: int = 0
    retokenizes: bool = True


@dataclass(frozen=True)
class History:
    """One run as it was watched. Annealed ascent makes a record every `evaluate_every` steps (the article's Figures 1
    and 2), a search over real tokens whenever its best improves.

    All tuples have one entry a record; those of the soft sentence are empty where there was none.

    Attributes:
        step: steps done when the record was made.
        hard_score: the objective on the tokens; the article's "ids_activation".
        tokens: the snapped (most likely) tokens of a soft sentence, or the best real ones; special ones included.
        free: the free positions, in the order of `top_tokens`.
        forward_tokens: spent so far (rows x positions x layers).
        temperature: of the softmax, dimensionless.
        soft_score: the objective on the soft sentence; the article's "activation".
        weights: softmax weight of each snapped token, 1 at fixed positions; the article's "max_values".
        top_tokens: for each free position the most likely tokens, most likely first.
        top_weights: their softmax weights.
    """

    step: tuple[int, ...]
    hard_score: tuple[float, ...]
    tokens: tuple[tuple[str, ...], ...]
    free: tuple[int, ...]
    forward_tokens: tuple[int, ...] = ()
    temperature: tuple[float, ...] = ()
    soft_score: tuple[float, ...] = ()
    weights: tuple[tuple[float, ...], ...] = ()
    top_tokens: tuple[tuple[tuple[str, ...], ...], ...] = ()
    top_weights: tuple[tuple[tuple[float, ...], ...], ...] = ()

    def __len__(self) -> int:
        return len(self.step)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a record: step, forward_tokens, temperature, soft_score, hard_score, text."""
        import pandas

        none = (None,) * len(self)
        return pandas.DataFrame(
            {
                "step": self.step,
                "forward_tokens": self.forward_tokens or none,
                "temperature": self.temperature or none,
                "soft_score": self.soft_score or none,
                "hard_score": self.hard_score,
                "text": [" ".join(tokens) for tokens in self.tokens],
            }
        )


@dataclass(frozen=True)
class Run:
    """One start of a dream: where it began, the best real tokens it saw, its last soft score, how it went."""

    start: ScoredText
    best: ScoredText
    soft_score: float | None
    history: History


@dataclass(frozen=True)
class Cost:
    """What a result cost.

    Attributes:
        forwards: sentences put through the model; one with its gradient counts as two.
        forward_tokens: rows x positions x layers run, the same unit for every method.
        seconds: wall-clock time.
    """

    forwards: int
    forward_tokens: int
    seconds: float


@dataclass(frozen=True)
class Dream:
    """The outcome of `dream`: the start, the best real tokens ever seen (the start included), and the way there.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        prompt: the text of the winning start and its free positions.
        settings: every option of the run.
        seed: of the local random generator.
        start, best: real tokens with their scores; `best.score >= start.score` always.
        soft_score: the highest score of the soft sentence, never a result, kept to show the gap; None where no soft
            sentence was used.
        history: of the winning run.
        cost: forwards, forward-tokens, seconds.
        stopped: why it ended: "steps", "budget", "callback", ...; "complete" where every text that may be returned was
            tried, so that `best` is the best of all.
        optimum: a certificate: every swap of one word of `best` for an allowed token was scored (of those that may be
            returned), and none is better. False: that is not known.
        fired: of a unit behind an activation function whether it is on in `best`; None of other objectives.
        others: the runs from the other starts.
    """

    model: str
    objective: str
    prompt: Mapping[str, Any]
    settings: Mapping[str, Any]
    seed: int
    start: ScoredText
    best: ScoredText
    soft_score: float | None
    history: History
    cost: Cost
    stopped: str = "steps"
    optimum: bool = False
    fired: bool | None = None
    others: tuple[Run, ...] = field(default=())

    kind = "dream"

    @property
    def gain(self) -> float:
        """How far the best real tokens lie above the start, in the objective's units."""
        return self.best.score - self.start.score

    def __str__(self) -> str:
        rows = [
            ("start", f"{self.start.score:.4f}", "0", self.start.text),
            ("best", f"{self.best.score:.4f}", str(self.best.step), self.best.text),
        ]
        notes = [f"{self.objective} on {self.model}", _table(("", "score", "step", "text"), rows)]
        if self.gain <= 0:
            notes.append("nothing better than the start was found: the start is returned")
        if self.fired is False:
            notes.append("the unit never fired: no text that was tried turns it on; try another start, or more budget")
        if self.soft_score is not None:
            notes.append(f"soft score {self.soft_score:.4f} (of a mixture of tokens, not of a text)")
        notes.append(
            "the best text tokenizes back to the same ids"
            if self.best.retokenizes
            else "note: the best text does not tokenize back to the same ids; use best.ids"
        )
        notes.append(
            f"cost: {self.cost.forwards:,} forwards, {self.cost.forward_tokens:,} forward-tokens, "
            f"{self.cost.seconds:.1f} s; {1 + len(self.others)} start(s), seed {self.seed}, stopped by {self.stopped}"
            + (" (every text that may be returned was tried)" if self.stopped == "complete" else "")
            + ("; no single swap of an allowed token is better" if self.optimum else "")
        )
        return "\n".join(notes)

    def _repr_html_(self) -> str:
        """Start and best as tokens; the ones that changed are shaded and underlined."""
        changed = [a != b for a, b in zip(self.start.tokens, self.best.tokens, strict=True)]
        rows = "".join(
            f"<tr><td>{name}</td><td>{scored.score:.4f}</td><td>{_spans(scored.tokens, changed)}</td></tr>"
            for name, scored in (("start", self.start), ("best", self.best))
        )
        return (
            f"<div><code>{html.escape(self.objective)}</code> on {html.escape(self.model)}"
            f"<table><tr><th></th><th>score</th><th>tokens</th></tr>{rows}</table>"
            f"<small>{self.cost.forwards:,} forwards, {self.cost.seconds:.1f} s, seed {self.seed}</small></div>"
        )

    def to_frame(self) -> pandas.DataFrame:
        """The history of every run as one pandas frame, with the column `run` (0 is the winner)."""
        import pandas

        runs = [self.history, *(run.history for run in self.others)]
        return pandas.concat([h.to_frame().assign(run=i) for i, h in enumerate(runs)], ignore_index=True)

    def to_json(self) -> dict[str, Any]:
        """Plain data; the keys are part of the file format, whose version is `version`."""
        data = asdict(self)
        cost = data.pop("cost")
        return {"kind": self.kind, "version": VERSION, **data, **cost}

    @classmethod
    def from_json(cls, data: Any) -> Dream:
        """The inverse of `to_json`."""
        check_kind(data, cls.kind)
        try:
            return cls(
                **{k: data[k] for k in ("model", "objective", "prompt", "settings", "seed", "soft_score", "stopped")},
                start=_scored(data["start"]),
                best=_scored(data["best"]),
                history=_history(data["history"]),
                cost=Cost(data["forwards"], data["forward_tokens"], data["seconds"]),
                optimum=data.get("optimum", False),
                fired=data.get("fired"),
                others=tuple(_run(run) for run in data["others"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise DreamError(f"the file is not a whole {cls.kind} result: {error!r} is missing or wrong") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write versioned JSON; the file appears whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Dream:
        """Read what `save` wrote."""
        return cls.from_json(read_json(path))


def _scored(data: Mapping[str, Any]) -> ScoredText:
    return ScoredText(**{**data, "tokens": tuple(data["tokens"]), "ids": tuple(data["ids"])})


def _history(data: Mapping[str, Any]) -> History:
    return History(**{key: _frozen(value) for key, value in data.items()})


def _run(data: Mapping[str, Any]) -> Run:
    return Run(_scored(data["start"]), _scored(data["best"]), data["soft_score"], _history(data["history"]))


def _frozen(value: Any) -> Any:
    return tuple(_frozen(item) for item in value) if isinstance(value, list | tuple) else value


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Left-aligned columns, the last one ragged."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head) - 1)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row[:-1], widths, strict=True)), row[-1]]).rstrip()
        for row in (head, *rows)
    )


def _spans(tokens: Sequence[str], marked: Sequence[bool]) -> str:
    style = "background:#fde0a8;text-decoration:underline"
    return " ".join(
        f'<span style="{style}">{html.escape(t)}</span>' if m else f"<span>{html.escape(t)}</span>"
        for t, m in zip(tokens, marked, strict=True)
    )


def check_kind(data: Any, kind: str) -> None:
    """Raise unless `data` is a result of this kind, in a version this release reads."""
    given = data.get("kind") if isinstance(data, Mapping) else None
    require(
        given == kind,
        f"the file holds {given!r}, not a {kind!r} result: load it with the class that wrote it",
    )
    require(
        data.get("version") == VERSION,
        f"the file has format version {data.get('version')!r}; this release reads version {VERSION}",
    )


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Raise before any work starts if `path` could not be written at its end; nothing is created or changed."""
    target = Path(path)
    require(not target.is_dir(), f"{str(target)!r} is a folder: give the name of a file in it")
    require(target.parent.is_dir(), f"the folder {str(target.parent)!r} does not exist: create it first")
    probe = target if target.exists() else target.parent
    require(os.access(probe, os.W_OK), f"{str(target)!r} can't be written: no permission for {str(probe)!r}")
    return target


def same_file(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths lead to one file, by whatever names; it need not be there."""
    if os.path.realpath(path) == os.path.realpath(other):
        return True
    return os.path.exists(path) and os.path.exists(other) and os.path.samefile(path, other)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all: to a temporary file beside it, then rename."""
    target = check_writable(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
            os.chmod(temporary, mode)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:  # a full disk, a quota, a limit on the size of files
        raise DreamError(
            f"{str(target)!r} can't be written ({error.strerror or error}); what it held before, if anything, is "
            "untouched: make room, or give another place"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Write JSON (UTF-8, no NaN), whole or not at all."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1)
    except ValueError as error:
        raise DreamError(f"a result with NaN or infinite numbers can't be saved as JSON: {error}") from error
    write_bytes(path, text.encode() + b"\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read JSON, saying which file is missing or broken."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DreamError(f"can't read {str(path)!r} as JSON: {error}") from error
