"""What a concept knows its model by, so that it is not used on another."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream.hosts import Host
from tl_dream.models import forward
from tl_dream.objectives import _of_head

PROBE = "the cat sat on the mat ."
"""What a model is known by: its activation for this text, at the concept's hook."""

TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.06}
"""By dtype of the model, how far its probe may lie from the recorded one, as a share of its length. On MiniLM backends
differ by 1e-6, float16 by 1e-3 and bfloat16 by 0.02."""


def probe(host: Host, name: str) -> Float[Tensor, " unit"]:
    """The mean over positions of the hook's activation for PROBE, in float32 on the CPU."""
    ids, _ = host.pad([host.vocabulary.encode(PROBE)])
    with torch.no_grad():
        units = _of_head(forward(host, ids, [name])[name], name, None)
    return units[0].float().mean(0).cpu()


def fingerprint(host: Host) -> Float[Tensor, " d_model"]:
    """The mean of some 500 rows of the embedding matrix."""
    step = max(1, host.d_vocab // 512)
    return host.W_E[::step].float().mean(0).cpu()


def away(host: Host, here: Tensor, known: Tensor) -> float:
    """How far two such vectors lie apart, as a share of the known one's length and over what the dtype allows: above 1
    they are of different models. Infinite where their sizes differ."""
    if here.shape != known.shape:
        return float("inf")
    share = float((here - known).norm() / known.norm().clamp_min(1e-30))
    return share / TOLERANCES.get(host.W_E.dtype, 1e-3)
