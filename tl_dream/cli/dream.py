"""`tl-dream dream`."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tl_dream._errors import DreamError, require
from tl_dream.cli.options import Given, choice, command, drawn, option, place, read_word

ANNEALING = "Annealing: any of these means --method anneal; the rest is the preset's"
SCHEDULES = "geometric|linear|cosine|constant"


# A Fraction is finite, which a float need not be
weight = read_word("is no weight: give a finite number, such as 0.1", lambda text: float(Fraction(text)))


@command(
    "dream",
    "Objective Model Output starts steps allowed seed seconds",
    'tl-dream dream --hook mlp_post --layer 4 --unit 414 --pos hate --text "i hate it"',
    text=option(list[str], None, "the sentence to start from; may be repeated", "TEXT", panel="Options"),
    free=place(None, "what may change (see below); default: every word", panel="Options"),
    method=choice("method", "auto|anneal|gcg|epo|pez", "how to search", "auto"),
    budget=option(int, None, "forward-tokens (rows x positions x layers) to spend", show_default="400000"),
    fluency=option(Any, None, "weight of the text's fluency; for epo the greatest", "WEIGHT", parser=weight),
    judge=option(str, None, "whose fluency: a text file's (its bigrams), or a model's; default: its own", file="read"),
    masked=option(bool, False, "the fluency masks every word in turn (pseudo-log-likelihood): a pass a word"),
    start=option(str, None, 'a corpus search (JSON); for anneal "sentence", "random", "uniform"', file="read"),
    max_changes=option(int, None, "words that may differ from the start's at most"),
    banned=option(list[str], None, "a token not to choose, exactly so; may be repeated", "TOKEN"),
    ban_nothing=option(bool, False, "what --token asks for may be chosen too (it is banned else)"),
    no_retokenize=option(bool, False, "take tokens whose text does not tokenize back to them as well"),
    preset=choice("preset", "fast|article", "article: the article's settings", panel=ANNEALING),
    learning_rate=option(float, None, "of Adam, in logits a step", panel=ANNEALING),
    schedule=choice("temperature schedule", SCHEDULES, "of the temperature", panel=ANNEALING),
    temperature=option(tuple[float, float], None, "both > 0", "START END", panel=ANNEALING),
    candidates=option(int, None, "tokens each position chooses from; 0 for the whole vocabulary", panel=ANNEALING),
    noise=option(bool, False, "Gumbel noise on the logits", panel=ANNEALING),
    figure=drawn("dream_history", "Figure 1, for epo score against fluency"),
)
def dream(given: Given) -> Any:
    """Find real text that drives a unit up, or several units, or any objective, starting from a sentence.

    Several (--unit 3,7 or --unit 0:100) go on side by side; --json gets a list, and figures are numbered."""
    goals, alone = given.goals(), given.fluency is None and given.method != "epo"
    for name in ("judge", "masked"):
        told = f"--{name} says whose fluency counts, and --fluency is missing: give its weight, such as 0.1"
        require(not (alone and getattr(given, name)), told)
    negative = given.method == "epo" and (given.fluency or 0) < 0
    require(not negative, f"--fluency {given.fluency}: the weights of epo go from 0 to this: give at least 0")
    require(len(goals) == 1 or given.method != "epo", "--method epo brings back the front of one unit: name one")
    require(not (given.banned and given.ban_nothing), "--banned and --ban-nothing are both given: leave one out")
    word, prompt = _start(given)
    method = _method(given, word)
    bert = given.load()
    options = given.take("budget seconds starts max_changes seed")
    options |= {"banned": () if given.ban_nothing else given.banned or None, "retokenize": not given.no_retokenize}
    if given.method == "epo":
        return _front(given, bert, goals[0], prompt, options)
    from tl_dream.dreaming import dream

    if given.fluency is not None:
        fluency = given.fluency * _judged(given, bert)
        goals = [goal + fluency for goal in goals]
    if len(goals) == 1:
        return dream(bert, goals[0], prompt, method=method, free=given.free, **options)
    return _many(bert, goals, prompt if given.free is None else _freed(given), {"method": method, **options})


def _method(given: Given, start: str | None) -> Any:
    """The settings of the method; options of annealing stand for annealing."""
    from tl_dream.dreaming import ARTICLE, PEZ, Annealing

    names = ("steps", "learning_rate", "schedule", "temperature", "candidates", "noise", "preset")
    changes = {name: value for name in names if (value := getattr(given, name)) is not None and value is not False}
    changes |= {} if start is None else {"start": start}
    method = "anneal" if given.method == "auto" and changes else given.method
    known = {"anneal": [*changes], "pez": ["steps", "learning_rate"]}.get(method, [])
    foreign = ", ".join(f"--{name.replace('_', '-')}" for name in changes if name not in known)
    require(not foreign, f"--method {method} has no {foreign}: leave that out, or take --method anneal")
    if method != "anneal":
        return PEZ(**changes) if method == "pez" else method
    base = ARTICLE if changes.pop("preset", None) == "article" else Annealing()
    if "temperature" in changes:
        changes["start_temperature"], changes["end_temperature"] = changes.pop("temperature")
    changes |= {"candidates": None} if changes.get("candidates") == 0 else {}
    changes |= {"decay": None} if "schedule" in changes else {}  # the article's belongs to its own schedule
    return replace(base, **changes)


def _front(given: Given, bert: Any, goal: Any, prompt: Any, options: dict[str, Any]) -> Any:
    """epo brings back the whole front."""
    from tl_dream.dreaming import EPO, default_judge, epo, spread_penalties
    from tl_dream.models import attached

    judge = _judged(given, bert) if given.judge is not None or given.masked else None
    penalties = None if given.fluency is None else spread_penalties(given.fluency, EPO().population)
    settings = EPO(judge, penalties=penalties)
    with attached(bert) as host:
        judged = default_judge(host, settings) is not None
    told = "--figure draws score against fluency, and this model can't judge that itself: give --judge"
    require(given.figure is None or judged, told)
    return epo(bert, goal, prompt, method=settings, free=given.free, **options)


def _freed(given: Given) -> Any:
    from tl_dream.text import Prompt

    require(bool(given.text), "--free names words of a --text, and --start brings other sentences: leave it out")
    return [Prompt(text, free=given.free) for text in given.text]


def _many(bert: Any, goals: list[Any], prompt: Any, options: dict[str, Any]) -> tuple[Any, ...]:
    """The dreams of several objectives, in their order; where some fail, the others come with the error."""
    from tl_dream.dreaming import dream_many

    found: dict[int, Any] = {}
    errors: list[str] = []
    try:
        for one in dream_many(bert, [(goal, prompt) for goal in goals], **options):
            found |= {} if one.dream is None else {one.number: one.dream}
            errors += [] if one.error is None else [f"{one.objective}: {one.error}"]
    except KeyboardInterrupt as stop:
        found |= {one.number: one.dream for one in getattr(stop, "partial", ()) if one.dream is not None}
        stop.partial = tuple(found[number] for number in sorted(found)) or None  # type: ignore[attr-defined]
        raise
    dreams = tuple(found[number] for number in sorted(found))
    if errors:
        raise DreamError("; ".join(errors), dreams or None)
    return dreams


def _start(given: Given) -> tuple[str | None, Any]:
    """--start: the word where it is one, and what the search starts from: the texts, or a corpus search's file."""
    if given.start is not None and given.start.endswith(".json"):
        from tl_dream.results import CorpusResult

        require(not given.text, "--text and a corpus search in --start are both given: start from one of them")
        return None, CorpusResult.load(given.start)
    require(bool(given.text), "no sentence to start from: give --text, or a corpus search's JSON file in --start")
    return given.start, given.text[0] if len(given.text) == 1 else given.text


def _judged(given: Given, bert: Any) -> Any:
    """--judge and --masked as the fluency they give."""
    from tl_dream.models import load_model
    from tl_dream.objectives import count_bigrams, fluency

    if given.judge is None:
        return fluency(bert, masked=True) if given.masked else fluency()
    if os.path.isfile(given.judge):
        return fluency(count_bigrams(bert, given.judge), masked=given.masked)
    return fluency(load_model(given.judge, backend=given.backend, device=given.device), masked=given.masked)
