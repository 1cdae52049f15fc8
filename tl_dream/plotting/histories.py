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

import matplotlib
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from tl_dream._arguments import Whole, is_whole, listed, plain
from tl_dream._errors import DreamError, require, unknown
from tl_dream.plotting.canvas import (
    BLUE,
    FONT_SIZE,
    GREY,
    INK,
    ORANGE,
    PALE,
    STYLE,
    VERMILLION,
    YELLOW,
    add_panel,
    caption,
    expect,
    fill_axes,
    grid_in,
    paper,
    readable,
    spread,
    styled,
    themed,
    wrapped,
)
from tl_dream.plotting.token_table import BELOW, BESIDE, draw_tokens, inches, lay_out
from tl_dream.results import Dream, History, Run, WordWeights, get_run


@styled
def dream_history(dream: Any, *, run: Whole = 0, ax: Axes | None = None) -> Axes:
    """The article's Figure 1: the most likely tokens over the steps, beside the scores and the temperature.

    Rows are recorded steps (at most a dozen, evenly spaced, the best among them), columns positions; a long sentence
    goes on in a second block, and then the curves stand below. Shading is the softmax weight of a token, bold tokens
    differ from the start's, a bar marks those that differ from the row above. The star is the best real tokens.

    Args:
        dream: the result.
        run: 0 for the winner, 1 for the first of `dream.others`, and so on.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "tokens", "score" and "temperature".

    Raises:
        DreamError: no such run, or one without records.
    """
    expect(dream, "of dream()", Dream)
    chosen = get_run(dream, run)
    history = chosen.history
    require(len(history) > 0, "nothing to draw: the history holds no record (the run stopped before its first)")
    annealed = any(math.isfinite(value) for value in history.temperature)  # the discrete methods have none
    layout = lay_out(chosen, f"{dream.objective} on {dream.model}", ax)
    scale = 1.0 if ax is None else layout.scale(*inches(ax))
    host = fill_axes(ax, layout.width, layout.height)
    cells = grid_in(host, 2, 1, height_ratios=[layout.head, layout.body])
    caption(host, cells[0], "title", layout.title, scale * (FONT_SIZE + 1))
    if layout.beside:
        whole = cells[1].subgridspec(1, 2, width_ratios=[layout.width - BESIDE, BESIDE])
        curves = whole[1].subgridspec(2, 1, height_ratios=[2.4, 1])
    else:
        whole = cells[1].subgridspec(2, 1, height_ratios=[layout.body - BELOW, BELOW])
        curves = whole[1].subgridspec(1, 2, width_ratios=[2, 1])
    tables = whole[0].subgridspec(len(layout.blocks), 1, height_ratios=layout.heights)
    for i in range(len(layout.blocks)):
        table = add_panel(host, tables[i], "tokens" if i == 0 else f"tokens {i + 1}")
        draw_tokens(table, layout, i, history.free, scale * FONT_SIZE)
    with matplotlib.rc_context({key: STYLE[key] * scale for key in STYLE if key.endswith("size")}):
        score = add_panel(host, curves[0] if annealed else whole[1], "score")
        _draw_scores(score, chosen)
        if annealed:
            temperature = add_panel(host, curves[1], "temperature", sharex=score)
            temperature.plot(history.step, history.temperature, color=themed(INK), label="temperature")
            temperature.set(xlabel="step", ylabel="temperature")
            temperature.set_ylim(bottom=0)
        if annealed and layout.beside:
            score.tick_params(labelbottom=False)
        else:
            score.set_xlabel("step")
    return host


def _draw_scores(ax: Axes, run: Run) -> None:
    history = run.history
    if history.soft_score:
        ax.plot(history.step, history.soft_score, color=BLUE, linestyle="--", label="soft sentence")
    ax.plot(
        history.step,
        history.hard_score,
        drawstyle="default" if history.soft_score else "steps-post",
        color=VERMILLION,
        marker="o" if len(history) <= 60 else "",
        markersize=2.5,
        linewidth=1.0,
        label="real tokens",
    )
    ax.axhline(run.start.score, color=themed(GREY), linestyle=":", linewidth=1.2, label="start", zorder=1)
    ax.plot(
        [run.best.step],
        [run.best.score],
        linestyle="none",
        marker="*",
        markersize=11,
        markerfacecolor=YELLOW,
        markeredgecolor=themed(INK),
        label="best real tokens",
        zorder=5,
        clip_on=False,
    )
    ax.set_ylabel("score")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=2,
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.5,
        handlelength=2.4,
    )


@styled
def annealing(
    dream: Any,
    pos: Whole | str | None = None,
    *,
    run: Whole = 0,
    steps: Whole | Iterable[Any] | None = None,
    k: Whole | None = None,
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
        steps: recorded steps to show; None takes five: four evenly spaced until the word has settled, and the last.
        k: tokens a step, 1 to the `top_k` of the run; None takes eight, or as many as there are.
        ax: the Axes whose place to fill; None makes a figure of the right size.

    Returns:
        The Axes whose place is filled; the panels are labelled "step 0", "step 40", ...

    Raises:
        DreamError: no such run, a position that is not there or was not free, a step that was not recorded, or more
            tokens than the history keeps.
    """
    expect(dream, "of dream()", Dream, WordWeights)
    if isinstance(dream, WordWeights):
        words, history = dream.place.tokens, _history(dream)
    else:
        chosen = get_run(dream, run)
        words, history = chosen.start.tokens, chosen.history
    require(len(history) > 0, "nothing to draw: the history holds no record (the run stopped before its first)")
    position = _position(words, history.free, plain(pos))
    slot = history.free.index(position)
    kept = len(history.top_tokens[0][slot]) if history.top_tokens[0] else 0
    require(kept > 0, "this run has no softmax to draw: only annealed ascent keeps the weights of each position")
    k = min(8, kept) if k is None else plain(k)
    require(
        is_whole(k) and 1 <= k <= kept,
        f"k = {k!r}: this run's history keeps the {kept} most likely tokens of each position; give 1 to {kept}",
    )
    records = _settling(history, slot) if steps is None else _recorded(history, listed(steps))
    across = min(len(records), 5)
    down = math.ceil(len(records) / across)
    inches = 1.85 * across + 0.3
    text = wrapped(f"softmax at position {position}: {dream.objective} on {dream.model}", inches)
    head = 0.18 * (1 + text.count("\n")) + 0.06
    body = down * (0.75 + 0.19 * max(k, 3))
    host = fill_axes(ax, inches, head + body + 0.45)
    grid = grid_in(host, 3, 1, height_ratios=[head, body, 0.25])
    caption(host, grid[0], "title", text)
    cells = grid[1].subgridspec(down, across)
    before, after = words[position], history.top_tokens[-1][slot][0]
    for number, record in enumerate(records):
        cell = add_panel(host, cells[number // across, number % across], f"step {history.step[record]}")
        weights = [weight for weight in history.top_weights[record][slot][:k] if weight > 0]  # 0: not allowed
        _draw_bars(cell, history.top_tokens[record][slot][: len(weights)], weights, before, after, k)
        heat = f"\ntemperature {history.temperature[record]:.2g}" if history.temperature else ""
        cell.set_title(f"step {history.step[record]}{heat}", size=FONT_SIZE)
        if number + across >= len(records):
            cell.set_xlabel("softmax weight")
    marks = [(BLUE, "..", f"start: {readable(before)}")] if before != after else []
    marks.append((ORANGE, "//", f"last: {readable(after)}" + ("" if marks else " (the start's own)")))
    key = add_panel(host, grid[2], "legend")
    key.set_axis_off()
    key.legend(
        handles=[
            Patch(facecolor=colour, edgecolor=themed(INK), hatch=hatch, label=name, linewidth=0.6)
            for colour, hatch, name in marks
        ],
        loc="center",
        ncols=2,
        frameon=False,
        borderaxespad=0,
    )
    return host


def _draw_bars(ax: Axes, tokens: Sequence[str], weights: Sequence[float], before: str, after: str, k: int) -> None:
    for i, (token, weight) in enumerate(zip(tokens, weights, strict=True)):
        colour, hatch = (ORANGE, "//") if token == after else (BLUE, "..") if token == before else (themed(PALE), "")
        ax.barh(i, weight, height=0.75, color=colour, hatch=hatch, edgecolor=themed(INK), linewidth=0.6)
        inside = weight > 0.75
        ax.text(
            weight + (-0.03 if inside else 0.03),
            i,
            f"{weight:.2f}" if weight >= 0.005 else "<0.01",
            ha="right" if inside else "left",
            va="center",
            size=FONT_SIZE - 1.5,
            bbox={"facecolor": paper(), "edgecolor": "none", "pad": 0.8} if inside else None,
        )
    ax.set_yticks(range(len(tokens)), [readable(token, 14) for token in tokens])
    for label, token in zip(ax.get_yticklabels(), tokens, strict=True):
        label.set_parse_math(False)
        label.set_fontweight("bold" if token in (before, after) else "normal")
    ax.tick_params(axis="y", length=0)
    ax.set(xlim=(0, 1), ylim=(k - 0.5, -0.5), xticks=[0, 0.5, 1])


def _settling(history: History, slot: int) -> list[int]:
    """The records to show of one word: most of them until its last token keeps 99 % of the softmax."""
    tokens, weights = history.top_tokens, history.top_weights
    settled = len(history) - 1
    while settled > 0 and tokens[settled][slot][0] == tokens[-1][slot][0] and weights[settled][slot][0] > 0.99:
        settled -= 1
    if settled + 2 >= len(history):
        return spread(len(history), 5)
    return [*spread(settled + 2, 4), len(history) - 1]


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
    return History(
        step=word.step,
        hard_score=(),
        tokens=(),
        free=(word.place.pos,),
        soft_score=word.soft_score,
        top_tokens=tuple((tokens,) for tokens in word.tokens),
        top_weights=tuple((weights,) for weights in word.weights),
    )


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
