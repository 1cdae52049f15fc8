"""Concepts in safetensors files: tensors and one JSON header, nothing that runs code when it is read."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from tl_dream._errors import DreamError, require
from tl_dream.results import VERSION, check_kind, write_bytes

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

    require(Path(path).is_file(), f"there is no concept file {str(path)!r}: make one with `tl-dream concept fit`")
    try:
        with safe_open(str(path), framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("tl_dream", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except (SafetensorError, OSError, ValueError) as error:
        raise DreamError(f"{str(path)!r} is not a concept file (safetensors): {error}") from error
    check_kind(header, KIND)
    return header, tensors
