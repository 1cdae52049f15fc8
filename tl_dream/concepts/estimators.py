"""Five ways to get a direction from two sets of activations."""

from __future__ import annotations

import random
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy
from jaxtyping import Bool, Float

from tl_dream._arguments import one_of
from tl_dream._errors import DreamError, require
from tl_dream.models import Shared

Units = Float[numpy.ndarray, "example unit"]
Labels = Bool[numpy.ndarray, " example"]
Direction = Float[numpy.ndarray, " unit"]

ROUNDING = 1e-6
"""Spread, as a share of all activations', that is float32's rounding and no difference."""


@dataclass(frozen=True)
class Boundary:
    """A unit direction towards the positive set, and where on it the two sets part.

    Attributes:
        direction: of length 1.
        threshold: of the projection `activation @ direction`, in the hook's units; above it is positive.
    """

    direction: Direction
    threshold: float

    def right(self, units: Units, labels: Labels) -> Labels:
        """Which examples fall on their own side."""
        return (units @ self.direction > self.threshold) == labels


def _mean(units: Units, labels: Labels) -> Direction:
    """From the negative mean to the positive one (FastCAV)."""
    return units[labels].mean(0) - units[~labels].mean(0)


def _pattern(units: Units, labels: Labels) -> Direction:
    """Each unit's covariance with the label over the label's variance (Pahde et al., arXiv 2202.03482).

    For two classes that is the difference of their means; the agreement table shows it.
    """
    centred = labels - labels.mean()
    return centred @ (units - units.mean(0)) / (centred @ centred)


def _logistic(units: Units, labels: Labels) -> tuple[Direction, float]:
    """Logistic regression, L2 penalty with C = 1 on activations of unit variance."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1.0, max_iter=5000, random_state=0).fit(units, labels)
    return model.coef_[0], float(model.intercept_[0])


def _svm(units: Units, labels: Labels) -> tuple[Direction, float]:
    """Linear support vector machine, squared hinge loss, C = 1 on activations of unit variance."""
    from sklearn.svm import LinearSVC

    model = LinearSVC(C=1.0, dual=False, max_iter=5000, random_state=0).fit(units, labels)
    return model.coef_[0], float(model.intercept_[0])


def _lda(units: Units, labels: Labels) -> tuple[Direction, float]:
    """Linear discriminant analysis, the covariance within the sets shrunk after Ledoit and Wolf.

    Shrunk on the units as they are: `shrinkage="auto"` would give each unit variance 1 first, and a unit that is
    constant but for rounding (MiniLM's last layer has one) would be worth as much as any other, and get all the weight.
    """
    from sklearn.covariance import LedoitWolf
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    within = numpy.where(labels[:, None], units - units[labels].mean(0), units - units[~labels].mean(0))
    require(
        float(within.std()) > ROUNDING,
        "the estimator 'lda' needs sets whose sentences differ in their activations, and within each set all are the "
        "same: try 'mean'",
    )
    model = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf()).fit(units, labels)
    return model.coef_[0], float(model.intercept_[0])


MEANS: dict[str, Callable[[Units, Labels], Direction]] = {"mean": _mean, "pattern": _pattern}
CLASSIFIERS: dict[str, Callable[[Units, Labels], tuple[Direction, float]]] = {
    "logistic": _logistic,
    "svm": _svm,
    "lda": _lda,
}
ESTIMATORS = (*MEANS, *CLASSIFIERS)


def fit_boundary(estimator: str, units: Units, labels: Labels) -> Boundary:
    """A direction and its threshold.

    "mean" and "pattern" put the threshold midway between the means; the others have their own intercept. Which set is
    called positive turns the sign of the outcome and changes nothing else, to the bit.

    Raises:
        DreamError: an unknown estimator, one class only, or activations on which the estimator finds no direction.
    """
    one_of("estimator", estimator, ESTIMATORS)
    require(bool(labels.any()) and not bool(labels.all()), "a direction needs examples of both sets")
    turn = bool(labels[0])  # solvers are not exactly symmetric, so they always see the first example as negative
    units, labels = units.astype(numpy.float64), labels ^ turn
    if estimator in MEANS:
        raw = MEANS[estimator](units, labels)
        direction = _unit(raw, estimator)
        threshold = float((units[labels].mean(0) + units[~labels].mean(0)) @ direction / 2)
    else:
        centre = units.mean(0)
        spread = float((units - centre).std()) or 1.0
        with _SOLVERS.lock, _unseen(), _told() as complaints:
            try:
                raw, intercept = CLASSIFIERS[estimator]((units - centre) / spread, labels)
            except numpy.linalg.LinAlgError as reason:
                complaints.append(reason)
        if complaints:
            raise DreamError(f"the estimator {estimator!r} found no solution ({complaints[0]}): try another")
        direction = _unit(raw, estimator)
        threshold = float(centre @ direction - intercept * spread / numpy.linalg.norm(raw))
    return Boundary(-direction, -threshold) if turn else Boundary(direction, threshold)


_SOLVERS = Shared()


@contextmanager
def _told() -> Iterator[list[Exception]]:
    """The warnings of this thread, as a list. Filters and what shows a warning are the whole process's (so one thread
    at a time changes them), and a warning that became an error would strike the user's other threads."""
    me, found = threading.get_ident(), list[Exception]()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def hear(message: Any, *about: Any, **more: Any) -> None:
            if threading.get_ident() == me:
                found.append(message)
            else:
                show(message, *about, **more)

        warnings.simplefilter("always")
        warnings.showwarning = hear
        yield found


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread for numpy's and scipy's linear algebra, the user's number of them again after.

    These matrices are small: with two threads that wait for each other a logistic regression took 36 times as long,
    and with another number of threads sums would come out in another order.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    with _unseen():
        import sklearn.discriminant_analysis  # scipy's library is limited once it is there
        import sklearn.linear_model  # noqa: F401
    with _SOLVERS.changed(lambda: [threadpool_limits(1, user_api="blas").restore_original_limits]):
        yield


@contextmanager
def _unseen() -> Iterator[None]:
    """The first import of scikit-learn draws from Python's generator, which is the user's."""
    state = random.getstate()
    try:
        yield
    finally:
        random.setstate(state)


def _unit(raw: Direction, estimator: str) -> Direction:
    length = float(numpy.linalg.norm(raw))
    reason = (
        "the two sets have the same mean activation"
        if estimator in MEANS
        else "nothing in the activations tells the two sets apart"
    )
    require(
        bool(numpy.isfinite(length)) and length > 0,
        f"the estimator {estimator!r} found no direction: {reason}",
    )
    return raw / length
