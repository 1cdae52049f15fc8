"""`tl-dream corpus`, `token-search`, `similar`, `predict` and `reconstruct`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tl_dream as td
from tl_dream._errors import require
from tl_dream.cli.options import Given, argument, choice, command, drawn, option, position, read_word

EXAMPLE = '--hook block_out --layer 2 --unit 291 --pos nation --text "..."'
CHANGE = option(Any, None, "the word to exchange; default: where --pos reads", "POS", parser=position, panel="Options")
RIVALS = "12, fewer in long sentences"
rivals = read_word('is no count: give "all", or a whole number of 0 or more', int, "all")


@command(
    "corpus",
    "Objective Model Output top seconds",
    "tl-dream corpus wiki.txt --hook block_out --layer 2 --unit 291,17",
    file=argument("FILE", "a text (UTF-8), a sentence a line"),
    max_tokens=option(int, None, "leave longer sentences out", show_default="what the model reads"),
    checkpoint=option(str, None, "where to keep what is done; if it exists, go on from it", file="written"),
    figure=drawn("corpus_sentences", "the sentences, their tokens shaded"),
)
def corpus(given: Given) -> Any:
    """The sentences of a text file that drive a unit up, or several units.

    Several (--unit 3,7 or --unit 0:100) cost little more than one; --json gets a list, and figures are numbered."""
    goals = given.goals()
    check_corpus(given.file)
    return given.call(td.corpus_search, objective=goals if len(goals) > 1 else goals[0], texts=given.file)


def check_corpus(file: str) -> None:
    """A missing file is reported before the model loads."""
    from tl_dream.text import Corpus

    Corpus.of(Path(file))


def _place(given: Given) -> Any:
    return given.pos if given.change is None and isinstance(given.pos, int | str) else given.change


@command(
    "token-search",
    "text Objective Model Output top=20 allowed seconds",
    f"tl-dream token-search {EXAMPLE}",
    change=CHANGE,
    precision=choice("precision", "auto|bf16|full", "of the screen", "auto"),
    figure=drawn("token_bars", "Figure 3"),
)
def token_search(given: Given) -> Any:
    """The exact best tokens at one position of a sentence, out of the whole vocabulary."""
    return given.call(td.token_search, pos=_place(given))


@command(
    "similar",
    "text Objective Model Output allowed seconds",
    f"tl-dream similar {EXAMPLE}",
    change=CHANGE,
    k=option(int, None, "neighbours to return", None, "--k", show_default="30, or all there are"),
    metric=choice("metric", "euclidean|cosine", "of the distance", "euclidean"),
    best=option(int, None, "tokens of the search to compare with", show_default="30, or all there are"),
    no_search=option(bool, False, "do not compare with a token search (quicker)"),
    figure=drawn("neighbours", "Figure 4"),
)
def similar(given: Given) -> Any:
    """The tokens nearest to a sentence's own in embedding space, and the score with each in its place."""
    return given.call(td.similar_tokens, pos=_place(given))


@command(
    "predict",
    "text Model Output top=5",
    'tl-dream predict --model bert-base-uncased --text "i [MASK] kickshaws ."',
    figure=drawn("prediction_bars", "the probabilities"),
)
def predict(given: Given) -> Any:
    """What the model puts in place of each [MASK] of a sentence; needs a checkpoint with its MLM head."""
    return given.call(td.predict_masked)


@command(
    "reconstruct",
    "text layers Model Output starts steps allowed=no_unused seconds seed",
    'tl-dream reconstruct --text "i hate kickshaws ." --layers 0,3 --noise 0.05 --figure five.png',
    hook=option(str, "block_out", "short name of a hook that every layer has"),
    noise=option(float, None, "add Gaussian noise, S times the target's scale", "S"),
    damage=option(str, None, 'or something else first: "bf16", "int8", "top 32" (units)'),
    method=choice("method", "auto|article", "how to search", "auto"),
    patience=option(int, 2, "rounds without a gain before it settles; 0 is quick"),
    budget=option(int, 10_000, "sentences through the model, a layer"),
    rivals=option(
        Any,
        None,
        'other tokens measured a position (12, fewer in long sentences); "all" takes minutes',
        "N",
        parser=rivals,
    ),
    figure=drawn("read_back", "Figure 5"),
)
def reconstruct(given: Given) -> Any:
    """Read a sentence back from its activations.

    Record them at every layer asked for, find the real tokens that have them, and say whether these are certain."""
    from tl_dream.reconstruction import read_damage

    both = given.noise is not None and given.damage is not None
    require(not both, "--noise and --damage say two things of one target: give one of them")
    damage = given.damage if given.noise is None else f"noise {given.noise!r}"
    if damage is not None:
        read_damage(damage)  # a mistake is reported before the model loads
    return given.call(td.reconstruct_layers, damage=damage)
