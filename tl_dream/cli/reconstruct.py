"""`tl-dream reconstruct`."""

from __future__ import annotations

import argparse

from tl_dream._errors import require
from tl_dream.cli.options import Subparsers, add_model_arguments, check_outputs, load
from tl_dream.cli.output import finish
from tl_dream.cli.values import allowed, layers, rivals, token_file


def add_commands(subparsers: Subparsers) -> None:
    """reconstruct."""
    parser = subparsers.add_parser(
        "reconstruct",
        help="read a sentence back from its activations",
        description="Record a sentence's activation at every layer asked for, find the real tokens that have it, and "
        "say whether they are certain.",
        epilog='Example: tl-dream reconstruct --text "i hate kickshaws ." --layers 0,3 --noise 0.05 --figure five.png',
    )
    parser.add_argument("--text", required=True, help="the sentence")
    add_model_arguments(parser)
    group = parser.add_argument_group("target")
    group.add_argument("--hook", default="block_out", help="short name of a hook that every layer has [%(default)s]")
    group.add_argument("--layers", type=layers, default="all", help='"all", or some with commas: 0,3 [%(default)s]')
    group.add_argument("--noise", type=float, metavar="S", help="add Gaussian noise, S times the target's scale")
    group.add_argument("--damage", help='or something else first: "bf16", "int8", "top 32" (units)')
    group = parser.add_argument_group("search")
    group.add_argument("--method", default="auto", help='"auto", or "article" for the article\'s [%(default)s]')
    group.add_argument("--steps", type=int, help="of the article's method [3000]")
    group.add_argument("--starts", type=int, default=1, help="starts in one batch [%(default)s]")
    group.add_argument(
        "--patience", type=int, default=2, help="rounds without a gain before it settles; 0 is quick [%(default)s]"
    )
    group.add_argument("--budget", type=int, default=10_000, help="sentences through the model, a layer [%(default)s]")
    group.add_argument(
        "--rivals",
        type=rivals,
        default=12,
        help='other tokens measured a position; "all" takes minutes [%(default)s]',
    )
    group.add_argument(
        "--allowed",
        type=allowed,
        default="no_unused",
        metavar="RULES",
        help="tokens that may be chosen: some of no_special, no_unused, ascii, whole_words; or @FILE, one token a line "
        "[%(default)s]",
    )
    group.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the whole result; - for stdout")
    group.add_argument("--figure", metavar="FILE", help="draw Figure 5 (.png, .pdf or .svg)")
    parser.set_defaults(run=run_reconstruct)


def run_reconstruct(arguments: argparse.Namespace) -> None:
    """`tl-dream reconstruct`."""
    a = arguments
    check_outputs(a.json, figures=[a.figure], inputs=[token_file(a.allowed)])
    require(a.noise is None or a.damage is None, "--noise and --damage say two things of one target: give one of them")
    damage = a.damage if a.noise is None else f"noise {a.noise!r}"
    if damage is not None:
        from tl_dream.reconstruction import read_damage

        read_damage(damage)  # a mistake is reported before the model loads
    model = load(a)
    from tl_dream.reconstruction import reconstruct_layers

    names = ("hook", "layers", "method", "steps", "starts", "patience", "allowed", "rivals", "budget", "seed")
    options = {name: getattr(a, name) for name in names}
    finish(lambda: reconstruct_layers(model, a.text, damage=damage, **options), a.json, read_back=a.figure)
