"""What a reconstruction must meet: the numbers of a recorded or edited activation, and the frame of the sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream._errors import require
from tl_dream.models import Host, forward, units_of
from tl_dream.objectives import Objective
from tl_dream.search import Look, Search
from tl_dream.text import Sentence


@dataclass(frozen=True, eq=False)
class Differences:
    """How far rows of tokens are from a target.

    Attributes:
        errors: at every position covered the root mean square over its units, as a share of the target's scale.
        beyond: of the worst position, the same of what the rounding of the target itself does not explain.
        peak: the largest of a single number in the same way, as a share of the scale, or of the number where that is
            larger.
    """

    errors: Float[Tensor, "batch n"]
    beyond: Float[Tensor, " batch"]
    peak: Float[Tensor, " batch"]


@dataclass(frozen=True)
class Target:
    """The numbers that an activation must equal, and the sentence around the free positions.

    Attributes:
        goal: minus the mean squared error (`match`).
        name: full name of the hook.
        sentence: the frame; what its tokens are at free positions means nothing.
        pos: the positions covered.
        units: the units covered, heads counted through; None for all of them.
        values: a row a position, a column a unit.
        scale: root mean square of the values, in the hook's units.
        tolerance: what the arithmetic may differ by in the root mean square over the units of a position, as a share
            of the scale.
        single: the same of one number, as a share of the scale, or of the number where that is larger.
        rounded: what each number may have been rounded by when the target was stored, as a share of itself; 0 where
            its dtype is no narrower than the model's.
    """

    goal: Objective
    name: str
    sentence: Sentence
    pos: tuple[int, ...]
    units: tuple[int, ...] | None
    values: Float[Tensor, "n unit"]
    scale: float
    tolerance: float
    single: float
    rounded: float

    @property
    def missing(self) -> tuple[int, ...]:
        """Free positions without a row in the target."""
        return tuple(i for i in self.sentence.free if i not in self.pos)

    def columns(self, activation: Tensor) -> Float[Tensor, "batch pos unit"]:
        """Of an activation the units that the target covers, in float32 or wider."""
        found = units_of(activation, self.name, None)
        return (found if self.units is None else found[..., list(self.units)]).to(self.values.dtype)

    def chosen(self, activation: Tensor) -> Float[Tensor, "batch n unit"]:
        """The same at the positions that the target covers."""
        return self.columns(activation)[:, list(self.pos)]

    def fill(self, host: Host, tokens: Int[Tensor, "batch free"]) -> Int[Tensor, "batch pos"]:
        """The sentence with these tokens at its free positions."""
        ids = torch.tensor(self.sentence.ids, device=host.device).repeat(len(tokens), 1)
        ids[:, list(self.sentence.free)] = tokens
        return ids

    def searched(self, host: Host, sentence: Sentence | None = None) -> Int[Tensor, " free"]:
        """The tokens of a sentence (None: the frame's own) at the free positions."""
        ids = (sentence or self.sentence).ids
        return torch.tensor([ids[i] for i in self.sentence.free], device=host.device)

    def loss(self, errors: Float[Tensor, "*rows n"]) -> Float[Tensor, "*rows"]:
        """The mean squared error, in the hook's units, from every position's share of the scale."""
        return (errors.double() * self.scale).square().mean(-1)

    def matched(self, found: Differences) -> Bool[Tensor, " batch"]:
        """Whether differences from the target are numerical precision."""
        return (found.beyond <= self.tolerance) & (found.peak <= self.single)

    def compare(self, host: Host, tokens: Int[Tensor, "batch free"], *, patient: bool = False) -> Search[Differences]:
        """How far the activations of real tokens at the free positions are from the target."""
        texts = list(map(tuple, self.fill(host, tokens).tolist()))
        answer = yield Look(host, (self.name,), texts, self._differences, patient=patient)
        found = torch.tensor(answer.values, dtype=torch.float64)
        return Differences(found[:, :-2], found[:, -2], found[:, -1])

    def _differences(self, found: Mapping[str, Tensor], _: object) -> Float[Tensor, "batch number"]:
        gaps = (self.chosen(found[self.name]) - self.values) / self.scale
        errors = gaps.square().mean(2).sqrt()
        beyond, largest = errors, self.values.abs()
        if self.rounded:
            # whatever was rounded to the target lies within half a step of every number
            gaps = (gaps.abs() - self.rounded * largest / self.scale).clamp_min(0)
            beyond = gaps.square().mean(2).sqrt()
        peak = (gaps.abs() * self.scale / largest.clamp_min(self.scale)).flatten(1).amax(1)
        return torch.cat([errors, beyond.amax(1, keepdim=True), peak[:, None]], 1)

    def slopes(
        self,
        host: Host,
        embeddings: Float[Tensor, "batch free d_model"],
        value: Callable[[Float[Tensor, "some n unit"], list[int]], Float[Tensor, " some"]],
    ) -> Search[tuple[Float[Tensor, " batch"], Float[Tensor, "batch free d_model"]]]:
        """A value of the numbers that soft sentences have where the target has its own, and its gradient.

        Args:
            embeddings: at the free positions.
            value: of some of the rows, and their numbers.
        """
        free = list(self.sentence.free)
        frame = host.W_E[list(self.sentence.ids)].to(self.values.dtype)
        rows = frame.repeat(len(embeddings), 1, 1)
        rows[:, free] = embeddings.to(rows)

        def read(found: Mapping[str, Tensor], which: list[int]) -> Float[Tensor, "some 1"]:
            return value(self.chosen(found[self.name]), which)[:, None]

        answer = yield Look(host, (self.name,), [self.sentence.ids] * len(rows), read, soft=list(rows))
        values = torch.tensor([some[0] for some in answer.values]).to(self.values)
        return values, torch.stack(answer.pulls)[:, free]

    def error(
        self, found: Float[Tensor, "batch n unit"], stretch: Float[Tensor, "unit unit"] | None = None
    ) -> Float[Tensor, " batch"]:
        """The mean squared error, as a share of the scale's square; under a map of the units if there is one."""
        gaps = (found - self.values) / self.scale
        return (gaps if stretch is None else gaps @ stretch).square().mean((1, 2))


def record(host: Host, sentence: Sentence, name: str) -> Tensor:
    """The activation of a sentence at a hook, [pos, ...], as `run_with_cache` gives it for one text."""
    with torch.no_grad():
        ids, _ = host.pad([sentence.ids])
        return forward(host, ids, [name])[name][0].detach().clone()


def frame(host: Host, length: int) -> Sentence:
    """A sentence of `length` tokens: the special ones at its ends, and free positions between them.

    Raises:
        DreamError: a length without room for one token, or beyond what the model reads.
    """
    vocabulary = host.vocabulary
    bare, word = vocabulary.encode(""), vocabulary.encode("a")
    room = len(bare)
    require(
        room < length <= host.n_ctx,
        f"a length of {length!r} tokens is impossible: a sentence of {host.name} has {room + 1} to {host.n_ctx}, the "
        f"{room} special ones at its ends included",
    )
    front = next((i for i, (a, b) in enumerate(zip(bare, word, strict=False)) if a != b), room)
    ids = (*bare[:front], *[0] * (length - room), *bare[front:])
    free = tuple(range(front, front + length - room))
    return masked(host, Sentence("", ids, (), tuple(i not in free for i in range(length)), free))


def masked(host: Host, sentence: Sentence) -> Sentence:
    """The sentence without its words: every free position holds [MASK], or whatever the tokenizer has instead."""
    unknown_id = host.vocabulary.tokenizer.unk_token_id
    filling = next((i for i in (host.vocabulary.mask_id, unknown_id) if i is not None and i < host.d_vocab), 0)
    ids = tuple(int(filling) if i in sentence.free else token for i, token in enumerate(sentence.ids))
    return Sentence("", ids, host.vocabulary.tokens(ids), sentence.special, sentence.free)


def shape_at(host: Host, name: str, least: int = 0) -> tuple[int, ...]:
    """The shape of a hook's activation for one position: (d,) or (head, d_head).

    Args:
        least: positions that the sentence must have.

    Raises:
        DreamError: a hook without positions, or one that does not depend on the tokens.
    """
    key = f"shape {name} {least}"
    if key in host.tables:
        return host.tables[key]
    length = max(len(host.vocabulary.encode("")) + 2, min(least, host.n_ctx - 1))
    shapes = []
    for size in (length, length + 1):
        sentence = frame(host, size)
        ids, _ = host.pad([sentence.ids])
        with torch.enable_grad():
            embeddings = host.W_E[ids].requires_grad_()
            found = forward(host, ids, [name], embeddings=embeddings)[name]
            pull = torch.autograd.grad(found.sum(), embeddings, allow_unused=True) if found.requires_grad else (None,)
        require(
            pull[0] is not None,
            f"the hook {name!r} does not depend on the tokens: nothing can be read back from it",
        )
        shapes.append(tuple(found.shape))
    first, second = shapes
    require(
        len(first) in (3, 4) and first[1] == length and first[2:] == second[2:],
        f"the hook {name!r} (shape {first} for {length} tokens) has no row of units for every position: give a hook of "
        "shape [batch, pos, units] or [batch, pos, head, units], such as block_out, attn_out, z or mlp_post",
    )
    host.tables[key] = first[2:]
    return host.tables[key]
