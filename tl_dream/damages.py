"""Ways to damage a recorded activation: noise, narrow number formats, most units removed."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tl_dream._errors import DreamError, require, unknown

DAMAGES = ("noise", "bf16", "int8", "top")


def read_damage(damage: str) -> tuple[str, float]:
    """The kind and amount in "noise 0.05", "bf16", "int8" or "top 32".

    Raises:
        DreamError: an unknown kind, or an amount that is missing, stray or out of range.
    """
    require(isinstance(damage, str) and bool(damage.split()), f"damage = {damage!r}: give a text such as 'noise 0.05'")
    kind, *rest = damage.replace(":", " ").split()
    if kind not in DAMAGES:
        raise unknown("damage", kind, DAMAGES, "Write 'noise 0.05', 'bf16', 'int8' or 'top 32'.")
    if kind in ("bf16", "int8"):
        require(not rest, f"damage = {damage!r}: {kind} takes no number")
        return kind, 0.0
    example = "a share of the target's scale, as in 'noise 0.05'" if kind == "noise" else "units kept, as in 'top 32'"
    try:
        (amount,) = (float(item) for item in rest)
    except ValueError as error:
        raise DreamError(f"damage = {damage!r}: {kind} takes one number ({example})") from error
    if kind == "noise":
        require(
            math.isfinite(amount) and amount >= 0, f"damage = {damage!r}: give a finite number of 0 or more ({example})"
        )
    else:
        require(
            math.isfinite(amount) and amount >= 1 and amount == int(amount),
            f"damage = {damage!r}: give a whole number of 1 or more ({example})",
        )
    return kind, amount


def damaged(target: Tensor, damage: str, *, seed: int | torch.Generator = 0) -> Tensor:
    """A copy of an activation, damaged.

    Args:
        target: a recorded activation.
        damage: "noise S", Gaussian noise whose standard deviation is S times the root mean square of the target;
            "bf16", rounded to bfloat16; "int8", to 255 steps of one size, which the largest number sets; "top K",
            at every position all but the K largest units by magnitude set to 0 (heads counted through). The zeros are
            numbers to match like all others: a text must have them too. To match K units alone, and leave the others
            open, give `reconstruct` those with `units=`.
        seed: of the noise, or a generator.

    Raises:
        DreamError: an unknown damage, more units than there are, a target that is not floating-point, or not finite.
    """
    kind, amount = read_damage(damage)
    require(
        isinstance(target, Tensor) and target.is_floating_point(),
        "only a tensor of floating-point numbers can be damaged",
    )
    require(
        bool(torch.isfinite(target).all()), "the target holds NaN or infinite numbers: only finite ones can be damaged"
    )
    if kind == "bf16":
        return target.detach().to(torch.bfloat16).to(target.dtype)
    if kind == "int8":
        step = target.detach().abs().max() / 127
        return torch.zeros_like(target) if float(step) == 0 else (target.detach() / step).round() * step
    if kind == "noise":
        draw = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
        scale = target.detach().float().square().mean().sqrt()
        noise = torch.randn(target.shape, generator=draw, dtype=torch.float32)
        return target.detach() + (amount * scale.cpu() * noise).to(target)
    width = target.shape[-1] if target.ndim < 4 else math.prod(target.shape[-2:])
    require(amount <= width, f"damage = {damage!r}: there are {width} units")
    flat = target.detach().reshape(-1, width)
    kept = flat.abs().topk(int(amount), dim=1).indices
    return torch.zeros_like(flat).scatter(1, kept, flat.gather(1, kept)).reshape(target.shape)
