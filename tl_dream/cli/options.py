"""How a subcommand of `tl-dream` is made, the options there are, and what a word means.

A subcommand is a function of what was given; what it returns is saved, drawn and printed:

    @command("search", "text Objective Model Output top=20", "tl-dream search --hook z", figure=drawn("bars", "hits"))
    def search(given: Given) -> SavedResult:
        \"\"\"What `tl-dream --help` says of it.\"\"\"
        return given.call(td.search)

An option means the same wherever it is (PANELS), or is the subcommand's own. Heavy libraries are imported inside
functions, so that `--help` is quick.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from inspect import Parameter, Signature, signature
from itertools import product
from types import SimpleNamespace
from typing import Any

import typer

import tl_dream as td
from tl_dream._errors import DreamError, require, unknown
from tl_dream.cli.output import check_outputs, finish

app = typer.Typer(
    help="Find the text that fires any hook point of a TransformerLens model.",
    epilog="Start with: tl-dream demo",
    context_settings={"help_option_names": ["--help", "-h"]},
    pretty_exceptions_enable=False,
)

Option = tuple[Any, Any, str]
"""Its type, typer's description of it, and what happens to the file it names: "read", "written", "saved" (the result,
"-" for stdout), "kept" (the result, to a file), or the plot of `tl_dream.plotting` that goes to it ("own": the one that
draws such a result)."""


def option(kind: Any, default: Any, help: str, metavar: str | None = None, *names: str, **more: Any) -> Option:
    """An option; `...` for its default makes it one that must be given. `file` says what happens to the file it names,
    `panel` where its help stands, and the rest is typer's."""
    file, panel = more.pop("file", ""), more.pop("panel", "Settings")
    metavar = "FILE" if file else " " if kind is bool else metavar
    return kind, typer.Option(default, *names, help=help, metavar=metavar, rich_help_panel=panel, **more), file


def argument(metavar: str, help: str) -> Option:
    """A file that is read, named without a word before it."""
    return str, typer.Argument(..., metavar=metavar, help=help, rich_help_panel="Arguments"), "read"


def drawn(plot: str, what: str) -> Option:
    """An option that names the file for a figure."""
    return option(str, None, f"draw {what} (.png, .pdf or .svg)", file=plot, panel="Output")


def choice(kind: str, names: str, help: str, default: str | None = None, **more: Any) -> Option:
    """An option that takes one of these names; the shell completes them, and a mistake lists the nearest."""
    known = names.split("|")

    def parse(text: str) -> str:
        if text not in known:
            raise unknown(kind, text, known)
        return text

    shown = names if len(names) < 20 else "NAME"  # all in the column of types they would leave no room for the help
    help += "" if shown == names else f": {', '.join(known)}"
    return option(str, default, help, shown, parser=parse, autocompletion=lambda: known, **more)


def read_word(complaint: str, read: Callable[[str], Any], *names: str) -> Callable[[str], Any]:
    """What reads a word: a name as it is, else what `read` makes of it; where that fails, the complaint."""

    def parse(text: str) -> Any:
        try:
            return text if text in names else read(text)
        except (ValueError, ArithmeticError) as error:
            raise error if isinstance(error, DreamError) else DreamError(f"{text!r} {complaint}") from None

    return parse


def positions(text: str) -> int | str | slice | list[int | str]:
    """What `--pos` and `--free` take (see POSITIONS), as the library's `Positions`."""
    if text == ",":
        return text  # a word
    items = re.findall(r'"[^"]+"|[^,]+', text)
    told = f"{text!r} names no position: give a number, a word, several of them with commas, or a slice like 2:5"
    require(bool(items) and len(items) == 1 + re.sub(r'"[^"]+"', "", text).count(","), told)
    return _item(items[0]) if len(items) == 1 else _several(items, text)


MANY = 10_000_000
"""No model has so many layers, units or positions."""


def _several(items: Sequence[str], text: str) -> list[Any]:
    """Of several items all that they stand for; nobody knows how much there is, so a slice needs both ends."""
    found: list[Any] = []
    for item in map(_item, items):
        if isinstance(item, slice):
            closed = None not in (item.start, item.stop) and min(item.start, item.stop) >= 0
            require(closed, f"in {text!r} a slice stands in a list: give it start and end, counted from 0 (like 2:5)")
            require(max(item.start, item.stop) <= MANY, f"a number in {text!r} is above {MANY:,}: no model has so many")
        found += range(item.start, item.stop, item.step or 1) if isinstance(item, slice) else [item]
    return found


def _item(text: str) -> int | str | slice:
    text = text.strip() or text
    require(len(text) < 1000, f"{text:.40}... is too long for a number or a word")  # Python's limit of digits is near
    if re.fullmatch(r"[-+]?\d+", text):
        return int(text)
    if len(text) > 2 and text[0] == text[-1] == '"':
        return text[1:-1]
    if re.fullmatch(r"(-?\d*):(-?\d*)(:-?\d+)?", text) and any(c.isdigit() for c in text):
        parts = [int(part) if part else None for part in text.split(":")]
        require(parts[2:] != [0], f"the slice {text!r} has step 0: leave the step out")
        return slice(*parts)
    return text


def position(text: str) -> int | str:
    """One position or one word (`--key`)."""
    found = positions(text)
    if not isinstance(found, int | str):
        raise DreamError(f"{text!r} is not one position or word")
    return found


NUMBERS = "names no layer, unit or head: give a number, several with commas (0,3), or a range like 0:6"
numbers = read_word(NUMBERS, lambda text: list(map(int, _several(text.split(","), text))))
layers = read_word(f"{NUMBERS}, or all", numbers, "all")


class TokenFile(list[str]):
    """Tokens out of a file, which they remember: `path`."""

    path = ""


def allowed(text: str) -> str | list[str]:
    """`--allowed`: rules, or `@FILE` with one token a line."""
    if not text.startswith("@"):
        return text
    from tl_dream.text import read_lines

    tokens = TokenFile(" ".join(read_lines(text[1:])).split())
    require(bool(tokens), f"the file {text[1:]!r} holds no token: write one a line")
    tokens.path = text[1:]
    return tokens


HOOKS = """embed pos_embed token_type_embed full_embed logits block_in q k v attn_scores pattern z result attn_out
resid_mid mlp_pre mlp_post mlp_out block_out resid_post""".split()  # to complete; the library checks what is given
POSITIONS = """\
POS is a position ([CLS] is 0, negatives count from the end), a word of the sentence, several of them with commas, or a
slice like 2:5. A word that looks like one of these goes in double quotes: --pos '"1998"'."""
RULES = "tokens to choose from: some of no_special, no_unused, ascii, whole_words; or @FILE, one token a line"
place = partial(option, Any, metavar="POS", parser=positions)

PANELS: dict[str, dict[str, Option]] = {
    "Objective: a unit of a hook (--hook), or a prediction (--token)": {
        "hook": option(str, None, "short name (mlp_post, ...) or a full one", "HOOK", autocompletion=lambda: HOOKS),
        "layer": option(Any, None, "layer of a short name, from 0", "N", parser=numbers),
        "unit": option(Any, None, "unit of the hook's last axis: see `tl-dream units`", "N", parser=numbers),
        "head": option(Any, None, "attention head", "N", parser=numbers),
        "pos": place(None, "where (see below); default: every word"),
        "key": option(Any, None, "position attended to (attention patterns)", "POS", parser=position),
        "reduce": choice("reduce", "max|mean", "over several positions", "max"),
        "token": option(str, None, "the model's prediction of this token at --pos (needs a trained head)"),
        "log_prob": option(bool, False, "with --token: the log-probability, not the logit"),
    },
    "Model": {
        "model": option(str, "minilm", '"minilm" (the packaged one), a Hugging Face name, or a folder'),
        "backend": choice("backend", "auto|hooked|bridge", "TransformerLens class", "auto"),
        "device": option(str, "cpu", "where to run: cpu, cuda, cuda:1, mps"),
        "dtype": choice("dtype", "float32|float64|bfloat16|float16", "of the weights", "float32"),
    },
    "Settings": {
        "allowed": option(Any, None, RULES, "RULES", parser=allowed),
        "starts": option(int, 1, "how often to start"),
        "steps": option(int, None, "gradient steps"),
        "top": option(int, 10, "how many to return"),
        "seconds": option(float, None, "to take at most; what was found by then is the result", "S"),
        "seed": option(int, 0, "of the random numbers"),
    },
    "Output": {
        "json": option(str, None, "write the whole result; - for stdout", file="saved"),
        "quiet": option(bool, False, "no progress, and no word of the files written", None, "--quiet", "-q"),
    },
    "Options": {
        "text": option(str, ..., "the sentence"),
        "layers": option(Any, "all", '"all", or some: 2, or 0,3, or 0:6', "N", parser=layers),
    },
}
for _panel, _shared in PANELS.items():
    for _, _info, _ in _shared.values():
        _info.rich_help_panel = _panel


class Given(SimpleNamespace):
    """What was given to a subcommand: an attribute for every option it takes."""

    def load(self) -> Any:
        """The model; a terminal shows that it is on its way."""
        from rich.console import Console

        with Console(stderr=True).status(f"loading {self.model}"):
            return self.loader()()

    def loader(self) -> Callable[[], Any]:
        """What loads the model, here or in another process."""
        import torch

        options = {"backend": self.backend, "device": self.device, "dtype": getattr(torch, self.dtype)}
        return partial(td.load_model, self.model, **options)

    def call(self, function: Callable[..., Any], **more: Any) -> Any:
        """Call a function of the library with `more`, and else with what was given by the names of its parameters
        (--no-NAME where that is the option, --text for its prompt). Mistakes in the words come before the model loads.
        """
        names = vars(self)
        found = {"objective": self.goal()} if "token" in names and "objective" not in more else {}
        found |= {"progress": not names.get("quiet"), "prompt": names.get("text")}
        found |= {name: value for name, value in names.items() if name != "allowed" or value}
        found |= {name[3:]: not value for name, value in names.items() if name.startswith("no_")} | more
        found |= {} if "model" in more else {"model": self.load()}
        return function(**{name: found[name] for name in signature(function).parameters if name in found})

    def goals(self) -> list[Any]:
        """An objective for every layer, head and unit named."""
        told = "say what to look for: either --hook (with --layer and --unit) or --token, and not both"
        require((self.hook is None) != (self.token is None), told)
        options = {"pos": self.pos, "reduce": self.reduce}
        if self.token is not None:
            stray = [name for name in ("layer", "unit", "head", "key") if getattr(self, name) is not None]
            require(not stray, f"--{' and --'.join(stray)} go with --hook, not with --token")
            return [td.logit(self.token, log_prob=self.log_prob, **options)]
        require(not self.log_prob, "--log-prob goes with --token, not with --hook")
        each = product(*(given or [None] for given in (self.layer, self.head, self.unit)))
        options |= {"key": self.key}
        return [td.neuron(self.hook, layer=layer, head=head, unit=unit, **options) for layer, head, unit in each]

    def goal(self) -> Any:
        """The one objective."""
        goals = self.goals()
        told = f"{len(goals)} units are named: this command takes one, `dream` and `corpus` take several"
        require(len(goals) == 1, told)
        return goals[0]


Run = Callable[[Given], Any]


def command(name: str, takes: str, example: str = "", to: typer.Typer = app, **own: Option) -> Callable[[Run], Run]:
    """Make a function the subcommand of this name. Parsed, it comes back as something to be called, so that all words
    are read before anything is done.

    Args:
        takes: options it shares with others: by name, with another default as `top=20`, or a panel for all in it.
        own: options of its own.
    """
    chosen: dict[str, Option] = {}
    for word, (panel, shared) in product(takes.split(), PANELS.items()):
        wanted, _, default = word.partition("=")
        for key, (kind, info, use) in shared.items():
            if wanted in (key, panel.partition(":")[0]):
                chosen[key] = kind, copy(info), use
                chosen[key][1].default = info.default if not default else default if kind is Any else kind(default)
    chosen |= own
    uses = {key: use for key, (_, _, use) in chosen.items() if use}

    def register(run: Run) -> Run:
        def parsed(**words: Any) -> Callable[[], None]:
            for key, value in words.items():
                taken = isinstance(value, str) and value in map(_word, words)
                require(not taken, f"{_word(key)} takes a value, and {value} is the next option")
            return partial(_run, run, Given(**words), uses)

        each = []
        for key, (kind, info, _) in chosen.items():
            if kind is bool:  # typer would add a --no-NAME
                info.param_decls = info.param_decls or [_word(key)]
            each.append(Parameter(key, Parameter.KEYWORD_ONLY, default=info, annotation=kind))
        parsed.__signature__ = Signature(each)  # type: ignore[attr-defined]
        places = " ".join(POSITIONS.split()) if any(info.metavar == "POS" for _, info, _ in chosen.values()) else ""
        epilog = "\n\n".join(filter(None, (places, example and f"Example: {example}")))
        to.command(name, help=run.__doc__, epilog=epilog)(parsed)
        return run

    return register


def _word(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _run(run: Run, given: Given, uses: Mapping[str, str]) -> None:
    """Check the files, then do the work."""
    named = [(use, path) for key, use in uses.items() if (path := getattr(given, key)) is not None]
    read = [path for use, path in named if use == "read"]
    read += [rules.path] if isinstance(rules := getattr(given, "allowed", None), TokenFile) else []
    written = [path for use, path in named if use in ("written", "kept")]
    figures = {use: path for use, path in named if use not in ("read", "written", "kept", "saved")}
    saved, kept = dict(named).get("saved"), dict(named).get("kept")
    check_outputs(saved, written, [*figures.values()], read)
    finish(lambda: run(given), saved or kept, getattr(given, "quiet", False), figures)
