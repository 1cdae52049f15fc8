"""What the tests of several rooms share: plotting."""

import math
import warnings
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from tl_dream.results.base import Cost
from tl_dream.results.corpora import CorpusHit, CorpusResult
from tl_dream.results.dreams import Dream, History, Run, ScoredText

START = ("[CLS]", "the", "red", "dog", "sees", "the", "sun", "[SEP]")


FREE = (1, 2, 3, 4, 5, 6)


FINAL = ("[CLS]", "the", "cold", "moon", "sees", "a", "river", "[SEP]")


def made_history(records: int = 21, every: int = 5, start: tuple[str, ...] = START) -> History:
    """A run that goes from START to FINAL half way, its weights rising from 0.25 to 1."""
    step = tuple(every * i for i in range(records))
    share = [i / max(1, records - 1) for i in range(records)]
    final = tuple(FINAL[i] if i < len(FINAL) else "moon" for i in range(len(start) - 1)) + ("[SEP]",)
    tokens = tuple(final if s >= 0.5 else start for s in share)
    heavy = [0.25 + 0.75 * s for s in share]
    free = tuple(range(1, len(start) - 1))
    return History(
        step=step,
        temperature=tuple(2.0 - 1.5 * s for s in share),
        soft_score=tuple(4.0 - s for s in share),
        hard_score=tuple(1.0 + math.sin(5 * s) for s in share),
        tokens=tokens,
        weights=tuple((1.0, *[w] * len(free), 1.0) for w in heavy),
        top_tokens=tuple(tuple((row[i], "other", "third") for i in free) for row in tokens),
        top_weights=tuple(tuple((w, 0.75 * (1 - w), 0.25 * (1 - w)) for _ in free) for w in heavy),
        free=free,
    )


def made_dream(history: History | None = None) -> Dream:
    history = made_history() if history is None else history
    at = max(range(len(history)), key=lambda i: history.hard_score[i]) if len(history) else None
    start = history.tokens[0] if len(history) else START
    begin = ScoredText(" ".join(start[1:-1]), start, tuple(range(len(start))), 0.5)
    best = begin
    if at is not None:
        tokens = history.tokens[at]
        best = ScoredText(" ".join(tokens), tokens, begin.ids, history.hard_score[at], history.step[at])
    other = Run(begin, begin, 1.0, replace(made_history(3), hard_score=(0.5, 0.25, 0.0)))
    return Dream(
        model="tiny (HookedEncoder)",
        objective="neuron('block_out', layer=1, unit=3, pos=2)",
        prompt={"text": begin.text, "free": list(FREE)},
        settings={},
        seed=0,
        start=begin,
        best=best,
        soft_score=4.0,
        history=history,
        cost=Cost(10, 100, 1.0),
        others=(other,),
    )


def panel(ax: Axes, label: str) -> Axes:
    (found,) = [other for other in ax.figure.axes if other.get_label() == label]
    return found


def contrast(one: object, two: object) -> float:
    """The ratio of two colours' luminances (WCAG): 4.5 and more is readable, 3 is told apart."""
    lights = []
    for colour in (one, two):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


def assert_told_apart(figure: Figure, least: float = 4.5) -> None:
    """Every text has this contrast to what is behind it, every line half of it."""
    figure.canvas.draw()
    for axes in figure.axes:
        ground = axes.get_facecolor() if axes.axison else figure.get_facecolor()
        fills = [patch for patch in axes.patches if patch.get_fill() and patch.get_facecolor()[3] == 1]
        places = [patch.get_window_extent() for patch in fills]
        for text in texts_in(axes):
            own, box = text.get_bbox_patch(), Text.get_window_extent(text)
            middle = ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2)
            under = [fill.get_facecolor() for fill, place in zip(fills, places, strict=True) if place.contains(*middle)]
            behind = [ground, *under][-1] if own is None else own.get_facecolor()
            assert contrast(text.get_color(), behind) >= least, (text.get_text(), text.get_color(), behind)
        for line in axes.lines:
            if line.get_linestyle() != "None" and line.get_zorder() > 0:  # not a rule behind
                assert contrast(line.get_color(), ground) > least / 2.25, (axes.get_label(), line.get_label())


def owner(panel: Axes) -> Axes:
    """Which of a figure's first axes, two side by side, a panel is drawn in the place of."""
    spec, figure = panel.get_subplotspec().get_topmost_subplotspec(), panel.figure
    return next(ax for ax in figure.axes if ax.get_subplotspec() == spec)


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def texts_in(axes: Axes) -> list[Text]:
    """All text that is drawn of an Axes: what was written, titles, legend, and what stands at its axis."""
    titles = (axes.title, axes._left_title, axes._right_title)
    found = [*axes.texts, *titles]
    if (legend := axes.get_legend()) is not None:
        found += [*legend.get_texts(), legend.get_title()]
    for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
        low, high = sorted(axis.get_view_interval())
        ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        found += [axis.label, *(label for tick in ticks for label in (tick.label1, tick.label2))]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def assert_nothing_is_cut_or_covered(ax: Axes | Figure, least: float = 6.0) -> None:
    """Every text lies inside the figure, no two overlap, and no letter is smaller than so many points."""
    figure = ax.figure
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    boxes = []
    for axes in figure.axes:
        for text in texts_in(axes):
            named = f"{text.get_text()!r} in the panel {axes.get_label()!r}"
            assert text.get_fontsize() >= least - 1e-9, f"{named} has {text.get_fontsize():.1f} points"
            box = Text.get_window_extent(text)  # without the thread of a name
            inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1
            assert inside, f"{named} is cut at the edge of the figure"
            boxes.append((box, named))
    for i, (one, name) in enumerate(boxes):
        for two, other in boxes[:i]:
            apart = one.x1 <= two.x0 + 1 or two.x1 <= one.x0 + 1 or one.y1 <= two.y0 + 1 or two.y1 <= one.y0 + 1
            assert apart, f"{name} and {other} overlap"


ODD = ("[CLS]", "$x$", "$$", "東京", "தமிழ்", "antidisestablishmentarianism", "_^{", "\u200d", "%", "[SEP]")


def bars(ax: Axes) -> list[float]:
    return [patch.get_width() for patch in ax.patches]


GOAL, MODEL, COST = "neuron('block_out', layer=1, unit=3, pos=4)", "tiny (HookedEncoder)", Cost(10, 100, 1.0)


def made_hit(length: int = 8, pos: int | None = 4, score: float = 2.0, line: int = 1) -> CorpusHit:
    tokens = ("[CLS]", *(f"word{i}" for i in range(1, length - 1)), "[SEP]")
    values = tuple(score if i == pos else score * i / (2 * length) for i in range(length))
    return CorpusHit(" ".join(tokens[1:-1]), tokens, tuple(range(length)), pos, score, values, line)


def made_corpus(*hits: CorpusHit) -> CorpusResult:
    return CorpusResult(MODEL, GOAL, "corpus.txt", hits, 300, {"blank": 3}, 3000, COST)
