"""What the tests of several rooms share (ascent)."""

import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import VOCAB
from tl_dream.models.host import Host
from tl_dream.search.batch import Batch

GOAL = td.neuron("mlp_post", layer=1, unit=5, pos=2)


TEXTS = ["i do see the sun", "the dog", "a small cat is here ."]


ALL = torch.ones(len(VOCAB), dtype=torch.bool)


def batch_of(host: Host, texts: list[str] | str, allowed: Tensor = ALL, free: object = None) -> Batch:
    texts = [texts] if isinstance(texts, str) else texts
    return Batch.of(host, [host.vocabulary.read(td.Prompt(text, free)) for text in texts], allowed, True)
