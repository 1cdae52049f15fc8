"""What a reconstruction must meet: the numbers of a recorded or edited activation, and the frame of the sentence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream._errors import require
from tl_dream.hosts import Host
from tl_dream.models import forward
from tl_dream.objectives import Objective, _of_head
from tl_dream.prompts import Sentence
from tl_dream.rows import Rows
from tl_dream.scoring import evaluate

BATCH_TOKENS = 2048
"""Tokens of real sentences scored in one forward pass."""


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
        tolerance: what numerical precision allows, as a share of the scale.
        whole: whether all positions and units are covered.
    """

    goal: Objective
    name: str
    sentence: Sentence
    pos: tuple[int, ...]
    units: tuple[int, ...] | None
    values: Float[Tensor, "n unit"]
    scale: float
    tolerance: float
    whole: bool

    def chosen(self, activation: Tensor) -> Float[Tensor, "batch n unit"]:
        """What of an activation the target covers, in float32 or wider."""
        found = _of_head(activation, self.name, None)
        found = found if self.units is None else found[..., list(self.units)]
        return found[:, list(self.pos)].to(self.values.dtype)

    def fill(self, host: Host, tokens: Int[Tensor, "batch free"]) -> Int[Tensor, "batch pos"]:
        """The sentence with these tokens at its free positions."""
        ids = torch.tensor(self.sentence.ids, device=host.device).repeat(len(tokens), 1)
        ids[:, list(self.sentence.free)] = tokens
        return ids

    def rows(self, host: Host, count: int) -> Rows:
        """What an objective must know of `count` such sentences."""
        return Rows.of(host, [self.sentence] * count)

    def score(
        self,
        host: Host,
        ids: Int[Tensor, "batch pos"],
        embeddings: Float[Tensor, "batch pos d_model"] | None = None,
    ) -> Float[Tensor, " batch"]:
        """Minus the mean squared error of rows, in batches of bounded size; soft rows in one, with their graph."""
        if embeddings is not None:
            return evaluate(host, self.goal, ids, self.rows(host, len(ids)), embeddings=embeddings)
        size = max(1, BATCH_TOKENS // ids.shape[1])
        with torch.no_grad():
            parts = [evaluate(host, self.goal, part, self.rows(host, len(part))) for part in ids.split(size)]
        return torch.cat(parts)

    @torch.no_grad()
    def errors(self, host: Host, ids: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch n"]:
        """At every position covered the root mean square over its units of the difference, as a share of the scale."""
        size = max(1, BATCH_TOKENS // ids.shape[1])
        parts = []
        for part in ids.split(size):
            found = self.chosen(forward(host, part, [self.name])[self.name])
            parts.append((found - self.values).square().mean(2).sqrt() / self.scale)
        return torch.cat(parts)


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
        isinstance(length, int) and room < length <= host.n_ctx,
        f"a length of {length!r} tokens is impossible: a sentence of {host.name} has {room + 1} to {host.n_ctx}, the "
        f"{room} special ones at its ends included",
    )
    front = next((i for i, (a, b) in enumerate(zip(bare, word, strict=False)) if a != b), room)
    ids = (*bare[:front], *[0] * (length - room), *bare[front:])
    free = tuple(range(front, front + length - room))
    return masked(host, Sentence("", ids, (), tuple(i not in free for i in range(length)), free))


def masked(host: Host, sentence: Sentence) -> Sentence:
    """The sentence without its words: every free position holds [MASK], or whatever the tokenizer has instead."""
    tokenizer = host.vocabulary.tokenizer
    filling = next((i for i in (tokenizer.mask_token_id, tokenizer.unk_token_id) if i is not None), 0)
    ids = tuple(int(filling) if i in sentence.free else token for i, token in enumerate(sentence.ids))
    return Sentence("", ids, host.vocabulary.tokens(ids), sentence.special, sentence.free)


def shape_at(host: Host, name: str) -> tuple[int, ...]:
    """The shape of a hook's activation for one position: (d,) or (head, d_head).

    Raises:
        DreamError: a hook without positions, or one that does not depend on the tokens.
    """
    length = len(host.vocabulary.encode("")) + 2
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
    return first[2:]
