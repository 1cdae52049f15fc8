"""What the subcommands of `tl-dream` share: arguments, what they mean, and the checks before any work starts.

Subcommands live in the rooms of GROUPS (`app.py`); each has `add_commands(subparsers)` and sets `run`:

    def add_commands(subparsers: Subparsers) -> None:
        parser = subparsers.add_parser("search", help="...")
        add_model_arguments(parser)
        add_objective_arguments(parser)
        parser.set_defaults(run=run_search)      # run(arguments) -> None; it raises DreamError

Heavy libraries are imported inside functions, so that `--help` is quick.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

from tl_dream._errors import DreamError, nearest, require
from tl_dream.cli.output import STDOUT
from tl_dream.cli.values import position, positions
from tl_dream.results import check_writable, same_file

Subparsers = Any
"""What `ArgumentParser.add_subparsers` returns (argparse gives it no public name)."""

DTYPES = ("float32", "float64", "bfloat16", "float16")
BACKENDS = ("auto", "hooked", "bridge")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are DreamErrors of one line, with the nearest real options."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        known = sorted(set(_options(self)))
        stray = re.findall(r"--[^\s=]+", message) if message.startswith("unrecognized arguments") else []
        close = [name for option in stray for name in nearest(option, known)]
        hint = f"; nearest: {', '.join(dict.fromkeys(close))}" if close else ""
        raise DreamError(f"{message}{hint} (see `{self.prog} --help`)")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    for action in parser._actions:
        yield from (name for name in action.option_strings if name.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _options(sub)


def join_negatives(argv: Sequence[str]) -> list[str]:
    """`--pos -3:-1` and `--free -3,-2` as `--pos=-3:-1`: argparse takes them for options (plain negative numbers are
    no trouble)."""
    joined: list[str] = []
    for item in argv:
        if joined and re.fullmatch(r"--[a-z-]+", joined[-1]) and re.match(r"-\d+[,:]", item):
            joined[-1] += f"={item}"
        else:
            joined.append(item)
    return joined


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """--model, --backend, --device, --dtype."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--model", default="minilm", help='"minilm" (the packaged one), a Hugging Face name, or a folder [%(default)s]'
    )
    group.add_argument("--backend", choices=BACKENDS, default="auto", help="TransformerLens class [%(default)s]")
    group.add_argument("--device", default="cpu", help="where to run [%(default)s]")
    group.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights [%(default)s]")


def load(arguments: argparse.Namespace) -> Any:
    """The model that `add_model_arguments` describes.

    Raises:
        DreamError: an unknown model, or a device that is not here.
    """
    import torch

    from tl_dream.models import load_model

    return load_model(
        arguments.model,
        backend=arguments.backend,
        device=arguments.device,
        dtype=getattr(torch, arguments.dtype),
    )


def add_objective_arguments(parser: argparse.ArgumentParser) -> None:
    """--hook, --layer, --unit, --head, --pos, --key, --reduce; --token, --log-prob."""
    group = parser.add_argument_group("objective", "a unit of a hook (--hook), or a prediction (--token)")
    group.add_argument("--hook", help="short name (block_out, mlp_post, z, pattern, ...) or a full hook name")
    group.add_argument("--layer", type=int, help="layer of a short name, from 0")
    group.add_argument("--unit", type=int, help="which unit of the hook's last axis")
    group.add_argument("--head", type=int, help="which attention head")
    group.add_argument("--pos", type=positions, metavar="POS", help="where (see below); default: every word")
    group.add_argument("--key", type=position, metavar="POS", help="position attended to (attention patterns)")
    group.add_argument("--reduce", choices=("max", "mean"), default="max", help="over several positions [%(default)s]")
    group.add_argument("--token", help="the model's prediction of this token at --pos (needs a trained head)")
    group.add_argument("--log-prob", action="store_true", help="with --token: the log-probability, not the logit")


def objective(arguments: argparse.Namespace) -> Any:
    """The objective that `add_objective_arguments` describes.

    Raises:
        DreamError: neither or both of --hook and --token, or options that do not go together.
    """
    from tl_dream.objectives import logit, neuron

    a = arguments
    require(
        (a.hook is None) != (a.token is None),
        "say what to look for: either --hook (with --layer and --unit) or --token, and not both",
    )
    if a.token is not None:
        stray = [name for name in ("layer", "unit", "head", "key") if getattr(a, name) is not None]
        require(not stray, f"--{' and --'.join(stray)} go with --hook, not with --token")
        return logit(a.token, pos=a.pos, log_prob=a.log_prob, reduce=a.reduce)
    require(not a.log_prob, "--log-prob goes with --token, not with --hook")
    return neuron(a.hook, layer=a.layer, unit=a.unit, head=a.head, pos=a.pos, key=a.key, reduce=a.reduce)


def check_outputs(
    json: str | None = None,
    *paths: str | None,
    figures: Sequence[str | None] = (),
    inputs: Sequence[str | None] = (),
) -> None:
    """Raise before any work starts unless every file can be written; None stands for an option that was not given.

    Args:
        json: of --json; "-" is stdout.
        inputs: files that the command reads, and so must not write over.

    Raises:
        DreamError: a path that can't be written, is given twice or is an input, or a figure that is not .png, .pdf or
            .svg.
    """
    require(json != STDOUT or sys.stdout is not None, "--json -: stdout is closed")
    require(STDOUT not in (*paths, *figures), "only --json takes - for stdout: give the name of a file")
    given = [path for path in (json, *paths, *figures) if path is not None and path != STDOUT]
    for path in given:
        check_writable(path)
        for source in inputs:
            require(
                source is None or not same_file(path, source),
                f"{path!r} is the file {source!r}, which is read: it would be written over; give another one",
            )
    places = [os.path.realpath(path) for path in given]
    for path, place in zip(given, places, strict=True):
        through = os.path.exists(path) and not os.path.isfile(path)  # a device or a pipe takes any number
        require(through or places.count(place) == 1, f"{path!r} is given for two outputs: give each its own file")
    if any(path is not None for path in figures):
        from tl_dream.plotting import check_figure_path

        for figure in figures:
            if figure is not None:
                check_figure_path(figure)
