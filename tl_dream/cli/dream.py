"""`tl-dream dream`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tl_dream._arguments import one_of
from tl_dream._errors import DreamError, require
from tl_dream.cli.options import (
    Subparsers,
    add_model_arguments,
    add_objective_arguments,
    check_outputs,
    load,
    objective,
)
from tl_dream.cli.output import finish
from tl_dream.cli.values import POSITIONS, allowed, positions, token_file, weight


def add_commands(subparsers: Subparsers) -> None:
    """dream."""
    parser = subparsers.add_parser(
        "dream",
        help="find real text that drives a unit up",
        description="Find real text that drives an objective up, starting from a sentence.",
        epilog=POSITIONS + 'Example: tl-dream dream --hook mlp_post --layer 4 --unit 414 --pos hate --text "i hate it"',
    )
    parser.add_argument("--text", action="append", help="the sentence to start from; may be repeated")
    parser.add_argument(
        "--free", type=positions, metavar="POS", help="what may change (see below); default: every word"
    )
    add_objective_arguments(parser)
    add_model_arguments(parser)
    group = parser.add_argument_group("search")
    group.add_argument("--method", default="auto", help="how to search: auto, anneal, gcg, epo or pez [%(default)s]")
    group.add_argument(
        "--budget", type=int, metavar="N", help="forward-tokens (rows x positions x layers) to spend [400000]"
    )
    group.add_argument(
        "--fluency",
        type=weight,
        metavar="WEIGHT",
        help="add the text's fluency with this weight, in units of the objective a nat; for epo the greatest of its "
        "members' weights (default: chosen from the scores)",
    )
    group.add_argument(
        "--judge",
        metavar="JUDGE",
        help="of the fluency: a text file (its bigrams are counted), or a model's name; default: the model's own head",
    )
    group.add_argument(
        "--masked",
        action="store_true",
        help="the fluency masks every word in turn (pseudo-log-likelihood), which costs a pass a word",
    )
    group.add_argument("--starts", type=int, default=1, help="starts of each sentence, as one batch [%(default)s]")
    group.add_argument(
        "--start",
        help='a corpus search\'s JSON file (its top ten); for anneal also "sentence", "random" or "uniform"',
    )
    group.add_argument(
        "--allowed",
        type=allowed,
        metavar="RULES",
        help="tokens that may be chosen: some of no_special, no_unused, ascii, whole_words; or @FILE, one token a line",
    )
    group.add_argument("--max-changes", type=int, metavar="N", help="words that may differ from the start's at most")
    group.add_argument(
        "--banned",
        action="append",
        metavar="TOKEN",
        help="a token that may not be chosen, exactly as spelled; may be repeated [what --token asks for]",
    )
    group.add_argument("--ban-nothing", action="store_true", help="what --token asks for may be chosen too")
    group.add_argument(
        "--no-retokenize", action="store_true", help="take tokens whose text does not tokenize back to them as well"
    )
    group.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    group = parser.add_argument_group("annealing", "any of these means --method anneal; the rest is the preset's")
    group.add_argument("--preset", help='"fast", or "article" for the article\'s settings [fast]')
    group.add_argument("--steps", type=int, help="gradient steps (also of pez)")
    group.add_argument("--learning-rate", type=float, help="of Adam, in logits a step")
    group.add_argument("--schedule", help='of the temperature: "geometric", "linear", "cosine" or "constant"')
    group.add_argument("--temperature", type=float, nargs=2, metavar=("START", "END"), help="both > 0")
    group.add_argument("--candidates", type=int, help="tokens each position chooses from; 0 for the whole vocabulary")
    group.add_argument("--noise", action="store_true", default=None, help="Gumbel noise on the logits")
    group = parser.add_argument_group("output")
    group.add_argument("--json", metavar="FILE", help="write the whole result; - for stdout")
    group.add_argument(
        "--figure", metavar="FILE", help="write Figure 1, for epo score against fluency (.png, .pdf or .svg)"
    )
    parser.set_defaults(run=run_dream)


def run_dream(arguments: argparse.Namespace) -> None:
    """`tl-dream dream`."""
    a = arguments
    check_outputs(a.json, figures=[a.figure], inputs=[a.start, a.judge, token_file(a.allowed)])
    goal = objective(a)
    _check_fluency(a)
    require(not (a.banned and a.ban_nothing), "--banned and --ban-nothing are both given: leave one out")
    word, start = corpus_start(a.start, a.text)
    method = _method(a, word)
    model = load(a)
    search, plot = (_front, "pareto") if a.method == "epo" else (_dream, "dream_history")
    finish(lambda: search(a, model, goal, start, method), a.json, **{plot: a.figure})


def _method(a: argparse.Namespace, start: str | None) -> Any:
    """The settings of the method; options of annealing stand for annealing."""
    from tl_dream.dreaming import ARTICLE, PEZ, Annealing

    changes = {
        "steps": a.steps,
        "start": start,
        "learning_rate": a.learning_rate,
        "schedule": a.schedule,
        "temperature": a.temperature,
        "noise": a.noise,
        "candidates": a.candidates,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    named = [*changes, *(["preset"] if a.preset is not None else [])]
    method = "anneal" if a.method == "auto" and named else a.method
    known = {"anneal": named, "pez": ["steps", "learning_rate"]}.get(method, [])
    foreign = [f"--{name.replace('_', '-')}" for name in named if name not in known]
    require(
        not foreign,
        f"--method {method} has no {', '.join(foreign)}: leave {'it' if len(foreign) == 1 else 'them'} out, or take "
        "--method anneal",
    )
    if method == "pez":
        return PEZ(**changes)
    if method != "anneal":
        return method
    presets = {"fast": Annealing(), "article": ARTICLE}
    base = presets[one_of("preset", a.preset or "fast", presets)]
    if "temperature" in changes:
        changes["start_temperature"], changes["end_temperature"] = changes.pop("temperature")
    if changes.get("candidates") == 0:
        changes["candidates"] = None
    if "schedule" in changes:
        changes["decay"] = None  # the article's belongs to its own schedule
    return replace(base, **changes)


def _check_fluency(a: argparse.Namespace) -> None:
    """What goes with --fluency goes with it; for epo there is a judge without it."""
    for option, given in (("--judge", a.judge is not None), ("--masked", a.masked)):
        require(
            not given or a.fluency is not None or a.method == "epo",
            f"{option} says whose fluency counts, and --fluency is missing: give its weight, such as 0.1",
        )
    require(
        a.method != "epo" or a.fluency is None or a.fluency >= 0,
        f"--fluency {a.fluency}: the weights of epo go from 0 to this: give at least 0",
    )


def _dream(a: argparse.Namespace, model: Any, goal: Any, start: Any, method: Any) -> Any:
    """Every method but epo."""
    from tl_dream.dreaming import dream

    if a.fluency is not None:
        goal = goal + a.fluency * judged(a, model)
    return dream(model, goal, start, method=method, **_shared(a))


def _front(a: argparse.Namespace, model: Any, goal: Any, start: Any, method: Any) -> Any:
    """epo brings back the whole front."""
    from tl_dream.dreaming import EPO, default_judge, epo, spread_penalties
    from tl_dream.models import attached

    judge = judged(a, model) if a.judge is not None or a.masked else None
    settings = EPO(judge, penalties=None if a.fluency is None else spread_penalties(a.fluency, EPO().population))
    with attached(model) as host:
        require(
            a.figure is None or default_judge(host, settings) is not None,
            "--figure draws score against fluency, and this model can't judge that itself: give --judge",
        )
    return epo(model, goal, start, method=settings, **_shared(a))


def _shared(a: argparse.Namespace) -> dict[str, Any]:
    """What all methods take."""
    names = ("free", "budget", "starts", "max_changes", "seed")
    return {
        **{name: getattr(a, name) for name in names},
        "banned": () if a.ban_nothing else a.banned,
        "retokenize": not a.no_retokenize,
        **({} if a.allowed is None else {"allowed": a.allowed}),
    }


def corpus_start(start: str | None, texts: Sequence[str] | None) -> tuple[str | None, Any]:
    """--start: the word where it is one, and what the search starts from: the texts, or a corpus search's file.

    Raises:
        DreamError: neither a sentence nor such a file, or both.
    """
    if start is not None and start.endswith(".json"):
        from tl_dream.results import CorpusResult

        if texts:
            raise DreamError("--text and a corpus search in --start are both given: start from one of them")
        return None, CorpusResult.load(start)
    if not texts:
        raise DreamError("no sentence to start from: give --text, or a corpus search's JSON file in --start")
    return start, texts[0] if len(texts) == 1 else list(texts)


def judged(arguments: argparse.Namespace, model: Any) -> Any:
    """--judge and --masked as the fluency they give."""
    from tl_dream.models import load_model
    from tl_dream.objectives import count_bigrams, fluency

    masked = arguments.masked
    if arguments.judge is None:
        return fluency(model, masked=True) if masked else fluency()
    if os.path.isfile(arguments.judge):
        return fluency(count_bigrams(model, arguments.judge), masked=masked)
    return fluency(load_model(arguments.judge, backend=arguments.backend, device=arguments.device), masked=masked)
