"""`tl-dream portrait`, `essential` and `atlas`."""

from __future__ import annotations

from typing import Any

import tl_dream as td
from tl_dream.cli.options import Given, command, drawn, option
from tl_dream.cli.output import show
from tl_dream.cli.scans import check_corpus
from tl_dream.cli.sweeps import PATTERN

UNIT = "--hook mlp_post --layer 2 --unit 291"
COMMON: Any = {
    "corpus": option(str, ..., "a text (UTF-8), a sentence a line", file="read"),
    "placebos": option(int, 20, "random directions to compare with; 0 for none"),
    "budget": option(int, 30_000, "forward-tokens a dream"),
}


def _seeds(default: int) -> Any:
    return option(int, default, "dreams by seed, each from a sentence of its own")


@command(
    "portrait",
    "Objective Model Output allowed seconds seed",
    f"tl-dream portrait {UNIT} --corpus wiki.txt --figure page.png",
    **COMMON,
    text=option(str, None, "the sentence that dreams start from; default: some of the corpus"),
    seeds=_seeds(3),
    no_fluent=option(bool, False, "no fluent dreams (quicker)"),
    no_tokens=option(bool, False, "no search for the best tokens (quicker)"),
    figure=drawn("portrait", "the page"),
)
def portrait(given: Given) -> Any:
    """What a unit looks for: corpus, dreams, what carries them, and whether a random direction would look the same."""
    goal = given.goal()
    check_corpus(given.corpus)
    return given.call(td.portrait, objective=goal)


@command(
    "essential",
    "text Objective Model Output seconds seed",
    f'tl-dream essential {UNIT} --text "..."',
    keep=option(float, 0.9, "the share of the score that they keep"),
    replacement=option(str, "indifferent", "what stands in a token's place: indifferent, mask or mean"),
)
def essential(given: Given) -> Any:
    """The tokens that the score of a sentence rests on, and the fewest that keep most of it."""
    return given.call(td.essential)


@command(
    "atlas",
    "Model quiet allowed seconds seed",
    "tl-dream atlas --units mlp_post:0-5:0-63 --corpus wiki.txt --out atlas",
    **COMMON,
    units=option(list[str], ..., PATTERN, "PATTERN"),
    out=option(str, ..., "the folder for the pages; a call that was interrupted goes on there", "DIR"),
    seeds=_seeds(2),
    fluent=option(bool, False, "fluent dreams as well"),
    tokens=option(bool, False, "the exact best tokens as well (much slower)"),
)
def atlas(given: Given) -> None:
    """Portraits of many units as pages: an index, a page a unit, their JSON. Open index.html in a browser."""
    check_corpus(given.corpus)
    model = given.load()
    show(str(given.call(td.atlas, model=model, units=td.units(model, given.units, seed=given.seed))))
