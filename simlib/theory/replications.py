"""Means of independent replications, and their confidence intervals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from simlib.errors import ScenarioError
from simlib.theory.arguments import real, reals


def standard_error(values: ArrayLike) -> float:
    """Return the standard error of the mean of independent replications.

    Parameters
    ----------
    values : array
        One value a replication, one dimension, at least 2, finite.

    Returns
    -------
    float
        Sample standard deviation over the root of the number of values, in their unit.

    Raises
    ------
    ValueError
        If there are fewer than 2 values, or one is not a finite number.

    Notes
    -----
    The values must be independent. Values within one run are not: take one mean a replication.

    References
    ----------
    Law, A. M. (2015). Simulation Modeling and Analysis, 5th ed. McGraw-Hill, chapter 4.

    Examples
    --------
    >>> standard_error([1.0, 3.0])
    1.0
    """
    sample = reals("values", values, "(-inf, inf)")
    if sample.ndim != 1 or sample.size < 2:
        raise ScenarioError("values", values, "must be a list of at least 2 numbers")
    return float(sample.std(ddof=1)) / math.sqrt(sample.size)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of independent replications and its Student-t confidence interval.

    Parameters
    ----------
    values : array
        One value a replication, one dimension, at least 2, finite.
    confidence : float, optional
        Share of such intervals that hold the true mean, in (0, 1).

    Returns
    -------
    mean, low, high : float
        In the unit of the values.

    Raises
    ------
    ValueError
        If there are fewer than 2 values, one is not a finite number, or `confidence` is
        outside (0, 1).

    Notes
    -----
    Exact for independent normal values; good for means over long runs.

    References
    ----------
    Law, A. M. (2015). Simulation Modeling and Analysis, 5th ed. McGraw-Hill, chapter 4.

    Examples
    --------
    >>> [round(figure, 3) for figure in mean_interval([9.0, 10.0, 11.0])]
    [10.0, 7.516, 12.484]
    """
    error = standard_error(values)
    upper = (1 + real("confidence", confidence, "(0, 1)")) / 2
    mean = float(np.mean(np.asarray(values, dtype=np.float64)))
    half = float(special.stdtrit(np.size(values) - 1, upper)) * error
    return mean, mean - half, mean + half
