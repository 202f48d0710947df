"""A node: workers that serve jobs in the order of arrival, a listen backlog, admission.

A worker is one event loop or one process. Requests of HTTP go to the worker of their node that is
free first: with service times known on arrival, first-in first-out over c workers needs no queue
object, since a job starts when the earliest worker is free (Kiefer and Wolfowitz 1955, "On the
theory of queues with many servers"). A WebSocket belongs to the worker that has accepted it, and so
do all its jobs. A broadcast runs on all workers at once, and each sends to its own connections, one
after the other: the last client of a worker waits for the others.

A new TCP connection waits in the listen backlog until a worker accepts it; a full backlog drops
the SYN silently, and the client's kernel sends it again after 1, 3, 7 s (RFC 6298).
"""

from __future__ import annotations

import math
from collections.abc import MutableSequence, Sequence
from enum import IntEnum
from typing import NamedTuple

from simlib.core.backpressure import SendingRules
from simlib.core.broadcasts import LoopRules
from simlib.core.draws import Stream, exponential, gamma, lognormal, uniform, uniform_block
from simlib.core.elementary import log
from simlib.core.reconnect import doubled_s

SYN_RETRY_S = 1.0
SYN_RETRIES = 6
"""Linux: ``tcp_syn_retries``; the attempt fails after 127 s."""

_ROUNDED_S = 1e-6


_RING = 16
"""The length of a ring at first; it doubles, so that places in it need no division."""


class Law(IntEnum):
    """The distribution of service times about their means."""

    CONSTANT = 0
    EXPONENTIAL = 1
    LOGNORMAL = 2
    GAMMA = 3


def law_parameter(law: Law, cv: float) -> float:
    """Return the parameter by which a law has a coefficient of variation.

    Parameters
    ----------
    law : Law
    cv : float
        Standard deviation over mean, > 0.

    Returns
    -------
    float
        The standard deviation of the logarithm (LOGNORMAL) or the shape (GAMMA); 0 for the others,
        whose CV is 0 and 1.

    Examples
    --------
    >>> law_parameter(Law.GAMMA, 0.5)
    4.0
    """
    if law == Law.LOGNORMAL:
        return math.sqrt(log(1.0 + cv * cv))
    return 1.0 / (cv * cv) if law == Law.GAMMA else 0.0


class ServerRules(NamedTuple):
    """A node's settings; service times are means in seconds, per job, about which a `law` spreads.

    A broadcast takes each worker `fan_out_s` once and `send_s` for each of its connections. A poll
    or upgrade that would wait longer than `shed_wait_s` (infinite: none) is answered 503 at once.
    So is an upgrade that exceeds the rate `admit_per_s` after a burst of `admit_burst`. A change
    reaches the nodes `hop_s` after the broker has worked on it for `broker_s`: see `core.broker`.
    With `ends_streams`, streams that the server ends by itself come to a proper end. `law` is a
    `Law`, with its `law_parameter`.
    Polls that cost less than `poll_s` are the matter of `core.answers`: `check_s`, `cache_s` (0: no
    copies), `cached_s`, `drops_copy`.
    `loop` says what ends a broadcast early, `balancing` by which `Balancing` nodes get connections.
    """

    workers: int
    law: int
    law_parameter: float
    hop_s: float
    accept_s: float
    poll_s: float
    check_s: float
    cache_s: float
    cached_s: float
    drops_copy: bool
    handshake_s: float
    authenticate_s: float
    snapshot_s: float
    fan_out_s: float
    send_s: float
    heartbeat_s: float
    close_s: float
    max_connections: int
    backlog: int
    keep_alive_s: float
    shed_wait_s: float
    admit_per_s: float
    admit_burst: int
    sending: SendingRules
    loop: LoopRules
    ends_streams: bool = False
    balancing: int = 0
    broker_s: float = 0.0


class ServerState:
    """The numbers of one node's state.

    Attributes
    ----------
    upgrade_due_s : float
        When the next upgrade is due at the admission rate, seconds.
    oldest, waiting : int
        Connections that wait to be accepted: the oldest one's index in the ring, and their number.
    sockets : int
        Open WebSockets.
    copied_s, copy_until_s : float
        When the copy of the board from which polls are answered is ready, and until when it is
        good, seconds; 0 if there is none.
    copy_version : int
        Which changes it shows, up to the one of this number.
    has_forgotten : bool
        Whether its set of sockets has broken: no change is sent any more.
    """

    __slots__ = (
        "copied_s",
        "copy_until_s",
        "copy_version",
        "has_forgotten",
        "oldest",
        "sockets",
        "upgrade_due_s",
        "waiting",
    )

    def __init__(self) -> None:
        self.upgrade_due_s = 0.0
        self.copied_s = 0.0
        self.copy_until_s = 0.0
        self.copy_version = 0
        self.oldest = 0
        self.waiting = 0
        self.sockets = 0
        self.has_forgotten = False


SERVER_STATE = {
    "upgrade_due_s": "f8",
    "copied_s": "f8",
    "copy_until_s": "f8",
    "copy_version": "i8",
    "oldest": "i8",
    "waiting": "i8",
    "sockets": "i8",
    "has_forgotten": "?",
}
"""The columns of a node's state, for an engine that keeps it in an array."""


class Server(NamedTuple):
    """One node: three lists or arrays, and a `ServerState` or a row of `SERVER_STATE`.

    Attributes
    ----------
    free_s, blocked_s : sequence of float, length workers
        When each worker is free, and until when slow clients block its next send, under the policy
        ``block``.
    accepts_s : sequence of float
        A ring of the start times of accepting jobs: those in the future wait in the backlog.
    state : ServerState
    """

    free_s: MutableSequence[float]
    blocked_s: MutableSequence[float]
    accepts_s: MutableSequence[float]
    state: ServerState


def new_server(workers: int) -> Server:
    """Return an idle node."""
    return Server([0.0] * workers, [0.0] * workers, [0.0] * _RING, ServerState())


def first_free(free_s: Sequence[float]) -> int:
    """Return which of a node's workers is free first.

    Examples
    --------
    >>> first_free([4.0, 2.0, 2.0])
    1
    """
    worker = 0
    for other in range(1, len(free_s)):
        if free_s[other] < free_s[worker]:
            worker = other
    return worker


def admit(free_s: MutableSequence[float], now: float, service_s: float) -> float:
    """Give a job that arrives `now` to the worker that is free first.

    Parameters
    ----------
    free_s : sequence of float, length workers
        When each worker of the node is free, seconds.
    now, service_s : float
        Seconds.

    Returns
    -------
    float
        When the job starts; it ends `service_s` later.

    Examples
    --------
    >>> free_s = [0.0]
    >>> admit(free_s, 0.0, 2.0), admit(free_s, 0.5, 2.0)
    (0.0, 2.0)
    """
    return admit_to(free_s, first_free(free_s), now, service_s)


def admit_to(free_s: MutableSequence[float], worker: int, now: float, service_s: float) -> float:
    """Give a job that arrives `now` to a worker; return when it starts, seconds.

    Examples
    --------
    >>> free_s = [0.0, 0.0]
    >>> admit_to(free_s, 1, 0.0, 2.0), admit_to(free_s, 1, 0.5, 2.0), admit(free_s, 0.5, 2.0)
    (0.0, 2.0, 0.5)
    """
    start = max(now, free_s[worker])
    free_s[worker] = start + service_s
    return start


def begun_s(
    rules: ServerRules, start_s: float, seed: int, replication: int, worker: int, version: int
) -> float:
    """Return when a worker that starts a broadcast at `start_s` sends the first message, seconds.

    `worker` is counted over all nodes, `version` is the change that is sent.
    """
    stream = Stream.FAN_OUT_SERVICE
    return start_s + service_time_s(
        rules, rules.fan_out_s, seed, replication, worker, stream, version
    )


def sent_s(
    rules: ServerRules,
    start_s: float,
    before_s: float,
    position: int,
    seed: int,
    replication: int,
    client: int,
    version: int,
) -> float:
    """Return when a worker has sent a broadcast to its next subscriber, seconds.

    Parameters
    ----------
    rules : ServerRules
    start_s, before_s : float
        When the worker has started, and when it has sent to the subscriber before: `begun_s` for
        the first. Seconds.
    position : int
        The subscriber's place among those of that worker, from 1.
    seed, replication, client, version : int
        The address of the draw of this send.

    Examples
    --------
    >>> costs = {name: 0.0 for name in ServerRules._fields}
    >>> rules = ServerRules(**{**costs, "fan_out_s": 0.5, "send_s": 0.25})
    >>> [sent_s(rules, 10.0, 0.0, position, 1, 0, 7, 3) for position in (1, 2)]
    [10.75, 11.0]
    """
    if rules.law == Law.CONSTANT:
        return evenly_sent_s(rules, start_s, position)
    stream = Stream.SEND_SERVICE
    return before_s + service_time_s(
        rules, rules.send_s, seed, replication, client, stream, version
    )


def evenly_sent_s(rules: ServerRules, start_s: float, position: int) -> float:
    """Return when a worker whose service times are constant has sent to a subscriber, seconds.

    It never falls as `position` grows.

    Parameters
    ----------
    rules, start_s, position
        As `sent_s` has them.

    Examples
    --------
    >>> costs = {name: 0.0 for name in ServerRules._fields}
    >>> rules = ServerRules(**{**costs, "fan_out_s": 0.5, "send_s": 0.25})
    >>> [evenly_sent_s(rules, 10.0, position) for position in (1, 2)]
    [10.75, 11.0]
    """
    return start_s + (rules.fan_out_s + position * rules.send_s)


def wait_s(free_s: Sequence[float], now: float) -> float:
    """Return how long a job that arrives `now` would wait for the first free worker, seconds."""
    return wait_for_s(free_s, first_free(free_s), now)


def wait_for_s(free_s: Sequence[float], worker: int, now: float) -> float:
    """Return how long a job that arrives `now` would wait for a worker, seconds."""
    return max(now, free_s[worker]) - now


def accept(server: Server, rules: ServerRules, now: float, service_s: float) -> float:
    """Queue a new TCP connection for acceptance by the worker that is `first_free`.

    Returns
    -------
    float
        When the accepting job starts, or -1 if the backlog was full and the SYN was dropped.
    """
    state, ring = server.state, server.accepts_s
    while state.waiting > 0 and ring[state.oldest] <= now:
        state.oldest = (state.oldest + 1) & (len(ring) - 1)
        state.waiting -= 1
    if state.waiting >= rules.backlog:
        return -1.0
    if state.waiting == len(ring):
        grow_backlog(server)
    start = admit(server.free_s, now, service_s)
    ring[(state.oldest + state.waiting) & (len(ring) - 1)] = start
    state.waiting += 1
    return start


def admitted_from_s(due_s: float, per_s: float, burst: int) -> float:
    """Return from when on a rate limit admits the next one, seconds.

    Parameters
    ----------
    due_s : float
        When the next one is due at the rate, seconds: see `next_due_s`.
    per_s : float
        The rate, per second, > 0.
    burst : int
        How many may come at once, >= 1.

    References
    ----------
    ITU-T Recommendation I.371: the generic cell rate algorithm.

    Examples
    --------
    >>> admitted_from_s(6.0, per_s=2.0, burst=1), admitted_from_s(6.0, per_s=2.0, burst=2)
    (6.0, 5.5)
    """
    return due_s - (burst - 1) / per_s


def is_admitted(due_s: float, per_s: float, burst: int, now: float) -> bool:
    """Say whether a rate limit admits one that comes `now`.

    A sum of many turns is rounded. One that comes just as its turn begins is not refused for that:
    a microsecond does not count, nor half a turn where that is less.

    Examples
    --------
    >>> due_s = 0.15
    >>> for _ in range(4):
    ...     due_s = next_due_s(due_s, per_s=1.0, now=0.15)
    >>> admitted_from_s(due_s, per_s=1.0, burst=5) > 0.15
    True
    >>> is_admitted(due_s, 1.0, 5, now=0.15), is_admitted(due_s, 1.0, 5, now=0.1499)
    (True, False)
    """
    return now >= admitted_from_s(due_s, per_s, burst) - min(_ROUNDED_S, 0.5 / per_s)


def next_due_s(due_s: float, per_s: float, now: float) -> float:
    """Return when the next one is due at a rate after one that was admitted `now`, seconds."""
    return max(now, due_s) + 1.0 / per_s


def admits_upgrade(state: ServerState, rules: ServerRules, now: float) -> bool:
    """Return whether an upgrade that arrives `now` is within the rate, and count it if it is.

    Examples
    --------
    >>> rates = {name: 0.0 for name in ServerRules._fields} | {"admit_per_s": 2.0, "admit_burst": 2}
    >>> state, rules = ServerState(), ServerRules(**rates)
    >>> [admits_upgrade(state, rules, t) for t in (5.0, 5.0, 5.0, 5.5, 5.75)]
    [True, True, False, True, False]
    """
    per_s = rules.admit_per_s
    if per_s == math.inf:
        return True
    if not is_admitted(state.upgrade_due_s, per_s, rules.admit_burst, now):
        return False
    state.upgrade_due_s = next_due_s(state.upgrade_due_s, per_s, now)
    return True


def clear_server(server: Server, now: float) -> None:
    """Reset a node whose process ends `now`, seconds: its work and its copy are lost."""
    for worker in range(len(server.free_s)):
        server.free_s[worker] = now
        server.blocked_s[worker] = now
    server.state.upgrade_due_s = now
    server.state.copied_s = 0.0
    server.state.copy_until_s = 0.0
    server.state.waiting = 0
    server.state.has_forgotten = False


def grow_backlog(server: Server) -> None:
    """Double the ring of waiting connections; the compiled engine allocates enough beforehand."""
    ring, oldest = server.accepts_s, server.state.oldest
    ring[:] = [*ring[oldest:], *ring[:oldest], *([0.0] * len(ring))]
    server.state.oldest = 0


def syn_retry_s(k: int) -> float:
    """Return how long after dropped SYN number `k`, from 0, the kernel sends the next, seconds.

    Examples
    --------
    >>> [syn_retry_s(k) for k in range(3)]
    [1.0, 2.0, 4.0]
    """
    return doubled_s(SYN_RETRY_S, k, 64.0)


def service_time_s(
    rules: ServerRules,
    mean_s: float,
    seed: int,
    replication: int,
    client: int,
    stream: int,
    k: int,
) -> float:
    """Return a job's service time, seconds: the mean, or a draw at an address by the law."""
    if rules.law == Law.CONSTANT:
        return mean_s
    if rules.law == Law.GAMMA:
        return gamma(seed, replication, client, stream, k, mean_s, rules.law_parameter)
    if rules.law == Law.LOGNORMAL:
        u, v, _, _ = uniform_block(seed, replication, client, stream, k, 0)
        return lognormal(u, v, mean_s, rules.law_parameter)
    return exponential(uniform(seed, replication, client, stream, k), mean_s)
