"""BERT's blocks for many tokens at one position of a sentence, computed only where they differ and are read.

A screen, not a result: `token_search` measures how far it is off and scores its shortlist with the model itself. In the
first block the rows of unchanged tokens keep their Q, K and V, and one changed key moves a softmax in closed form; the
other blocks are `bert_trunk`'s, in a narrow dtype where that is faster. A coarse screen moves only the rows that are
read and those near the changed one, and holds all others at their mean: where the changed row itself is read, that is
off by some hundredths of the scores' spread, for a small part of the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from tl_dream.models import BATCH_TOKENS, POINTS, BertBlocks, Block, Host, forward, in_batches, normed

ROW_POINTS = tuple(point for point in POINTS if point != "pattern")
"""What these rows give: all but attention patterns, of which block 0's closed form has none."""

SAMPLE = 64
"""Tokens whose mean stands for rows that hold still."""


class IncrementalBert:
    """The activations at `hooks` for any token at one position of a sentence.

    Args:
        ids: the sentence.
        pos: the position whose token changes.
        hooks: from `can_stand_in`, of `ROW_POINTS`.
        read: the positions that are read in the deepest block; all others are NaN there.
        narrow: dtype of the matrix products.
        near: only the rows that are read move, and those so near to the changed one; the others are NaN. None: all
            move.
        batch_tokens: tokens in one pass at most, to learn how the others hold still.
    """

    @torch.no_grad()
    def __init__(
        self,
        host: Host,
        ids: Int[Tensor, " pos"],
        pos: int,
        hooks: Mapping[str, tuple[int, str]],
        read: Sequence[int],
        narrow: torch.dtype,
        near: int | None = None,
        batch_tokens: int = BATCH_TOKENS,
    ) -> None:
        self.pos, self.hooks = pos, dict(hooks)
        self.depth = max(layer for layer, _ in hooks.values())
        self.length = len(ids)
        self._math = BertBlocks(host, self.depth, narrow)
        self._wide = self._math.wide
        self._W_E = host.W_E
        self._read = torch.tensor(sorted(read), device=host.device)
        names = [host.resolve(name) for name in ("pos_embed", "token_type_embed", "full_embed")]
        got = forward(host, ids[None], names)
        places, types, base = (got[name].reshape(-1, self._W_E.shape[1]).to(self._wide) for name in names)
        self._shift = places[pos % len(places)] + types[pos % len(types)]
        self._base = base
        q, k, v = self._math.split(self._math.linear(base, self._math.blocks[0].qkv).to(self._wide))
        others = [i for i in range(self.length) if i != pos]
        self._q, self._k, self._v = q, k, v
        self._other_k, self._other_v = k[others], v[others]
        scores = torch.einsum("rhd,khd->rhk", q, self._other_k) * self._math.scale
        self._lse = scores.logsumexp(-1)
        self._z = torch.einsum("rhk,khd->rhd", scores.softmax(-1), self._other_v)
        self._filled: dict[str, Tensor] = {}
        self._rows = torch.arange(self.length, device=host.device)
        self._still: list[tuple[Tensor, Tensor]] | None = None
        if near is not None and self.depth:
            moving = {*read, *range(max(0, pos - near), min(self.length, pos + near + 1))}
            self._rows = torch.tensor(sorted(moving), device=host.device)
            self._still = self._held_still(host, ids, batch_tokens)

    def _held_still(self, host: Host, ids: Tensor, batch_tokens: int) -> list[tuple[Tensor, Tensor]]:
        """For every block after the first the keys and values, [head, row, d_head], of the mean of the rows that hold
        still, over tokens from all of the vocabulary."""
        held = [i for i in range(self.length) if i not in self._rows.tolist()]
        names = {host.resolve("block_out", layer): (layer, "block_out") for layer in range(self.depth)}
        whole = IncrementalBert(host, ids, self.pos, names, range(self.length), self._wide)
        sample = torch.linspace(0, host.d_vocab - 1, SAMPLE, device=host.device).long()
        sums = in_batches(
            sample,
            max(1, batch_tokens // self.length),
            lambda part: {name: value.sum(0) for name, value in whole(part).items()},
        )
        found = []
        for layer, name in enumerate(names, 1):
            mean = torch.stack([part[name] for part in sums]).sum(0) / SAMPLE
            _, k, v = self._math.split(self._math.linear(mean[held], self._math.blocks[layer].qkv))
            found.append((k.transpose(0, 1).contiguous(), v.transpose(0, 1).contiguous()))
        return found

    @property
    def rows_run(self) -> int:
        """Positions a block computes for a token, at most."""
        return len(self._read) if self.depth == 0 else len(self._rows)

    @torch.no_grad()
    def __call__(self, tokens: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        """{full hook name: activation [batch, pos, ...]} with each of `tokens` at the position."""
        new = normed(self._W_E[tokens].to(self._wide) + self._shift, self._math.embed_norm)
        got: dict[tuple[int, str], Tensor] = {}
        x: Tensor = new
        for layer, block in enumerate(self._math.blocks):
            rows = self._read if layer == self.depth else self._rows
            keep = {point for at, point in self.hooks.values() if at == layer}
            if layer == 0:
                found = self._first(new, rows, keep)
            elif self._still is None:
                found = self._math.attend(x, block, rows, keep)
            else:
                found = self._among_still(x, block, torch.isin(self._rows, rows), *self._still[layer - 1])
            x = self._math.finish(block, found, keep, layer == self.depth)
            got |= {(layer, point): found[point] for point in keep}
        return {name: self._placed(name, got[key]) for name, key in self.hooks.items()}

    def _first(self, new: Tensor, rows: Tensor, keep: set[str]) -> dict[str, Tensor]:
        """Attention of block 0: every unchanged row keeps its query and all keys but one."""
        batch = len(new)
        q, k, v = self._math.split(self._math.linear(new, self._math.blocks[0].qkv).to(self._wide))
        x = self._base[rows].expand(batch, -1, -1)
        lse, old = self._lse[rows].expand(batch, -1, -1), self._z[rows].expand(batch, -1, -1, -1)
        at_key = torch.einsum("rhd,nhd->nrh", self._q[rows], k) * self._math.scale
        here = (rows == self.pos).nonzero().flatten()
        if len(here):  # the changed token's own query
            x, lse, old = x.clone(), lse.clone(), old.clone()
            scores = torch.einsum("nhd,khd->nhk", q, self._other_k) * self._math.scale
            x[:, here[0]] = new
            lse[:, here[0]] = scores.logsumexp(-1)
            old[:, here[0]] = torch.einsum("nhk,khd->nhd", scores.softmax(-1), self._other_v)
            at_key[:, here[0]] = (q * k).sum(-1) * self._math.scale
        found = {"x": x, "z": old.lerp(v[:, None], (at_key - lse).sigmoid()[..., None])}
        for point, base, row in (("q", self._q, q), ("k", self._k, k), ("v", self._v, v)):
            if point in keep:
                found[point] = base.expand(batch, *base.shape).clone()
                found[point][:, self.pos] = row
        if "block_in" in keep:
            found["block_in"] = self._base.expand(batch, -1, -1).clone()
            found["block_in"][:, self.pos] = new
        return found

    def _among_still(self, x: Tensor, block: Block, read: Tensor, keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        """Attention of the rows that move, those of them that are read, to one another and to those that hold still."""
        math, heads = self._math, len(keys)
        found = {"x": x if bool(read.all()) else x[:, read], "block_in": x}
        q, k, v = math.split(math.linear(x, block.qkv))
        found |= {"q": q[:, read], "k": k, "v": v}
        queries = found["q"].permute(2, 0, 1, 3)  # [head, batch, row, d_head]
        shape = queries.shape[1:3]
        still = (queries.flatten(1, 2) @ keys.transpose(1, 2)).unflatten(1, shape)
        moving = queries @ k.permute(2, 0, 3, 1)
        pattern = (torch.cat([still, moving], -1).to(self._wide) * math.scale).softmax(-1).to(math.narrow)
        to_still, to_moving = pattern.split([keys.shape[1], x.shape[1]], -1)
        z = (to_still.reshape(heads, -1, keys.shape[1]) @ values).unflatten(1, shape)
        found["z"] = (z + to_moving @ v.permute(2, 0, 1, 3)).permute(1, 2, 0, 3)
        return found

    def _placed(self, name: str, value: Tensor) -> Tensor:
        """Rows at their positions of the sentence, NaN where nothing was computed; the buffer is kept for the next
        batch."""
        if value.shape[1] == self.length:
            return value.to(self._wide)
        buffer = self._filled.get(name)
        if buffer is None or len(buffer) < len(value):
            shape = (len(value), self.length, *value.shape[2:])
            buffer = torch.full(shape, torch.nan, dtype=self._wide, device=value.device)
            self._filled[name] = buffer
        rows = self._read if value.shape[1] == len(self._read) else self._rows
        buffer[: len(value), rows] = value.to(self._wide)
        return buffer[: len(value)]
