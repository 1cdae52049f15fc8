"""What the tests of several rooms share (models)."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tl_dream.models.forward_pass import forward
from tl_dream.models.hooks import LAYERED, WHOLE
from tl_dream.models.host import attached

TEXTS = ["the red dog .", "i hate kickshaws and love my small old house ."]


def run(
    model: torch.nn.Module, texts: Sequence[str], hooks: dict[str, int | None], **inputs: Tensor
) -> dict[str, Tensor]:
    """Short name -> activation of a padded batch; plain ids unless `embeddings` are given."""
    with attached(model) as host, torch.no_grad():
        ids, mask = host.pad([host.vocabulary.encode(text) for text in texts])
        names = {hook: host.resolve(hook, layer) for hook, layer in hooks.items()}
        got = forward(host, ids, list(names.values()), mask=None if mask.all() else mask, **inputs)
    return {hook: got[name] for hook, name in names.items()}


def switched_on(model: torch.nn.Module, layer: int | None) -> dict[str, int | None]:
    """Every short name that this model has and that fires by itself."""
    with attached(model) as host:
        column = host._column
    layered = {name: layer for name, row in LAYERED.items() if row[column] and name != "result"}
    return {**{name: None for name, row in WHOLE.items() if row[column]}, **layered}


def modules_of(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    yield from model.modules()
    if hasattr(model, "original_model"):
        yield from model.original_model.modules()
