"""The room plotting.curves: what is drawn is the data, nothing is cut off."""

from dataclasses import replace

import matplotlib.pyplot as plt
import pytest
from matplotlib.container import ErrorbarContainer

from tests.support.concepts import made_evidence
from tests.support.plotting import assert_nothing_is_cut_or_covered, panel
from tl_dream import DreamError, plotting
from tl_dream.plotting.curves import accuracy_by_layer
from tl_dream.results.base import Cost
from tl_dream.results.dreams import Dream, Frontier, FrontPoint, History, Run, ScoredText


def scored(text: str, score: float, step: int = 0) -> ScoredText:
    return ScoredText(text, ("[CLS]", *text.split(), "[SEP]"), (1, *range(2, 2 + len(text.split())), 0), score, step)


def made_front(count: int = 3, fluency: str | None = "fluency(bigrams)") -> Frontier:
    front = tuple(FrontPoint(scored(f"text number {i} $x$ 東", 5.0 - i), -9.0 + i) for i in range(count))
    start = FrontPoint(scored("the start it was", 1.0), -3.0)
    return Frontier("m", "neuron('z', layer=1)", fluency, {}, 0, start, front, Cost(1, 2, 3.0), "budget")


def made_dream(curve: list[tuple[int, float]], objective: str = "goal") -> Dream:
    start, best = scored("a b", 1.0), scored("c d", curve[-1][1], 3)
    history = History(
        step=tuple(range(len(curve))),
        hard_score=tuple(score for _, score in curve),
        tokens=(best.tokens,) * len(curve),
        free=(1, 2),
        forward_tokens=tuple(spent for spent, _ in curve),
    )
    return Dream("m", objective, {}, {}, 0, start, best, None, history, Cost(9, 100, 1.0))


def texts_of(figure: plt.Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.fixture(autouse=True)
def close_figures() -> object:
    yield
    plt.close("all")


@pytest.mark.parametrize("count", [1, 3, 40])
def test_the_front_and_its_texts(count: int) -> None:
    front = made_front(count)
    figure = plotting.pareto(front).figure
    score = next(axes for axes in figure.axes if axes.get_label() == "front")
    dots = next(line for line in score.lines if line.get_marker() == "o")
    assert list(dots.get_ydata()) == [point.scored.score for point in front.front]
    assert list(dots.get_xdata()) == [point.fluency for point in front.front]
    shown = texts_of(figure)
    assert "1" in shown and any("text number 0 $x$" in text for text in shown)
    assert any("(start) the start it was" in text for text in shown)
    assert sum("text number" in text for text in shown) == min(count, 10)
    figure.canvas.draw()
    box = figure.bbox
    for axes in figure.axes:
        for text in axes.texts:
            extent = text.get_window_extent()
            assert extent.x0 >= box.x0 - 1 and extent.x1 <= box.x1 + 1 and extent.y0 >= box.y0 - 1


def test_a_front_without_fluency_is_told() -> None:
    with pytest.raises(DreamError, match="run without a judge of fluency"):
        plotting.pareto(made_front(fluency=None))


def drawn_apart(ax: plt.Axes) -> int:
    """How many kinds of dashes there are in the legend."""
    return len({str(line._unscaled_dash_pattern) for line in panel(ax, "legend").get_legend().get_lines()})


def test_every_line_is_told_apart_and_the_legend_covers_none() -> None:
    """Curves that end in every corner."""
    names = ["auto", "gcg", "epo", "pez", "anneal", "another"]
    dreams = {name: made_dream([(0, 1.0), (60, 1.0 + i), (99, 1.0 + 2 * i)]) for i, name in enumerate(names)}
    ax = plotting.search_costs(dreams)
    assert drawn_apart(ax) == 7
    assert_nothing_is_cut_or_covered(ax)
    legend, curves = panel(ax, "legend").get_legend().get_window_extent(), panel(ax, "curves").get_tightbbox()
    assert legend.y1 <= curves.y0 + 1  # below


def test_a_dream_of_several_starts_is_one_line() -> None:
    """The best of all rows so far, from the best start of all."""
    winner = made_dream([(5, 1.0), (40, 3.0)])
    other = made_dream([(5, 2.0), (10, 2.5), (60, 2.6)])
    rows = (Run(replace(other.start, score=2.0), other.best, None, other.history),)
    ax = plotting.search_costs({"auto": replace(winner, others=rows)})
    line = next(line for line in panel(ax, "curves").lines if line.get_drawstyle() == "steps-post")
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [
        (0, 2.0),
        (5, 2.0),
        (10, 2.5),
        (40, 3.0),
        (60, 3.0),
        (100, 3.0),
    ]
    assert tuple(panel(ax, "curves").lines[-1].get_ydata()) == (2.0, 2.0)  # the start


def test_what_may_not_be_returned_is_not_drawn() -> None:
    """Annealing records the tokens it stands at, also those that do not tokenize back."""
    dream = made_dream([(0, 1.0), (10, 9.0), (50, 3.0)])
    ax = plotting.search_costs({"anneal": dream})
    line = next(line for line in panel(ax, "curves").lines if line.get_drawstyle() == "steps-post")
    assert max(line.get_ydata()) == dream.best.score == 3.0


def test_a_history_without_costs_is_told() -> None:
    dream = made_dream([(0, 1.0), (10, 2.0)])
    old = replace(dream, history=replace(dream.history, forward_tokens=()))
    with pytest.raises(DreamError, match="does not tell what it cost"):
        plotting.search_costs({"old": old})


def test_scores_against_cost() -> None:
    one = made_dream([(0, 1.0), (10, 2.0), (50, 3.0)])
    two = [made_dream([(0, 1.0), (20, 4.0)]), made_dream([(0, 1.0), (40, 2.0)]), made_dream([(0, 1.0), (30, 6.0)])]
    ax = plotting.search_costs({"auto": one, "gcg": two})
    assert [text.get_text() for text in panel(ax, "legend").get_legend().get_texts()] == ["auto", "gcg", "start"]
    steps = [line for line in panel(ax, "curves").lines if line.get_drawstyle() == "steps-post"]
    assert drawn_apart(ax) == 3
    assert list(steps[0].get_xdata()) == [0, 10, 50, 100] and list(steps[0].get_ydata()) == [1, 2, 3, 3]
    assert list(steps[1].get_xdata()) == [0, 20, 30, 40, 100] and list(steps[1].get_ydata()) == [1, 1, 4, 4, 4]
    assert len({line.get_linestyle() for line in steps}) == 2  # told apart without colour
    for bad, message in (
        ({}, "no dream to draw"),
        ({"a": []}, "no dream to draw"),
        ({"a": one, "b": replace(one, objective="other")}, "of 2 objectives"),
    ):
        with pytest.raises(DreamError, match=message):
            plotting.search_costs(bad)
    with pytest.raises(DreamError, match="7 lines to draw"):
        plotting.cost_curves({str(i): [(0, 1)] for i in range(7)})


def test_a_name_that_begins_with_a_line_is_in_the_legend() -> None:
    ax = plotting.search_costs(
        {"_mine": made_dream([(1, 1.0), (2, 2.0)]), "_": made_dream([(1, 1.0)]), "$x": made_dream([(1, 1.0)])}
    )
    assert [text.get_text() for text in panel(ax, "legend").get_legend().get_texts()] == ["_mine", "_", "$x", "start"]


# Accuracies


def test_accuracies_and_intervals_are_drawn():
    ax = accuracy_by_layer([made_evidence(0, 0.9, svm=0.8), made_evidence(1, 1.0, svm=0.7)])
    axes = panel(ax, "accuracy")
    lines = {found.get_label(): found.lines[0] for found in axes.containers if isinstance(found, ErrorbarContainer)}
    assert [float(y) for y in lines["mean (the concept's)"].get_ydata()] == [0.9, 1.0]
    assert [float(y) for y in lines["svm"].get_ydata()] == [0.8, 0.7]
    assert lines["svm"].get_marker() != lines["mean (the concept's)"].get_marker()
    bars = [c for c in axes.containers if c.get_label() == "svm"][0].lines[2][0].get_segments()
    assert [tuple(round(float(y), 6) for _, y in bar) for bar in bars] == [(0.7, 0.85), (0.6, 0.75)]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1"]
    assert any("random labels" in text.get_text() for text in panel(ax, "legend").get_legend().get_texts())
    assert_nothing_is_cut_or_covered(ax)
    alone = accuracy_by_layer([made_evidence(None)])
    assert [label.get_text() for label in panel(alone, "accuracy").get_xticklabels()] == ["-"]
    with pytest.raises(DreamError, match="nothing to draw"):
        accuracy_by_layer([])


def test_concepts_are_taken_for_their_evidence():
    class Concepts:
        evidence = (made_evidence(0), made_evidence(1))

    assert len(panel(accuracy_by_layer(Concepts()), "accuracy").get_xticklabels()) == 2
    Concepts.evidence = made_evidence(0)  # of one layer
    assert len(panel(accuracy_by_layer(Concepts()), "accuracy").get_xticklabels()) == 1
