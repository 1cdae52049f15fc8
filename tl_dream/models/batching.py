"""Batches that fit the device, and the dtype it is fast in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import torch

from tl_dream._arguments import whole_number
from tl_dream.models.host import Host


def length_groups(lengths: Sequence[int], batch_tokens: int, equal_lengths: bool = False) -> list[list[int]]:
    """Row numbers in batches of like length, each of at most `batch_tokens` padded tokens (one row at least)."""
    order = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    groups: list[list[int]] = []
    for i in order:
        group = groups[-1] if groups else None
        full = group is not None and (len(group) + 1) * lengths[i] > batch_tokens
        if group is None or full or (equal_lengths and lengths[group[0]] != lengths[i]):
            groups.append([i])
        else:
            group.append(i)
    return groups


BATCH_TOKENS = 2048
"""Tokens of real sentences in one forward pass, where few are run."""

PRECISIONS = ("auto", "bf16", "full")


def default_batch_tokens(host: Host, given: Any, steep: bool = False) -> int:
    """Padded tokens a forward pass: as given, or what fits the device (a CPU's caches, a GPU's width and memory).

    Args:
        steep: with gradients, for which every layer's numbers are held.
    """
    if given is not None:
        return whole_number("batch_tokens", given, advice=", or None")
    if host.device.type == "cuda":  # passes wait for Python, so the larger the better
        memory = torch.cuda.get_device_properties(host.device).total_memory
        return 65_536 * (1 if steep else min(4, max(1, memory // 2**35)))
    return 2048 if host.device.type == "cpu" else 8192


def few_passes(device: torch.device) -> bool:
    """Whether a small pass takes as long as a larger one."""
    return device.type != "cpu"


@lru_cache(maxsize=8)
def bf16_is_faster(device: torch.device) -> bool:
    """Whether the hardware multiplies bf16 matrices faster than fp32 ones (on the CPU: measured, some milliseconds)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(512, 512, generator=generator)
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        a, best = matrix.to(dtype), float("inf")
        for _ in range(4):
            began = time.perf_counter()
            a @ a
            best = min(best, time.perf_counter() - began)
        times[dtype] = best
    return times[torch.float32] > 1.5 * times[torch.bfloat16]


T = TypeVar("T")


def in_batches(items: Any, size: int, work: Callable[[Any], T], tick: Callable[[int], object] | None = None) -> list[T]:
    """`work` on slices of at most `size` items. Where memory runs out the size is halved, down to one item."""
    found: list[T] = []
    at = 0
    while at < len(items):
        part = items[at : at + size]
        full = False
        try:
            found.append(work(part))
        except RuntimeError as error:
            if len(part) == 1 or not _out_of_memory(error):
                raise
            full = True
        if full:  # outside the handler: its traceback holds the tensors
            size = (len(part) + 1) // 2
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            continue
        at += len(part)
        if tick is not None:
            tick(len(part))
    return found


def _out_of_memory(error: RuntimeError) -> bool:
    told = ("out of memory", "can't allocate memory")  # MPS, CPU
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in told)


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware has matrix units for bf16: AMX on a CPU, tensor cores on a GPU."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_amx_tile_supported", bool)())
