"""What the tests of several rooms share: scans."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

import tl_dream as td
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.objectives.objective import BatchContext
from tl_dream.objectives.scoring import evaluate
from tl_dream.results.corpora import CorpusResult
from tl_dream.scans.corpus import corpus_search
from tl_dream.scans.tokens import token_search

Model = torch.nn.Module


SENTENCE = "i hate the red dog ."


Case = tuple[str, int, int, int]
"""Hook, layer, unit, and the position that is read."""


def loop(
    model: Model, sentence: str, pos: int, cases: list[Case], tokens: Sequence[int] | None = None
) -> tuple[Sequence[int], list[list[float]]]:
    """The plain loop: every token in place, one sentence at a time, and the score of every case."""
    with attached(model) as host, torch.no_grad():
        names = {(hook, layer): host.resolve(hook, layer) for hook, layer, _, _ in cases}
        ids = list(host.vocabulary.encode(sentence))
        tokens = tokens or host.vocabulary.allowed().nonzero().flatten().tolist()
        scores: list[list[float]] = [[] for _ in cases]
        for token in tokens:
            row = torch.tensor([[*ids[:pos], token, *ids[pos + 1 :]]])
            got = forward(host, row, list(names.values()))
            for kept, (hook, layer, unit, read) in zip(scores, cases, strict=True):
                kept.append(float(got[names[hook, layer]][0].flatten(1)[read, unit]))
    return tokens, scores


def ranked(tokens: Sequence[int], scores: list[float], top: int = 20) -> list[tuple[int, float]]:
    known = [pair for pair in zip(tokens, scores, strict=True) if pair[1] == pair[1]]
    return sorted(known, key=lambda pair: (-pair[1], pair[0]))[:top]


PART = tuple(range(50, 90))  # enough to choose from, where the plain loop takes long


def found_by(model: Model, objective: td.Objective, sentence: str, **options: Any) -> list[tuple[int, float]]:
    table = token_search(model, objective, sentence, **{"allowed": PART, "progress": False, **options})
    return [(row.id, row.score) for row in table.top]


def one_by_one(
    model: Model, objective: td.Objective, sentence: str, pos: int, tokens: Sequence[int] | None = PART
) -> list[tuple[int, float]]:
    """The plain loop for any objective; words it names are those of the sentence as given."""
    with attached(model) as host, torch.no_grad():
        ids = list(host.vocabulary.encode(sentence))
        rows = BatchContext.of(host, [host.vocabulary.read(sentence)])
        tokens = tokens or host.vocabulary.allowed().nonzero().flatten().tolist()
        batches = [torch.tensor([[*ids[:pos], token, *ids[pos + 1 :]]]) for token in tokens]
        return ranked(tokens, [float(evaluate(host, objective, batch, rows)) for batch in batches])


Model = torch.nn.Module


WORDS = "i you we the a red dog cat moon sea is was cold warm and hate love walk read good very . ,".split()


def sentences(count: int, seed: int = 0) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=draw.randint(2, 14))) for _ in range(count)]


TEXTS = sentences(300)


def search(model: Model, objective: Any, texts: Any, **options: Any) -> Any:
    return corpus_search(model, objective, texts, **{"progress": False, **options})


def check_result(model: Model, objective: td.Objective, result: CorpusResult, texts: list[str], top: int) -> None:
    """The sentences are those of a loop over `score`, the first of equal texts."""
    scores = [float(td.score(model, objective, text)) for text in texts]
    first = {text: i for i, text in reversed(list(enumerate(texts)))}
    best = sorted(first.values(), key=lambda i: (-scores[i], i))[:top]
    assert [hit.line - 1 for hit in result.top] == best
    assert [hit.score for hit in result.top] == pytest.approx([scores[i] for i in best], abs=1e-5)
    assert result.texts(top) == tuple(texts[i] for i in best)


OBJECTIVES: dict[str, Callable[[], td.Objective]] = {
    "any word": lambda: td.neuron("block_out", layer=2, unit=7),
    "a mean": lambda: td.neuron("mlp_post", layer=1, unit=30, reduce="mean"),
    "the lowest": lambda: td.neuron("mlp_post", layer=1, unit=30, reduce="min"),
    "a position": lambda: td.neuron("z", layer=1, head=2, unit=3, pos=2),
    "from the end": lambda: td.neuron("block_out", layer=0, unit=3, pos=-1),
    "downwards": lambda: -td.neuron("block_out", layer=2, unit=7),
    "what is climbed": lambda: td.neuron("mlp_post", layer=1, unit=30, pos=2).uphill,
    "a direction": lambda: td.direction(torch.linspace(-1, 1, 24), "block_out", layer=1),
    "a sum": lambda: td.neuron("block_out", layer=2, unit=7) + 2 * td.neuron("block_out", layer=0, unit=1, pos=1),
    "normalized": lambda: td.normalized(td.neuron("block_out", layer=1, unit=5)),
    "attention": lambda: td.attention(layer=1, head=1, query=1, key=2),
    "a prediction": lambda: td.logit("dog", log_prob=True),
    "your own": lambda: td.custom(lambda acts: acts["a"][:, -1].sum(-1), {"a": ("block_out", 1)}),
}


GOALS = [
    td.neuron("block_out", layer=1, unit=7),
    td.neuron("block_out", layer=1, unit=8, pos="dog"),
    td.custom(lambda acts: acts["a"][:, -1].sum(-1), {"a": ("block_out", 1)}, name="mine"),
]
