"""What the tests of several rooms share: objectives."""

from collections.abc import Sequence

import torch
from torch import Tensor

import tl_dream as td
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached

TEXTS = ["the red dog .", "i love my small old house .", "a cat"]  # no two of a length


def raw(model: torch.nn.Module, text: str, hook: str, layer: int | None = None) -> Tensor:
    """One activation of one text, without its batch axis, read with a plain forward pass."""
    with attached(model) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode(text)])
        name = host.resolve(hook, layer)
        return forward(host, ids, [name])[name][0]


def close(found: Tensor, expected: Sequence[Tensor | float], tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(
        found, torch.stack([torch.as_tensor(e) for e in expected]).to(found), rtol=0, atol=tolerance
    )


# Algebra

A = td.neuron("block_out", layer=1, unit=5, pos=1)


C = td.neuron("z", layer=2, head=1, unit=2)


JUDGED = ["the red dog sees a cat", "i hate the moon"]
