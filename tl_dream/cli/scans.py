"""`tl-dream corpus`, `token-search`, `similar` and `predict`."""

from __future__ import annotations

import argparse
from typing import Any

from tl_dream.cli.options import (
    Subparsers,
    add_model_arguments,
    add_objective_arguments,
    check_outputs,
    load,
    objective,
)
from tl_dream.cli.output import finish
from tl_dream.cli.values import POSITIONS, allowed, position, token_file


def add_commands(subparsers: Subparsers) -> None:
    """corpus, token-search, similar, predict."""
    parser = subparsers.add_parser(
        "corpus",
        help="the sentences of a text file that drive a unit up",
        description="Score every line of a text file, at every position the objective reads, and keep the best.",
        epilog=POSITIONS + "Example: tl-dream corpus wiki.txt --hook block_out --layer 2 --unit 291",
    )
    parser.add_argument("file", metavar="FILE", help="a text file (UTF-8) with a sentence a line")
    add_objective_arguments(parser)
    add_model_arguments(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--top", type=int, default=10, help="sentences to return [%(default)s]")
    group.add_argument("--max-tokens", type=int, help="leave longer sentences out [what the model reads]")
    group.add_argument("--checkpoint", metavar="FILE", help="where to keep what is done; if it exists, go on from it")
    _add_outputs(parser, "the sentences, their tokens shaded")
    parser.set_defaults(run=run_corpus)

    parser = subparsers.add_parser(
        "token-search",
        help="the exact best tokens at a position",
        description="The best tokens at one position of a sentence, out of the whole vocabulary, exactly.",
        epilog=POSITIONS
        + 'Example: tl-dream token-search --hook block_out --layer 2 --unit 291 --pos nation --text "..."',
    )
    _add_place(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--top", type=int, default=20, help="tokens to return [%(default)s]")
    _add_allowed(group)
    group.add_argument("--precision", default="auto", help='of the screen: "auto", "bf16" or "full" [%(default)s]')
    _add_outputs(parser, "Figure 3")
    parser.set_defaults(run=run_token_search)

    parser = subparsers.add_parser(
        "similar",
        help="the nearest tokens, and what they do in place",
        description="The tokens nearest to a sentence's own in embedding space, and the score with each in its place.",
        epilog=POSITIONS + 'Example: tl-dream similar --hook block_out --layer 2 --unit 291 --pos nation --text "..."',
    )
    _add_place(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--k", type=int, help="neighbours to return [30, or all there are]")
    group.add_argument("--metric", default="euclidean", help='"euclidean" or "cosine" [%(default)s]')
    group.add_argument("--best", type=int, help="tokens of the search to compare with [30, or all there are]")
    group.add_argument("--no-search", action="store_true", help="do not compare with a token search (quicker)")
    _add_allowed(group)
    _add_outputs(parser, "Figure 4")
    parser.set_defaults(run=run_similar)

    parser = subparsers.add_parser(
        "predict",
        help="what the model puts in place of [MASK]",
        description="The top predictions for each [MASK] of a sentence; needs a checkpoint with its MLM head.",
        epilog='Example: tl-dream predict --model bert-base-uncased --text "i [MASK] kickshaws ."',
    )
    parser.add_argument("--text", required=True, help="a sentence with [MASK] in it")
    add_model_arguments(parser)
    parser.add_argument("--top", type=int, default=5, help="tokens a [MASK] [%(default)s]")
    _add_outputs(parser, "the probabilities")
    parser.set_defaults(run=run_predict)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--text", required=True, help="the sentence")
    parser.add_argument(
        "--change", type=position, metavar="POS", help="the word to exchange; default: where --pos reads"
    )
    add_objective_arguments(parser)
    add_model_arguments(parser)


def _add_allowed(group: Any) -> None:
    group.add_argument(
        "--allowed",
        type=allowed,
        metavar="RULES",
        help="tokens to look at: some of no_special, no_unused, ascii, whole_words; or @FILE, one token a line",
    )


def _add_outputs(parser: argparse.ArgumentParser, figure: str) -> None:
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the whole result; - for stdout")
    group.add_argument("--figure", metavar="FILE", help=f"draw {figure} (.png, .pdf or .svg)")


def _options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The place and the allowed tokens; without --change the word that --pos reads."""
    change = arguments.change
    if change is None and isinstance(arguments.pos, int | str):
        change = arguments.pos
    return {"pos": change, **({} if arguments.allowed is None else {"allowed": arguments.allowed})}


def run_corpus(arguments: argparse.Namespace) -> None:
    """`tl-dream corpus`."""
    a = arguments
    check_outputs(a.json, a.checkpoint, figures=[a.figure], inputs=[a.file])
    goal = objective(a)
    from tl_dream.text import Corpus

    Corpus.of(a.file)  # a missing file is reported before the model loads
    model = load(a)
    from tl_dream.scans import corpus_search

    options = {"top": a.top, "max_tokens": a.max_tokens, "checkpoint": a.checkpoint}
    finish(lambda: corpus_search(model, goal, a.file, **options), a.json, corpus_sentences=a.figure)


def run_token_search(arguments: argparse.Namespace) -> None:
    """`tl-dream token-search`."""
    a = arguments
    check_outputs(a.json, figures=[a.figure], inputs=[token_file(a.allowed)])
    goal = objective(a)
    model = load(a)
    from tl_dream.scans import token_search

    options = {"top": a.top, "precision": a.precision, **_options(a)}
    finish(lambda: token_search(model, goal, a.text, **options), a.json, token_bars=a.figure)


def run_similar(arguments: argparse.Namespace) -> None:
    """`tl-dream similar`."""
    a = arguments
    check_outputs(a.json, figures=[a.figure], inputs=[token_file(a.allowed)])
    goal = objective(a)
    model = load(a)
    from tl_dream.scans import similar_tokens

    options = {"k": a.k, "metric": a.metric, "best": a.best, "search": not a.no_search, **_options(a)}
    finish(lambda: similar_tokens(model, goal, a.text, **options), a.json, neighbours=a.figure)


def run_predict(arguments: argparse.Namespace) -> None:
    """`tl-dream predict`."""
    a = arguments
    check_outputs(a.json, figures=[a.figure])
    model = load(a)
    from tl_dream.scans import predict_masked

    finish(lambda: predict_masked(model, a.text, top=a.top), a.json, prediction_bars=a.figure)
