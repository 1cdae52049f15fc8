"""What `reconstruct_layers` and `kept_tokens` give back: a sentence from every layer, and what damage leaves of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tl_dream._arguments import check_places, check_that
from tl_dream._errors import require
from tl_dream.results.base import Cost, SavedResult, cut_short, frame_of, one_line, readable, table
from tl_dream.results.reconstructions import Reconstruction, Swap

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class LayerReconstructions(SavedResult):
    """One sentence read back from several layers (the article's Figure 5).

    Attributes:
        text: the sentence.
        damage: what was done to every target before (see `damaged`); None for nothing.
        layers: a reconstruction a layer.
        stopped: "complete", or why layers are missing, the last one perhaps not read to its end: "interrupted" or
            "failure".
    """

    text: str
    damage: str | None
    layers: tuple[Reconstruction, ...]
    stopped: str = "complete"

    kind = "layer_reconstructions"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(bool(self.layers), "layers", self.layers, "one or more")

    @property
    def by_layer(self) -> tuple[Reconstruction, ...]:
        """The layers from below, as they are printed and drawn."""
        return tuple(sorted(self.layers, key=lambda one: -1 if one.layer is None else one.layer))

    @property
    def seconds(self) -> float:
        """Wall-clock time of all layers."""
        return sum(layer.cost.seconds for layer in self.layers)

    def __str__(self) -> str:
        first = self.layers[0]
        rows = [(str(r.hook if r.layer is None else r.layer), *r.cells.values(), r.text) for r in self.by_layer]
        notes = [f"{first.short_hook} on {first.model}: {one_line(self.text)}{cut_short(self.stopped)}"]
        if self.damage is not None:
            notes.append(f"every target damaged first: {self.damage}")
        notes.append(table(("layer", *first.cells, "read back"), rows))
        return "\n".join(notes)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a layer, with the columns of `Reconstruction.summary`."""
        return frame_of([one.summary() | {"tokens": [*map(readable, one.tokens)]} for one in self.layers])


@dataclass(frozen=True)
class Kept:
    """What was read back from one damaged activation.

    Attributes:
        text: number of the sentence.
        layer, damage: where, and what was done to the target.
        total: tokens searched.
        right: of these, right in the blind search.
        kept: of these, in the text that fits the damaged target best, wherever the search for it began.
        missed: whether the blind search ended at a text that fits worse than another that is known.
        truth_gap: how far the true text's activation is from the damaged target, as a share of the target's scale.
        gap: the same of the text that fits best.
        text_found: what was read back.
        seconds: of both searches and the measurement of other tokens.
        alternatives: at every searched position of the text that fits best the other tokens that cost least there,
            cheapest first (five at most).
    """

    text: int
    layer: int
    damage: str
    total: int
    right: int
    kept: int
    missed: bool
    truth_gap: float
    gap: float
    text_found: str
    seconds: float
    alternatives: tuple[tuple[Swap, ...], ...] = ()

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(0 < self.total and 0 <= min(self.right, self.kept), "total", self.total, "a number of tokens")


@dataclass(frozen=True)
class KeptTokens(SavedResult):
    """Which share of its tokens a layer keeps under damage, over several sentences.

    Attributes:
        model: name of the model and its backend.
        hook: short name of the hook.
        texts: the sentences.
        records: one a sentence, layer and damage.
        seed: of the search, and with the sentence's number of the damage.
        cost: forwards, forward-tokens, seconds.
        stopped: "complete", or why records are missing: "interrupted" or "failure".
    """

    model: str
    hook: str
    texts: tuple[str, ...]
    records: tuple[Kept, ...]
    seed: int
    cost: Cost
    stopped: str = "complete"

    kind = "kept_tokens"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_places("text", [record.text for record in self.records], len(self.texts))
        found = {(record.layer, record.damage) for record in self.records}
        check_that(
            len(found) == len(self.layers) * len(self.damages), "records", sorted(found), "of every layer and damage"
        )

    @property
    def layers(self) -> tuple[int, ...]:
        """In the order asked for."""
        return tuple(dict.fromkeys(record.layer for record in self.records))

    @property
    def damages(self) -> tuple[str, ...]:
        """In the order asked for."""
        return tuple(dict.fromkeys(record.damage for record in self.records))

    def share(self, layer: int, damage: str, what: str = "kept") -> float:
        """The share of all sentences' tokens that are "kept", or "right" in the blind search."""
        require(what in ("kept", "right"), f'what = {what!r}: give "kept" or "right"')
        found = [record for record in self.records if (record.layer, record.damage) == (layer, damage)]
        require(bool(found), f"no record of layer {layer!r} under {damage!r}: there are {self.layers}, {self.damages}")
        return sum(getattr(record, what) for record in found) / sum(record.total for record in found)

    def __str__(self) -> str:
        total = sum({record.text: record.total for record in self.records}.values())
        known = {(record.layer, record.damage) for record in self.records}
        rows = [
            (d, *(f"{self.share(layer, d):.1%}" if (layer, d) in known else "-" for layer in self.layers), "")
            for d in self.damages
        ]
        missed = sum(record.missed for record in self.records)
        return "\n".join(
            [
                f"tokens kept by {self.hook} of {self.model}: {len(self.texts)} sentence(s), {total} tokens",
                table(("damage", *(f"layer {layer}" for layer in self.layers), ""), rows),
                f"the blind search ended at a text that fits worse in {missed} of {len(self.records)} cases",
                f"{self.cost}; seed {self.seed}{cut_short(self.stopped)}",
            ]
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a record; the other tokens are in `alternatives_frame`."""
        rows = [asdict(record) for record in self.records]
        return frame_of([{key: row[key] for key in row if key != "alternatives"} for row in rows])

    def alternatives_frame(self) -> pandas.DataFrame:
        """A pandas frame of the tokens that could replace a kept one at the least cost, one row each, cheapest first
        at every position: text, layer, damage, pos, token, other, cost (see `Swap.cost`), error."""
        rows = [
            (kept.text, kept.layer, kept.damage, s.pos, readable(s.token), readable(s.other), s.cost, s.error)
            for kept in self.records
            for swaps in kept.alternatives
            for s in swaps
        ]
        return frame_of(rows, ("text", "layer", "damage", "pos", "token", "other", "cost", "error"))
