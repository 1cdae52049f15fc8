"""The room plotting.accuracies."""

import pytest

from tests.support.concepts import made_evidence
from tests.support.plotting import assert_nothing_is_cut_or_covered
from tl_dream import DreamError
from tl_dream.plotting.accuracies import accuracy_by_layer


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


def test_concepts_are_taken_for_their_evidence():
    class Concepts:
        evidence = (made_evidence(0), made_evidence(1))

    assert len(accuracy_by_layer(Concepts()).get_xticklabels()) == 2
    Concepts.evidence = made_evidence(0)  # of one layer
    assert len(accuracy_by_layer(Concepts()).get_xticklabels()) == 1
