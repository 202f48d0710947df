"""Two cohorts' samples in, a verdict out: whether one is worse, or only looks so.

A threshold asks how large a figure is; a judge asks whether it differs from the control cohort's by
more than chance. Judges that are asked again at every look must bear it: see `sequential_test`.
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
        Hodges and Lehmann's: the shift under which the ranks would be as chance has them.
    low, high : float
        Confidence interval of the shift.
    p_value : float
        Of no shift, two-sided.
    """

    estimate: float
    low: float
    high: float
    p_value: float


class Sample(NamedTuple):
    """How many observations, their mean and their variance."""

    n: float
    mean: float
    variance: float


class Difference(NamedTuple):
    """Treatment less control, with an interval."""

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
        Too few values, one that is not finite, or all are equal.

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
    """By how much the ranks of `x` are too high for chance, in standard deviations."""
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
    """Return how the treatment's values lie, as Kayenta judges: ``high``, ``low`` or ``pass``.

    Parameters
    ----------
    control, treatment : array of float
        As for `shift_estimate`; one value for each interval of time, say.
    tolerance : float, optional
        The interval of the shift must lie beyond this part of its estimate, >= 0.
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
        return "pass"  # no shift is within the interval: there is no need to find its ends
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
        What has been seen so far; of a proportion p the variance is p (1 - p), of a rate that is
        counted over time its own value.
    alpha : float, optional
        With at least 1 - alpha the interval holds the true difference at all looks at once, in the
        limit of many observations.
    tuning : float, optional
        At how many observations the interval is to be narrowest for its kind.

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
    """Return the difference of two means with the usual interval, which bears a single look.

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
    """How many observations there are, and the variance of the difference."""
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
