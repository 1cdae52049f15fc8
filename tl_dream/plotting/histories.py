"""Results -> matplotlib Axes. Nothing here runs a model or shows a figure: save or show `ax.figure` yourself.

    ax = dream_history(result)          # the article's Figure 1
    save_figure(ax.figure, "dream.png")

A picture fills the place of one Axes, made here or given as `ax`. That Axes comes back, emptied; the panels drawn in
its place are in `ax.figure.axes` and found by `get_label()`: "tokens", "score", "temperature", "step 40".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tl_dream._arguments import Whole, flag, is_whole, listed, plain
from tl_dream._errors import DreamError, require, unknown
from tl_dream.plotting.canvas import (
    OWN,
    Title,
    add_panel,
    blank,
    draw_key,
    expect,
    fill,
    fitting,
    framed,
    key_height,
    spread,
    styled,
)
from tl_dream.plotting.style import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PALE,
    VERMILLION,
    YELLOW,
    paper,
    readable,
    scaled,
    small,
    themed,
)
from tl_dream.plotting.token_table import draw_tokens, lay_out
from tl_dream.results import Dream, History, Run, WordWeights, get_run


@styled
def dream_history(
    dream: Any, *, run: Whole = 0, tokens: bool = True, title: Title = OWN, ax: Axes | None = None
) -> Axes:
    """The article's Figure 1: the most likely tokens over the steps, beside the scores and the temperature.

    Rows are recorded steps (at most a dozen, evenly spaced, the best among them), columns positions; a long sentence
    goes on in a second block, and then the curves stand below. Shading is the softmax weight of a token, bold tokens
    differ from the start's, a bar marks those that differ from the row above. The star is the best real tokens.

    Args:
        dream: the result.
        run: 0 for the winner, 1 for the first of `dream.others`, and so on.
        tokens: False draws one panel, without the table: both scores and, on an axis of its own at the right, the
            temperature. So it is also in a given place that has no room for the table.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "tokens", "score" and "temperature".

    Raises:
        DreamError: no such run, or one without records.

    Examples:
        >>> dream = td.dream(bert, td.neuron("mlp_post", layer=1, unit=3, pos=2), "the red dog", budget=1000)
        >>> ax = plotting.dream_history(dream)
    """
    expect(dream, "of dream()", Dream)
    chosen = get_run(dream, run)
    history = chosen.history
    require(len(history) > 0, "nothing to draw: the history holds no record (the run stopped before its first)")
    annealed = any(math.isfinite(value) for value in history.temperature)  # the discrete methods have none
    layout = lay_out(chosen, None) if flag("tokens", tokens) and ax is None else None
    frame = framed(ax, title, f"{dream.objective} on {dream.model}", layout.width if layout else scaled(5.0))
    if tokens and frame.given:
        layout = lay_out(chosen, (frame.width, frame.body))
    if layout is None:
        names = ["best real tokens"] * (5 if annealed else 4)  # the longest
        host, cells = fill(frame, scaled(2.8), key=names)
        score = add_panel(host, cells[0], "score")
        handles = _draw_scores(score, chosen)
        handles += _draw_temperature(score.twinx(), history) if annealed else []
        draw_key(host, cells[1], handles, frame.width)
        score.set_xlabel("step")
        return host
    host, (body,) = fill(frame, layout.body)
    table = frame.body - layout.below if frame.given else layout.body - layout.below
    if layout.beside:
        whole = body.subgridspec(1, 2, width_ratios=[layout.width - layout.beside, layout.beside])
        curves = whole[1].subgridspec(2, 1, height_ratios=[2.4, 1])
    else:
        whole = body.subgridspec(2, 1, height_ratios=[table, layout.below])
        curves = whole[1].subgridspec(1, 2, width_ratios=[2, 1])
    blocks = whole[0].subgridspec(len(layout.blocks), 1, height_ratios=layout.heights)
    for i in range(len(layout.blocks)):
        draw_tokens(blank(host, blocks[i], "tokens" if i == 0 else f"tokens {i + 1}"), layout, i, history.free)
    score = add_panel(host, curves[0] if annealed else whole[1], "score")
    above: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "columnspacing": 1.5}
    score.legend(handles=_draw_scores(score, chosen), ncols=2, frameon=False, handlelength=2.4, **above)
    if annealed:
        temperature = add_panel(host, curves[1], "temperature", sharex=score)
        _draw_temperature(temperature, history)
        temperature.set_xlabel("step")
    score.tick_params(labelbottom=not (annealed and layout.beside))
    score.set_xlabel("" if annealed and layout.beside else "step")
    return host


def _draw_temperature(ax: Axes, history: History) -> list[Any]:
    ax.set_label("temperature")
    ax.set_ylabel("temperature")
    ax.spines["right"].set_visible(ax.yaxis.get_ticks_position() == "right")
    lines = ax.plot(history.step, history.temperature, color=themed(INK), linestyle="-.", label="temperature")
    ax.set_ylim(bottom=0)
    return lines


def _draw_scores(ax: Axes, run: Run) -> list[Any]:
    """Both scores, the start's and the best; what the legend names."""
    history, lines = run.history, []
    if history.soft_score:
        lines = ax.plot(history.step, history.soft_score, color=themed(BLUE), linestyle="--", label="soft sentence")
    look: dict[str, Any] = {"color": themed(VERMILLION), "linewidth": 1.0, "label": "real tokens", "markersize": 2.5}
    look["drawstyle"] = "default" if history.soft_score else "steps-post"
    lines += ax.plot(history.step, history.hard_score, marker="o" if len(history) <= 60 else "", **look)
    lines.append(ax.axhline(run.start.score, color=themed(GREY), linestyle=":", linewidth=1.2, label="start", zorder=1))
    star: dict[str, Any] = {"marker": "*", "markersize": 11, "markerfacecolor": YELLOW, "markeredgecolor": themed(INK)}
    star |= {"linestyle": "none", "label": "best real tokens", "zorder": 5, "clip_on": False}
    lines += ax.plot([run.best.step], [run.best.score], **star)
    ax.set_ylabel("score")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return lines


@styled
def annealing(
    dream: Any,
    pos: Whole | str | None = None,
    *,
    run: Whole = 0,
    steps: Whole | Iterable[Any] | None = None,
    k: Whole | None = None,
    title: Title = OWN,
    ax: Axes | None = None,
) -> Axes:
    """The article's Figure 2: how the softmax of one free word settles as the temperature falls.

    Small multiples, one a step: bars are the softmax weights of the `k` most likely tokens, those without any left out.
    Hatched bars follow two tokens: the start's, and the one that is most likely at the last record.

    Args:
        dream: the result of an annealed ascent; or one word of one, as `read_text_dream` reads it.
        pos: a free position (negative ones count from the end), or its token in the start; None where only one is
            free.
        run: 0 for the winner, 1 for the first of `dream.others`, and so on.
        steps: recorded steps to show; None takes five: four evenly spaced until the word has settled, and the last; in
            a given place as many as it has room for.
        k: tokens a step, 1 to the `top_k` of the run; None takes eight, or as many as there are or have room.
        title: over the picture; "{}" in it is what the picture is of, None is no title.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "step 0", "step 40", ...

    Raises:
        DreamError: no such run, a position that is not there or was not free, a step that was not recorded, or more
            tokens than the history keeps, or a dream of a method that has no softmax.

    Examples:
        >>> goal = td.neuron("mlp_post", layer=1, unit=3, pos=2)
        >>> dream = td.dream(bert, goal, "the red dog", method=td.Annealing(steps=20))
        >>> ax = plotting.annealing(dream, "red")
    """
    expect(dream, "of dream()", Dream, WordWeights)
    if isinstance(dream, WordWeights):
        words, history = dream.place.tokens, _history(dream)
    else:
        chosen = get_run(dream, run)
        words, history = chosen.start.tokens, chosen.history
    require(len(history) > 0, "nothing to draw: the history holds no record (the run stopped before its first)")
    kept = len(history.top_tokens[0][0]) if history.top_tokens and history.top_tokens[0] else 0
    require(
        kept > 0,
        "this run has no softmax to draw: only annealed ascent keeps the weights of each position. Dream with "
        "method=td.Annealing(...)",
    )
    position = _position(words, history.free, plain(pos))
    slot = history.free.index(position)
    require(
        k is None or is_whole(plain(k)) and 1 <= plain(k) <= kept,
        f"k = {k!r}: this run's history keeps the {kept} most likely tokens of each position; give 1 to {kept}",
    )
    given = None if steps is None else _recorded(history, listed(steps))
    count = 5 if given is None else len(given)
    said = f"softmax at position {position}: {dream.objective} on {dream.model}"
    frame = framed(ax, title, said, scaled(1.85 * min(count, 5, len(history)) + 0.3))
    across = fitting(min(count, 5), frame.width, scaled(1.45))
    records = _settling(history, slot, across if frame.given else count) if given is None else given
    across = min(across, len(records))
    down = math.ceil(len(records) / across)
    before, after = words[position], history.top_tokens[-1][slot][0]
    marks = [(BLUE, "..", f"start: {readable(before)}")] if before != after else []
    marks.append((ORANGE, "//", f"last: {readable(after)}" + ("" if marks else " (the start's own)")))
    legend = key_height([name for _, _, name in marks], frame.width)
    most = fitting(8, (frame.body - legend) / down - scaled(0.75), scaled(0.15))
    k = min(most, kept) if k is None else int(plain(k))
    host, (body, foot) = fill(frame, down * scaled(0.75 + 0.19 * max(k, 3)), legend)
    cells = body.subgridspec(down, across)
    for number, record in enumerate(records):
        cell = add_panel(host, cells[number // across, number % across], f"step {history.step[record]}")
        weights = [weight for weight in history.top_weights[record][slot][:k] if weight > 0]  # 0: not allowed
        _draw_bars(cell, history.top_tokens[record][slot][: len(weights)], weights, before, after, k)
        heat = f"\ntemperature {history.temperature[record]:.2g}" if history.temperature else ""
        cell.set_title(f"step {history.step[record]}{heat}")
        if number + across >= len(records):
            cell.set_xlabel("softmax weight")
    edge: dict[str, Any] = {"edgecolor": themed(INK), "linewidth": 0.6}
    handles = [Patch(facecolor=themed(colour), hatch=hatch, label=name, **edge) for colour, hatch, name in marks]
    draw_key(host, foot, handles, frame.width)
    return host


def _draw_bars(ax: Axes, tokens: Sequence[str], weights: Sequence[float], before: str, after: str, k: int) -> None:
    for i, (token, weight) in enumerate(zip(tokens, weights, strict=True)):
        colour, hatch = (ORANGE, "//") if token == after else (BLUE, "..") if token == before else (PALE, "")
        ax.barh(i, weight, height=0.75, color=themed(colour), hatch=hatch, edgecolor=themed(INK), linewidth=0.6)
        inside = weight > 0.75
        ground = {"facecolor": paper(), "edgecolor": "none", "pad": 0.8} if inside else None
        x, ha, shown = weight + (-0.03 if inside else 0.03), "right" if inside else "left", f"{weight:.2f}"
        ax.text(x, i, shown if weight >= 0.005 else "<0.01", ha=ha, va="center", size=small(), bbox=ground)
    ax.set_yticks(range(len(tokens)), [readable(token, 14) for token in tokens])
    for label, token in zip(ax.get_yticklabels(), tokens, strict=True):
        label.set_fontweight("bold" if token in (before, after) else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), ylim=(k - 0.5, -0.5), xticks=[0, 0.5, 1])


def _settling(history: History, slot: int, count: int) -> list[int]:
    """So many records to show of one word: most of them until its last token keeps 99 % of the softmax."""
    tokens, weights = history.top_tokens, history.top_weights
    settled = len(history) - 1
    while settled > 0 and tokens[settled][slot][0] == tokens[-1][slot][0] and weights[settled][slot][0] > 0.99:
        settled -= 1
    if settled + 2 >= len(history):
        return spread(len(history), count)[:count]
    return [*spread(settled + 2, count - 1)[: count - 1], len(history) - 1]


def _recorded(history: History, steps: Sequence[Any]) -> list[int]:
    """The records of these steps."""
    require(len(steps) > 0, "no step given: name recorded steps, or leave steps= out")
    for step in steps:
        if step not in history.step:
            close = sorted(history.step, key=lambda known: abs(known - step) if is_whole(step) else 0)[:4]
            raise DreamError(
                f"step {step!r} was not recorded; nearest: {', '.join(str(known) for known in sorted(close))} "
                "(a run records every `evaluate_every` steps)"
            )
    return [history.step.index(step) for step in steps]


def _history(word: WordWeights) -> History:
    """What is known of one word, as the history of a run."""
    tokens, weights = ([(row,) for row in rows] for rows in (word.tokens, word.weights))
    heads: Any = {"top_tokens": tuple(tokens), "top_weights": tuple(weights), "soft_score": word.soft_score}
    return History(word.step, hard_score=(), tokens=(), free=(word.place.pos,), **heads)


def _position(tokens: Sequence[str], free: Sequence[int], pos: Any) -> int:
    """A free position by number or by its token in the start; None where only one is free."""
    listed = ", ".join(f"{i} {tokens[i]}" for i in free)
    if pos is None:
        require(len(free) == 1, f"give the position to draw, pos=; the free positions are: {listed}")
        pos = free[0]
    if isinstance(pos, str):
        found = [i for i, token in enumerate(tokens) if token == pos]
        if not found:
            raise unknown("word", pos, tokens, f"The free positions are: {listed}")
        require(
            len(found) == 1,
            f"the word {pos!r} is in the sentence {len(found)} times, at positions "
            f"{', '.join(map(str, found))}: give the position instead",
        )
        pos = found[0]
    require(
        is_whole(pos) and -len(tokens) <= pos < len(tokens),
        f"position {pos!r} is outside the sentence of {len(tokens)} tokens; the free positions are: {listed}",
    )
    pos = int(pos) % len(tokens)
    require(pos in free, f"position {pos} ({tokens[pos]}) was not free in this run; the free positions are: {listed}")
    return pos
