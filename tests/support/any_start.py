"""What the tests of several rooms share (any start)."""

import tl_dream as td
from tl_dream.search.batch import Batch
from tl_dream.search.budgets import Budget
from tl_dream.search.swap_search import SwapSearch

START = "i do see the sun"


METHODS = ("auto", "anneal", "gcg", "epo", "pez")


UNIT = td.neuron("block_out", layer=1, unit=5, pos=2)


# Other starts


def searching(
    host: object, text: str = START, budget: int = 10_000, free: object = None, **options: object
) -> SwapSearch:
    sentence = host.vocabulary.read(td.Prompt(text, free))
    allowed = options.pop("allowed", host.vocabulary.allowed())
    return SwapSearch(host, UNIT, Batch.of(host, [sentence], allowed, True, **options), Budget(host.meter, budget))
