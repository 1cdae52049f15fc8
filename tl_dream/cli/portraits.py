"""`tl-dream portrait`, `essential` and `atlas`."""

from __future__ import annotations

from typing import Any

import typer

from tl_dream.cli.options import Given, command, drawn, option
from tl_dream.cli.sweeps import PATTERN

UNIT = "--hook mlp_post --layer 2 --unit 291"
CORPUS = (str, typer.Option(..., help="a text (UTF-8), a sentence a line", metavar="FILE"), "read")
SEEDS: Any = option(int, 2, "dreams by seed, each from a sentence of its own")
PLACEBOS: Any = option(int, 20, "random directions to compare with; 0 for none")
BUDGET: Any = option(int, 30_000, "forward-tokens a dream")


@command(
    "portrait",
    "Objective Model Output allowed seed",
    f"tl-dream portrait {UNIT} --corpus wiki.txt --figure page.png",
    corpus=CORPUS,
    text=option(str, None, "the sentence that dreams start from; default: some of the corpus"),
    seeds=option(int, 3, "dreams by seed, each from a sentence of its own"),
    placebos=PLACEBOS,
    budget=BUDGET,
    no_fluent=option(bool, False, "no fluent dreams (quicker)"),
    no_tokens=option(bool, False, "no search for the best tokens (quicker)"),
    figure=drawn("portrait", "the page"),
)
def portrait(given: Given) -> Any:
    """What a unit looks for: corpus, dreams, what carries them, and whether a random direction would look the same."""
    from tl_dream.portraits import portrait
    from tl_dream.text import Corpus

    goal, options = given.goal(), _options(given)
    Corpus.of(given.corpus)  # a missing file is reported before the model loads
    return portrait(
        given.load(),
        goal,
        given.corpus,
        prompt=given.text,
        fluent=not given.no_fluent,
        tokens=not given.no_tokens,
        **options,
    )


@command(
    "essential",
    "text Objective Model Output seed",
    f'tl-dream essential {UNIT} --text "..."',
    keep=option(float, 0.9, "the share of the score that they keep"),
    replacement=option(str, "indifferent", "what stands in a token's place: indifferent, mask or mean"),
)
def essential(given: Given) -> Any:
    """The tokens that the score of a sentence rests on, and the fewest that keep most of it."""
    from tl_dream.portraits import essential

    goal, options = given.goal(), {"keep": given.keep, "replacement": given.replacement, "seed": given.seed}
    return essential(given.load(), goal, given.text, **options)


@command(
    "atlas",
    "Model quiet allowed seed",
    "tl-dream atlas --units mlp_post:0-5:0-63 --corpus wiki.txt --out atlas",
    units=option(list[str], ..., PATTERN, "PATTERN"),
    corpus=CORPUS,
    out=option(str, ..., "the folder for the pages; a call that was interrupted goes on there", "DIR"),
    seeds=SEEDS,
    placebos=PLACEBOS,
    budget=BUDGET,
    fluent=option(bool, False, "fluent dreams as well"),
    tokens=option(bool, False, "the exact best tokens as well (much slower)"),
)
def atlas(given: Given) -> None:
    """Portraits of many units as pages: an index, a page a unit, their JSON. Open index.html in a browser."""
    from tl_dream.portraits import atlas
    from tl_dream.sweeps import units
    from tl_dream.text import Corpus

    Corpus.of(given.corpus)
    model = given.load()
    index = atlas(
        model,
        units(model, given.units, seed=given.seed),
        given.corpus,
        out=given.out,
        fluent=given.fluent,
        tokens=given.tokens,
        progress=not given.quiet,
        **_options(given),
    )
    typer.echo(str(index))


def _options(given: Given) -> dict[str, Any]:
    rules = {"allowed": given.allowed} if given.allowed else {}
    return {"seeds": given.seeds, "placebos": given.placebos, "budget": given.budget, "seed": given.seed, **rules}
