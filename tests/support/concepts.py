"""What the tests of several rooms share (concepts)."""

import torch

from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached

SENTENCE = "so the dog can see he run"


def read(model: torch.nn.Module, name: str, text: str = SENTENCE) -> torch.Tensor:
    with attached(model) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode(text)])
        return forward(host, ids, [name])[name]
