"""The command `tl-dream`. A mistake gets one line on stderr and exit code 2."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tl_dream import cli_concepts, cli_reconstruct, cli_scans
from tl_dream._errors import DreamError
from tl_dream.cli_options import (
    POSITIONS,
    Parser,
    Subparsers,
    add_model_arguments,
    add_objective_arguments,
    allowed,
    check_outputs,
    join_negatives,
    load,
    objective,
    positions,
)

STATIONS: tuple[Any, ...] = (cli_scans, cli_reconstruct, cli_concepts)
"""Modules beside this one with subcommands of their own (`add_commands`)."""

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
        The exit code: 0, or 2 after a mistake (one line on stderr says which), or 130 after Ctrl-C.
    """
    try:
        with quiet():
            arguments = build_parser().parse_args(join_negatives(sys.argv[1:] if argv is None else argv))
            arguments.run(arguments)
            sys.stdout.flush()
    except DreamError as error:
        print(f"tl-dream: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except SystemExit as leaving:  # --help and --version
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        print("tl-dream: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `tl-dream hooks | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


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
    parser.add_argument("--version", action="version", version=f"tl-dream {_version()}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_commands(subparsers)
    for station in STATIONS:
        station.add_commands(subparsers)
    return parser


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("tl-dream")
    except PackageNotFoundError:
        return "(not installed)"


def add_commands(subparsers: Subparsers) -> None:
    """dream, hooks, demo."""
    parser = subparsers.add_parser(
        "dream",
        help="find real text that drives a unit up",
        description="Find real text that drives an objective up, starting from a sentence.",
        epilog=POSITIONS + 'Example: tl-dream dream --hook mlp_post --layer 4 --unit 414 --pos hate --text "i hate it"',
    )
    parser.add_argument("--text", required=True, action="append", help="the sentence to start from; may be repeated")
    parser.add_argument(
        "--free", type=positions, metavar="POS", help="what may change (see below); default: every word"
    )
    add_objective_arguments(parser)
    add_model_arguments(parser)
    group = parser.add_argument_group("search", "what is left out is up to the preset")
    group.add_argument("--method", default="anneal", help="how to search [%(default)s]")
    group.add_argument(
        "--preset", default="fast", help='"fast", or "article" for the article\'s settings [%(default)s]'
    )
    group.add_argument("--steps", type=int, help="gradient steps")
    group.add_argument("--starts", type=int, default=1, help="starts of each sentence, as one batch [%(default)s]")
    group.add_argument("--start", help='where to start: "sentence", "random" or "uniform"')
    group.add_argument("--learning-rate", type=float, help="of Adam, in logits a step")
    group.add_argument("--schedule", help='of the temperature: "geometric", "linear", "cosine" or "constant"')
    group.add_argument("--temperature", type=float, nargs=2, metavar=("START", "END"), help="both > 0")
    group.add_argument("--candidates", type=int, help="tokens each position chooses from; 0 for the whole vocabulary")
    group.add_argument(
        "--allowed",
        type=allowed,
        metavar="RULES",
        help="tokens that may be chosen: some of no_special, no_unused, ascii, whole_words; or @FILE, one token a line",
    )
    group.add_argument("--noise", action="store_true", default=None, help="Gumbel noise on the logits")
    group.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the whole result")
    group.add_argument("--figure", metavar="FILE", help="write Figure 1 (.png, .pdf or .svg)")
    parser.set_defaults(run=run_dream)

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


def run_dream(arguments: argparse.Namespace) -> None:
    """`tl-dream dream`."""
    a = arguments
    check_outputs(a.json, figures=[a.figure])
    goal = objective(a)
    model = load(a)
    from tl_dream.dreaming import dream

    options = {} if a.allowed is None else {"allowed": a.allowed}
    try:
        result = dream(
            model,
            goal,
            a.text[0] if len(a.text) == 1 else a.text,
            free=a.free,
            method=a.method,
            preset=a.preset,
            steps=a.steps,
            starts=a.starts,
            start=a.start,
            learning_rate=a.learning_rate,
            schedule=a.schedule,
            temperature=None if a.temperature is None else tuple(a.temperature),
            candidates=a.candidates,
            noise=a.noise,
            seed=a.seed,
            **options,
        )
    except DreamError as error:
        if error.partial is None or a.json is None:
            raise
        _save_partial(error.partial, a.json)
        raise DreamError(f"{error}. The result so far is in {a.json!r}", error.partial) from error
    if a.json is not None:
        result.save(a.json)
    if a.figure is not None:
        from tl_dream import plotting

        plotting.save_figure(plotting.dream_history(result).figure, a.figure)
    print(result)
    _print_written(a.json, a.figure)


def _save_partial(result: Any, path: str) -> None:
    """Write a result whose scores are partly NaN or infinite, which JSON has not got: they become null."""
    from tl_dream.results import write_json

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    write_json(path, finite(result.to_json()))


def _print_written(*paths: str | os.PathLike[str] | None) -> None:
    for path in paths:
        if path is not None:
            print(f"wrote {path}")


def run_hooks(arguments: argparse.Namespace) -> None:
    """`tl-dream hooks`."""
    model = load(arguments)
    from tl_dream.hook_names import PARTS
    from tl_dream.models import list_hooks

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
    for name, shape, short in table:
        print(f"{name.ljust(widths[0])}  {shape.ljust(widths[1])}  {short}".rstrip())
    print(f"\n{len(rows)} hooks of {arguments.model} ({type(model).__name__})")
    missing = [PARTS[part][0] for part in getattr(model, "tl_dream_untrained", ())]
    if missing:
        print(f"refused, because the checkpoint does not carry them: the hooks behind the {', the '.join(missing)}")


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

    print(f"Which text drives unit 291 of all-MiniLM-L6-v2's layer 2 up at position {DEMO_POS} (nation)?", flush=True)
    goal = neuron("block_out", layer=2, unit=291, pos=DEMO_POS)
    with one_thread():
        result = dream(load_model("minilm"), goal, DEMO_TEXT, starts=2, seed=arguments.seed)
    figures = [plotting.dream_history(result).figure, plotting.annealing(result, DEMO_POS).figure]
    for figure, path in zip(figures, paths, strict=True):
        plotting.save_figure(figure, path)
    print(f"\n{result}\n")
    _print_written(*paths)


if __name__ == "__main__":
    sys.exit(main())
