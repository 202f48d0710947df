"""Queues at the workers, open and closed, and the broadcast as a batch."""

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
from simlib.theory.arguments import FloatArray, plain, real, reals, whole_count

# Levels of the M/D/1 recursion. Beyond about 50 its terms are geometric to the last bit.
_LEVELS = 100


@dataclass(frozen=True)
class Queue:
    """The long-run behaviour of a queue.

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
        wait_s = reals("x_s", x_s, "(-inf, inf)")
        return plain(np.where(wait_s < 0, 0.0, 1 - self.wait_tail(np.maximum(wait_s, 0.0))))

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
        share = reals("q", q, "[0, 1]")
        found = [self._exceeded_by(1 - one) for one in share.ravel().tolist()]
        return plain(np.array(found).reshape(share.shape))

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
    workers = whole_count("workers", workers)
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
    """Return the closed queue of pollers, which wait, send a request, get the answer, and repeat.

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
        With the distribution of the wait that a request experiences.

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
    system without its own client; `wait_probability` and the distribution follow from that. State
    probabilities are computed outwards from the likeliest state, on a log scale.

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
    clients, workers = whole_count("clients", clients), whole_count("workers", workers)
    service_s = real("service_s", service_s, "(0, inf)")
    ratio = service_s / real("think_s", think_s, "(0, inf)")
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
    rate_per_s = real("arrival_rate_per_s", arrival_rate_per_s, "[0, inf)")
    service_s = real("service_s", service_s, "(0, inf)")
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
    """Return the queue, completed by Little's law."""
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
    """P(wait > x) if the wait is, with `probability`, a sum of `phases` exponential phases."""
    beyond = special.gammaincc(phases, rate_per_s * x_s[..., np.newaxis])
    return np.asarray(beyond @ probability)


def _closed_states(clients: int, ratio: float, workers: int) -> FloatArray:
    """Return the shares of time in which 0, 1 ... `clients` clients are at the server."""
    present = np.arange(1, clients + 1)
    step = np.log((clients + 1 - present) * ratio / np.minimum(present, workers))
    peak = int(np.count_nonzero(step > 0))  # steps fall with `present`: one peak
    below = -np.cumsum(step[:peak][::-1])[::-1]
    weight = np.exp(np.concatenate([below, [0.0], np.cumsum(step[peak:])]))
    return np.asarray(weight / weight.sum())


def _fixed_service_levels(load: float) -> tuple[FloatArray, float]:
    """Return P(at least m wait), m = 0 ... _LEVELS, in M/D/1, and the ratio of further ones.

    At departures the flows upwards and downwards across a level are equal; all terms are positive.
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

    Let x be k whole services minus u, 0 < u <= service. A request waits longer than x exactly if
    k or more requests waited at time u before its arrival or have arrived since.
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


@dataclass(frozen=True)
class FanOut:
    """Latency of a broadcast that workers send client by client, each to its own.

    Parameters
    ----------
    queue : Queue
        The queue of broadcasts that wait for a worker.
    clients : int
        Receivers of each broadcast.
    workers : int
        Of all nodes; each client is at one of them, by chance.
    send_s, overhead_s, down_s : float
        Time of one send, time before the first send, and time on the way to the client, s.
    hop_s : float
        Time for a change to reach the workers, s.

    Examples
    --------
    >>> broadcast = fan_out(clients=1000, send_s=50e-6, overhead_s=0.001, rate_per_s=2.0)
    >>> round(broadcast.utilisation, 3), round(broadcast.unqueued_quantile_s(0.95), 4)
    (0.102, 0.0485)
    """

    queue: Queue
    clients: int
    workers: int
    send_s: float
    overhead_s: float
    down_s: float
    hop_s: float

    @property
    def clients_of_largest(self) -> float:
        """Mean number of clients of the worker that has the most.

        The numbers are multinomial. For many clients a worker they are normal, and their largest is
        the mean plus ``sqrt(clients / workers)`` times the mean largest of so many standard normal
        variates (David and Nagaraja 2003, Order Statistics, chapter 4).
        """
        share = self.clients / self.workers
        return min(float(self.clients), share + math.sqrt(share) * _largest_normal(self.workers))

    @property
    def utilisation(self) -> float:
        """Share of time that a worker is busy."""
        return self.queue.utilisation

    @property
    def mean_wait_s(self) -> float:
        """Mean time that a broadcast waits for earlier ones, s."""
        return self.queue.mean_wait_s

    @property
    def first_mean_s(self) -> float:
        """Mean latency of the client that is served first, s."""
        return self.mean_wait_s + self.unqueued_s(1)

    @property
    def mean_latency_s(self) -> float:
        """Mean latency over clients and broadcasts, s."""
        # Clients are rather at a worker that has many.
        company = self.clients / self.workers + 1.0 - 1.0 / self.workers
        return self.mean_wait_s + self.unqueued_s((1.0 + company) / 2.0)

    @property
    def last_mean_s(self) -> float:
        """Mean latency of the client that is served last, s."""
        return self.mean_wait_s + self.unqueued_s(self.clients_of_largest)

    def unqueued_s(self, place: float) -> float:
        """Return the latency at a place in the order of sends, without queueing, s."""
        return self.hop_s + self.overhead_s + place * self.send_s + self.down_s

    def unqueued_quantile_s(self, q: ArrayLike) -> float | FloatArray:
        """Return the latency that the share `q` of clients has at most, without queueing.

        Every worker is taken to have the same number of clients.

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
        share = self.clients / self.workers
        place = np.ceil(np.round(reals("q", q, "[0, 1]") * share, 6))
        before_s = self.hop_s + self.overhead_s
        return plain(np.asarray(before_s + np.maximum(place, 1.0) * self.send_s + self.down_s))


def _largest_normal(n: int) -> float:
    """Return the mean of the largest of `n` standard normal variates."""
    from scipy import integrate, stats

    def above(x: float) -> float:
        return float(1.0 - stats.norm.cdf(x) ** n)

    def below(x: float) -> float:
        return float(stats.norm.cdf(x) ** n)

    return float(integrate.quad(above, 0.0, 12.0)[0] - integrate.quad(below, -12.0, 0.0)[0])


def fan_out(
    clients: int,
    send_s: float,
    overhead_s: float,
    rate_per_s: float,
    down_s: float = 0.0,
    *,
    workers: int = 1,
    hop_s: float = 0.0,
) -> FanOut:
    """Return the latency of broadcasts that workers send in order, each to its own clients.

    Parameters
    ----------
    clients : int
        Receivers of each broadcast, >= 1.
    send_s : float
        Worker's time for one send, s, > 0.
    overhead_s : float
        Worker's time before the first send of a broadcast, s, >= 0.
    rate_per_s : float
        Broadcasts per second, >= 0 and < 1 / (overhead_s + clients / workers * send_s).
    down_s : float, optional
        Time from the end of a send until the client applies it, s, >= 0.
    workers : int, optional
        Of all nodes, >= 1; each client is at one of them, by chance.
    hop_s : float, optional
        Time for a change to reach the workers, such as through a broker, s, >= 0.

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
    Poisson publishes, constant times, workers that do nothing else: M/D/1 with a service time of
    ``overhead_s + clients / workers * send_s``. The message of the client at place i leaves
    ``overhead_s + i * send_s`` after the broadcast's turn comes. No send blocks.

    References
    ----------
    Kleinrock, L. (1975). Queueing Systems, Volume 1: Theory. Wiley, chapter 5.

    Examples
    --------
    >>> broadcast = fan_out(clients=1000, send_s=50e-6, overhead_s=0.0, rate_per_s=10.0)
    >>> round(broadcast.mean_wait_s, 6), round(broadcast.last_mean_s, 6)
    (0.025, 0.075)
    >>> sharded = fan_out(1000, 50e-6, overhead_s=0.0, rate_per_s=0.0, workers=4, hop_s=0.4e-3)
    >>> round(sharded.last_mean_s, 4)
    0.0137
    """
    clients = whole_count("clients", clients)
    send_s = real("send_s", send_s, "(0, inf)")
    overhead_s = real("overhead_s", overhead_s, "[0, inf)")
    workers = whole_count("workers", workers)
    hop_s = real("hop_s", hop_s, "[0, inf)")
    batch_s = overhead_s + clients / workers * send_s
    rate_per_s = real("rate_per_s", rate_per_s, "[0, inf)")
    if rate_per_s * batch_s >= 1:
        rule = f"must be < 1 / (overhead_s + clients / workers * send_s) ({1 / batch_s:g})"
        raise ScenarioError("rate_per_s", rate_per_s, rule)
    down_s = real("down_s", down_s, "[0, inf)")
    return FanOut(md1(rate_per_s, batch_s), clients, workers, send_s, overhead_s, down_s, hop_s)
