"""`tl-dream dream`."""

from __future__ import annotations

import os
from dataclasses import replace
from fractions import Fraction
from typing import Any

import tl_dream as td
from tl_dream._errors import require
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
    goals, evolve, corpus = given.goals(), given.method == "epo", (given.start or "").endswith(".json")
    for name in ("judge", "masked"):
        told = f"--{name} says whose fluency counts, and --fluency is missing: give its weight, such as 0.1"
        require(evolve or given.fluency is not None or not getattr(given, name), told)
    least = f"--fluency {given.fluency}: the weights of epo go from 0 to this: give at least 0"
    require(not evolve or (given.fluency or 0) >= 0, least)
    require(len(goals) == 1 or not evolve, "--method epo brings back the front of one unit: name one")
    require(not (given.banned and given.ban_nothing), "--banned and --ban-nothing are both given: leave one out")
    both = "--text and a corpus search in --start are both given: start from one of them"
    require(not (corpus and given.text), both)
    neither = "no sentence to start from: give --text, or a corpus search's JSON file in --start"
    require(corpus or bool(given.text), neither)
    prompts: list[Any] = [td.CorpusResult.load(given.start)] if corpus else given.text
    prompt = prompts if len(prompts) > 1 else prompts[0]
    method = _method(given, None if corpus else given.start)
    bert, banned = given.load(), () if given.ban_nothing else given.banned or None
    if given.fluency is not None and not evolve:
        fluent = given.fluency * _judged(given, bert)
        goals = [goal + fluent for goal in goals]
    more = {"model": bert, "objective": goals[0], "prompt": prompt, "banned": banned, "method": method}
    if evolve:
        return given.call(td.epo, **more | {"method": _epo(given, bert)})
    if len(goals) == 1:
        return given.call(td.dream, **more)
    if given.free is not None:
        require(not corpus, "--free names words of a --text, and --start brings other sentences: leave it out")
        prompt = [td.Prompt(text, free=given.free) for text in prompts]
    from tl_dream.dreaming import in_order

    return in_order(given.call(td.dream_many, jobs=[(goal, prompt) for goal in goals], **more))


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


def _epo(given: Given, bert: Any) -> Any:
    """The settings of epo, which brings back the whole front."""
    from tl_dream.dreaming import default_judge, spread_penalties
    from tl_dream.models import attached

    judge = _judged(given, bert) if given.judge is not None or given.masked else None
    spread = None if given.fluency is None else spread_penalties(given.fluency, td.EPO().population)
    settings = td.EPO(judge, penalties=spread)
    with attached(bert) as host:
        judged = default_judge(host, settings) is not None
    told = "--figure draws score against fluency, and this model can't judge that itself: give --judge"
    require(given.figure is None or judged, told)
    return settings


def _judged(given: Given, bert: Any) -> Any:
    """--judge and --masked as the fluency they give."""
    if given.judge is None:
        return td.fluency(bert, masked=True) if given.masked else td.fluency()
    if os.path.isfile(given.judge):
        return td.fluency(td.count_bigrams(bert, given.judge), masked=given.masked)
    return td.fluency(td.load_model(given.judge, backend=given.backend, device=given.device), masked=given.masked)
