"""Polling that pauses while its user is busy, and polls at once when that is over."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from simlib.theory.arguments import FloatArray, plain, real, reals

_ALIKE = 1e-6


@dataclass(frozen=True)
class PausedPolls:
    """Polls that pause for episodes of activity, such as drags, each of which ends with a poll.

    Parameters
    ----------
    period_s : float
        Time from one poll to the next without episodes, s, > 0: interval and fetch.
    every_s : float
        Mean time from the end of one episode to the start of the next, exponential, s, > 0.
    length_s : float
        Mean length of an episode, exponential, s, > 0.
    after_s : float, optional
        Constant time from the server's look at the state until the client applies it, s, >= 0.

    Raises
    ------
    ValueError
        If a value is out of range.

    Notes
    -----
    A poll finds the user free, so the polls are renewals: the next one comes after a period, or, if
    an episode begins before, at its end. Staleness is the residual life of that time between two
    polls. A fetch is taken to be short against the time between episodes.

    References
    ----------
    Cox, D. R. (1962). Renewal Theory. Methuen. (Forward recurrence time.)

    Examples
    --------
    A user who drags a card every two minutes polls a tenth more often than every 30 s.

    >>> polls = PausedPolls(30.0, every_s=120.0, length_s=3.0)
    >>> round(polls.mean_period_s, 2), round(polls.mean, 2), round(polls.quantile(0.5), 2)
    (27.21, 14.45, 14.14)
    """

    period_s: float
    every_s: float
    length_s: float
    after_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("period_s", "every_s", "length_s"):
            real(name, getattr(self, name), "(0, inf)")
        real("after_s", self.after_s, "[0, inf)")

    @property
    def _rates(self) -> tuple[float, float]:
        """How often episodes begin and end; never exactly alike, where the formulas have 0 / 0."""
        begin, end = 1.0 / self.every_s, 1.0 / self.length_s
        is_alike = abs(end - begin) < _ALIKE * begin
        return begin, begin * (1.0 + _ALIKE) if is_alike else end

    @property
    def _busy(self) -> float:
        """The share of the times between two polls in which an episode begins."""
        return -math.expm1(-self.period_s / self.every_s)

    @property
    def mean_period_s(self) -> float:
        """Mean time between two polls, s."""
        return self._busy * (self.every_s + self.length_s)

    @property
    def mean(self) -> float:
        """Mean staleness, s."""
        free, every_s, length_s = 1.0 - self._busy, self.every_s, self.length_s
        first_s = every_s * self._busy - self.period_s * free
        square = 2.0 * every_s * first_s + 2.0 * length_s * (first_s + length_s * self._busy)
        return square / (2.0 * self.mean_period_s) + self.after_s

    def unchanged_frac(self, rate_per_s: float) -> float:
        """Return the share of polls that find nothing new, of Poisson changes.

        Parameters
        ----------
        rate_per_s : float
            Changes per second, >= 0.
        """
        rate_per_s = real("rate_per_s", rate_per_s, "[0, inf)")
        begin, end = 1.0 / self.every_s, 1.0 / self.length_s
        both = begin + rate_per_s
        free = math.exp(-both * self.period_s)
        return free + begin / both * (1.0 - free) * end / (end + rate_per_s)

    def cdf(self, x_s: ArrayLike) -> float | FloatArray:
        """Return the share of changes that are seen within `x_s` seconds, in [0, 1].

        Parameters
        ----------
        x_s : float or array
            Seconds since the change, finite.
        """
        age_s = np.maximum(reals("x_s", x_s, "(-inf, inf)") - self.after_s, 0.0)
        begin, end = self._rates
        factor, period_s = begin / (end - begin), self.period_s
        early_s = np.minimum(age_s, period_s)
        began, ended = -np.expm1(-begin * early_s) / begin, -np.expm1(-end * early_s) / end
        early = (began + factor * (began - ended)) / self.mean_period_s
        late_s = np.maximum(age_s, period_s)
        beyond = np.exp(-end * (late_s - period_s) - begin * period_s) - np.exp(-end * late_s)
        late = 1.0 - factor * beyond / end / self.mean_period_s
        return plain(np.where(age_s < period_s, early, late))

    def quantile(self, q: float) -> float:
        """Return the time within which the share `q` of changes is seen, s.

        Parameters
        ----------
        q : float
            In [0, 1).
        """
        share = real("q", q, "[0, 1)")
        most_s = self.after_s + self.period_s
        while float(self.cdf(most_s)) < share:
            most_s += self.period_s + self.length_s
        if share == 0.0:
            return self.after_s
        return float(
            optimize.brentq(lambda x_s: float(self.cdf(x_s)) - share, self.after_s, most_s)
        )
