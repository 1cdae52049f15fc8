"""Which tokens to try: ranked by how much they raise the score to first order (HotFlip, Ebrahimi et al. 2018)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream.models import Host, steady_linear


def token_slopes(
    pull: Float[Tensor, "some d_model"],
    direct: Float[Tensor, "some vocab"] | None,
    host: Host,
) -> Float[Tensor, "some vocab"]:
    """Every token's slope, from the gradient in embedding space and that in the words themselves. The product may
    run in bf16: it ranks tokens, and every score is exact.

    A gradient so faint that its slopes would be no normal numbers counts as none: such numbers order nothing, and
    processors are slow at them.
    """
    peak = pull.abs().amax(1, keepdim=True)
    level = pull * torch.where(peak > FAINTEST, 1 / peak.clamp_min(FAINTEST), 0)
    table = _table(host)
    found = steady_linear(level.to(table.dtype), table).to(pull.dtype) * peak
    return found if direct is None else found + direct


FAINTEST = 1e-30
"""Of a gradient's greatest number, that which still counts."""

LARGE = 1_000_000
"""Numbers of an embedding matrix, from which on its product is worth another format."""


def _table(host: Host) -> Float[Tensor, "vocab d_model"]:
    """The embedding matrix as its product with gradients is fastest: a large one in bf16 where the hardware has
    instructions for it. The hardware decides, no clock: the same machine takes the same steps."""
    if host.W_E.dtype != torch.float32 or host.W_E.numel() < LARGE or not _multiplies_bf16(host.device):
        return host.W_E
    if "bf16" not in host.tables:
        host.tables["bf16"] = host.W_E.bfloat16()
    return host.tables["bf16"]


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())
