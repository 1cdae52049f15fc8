"""`tl-dream concept fit`, `edit`, `steer` and `classify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

import tl_dream as td
from tl_dream._errors import require
from tl_dream.cli.options import Given, app, choice, command, drawn, option, place, read_word

concept = typer.Typer(
    help="Concept directions: fit, edit, steer, classify.\n\n"
    "A concept as a direction of a hook: fit it, read back what a moved activation stands for, use it."
)
app.add_typer(concept, name="concept")

CONCEPT = option(str, ..., "from `tl-dream concept fit`", file="read", panel="Options")
magnitudes = read_word(
    "is no magnitude: give numbers with commas, such as --magnitudes -2,0,2, or least",
    lambda text: [float(item) for item in text.split(",")],
    "least",
)


@command(
    "fit",
    "layers Model seed quiet",
    "tl-dream concept fit --layers all --out she.safetensors",
    concept,
    hook=option(str, "block_out", "short name or full hook name"),
    positives=option(str, None, "sentences with the concept, one a line", file="read"),
    negatives=option(str, None, "sentences without it, one a line", file="read"),
    positive_pos=place(None, "where the positives are read"),
    negative_pos=place(None, "where the negatives are read"),
    templates=choice("concept", "he_she|singular_plural", "the shipped sentences", "he_she"),
    estimator=choice("estimator", "mean|pattern|logistic|svm|lda", "of the direction", "mean"),
    random_concepts=option(int, 100, "for the p-value, 50 or more"),
    out=option(str, ..., "write the concept (safetensors)", file="kept", panel="Output"),
    figure=drawn("accuracy_by_layer", "accuracy by layer and estimator"),
)
def fit(given: Given) -> Any:
    """Fit a direction that leads from the negative to the positive sentences, and test it on held-out sentences.

    Without files: the shipped he/she templates (negative he, positive she). In your own files mark the concept word
    with braces ({she} is a doctor), or say --positive-pos and --negative-pos (braces then say which, where a sentence
    has it several times); else it is the word that most sentences of one file share and those of the other lack."""
    where = {"positive_pos": given.positive_pos, "negative_pos": given.negative_pos}
    both = "give both --positives and --negatives, or neither (for the shipped templates)"
    require((given.positives is None) == (given.negatives is None), both)
    if given.positives is not None:
        examples = td.read_examples(Path(given.positives), Path(given.negatives), **where)
    else:
        told = "--positive-pos and --negative-pos go with --positives and --negatives"
        require(where == dict.fromkeys(where), told)
        examples = td.load_templates(given.templates)
    bert = given.load()
    from tl_dream.models import ALIASES, LAYERED

    short = ALIASES.get(given.hook, given.hook) in LAYERED
    require(short or given.layers == "all", f"{given.hook!r} is not a hook of every layer: leave --layers out")
    return given.call(td.fit_concepts, model=bert, examples=examples, layers=given.layers if short else None)


def _fitted(given: Given) -> tuple[Any, Any]:
    """The model, and the concept of the file that was fitted on it, at the layers asked for."""
    td.ConceptVectors.load(given.concept)  # a missing file is reported before the model loads
    bert = given.load()
    every = td.ConceptVectors.load(given.concept, bert)
    return bert, every if given.layers == "all" else td.ConceptVectors(tuple(every[layer] for layer in given.layers))


@command(
    "edit",
    "text layers Model Output starts=2 allowed seconds seed",
    'tl-dream concept edit --concept she.safetensors --text "she is a doctor" --pos she --magnitudes -2,-1,0,1,2',
    concept,
    concept=CONCEPT,
    pos=place(..., "which words (see below)", panel="Options"),
    magnitudes=option(
        Any, None, 'with commas, or "least"', "M", parser=magnitudes, show_default="-2 to 2, or as the concept advises"
    ),
    controls=option(bool, False, "also a random direction, shuffled labels and the opposite sign"),
    other=option(str, None, "another concept of the same hook and layers, as a control", file="read"),
    figure=drawn("edit_table", "Figure 6"),
    dose_figure=drawn("dose_response", "dose and response"),
)
def edit(given: Given) -> Any:
    """Move the activation of a word along a concept and find the real text that comes nearest to it (Figure 6).

    Magnitudes are in natural units, positive ones lead to the positive set; least: where another text is first nearest.
    """
    bert, vectors = _fitted(given)
    other = None if given.other is None else td.ConceptVectors.load(given.other, bert)
    return given.call(td.edit_concept, model=bert, concept=vectors, other=other)


@command(
    "steer",
    "text layers Model Output",
    'tl-dream concept steer --concept she.safetensors --text "he is a doctor" --pos he --layers 2 --magnitude 1',
    concept,
    concept=CONCEPT,
    pos=place(..., "which words (see below)", panel="Options"),
    magnitude=option(float, 1.0, "in natural units"),
    erase=option(bool, False, "erase the concept instead of moving along it"),
)
def steer(given: Given) -> Any:
    """Move an activation in the running model and read the concept at every layer of the file, before and after.

    With [MASK] in the text and a trained head also the predictions."""
    from tl_dream.editing import read_steered

    (bert, vectors), every = _fitted(given), td.ConceptVectors.load(given.concept)
    by = None if given.erase else given.magnitude
    return read_steered(bert, every, given.text, pos=given.pos, at=list(vectors), magnitude=by)


@command(
    "classify",
    "text layers Model Output",
    'tl-dream concept classify --concept she.safetensors --text "the nurse smiled"',
    concept,
    concept=CONCEPT,
    pos=place(None, "which words (see below); default: every word", panel="Options"),
)
def classify(given: Given) -> Any:
    """Where the words of a text lie on a concept, at every layer of the file."""
    bert, vectors = _fitted(given)
    return given.call(td.classify, model=bert, concept=vectors)
