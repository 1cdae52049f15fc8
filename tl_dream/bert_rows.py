"""BERT's blocks for many tokens at one position of a sentence, computed only where they differ and are read.

A screen, not a result: `token_search` measures how far it is off and scores its shortlist with the model itself. In the
first block the rows of unchanged tokens keep their Q, K and V, and one changed key moves a softmax in closed form; in
the last block only the rows that are read are computed, and where they are few, neither keys nor values of the others.
Matrix products may run in a narrow dtype; the residual stream, softmax and LayerNorm stay wide.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from tl_dream.hosts import hooked
from tl_dream.models import Host, forward

POINTS = (
    "block_in",
    "q",
    "k",
    "v",
    "z",
    "attn_out",
    "resid_mid",
    "mlp_pre",
    "mlp_post",
    "mlp_out",
    "resid_post",
    "block_out",
)
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": torch.ops.aten.gelu_, "relu": torch.relu_}
"""In place: the MLP's middle is the largest tensor of a block, and to allocate it twice costs a tenth of the block."""


def covers(host: Host, hooks: Sequence[str]) -> dict[str, tuple[int, str]] | None:
    """{full hook name: (layer, point)} where these rows can stand in for the model: a BERT with nobody's hooks on it,
    read at known points of its blocks. None elsewhere."""
    known = not host.causal and getattr(host.model.cfg, "act_fn", None) in ACTIVATIONS and not hooked(host.model)
    if not known:
        return None
    points = {host.resolve(point, layer): (layer, point) for layer in range(host.n_layers) for point in POINTS}
    return {name: points[name] for name in hooks} if all(name in points for name in hooks) else None


Norm = tuple[Tensor, Tensor, float]


def _norm(module: Any, dtype: torch.dtype) -> Norm:
    return module.w.detach().to(dtype), module.b.detach().to(dtype), float(module.eps)


def _normed(x: Tensor, norm: Norm) -> Tensor:
    weight, bias, eps = norm
    return F.layer_norm(x, weight.shape, weight, bias, eps)


@dataclass(frozen=True)
class Block:
    """One block's weights, matrices as `F.linear` takes them."""

    qkv: tuple[Tensor, Tensor]
    out: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    ln1: Norm
    ln2: Norm

    @classmethod
    def of(cls, block: Any, narrow: torch.dtype, wide: torch.dtype) -> Block:
        attn, mlp = block.attn, block.mlp

        def pair(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
            return weight.detach().to(narrow).contiguous(), bias.detach().to(narrow)

        inputs = [w.transpose(1, 2).flatten(0, 1) for w in (attn.W_Q, attn.W_K, attn.W_V)]
        biases = [b.flatten() for b in (attn.b_Q, attn.b_K, attn.b_V)]
        return cls(
            qkv=pair(torch.cat(inputs), torch.cat(biases)),
            out=pair(attn.W_O.flatten(0, 1).T, attn.b_O),
            up=pair(mlp.W_in.T, mlp.b_in),
            down=pair(mlp.W_out.T, mlp.b_out),
            ln1=_norm(block.ln1, wide),
            ln2=_norm(block.ln2, wide),
        )


class ChangedRows:
    """The activations at `hooks` for any token at one position of a sentence.

    Args:
        ids: the sentence.
        pos: the position whose token changes.
        hooks: from `covers`.
        read: the positions that are read in the deepest block; all others are NaN there.
        narrow: dtype of the matrix products.
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
    ) -> None:
        model = host.model
        self.pos, self.hooks = pos, dict(hooks)
        self.depth = max(layer for layer, _ in hooks.values())
        self.length = len(ids)
        self._narrow = narrow
        self._wide = torch.float64 if host.W_E.dtype == torch.float64 else torch.float32
        self._W_E = host.W_E
        self._heads = int(model.cfg.n_heads)
        self._scale = float(model.cfg.d_head) ** -0.5
        self._activation = ACTIVATIONS[model.cfg.act_fn]
        self._read = torch.tensor(sorted(read), device=host.device)
        self._embed_norm = _norm(model.embed.ln if hasattr(model.embed, "ln") else model.embed_ln, self._wide)
        self._blocks = [Block.of(model.blocks[i], narrow, self._wide) for i in range(self.depth + 1)]
        names = [host.resolve(name) for name in ("pos_embed", "token_type_embed", "full_embed")]
        got = forward(host, ids[None], names)
        places, types, base = (got[name].reshape(-1, self._W_E.shape[1]).to(self._wide) for name in names)
        self._shift = places[pos % len(places)] + types[pos % len(types)]
        self._base = base
        q, k, v = self._split(self._linear(base, self._blocks[0].qkv).to(self._wide))
        others = [i for i in range(self.length) if i != pos]
        self._q, self._k, self._v = q, k, v
        self._other_k, self._other_v = k[others], v[others]
        scores = torch.einsum("rhd,khd->rhk", q, self._other_k) * self._scale
        self._lse = scores.logsumexp(-1)
        self._z = torch.einsum("rhk,khd->rhd", scores.softmax(-1), self._other_v)
        self._filled: dict[str, Tensor] = {}

    def _linear(self, x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        return F.linear(x.to(self._narrow), *weights)

    def _split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """[..., 3 x heads x d_head] as q, k and v, each [..., heads, d_head]."""
        return qkv.unflatten(-1, (3, self._heads, -1)).unbind(-3)

    @property
    def rows_run(self) -> int:
        """Positions a block computes for a token, at most."""
        return len(self._read) if self.depth == 0 else self.length

    @torch.no_grad()
    def __call__(self, tokens: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        """{full hook name: activation [batch, pos, ...]} with each of `tokens` at the position."""
        new = _normed(self._W_E[tokens].to(self._wide) + self._shift, self._embed_norm)
        got: dict[tuple[int, str], Tensor] = {}
        every = torch.arange(self.length, device=self._read.device)
        x: Tensor = new
        for layer, block in enumerate(self._blocks):
            rows = self._read if layer == self.depth else every
            keep = {point for at, point in self.hooks.values() if at == layer}
            found = self._first(new, rows, keep) if layer == 0 else self._attend(x, block, rows, keep)
            x = self._finish(block, found, keep)
            found["block_out"] = x
            got |= {(layer, point): found[point] for point in keep}
        return {name: self._placed(name, got[key]) for name, key in self.hooks.items()}

    def _first(self, new: Tensor, rows: Tensor, keep: set[str]) -> dict[str, Tensor]:
        """Attention of block 0: every unchanged row keeps its query and all keys but one."""
        batch = len(new)
        q, k, v = self._split(self._linear(new, self._blocks[0].qkv).to(self._wide))
        x = self._base[rows].expand(batch, -1, -1)
        lse, old = self._lse[rows].expand(batch, -1, -1), self._z[rows].expand(batch, -1, -1, -1)
        at_key = torch.einsum("rhd,nhd->nrh", self._q[rows], k) * self._scale
        here = (rows == self.pos).nonzero().flatten()
        if len(here):  # the changed token's own query
            x, lse, old = x.clone(), lse.clone(), old.clone()
            scores = torch.einsum("nhd,khd->nhk", q, self._other_k) * self._scale
            x[:, here[0]] = new
            lse[:, here[0]] = scores.logsumexp(-1)
            old[:, here[0]] = torch.einsum("nhk,khd->nhd", scores.softmax(-1), self._other_v)
            at_key[:, here[0]] = (q * k).sum(-1) * self._scale
        found = {"x": x, "z": old.lerp(v[:, None], (at_key - lse).sigmoid()[..., None])}
        for point, base, row in (("q", self._q, q), ("k", self._k, k), ("v", self._v, v)):
            if point in keep:
                found[point] = base.expand(batch, *base.shape).clone()
                found[point][:, self.pos] = row
        if "block_in" in keep:
            found["block_in"] = self._base.expand(batch, -1, -1).clone()
            found["block_in"][:, self.pos] = new
        return found

    def _attend(self, x: Tensor, block: Block, rows: Tensor, keep: set[str]) -> dict[str, Tensor]:
        """Attention of a later block, for the queries of `rows`."""
        found = {"x": x, "block_in": x}
        few = len(rows) * (self._heads * self.length + x.shape[2]) < self.length * x.shape[2]
        if few and keep.isdisjoint(("k", "v")):
            return self._attend_few(x, block, rows)
        if len(rows) == self.length:
            q, k, v = self._split(self._linear(x, block.qkv))
        else:
            found["x"] = x[:, rows]
            weight, bias = block.qkv
            width = len(weight) // 3
            q = self._linear(found["x"], (weight[:width], bias[:width])).unflatten(-1, (self._heads, -1))
            k, v = (
                part.unflatten(-1, (self._heads, -1))
                for part in self._linear(x, (weight[width:], bias[width:])).chunk(2, -1)
            )
        found |= {"q": q, "k": k, "v": v}
        q, k, v = (part.transpose(1, 2).contiguous() for part in (q, k, v))
        pattern = (q @ k.transpose(-1, -2)).to(self._wide).mul_(self._scale).softmax(-1)
        found["z"] = (pattern.to(self._narrow) @ v).transpose(1, 2)
        return found

    def _attend_few(self, x: Tensor, block: Block, rows: Tensor) -> dict[str, Tensor]:
        """The same without keys and values: a query goes through the key's matrix instead, and what it attends to
        through the value's. A key's bias is the same for all keys, which a softmax does not see."""
        found = {"x": x[:, rows], "block_in": x}
        w_q, w_k, w_v = block.qkv[0].chunk(3)
        b_q, _, b_v = block.qkv[1].chunk(3)
        narrow = x.to(self._narrow)
        found["q"] = self._linear(found["x"], (w_q, b_q)).unflatten(-1, (self._heads, -1))
        through_k = torch.einsum("nrhd,hdm->nrhm", found["q"], w_k.unflatten(0, (self._heads, -1))).flatten(1, 2)
        scores = (through_k @ narrow.transpose(1, 2)).to(self._wide)
        pattern = scores.mul_(self._scale).softmax(-1).to(self._narrow)
        mixed = (pattern @ narrow).unflatten(1, (len(rows), self._heads))
        found["z"] = torch.einsum("nrhm,hdm->nrhd", mixed, w_v.unflatten(0, (self._heads, -1)))
        found["z"] = found["z"] + b_v.unflatten(0, (self._heads, -1))
        return found

    def _finish(self, block: Block, found: dict[str, Tensor], keep: set[str]) -> Tensor:
        """The rest of a block after its attention; what is kept of what it computes on the way goes into `found`."""
        z = found["z"].flatten(2)
        if "attn_out" in keep:
            found["attn_out"] = self._linear(z, block.out)
        found["resid_mid"] = self._plus(found["x"], z, block.out)
        middle = _normed(found["resid_mid"], block.ln1)
        inner = self._linear(middle, block.up)
        if "mlp_pre" in keep:
            found["mlp_pre"] = inner.clone()
        found["mlp_post"] = self._activation(inner)
        if "mlp_out" in keep:
            found["mlp_out"] = self._linear(inner, block.down)
        found["resid_post"] = self._plus(middle, inner, block.down)
        return _normed(found["resid_post"], block.ln2)

    def _plus(self, x: Tensor, y: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        """`x` plus a linear map of `y`: in one dtype the product is added on the spot."""
        if self._narrow != self._wide:
            return x + self._linear(y, weights)
        weight, bias = weights
        return (x + bias).flatten(0, 1).addmm_(y.flatten(0, 1), weight.T).view(x.shape)

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
        buffer[: len(value), self._read] = value.to(self._wide)
        return buffer[: len(value)]
