"""The command `tl-dream`: reading the words, `hooks`, `units`, `demo`, and the article's files. A mistake gets one line
on stderr and exit code 2."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, redirect_stderr
from fnmatch import fnmatch
from importlib.metadata import version
from itertools import product
from math import prod
from pathlib import Path
from random import Random
from typing import Any, TextIO, cast

import typer
from typer.main import get_command

import tl_dream as td
from tl_dream._errors import DreamError, require, unknown
from tl_dream.cli import concepts, dream, portraits, scans, sweeps
from tl_dream.cli.options import HOOKS, Given, app, argument, choice, command, drawn, numbers, option
from tl_dream.cli.output import Lines, check_outputs, complain, show, stdout

ROOMS = (dream, scans, concepts, portraits, sweeps)
"""The rooms with subcommands of their own; to import one adds them."""

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
    terminal = sys.stderr is not None and not sys.stderr.closed and sys.stderr.isatty()
    with nullcontext() if terminal else redirect_stderr(cast(TextIO, Lines(sys.stderr))):
        try:
            with quiet():
                with stdout():
                    work = parse(sys.argv[1:] if argv is None else argv)
                work()
        except DreamError as error:
            complain(str(error))
            return 2
        except KeyboardInterrupt:
            complain("interrupted")
            return 130
    return 0


def parse(argv: Sequence[str]) -> Callable[[], object]:
    """What the words ask for, to be called; what only prints (`--help`) has done so.

    Raises:
        DreamError: words that make no command.
        SystemExit: the shell asked what completes a word, and that was printed.
    """
    try:
        found = get_command(app).main(list(argv), prog_name="tl-dream", standalone_mode=False)
    except typer.TyperException as error:
        raise DreamError(_complaint(error)) from error
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, BrokenPipeError):
            raise
        found = None  # the reader of the help has gone
    if found == 130:
        raise KeyboardInterrupt
    return found if callable(found) else lambda: None


def _complaint(error: typer.TyperException) -> str:
    """What typer says, with the word it is about, and where to read on."""
    message, cause, context = error.format_message(), error.__cause__, getattr(error, "ctx", None)
    message = message.replace("Value error, ", "").rstrip(".")
    for fault in cause.errors() if cause is not None and hasattr(cause, "errors") else ():  # pydantic's
        message += "" if fault["type"] == "value_error" else f": {fault['input']!r}"
    known = getattr(context and context.command, "commands", ())
    message += f": give one of {', '.join(known)}" if message == "Missing command" else ""
    return f"{message} (see `{context.command_path if context else 'tl-dream'} --help`)"


@contextmanager
def quiet() -> Iterator[None]:
    """No warnings, log lines or progress bars of other libraries; everything as before at the end."""
    before = {name: os.environ[name] for name in QUIET if name in os.environ}
    with ExitStack() as after, warnings.catch_warnings(action="ignore"):
        after.callback(logging.disable, logging.root.manager.disable)
        after.callback(os.environ.update, before)
        for name, value in QUIET.items():
            after.callback(os.environ.pop, name)
            os.environ[name] = value
        logging.disable(logging.CRITICAL)
        yield


def _version(wanted: bool) -> bool:
    """Of the package, and of what its results depend on most."""
    if wanted:
        others = ", ".join(f"{name} {version(name)}" for name in ("transformer-lens", "torch"))
        show(f"tl-dream {td.__version__} ({others})")
        raise typer.Exit
    return wanted


_, VERSION, _ = option(bool, False, "Show the versions and exit.", None, "--version", callback=_version, is_eager=True)


@app.callback()
def _root(version: bool = VERSION) -> None: ...


def _shapes(bert: Any) -> Iterator[tuple[str, str, list[str]]]:
    """(name, short name, shape) of every hook; none for one that does not fire. The axis whose size follows the
    sentence is the position's."""
    longer = {hook.name: hook.shape for hook in td.list_hooks(bert, "a b c a b c")}
    for hook in td.list_hooks(bert, "a b c"):
        both = zip(hook.shape or (), longer[hook.name] or (), strict=False)
        sizes = [str(size) if size == also else "pos" for size, also in both]
        yield hook.name, hook.short or "", ["batch" if size == "1" and not i else size for i, size in enumerate(sizes)]


@command("hooks", "Model", filter=option(str, "", "only hooks whose name or short name has this", "TEXT"))
def hooks(given: Given) -> None:
    """List every hook of a model with its shape and its short name (--hook and --layer)."""
    bert = given.load()
    from tl_dream.models import PARTS
    from tl_dream.results import table

    rows = [
        (name, ", ".join(sizes) if sizes else "does not fire", short if sizes else "")
        for name, short, sizes in _shapes(bert)
        if given.filter in name or given.filter in short
    ]
    require(bool(rows), f"no hook of {given.model} has {given.filter!r} in its name: leave --filter out")
    missing = ", the ".join(PARTS[part][0] for part in getattr(bert, "tl_dream_untrained", ()))
    refused = "\nrefused, because the checkpoint does not carry them: the hooks behind the " + missing
    found = f"{len(rows)} hooks of {given.model} ({type(bert).__name__}){refused if missing else ''}"
    show(f"{table(('hook', 'shape', 'short name'), rows)}\n\n{found}")


@command(
    "units",
    "Model seed",
    "tl-dream units --hook 'mlp_*' --layer 3:6 --sample 10",
    pattern=(list[str], typer.Argument(None, metavar="[PATTERN]...", help="as `sweep` takes them"), ""),
    hook=option(str, "*", "short name, or a pattern such as 'mlp_*'", "HOOK", autocompletion=lambda: HOOKS),
    layer=option(Any, None, "only these layers", "N", parser=numbers),
    unit=option(Any, None, "write these units out", "N", parser=numbers),
    sample=option(int, None, "write so many units out, drawn at random", min=1),
)
def units(given: Given) -> None:
    """What there is to pick from: how many units each hook has.

    With --unit or --sample: a line for every unit, as `dream`, `corpus` and the others take it. With a PATTERN, such as
    mlp_post:3:1,5,9: a line for every unit that `sweep` would dream of."""
    bert, all_of_them = given.load(), given.unit is given.sample is None
    if given.pattern:
        free = given.hook == "*" and given.layer is None and all_of_them
        require(free, "a PATTERN says itself which units: leave --hook, --layer, --unit and --sample out")
        return show("\n".join(map(str, td.units(bert, given.pattern, seed=given.seed))))
    from tl_dream.results import table

    found: dict[str, tuple[list[str], list[int]]] = {}
    for _, short, sizes in _shapes(bert):
        name, _, at = short.partition(", layer=")
        wanted = fnmatch(name, given.hook) and (given.layer is None or int(at or -1) in given.layer)
        if name and wanted and sizes and sizes[-1] != "pos":
            found.setdefault(name, ([], [int(size) for size in sizes[1:] if size != "pos"]))[0].append(at)
    if not found:
        raise unknown("hook", given.hook, HOOKS, "With --layer: one that the model has. `tl-dream units` lists all.")
    if all_of_them:
        rows = []
        for name, (layers, inner) in found.items():
            heads = f"{inner[0]} heads of {inner[-1]}" if inner[1:] else ""
            rows.append((name, "-".join(dict.fromkeys((layers[0], layers[-1]))), str(prod(inner)), heads))
        return show(table(("hook", "layers", "units", ""), rows))
    words = [
        f"--hook {name}{f' --layer {layer}' if layer else ''} --unit {unit}"
        for name, (layers, inner) in found.items()
        for layer, unit in product(layers, range(prod(inner)))
        if given.unit is None or unit in given.unit
    ]
    require(bool(words), "there is no such unit: `tl-dream units` says how many there are")
    if given.sample is not None:
        picked = Random(given.seed).sample(range(len(words)), min(given.sample, len(words)))
        words = [words[i] for i in sorted(picked)]
    show("\n".join(words))


DEMO_TEXT = "The Washington Post reported growing resentment in the nation towards the United States ."
DEMO_POS = 9  # nation


@command("demo", "seed", out=option(str, ".", "where the figures go", "FOLDER"))
def demo(given: Given) -> None:
    """Dream on the packaged all-MiniLM-L6-v2 from a real sentence and draw Figures 1 and 2."""
    try:
        Path(given.out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DreamError(f"the folder {given.out!r} can't be made: {error.strerror}") from error
    paths = [str(Path(given.out) / f"tl_dream_figure{number}.png") for number in (1, 2)]
    check_outputs(None, (), paths, ())
    import torch

    from tl_dream import plotting

    show(f"Which text drives unit 291 of all-MiniLM-L6-v2's layer 2 up at position {DEMO_POS} (nation)?")
    goal = td.neuron("block_out", layer=2, unit=291, pos=DEMO_POS)
    with ExitStack() as after:
        # The products are small, and on a busy machine two threads that wait for each other took several times as long.
        # The text that is found also depends less on the machine.
        after.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(1)
        result = td.dream(td.load_model("minilm"), goal, DEMO_TEXT, method="anneal", starts=2, seed=given.seed)
    for path, axes in zip(paths, (plotting.dream_history(result), plotting.annealing(result, DEMO_POS)), strict=True):
        plotting.save_figure(axes.figure, path)
    show("\n".join([f"\n{result}\n", *(f"wrote {path}" for path in paths)]))


@command(
    "import",
    "Output",
    "tl-dream import 1_dream.json --figure dream.png",
    file=argument("FILE", "a JSON file of the article (text-dream)"),
    show=choice("record", "best|last", "of an annealed run: the best real tokens, or the last, as the article", "best"),
    figure=drawn("own", "the article's figure of it"),
)
def read(given: Given) -> Any:
    """Read a file of "What does BERT dream of?": print, draw or save it as a result of ours.

    Its dreams, softmax weights, token searches, similar tokens, reconstructions and shifted reconstructions are known
    by their type."""
    return td.read_text_dream(given.file, show=given.show)


@command(
    "export",
    "quiet",
    "tl-dream export dream.json --out 3_dream.json",
    file=argument("RESULT", "a result that --json saved"),
    out=option(str, ..., "the file of the article's format", file="written", panel="Output"),
    pos=option(int, None, "of an annealed dream: write the softmax weights of this position", "N", panel="Output"),
)
def write(given: Given) -> None:
    """Write a saved result as a file that the article's page (text-dream) shows.

    The result is one of `dream`, `token-search`, `similar`, `reconstruct` or `concept edit`, saved with --json."""
    from tl_dream.interchange import as_result
    from tl_dream.results import read_json

    td.write_text_dream(as_result(read_json(given.file)), given.out, pos=given.pos)
    if not given.quiet:
        show(f"wrote {given.out}")
