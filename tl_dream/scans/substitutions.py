"""One sentence with other tokens at one position: exact scores, and screens that spare most of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream._arguments import is_whole, one_of, plain
from tl_dream._errors import require
from tl_dream.models import (
    PRECISIONS,
    Host,
    as_made,
    bf16_is_faster,
    can_stand_in,
    default_batch_tokens,
    in_batches,
    user_hooks,
)
from tl_dream.objectives import TOKENS, BatchContext, Objective, columns_read, evaluate, read_activations
from tl_dream.scans.incremental_bert import ROW_POINTS, IncrementalBert
from tl_dream.scans.screening import Scores
from tl_dream.text import Prompt, Sentence

NEARS = (0, 4)
"""Rows on either side of the changed one that move with it in the coarse screens, the others holding still: of 28 rows
that is a twentieth and a third of the work. What errs too much is left out, as when the read row is another."""


def read_place(host: Host, prompt: Any, pos: Any) -> tuple[Sentence, int]:
    """A sentence and one position of it.

    Raises:
        DreamError: none, or several.
    """
    sentence = host.vocabulary.read(prompt)
    pos = plain(pos)
    if pos is None:
        named = isinstance(prompt, Prompt) and prompt.free is not None
        require(
            named and len(sentence.free) == 1,
            f"which position? give pos= (one of {sentence.listing()}), or a Prompt with exactly one free position",
        )
        return sentence, sentence.free[0]
    require(
        is_whole(pos) or (isinstance(pos, str) and pos != "all"),
        f"pos = {pos!r}: give one position or one word",
    )
    return sentence, host.vocabulary.locate(sentence, pos)[0]


def built_in(objective: Objective) -> bool:
    """Whether all of an objective is made of the package's own parts: arithmetic on the positions it names, continuous
    in the activations. Of a function of the user's nothing is known: it may jump, or read a position only to compare it
    with a threshold. A sum plus a number no longer shows its parts, and counts as one."""
    if objective.terms:
        return all(built_in(term) for term in objective.terms)
    return not objective.equal_lengths and (objective.per_token is not None or TOKENS in objective.reads)


class Substitution:
    """Scores of a sentence with other tokens at one position.

    Args:
        pos: the position whose token is exchanged.
        batch_tokens: tokens a forward pass at most; None fits the device.
    """

    def __init__(
        self, host: Host, objective: Objective, sentence: Sentence, pos: int, batch_tokens: Any = None
    ) -> None:
        self.host, self.objective, self.sentence, self.pos = host, objective, sentence, pos
        self._tokens = default_batch_tokens(host, batch_tokens)
        self._ids = torch.tensor(sentence.ids, device=host.device)
        self._rows: dict[int, BatchContext] = {}

    def _rows_of(self, count: int) -> BatchContext:
        """The sentence `count` times; kept, because positions are looked up row by row."""
        if count not in self._rows:
            self._rows = {n: rows for n, rows in self._rows.items() if n == 1}
            self._rows[count] = BatchContext.of(self.host, [self.sentence]).repeat(count)
        return self._rows[count]

    def ids(self, tokens: Int[Tensor, " candidate"]) -> Int[Tensor, "candidate pos"]:
        """The sentence with each of the tokens in place."""
        ids = self._ids.repeat(len(tokens), 1)
        ids[:, self.pos] = tokens.to(ids.device)
        return ids

    @torch.no_grad()
    def exact(self, tokens: Int[Tensor, " candidate"]) -> Float[Tensor, " candidate"]:
        """The plain loop: one sentence, one forward pass, in the model's own precision. On a GPU, where a pass takes as
        long whatever few rows it has, all in one."""
        if self.host.device.type != "cpu":
            return self.batched(tokens)
        one = self._rows_of(1)
        return torch.cat([evaluate(self.host, self.objective, ids[None], one).cpu() for ids in self.ids(tokens)])

    @torch.no_grad()
    def batched(
        self,
        tokens: Int[Tensor, " candidate"],
        tick: Callable[[int], object] | None = None,
        narrow: torch.dtype | None = None,
    ) -> Float[Tensor, " candidate"]:
        """The model itself on many at once; with `narrow`, matrix products run in that dtype (autocast)."""

        def work(part: Tensor) -> Tensor:
            rows = self._rows_of(len(part))
            if narrow is None:
                return evaluate(self.host, self.objective, self.ids(part), rows).cpu()
            with torch.autocast(self.host.device.type, dtype=narrow):
                activations = read_activations(self.host, self.objective.reads, self.ids(part))
            own = self.host.W_E.dtype
            wide = {read: value.to(own) if read != TOKENS else value for read, value in activations.items()}
            return self.objective(wide, rows).cpu()

        return torch.cat(in_batches(tokens, max(1, self._tokens // len(self._ids)), work, tick))

    def screens(self, precision: str = "auto") -> tuple[str, list[Callable[..., Tensor]]]:
        """How to search before `exact`, and screens from coarse to fine.

        "auto" goes through a narrow dtype only where the score is known to be continuous: an error measured on some
        tokens says nothing of a jump that another one makes. So not for functions of the user's, nor for a model with
        hooks or exchanged modules.

        Raises:
            DreamError: an unknown precision.
        """
        one_of("precision", precision, PRECISIONS)
        own = self.host.W_E.dtype
        asked = precision == "bf16"
        plain = as_made(self.host.model) and not user_hooks(self.host.model)
        smooth = precision == "auto" and built_in(self.objective) and plain
        fast = asked or (smooth and bf16_is_faster(self.host.device))
        narrow = torch.bfloat16 if fast and own in (torch.float32, torch.float64) else own
        nears = NEARS if precision != "full" and built_in(self.objective) else ()
        reusing = self._reusing([own] if narrow == own else [narrow, own], nears)
        if reusing:
            if self._agrees(reusing[-1]):
                return f"{_name(narrow)}, rows that stay the same reused", reusing
            narrow = narrow if asked else own  # a module was exchanged, for one that may do anything
        if narrow == own:
            return f"{_name(narrow)}, batches", [self.batched]
        return f"{_name(narrow)}, autocast", [
            lambda tokens, tick=None: self.batched(tokens, tick, narrow),
            self.batched,
        ]

    @torch.no_grad()
    def _reusing(self, dtypes: Sequence[torch.dtype], nears: Sequence[int]) -> list[Callable[..., Tensor]]:
        """Screens that compute only what a changed token can change and the objective reads, one a dtype, and before
        them coarse ones that hold far rows still; none where those can't stand in for the model."""
        if TOKENS in self.objective.reads:
            return []
        names = {read: read.resolve(self.host) for read in self.objective.reads}
        hooks = can_stand_in(self.host, [name for group in names.values() for name in group], ROW_POINTS)
        if hooks is None:
            return []
        positions = self._positions_read()
        own = self.host.W_E.dtype

        def screen(dtype: torch.dtype, near: int | None = None) -> Callable[..., Tensor]:
            rows = IncrementalBert(self.host, self._ids, self.pos, hooks, positions, dtype, near, self._tokens)

            def work(part: Tensor) -> Tensor:
                got = rows(part.to(self.host.device))
                activations = {
                    read: (torch.stack([got[n] for n in group]) if read.layer == "all" else got[group[0]]).to(own)
                    for read, group in names.items()
                }
                self.host.meter.add(len(part), rows.rows_run, rows.depth + 1, False)
                return self.objective(activations, self._rows_of(len(part))).cpu()

            size = max(1, self._tokens // rows.rows_run)
            return lambda tokens, tick=None: torch.cat(in_batches(tokens, size, work, tick))

        deep = any(layer for layer, _ in hooks.values())
        moving = {near: {*positions, *range(self.pos - near, self.pos + near + 1)} for near in nears if deep}
        few = [near for near, rows in moving.items() if len(rows) <= len(self._ids) / 2]
        return [*(screen(dtypes[0], near) for near in few), *(screen(dtype) for dtype in dtypes)]

    def _agrees(self, scores: Callable[..., Tensor]) -> bool:
        """Whether a screen gives the model's own scores on some tokens; it does not where a module was exchanged."""
        few = torch.linspace(0, self.host.d_vocab - 1, 4).long()
        want, got = self.exact(few).double(), scores(few).double()
        scale = want.abs().max().clamp_min(1e-6)
        return bool(((want - got).abs() <= 1e-3 * scale).all())

    def _positions_read(self) -> list[int]:
        """The positions whose activations the score depends on. A function of the user's may read any, and fluency
        reads words besides."""
        if not built_in(self.objective) or TOKENS in self.objective.reads:
            return list(range(len(self._ids)))
        columns = columns_read([self.objective], self._rows_of(1))
        return sorted({place for own in columns for place in own[0].tolist()})


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def numbered(tokens: Tensor, function: Callable[..., Tensor], tick: Callable[[int], object] | None = None) -> Scores:
    """Scores of candidates, numbers into `tokens`."""
    return lambda numbers: function(tokens[numbers], tick) if tick is not None else function(tokens[numbers])
