"""Which tokens to try: ranked by how much they raise the score to first order (HotFlip, Ebrahimi et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tl_dream._errors import DreamError, require
from tl_dream.models import BertTrunk, Host
from tl_dream.objectives import TOKENS, BatchContext, Objective, evaluate_each


class BrokenGradient(DreamError):
    """Slopes that are NaN or infinite, where the score itself is a number; a search ends on them and keeps its best."""


def gradients(
    scores: Float[Tensor, " batch"], embeddings: Tensor, weights: Tensor | None, objective: Objective
) -> tuple[Tensor, Tensor | None]:
    """The gradient of every row's score with respect to the soft embeddings it was made from, and to the weights of the
    words where the objective reads those; the graph is kept.

    Raises:
        DreamError: the scores do not depend on the words.
    """
    pull = direct = None
    if scores.requires_grad:
        inputs = [embeddings] if weights is None else [embeddings, weights]
        pull, *others = torch.autograd.grad(scores.sum(), inputs, retain_graph=True, allow_unused=True)
        direct = others[0] if others else None
    require(
        pull is not None or direct is not None,
        f"the objective {objective} does not change with the words, so it has no gradient: read a hook that sees them, "
        "and detach nothing in a function of your own",
    )
    return torch.zeros_like(embeddings) if pull is None else pull, direct


def scored_slopes(
    host: Host,
    climb: Objective,
    ids: Int[Tensor, "batch pos"],
    rows: BatchContext,
    free: Int[Tensor, "batch free"],
    *,
    beside: Sequence[Objective] = (),
    trunk: BertTrunk | None = None,
) -> tuple[tuple[Float[Tensor, " batch"], ...], Float[Tensor, "batch free vocab"]]:
    """The scores of real sentences, and how steeply each rises with the weight of every token at its free positions.

    The difference between two tokens' slopes is what exchanging them changes, to first order.

    Args:
        climb: what rises.
        beside: objectives that are scored in the same pass.
        trunk: see `evaluate_each`.

    Returns:
        The scores of `climb` and of each one `beside` it, and the slopes.

    Raises:
        DreamError: the scores do not depend on the words; `BrokenGradient` where scores are numbers and slopes are not.
    """
    weights, every = None, (climb, *beside)
    with torch.enable_grad():
        embeddings = host.W_E[ids].requires_grad_()
        if any(TOKENS in objective.reads for objective in every):
            weights = torch.nn.functional.one_hot(ids, host.d_vocab).to(host.W_E.dtype).requires_grad_()
        scores = evaluate_each(host, every, ids, rows, embeddings=embeddings, weights=weights, trunk=trunk)
    pull, direct = gradients(scores[0], embeddings, weights, climb)
    steep = token_slopes(at_free(pull, free), None if direct is None else at_free(direct, free), host)
    scores = tuple(values.detach() for values in scores)
    wide = torch.promote_types(steep.dtype, torch.float32)
    bad = ~steep.flatten(1).sum(1, dtype=wide).isfinite() & scores[0].isfinite()  # a sum hides no number that is none
    if bool(bad.any()):
        value = float(scores[0][bad][0])
        raise BrokenGradient(f"the gradient of {climb} became NaN or infinite where the score is {value:.4f}")
    return scores, steep


def slopes(
    host: Host,
    climb: Objective,
    ids: Int[Tensor, "batch pos"],
    rows: BatchContext,
    free: Int[Tensor, "batch free"],
    trunk: BertTrunk | None = None,
) -> Float[Tensor, "batch free vocab"]:
    """The slopes alone (see `scored_slopes`)."""
    return scored_slopes(host, climb, ids, rows, free, trunk=trunk)[1]


def at_free(values: Float[Tensor, "batch pos d"], free: Int[Tensor, "batch free"]) -> Float[Tensor, "batch free d"]:
    """What stands at the free positions."""
    return values.gather(1, free.unsqueeze(-1).expand(-1, -1, values.shape[-1]))


def token_slopes(
    pull: Float[Tensor, "batch free d_model"],
    direct: Float[Tensor, "batch free vocab"] | None,
    host: Host,
) -> Float[Tensor, "batch free vocab"]:
    """Every token's slope, from the gradient in embedding space and that in the words themselves. The product may
    run in bf16: it ranks tokens, and every score is exact.

    A gradient so faint that its slopes would be no normal numbers counts as none: such numbers order nothing, and
    processors are slow at them.
    """
    peak = pull.abs().amax(2, keepdim=True)
    level = pull * torch.where(peak > FAINTEST, 1 / peak.clamp_min(FAINTEST), 0)
    table = _table(host)
    found = torch.nn.functional.linear(level.flatten(0, 1).to(table.dtype), table).to(pull.dtype)
    found = found.unflatten(0, pull.shape[:2]) * peak
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
