"""What the tests of several rooms share: reconstruction."""

import torch

from tests.support.objectives import raw
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached

TEXT = "the red dog was old ."  # eight tokens with [CLS] and [SEP]


READ = "the red dog was old."  # as it is decoded


QUICK = {"progress": False}


def tensor_of(model, text=TEXT, layer=0, hook="block_out"):
    return raw(model, text, hook, layer)


def error_of(model, ids, target, layer=0, hook="block_out"):
    """The certificate's error, from a plain forward pass."""
    with attached(model) as host, torch.no_grad():
        name = host.resolve(hook, layer)
        found = forward(host, torch.tensor([ids]), [name])[name][0]
    return float(((found - target).square().flatten(1).mean(1).sqrt() / target.square().mean().sqrt()).max())
