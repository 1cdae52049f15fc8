"""Concepts in safetensors files: tensors and one JSON header, nothing that runs code when it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tl_dream._errors import DreamError, require
from tl_dream._files import LARGEST
from tl_dream.models import Host, forward, units_of
from tl_dream.results import VERSION, check_kind, parse_json, write_bytes

PROBE = "the cat sat on the mat ."
"""What a model is known by: its activation for this text, at the concept's hook."""

TOLERANCES = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.06}
"""By dtype of the model, how far its probe may lie from the recorded one, as a share of its length. On MiniLM backends
differ by 1e-6, float16 by 1e-3 and bfloat16 by 0.02."""


def probe(host: Host, name: str) -> Float[Tensor, " unit"]:
    """The mean over positions of the hook's activation for PROBE, in float32 on the CPU."""
    ids, _ = host.pad([host.vocabulary.encode(PROBE)])
    with torch.no_grad():
        units = units_of(forward(host, ids, [name])[name], name, None)
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


KIND = "concept"


def write_tensors(path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Write a file whole or not at all; the same content gives the same file, to the bit.

    Raises:
        DreamError: a path that can't be written.
    """
    from safetensors.torch import save

    text = json.dumps({"kind": KIND, "version": VERSION, **header}, sort_keys=True, allow_nan=False)
    write_bytes(path, save({name: tensor.contiguous() for name, tensor in tensors.items()}, {"tl_dream": text}))


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of what `write_tensors` wrote.

    Raises:
        DreamError: no such file, or a file of something else.
    """
    from safetensors import SafetensorError, safe_open

    require(os.path.isfile(path), f"there is no concept file {str(path)!r}: make one with `tl-dream concept fit`")
    size = os.path.getsize(path)
    require(size <= LARGEST, f"{str(path)!r} has {size:,} bytes: a concept of any model has less than {LARGEST:,}")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = parse_json((file.metadata() or {}).get("tl_dream", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise DreamError(f"{str(path)!r} is not a concept file (safetensors): {error}") from error
    check_kind(header, KIND)
    return header, tensors
