"""The room concepts.estimators."""

import numpy
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.concepts import QUICK, SETS, cloud
from tl_dream.concepts.estimators import CLASSIFIERS, ESTIMATORS, fit_boundary
from tl_dream.concepts.estimators import _logistic as logistic
from tl_dream.concepts.examples import read_examples


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_finds_a_planted_direction(estimator: str) -> None:
    units, labels = cloud()
    found = fit_boundary(estimator, units, labels)
    assert numpy.linalg.norm(found.direction) == pytest.approx(1)
    assert found.direction[3] > 0.7
    assert found.right(units, labels).mean() > 0.95
    assert abs(found.threshold - units.mean(0) @ found.direction) < 1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_which_set_is_called_positive_turns_the_sign_and_nothing_else(estimator: str) -> None:
    units, labels = cloud()
    one, other = fit_boundary(estimator, units, labels), fit_boundary(estimator, units, ~labels)
    assert numpy.array_equal(one.direction, -other.direction) and one.threshold == -other.threshold


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_boundary_moves_with_the_data(estimator: str) -> None:
    """An offset and a change of unit change the threshold alone."""
    units, labels = cloud()
    one, other = fit_boundary(estimator, units, labels), fit_boundary(estimator, 5 * units + 2, labels)
    assert numpy.allclose(one.direction, other.direction, atol=1e-3)
    assert other.threshold == pytest.approx(5 * one.threshold + 2 * other.direction.sum(), abs=0.1)


def test_mean_and_pattern_by_hand() -> None:
    units, labels = cloud()
    labels = labels & (numpy.arange(60) < 30)  # not as many of each
    gap = units[labels].mean(0) - units[~labels].mean(0)
    covariance = ((units - units.mean(0)) * (labels - labels.mean())[:, None]).mean(0)
    assert numpy.allclose(fit_boundary("mean", units, labels).direction, gap / numpy.linalg.norm(gap))
    assert numpy.allclose(fit_boundary("pattern", units, labels).direction, covariance / numpy.linalg.norm(covariance))
    middle = (units[labels].mean(0) + units[~labels].mean(0)) / 2
    found = fit_boundary("mean", units, labels)
    assert found.threshold == pytest.approx(middle @ found.direction)


def test_the_threshold_is_the_classifiers_own() -> None:
    """On sets of unequal size, whose boundary is not midway; against scikit-learn on the raw numbers."""
    from sklearn.covariance import LedoitWolf
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    draw = numpy.random.default_rng(3)
    labels = numpy.arange(200) < 30
    units = 2 * draw.normal(size=(200, 5)) + 3 + labels[:, None]
    lda = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf())
    expected = lda.fit(units, labels).predict(units)
    found = fit_boundary("lda", units, labels)
    assert numpy.array_equal(found.right(units, expected), numpy.ones(200, dtype=bool))
    middle = (units[labels].mean(0) + units[~labels].mean(0)) @ found.direction / 2
    for estimator in ("logistic", "lda"):
        assert fit_boundary(estimator, units, labels).threshold > middle + 0.5


def test_estimators_refuse() -> None:
    units, labels = cloud()
    with says("unknown estimator 'sgd'", "svm"):
        fit_boundary("sgd", units, labels)
    with says("examples of both sets"):
        fit_boundary("mean", units, labels | True)
    with says("'mean' found no direction", "the same mean activation"):
        fit_boundary("mean", numpy.ones_like(units), labels)
    apart = numpy.where(labels[:, None], units[1], units[0]) * (1 + 1e-8 * units)
    with says("'lda' needs sets whose sentences differ", "try 'mean'"):  # but for float32's rounding all are the same
        fit_boundary("lda", apart, labels)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_unit_that_is_constant_but_for_rounding_gets_no_weight(estimator: str) -> None:
    """As MiniLM's last layer has one."""
    units, labels = cloud()
    units[:, 7] = 0.3 + 1e-7 * numpy.random.default_rng(1).normal(size=60)
    found = fit_boundary(estimator, units, labels)
    assert abs(found.direction[7]) < 1e-5
    assert found.direction @ fit_boundary("mean", units, labels).direction > 0.7


@pytest.mark.slow
def test_lda_is_a_direction_at_minilms_last_layer(minilm: torch.nn.Module) -> None:
    """On a tenth of the templates: no unit has the weight, and it goes the way that the means go."""
    every = td.load_templates("he_she")
    frames = [item for item in every.items if item.positive][::10]
    texts = {item.text[: item.span[0]] + "{%s}" + item.text[item.span[1] :] for item in frames}
    sets = read_examples([text % "she" for text in texts], [text % "he" for text in texts])
    concept = td.fit_concept(minilm, sets, layer=5, estimator="lda", random_concepts=50, bootstraps=3)
    assert float(concept.direction.abs().max()) < 0.3
    assert concept.evidence.agreement["lda"]["mean"] > 0.3
    assert concept.evidence.accuracy > 0.9 and concept.evidence.stability > 0.5


def test_one_thread_is_what_fitting_takes(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait for each other took 36 times as long on these small matrices; the user's number comes back."""
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    seen: list[set[int]] = []
    monkeypatch.setitem(
        CLASSIFIERS, "logistic", lambda units, labels: (seen.append(threads()), logistic(units, labels))[1]
    )
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        td.fit_concept(encoder, SETS, layer=1, **QUICK)
        assert threads() == before
    assert seen and all(found == {1} for found in seen)
