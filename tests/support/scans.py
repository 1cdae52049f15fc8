"""What the tests of several rooms share (scans)."""

from collections.abc import Sequence
from typing import Any

import torch

import tl_dream as td
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.objectives.objective import BatchContext
from tl_dream.objectives.scoring import evaluate
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
