"""Curves of points: a rate over a day, and how much has passed by a time; measured quantiles.

Sessions that arrive by a curve are a Poisson stream whose time runs faster where the rate is
higher (the inversion of the cumulative rate; Cinlar 1975, "Introduction to stochastic processes").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray


def interpolated(points: Sequence[tuple[float, float]], at: ArrayLike) -> NDArray[np.float64]:
    """Return a value that is linear between points, and outside of them that of the nearest one.

    Each step is an operation of its own, so that no machine contracts two into one (as `np.interp`
    may be compiled) and differs in the last bit.

    Parameters
    ----------
    points : sequence of pair of float
        Places, ascending, and the values there; two or more.
    at : array_like of float

    Examples
    --------
    >>> interpolated([(0.5, 40.0), (0.9, 80.0)], [0.1, 0.5, 0.75, 0.99]).tolist()
    [40.0, 40.0, 65.0, 80.0]
    """
    table, places = np.array(points, dtype=np.float64), np.asarray(at, dtype=np.float64)
    given, values = table[:, 0], table[:, 1]
    part = np.clip(np.searchsorted(given, places, side="right") - 1, 0, len(table) - 2)
    share = np.clip((places - given[part]) / (given[part + 1] - given[part]), 0.0, 1.0)
    return np.asarray(values[part] + share * (values[part + 1] - values[part]))


class Curve:
    """A rate relative to its mean: linear between points, and repeated after the last one.

    Parameters
    ----------
    points : sequence of pair of float
        Times, seconds, ascending from 0, and the rate there in any unit, >= 0; some are > 0.

    Examples
    --------
    >>> busy_later = Curve([(0.0, 1.0), (10.0, 3.0)])
    >>> busy_later.passed_s([5.0, 10.0, 15.0]).tolist()
    [3.75, 10.0, 13.75]
    >>> busy_later.time_s([3.75, 10.0, 13.75]).tolist()
    [5.0, 10.0, 15.0]
    """

    def __init__(self, points: Sequence[tuple[float, float]]) -> None:
        table = np.array(points, dtype=np.float64)
        self._t_s = table[:, 0]
        self._width_s = np.diff(self._t_s)
        rates = table[:, 1] / table[:, 1].max()
        mean = np.cumsum(self._width_s * (rates[1:] + rates[:-1]) / 2.0)[-1] / self._t_s[-1]
        self._rates = rates / mean
        areas = self._width_s * (self._rates[1:] + self._rates[:-1]) / 2.0
        self._passed_s = np.concatenate(([0.0], np.cumsum(areas)))

    @property
    def peak(self) -> float:
        """The greatest rate, relative to the mean."""
        return float(self._rates.max())

    def passed_s(self, t_s: ArrayLike) -> NDArray[np.float64]:
        """Return the time in which as much passes at the mean rate as until `t_s`, seconds."""
        rounds, rest_s = np.divmod(np.asarray(t_s, dtype=np.float64), self._t_s[-1])
        part = self._part(self._t_s, rest_s)
        first, last = self._rates[part], self._rates[part + 1]
        share = (rest_s - self._t_s[part]) / self._width_s[part]
        area = self._width_s[part] * share * (first + (last - first) * share / 2.0)
        return np.asarray(rounds * self._passed_s[-1] + self._passed_s[part] + area)

    def time_s(self, passed_s: ArrayLike) -> NDArray[np.float64]:
        """Return the first time until which that much has passed: the inverse, seconds."""
        given = np.asarray(passed_s, dtype=np.float64)
        rounds, rest_s = np.divmod(given, self._passed_s[-1])
        part = self._part(self._passed_s, rest_s)
        first, last = self._rates[part], self._rates[part + 1]
        area = (rest_s - self._passed_s[part]) / self._width_s[part]
        root = np.sqrt(np.maximum(first * first + 2.0 * (last - first) * area, 0.0))
        # The solution of the quadratic equation that loses no digits where the curve is flat.
        divisor = first + root
        share = np.divide(2.0 * area, divisor, out=np.zeros_like(area), where=divisor > 0.0)
        t_s = self._t_s[part] + self._width_s[part] * np.minimum(share, 1.0)
        return np.asarray(rounds * self._t_s[-1] + t_s)

    def _part(self, edges: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return between which points each place is."""
        found = np.searchsorted(edges, at, side="right") - 1
        return np.clip(found, 0, len(self._width_s) - 1)
