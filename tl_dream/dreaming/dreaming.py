"""`dream`, `gcg` and `epo`: the front doors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tl_dream._arguments import Number, Whole
from tl_dream._errors import require
from tl_dream.dreaming.coordinate_gradient import EPO, GCG
from tl_dream.dreaming.task import DreamTask, Method, method_of
from tl_dream.models import attached
from tl_dream.objectives import Objective
from tl_dream.results import Dream, Frontier
from tl_dream.search import Callback, Start, run
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Positions


def dream(
    model: Any,
    objective: Objective,
    prompt: Start,
    *,
    free: Positions = None,
    method: str | Method = "auto",
    budget: Whole | None = None,
    seconds: Number | None = None,
    starts: Whole = 1,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Iterable[Any] | None = None,
    max_changes: Whole | None = None,
    retokenize: bool = True,
    seed: Whole = 0,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> Dream:
    """Find real text that drives an objective up, starting from a sentence.

    Never returns something worse than it saw: the best real tokens ever scored, the start included. A unit behind an
    activation function is climbed by what comes before it as long as it is off (see `Objective.uphill`), and the result
    says whether it fired.

    Methods, by name or with their settings:

    - "auto", `Auto(...)`: what does best at equal cost: rounds of projected gradient ascent, then swaps that the
      gradient ranks, the best of a step merged; where these come to a halt, fresh starts from the sentence, from
      ordinary sentences that the package ships and from random words.
    - "anneal", `Annealing(...)`: annealed Gumbel-Softmax ascent; `ARTICLE` holds the article's own settings.
    - "gcg", `GCG(...)`: greedy coordinate gradient (Zou et al. 2023).
    - "epo", `EPO(...)`: a population with a fluency penalty each (Thompson et al. 2024); `epo` gives the whole front.
    - "pez", `PEZ(...)`: projected gradient ascent (after Wen et al. 2023).

    "auto" ends where the budget is spent, or where every text there is was scored (`stopped` is "complete"): where one
    word is free and no budget is given, as `token_search` does, and where the budget covers all sentences there are. On
    the way a sweep tries every swap of one word of the best text where the budget covers free words x allowed tokens
    sentences; the result says whether none is better (`optimum`). With MiniLM's 29,523 tokens that is far beyond the
    default for a whole sentence (14 words of 16 tokens, read at layer 2: 413,000 sentences, 20 million forward-tokens);
    400,000 certify few free words, or a short list in `allowed`.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to climb; higher is better.
        prompt: a sentence, several that dream side by side, or a corpus search, whose top ten are the starts.
        free: the positions that may change (see `Positions`), where the prompt is plain text; None frees every word.
        method: see above.
        budget: forward-tokens (rows x positions x layers) to spend at most; scoring the starts is the least that is
            ever spent. None takes 400,000 for the searches over real tokens, whatever it takes for one free word, and
            the given steps for `Annealing` and `PEZ`.
        seconds: to take at most, by the wall clock; `stopped` is then "seconds".
        starts: how often each sentence is started, all in one batch.
        allowed: tokens that free positions may take.
        banned: tokens that they may not: exactly these, no other spelling ("Cat", "##cat"). What the start holds may
            stay. None bans the token that a `logit` objective asks for, () bans none.
        max_changes: words that may differ from the start's at most; None sets no limit.
        retokenize: return only tokens whose text tokenizes back to themselves; not asked where the start itself does
            not, or where [CLS] or [SEP] is free.
        seed: of the local random generator; the global one is left alone.
        callback: receives a `Progress` after every evaluation; a true return value stops the run.
        progress: show a progress bar; None shows it on a terminal only.

    Raises:
        DreamError: bad input (see the message), or scores or a gradient that became NaN or infinite.
        DreamError, KeyboardInterrupt: what ends a run after some work (Ctrl-C too) brings the `Dream` so far as its
            `partial`, with the best real tokens seen; `stopped` is "failure" or "interrupted".

    Examples:
        >>> goal = td.neuron("mlp_post", layer=1, unit=3, pos=2)
        >>> found = td.dream(bert, goal, "i hate kickshaws .", method=td.GCG(candidates=16), budget=2_000)
        >>> found.best.score >= found.start.score
        True
    """
    task = DreamTask.of(
        method,
        budget=budget,
        starts=starts,
        allowed=allowed,
        banned=banned,
        max_changes=max_changes,
        retokenize=retokenize,
        seed=seed,
    )
    with attached(model, seconds) as host:
        return run(host, task.search(host, objective, prompt, free, callback=callback, progress=progress))


def gcg(
    model: Any,
    objective: Objective,
    prompt: Start,
    *,
    free: Positions = None,
    method: str | Method = "gcg",
    budget: Whole | None = None,
    seconds: Number | None = None,
    starts: Whole = 1,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Iterable[Any] | None = None,
    max_changes: Whole | None = None,
    retokenize: bool = True,
    seed: Whole = 0,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> Dream:
    """`dream` by greedy coordinate gradient (see `GCG` for its settings); arguments and errors are its own.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3, pos=2)
        >>> td.gcg(bert, goal, "the red dog", method=td.GCG(candidates=16), budget=1_000).stopped
        'budget'
    """
    require(
        isinstance(method_of(method), GCG), f"method = {method!r:.80}: gcg takes td.GCG(...); dream takes any method"
    )
    return dream(
        model,
        objective,
        prompt,
        free=free,
        method=method,
        budget=budget,
        seconds=seconds,
        starts=starts,
        allowed=allowed,
        banned=banned,
        max_changes=max_changes,
        retokenize=retokenize,
        seed=seed,
        callback=callback,
        progress=progress,
    )


def epo(
    model: Any,
    objective: Objective,
    prompt: Start,
    *,
    free: Positions = None,
    method: str | Method = "epo",
    budget: Whole | None = None,
    seconds: Number | None = None,
    starts: Whole = 1,
    allowed: Allowed = DEFAULT_ALLOWED,
    banned: Iterable[Any] | None = None,
    max_changes: Whole | None = None,
    retokenize: bool = True,
    seed: Whole = 0,
    callback: Callback | None = None,
    progress: bool | None = None,
) -> Frontier:
    """Evolutionary prompt optimization: the whole front of activation against fluency (see `EPO` for its settings).

    Arguments are those of `dream`. The judge's forward-tokens count in the budget; the population is dealt out to the
    `starts`.

    Raises:
        DreamError: bad input, or scores, fluency or a gradient that became NaN or infinite.
        DreamError, KeyboardInterrupt: `error.partial` is the `Frontier` so far, as in `dream`.

    Examples:
        >>> judge = td.fluency(td.count_bigrams(bert, ["the red dog hates me .", "i hate the sun ."]))
        >>> goal = td.neuron("mlp_post", layer=1, unit=3)
        >>> front = td.epo(bert, goal, "the red dog hates me .", method=td.EPO(fluency=judge), budget=5_000)
        >>> front.front[0].scored.score >= front.start.scored.score
        True
    """
    require(
        isinstance(method_of(method), EPO), f"method = {method!r:.80}: epo takes td.EPO(...); dream takes any method"
    )
    task = DreamTask.of(
        method,
        budget=budget,
        starts=starts,
        allowed=allowed,
        banned=banned,
        max_changes=max_changes,
        retokenize=retokenize,
        seed=seed,
    )
    with attached(model, seconds) as host:
        search = task.search(host, objective, prompt, free, callback=callback, progress=progress, front=True)
        return run(host, search)
