"""BERT's blocks by themselves, for a model that nobody has hooked: the model's own numbers for less work.

A search scores thousands of sentences that differ in a word or two and are read at one position. So the first block's
queries, keys and values are computed once for every different token at a position, and in the last block only the rows
that are read are computed, and where they are few, neither keys nor values of the others. Gradients flow through soft
embeddings. What a result reports is scored again by the model itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tl_dream.models.forward_pass import forward
from tl_dream.models.host import Host
from tl_dream.models.isolation import as_made, user_hooks

POINTS = (
    "block_in",
    "q",
    "k",
    "v",
    "pattern",
    "z",
    "attn_out",
    "resid_mid",
    "mlp_pre",
    "mlp_post",
    "mlp_out",
    "resid_post",
    "block_out",
)
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "gelu": (F.gelu, torch.ops.aten.gelu_),
    "relu": (F.relu, torch.relu_),
}
"""Out of place, for gradients, and in place: the MLP's middle is the largest tensor of a block, and to allocate it
twice costs a tenth of the block."""


def can_stand_in(host: Host, hooks: Sequence[str], points: Sequence[str] = POINTS) -> dict[str, tuple[int, str]] | None:
    """{full hook name: (layer, point)} where these blocks can stand in for the model: a BERT with nobody's hooks on it,
    in float32 or float64, read at known `points` of its blocks. None elsewhere."""
    if not _is_plain(host) or host.W_E.dtype not in (torch.float32, torch.float64) or user_hooks(host.model):
        return None
    known = {host.resolve(point, layer): (layer, point) for layer in range(host.n_layers) for point in points}
    return {name: known[name] for name in hooks} if all(name in known for name in hooks) else None


def _is_plain(host: Host) -> bool:
    """Whether the blocks are those of BERT as published. RoBERTa's are, but its positions depend on the tokens."""
    cfg = host.model.cfg
    if not host.bert or host.causal or getattr(cfg, "act_fn", None) not in ACTIVATIONS or not as_made(host.model):
        return False
    if host.kind == "bridge":
        return getattr(host.model.original_model.config, "model_type", None) == "bert"
    known = ACTIVATIONS[cfg.act_fn][0]
    return all(
        abs(block.attn.attn_scale - cfg.d_head**0.5) < 1e-6 and block.mlp.act_fn is known for block in host.model.blocks
    )


Norm = tuple[Tensor, Tensor, float]


def _norm(module: Any, dtype: torch.dtype) -> Norm:
    return module.w.detach().to(dtype), module.b.detach().to(dtype), float(module.eps)


def normed(x: Tensor, norm: Norm) -> Tensor:
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

        inputs = [
            rearrange(w, "head_index d_model d_head -> (head_index d_head) d_model")
            for w in (attn.W_Q, attn.W_K, attn.W_V)
        ]
        biases = [rearrange(b, "head_index d_head -> (head_index d_head)") for b in (attn.b_Q, attn.b_K, attn.b_V)]
        return cls(
            qkv=pair(torch.cat(inputs), torch.cat(biases)),
            out=pair(rearrange(attn.W_O, "head_index d_head d_model -> d_model (head_index d_head)"), attn.b_O),
            up=pair(mlp.W_in.T, mlp.b_in),
            down=pair(mlp.W_out.T, mlp.b_out),
            ln1=_norm(block.ln1, wide),
            ln2=_norm(block.ln2, wide),
        )


STEADY = 16
"""Rows of a matrix product at least, where few are filled up: with one to eleven rows MKL adds in another order than
with more, and what a sentence scores would depend on how many run beside it."""


def filled(x: Float[Tensor, "*any row d"]) -> Float[Tensor, "*any more d"]:
    """Rows of zeros below, where a CPU is given few."""
    missing = STEADY - x.shape[-2] if x.device.type == "cpu" else 0
    return F.pad(x, (0, 0, 0, missing)) if missing > 0 else x


def steady_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`F.linear`, whose rows do not depend on how many there are; on a CPU to the last bit."""
    count = x.shape[:-1].numel()
    if count >= STEADY:
        return F.linear(x, weight, bias)
    return F.linear(filled(x.reshape(count, -1)), weight, bias)[:count].view(*x.shape[:-1], -1)


def rows_at(x: Tensor, rows: Int[Tensor, "*batch few"]) -> Tensor:
    """[batch, few, ...] of [batch, pos, ...]: at the same positions of every row, or at each row's own."""
    return x[:, rows] if rows.ndim == 1 else x[torch.arange(len(x), device=x.device)[:, None], rows]


class BertBlocks:
    """The weights of a BERT's first blocks, and what a block does with them.

    Args:
        depth: the last block.
        narrow: dtype of the matrix products; the residual stream, softmax and LayerNorm stay wide.
    """

    def __init__(self, host: Host, depth: int, narrow: torch.dtype) -> None:
        model = host.model
        self._model = model
        self.narrow = narrow
        self.wide = torch.float64 if host.W_E.dtype == torch.float64 else torch.float32
        self.heads = int(model.cfg.n_heads)
        self.scale = float(model.cfg.d_head) ** -0.5
        self._activate, self._activate_in_place = ACTIVATIONS[model.cfg.act_fn]
        self.embed_norm = _norm(model.embed.ln if hasattr(model.embed, "ln") else model.embed_ln, self.wide)
        self.blocks: list[Block] = []
        self.deepen(depth)

    def deepen(self, depth: int) -> None:
        """Hold the blocks up to this one."""
        for i in range(len(self.blocks), depth + 1):
            self.blocks.append(Block.of(self._model.blocks[i], self.narrow, self.wide))

    def linear(self, x: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        """A matrix product in the narrow dtype."""
        return steady_linear(x.to(self.narrow), *weights)

    def split(self, qkv: Tensor) -> tuple[Tensor, ...]:
        """[..., 3 x heads x d_head] as q, k and v, each [..., heads, d_head]."""
        return qkv.unflatten(-1, (3, self.heads, -1)).unbind(-3)

    def attend(
        self,
        x: Tensor,
        block: Block,
        rows: Tensor,
        keep: set[str],
        mask: Bool[Tensor, "batch pos"] | None = None,
    ) -> dict[str, Tensor]:
        """Attention for the queries of `rows`, the positions that are read. `x` has all positions."""
        found = {"x": x, "block_in": x}
        length, count = x.shape[1], rows.shape[-1]
        few = count * (self.heads * length + x.shape[2]) < length * x.shape[2]
        if few and keep.isdisjoint(("k", "v")):
            return self._attend_few(x, block, rows, mask)
        if count == length:
            q, k, v = self.split(self.linear(x, block.qkv))
        else:
            found["x"] = rows_at(x, rows)
            weight, bias = block.qkv
            width = len(weight) // 3
            q = self.linear(found["x"], (weight[:width], bias[:width])).unflatten(-1, (self.heads, -1))
            k, v = (
                part.unflatten(-1, (self.heads, -1))
                for part in self.linear(x, (weight[width:], bias[width:])).chunk(2, -1)
            )
        return found | self.mixed(q, k, v, mask)

    def mixed(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """What the queries attend to, and how much, from q, k and v as [batch, pos, heads, d_head]."""
        found = {"q": q, "k": k, "v": v}
        q, k, v = (part.transpose(1, 2).contiguous() for part in (q, k, v))
        scores = (q @ k.transpose(-1, -2)).to(self.wide) * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], -torch.inf)
        found["pattern"] = scores.softmax(-1)
        found["z"] = (found["pattern"].to(self.narrow) @ v).transpose(1, 2)
        return found

    def _attend_few(self, x: Tensor, block: Block, rows: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """The same without keys and values: a query goes through the key's matrix instead, and what it attends to
        through the value's. A key's bias is the same for all keys, which a softmax does not see."""
        found = {"x": rows_at(x, rows), "block_in": x}
        count = rows.shape[-1]
        w_q, w_k, w_v = block.qkv[0].chunk(3)
        b_q, _, b_v = block.qkv[1].chunk(3)
        narrow = x.to(self.narrow)
        found["q"] = self.linear(found["x"], (w_q, b_q)).unflatten(-1, (self.heads, -1))
        through_k = self._by_head(found["q"], w_k.unflatten(0, (self.heads, -1))).flatten(1, 2)
        scores = (through_k @ narrow.transpose(1, 2)).to(self.wide) * self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, :], -torch.inf)
        pattern = scores.softmax(-1)
        found["pattern"] = pattern.unflatten(1, (count, self.heads)).transpose(1, 2)
        mixed = (pattern.to(self.narrow) @ narrow).unflatten(1, (count, self.heads))
        found["z"] = self._by_head(mixed, w_v.unflatten(0, (self.heads, -1)).mT)
        found["z"] = found["z"] + b_v.unflatten(0, (self.heads, -1))
        return found

    @staticmethod
    def _by_head(x: Float[Tensor, "batch few head a"], weight: Float[Tensor, "head a b"]) -> Tensor:
        """Every head's own matrix product, [batch, few, head, b]; as steady as `steady_linear`."""
        flat = rearrange(x, "batch few head d -> head (batch few) d")
        found = (filled(flat) @ weight)[:, : flat.shape[1]]
        return rearrange(found, "head (batch few) d -> batch few head d", few=x.shape[1])

    def finish(self, block: Block, found: dict[str, Tensor], keep: set[str], last: bool = False) -> Tensor:
        """The rest of a block after its attention; what is kept of what it computes on the way goes into `found`. In
        the last block it ends where nothing more is kept."""
        deepest = max((POINTS.index(point) for point in keep), default=0) if last else len(POINTS)
        z = found["z"].flatten(2)
        if deepest <= POINTS.index("z"):
            return z
        if "attn_out" in keep:
            found["attn_out"] = self.linear(z, block.out)
        found["resid_mid"] = self._plus(found["x"], z, block.out)
        if deepest <= POINTS.index("resid_mid"):
            return z
        middle = normed(found["resid_mid"], block.ln1)
        inner = self.linear(middle, block.up)
        if "mlp_pre" in keep:
            found["mlp_pre"] = inner.clone()
        inner = self._activate(inner) if inner.requires_grad else self._activate_in_place(inner)
        found["mlp_post"] = inner
        if deepest <= POINTS.index("mlp_post"):
            return z
        if "mlp_out" in keep:
            found["mlp_out"] = self.linear(inner, block.down)
        found["resid_post"] = self._plus(middle, inner, block.down)
        found["block_out"] = normed(found["resid_post"], block.ln2)
        return found["block_out"]

    def _plus(self, x: Tensor, y: Tensor, weights: tuple[Tensor, Tensor]) -> Tensor:
        """`x` plus a linear map of `y`: in one dtype the product is added on the spot."""
        if self.narrow != self.wide or y.requires_grad:
            return x + self.linear(y, weights)
        weight, bias = weights
        total = filled((x + bias).flatten(0, 1)).addmm_(filled(y.flatten(0, 1)), weight.T)
        return total[: x.shape[:-1].numel()].view(x.shape)


class BertTrunk:
    """The forward pass of a BERT up to some hooks. All of one host share their weights.

    Args:
        hooks: from `can_stand_in`.
    """

    @torch.no_grad()
    def __init__(self, host: Host, hooks: Mapping[str, tuple[int, str]]) -> None:
        self.host, self.hooks = host, dict(hooks)
        self.deepest = max((layer, POINTS.index(point)) for layer, point in hooks.values())
        self.depth = self.deepest[0]
        if "trunk" not in host.tables:
            longest = torch.full((1, host.n_ctx), host.vocabulary.pad_id, device=host.device)
            names = [host.resolve(name) for name in ("pos_embed", "token_type_embed")]
            got = forward(host.apart(whole=False), longest, names)  # no block is run
            places, types = (value.reshape(-1, host.W_E.shape[1]) for value in got.values())
            host.tables["trunk"] = (BertBlocks(host, self.depth, host.W_E.dtype), places + types)
        self._math, self._places = host.tables["trunk"]
        self._math.deepen(self.depth)

    def __call__(
        self,
        ids: Int[Tensor, "batch pos"],
        *,
        embeddings: Float[Tensor, "batch pos d_model"] | None = None,
        mask: Bool[Tensor, "batch pos"] | None = None,
        read: Int[Tensor, "batch few"] | None = None,
    ) -> dict[str, Tensor]:
        """{full hook name: activation [batch, pos, ...]}, as `forward` gives it, and charged as much.

        Args:
            read: the positions of every row that are read in the deepest block, which is NaN elsewhere; None: all.
        """
        math, length = self._math, ids.shape[1]
        every = torch.arange(length, device=ids.device)
        rows = every if read is None or read.shape[1] >= length else read
        got: dict[tuple[int, str], Tensor] = {}
        x: Tensor | None = None
        for layer, block in enumerate(math.blocks[: self.depth + 1]):
            last = layer == self.depth
            keep = {point for at, point in self.hooks.values() if at == layer}
            if x is None:
                found = self._first(ids, embeddings, rows if last else every, mask)
            else:
                found = math.attend(x, block, rows if last else every, keep, mask)
            x = math.finish(block, found, keep, last)
            got |= {(layer, point): found[point] for point in keep}
        backward = embeddings is not None and embeddings.requires_grad and torch.is_grad_enabled()
        self.host.meter.add(ids.shape[0], length, self.depth + 1, backward)
        return {name: self._placed(got[key], rows, length, key[1]) for name, key in self.hooks.items()}

    def _first(self, ids: Tensor, embeddings: Tensor | None, rows: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
        """Attention of block 0. Of real tokens every different one at a position is computed once."""
        math, length = self._math, ids.shape[1]
        places, W_E = self._places[:length], self.host.W_E
        if embeddings is not None:
            x = normed(embeddings + places, math.embed_norm)
            return math.attend(x, math.blocks[0], rows, {"k", "v"}, mask)
        keys = ids * length + torch.arange(length, device=ids.device)
        different, where = keys.unique(return_inverse=True)
        rare = normed(W_E[different // length] + places[different % length], math.embed_norm)
        x = rare[where]
        q, k, v = math.split(math.linear(rare, math.blocks[0].qkv)[where])
        found = {"x": x, "block_in": x}
        if rows.shape[-1] < length:
            found["x"], q = rows_at(x, rows), rows_at(q, rows)
        return found | math.mixed(q, k, v, mask)

    @staticmethod
    def _placed(value: Tensor, rows: Tensor, length: int, point: str) -> Tensor:
        """Rows at their positions of the sentence, NaN where nothing was computed."""
        axis = 2 if point == "pattern" else 1
        if value.shape[axis] == length:
            return value
        moved = value.transpose(1, axis)
        filled = torch.full((len(value), length, *moved.shape[2:]), torch.nan, dtype=value.dtype, device=value.device)
        batch = torch.arange(len(value), device=value.device)[:, None]
        return filled.index_put((batch, rows), moved).transpose(1, axis)
