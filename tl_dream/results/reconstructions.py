"""What `reconstruct` gives back: tokens, and the certificate that they are right."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tl_dream._arguments import check_places, check_that
from tl_dream.results.base import Cost, SavedResult, frame_of, free_spans, one_line, readable
from tl_dream.results.dreams import History, ScoredText

if TYPE_CHECKING:
    import pandas


MARGIN = 10.0
"""How far outside the tolerance the best competing tokens must lie, as a factor, for a certificate. On MiniLM they lie
thousands of times outside, for every sentence that was measured."""


@dataclass(frozen=True)
class Swap:
    """One token replaced by another, everything else left; or two tokens of a sentence exchanged.

    Attributes:
        pos: where.
        token, other: the token that stands there and the one put in its place, as the vocabulary writes them.
        other_id: its id.
        error: what the certificate's error would be with it.
        cost: by how much the mean squared error would rise, as a share of the target's mean square (dimensionless);
            below 0 where the target is met better.
        partner: of an exchange, the position that gets `token`, where `other` stood; else None.
    """

    pos: int
    token: str
    other: str
    other_id: int
    error: float
    cost: float
    partner: int | None = None

    def __str__(self) -> str:
        if self.partner is not None:
            return f"{readable(self.token)!r} at {self.pos} and {readable(self.other)!r} at {self.partner} exchanged"
        return f"{readable(self.other)!r} for {readable(self.token)!r} at {self.pos}"


@dataclass(frozen=True)
class Certificate:
    """Whether tokens are those a target was recorded from, as far as it can be told.

    Of a target in a dtype narrower than the model's, half a step of every number is its own rounding and no difference.

    Attributes:
        error: how far the tokens' own activation is from the target: the root mean square over the units of a
            position, the largest of all positions, as a share of the target's root mean square (dimensionless).
        tolerance: what the model's arithmetic may make of it.
        peak: the largest difference of a single number, as a share of the target's root mean square, or of the number
            where that is larger.
        single: what the arithmetic may make of that.
        missing: searched positions that the target has no row for. Other sentences may match it as well (in the lower
            layers a position hardly sees in which order the others stand), so there is no certificate.
        tells: whether the target holds so many numbers that no other sentence matches them by accident, each counted
            by as many steps as the rival's error has tolerances.
        tried: competing tokens whose error was measured: one token replaced by one of its nearest, and two exchanged.
        rival: those that come closest to the target; None where none were tried.
    """

    error: float
    tolerance: float
    peak: float
    single: float
    missing: tuple[int, ...]
    tells: bool
    tried: int
    rival: Swap | None

    @property
    def matched(self) -> bool:
        """Whether the tokens' own activation equals the target to numerical precision."""
        return self.error <= self.tolerance and self.peak <= self.single

    @property
    def margin(self) -> float:
        """The rival's error over the tolerance, or over the tokens' own error if that is larger; 0 without one."""
        return 0.0 if self.rival is None else self.rival.error / max(self.error, self.tolerance)

    @property
    def certified(self) -> bool:
        """Whether the activation is matched, the target has a row for every searched position, all that was tried
        lies clearly outside the tolerance, and the target holds enough numbers to tell."""
        return self.matched and not self.missing and self.tells and self.margin >= MARGIN

    def __str__(self) -> str:
        own = f"the tokens' own activation differs from the target by {self.error:.1e} of its scale"
        if not self.matched:
            text = f"not certified: {own} (tolerance {self.tolerance:.1e})"
            if self.error <= self.tolerance:
                text += f", a single number by {self.peak:.1e} (tolerance {self.single:.1e})"
            if self.rival is not None and self.rival.cost < 0:
                text += f"; {self.rival} comes closer ({self.rival.error:.1e})"
            return text
        own += f", within the tolerance of {self.tolerance:.1e}"
        if self.missing:
            where = ", ".join(map(str, self.missing[:8])) + (", ..." if len(self.missing) > 8 else "")
            return (
                f"matched, not certified: {own}, but it has no row for {len(self.missing)} of the positions searched "
                f"({where}): other sentences may match it as well"
            )
        if self.rival is None:
            return f"not certified: {own}, but no other token was tried"
        if self.margin < MARGIN:
            return f"not certified: {own}, but {self.rival} can't be told apart ({self.rival.error:.1e})"
        if not self.tells:
            return (
                f"not certified: {own}, but the target holds too few numbers: another sentence may match them by "
                "accident"
            )
        return (
            f"certified: {own}; of {self.tried} others tried the closest, {self.rival}, differs by "
            f"{self.rival.error:.1e}"
        )


@dataclass(frozen=True)
class Reconstruction(SavedResult):
    """The real tokens whose activation comes closest to a target.

    Attributes:
        model: name of the model and its backend.
        hook: full name of the hook the target belongs to.
        layer: its layer; None for a hook of the whole model.
        method: "auto" or "article".
        positions, units: what the target covers; None for all of them.
        settings: every option of the run.
        seed: of the local random generator; None where it is not known.
        scale: the target's root mean square, in the hook's units; None where it is not known.
        best: the tokens; `best.score` is minus their mean squared error.
        start: the text the search began at, with its own score; None where it began anywhere.
        truth: the tokens the target was recorded from, where they are known.
        free: the positions that were searched; the others ([CLS], [SEP]) were given.
        errors: at every position the target covers, the root mean square over its units of what the tokens'
            activation differs from the target, as a share of the target's root mean square; none where they are not
            known.
        certificate: whether these are the tokens; None where that was not looked into.
        alternatives: for every free position the other tokens that were measured there, cheapest first (see
            `Swap.cost`); 64 at most.
        history: of the article's annealing; None for "auto".
        lengths: the lengths that were tried, each with the lowest loss found.
        cost: forwards, forward-tokens, seconds.
        stopped: "matched", "settled" (no swap of a token improves, from several starts), "budget" or "steps".
    """

    model: str
    hook: str
    layer: int | None
    method: str
    positions: tuple[int, ...] | None
    units: tuple[int, ...] | None
    settings: Mapping[str, Any]
    seed: int | None
    scale: float | None
    best: ScoredText
    start: ScoredText | None
    truth: ScoredText | None
    free: tuple[int, ...]
    errors: tuple[float, ...]
    certificate: Certificate | None
    alternatives: tuple[tuple[Swap, ...], ...]
    history: History | None
    lengths: tuple[tuple[int, float], ...]
    cost: Cost
    stopped: str

    kind = "reconstruction"

    @property
    def short_hook(self) -> str:
        """The hook as it was asked for, its short name where it has one; without the layer, where that is known."""
        full = self.hook.split(".", 2)[-1] if self.layer is not None else self.hook
        return str(self.settings.get("hook", full))

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        length = len(self.best.tokens)
        scale, checked = 1.0 if self.scale is None else self.scale, self.certificate
        check_that(scale > 0 >= self.best.score, "scale and score", (scale, self.best.score), "> 0 and <= 0")
        check_that(checked is None or checked.tolerance > 0, "tolerance", checked, "above 0")
        missing = () if checked is None else checked.missing
        covered = range(length) if self.positions is None else self.positions
        for name, places in {"free": self.free, "positions": covered, "missing": missing}.items():
            check_places(name, places, length)
        check_that(
            len(self.errors) in (0 if self.scale is None else -1, len(covered)),
            "errors",
            self.errors,
            f"of {len(covered)} positions",
        )
        check_that(
            len(self.alternatives) in (0, len(self.free)), "alternatives", self.alternatives, "one for each of free"
        )
        start = self.best if self.start is None else self.start
        check_that(len(start.tokens) == length, "start", start.tokens, f"{length} tokens")

    @property
    def text(self) -> str:
        """The tokens as plain text."""
        return self.best.text

    @property
    def tokens(self) -> tuple[str, ...]:
        """The tokens, special ones included."""
        return self.best.tokens

    @property
    def loss(self) -> float:
        """The mean squared error of the real tokens, in the hook's units squared."""
        return -self.best.score

    @property
    def gap(self) -> float | None:
        """How far the real tokens' activation stays from the target: the root mean square of the difference, as a
        share of the target's own (dimensionless); None where that is not known."""
        return None if self.scale is None else self.loss**0.5 / self.scale

    @property
    def certified(self) -> bool:
        """Whether there is a certificate, and it holds."""
        return self.certificate is not None and self.certificate.certified

    @property
    def total(self) -> int:
        """How many tokens were searched."""
        return len(self.free)

    @property
    def wrong(self) -> tuple[int, ...] | None:
        """Positions whose token is not the truth's; None where the truth is not known."""
        if self.truth is None:
            return None
        if len(self.truth.tokens) != len(self.best.tokens):
            return self.free
        return self._other(self.truth)

    @property
    def right(self) -> int | None:
        """How many of the searched tokens are the truth's; None where it is not known."""
        return None if self.wrong is None else self.total - len(self.wrong)

    @property
    def exact(self) -> bool | None:
        """Whether every token is the truth's; None where it is not known."""
        return None if self.wrong is None else not self.wrong

    @property
    def changed(self) -> tuple[int, ...] | None:
        """Positions whose token is not the start's; None where the search began anywhere."""
        return None if self.start is None else self._other(self.start)

    def _other(self, text: ScoredText) -> tuple[int, ...]:
        """Where the tokens found are not those of another text; where ids are not known, their names tell."""
        theirs, own = (text.ids, self.best.ids) if text.ids and self.best.ids else (text.tokens, self.best.tokens)
        return tuple(i for i in self.free if theirs[i] != own[i])

    @property
    def missed(self) -> bool | None:
        """Whether the truth fits the target better than the tokens found: then it is the search that failed, and not
        the layer that forgot. None where the truth is not known."""
        return None if self.truth is None else not self.exact and self.truth.score > self.best.score

    def __str__(self) -> str:
        notes = [f"{self.hook} on {self.model}", f"read back: {one_line(self.text)}"]
        if self.truth is not None:
            notes.append(f"recorded:  {one_line(self.truth.text)}")
            notes.append(f"right: {self.right} of {self.total} tokens")
            if not self.exact:
                notes.append(
                    f"the recorded text fits {'better' if self.missed else 'no better'}: loss {-self.truth.score:.3e}"
                )
        if self.start is not None:
            notes.append(f"from:      {one_line(self.start.text)} (loss {-self.start.score:.3e})")
        share = "" if self.gap is None else f", {self.gap:.1%} of the target's scale"
        notes.append(f"loss {self.loss:.3e} (mean squared error of the real tokens){share}")
        notes.append(str(self.certificate or "no certificate: not looked into"))
        if self.certificate is not None and not self.certificate.matched:
            pairs = sorted(zip(self.errors, self.positions or range(len(self.errors)), strict=True), reverse=True)[:3]
            where = ", ".join(f"{pos} {readable(self.best.tokens[pos])} ({error:.1e})" for error, pos in pairs)
            notes.append(f"what remains is largest at {where}")
        if len(self.lengths) > 1:
            notes.append("lengths tried: " + ", ".join(f"{length} ({loss:.1e})" for length, loss in self.lengths))
        notes.append(f"{self.cost}; method {self.method}, seed {self.seed}, stopped: {self.stopped}")
        return "\n".join(notes)

    def _repr_html_(self) -> str:
        """The tokens; wrong ones are bold and underlined."""
        wrong = set(self.wrong or ())
        marked = [i in wrong for i in range(len(self.tokens))]
        checked = html.escape(str(self.certificate or "no certificate"))
        return (
            f"<div><code>{html.escape(self.hook)}</code> on {html.escape(self.model)}<br>"
            f"{free_spans(self.tokens, marked)}<br><small>{checked}</small></div>"
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a searched position: token, the true one, the cheapest other token and its cost."""
        truth = self.truth.tokens if self.truth is not None and len(self.truth.tokens) == len(self.tokens) else None
        rows = []
        for slot, pos in enumerate(self.free):
            others = self.alternatives[slot] if self.alternatives else ()
            cheapest = (readable(others[0].other), others[0].cost) if others else (None, math.nan)
            rows.append((pos, readable(self.tokens[pos]), truth and readable(truth[pos]), *cheapest))
        return frame_of(rows, ("pos", "token", "truth", "other", "other_cost"))

    @property
    def cells(self) -> dict[str, str]:
        """How well it was read back, as the columns of a table: right, certified, loss, seconds; "-" is not known."""
        return {
            "right": f"{self.right}/{self.total}",
            "certified": "-" if self.certificate is None else "yes" if self.certified else "no",
            "loss": f"{self.loss:.1e}",
            "seconds": f"{self.cost.seconds:.1f}" if self.cost.known else "-",
        }

    def summary(self) -> dict[str, Any]:
        """What a table of layers shows: layer, text, tokens, right, total, exact, certified, loss, seconds."""
        return {
            "layer": self.layer,
            "text": self.text,
            "tokens": list(self.tokens),
            "right": self.right,
            "total": self.total,
            "exact": self.exact,
            "certified": self.certified,
            "loss": self.loss,
            "seconds": self.cost.seconds,
        }

    def to_json(self) -> dict[str, Any]:
        """Plain data, the summary among it."""
        return {**super().to_json(), **self.summary()}
