"""Polling and heartbeats: staleness, request rates, and changes that are never shown."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from simlib.theory.arguments import FloatArray, plain, real, reals, whole_count


@dataclass(frozen=True)
class Staleness:
    """Time from an event to its detection at the end of the period in which it happens.

    Periods are independent and uniform on [`shortest_s`, `longest_s`]. The event comes at any time
    of the cycle with equal probability. It is detected `after_s` after the end of the period. A
    poll detects a change this way, and a missed heartbeat a lost path.

    Parameters
    ----------
    shortest_s, longest_s : float
        Range of one period, s, 0 <= shortest_s <= longest_s and longest_s > 0. Equal ends mean
        a strict period, and a staleness uniform on (0, longest_s) + after_s.
    after_s : float
        Constant delay after the end of the period, s, >= 0.

    Raises
    ------
    ValueError
        If a value is out of range.

    Notes
    -----
    Stationary residual life of a renewal process: density ``(1 - F(x)) / E[P]``, where F is the
    distribution function of the period P. Exact if events do not depend on the periods (Poisson
    changes, or one change at a uniform time).

    References
    ----------
    Cox, D. R. (1962). Renewal Theory. Methuen. (Forward recurrence time.)

    Examples
    --------
    >>> Staleness(30.0, 30.0, 0.5).mean
    15.5
    >>> Staleness(20.0, 45.0, 0.0).quantile([0.0, 0.5, 1.0]).round(3).tolist()
    [0.0, 16.25, 45.0]
    """

    shortest_s: float
    longest_s: float
    after_s: float = 0.0

    def __post_init__(self) -> None:
        shortest_s = real("shortest_s", self.shortest_s, "[0, inf)")
        real("longest_s", self.longest_s, f"{'[' if shortest_s else '('}{shortest_s!r}, inf)")
        real("after_s", self.after_s, "[0, inf)")

    @property
    def mean(self) -> float:
        """Mean in seconds: E[P²] / (2 E[P]) + after_s."""
        period_s = (self.shortest_s + self.longest_s) / 2
        variance = (self.longest_s - self.shortest_s) ** 2 / 12
        return (period_s + variance / period_s) / 2 + self.after_s

    def cdf(self, x_s: ArrayLike) -> float | FloatArray:
        """Return the share of events detected within `x_s` seconds.

        Parameters
        ----------
        x_s : float or array
            Seconds since the event, finite.

        Returns
        -------
        float or array
            Share in [0, 1], shape of `x_s`.

        Raises
        ------
        ValueError
            If `x_s` is not a finite number.
        """
        age_s = np.clip(reals("x_s", x_s, "(-inf, inf)") - self.after_s, 0.0, self.longest_s)
        early = np.minimum(age_s, self.shortest_s) * 2 / (self.shortest_s + self.longest_s)
        if self.shortest_s == self.longest_s:
            return plain(early)
        late = 1 - (self.longest_s - age_s) ** 2 / (self.longest_s**2 - self.shortest_s**2)
        return plain(np.where(age_s < self.shortest_s, early, late))

    def quantile(self, q: ArrayLike) -> float | FloatArray:
        """Return the time within which the share `q` of events is detected.

        Parameters
        ----------
        q : float or array
            Share in [0, 1].

        Returns
        -------
        float or array
            Seconds, shape of `q`.

        Raises
        ------
        ValueError
            If `q` is outside [0, 1].
        """
        share = reals("q", q, "[0, 1]")
        early_s = share * (self.shortest_s + self.longest_s) / 2
        late_s = self.longest_s - np.sqrt((self.longest_s**2 - self.shortest_s**2) * (1 - share))
        return plain(np.where(early_s < self.shortest_s, early_s, late_s) + self.after_s)


def staleness_fixed_timer(
    interval_s: float, down_s: float = 0.0, fetch_s: float = 0.0
) -> Staleness:
    """Return the staleness of a change under polls at a fixed rate.

    Parameters
    ----------
    interval_s : float
        Time between two ticks of the timer, s, > 0.
    down_s : float, optional
        Time from when the server reads the state until the client applies it, s, >= 0.
    fetch_s : float, optional
        Start to end of a fetch, s, >= 0. Ticks up to its end are skipped, since one request is
        under way at a time.

    Returns
    -------
    Staleness
        Uniform on (0, period_s) + down_s, where the period is the first multiple of `interval_s`
        above `fetch_s`: one interval, unless fetches are longer than that.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    For a timer that ignores the fetch time (`setInterval`, a scenario's ``polling.timer =
    "fixed_rate"``), a constant fetch time, and no lost or late poll.

    References
    ----------
    Cox, D. R. (1962). Renewal Theory. Methuen.

    Examples
    --------
    >>> staleness = staleness_fixed_timer(30.0, down_s=0.1)
    >>> staleness.mean, staleness.quantile(1.0)
    (15.1, 30.1)
    >>> staleness_fixed_timer(30.0, down_s=0.1, fetch_s=40.0).mean
    30.1
    """
    interval_s = real("interval_s", interval_s, "(0, inf)")
    ticks = math.floor(real("fetch_s", fetch_s, "[0, inf)") / interval_s) + 1
    return staleness_jittered(ticks * interval_s, 0.0, 0.0, down_s)


def staleness_rearmed_timer(interval_s: float, fetch_s: float, down_s: float) -> Staleness:
    """Return the staleness of a change if the timer is set again at the end of each fetch.

    Parameters
    ----------
    interval_s : float
        ``refetchInterval``: end of one fetch to the start of the next, s, > 0.
    fetch_s : float
        Start to end of a fetch, s, >= 0.
    down_s : float
        Time from when the server reads the state until the client applies it, s, >= 0. It is the
        last part of the fetch, so at most `fetch_s` unless the client applies late.

    Returns
    -------
    Staleness
        Uniform on (0, interval_s + fetch_s) + down_s.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    For a constant fetch time, a visible and online page, no retries and no manual refetch.

    References
    ----------
    TanStack Query, ``refetchInterval``: ``QueryObserver`` re-sets its interval timer on each
    change of the query's state, so the period is the interval plus the fetch time.
    Cox, D. R. (1962). Renewal Theory. Methuen.

    Examples
    --------
    >>> staleness = staleness_rearmed_timer(30.0, fetch_s=2.0, down_s=1.0)
    >>> staleness.mean, staleness.quantile(1.0)
    (17.0, 33.0)
    """
    return staleness_jittered(interval_s, 0.0, fetch_s, down_s)


def staleness_jittered(
    interval_s: float, jitter_frac: float, fetch_s: float, down_s: float
) -> Staleness:
    """Return the staleness of a change if each interval is jittered and starts at a fetch's end.

    Parameters
    ----------
    interval_s : float
        Mean interval, s, > 0.
    jitter_frac : float
        Each interval is ``interval_s * U(1 - jitter_frac, 1 + jitter_frac)``, in [0, 1].
    fetch_s : float
        Start to end of a fetch, s, >= 0.
    down_s : float
        Time from when the server reads the state until the client applies it, s, >= 0.

    Returns
    -------
    Staleness
        Residual life of the jittered period, + down_s.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Independent jitter at each poll, constant fetch time. Jitter raises the mean staleness by
    ``(interval_s * jitter_frac)² / (6 * (interval_s + fetch_s))``, since a change is likelier
    to fall into a long period.

    References
    ----------
    Cox, D. R. (1962). Renewal Theory. Methuen.

    Examples
    --------
    >>> staleness_jittered(30.0, 0.2, fetch_s=0.0, down_s=0.0).mean
    15.2
    """
    interval_s = real("interval_s", interval_s, "(0, inf)")
    spread_s = interval_s * real("jitter_frac", jitter_frac, "[0, 1]")
    fetch_s = real("fetch_s", fetch_s, "[0, inf)")
    down_s = real("down_s", down_s, "[0, inf)")
    return Staleness(interval_s - spread_s + fetch_s, interval_s + spread_s + fetch_s, down_s)


def restarted_fetch_s(rate_per_s: ArrayLike, fetch_s: float) -> float | FloatArray:
    """Return how long a fetch takes on average that each further hint restarts.

    Parameters
    ----------
    rate_per_s : float or array of float
        Rate of the hints, a Poisson stream, per second, > 0.
    fetch_s : float
        Time of a fetch that nothing disturbs, seconds, >= 0.

    Returns
    -------
    float or ndarray of float64
        Mean time from a hint until the first fetch is over, seconds, of the shape of `rate_per_s`.

    Raises
    ------
    ScenarioError
        An argument is out of range.

    Notes
    -----
    It is the mean wait for a gap of `fetch_s` in the stream: ``(exp(r T) - 1) / r``.

    References
    ----------
    Feller, W. (1971). An Introduction to Probability Theory and Its Applications, volume 2,
    chapter XI, "waiting times for gaps". Wiley.

    Examples
    --------
    >>> round(restarted_fetch_s(0.5, 2.0), 2), round(restarted_fetch_s(2.0, 2.0), 1)
    (3.44, 26.8)
    """
    rates = reals("rate_per_s", rate_per_s, "(0, inf)")
    fetch_s = real("fetch_s", fetch_s, "[0, inf)")
    return plain(np.asarray(np.expm1(rates * fetch_s) / rates))


def heartbeat_detection(interval_s: float, timeout_s: float) -> Staleness:
    """Return the time from the silent loss of a path to its detection.

    Parameters
    ----------
    interval_s : float
        Time between two heartbeats, s, > 0.
    timeout_s : float
        Silence allowed after a heartbeat is due, s, >= 0: a side gives up when it has heard
        nothing for ``interval_s + timeout_s`` since the last heartbeat.

    Returns
    -------
    Staleness
        Uniform on (timeout_s, interval_s + timeout_s).

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    The loss comes at any phase of the heartbeat with equal probability, nothing else is sent, and
    the round trip is short compared with the interval (Engine.IO counts from the last pong, so its
    period is `interval_s` + one round trip).

    References
    ----------
    Socket.IO documentation, server options ``pingInterval`` (25 s) and ``pingTimeout`` (20 s).

    Examples
    --------
    >>> detection = heartbeat_detection(25.0, 20.0)
    >>> detection.mean, detection.quantile([0.0, 1.0]).tolist()
    (32.5, [20.0, 45.0])
    """
    interval_s = real("interval_s", interval_s, "(0, inf)")
    return Staleness(interval_s, interval_s, real("timeout_s", timeout_s, "[0, inf)"))


def poll_request_rate_per_s(clients: int, interval_s: float, fetch_s: float) -> float:
    """Return the requests per second of clients that set their timer again after each fetch.

    Parameters
    ----------
    clients : int
        Polling clients, >= 1.
    interval_s : float
        End of one fetch to the start of the next, s, > 0.
    fetch_s : float
        Mean time of a fetch, s, >= 0.

    Returns
    -------
    float
        Requests per second over all clients.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Exact as a long-run mean for any distribution of fetch times. The loop is closed: a slow
    server lowers the rate; `machine_repairman` gives the fetch time that follows.

    References
    ----------
    Lazowska, E. D. et al. (1984). Quantitative System Performance. Prentice-Hall. (Response
    time law.)

    Examples
    --------
    >>> poll_request_rate_per_s(3000, 29.5, 0.5)
    100.0
    """
    period_s = real("interval_s", interval_s, "(0, inf)") + real("fetch_s", fetch_s, "[0, inf)")
    return whole_count("clients", clients) / period_s


def superseded_frac(rate_per_s: ArrayLike, period_s: float) -> float | FloatArray:
    """Return the share of changes that a poller never shows because a later one replaces them.

    Parameters
    ----------
    rate_per_s : float or array
        Changes per second, >= 0.
    period_s : float
        Time between two polls, s, > 0.

    Returns
    -------
    float or array
        Share in [0, 1), shape of `rate_per_s`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Poisson changes of one thing, constant period: with u = rate * period the share is
    ``1 - (1 - exp(-u)) / u``. It is evaluated as ``u/2 * M(1, 3, -u)`` (Kummer's function),
    which keeps full relative accuracy as u goes to 0, where the share goes to u/2.

    References
    ----------
    Ross, S. M. (2014). Introduction to Probability Models, 11th ed. Academic Press. (Poisson
    process.)
    Abramowitz, M. and Stegun, I. A. (1964). Handbook of Mathematical Functions, chapter 13.

    Examples
    --------
    >>> round(superseded_frac(1 / 30, 30.0), 6)
    0.367879
    """
    period_s = real("period_s", period_s, "(0, inf)")
    changes = reals("rate_per_s", rate_per_s, "[0, inf)") * period_s
    changes = np.minimum(changes, 1e16)  # there the share is 1 to the last bit
    return plain(changes / 2 * special.hyp1f1(1.0, 3.0, -changes))
