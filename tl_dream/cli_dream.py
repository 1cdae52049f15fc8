"""`tl-dream dream`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tl_dream._errors import DreamError
from tl_dream.cli_options import (
    POSITIONS,
    Subparsers,
    add_model_arguments,
    add_objective_arguments,
    allowed,
    check_outputs,
    load,
    objective,
    positions,
    print_written,
)


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
        type=float,
        metavar="WEIGHT",
        help="add the text's fluency with this weight, in units of the objective a nat; for epo it only turns it on",
    )
    group.add_argument(
        "--judge",
        metavar="JUDGE",
        help="of the fluency: a text file (its bigrams are counted), or a model's name; default: the model's own head",
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
        "--banned", action="append", metavar="TOKEN", help="a token that may not be chosen; may be repeated"
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
    group.add_argument("--json", metavar="FILE", help="write the whole result")
    group.add_argument("--figure", metavar="FILE", help="write Figure 1 (.png, .pdf or .svg)")
    parser.set_defaults(run=run_dream)


def run_dream(arguments: argparse.Namespace) -> None:
    """`tl-dream dream`."""
    a = arguments
    check_outputs(a.json, figures=[a.figure])
    goal = objective(a)
    if a.judge is not None and a.fluency is None:
        raise DreamError("--judge says whose fluency counts, and --fluency is missing: give its weight, such as 0.1")
    start = corpus_start(a.start, a.text)
    model = load(a)
    from tl_dream.dreaming import dream

    options = {} if a.allowed is None else {"allowed": a.allowed}
    if a.fluency is not None and a.method == "epo":
        options["fluency"] = judged(a, model)
    elif a.fluency is not None:
        goal = goal + a.fluency * judged(a, model)
    texts = a.text or [None]
    try:
        result = dream(
            model,
            goal,
            texts[0] if len(texts) == 1 else texts,
            free=a.free,
            method=a.method,
            budget=a.budget,
            max_changes=a.max_changes,
            banned=a.banned,
            preset=a.preset,
            steps=a.steps,
            starts=a.starts,
            start=start,
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
    print_written(a.json, a.figure)


def corpus_start(start: str | None, texts: Sequence[str] | None) -> Any:
    """--start: a corpus search's file where it names one, else as it is.

    Raises:
        DreamError: neither a sentence nor such a file, or both.
    """
    if start is not None and start.endswith(".json"):
        from tl_dream.corpus_results import CorpusResult

        if texts:
            raise DreamError("--text and a corpus search in --start are both given: start from one of them")
        return CorpusResult.load(start)
    if not texts:
        raise DreamError("no sentence to start from: give --text, or a corpus search's JSON file in --start")
    return start


def judged(arguments: argparse.Namespace, model: Any) -> Any:
    """--judge as the fluency it gives."""
    from tl_dream.bigrams import count_bigrams
    from tl_dream.judges import fluency
    from tl_dream.models import load_model

    if arguments.judge is None:
        return fluency()
    if Path(arguments.judge).is_file():
        return fluency(count_bigrams(model, arguments.judge))
    return fluency(load_model(arguments.judge, backend=arguments.backend, device=arguments.device))


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
