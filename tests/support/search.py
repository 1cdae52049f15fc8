"""What the tests of searches and dreams share: a sentence, units, methods, and searches set up by hand."""

from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import PLANTS, VOCAB
from tl_dream.models.host import Host
from tl_dream.objectives.objective import TOKENS, Read
from tl_dream.search.batch import Batch
from tl_dream.search.budgets import Budget
from tl_dream.search.engine import Ask, Search, run
from tl_dream.search.swap_search import SwapSearch

T = TypeVar("T")

START = "i do see the sun"
TEXTS = [START, "the dog", "a small cat is here ."]
GOAL = td.neuron("mlp_post", layer=1, unit=5, pos=2)
UNIT = td.neuron("block_out", layer=1, unit=5, pos=2)
METHODS = ("auto", "gcg", "epo", "pez")
EVERY_METHOD = (*METHODS, "anneal")
QUICK = {"steps": 12, "evaluate_every": 3}
ALL = torch.ones(len(VOCAB), dtype=torch.bool)


def annealed(model: torch.nn.Module, goal: td.Objective, prompt: object, **options: object) -> td.Dream:
    """A dream by annealing, its settings among the options; `article` for the article's in place of the default."""
    names = {field.name for field in fields(td.Annealing)}
    base = td.ARTICLE if options.pop("article", False) else td.Annealing()
    settings = replace(base, **{name: options.pop(name) for name in names & set(options)})
    return td.dream(model, goal, prompt, method=settings, **options)


def goal_of(pos: int, plant: int = 0) -> td.Objective:
    return td.neuron("mlp_post", layer=PLANTS[plant].layer, unit=PLANTS[plant].unit, pos=pos)


def batch_of(host: Host, texts: list[str] | str, allowed: Tensor = ALL, free: object = None) -> Batch:
    texts = [texts] if isinstance(texts, str) else texts
    return Batch.of(host, [host.vocabulary.read(td.Prompt(text, free)) for text in texts], allowed, True)


def searching(
    host: Host, goal: td.Objective = GOAL, budget: int = 10_000, free: object = None, **options: object
) -> SwapSearch:
    """A search from START."""
    sentence = host.vocabulary.read(td.Prompt(START, free))
    allowed = options.pop("allowed", host.vocabulary.allowed())
    batch = Batch.of(host, [sentence], allowed, True, **options)
    return run(host, SwapSearch.of(host, goal, batch, Budget(host.meter, budget)))


def spoiled(value: float, *words: str) -> td.Objective:
    """A unit, but no number where one of some words stands at position 3."""
    ids = [VOCAB.index(word) for word in words]

    def score(acts: dict[Read, object], rows: object) -> Tensor:
        bad = torch.isin(acts[TOKENS].ids[:, 3], torch.tensor(ids))
        return acts[Read("block_out", 1)][:, 2, 5].masked_fill(bad, value)

    return td.Objective((Read("block_out", 1), TOKENS), "spoiled", score)


def slopes_of(host: Host, goal: td.Objective, batch: Batch) -> list[Tensor]:
    """The slopes of the starts of a batch."""

    def search() -> Search[list[Tensor]]:
        starts = [(row, sentence.ids) for row, sentence in enumerate(batch.sentences)]
        return (yield Ask(host, batch, (goal,), starts, slopes=True)).slopes

    return run(host, search())


def answered(value: object) -> Search[object]:
    """A search that asks nothing and comes to a value."""
    return value
    yield


def outcome_of(search: Search[T]) -> T:
    """What a search comes to that asks nothing."""
    try:
        next(search)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it asks for something")
