"""The command `tl-dream`. A mistake gets one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError
from tl_dream.cli import concepts, dream, reconstruct, scans
from tl_dream.cli.options import (
    Parser,
    Subparsers,
    add_model_arguments,
    check_outputs,
    join_negatives,
    load,
)
from tl_dream.cli.output import complain, show, stdout

GROUPS: tuple[Any, ...] = (dream, scans, reconstruct, concepts)
"""The rooms with subcommands of their own (`add_commands`)."""

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "MPLBACKEND": "Agg",  # figures go to files
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments; None takes those of the process.

    Returns:
        The exit code: 0, or 2 after a mistake (one line on stderr says which), or 130 after Ctrl-C. What a run found
        until then is printed, and saved where that was asked for.
    """
    code = 0
    try:
        with quiet():
            run = None
            with stdout() as stream:
                try:
                    arguments = build_parser().parse_args(join_negatives(sys.argv[1:] if argv is None else argv))
                    run = arguments.run
                except SystemExit as leaving:  # --help and --version
                    code = int(leaving.code or 0)
                    if stream is not None:
                        stream.flush()
            if run is not None:
                run(arguments)
    except DreamError as error:
        complain(str(error))
        code = 2
    except KeyboardInterrupt:
        complain("interrupted")
        code = 130
    return code


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars of other libraries; everything as before at the end."""
    before = {name: os.environ.get(name) for name in QUIET}
    disabled = logging.root.manager.disable
    os.environ.update(QUIET)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    parser = Parser(prog="tl-dream", description="Find the text that fires any hook point of a TransformerLens model.")
    parser.add_argument("--version", action="version", version=_versions())
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_commands(subparsers)
    for group in GROUPS:
        group.add_commands(subparsers)
    return parser


def _versions() -> str:
    """Of the package, and of what its results depend on most."""
    from importlib.metadata import PackageNotFoundError, version

    def of(name: str) -> str:
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            return f"{name} (not installed)"

    return f"{of('tl-dream')} ({of('transformer-lens')}, {of('torch')})"


def add_commands(subparsers: Subparsers) -> None:
    """hooks, demo."""
    parser = subparsers.add_parser(
        "hooks",
        help="list every hook of a model",
        description="List every hook of a model with its shape and its short name (--hook and --layer).",
    )
    add_model_arguments(parser)
    parser.add_argument("--filter", default="", metavar="TEXT", help="only hooks whose name or short name has this")
    parser.set_defaults(run=run_hooks)

    parser = subparsers.add_parser(
        "demo",
        help="a dream on the packaged MiniLM, with its pictures",
        description="Dream on the packaged all-MiniLM-L6-v2 from a real sentence and draw Figures 1 and 2.",
    )
    parser.add_argument("--out", default=".", metavar="FOLDER", help="where the figures go [the current one]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    parser.set_defaults(run=run_demo)


def run_hooks(arguments: argparse.Namespace) -> None:
    """`tl-dream hooks`."""
    model = load(arguments)
    from tl_dream.models import PARTS, list_hooks

    # The axis whose size follows the sentence is the position's
    hooks, longer = list_hooks(model, "a b c"), {hook.name: hook.shape for hook in list_hooks(model, "a b c a b c")}
    rows = []
    for hook in hooks:
        if arguments.filter not in hook.name and arguments.filter not in (hook.short or ""):
            continue
        other = longer[hook.name]
        if hook.shape is None or other is None:
            rows.append((hook.name, "does not fire", ""))
            continue
        sizes = [str(size) if size == also else "pos" for size, also in zip(hook.shape, other, strict=True)]
        sizes[0] = "batch" if sizes[0] == "1" else sizes[0]
        rows.append((hook.name, ", ".join(sizes), hook.short or ""))
    if not rows:
        raise DreamError(f"no hook of {arguments.model} has {arguments.filter!r} in its name: leave --filter out")
    table = [("hook", "shape", "short name"), *rows]
    widths = [max(len(row[i]) for row in table) for i in range(2)]
    lines = [f"{name.ljust(widths[0])}  {shape.ljust(widths[1])}  {short}".rstrip() for name, shape, short in table]
    lines.append(f"\n{len(rows)} hooks of {arguments.model} ({type(model).__name__})")
    missing = [PARTS[part][0] for part in getattr(model, "tl_dream_untrained", ())]
    if missing:
        lines.append(
            f"refused, because the checkpoint does not carry them: the hooks behind the {', the '.join(missing)}"
        )
    show("\n".join(lines))


@contextmanager
def one_thread() -> Iterator[None]:
    """One torch thread: the demo's products are small, and on a busy machine two threads that wait for each other took
    several times as long. The text it finds also depends less on the machine."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


DEMO_TEXT = "The Washington Post reported growing resentment in the nation towards the United States ."
DEMO_POS = 9  # nation


def run_demo(arguments: argparse.Namespace) -> None:
    """`tl-dream demo`."""
    folder = Path(arguments.out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DreamError(f"the folder {arguments.out!r} can't be made: {error.strerror}") from error
    paths = [str(folder / f"tl_dream_figure{number}.png") for number in (1, 2)]
    check_outputs(figures=paths)
    from tl_dream import plotting
    from tl_dream.dreaming import dream
    from tl_dream.models import load_model
    from tl_dream.objectives import neuron

    show(f"Which text drives unit 291 of all-MiniLM-L6-v2's layer 2 up at position {DEMO_POS} (nation)?")
    goal = neuron("block_out", layer=2, unit=291, pos=DEMO_POS)
    with one_thread():
        result = dream(load_model("minilm"), goal, DEMO_TEXT, method="anneal", starts=2, seed=arguments.seed)
    figures = [plotting.dream_history(result).figure, plotting.annealing(result, DEMO_POS).figure]
    for figure, path in zip(figures, paths, strict=True):
        plotting.save_figure(figure, path)
    show("\n".join([f"\n{result}\n", *(f"wrote {path}" for path in paths)]))
