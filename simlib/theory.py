"""Closed forms that the simulation and the live lab must agree with, each with its limits.

Nothing here draws a random number or knows an engine: parameters in, figures out. Tests hold
runs against these formulas, and notebooks draw them beside what was simulated or measured.
Times are seconds, sizes bytes, rates per second; "share" and ``_frac`` mean 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special

from simlib.errors import ScenarioError

__all__ = [
    "FanOut",
    "Queue",
    "Staleness",
    "crossover_rate_per_s",
    "fan_out",
    "heartbeat_detection",
    "machine_repairman",
    "md1",
    "mean_interval",
    "mm1",
    "mmc",
    "poll_request_rate_per_s",
    "polling_bytes_per_s",
    "push_bytes_per_s",
    "staleness_fixed_timer",
    "staleness_jittered",
    "staleness_rearmed_timer",
    "standard_error",
    "superseded_frac",
]

FloatArray = NDArray[np.float64]

# Levels of the M/D/1 recursion. Beyond about 50 its terms are geometric to the last bit.
_LEVELS = 100


# --- validation -------------------------------------------------------------------------------


def _reals(name: str, value: Any, within: str, *, whole: bool = False) -> FloatArray:
    """Return numbers as a float array, or say which argument is outside which interval."""
    given = np.asarray(value)
    low, high = (float(end) for end in within[1:-1].split(","))
    fits = given.dtype.kind in ("iu" if whole else "iuf") and bool(
        np.all(given >= low if within[0] == "[" else given > low)
        and np.all(given <= high if within[-1] == "]" else given < high)
    )
    if not fits:
        noun = "a whole number" if whole else "a number"
        raise ScenarioError(name, value, f"must be {noun} in {within}")
    return given.astype(np.float64)


def _real(name: str, value: Any, within: str, *, whole: bool = False) -> float:
    """Return one number, checked like ``_reals``."""
    if np.ndim(value) != 0:
        raise ScenarioError(name, value, f"must be one number in {within}")
    return float(_reals(name, value, within, whole=whole))


def _count(name: str, value: Any) -> int:
    """Return one whole number of at least 1."""
    return int(_real(name, value, "[1, inf)", whole=True))


def _plain(values: FloatArray) -> float | FloatArray:
    """Return a float for one number and the array for several."""
    return float(values) if values.ndim == 0 else values


# --- polling: how stale, how often, how much is never shown -------------------------------------


@dataclass(frozen=True)
class Staleness:
    """Time from an event to its being noticed at the end of the period that it falls into.

    Periods are independent and uniform on [`shortest_s`, `longest_s`]; the event comes at any
    time of the cycle with equal chance; `after_s` passes between the end of the period and the
    notice. A poll notices a change this way, and a missed heartbeat a lost path.

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
        shortest_s = _real("shortest_s", self.shortest_s, "[0, inf)")
        _real("longest_s", self.longest_s, f"{'[' if shortest_s else '('}{shortest_s!r}, inf)")
        _real("after_s", self.after_s, "[0, inf)")

    @property
    def mean(self) -> float:
        """Mean in seconds: E[P²] / (2 E[P]) + after_s."""
        period_s = (self.shortest_s + self.longest_s) / 2
        variance = (self.longest_s - self.shortest_s) ** 2 / 12
        return (period_s + variance / period_s) / 2 + self.after_s

    def cdf(self, x_s: ArrayLike) -> float | FloatArray:
        """Return the share of events noticed within `x_s` seconds.

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
        age_s = np.clip(_reals("x_s", x_s, "(-inf, inf)") - self.after_s, 0.0, self.longest_s)
        early = np.minimum(age_s, self.shortest_s) * 2 / (self.shortest_s + self.longest_s)
        if self.shortest_s == self.longest_s:
            return _plain(early)
        late = 1 - (self.longest_s - age_s) ** 2 / (self.longest_s**2 - self.shortest_s**2)
        return _plain(np.where(age_s < self.shortest_s, early, late))

    def quantile(self, q: ArrayLike) -> float | FloatArray:
        """Return the time within which the share `q` of events is noticed.

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
        share = _reals("q", q, "[0, 1]")
        early_s = share * (self.shortest_s + self.longest_s) / 2
        late_s = self.longest_s - np.sqrt((self.longest_s**2 - self.shortest_s**2) * (1 - share))
        return _plain(np.where(early_s < self.shortest_s, early_s, late_s) + self.after_s)


def staleness_fixed_timer(interval_s: float, down_s: float = 0.0) -> Staleness:
    """Return the staleness of a change under polls exactly `interval_s` apart.

    Parameters
    ----------
    interval_s : float
        Time between two readings of the server's state, s, > 0.
    down_s : float, optional
        From the server's reading of the state to the client's applying it, s, >= 0.

    Returns
    -------
    Staleness
        Uniform on (0, interval_s) + down_s.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    For a timer that ignores the fetch time (`setInterval`), and no lost or late poll.

    References
    ----------
    Cox, D. R. (1962). Renewal Theory. Methuen.

    Examples
    --------
    >>> staleness = staleness_fixed_timer(30.0, down_s=0.1)
    >>> staleness.mean, staleness.quantile(1.0)
    (15.1, 30.1)
    """
    return staleness_jittered(interval_s, 0.0, 0.0, down_s)


def staleness_rearmed_timer(interval_s: float, fetch_s: float, down_s: float) -> Staleness:
    """Return the staleness of a change under a timer re-armed at the end of each fetch.

    Parameters
    ----------
    interval_s : float
        ``refetchInterval``: end of one fetch to the start of the next, s, > 0.
    fetch_s : float
        Start to end of a fetch, s, >= 0.
    down_s : float
        From the server's reading of the state to the client's applying it, s, >= 0. It is the
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
    """Return the staleness of a change when each interval is jittered and then re-armed.

    Parameters
    ----------
    interval_s : float
        Mean interval, s, > 0.
    jitter_frac : float
        Each interval is ``interval_s * U(1 - jitter_frac, 1 + jitter_frac)``, in [0, 1].
    fetch_s : float
        Start to end of a fetch, s, >= 0.
    down_s : float
        From the server's reading of the state to the client's applying it, s, >= 0.

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
    interval_s = _real("interval_s", interval_s, "(0, inf)")
    spread_s = interval_s * _real("jitter_frac", jitter_frac, "[0, 1]")
    fetch_s = _real("fetch_s", fetch_s, "[0, inf)")
    down_s = _real("down_s", down_s, "[0, inf)")
    return Staleness(interval_s - spread_s + fetch_s, interval_s + spread_s + fetch_s, down_s)


def heartbeat_detection(interval_s: float, timeout_s: float) -> Staleness:
    """Return the time from the silent loss of a path to its being declared dead.

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
    The loss comes at any phase of the heartbeat with equal chance, nothing else is sent, and
    the round trip is short beside the interval (Engine.IO counts from the last pong, so its
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
    interval_s = _real("interval_s", interval_s, "(0, inf)")
    return Staleness(interval_s, interval_s, _real("timeout_s", timeout_s, "[0, inf)"))


def poll_request_rate_per_s(clients: int, interval_s: float, fetch_s: float) -> float:
    """Return the requests per second of clients that re-arm their timer after each fetch.

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
    period_s = _real("interval_s", interval_s, "(0, inf)") + _real("fetch_s", fetch_s, "[0, inf)")
    return _count("clients", clients) / period_s


def superseded_frac(rate_per_s: ArrayLike, period_s: float) -> float | FloatArray:
    """Return the share of changes that a poller never shows, because a later one came first.

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
    period_s = _real("period_s", period_s, "(0, inf)")
    changes = _reals("rate_per_s", rate_per_s, "[0, inf)") * period_s
    changes = np.minimum(changes, 1e16)  # there the share is 1 to the last bit
    return _plain(changes / 2 * special.hyp1f1(1.0, 3.0, -changes))


# --- queues --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Queue:
    """What a queue does in the long run.

    Parameters
    ----------
    throughput_per_s : float
        Requests served per second.
    utilisation : float
        Share of time that a worker is busy, in [0, 1].
    mean_wait_s : float
        Mean time from arrival to the start of service, s.
    mean_response_s : float
        Mean time from arrival to the end of service, s.
    mean_queue_length : float
        Mean number waiting, those in service not counted.
    wait_probability : float
        Share of requests that find no free worker.
    wait_tail : callable
        P(wait > x) for an array of x >= 0, s.

    Examples
    --------
    >>> queue = mm1(arrival_rate_per_s=50.0, service_s=0.01)
    >>> round(queue.mean_wait_s, 6), round(queue.wait_quantile_s(0.95), 6)
    (0.01, 0.046052)
    """

    throughput_per_s: float
    utilisation: float
    mean_wait_s: float
    mean_response_s: float
    mean_queue_length: float
    wait_probability: float
    wait_tail: Callable[[FloatArray], FloatArray] = field(repr=False, compare=False)

    def wait_cdf(self, x_s: ArrayLike) -> float | FloatArray:
        """Return the share of requests that wait at most `x_s` seconds.

        Parameters
        ----------
        x_s : float or array
            Seconds, finite.

        Returns
        -------
        float or array
            Share in [0, 1], shape of `x_s`.

        Raises
        ------
        ValueError
            If `x_s` is not a finite number.
        """
        wait_s = _reals("x_s", x_s, "(-inf, inf)")
        return _plain(np.where(wait_s < 0, 0.0, 1 - self.wait_tail(np.maximum(wait_s, 0.0))))

    def wait_quantile_s(self, q: ArrayLike) -> float | FloatArray:
        """Return the time within which the share `q` of requests gets a worker.

        Parameters
        ----------
        q : float or array
            Share in [0, 1].

        Returns
        -------
        float or array
            Seconds, shape of `q`: 0 up to the share that does not wait, infinite at 1 if any
            request waits.

        Raises
        ------
        ValueError
            If `q` is outside [0, 1].
        """
        share = _reals("q", q, "[0, 1]")
        found = [self._exceeded_by(1 - one) for one in share.ravel().tolist()]
        return _plain(np.array(found).reshape(share.shape))

    def _exceeded_by(self, share: float) -> float:
        def surplus(wait_s: float) -> float:
            return float(self.wait_tail(np.array(wait_s))) - share

        if surplus(0.0) <= 0:
            return 0.0
        if share == 0:
            return math.inf
        high_s = self.mean_wait_s
        while surplus(high_s) > 0:
            high_s *= 2
        return float(optimize.brentq(surplus, 0.0, high_s, xtol=1e-14 * high_s, rtol=1e-14))


def mm1(arrival_rate_per_s: float, service_s: float) -> Queue:
    """Return the M/M/1 queue: Poisson arrivals, exponential service, one worker.

    Parameters
    ----------
    arrival_rate_per_s : float
        Arrivals per second, >= 0 and < 1 / service_s.
    service_s : float
        Mean service time, s, > 0.

    Returns
    -------
    Queue
        With the exponential distribution of the wait.

    Raises
    ------
    ValueError
        If an argument is out of range or the queue is unstable (utilisation >= 1).

    Notes
    -----
    Steady state, first come first served, unlimited room. It is `mmc` with one worker.

    References
    ----------
    Kleinrock, L. (1975). Queueing Systems, Volume 1: Theory. Wiley, chapter 3.

    Examples
    --------
    >>> round(mm1(80.0, 0.01).mean_response_s, 6)
    0.05
    """
    return mmc(arrival_rate_per_s, service_s, 1)


def mmc(arrival_rate_per_s: float, service_s: float, workers: int) -> Queue:
    """Return the M/M/c queue (Erlang C): Poisson arrivals, exponential service, c workers.

    Parameters
    ----------
    arrival_rate_per_s : float
        Arrivals per second, >= 0 and < workers / service_s.
    service_s : float
        Mean service time, s, > 0.
    workers : int
        Workers that share one queue, >= 1.

    Returns
    -------
    Queue
        With the distribution of the wait: 0, or exponential with mean
        ``service_s / (workers - arrival_rate_per_s * service_s)``.

    Raises
    ------
    ValueError
        If an argument is out of range or the queue is unstable (utilisation >= 1).

    Notes
    -----
    Steady state, first come first served, unlimited room. Erlang's loss formula is found by
    its recursion over workers, which neither overflows nor cancels.

    References
    ----------
    Cooper, R. B. (1981). Introduction to Queueing Theory, 2nd ed. North Holland, chapter 3.
    Gross, D. et al. (2008). Fundamentals of Queueing Theory, 4th ed. Wiley, chapter 2.

    Examples
    --------
    >>> round(mmc(15.0, 0.1, 2).wait_probability, 6)
    0.642857
    """
    workers = _count("workers", workers)
    rate_per_s, service_s = _stable(arrival_rate_per_s, service_s, workers)
    load = rate_per_s * service_s
    blocked = 1.0
    for busy in range(1, workers + 1):
        blocked = load * blocked / (busy + load * blocked)
    waits = workers * blocked / (workers - load * (1 - blocked))
    drain_per_s = (workers - load) / service_s
    tail = partial(_exponential_tail, probability=waits, rate_per_s=drain_per_s)
    return _queue(rate_per_s, service_s, workers, waits / drain_per_s, waits, tail)


def md1(arrival_rate_per_s: float, service_s: float) -> Queue:
    """Return the M/D/1 queue: Poisson arrivals, constant service time, one worker.

    Parameters
    ----------
    arrival_rate_per_s : float
        Arrivals per second, >= 0 and < 1 / service_s.
    service_s : float
        Service time, s, > 0.

    Returns
    -------
    Queue
        With the distribution of the wait.

    Raises
    ------
    ValueError
        If an argument is out of range or the queue is unstable (utilisation >= 1).

    Notes
    -----
    Steady state, first come first served, unlimited room. The mean is Pollaczek and
    Khinchine's: half of that of M/M/1. The classic series for the distribution alternates in
    sign and fails at long waits; here it is Franx's sum over the number waiting, whose terms
    are all positive, so that the far tail keeps its relative accuracy.

    References
    ----------
    Kleinrock, L. (1975). Queueing Systems, Volume 1: Theory. Wiley, chapter 5.
    Franx, G. J. (2001). A simple solution for the M/D/c waiting time distribution. Operations
    Research Letters 29, 221-229.

    Examples
    --------
    >>> round(md1(80.0, 0.01).mean_wait_s, 6)
    0.02
    """
    rate_per_s, service_s = _stable(arrival_rate_per_s, service_s, 1)
    load = rate_per_s * service_s
    waiting, ratio = _fixed_service_levels(load)
    tail = partial(
        _fixed_service_tail, load=load, service_s=service_s, waiting=waiting, ratio=ratio
    )
    return _queue(rate_per_s, service_s, 1, load * service_s / (2 * (1 - load)), load, tail)


def machine_repairman(clients: int, think_s: float, service_s: float, workers: int) -> Queue:
    """Return the closed queue of pollers: each thinks, asks, waits for its answer, and repeats.

    Parameters
    ----------
    clients : int
        Clients, >= 1; 100,000 take a few milliseconds.
    think_s : float
        Mean time from an answer to the next request (the poll interval), s, > 0.
    service_s : float
        Mean service time, s, > 0.
    workers : int
        Workers that share one queue, >= 1.

    Returns
    -------
    Queue
        With the distribution of the wait as a request meets it.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Steady state, exponential service, first come first served. Think times may have any
    distribution (the result depends on their mean only), but must be independent of each
    other. A closed loop has no unstable load: utilisation tends to 1 and the wait to
    ``clients * service_s / workers - think_s``. A request sees the long-run state of the same
    system without its own client, whence `wait_probability` and the distribution. State
    probabilities are built outwards from the likeliest state, on a log scale.

    References
    ----------
    Baskett, F., Chandy, K. M., Muntz, R. R. and Palacios, F. G. (1975). Open, closed, and
    mixed networks of queues with different classes of customers. Journal of the ACM 22,
    248-260.
    Lavenberg, S. S. and Reiser, M. (1980). Stationary state probabilities at arrival instants
    for closed queueing networks with multiple types of customers. Journal of Applied
    Probability 17, 1048-1061.

    Examples
    --------
    >>> queue = machine_repairman(clients=1, think_s=30.0, service_s=0.5, workers=1)
    >>> queue.mean_wait_s, round(queue.throughput_per_s * 30.5, 6)
    (0.0, 1.0)
    """
    clients, workers = _count("clients", clients), _count("workers", workers)
    service_s = _real("service_s", service_s, "(0, inf)")
    ratio = service_s / _real("think_s", think_s, "(0, inf)")
    share = _closed_states(clients, ratio, workers)
    present = np.arange(clients + 1)
    throughput_per_s = float(share @ np.minimum(present, workers)) / service_s
    waiting = float(share @ np.maximum(present - workers, 0))
    met = _closed_states(clients - 1, ratio, workers)[workers:]
    ahead = np.flatnonzero(met > 1e-30)
    tail = partial(
        _phases_tail, probability=met[ahead], phases=ahead + 1, rate_per_s=workers / service_s
    )
    return _queue(
        throughput_per_s,
        service_s,
        workers,
        waiting / throughput_per_s,
        float(met.sum()),
        tail,
    )


def _stable(arrival_rate_per_s: Any, service_s: Any, workers: int) -> tuple[float, float]:
    """Return arrival rate and service time of an open queue, checked for stability."""
    rate_per_s = _real("arrival_rate_per_s", arrival_rate_per_s, "[0, inf)")
    service_s = _real("service_s", service_s, "(0, inf)")
    if rate_per_s * service_s >= workers:
        limit = "1" if workers == 1 else f"workers ({workers})"
        rule = f"must be < {limit} / service_s ({workers / service_s:g}) for a stable queue"
        raise ScenarioError("arrival_rate_per_s", arrival_rate_per_s, rule)
    return rate_per_s, service_s


def _queue(
    throughput_per_s: float,
    service_s: float,
    workers: int,
    mean_wait_s: float,
    wait_probability: float,
    wait_tail: Callable[[FloatArray], FloatArray],
) -> Queue:
    """Return the queue with what Little's law adds."""
    return Queue(
        throughput_per_s=throughput_per_s,
        utilisation=throughput_per_s * service_s / workers,
        mean_wait_s=mean_wait_s,
        mean_response_s=mean_wait_s + service_s,
        mean_queue_length=throughput_per_s * mean_wait_s,
        wait_probability=wait_probability,
        wait_tail=wait_tail,
    )


def _exponential_tail(x_s: FloatArray, probability: float, rate_per_s: float) -> FloatArray:
    return np.asarray(probability * np.exp(-rate_per_s * x_s))


def _phases_tail(
    x_s: FloatArray, probability: FloatArray, phases: NDArray[np.intp], rate_per_s: float
) -> FloatArray:
    """P(wait > x) when the wait is, with `probability`, a sum of so many exponential phases."""
    beyond = special.gammaincc(phases, rate_per_s * x_s[..., np.newaxis])
    return np.asarray(beyond @ probability)


def _closed_states(clients: int, ratio: float, workers: int) -> FloatArray:
    """Return the share of time that 0, 1 ... `clients` of them are at the server."""
    present = np.arange(1, clients + 1)
    step = np.log((clients + 1 - present) * ratio / np.minimum(present, workers))
    peak = int(np.count_nonzero(step > 0))  # steps fall with `present`: one peak
    below = -np.cumsum(step[:peak][::-1])[::-1]
    weight = np.exp(np.concatenate([below, [0.0], np.cumsum(step[peak:])]))
    return np.asarray(weight / weight.sum())


def _fixed_service_levels(load: float) -> tuple[FloatArray, float]:
    """Return P(at least m wait), m = 0 ... _LEVELS, in M/D/1, and the ratio of further ones.

    At departures the flow up across a level equals the flow down; every term is positive.
    """
    more = special.gammainc(np.arange(_LEVELS) + 1.0, load)  # P(more than k come in a service)
    present = np.zeros(_LEVELS + 1)
    present[0] = 1 - load
    for level in range(_LEVELS):
        up = present[0] * more[level] + present[1 : level + 1] @ more[level:0:-1]
        present[level + 1] = up * math.exp(load)
    ratio = float(present[-1] / present[-2]) if present[-2] > 0 else 0.0
    present[-1] /= 1 - ratio  # the last level stands for itself and all beyond
    at_least = np.cumsum(present[::-1])[::-1]
    return np.concatenate([[1.0], at_least[2:], [at_least[-1] * ratio]]), ratio


def _fixed_service_tail(
    x_s: FloatArray, load: float, service_s: float, waiting: FloatArray, ratio: float
) -> FloatArray:
    """P(wait > x) in M/D/1.

    Let x be u short of k whole services, 0 < u <= service. A request waits longer than x just
    when those who waited u before it came, and those who came within u, are k or more.
    """
    services = x_s[..., np.newaxis] / service_s
    whole = np.floor(services) + 1
    came = np.arange(_LEVELS + 1)
    expected = load * (whole - services)
    weight = np.exp(special.xlogy(came, expected) - expected - special.gammaln(came + 1))
    level = whole - came
    enough = waiting[np.clip(level, 0, _LEVELS).astype(int)]
    enough *= ratio ** np.maximum(level - _LEVELS, 0)
    return np.asarray((weight * enough).sum(axis=-1))


# --- fan-out ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FanOut:
    """Latency of a broadcast that one worker sends client by client.

    Parameters
    ----------
    queue : Queue
        The broadcasts waiting for the worker; its wait has a distribution too.
    clients : int
        Receivers of each broadcast.
    send_s, overhead_s, down_s : float
        Time of one send, before the first send, and on the way to the client, s.

    Examples
    --------
    >>> broadcast = fan_out(clients=1000, send_s=50e-6, overhead_s=0.001, rate_per_s=2.0)
    >>> round(broadcast.utilisation, 3), round(broadcast.unqueued_quantile_s(0.95), 4)
    (0.102, 0.0485)
    """

    queue: Queue
    clients: int
    send_s: float
    overhead_s: float
    down_s: float

    @property
    def utilisation(self) -> float:
        """Share of time that the worker is busy."""
        return self.queue.utilisation

    @property
    def mean_wait_s(self) -> float:
        """Mean time that a broadcast waits for those before it, s."""
        return self.queue.mean_wait_s

    @property
    def first_mean_s(self) -> float:
        """Mean latency of the client that is served first, s."""
        return self.mean_wait_s + self.unqueued_s(1)

    @property
    def mean_latency_s(self) -> float:
        """Mean latency over clients and broadcasts, s."""
        return self.mean_wait_s + self.unqueued_s((1 + self.clients) / 2)

    @property
    def last_mean_s(self) -> float:
        """Mean latency of the client that is served last, s."""
        return self.mean_wait_s + self.unqueued_s(self.clients)

    def unqueued_s(self, place: float) -> float:
        """Return the latency at a place in the order if the broadcast need not wait, s."""
        return self.overhead_s + place * self.send_s + self.down_s

    def unqueued_quantile_s(self, q: ArrayLike) -> float | FloatArray:
        """Return the latency that the share `q` of clients has at most, without queueing.

        Parameters
        ----------
        q : float or array
            Share of clients in [0, 1].

        Returns
        -------
        float or array
            Seconds, shape of `q`. It steps: one step a client.

        Raises
        ------
        ValueError
            If `q` is outside [0, 1].
        """
        # 0.07 * 100 is a little above 7 in binary: round before the ceiling.
        place = np.ceil(np.round(_reals("q", q, "[0, 1]") * self.clients, 6))
        latency_s = self.overhead_s + np.maximum(place, 1.0) * self.send_s + self.down_s
        return _plain(np.asarray(latency_s))


def fan_out(
    clients: int, send_s: float, overhead_s: float, rate_per_s: float, down_s: float = 0.0
) -> FanOut:
    """Return the latency of broadcasts that one worker sends in order, client after client.

    Parameters
    ----------
    clients : int
        Receivers of each broadcast, >= 1.
    send_s : float
        Worker's time for one send, s, > 0.
    overhead_s : float
        Worker's time before the first send of a broadcast, s, >= 0.
    rate_per_s : float
        Broadcasts per second, >= 0 and < 1 / (overhead_s + clients * send_s).
    down_s : float, optional
        From the end of a send to the client's applying it, s, >= 0.

    Returns
    -------
    FanOut
        Utilisation and latencies.

    Raises
    ------
    ValueError
        If an argument is out of range or the worker is overloaded (utilisation >= 1).

    Notes
    -----
    Poisson publishes, constant times, one worker that does nothing else: M/D/1 with a service
    time of ``overhead_s + clients * send_s``. The message of the client at place i leaves
    ``overhead_s + i * send_s`` after the broadcast's turn comes. No send blocks.

    References
    ----------
    Kleinrock, L. (1975). Queueing Systems, Volume 1: Theory. Wiley, chapter 5.

    Examples
    --------
    >>> broadcast = fan_out(clients=1000, send_s=50e-6, overhead_s=0.0, rate_per_s=10.0)
    >>> round(broadcast.mean_wait_s, 6), round(broadcast.last_mean_s, 6)
    (0.025, 0.075)
    """
    clients = _count("clients", clients)
    send_s = _real("send_s", send_s, "(0, inf)")
    overhead_s = _real("overhead_s", overhead_s, "[0, inf)")
    batch_s = overhead_s + clients * send_s
    rate_per_s = _real("rate_per_s", rate_per_s, "[0, inf)")
    if rate_per_s * batch_s >= 1:
        rule = f"must be < 1 / (overhead_s + clients * send_s) ({1 / batch_s:g})"
        raise ScenarioError("rate_per_s", rate_per_s, rule)
    down_s = _real("down_s", down_s, "[0, inf)")
    return FanOut(md1(rate_per_s, batch_s), clients, send_s, overhead_s, down_s)


# --- bytes --------------------------------------------------------------------------------------


def polling_bytes_per_s(
    rate_per_s: ArrayLike,
    period_s: float,
    full_bytes: float,
    unchanged_bytes: float | None = None,
) -> float | FloatArray:
    """Return the bytes per second that polling costs one client, both directions.

    Parameters
    ----------
    rate_per_s : float or array
        Changes per second in the state that is polled, >= 0.
    period_s : float
        Time between two polls, s, > 0.
    full_bytes : float
        Request and response of a poll with a body, bytes, >= 0.
    unchanged_bytes : float, optional
        Request and response of a poll answered "304 Not Modified", bytes, >= 0; left out if
        the server has no ETag and always sends the body.

    Returns
    -------
    float or array
        Bytes per second, shape of `rate_per_s`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Poisson changes: a poll finds nothing new with probability ``exp(-rate * period)``. Every
    change alters the response. Constant sizes.

    References
    ----------
    RFC 9110, HTTP Semantics, sections 13.1.2 (If-None-Match) and 15.4.5 (304 Not Modified).

    Examples
    --------
    >>> polling_bytes_per_s(0.0, 30.0, 6000)
    200.0
    >>> polling_bytes_per_s([0.0, 1e9], 30.0, 6000, unchanged_bytes=900).tolist()
    [30.0, 200.0]
    """
    period_s = _real("period_s", period_s, "(0, inf)")
    full_bytes, saved_bytes = _poll_bytes(full_bytes, unchanged_bytes)
    unchanged = np.exp(-_reals("rate_per_s", rate_per_s, "[0, inf)") * period_s)
    return _plain(np.asarray((full_bytes - saved_bytes * unchanged) / period_s))


def push_bytes_per_s(
    rate_per_s: ArrayLike,
    push_bytes: float,
    heartbeat_period_s: float = math.inf,
    heartbeat_bytes: float = 0.0,
) -> float | FloatArray:
    """Return the bytes per second that pushes and heartbeats cost one client.

    Parameters
    ----------
    rate_per_s : float or array
        Changes per second, each pushed to the client, >= 0.
    push_bytes : float
        One pushed message with its frame header, bytes, >= 0.
    heartbeat_period_s : float, optional
        Time between two heartbeats, s, > 0; infinite for none.
    heartbeat_bytes : float, optional
        One heartbeat and its answer, bytes, >= 0.

    Returns
    -------
    float or array
        Bytes per second, shape of `rate_per_s`.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    A long-lived connection: handshake, reconnects and resync are not in it. Heartbeats go on
    while messages flow, as in Engine.IO.

    References
    ----------
    RFC 6455, The WebSocket Protocol, section 5.2 (frame header).

    Examples
    --------
    >>> push_bytes_per_s(2.0, 144, heartbeat_period_s=25.0, heartbeat_bytes=10)
    288.4
    """
    rate = _reals("rate_per_s", rate_per_s, "[0, inf)")
    push_bytes = _real("push_bytes", push_bytes, "[0, inf)")
    period_s = _real("heartbeat_period_s", heartbeat_period_s, "(0, inf]")
    beat_bytes = _real("heartbeat_bytes", heartbeat_bytes, "[0, inf)")
    return _plain(np.asarray(rate * push_bytes + beat_bytes / period_s))


def crossover_rate_per_s(
    period_s: float,
    full_bytes: float,
    push_bytes: float,
    unchanged_bytes: float | None = None,
    heartbeat_period_s: float = math.inf,
    heartbeat_bytes: float = 0.0,
) -> float:
    """Return the rate of changes above which push costs a client more bytes than polling.

    Parameters
    ----------
    period_s : float
        Time between two polls, s, > 0.
    full_bytes : float
        Request and response of a poll with a body, bytes, >= 0.
    push_bytes : float
        One pushed message with its frame header, bytes, > 0.
    unchanged_bytes : float, optional
        Request and response of a poll answered "304 Not Modified", bytes, >= 0; left out if
        the server has no ETag.
    heartbeat_period_s : float, optional
        Time between two heartbeats, s, > 0; infinite for none.
    heartbeat_bytes : float, optional
        One heartbeat and its answer, bytes, >= 0.

    Returns
    -------
    float
        Changes per second in the whole system, each broadcast to every client. 0.0 if push
        costs more at every rate above 0.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Notes
    -----
    Push less polling, as a function of the rate, is convex (a "304" is smaller than a full
    answer; without ETag it is a line), or increasing (a "304" is larger), and grows without
    limit. So there are at most two crossings, and above the last one push always costs more:
    that is the one returned. A lower crossing exists only if idle heartbeats cost more than
    idle polls, and then push also costs more below it; compare `push_bytes_per_s` and
    `polling_bytes_per_s` at rate 0 to see whether it does. In x = rate * period the crossing
    solves ``x = a - b exp(-x)``; the last root is ``a + W0(-b exp(-a))`` (Lambert), found here
    by bracketing, which cannot overflow. Assumptions as in those two functions.

    References
    ----------
    Corless, R. M., Gonnet, G. H., Hare, D. E. G., Jeffrey, D. J. and Knuth, D. E. (1996). On
    the Lambert W function. Advances in Computational Mathematics 5, 329-359.

    Examples
    --------
    >>> poll = 633 + 386 + 5304
    >>> round(crossover_rate_per_s(30, poll, 144, None, 25, 10), 3)
    1.461
    >>> round(crossover_rate_per_s(30, poll, 144, 681 + 332, 25, 10), 3)
    1.461
    """
    period_s = _real("period_s", period_s, "(0, inf)")
    push_bytes = _real("push_bytes", push_bytes, "(0, inf)")
    full_bytes, saved_bytes = _poll_bytes(full_bytes, unchanged_bytes)
    idle_bytes_per_s = push_bytes_per_s(0.0, push_bytes, heartbeat_period_s, heartbeat_bytes)
    a = (full_bytes - float(idle_bytes_per_s) * period_s) / push_bytes
    b = saved_bytes / push_bytes

    def surplus(x: float) -> float:
        return x - a + b * math.exp(-x)

    lowest = max(0.0, math.log(b)) if b > 0 else 0.0
    if surplus(lowest) > 0:
        return 0.0
    return float(optimize.brentq(surplus, lowest, max(a, a - b), xtol=1e-18, rtol=1e-14)) / period_s


def _poll_bytes(full_bytes: Any, unchanged_bytes: Any) -> tuple[float, float]:
    """Return the bytes of a full poll and what an unchanged one saves."""
    full_bytes = _real("full_bytes", full_bytes, "[0, inf)")
    if unchanged_bytes is None:
        return full_bytes, 0.0
    return full_bytes, full_bytes - _real("unchanged_bytes", unchanged_bytes, "[0, inf)")


# --- replications -------------------------------------------------------------------------------


def standard_error(values: ArrayLike) -> float:
    """Return the standard error of the mean of independent replications.

    Parameters
    ----------
    values : array
        One figure a replication, one dimension, at least 2, finite.

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
    For independent values. Values along one run are not; take one mean a replication.

    References
    ----------
    Law, A. M. (2015). Simulation Modeling and Analysis, 5th ed. McGraw-Hill, chapter 4.

    Examples
    --------
    >>> standard_error([1.0, 3.0])
    1.0
    """
    sample = _reals("values", values, "(-inf, inf)")
    if sample.ndim != 1 or sample.size < 2:
        raise ScenarioError("values", values, "must be a list of at least 2 numbers")
    return float(sample.std(ddof=1)) / math.sqrt(sample.size)


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> tuple[float, float, float]:
    """Return the mean of independent replications and its Student-t confidence interval.

    Parameters
    ----------
    values : array
        One figure a replication, one dimension, at least 2, finite.
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
    upper = (1 + _real("confidence", confidence, "(0, 1)")) / 2
    mean = float(np.mean(np.asarray(values, dtype=np.float64)))
    half = float(special.stdtrit(np.size(values) - 1, upper)) * error
    return mean, mean - half, mean + half
