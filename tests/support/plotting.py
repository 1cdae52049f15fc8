"""What the tests of several rooms share: plotting."""

import math
import warnings
from dataclasses import replace

from matplotlib.axes import Axes

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


def words(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.texts]


def assert_nothing_is_cut_or_covered(ax: Axes) -> None:
    """Every text lies inside the figure, and no two texts of one panel overlap."""
    figure = ax.figure
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    for axes in figure.axes:
        texts = [*axes.texts, axes.title]
        if axes.axison:
            texts += [axes.xaxis.label, axes.yaxis.label]
        boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
        for box in boxes:
            assert box.x0 >= -1 and box.y0 >= -1, axes.get_label()
            assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1, axes.get_label()
        for i, one in enumerate(boxes):
            for two in boxes[:i]:
                apart = one.x1 <= two.x0 + 1 or two.x1 <= one.x0 + 1 or one.y1 <= two.y0 + 1 or two.y1 <= one.y0 + 1
                assert apart, f"two texts overlap in the panel {axes.get_label()!r}"


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
