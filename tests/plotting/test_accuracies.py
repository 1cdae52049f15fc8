"""The room plotting.accuracies."""

import pytest

from tests.support.plotting import assert_nothing_is_cut_or_covered
from tl_dream import DreamError
from tl_dream.plotting.accuracies import accuracy_by_layer
from tl_dream.results.concepts import Evidence


def made_evidence(layer: int | None = 0, accuracy: float = 0.9, **accuracies: float) -> Evidence:
    every = {"mean": accuracy, **accuracies}
    return Evidence(
        layer=layer,
        estimator="mean",
        accuracy=accuracy,
        interval=(accuracy - 0.1, min(1.0, accuracy + 0.05)),
        held_out=40,
        held_out_groups=20,
        fitted=120,
        p_value=0.01,
        p_corrected=0.02,
        random_concepts=100,
        random_mean=0.5,
        random_best=0.62,
        accuracies=every,
        intervals={name: (value - 0.1, min(1.0, value + 0.05)) for name, value in every.items()},
        agreement={"mean": dict.fromkeys(every, 1.0)},
        stability=0.99,
        stability_low=0.98,
        bootstraps=50,
        bootstraps_drawn=50,
    )


# ---------------------------------------------------------------- accuracy


def test_accuracies_and_intervals_are_drawn():
    ax = accuracy_by_layer([made_evidence(0, 0.9, svm=0.8), made_evidence(1, 1.0, svm=0.7)])
    lines = {container.get_label(): container.lines[0] for container in ax.containers}
    assert [float(y) for y in lines["mean (the concept's)"].get_ydata()] == [0.9, 1.0]
    assert [float(y) for y in lines["svm"].get_ydata()] == [0.8, 0.7]
    assert lines["svm"].get_marker() != lines["mean (the concept's)"].get_marker()
    bars = [c for c in ax.containers if c.get_label() == "svm"][0].lines[2][0].get_segments()
    assert [tuple(round(float(y), 6) for _, y in bar) for bar in bars] == [(0.7, 0.85), (0.6, 0.75)]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0", "1"]
    assert any("random labels" in text.get_text() for text in ax.get_legend().get_texts())
    assert_nothing_is_cut_or_covered(ax)
    alone = accuracy_by_layer([made_evidence(None)])
    assert [label.get_text() for label in alone.get_xticklabels()] == ["-"]
    with pytest.raises(DreamError, match="nothing to draw"):
        accuracy_by_layer([])
