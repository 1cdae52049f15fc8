"""The room reconstruction.token_space."""

import pytest
import torch

import tl_dream as td
from tests.support.objectives import raw


@pytest.mark.slow
def test_the_closest_words_of_minilm(minilm):
    """Pairs of words with the closest embeddings: the wrong one is never certified, the right one always."""
    text = "we saw the {} there ."
    W = torch.nn.functional.normalize(minilm.W_E.detach()[1996:7000], dim=1)
    likeness = (W @ W.T).fill_diagonal_(-1)
    pairs = [(1996 + int(i) // len(W), 1996 + int(i) % len(W)) for i in likeness.flatten().topk(60).indices]
    names = minilm.tokenizer.convert_ids_to_tokens
    tried = 0
    for one, other in dict.fromkeys(tuple(sorted(pair)) for pair in pairs):
        right, wrong = (text.format(names(token)) for token in (one, other))
        if len({len(minilm.tokenizer(t)["input_ids"]) for t in (right, wrong)} | {8}) > 1:
            continue
        for layer in (0, 5):
            target = raw(minilm, right, "block_out", layer)
            assert td.certify(minilm, right, target, layer=layer, rivals=2).certified
            assert not td.certify(minilm, wrong, target, layer=layer, rivals=2).matched
        tried += 1
        if tried == 4:
            break
    assert tried == 4
