"""Cheaper polls: versions that are compared first, a shared copy, intervals that adapt."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from simlib.theory.arguments import FloatArray, plain, real, reals, whole_count


def poll_cost_s(
    rate_per_s: ArrayLike, period_s: float, poll_s: float, check_s: float | None = None
) -> float | FloatArray:
    """Return the mean service time of a poll whose client names the version that it holds.

    Parameters
    ----------
    rate_per_s : float or array
        Changes per second, >= 0.
    period_s : float
        Time between two polls of a client, s, > 0.
    poll_s : float
        Reading the board and sending it, s, >= 0.
    check_s : float, optional
        Comparing the version first, s, >= 0; absent: the server reads the board for every poll, as
        it does for a hash of the content.

    Returns
    -------
    float or array
        Seconds, shape of `rate_per_s`. Times `poll_request_rate_per_s`, it is the utilisation of
        one worker.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Poisson changes: nothing has changed with probability ``exp(-rate * period)``. A first poll,
    which names no version, is not counted.

    References
    ----------
    RFC 9110, HTTP Semantics, section 13.1.2 (If-None-Match).

    Examples
    --------
    >>> poll_cost_s(0.0, 30.0, 1e-3), poll_cost_s(0.0, 30.0, 1e-3, check_s=1e-4)
    (0.001, 0.0001)
    >>> round(poll_cost_s(1 / 30, 30.0, 1e-3, check_s=1e-4), 6)
    0.000732
    """
    rates = reals("rate_per_s", rate_per_s, "[0, inf)")
    period_s = real("period_s", period_s, "(0, inf)")
    poll_s = real("poll_s", poll_s, "[0, inf)")
    if check_s is None:
        return plain(np.full(rates.shape, poll_s))
    check_s = real("check_s", check_s, "[0, inf)")
    return plain(np.asarray(check_s - np.expm1(-rates * period_s) * poll_s))


@dataclass(frozen=True)
class SharedPoll:
    """What a copy in memory makes of polls: one query a cycle for everybody.

    Parameters
    ----------
    queries_per_s : float
        How often the board is read.
    utilisation : float
        Work of the server, in workers.
    mean_age_s : float
        Mean age of the copy when a poll is served, s; 0 for polls that make it.
    mean_staleness_s, longest_staleness_s : float
        Time from a change until a client shows it, s: mean and bound.

    Examples
    --------
    >>> shared = shared_poll(3000, 30.0, cache_s=2.0, poll_s=0.01, cached_s=1e-4)
    >>> round(shared.queries_per_s, 3), round(shared.utilisation, 4)
    (0.495, 0.0149)
    >>> round(shared.mean_staleness_s, 2), shared.longest_staleness_s
    (15.99, 32.0)
    """

    queries_per_s: float
    utilisation: float
    mean_age_s: float
    mean_staleness_s: float
    longest_staleness_s: float


def shared_poll(
    clients: int,
    period_s: float,
    cache_s: float,
    poll_s: float,
    cached_s: float,
    down_s: float = 0.0,
) -> SharedPoll:
    """Return what a copy in memory costs one node with one worker, and what it adds to staleness.

    Parameters
    ----------
    clients : int
        Polling clients of the node, >= 1.
    period_s : float
        Time between two polls of a client, s, > 0.
    cache_s : float
        How long the copy is good, s, > 0.
    poll_s, cached_s : float
        Reading the board and sending it, and sending it from the copy, s, >= 0.
    down_s : float, optional
        Time from when the server is asked until the client applies the answer, s, >= 0.

    Returns
    -------
    SharedPoll

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Polls of many clients at random phases, which come together as a Poisson stream of rate ``n =
    clients / period_s``, and a server that is not full. Some jitter keeps the phases random:
    without it, who makes a copy is answered later for it each time, until it polls together with
    those who follow. (What jitter adds itself, see `staleness_jittered`, is not in it.)

    The copy is made by the first poll that finds none: a cycle is ``poll_s + cache_s + 1 / n``
    long, and serves, beside that poll, ``n * (poll_s + cache_s)`` others. Those within `cache_s`
    find ages that are uniform.

    A client's poll at t shows the board as it was at t - A, where A is the age of the copy. Between
    two of these moments there are ``L = period - A + A'`` (A' is the age before), and a change in
    between waits ``L / 2 + A`` on average, so that the mean is ``E[L^2 / 2 + L A] / period``. All
    terms with variances of A cancel, whatever the correlation of A and A': it is ``period / 2 +
    E[A]``. The bound is ``period + cache_s``: a change just after a copy was made.

    References
    ----------
    Cox, D. R. (1962). Renewal Theory. Methuen.

    Examples
    --------
    >>> round(shared_poll(300, 30.0, cache_s=5.0, poll_s=0.0, cached_s=0.0).mean_age_s, 3)
    2.451
    """
    period_s = real("period_s", period_s, "(0, inf)")
    cache_s = real("cache_s", cache_s, "(0, inf)")
    poll_s, cached_s = real("poll_s", poll_s, "[0, inf)"), real("cached_s", cached_s, "[0, inf)")
    down_s = real("down_s", down_s, "[0, inf)")
    per_s = whole_count("clients", clients) / period_s
    cycle_s = poll_s + cache_s + 1.0 / per_s
    others = per_s * (poll_s + cache_s)
    age_s = per_s * cache_s * cache_s / 2.0 / (1.0 + others)
    return SharedPoll(
        queries_per_s=1.0 / cycle_s,
        utilisation=(poll_s + others * cached_s) / cycle_s,
        mean_age_s=age_s,
        mean_staleness_s=period_s / 2.0 + age_s + down_s,
        longest_staleness_s=period_s + cache_s + down_s,
    )


@dataclass(frozen=True)
class AdaptivePolls:
    """How often a client polls whose interval adapts, and how stale it is.

    Parameters
    ----------
    polls_per_s : float
        Polls of one client per second.
    mean_staleness_s : float
        Mean time from a change until the client shows it, s.

    Examples
    --------
    >>> quiet = adaptive_polls(0.0, 30.0, active_interval_s=5.0, active_for_s=60.0)
    >>> round(1.0 / quiet.polls_per_s, 6), quiet.mean_staleness_s
    (30.0, 15.0)
    """

    polls_per_s: float
    mean_staleness_s: float


def adaptive_polls(
    rate_per_s: float,
    interval_s: float,
    active_interval_s: float,
    active_for_s: float,
    fetch_s: float = 0.0,
    down_s: float = 0.0,
) -> AdaptivePolls:
    """Return how often a client polls that polls faster for a while after each change it is shown.

    Parameters
    ----------
    rate_per_s : float
        Changes per second, >= 0.
    interval_s, active_interval_s : float
        End of one fetch to the start of the next, s, > 0: usually, and for a while after a change.
    active_for_s : float
        How long after the end of the fetch that has shown a change, s, > 0.
    fetch_s : float, optional
        Start to end of a fetch, s, >= 0.
    down_s : float, optional
        Time from when the server reads the board until the client applies it, s, >= 0.

    Returns
    -------
    AdaptivePolls

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Poisson changes, a constant fetch time, nobody drags or hides anything. From one poll that shows
    a change to the next, a client polls every ``a = active_interval_s + fetch_s`` up to ``m =
    ceil(active_for_s / a)`` times, and every ``b = interval_s + fetch_s`` after that, until there
    is a change: ``(1 - p^m) / (1 - p)`` polls of the first kind with ``p = exp(-rate * a)``, and
    ``p^m / (1 - q)`` of the second with ``q = exp(-rate * b)``. An interval does not depend on the
    changes in it, so that the mean staleness is half of ``E[L^2] / E[L]``.

    References
    ----------
    Cox, D. R. (1962). Renewal Theory. Methuen.

    Examples
    --------
    >>> busy = adaptive_polls(0.1, 30.0, active_interval_s=5.0, active_for_s=60.0)
    >>> round(busy.polls_per_s, 4), round(busy.mean_staleness_s, 3)
    (0.199, 2.577)
    """
    rate_per_s = real("rate_per_s", rate_per_s, "[0, inf)")
    fetch_s = real("fetch_s", fetch_s, "[0, inf)")
    fast_s = real("active_interval_s", active_interval_s, "(0, inf)") + fetch_s
    slow_s = real("interval_s", interval_s, "(0, inf)") + fetch_s
    most = math.ceil(real("active_for_s", active_for_s, "(0, inf)") / fast_s)
    down_s = real("down_s", down_s, "[0, inf)")
    # How many polls there are of each kind for one of the second kind, if there is ever one.
    in_vain = math.exp(-rate_per_s * fast_s * most)
    ends_s = -math.expm1(-rate_per_s * slow_s)
    fast, slow = ends_s * _runs(rate_per_s * fast_s, most), in_vain
    total_s = fast * fast_s + slow * slow_s
    return AdaptivePolls(
        polls_per_s=(fast + slow) / total_s,
        mean_staleness_s=(fast * fast_s**2 + slow * slow_s**2) / (2.0 * total_s) + down_s,
    )


def _runs(x: float, most: int) -> float:
    """Return the mean number of trials up to the first success, at most `most`."""
    return most if x == 0.0 else math.expm1(-x * most) / math.expm1(-x)


def hidden_polls_per_s(
    interval_s: float,
    hidden_interval_s: float,
    every_s: float,
    length_s: float,
    fetch_s: float = 0.0,
) -> float:
    """Return how often a client polls that polls slower while its tab is hidden.

    Parameters
    ----------
    interval_s, hidden_interval_s : float
        End of one fetch to the start of the next, s, > 0, if the tab is shown, or hidden, when the
        timer is set.
    every_s, length_s : float
        Mean time for which the tab is shown, and hidden, s, > 0.
    fetch_s : float, optional
        Start to end of a fetch, s, >= 0.

    Returns
    -------
    float
        Polls per second of one client, in the long run.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Exponential times, no fetch on focus, a constant fetch time. The states in which timers are set
    are a Markov chain with two states: a tab that is shown is hidden t later with probability
    ``s * (1 - exp(-t / every_s - t / length_s))``, where s is the share of time that it is hidden.

    References
    ----------
    Ross, S. M. (2014). Introduction to Probability Models, 11th ed. Academic Press.
    (Continuous-time Markov chains.)

    Examples
    --------
    >>> round(1.0 / hidden_polls_per_s(30.0, 30.0, 100.0, 50.0), 6)
    30.0
    >>> round(1.0 / hidden_polls_per_s(30.0, 300.0, every_s=1e6, length_s=1e6), 1)
    54.6
    """
    fetch_s = real("fetch_s", fetch_s, "[0, inf)")
    shown_s = real("interval_s", interval_s, "(0, inf)") + fetch_s
    hidden_s = real("hidden_interval_s", hidden_interval_s, "(0, inf)") + fetch_s
    every_s, length_s = real("every_s", every_s, "(0, inf)"), real("length_s", length_s, "(0, inf)")
    hides = -length_s * math.expm1(-shown_s * (1.0 / every_s + 1.0 / length_s))
    shows = -every_s * math.expm1(-hidden_s * (1.0 / every_s + 1.0 / length_s))
    return (hides + shows) / (shows * shown_s + hides * hidden_s)
