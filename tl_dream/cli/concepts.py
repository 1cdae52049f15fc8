"""`tl-dream concept fit`, `edit`, `steer` and `classify`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tl_dream._errors import require
from tl_dream.cli.options import Subparsers, add_model_arguments, check_outputs, load
from tl_dream.cli.output import finish
from tl_dream.cli.values import POSITIONS, allowed, layers, numbers, positions, token_file


def add_commands(subparsers: Subparsers) -> None:
    """concept fit, concept edit, concept steer, concept classify."""
    concept = subparsers.add_parser(
        "concept",
        help="concept directions: fit, edit, steer, classify",
        description="A concept as a direction of a hook: fit it, read back what a moved activation stands for, use it.",
    )
    inner = concept.add_subparsers(dest="concept_command", required=True, metavar="COMMAND")
    _add_fit(inner)
    _add_edit(inner)
    _add_steer(inner)
    _add_classify(inner)


def _add_fit(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "fit",
        help="fit a concept and test it",
        description="Fit a direction that leads from the negative to the positive sentences, at every layer, and test "
        "it on held-out sentences. Without files: the shipped he/she templates (negative he, positive she).",
        epilog="In your own files mark the concept word with braces ({she} is a doctor), or say --positive-pos and "
        "--negative-pos (braces then say which, where a sentence has the word several times); otherwise it is the word "
        "that most sentences of one file share and those of the other lack. "
        "Example: tl-dream concept fit --layers all --out she.safetensors",
    )
    add_model_arguments(parser)
    group = parser.add_argument_group("concept")
    group.add_argument("--hook", default="block_out", help="short name or full hook name [%(default)s]")
    group.add_argument("--layers", type=layers, default="all", help='"all", a layer, or several with commas [all]')
    group.add_argument("--positives", metavar="FILE", help="sentences with the concept, one a line")
    group.add_argument("--negatives", metavar="FILE", help="sentences without it, one a line")
    group.add_argument("--positive-pos", type=positions, metavar="POS", help="where the positives are read")
    group.add_argument("--negative-pos", type=positions, metavar="POS", help="where the negatives are read")
    group.add_argument("--templates", default="he_she", help='"he_she" or "singular_plural" [%(default)s]')
    group.add_argument(
        "--estimator", default="mean", help='"mean", "pattern", "logistic", "svm" or "lda" [%(default)s]'
    )
    group.add_argument("--random-concepts", type=int, default=100, help="for the p-value, 50 or more [%(default)s]")
    group.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    group = parser.add_argument_group("output")
    group.add_argument("--out", metavar="FILE", required=True, help="write the concept (safetensors)")
    group.add_argument("--figure", metavar="FILE", help="draw accuracy by layer and estimator (.png, .pdf or .svg)")
    parser.set_defaults(run=run_fit)


def _add_file(parser: argparse.ArgumentParser, pos: bool) -> None:
    parser.add_argument("--concept", metavar="FILE", required=True, help="from `tl-dream concept fit`")
    parser.add_argument("--text", required=True, help="the sentence")
    add_model_arguments(parser)
    group = parser.add_argument_group("where")
    group.add_argument("--pos", type=positions, metavar="POS", required=pos, help="which words (see below)")
    group.add_argument("--layers", type=layers, default="all", help="of the file's layers [all]")


def _add_edit(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "edit",
        help="move an activation along a concept and read the text back (Figure 6)",
        description="Move the activation of a word along a concept and find the real text that comes nearest to it.",
        epilog=POSITIONS
        + 'Example: tl-dream concept edit --concept she.safetensors --text "she is a doctor" --pos she '
        "--magnitudes=-2,-1,0,1,2 --controls",
    )
    _add_file(parser, pos=True)
    group = parser.add_argument_group("edit")
    group.add_argument(
        "--magnitudes",
        type=numbers,
        help="in natural units, with commas; positive ones lead to the positive set; or least: where another text is "
        "first the nearest [-2,-1,0,1,2, or in like steps to the magnitude that the concept advises]",
    )
    group.add_argument(
        "--controls", action="store_true", help="also a random direction, shuffled labels and the opposite sign"
    )
    group.add_argument("--other", metavar="FILE", help="another concept of the same hook and layers, as a control")
    group.add_argument("--starts", type=int, default=2, help="of every search [%(default)s]")
    group.add_argument("--allowed", type=allowed, metavar="RULES", help="tokens that may be put in, as in `dream`")
    group.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the whole result; - for stdout")
    group.add_argument("--figure", metavar="FILE", help="draw Figure 6 (.png, .pdf or .svg)")
    group.add_argument("--dose-figure", metavar="FILE", help="draw dose and response (.png, .pdf or .svg)")
    parser.set_defaults(run=run_edit)


def _add_steer(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "steer",
        help="steer a model along a concept and see what is left of it behind",
        description="Move an activation in the running model and read the concept's coordinate at every layer of the "
        "file, before and after; with [MASK] in the text and a trained head also the predictions.",
        epilog=POSITIONS + 'Example: tl-dream concept steer --concept she.safetensors --text "he is a doctor" --pos he '
        "--layers 2 --magnitude 1",
    )
    _add_file(parser, pos=True)
    group = parser.add_argument_group("steering")
    group.add_argument("--magnitude", type=float, default=1.0, help="in natural units [%(default)s]")
    group.add_argument("--erase", action="store_true", help="erase the concept instead of moving along it")
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the coordinates; - for stdout")
    parser.set_defaults(run=run_steer)


def _add_classify(subparsers: Subparsers) -> None:
    parser = subparsers.add_parser(
        "classify",
        help="where the words of a text lie on a concept",
        description="The coordinate of words on a concept, at every layer of the file.",
        epilog=POSITIONS + 'Example: tl-dream concept classify --concept she.safetensors --text "the nurse smiled"',
    )
    _add_file(parser, pos=False)
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the coordinates; - for stdout")
    parser.set_defaults(run=run_classify)


def run_fit(arguments: argparse.Namespace) -> None:
    """`tl-dream concept fit`."""
    a = arguments
    check_outputs(None, a.out, figures=[a.figure], inputs=[a.positives, a.negatives])
    require(
        (a.positives is None) == (a.negatives is None),
        "give both --positives and --negatives, or neither (for the shipped templates)",
    )
    stray = a.positives is None and (a.positive_pos is not None or a.negative_pos is not None)
    require(not stray, "--positive-pos and --negative-pos go with --positives and --negatives")
    from tl_dream.concepts import load_templates, read_examples

    if a.positives is None:
        examples = load_templates(a.templates)
    else:
        examples = read_examples(
            Path(a.positives), Path(a.negatives), positive_pos=a.positive_pos, negative_pos=a.negative_pos
        )
    model = load(a)
    from tl_dream.concepts import fit_concepts
    from tl_dream.models import ALIASES, LAYERED

    short = ALIASES.get(a.hook, a.hook) in LAYERED
    require(short or a.layers == "all", f"{a.hook!r} is not a hook of every layer: leave --layers out")
    options = {name: getattr(a, name) for name in ("hook", "estimator", "random_concepts", "seed")}
    layers = a.layers if short else None
    finish(lambda: fit_concepts(model, examples, layers=layers, **options), a.out, accuracy_by_layer=a.figure)


def _concept(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The model, and the concept of the file that was fitted on it, at the layers asked for."""
    from tl_dream.concepts import ConceptVectors

    ConceptVectors.load(arguments.concept)  # a missing file is reported before the model loads
    model = load(arguments)
    every = ConceptVectors.load(arguments.concept, model)
    if arguments.layers == "all":
        return model, every
    return model, ConceptVectors(tuple(every[layer] for layer in arguments.layers))


def run_edit(arguments: argparse.Namespace) -> None:
    """`tl-dream concept edit`."""
    a = arguments
    check_outputs(a.json, figures=[a.figure, a.dose_figure], inputs=[a.concept, a.other, token_file(a.allowed)])
    model, concept = _concept(a)
    from tl_dream.concepts import ConceptVectors
    from tl_dream.editing import edit_concept

    options = {name: getattr(a, name) for name in ("pos", "magnitudes", "controls", "starts", "seed")}
    if a.other is not None:
        options["other"] = ConceptVectors.load(a.other, model)
    if a.allowed is not None:
        options["allowed"] = a.allowed
    finish(
        lambda: edit_concept(model, concept, a.text, **options),
        a.json,
        edit_table=a.figure,
        dose_response=a.dose_figure,
    )


def run_steer(arguments: argparse.Namespace) -> None:
    """`tl-dream concept steer`."""
    a = arguments
    check_outputs(a.json, inputs=[a.concept])
    model, concept = _concept(a)
    from tl_dream.concepts import ConceptVectors
    from tl_dream.editing import read_steered

    every, magnitude = ConceptVectors.load(a.concept), None if a.erase else a.magnitude
    finish(lambda: read_steered(model, every, a.text, pos=a.pos, at=list(concept), magnitude=magnitude), a.json)


def run_classify(arguments: argparse.Namespace) -> None:
    """`tl-dream concept classify`."""
    a = arguments
    check_outputs(a.json, inputs=[a.concept])
    model, concept = _concept(a)
    from tl_dream.concepts import classify

    finish(lambda: classify(model, concept, a.text, pos=a.pos), a.json)
