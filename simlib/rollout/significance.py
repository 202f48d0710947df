"""Significance tests: whether two cohorts differ by more than chance explains.

A threshold compares a metric with a number; a judge compares it with the control cohort's. A test
that is repeated at every look finds a difference by chance sooner or later, unless it allows for
that: see `sequential_test`.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simlib.errors import ScenarioError


class Shift(NamedTuple):
    """By how much the treatment's values lie above the control's.

    Attributes
    ----------
    estimate : float
        Hodges and Lehmann's estimate: the shift after which the ranks show no difference.
    low, high : float
        Confidence interval of the shift.
    p_value : float
        Two-sided, of the hypothesis that there is no shift.
    """

    estimate: float
    low: float
    high: float
    p_value: float


class Sample(NamedTuple):
    """A sample: its number of observations, their mean and their variance."""

    n: float
    mean: float
    variance: float


class Difference(NamedTuple):
    """Treatment minus control, with an interval."""

    estimate: float
    low: float
    high: float


def shift_estimate(control: ArrayLike, treatment: ArrayLike, confidence: float = 0.98) -> Shift:
    """Return the shift between two samples by Mann and Whitney's rank test, asymptotically.

    Parameters
    ----------
    control, treatment : array of float, shape (n,), (m,)
        At least two values each, not all of them equal.
    confidence : float, optional
        In (0, 1).

    Returns
    -------
    Shift
        The interval holds all shifts that the test, with its correction for continuity and for
        ties, would not reject; what R's ``wilcox.test(conf.int = TRUE, exact = FALSE)`` returns.

    Raises
    ------
    ScenarioError
        There are too few values, one is not finite, or all are equal.

    References
    ----------
    Bauer (1972), Constructing confidence sets using rank statistics, JASA 67. Kayenta,
    kayenta-mannwhitney, MannWhitney.scala.

    Examples
    --------
    >>> found = shift_estimate([1.0, 2.0, 3.0, 4.0, 5.0], [11.0, 12.0, 13.0, 14.0, 15.0])
    >>> round(found.estimate, 3), found.low > 0.0
    (10.0, True)
    """
    from scipy import optimize, stats

    y, x = _values("control", control), _values("treatment", treatment)
    if not 0.0 < confidence < 1.0:
        raise ScenarioError("confidence", confidence, "must be in (0, 1)")
    if np.ptp(np.concatenate([x, y])) == 0.0:
        raise ScenarioError("treatment", x.tolist(), "must not all equal the control's values")

    def z(mu: float, quantile: float) -> float:
        return _surplus(y, x - mu) - quantile

    low, high = float(x.min() - y.max()), float(x.max() - y.min())

    def root(quantile: float) -> float:
        if z(low, quantile) <= 0.0:
            return low
        if z(high, quantile) >= 0.0:
            return high
        return float(optimize.brentq(z, low, high, args=(quantile,), xtol=1e-9 * (high - low)))

    quantile = float(stats.norm.ppf(0.5 + confidence / 2.0))
    p_value = 2.0 * stats.norm.sf(abs(_surplus(y, x)))
    return Shift(root(0.0), root(quantile), root(-quantile), min(1.0, float(p_value)))


def _surplus(y: NDArray[np.float64], x: NDArray[np.float64]) -> float:
    """Return by how many standard deviations the rank sum of `x` exceeds its expected value."""
    from scipy import stats

    both = np.concatenate([x, y])
    ranks = stats.rankdata(both)
    surplus = ranks[: len(x)].sum() - len(x) * (len(x) + 1) / 2.0 - len(x) * len(y) / 2.0
    ties = np.unique(both, return_counts=True)[1].astype(float)
    n = len(both)
    spread = n + 1.0 - (ties**3 - ties).sum() / (n * (n - 1.0))
    sigma = math.sqrt(len(x) * len(y) / 12.0 * spread)
    return float((surplus - 0.5 * np.sign(surplus)) / sigma) if sigma > 0.0 else 0.0


def mann_whitney(
    control: ArrayLike,
    treatment: ArrayLike,
    *,
    tolerance: float = 0.25,
    confidence: float = 0.98,
) -> str:
    """Return Kayenta's verdict on the treatment's values: ``high``, ``low`` or ``pass``.

    Parameters
    ----------
    control, treatment : array of float
        As for `shift_estimate`, such as one value for each interval of time.
    tolerance : float, optional
        The verdict is ``high`` or ``low`` only if the interval of the shift lies beyond this
        fraction of its estimate, >= 0.
    confidence : float, optional
        Of the interval, in (0, 1).

    Raises
    ------
    ScenarioError
        As `shift_estimate`.

    References
    ----------
    Kayenta, kayenta-judge, MannWhitneyClassifier.scala.

    Examples
    --------
    >>> quiet, loud = [1.0, 1.1, 0.9, 1.05, 0.95], [2.0, 2.1, 1.9, 2.05, 1.95]
    >>> mann_whitney(quiet, loud), mann_whitney(loud, quiet), mann_whitney(quiet, quiet)
    ('high', 'low', 'pass')
    """
    if not 0.0 <= tolerance < math.inf:
        raise ScenarioError("tolerance", tolerance, "must be >= 0")
    from scipy import stats

    if not 0.0 < confidence < 1.0:
        raise ScenarioError("confidence", confidence, "must be in (0, 1)")
    y, x = _values("control", control), _values("treatment", treatment)
    if np.ptp(np.concatenate([x, y])) == 0.0:
        return "pass"
    if abs(_surplus(y, x)) <= stats.norm.ppf(0.5 + confidence / 2.0):
        return "pass"  # the interval contains 0, so its ends need not be computed
    found = shift_estimate(y, x, confidence)
    bound = tolerance * abs(found.estimate)
    if found.low > bound:
        return "high"
    return "low" if found.high < -bound else "pass"


def sequential_test(
    control: Sample, treatment: Sample, *, alpha: float = 0.05, tuning: float = 5000.0
) -> Difference:
    """Return the difference of two means with an interval that stays valid however often one looks.

    Parameters
    ----------
    control, treatment : Sample
        All observations so far. The variance of a proportion p is p (1 - p); that of a rate of
        events is the rate itself.
    alpha : float, optional
        With a probability of at least 1 - alpha the intervals of all looks contain the true
        difference, in the limit of many observations.
    tuning : float, optional
        The number of observations for which the interval is optimised.

    Returns
    -------
    Difference

    Raises
    ------
    ScenarioError
        An argument is out of range, or a sample is empty.

    References
    ----------
    Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2024), Time-uniform central limit theory and
    asymptotic confidence sequences, Annals of Statistics 52, equations 16 and 24. GrowthBook,
    documentation of sequential testing.

    Examples
    --------
    >>> one, other = Sample(5000, 1.0, 1.0), Sample(5000, 1.1, 1.0)
    >>> sequential_test(one, other).low > 0.0, fixed_horizon_test(one, other).low > 0.0
    (True, True)
    >>> one, other = Sample(500, 1.0, 1.0), Sample(500, 1.15, 1.0)
    >>> sequential_test(one, other).low > 0.0, fixed_horizon_test(one, other).low > 0.0
    (False, True)
    """
    if not 0.0 < tuning < math.inf:
        raise ScenarioError("tuning", tuning, "must be > 0")
    n, variance = _checked(control, treatment, alpha)
    wide = -2.0 * math.log(alpha)
    rho2 = (wide + math.log(wide + 1.0)) / tuning
    scale = 2.0 * (n * rho2 + 1.0) / (n * rho2) * math.log(math.sqrt(n * rho2 + 1.0) / alpha)
    half = math.sqrt(variance * scale)
    difference = treatment.mean - control.mean
    return Difference(difference, difference - half, difference + half)


def fixed_horizon_test(control: Sample, treatment: Sample, *, alpha: float = 0.05) -> Difference:
    """Return the difference of two means with the usual interval, which is valid for one look only.

    Parameters
    ----------
    control, treatment : Sample
    alpha : float, optional
        In (0, 1).

    Raises
    ------
    ScenarioError
        As `sequential_test`.
    """
    from scipy import stats

    _, variance = _checked(control, treatment, alpha)
    half = float(stats.norm.ppf(1.0 - alpha / 2.0)) * math.sqrt(variance)
    difference = treatment.mean - control.mean
    return Difference(difference, difference - half, difference + half)


def _checked(control: Any, treatment: Any, alpha: float) -> tuple[float, float]:
    """Return the number of observations, and the variance of the difference."""
    if not 0.0 < alpha < 1.0:
        raise ScenarioError("alpha", alpha, "must be in (0, 1)")
    for name, sample in (("control", control), ("treatment", treatment)):
        if not isinstance(sample, Sample):
            raise ScenarioError(name, sample, "must be a Sample")
        if not (sample.n > 0 and math.isfinite(sample.mean) and 0.0 <= sample.variance < math.inf):
            rule = "must have observations, a finite mean and a variance >= 0"
            raise ScenarioError(name, tuple(sample), rule)
    return control.n + treatment.n, control.variance / control.n + treatment.variance / treatment.n


def _values(name: str, given: ArrayLike) -> NDArray[np.float64]:
    try:
        values = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise ScenarioError(name, given, "must be numbers") from None
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise ScenarioError(name, values.tolist(), "must be at least two finite numbers")
    return values
