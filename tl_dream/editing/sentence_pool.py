"""Sentences near one sentence, each run once and measured exactly against many targets at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from tl_dream._errors import require
from tl_dream.models import Host, forward, in_float32, units_of
from tl_dream.search import Ids, Look, Search
from tl_dream.text import Sentence


@dataclass(frozen=True)
class MovedTarget:
    """An activation that a sentence is looked for: every position of one hook.

    Attributes:
        name: full hook name.
        change: target minus the original sentence's activation, Float[pos unit].
    """

    name: str
    change: Float[Tensor, "pos unit"]


class SentencePool:
    """Every sentence measured so far, and how far it is from each aim.

    The loss is the mean squared error over all positions and units, [CLS] and [SEP] too. It is computed from
    differences to the original sentence's activation, so that the original meets an unmoved target exactly.

    Args:
        host: the model.
        sentence: the original.
        aims: the targets.
        allowed: tokens that may be put in.

    Attributes:
        aims: the targets, their changes in the precision in which activations are compared: the model's, float32 at
            least.
        W: the embedding matrix in the same way.
        rows: the sentences, the original first.
        losses: a row a sentence, a column an aim.
        near: how many single-word neighbours with near tokens were measured first: rows 1 to that number.
        moved: root mean square distance of every sentence from the original, {hook name: one number a sentence}.
    """

    def __init__(
        self, host: Host, sentence: Sentence, aims: Sequence[MovedTarget], allowed: Bool[Tensor, " vocab"]
    ) -> None:
        self.host, self.sentence = host, sentence
        self.allowed = allowed
        self.W = in_float32(host.W_E)
        self.names = list(dict.fromkeys(aim.name for aim in aims))
        self._columns = {name: [i for i, aim in enumerate(aims) if aim.name == name] for name in self.names}
        ids, _ = host.pad([sentence.ids])
        with torch.no_grad():
            self.origin = self._read(ids)
        for name, activation in self.origin.items():
            require(
                bool(torch.isfinite(activation).all()),
                f"the activations of {sentence.text!r} at {name!r} hold NaN or infinite numbers: no text is near them",
            )
        self.aims = [MovedTarget(aim.name, aim.change.to(self.origin[aim.name])) for aim in aims]
        self._restack()
        self.rows: list[Ids] = []
        self.near = 0
        self._known: dict[Ids, int] = {}
        self._table = torch.empty(0, len(aims) + len(self.names), dtype=torch.float64)  # as `_numbers` gives it
        self._whole = host.vocabulary.retokenizes([sentence.ids])[0]
        with torch.no_grad():
            self._take([sentence.ids], self._numbers(self._read(ids)).tolist())

    def _restack(self) -> None:
        self._changes = {
            name: torch.stack([self.aims[i].change.flatten() for i in columns])
            for name, columns in self._columns.items()
        }

    def _read(self, ids: Tensor) -> dict[str, Float[Tensor, "batch pos unit"]]:
        found = forward(self.host, ids, self.names)
        return {name: self.units(found, name) for name in self.names}

    @staticmethod
    def units(found: Mapping[str, Tensor], name: str) -> Float[Tensor, "batch pos unit"]:
        """Of an activation, in float32 or wider."""
        return in_float32(units_of(found[name], name, None))

    def add(self, rows: Sequence[Ids]) -> Search[None]:
        """Measure sentences that were not measured yet and whose text tokenizes back to them."""
        fresh = [row for row in dict.fromkeys(rows) if row not in self._known]
        if self._whole:
            fresh = [row for row, back in zip(fresh, self.host.vocabulary.retokenizes(fresh), strict=True) if back]
        if not fresh:
            return

        def read(found: Mapping[str, Tensor], _: object) -> Float[Tensor, "some number"]:
            return self._numbers({name: self.units(found, name) for name in self.names})

        answer = yield Look(self.host, tuple(self.names), fresh, read)
        self._take(fresh, answer.values)

    def _numbers(self, found: Mapping[str, Tensor]) -> Float[Tensor, "rows number"]:
        """Of every sentence the loss from every aim, and how far every hook's activation moved."""
        losses, moved = dict[int, Tensor](), list[Tensor]()
        for name, columns in self._columns.items():
            change = (found[name] - self.origin[name]).flatten(1)
            wanted = self._changes[name]
            square, aimed = change.square().sum(1), wanted.square().sum(1)
            gap = (square[:, None] - 2 * change @ wanted.T + aimed).clamp_min(0) / change.shape[1]
            losses |= zip(columns, gap.unbind(1), strict=True)
            moved.append((square / change.shape[1]).sqrt())
        return torch.stack([*(losses[aim] for aim in range(len(self.aims))), *moved], 1)

    def _take(self, rows: Sequence[Ids], numbers: Sequence[Sequence[float]]) -> None:
        self._known |= {row: number for number, row in enumerate(rows, len(self.rows))}
        self.rows += rows
        self._table = torch.cat([self._table, torch.tensor(numbers, dtype=torch.float64)])

    def _real(self) -> Bool[Tensor, "rows 1"]:
        """Whether every token is allowed or the original's own: a start may hold [MASK], a result may not."""
        ids = torch.tensor(self.rows[: len(self._table)])  # Ctrl-C may have fallen between the two
        return (self.allowed.cpu()[ids] | (ids == torch.tensor(self.sentence.ids))).all(1, keepdim=True)

    @property
    def losses(self) -> Float[Tensor, "rows aim"]:
        """Mean squared error of every sentence from every aim."""
        return self._table[:, : len(self.aims)]

    def changed(self, row: Ids) -> list[int]:
        """The positions at which a sentence differs from the original."""
        return [at for at, (new, old) in enumerate(zip(row, self.sentence.ids, strict=True)) if new != old]

    def singles(self) -> dict[int, tuple[int, int]]:
        """By number, the sentences that differ from the original in one word: its position, and the token there."""
        found = {number: self.changed(row) for number, row in enumerate(self.rows)}
        return {number: (at[0], self.rows[number][at[0]]) for number, at in found.items() if len(at) == 1}

    def of(self, aim: int, numbers: Sequence[int]) -> list[float]:
        """The losses of some sentences for one aim."""
        return self.losses[list(numbers), aim].tolist()

    def moved(self, name: str) -> Float[Tensor, " rows"]:
        """Root mean square distance of every sentence from the original at a hook."""
        return self._table[:, len(self.aims) + self.names.index(name)]

    def find(self, row: Ids) -> int | None:
        """The number of a sentence, None where it was not measured (its text does not tokenize back to it)."""
        return self._known.get(row)

    def best(self) -> list[int]:
        """For every aim the number of the nearest real sentence; the original where it is as near."""
        return [int(column.argmin()) for column in self.losses.masked_fill(~self._real(), torch.inf).T]

    def turning(self) -> list[float]:
        """For every aim the least factor of its change at which another real sentence is as near as the original;
        infinite where none ever is.

        A sentence whose difference from the original is w is as near to f times a change c where |w|^2 = 2 f (w . c).
        """
        square, product = self._products()
        real = self._real() & (product > 0) & (square > 0)
        return torch.where(real, square / (2 * product), torch.inf).min(0).values.tolist()

    def rescale(self, factors: Sequence[float]) -> None:
        """Multiply every aim's change by its factor; what was measured stays measured."""
        square, product = self._products()
        factor = torch.tensor(factors, dtype=torch.float64)
        aimed = self._aimed()
        losses = (square - 2 * factor * product + factor.square() * aimed).clamp_min(0) / self._sizes()
        self._table = torch.cat([losses, self._table[:, len(self.aims) :]], 1)
        self.aims = [MovedTarget(aim.name, aim.change * f) for aim, f in zip(self.aims, factors, strict=True)]
        self._restack()

    def _products(self) -> tuple[Float[Tensor, "rows aim"], Float[Tensor, "rows aim"]]:
        """Of every sentence's difference w from the original and every aim's change c: |w|^2 and w . c."""
        moved = {name: self.moved(name).square() for name in self.names}
        square = torch.stack([moved[aim.name] for aim in self.aims], dim=1) * self._sizes()
        return square, (square + self._aimed() - self.losses * self._sizes()) / 2

    def _aimed(self) -> Float[Tensor, " aim"]:
        return torch.stack([aim.change.double().square().sum() for aim in self.aims]).cpu()

    def _sizes(self) -> Float[Tensor, " aim"]:
        return torch.tensor([float(aim.change.numel()) for aim in self.aims], dtype=torch.float64)

    def change(self, number: int, name: str) -> Float[Tensor, "pos unit"]:
        """One sentence's activation, run alone, minus the original's."""
        with torch.no_grad():
            return self._read(self._ids([self.rows[number]]))[name][0] - self.origin[name][0]

    def restored(self, number: int, name: str) -> dict[int, Float[Tensor, " unit"]]:
        """What every changed word did to its own activation in a sentence: that, minus the activation in its place of
        the same sentence with the original word put back. By position.

        The original sentence would not do to compare with: in the upper layers a word takes on what the other changed
        words mean. (The sentences with a word put back are read, not measured: they need not tokenize back.)
        """
        row, ids = self.rows[number], self.sentence.ids
        places = self.changed(row)
        if not places:
            return {}
        back = [(*row[:at], ids[at], *row[at + 1 :]) for at in places]
        with torch.no_grad():
            found = self._read(self._ids([row, *back]))[name]
        return {at: found[0, at] - found[1 + i, at] for i, at in enumerate(places)}

    def _ids(self, rows: Sequence[Ids]) -> Tensor:
        return torch.tensor(rows, device=self.host.device)

    def exact(self, number: int, aim: int) -> float:
        """The mean squared error of one sentence from one aim, run alone and subtracted directly."""
        gap = self.change(number, self.aims[aim].name) - self.aims[aim].change
        return float(gap.double().square().mean())
