"""Short hook names: the same tensor on every backend of TransformerLens, HookedEncoder being the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from tl_dream._arguments import is_whole, plain
from tl_dream._errors import require

# One tensor a row: (HookedEncoder, BERT TransformerBridge, HookedTransformer, other TransformerBridge). The bridge's
# legacy aliases hold different tensors on BERT (its `hook_resid_mid` is HookedEncoder's `hook_resid_post`), hence
# canonical names. None: that backend has no such hook.
LAYERED: dict[str, tuple[str | None, str | None, str | None, str | None]] = {
    "block_in": ("hook_resid_pre", "hook_in", "hook_resid_pre", "hook_in"),
    "q": ("attn.hook_q", "attn.q.hook_out", "attn.hook_q", "attn.hook_q"),
    "k": ("attn.hook_k", "attn.k.hook_out", "attn.hook_k", "attn.hook_k"),
    "v": ("attn.hook_v", "attn.v.hook_out", "attn.hook_v", "attn.hook_v"),
    "attn_scores": ("attn.hook_attn_scores", None, "attn.hook_attn_scores", None),
    "pattern": ("attn.hook_pattern",) * 4,
    "z": ("attn.hook_z", "attn.o.hook_in", "attn.hook_z", "attn.hook_z"),
    "result": ("attn.hook_result", None, "attn.hook_result", None),
    "attn_out": ("hook_attn_out", "attn.o.hook_out", "hook_attn_out", "hook_attn_out"),
    "resid_mid": ("hook_resid_mid", "ln1.hook_in", "hook_resid_mid", "hook_resid_mid"),
    "mlp_pre": ("mlp.hook_pre", "mlp.in.hook_out", "mlp.hook_pre", "mlp.hook_pre"),
    "mlp_post": ("mlp.hook_post", "mlp.out.hook_in", "mlp.hook_post", "mlp.hook_post"),
    "mlp_out": ("hook_mlp_out", "mlp.out.hook_out", "hook_mlp_out", "hook_mlp_out"),
    "block_out": ("hook_normalized_resid_post", "hook_out", "hook_resid_post", "hook_out"),
    "resid_post": ("hook_resid_post", "ln2.hook_in", "hook_resid_post", "hook_resid_post"),
}
WHOLE: dict[str, tuple[str | None, str | None, str | None, str | None]] = {
    "embed": ("embed.hook_embed", "embed.hook_out", "hook_embed", "embed.hook_out"),
    "pos_embed": ("embed.hook_pos_embed", "pos_embed.hook_out", "hook_pos_embed", "pos_embed.hook_out"),
    "token_type_embed": ("embed.hook_token_type_embed", "token_type_embed.hook_out", None, None),
    "full_embed": ("hook_full_embed", "embed_ln.hook_out", None, None),
    "logits": ("unembed.hook_out", "unembed.hook_out", "unembed.hook_out", "unembed.hook_out"),
}
ALIASES = {"resid_pre": "block_in"}
SHORT_NAMES = (*WHOLE, *LAYERED)

PARTS = {  # what a checkpoint may lack: its name in messages, the hooks behind it, and who has it
    "mlm": ("language-model head", ("unembed.", "mlm_head.", "ln_final.", "hook_unembed"), "BertForMaskedLM"),
    "pooler": ("pooler", ("pooler.",), "BertModel"),
    "nsp": ("next-sentence head", ("nsp_head.",), "BertForPreTraining"),
}
AFTER = tuple(prefix for _, prefixes, _ in PARTS.values() for prefix in prefixes)
"""The hooks that come after all blocks."""
SWITCHED = {  # hooks that fire only after the user has switched them on, and the setting that does
    "hook_result": "use_attn_result",
    "hook_q_input": "use_split_qkv_input",
    "hook_k_input": "use_split_qkv_input",
    "hook_v_input": "use_split_qkv_input",
    "hook_attn_in": "use_attn_in",
    "hook_mlp_in": "use_hook_mlp_in",
}


def layers_run(hooks: Sequence[str], n_layers: int) -> int:
    """Blocks that must run to reach all of these full hook names; at least one, so that nothing is free of charge."""
    depth = 1
    for name in hooks:
        _, _, rest = name.partition("blocks.")
        if rest:
            depth = max(depth, int(rest.split(".")[0]) + 1)
        elif name.startswith(AFTER):
            depth = n_layers
    return depth


def short_names(column: int, n_layers: int) -> dict[str, str]:
    """{full name: short name, with its layer} of one backend (a column of the tables)."""
    names: dict[str, str] = {}
    for short, row in WHOLE.items():
        if row[column] is not None:
            names.setdefault(str(row[column]), short)
    for layer in range(n_layers):
        for short, row in LAYERED.items():
            if row[column] is not None:
                names.setdefault(f"blocks.{layer}.{row[column]}", f"{short}, layer={layer}")
    return names


def is_pattern(hook: str) -> bool:
    return hook in ("pattern", "attn_scores") or hook.endswith(("hook_pattern", "hook_attn_scores"))


def units_of(activation: Tensor, hook: str, head: Any) -> Float[Tensor, "batch pos unit"]:
    """One head's units of an activation [batch, pos, head_index, d_head]; without `head` all heads' in one row."""
    shape = tuple(activation.shape)
    require(activation.ndim >= 3, f"the hook {hook!r} has no positions (shape {shape}): read it with custom()")
    if activation.ndim == 3:
        require(head is None, f"the hook {hook!r} has no heads (shape {shape}): leave head= out")
        return activation
    if head is None:
        return rearrange(activation, "batch pos head_index d_head -> batch pos (head_index d_head)")
    return activation[:, :, check_index("head", head, activation.shape[2], hook)]


def check_index(kind: str, value: Any, count: int, hook: str) -> int:
    """A unit or head by number, as a plain one.

    Raises:
        DreamError: one that the hook has not got.
    """
    number = plain(value)
    require(
        is_whole(number) and -count <= number < count,
        f"{kind} {value!r} does not exist: the hook {hook!r} has {kind}s 0 to {count - 1}",
    )
    return int(number)


def in_float32(activation: Tensor) -> Tensor:
    """An activation in float32, or wider where it is."""
    return activation.to(torch.promote_types(activation.dtype, torch.float32))
