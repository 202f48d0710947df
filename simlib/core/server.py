"""The server: workers that serve jobs in the order of arrival, a listen backlog, admission.

A worker is one event loop or one thread. With service times known on arrival, first-in first-out
over c workers needs no queue object: a job starts when the earliest worker is free (Kiefer and
Wolfowitz 1955, "On the theory of queues with many servers"). A broadcast to n connections occupies
one worker for all its n sends, so the last client waits for the others. Broadcasts are serialised,
as on any server that keeps the order of messages on a connection.

A new TCP connection waits in the listen backlog until a worker accepts it; a full backlog drops
the SYN silently, and the client's kernel sends it again after 1, 3, 7 s (RFC 6298).
"""

from __future__ import annotations

import math
from collections.abc import MutableSequence, Sequence
from typing import NamedTuple

from simlib.core.backpressure import SendingRules
from simlib.core.draws import exponential, uniform
from simlib.core.reconnect import doubled_s

SYN_RETRY_S = 1.0
SYN_RETRIES = 6
"""Linux: ``tcp_syn_retries``; the attempt fails after 127 s."""


_RING = 16


class ServerRules(NamedTuple):
    """The server's settings; service times are means in seconds, per job.

    A broadcast takes `fan_out_s` once and `send_s` for each connection. A poll or upgrade that
    would wait longer than `shed_wait_s` (infinite: none) is answered 503 at once. So is an upgrade
    that exceeds the rate `admit_per_s` after a burst of `admit_burst`.
    """

    workers: int
    exponential: bool
    accept_s: float
    poll_s: float
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


class ServerState:
    """The numbers of one server's state.

    Attributes
    ----------
    fan_out_free_s : float
        When the last send of the broadcast before ends, seconds.
    blocked_until_s : float
        Until when slow clients block the next broadcast, seconds, under the policy ``block``.
    upgrade_due_s : float
        When the next upgrade is due at the admission rate, seconds.
    oldest, waiting : int
        Connections that wait to be accepted: the oldest one's index in the ring, and their number.
    """

    __slots__ = ("blocked_until_s", "fan_out_free_s", "oldest", "upgrade_due_s", "waiting")

    def __init__(self) -> None:
        self.fan_out_free_s = 0.0
        self.blocked_until_s = 0.0
        self.upgrade_due_s = 0.0
        self.oldest = 0
        self.waiting = 0


SERVER_STATE = {
    "fan_out_free_s": "f8",
    "blocked_until_s": "f8",
    "upgrade_due_s": "f8",
    "oldest": "i8",
    "waiting": "i8",
}
"""The columns of a server's state, for an engine that keeps it in an array."""


class Server(NamedTuple):
    """One server: two lists or arrays, and a `ServerState` or a row of `SERVER_STATE`.

    Attributes
    ----------
    free_s : sequence of float, length workers
        When each worker is free.
    accepts_s : sequence of float
        A ring of the start times of accepting jobs: those in the future wait in the backlog.
    state : ServerState
    """

    free_s: MutableSequence[float]
    accepts_s: MutableSequence[float]
    state: ServerState


def new_server(workers: int) -> Server:
    """Return an idle server."""
    return Server([0.0] * workers, [0.0] * _RING, ServerState())


def admit(server: Server, now: float, service_s: float) -> float:
    """Give a job that arrives `now` to the worker that is free first.

    Parameters
    ----------
    server : Server
    now, service_s : float
        Seconds.

    Returns
    -------
    float
        When the job starts; it ends `service_s` later.

    Examples
    --------
    >>> server = new_server(workers=1)
    >>> admit(server, 0.0, 2.0), admit(server, 0.5, 2.0)
    (0.0, 2.0)
    """
    free_s = server.free_s
    worker = 0
    for other in range(1, len(free_s)):
        if free_s[other] < free_s[worker]:
            worker = other
    start = max(now, free_s[worker])
    free_s[worker] = start + service_s
    return start


def admit_fan_out(server: Server, now: float, service_s: float) -> float:
    """Give a broadcast to a worker; it starts when the broadcast before has ended.

    The worker that waits for the broadcast before is blocked meanwhile, like a thread at a lock,
    and counts as busy from `free_from_s` on.
    """
    earliest = max(now, server.state.fan_out_free_s)
    start = admit(server, earliest, service_s)
    server.state.fan_out_free_s = start + service_s
    return start


def sent_s(
    rules: ServerRules, start_s: float, position: int, subscribers: int, service_s: float
) -> float:
    """Return when a broadcast that starts at `start_s` is sent to the subscriber at `position`.

    Parameters
    ----------
    rules : ServerRules
    start_s : float
        As `admit_fan_out` returned it, seconds.
    position : int
        From 1 to `subscribers`.
    subscribers : int
    service_s : float
        Service time of the whole broadcast, seconds; its parts are stretched in proportion.

    Examples
    --------
    >>> costs = {name: 0.0 for name in ServerRules._fields}
    >>> rules = ServerRules(**{**costs, "fan_out_s": 0.5, "send_s": 0.25})
    >>> [sent_s(rules, 10.0, position, 2, 2.0) for position in (1, 2)]
    [11.5, 12.0]
    """
    mean_s = broadcast_s(rules, subscribers)
    stretch = service_s / mean_s if mean_s > 0.0 else 1.0
    return start_s + (rules.fan_out_s + position * rules.send_s) * stretch


def broadcast_s(rules: ServerRules, subscribers: int) -> float:
    """Return the mean service time of a broadcast, seconds."""
    return rules.fan_out_s + subscribers * rules.send_s


def wait_s(server: Server, now: float) -> float:
    """Return how long a job that arrives `now` would wait for a worker, seconds."""
    return free_from_s(server, now) - now


def free_from_s(server: Server, now: float) -> float:
    """Return when a worker is free, `now` or later, seconds."""
    free_s = server.free_s
    earliest = free_s[0]
    for other in range(1, len(free_s)):
        earliest = min(earliest, free_s[other])
    return max(now, earliest)


def accept(server: Server, rules: ServerRules, now: float, service_s: float) -> float:
    """Queue a new TCP connection for acceptance.

    Returns
    -------
    float
        When the accepting job starts, or -1 if the backlog was full and the SYN was dropped.
    """
    state, ring = server.state, server.accepts_s
    while state.waiting > 0 and ring[state.oldest] <= now:
        state.oldest = (state.oldest + 1) % len(ring)
        state.waiting -= 1
    if state.waiting >= rules.backlog:
        return -1.0
    if state.waiting == len(ring):
        grow_backlog(server)
    start = admit(server, now, service_s)
    ring[(state.oldest + state.waiting) % len(ring)] = start
    state.waiting += 1
    return start


def admits_upgrade(server: Server, rules: ServerRules, now: float) -> bool:
    """Return whether an upgrade that arrives `now` is within the rate, and count it if it is.

    References
    ----------
    ITU-T Recommendation I.371: the generic cell rate algorithm.

    Examples
    --------
    >>> rates = {name: 0.0 for name in ServerRules._fields} | {"admit_per_s": 2.0, "admit_burst": 2}
    >>> server, rules = new_server(1), ServerRules(**rates)
    >>> [admits_upgrade(server, rules, t) for t in (5.0, 5.0, 5.0, 5.5, 5.75)]
    [True, True, False, True, False]
    """
    state = server.state
    if rules.admit_per_s == math.inf:
        return True
    if now < state.upgrade_due_s - (rules.admit_burst - 1) / rules.admit_per_s:
        return False
    state.upgrade_due_s = max(now, state.upgrade_due_s) + 1.0 / rules.admit_per_s
    return True


def node_for(is_down: Sequence[bool], u: float) -> int:
    """Return the node to which a balancer gives a new connection, by a uniform draw; -1: all down.

    Examples
    --------
    >>> node_for([False, True, False], 0.6), node_for([True], 0.6)
    (2, -1)
    """
    up = 0
    for node in range(len(is_down)):
        if not is_down[node]:
            up += 1
    place = int(u * up)
    for node in range(len(is_down)):
        if not is_down[node]:
            if place == 0:
                return node
            place -= 1
    return -1


def clear_server(server: Server, now: float) -> None:
    """Reset a server whose process ends `now`, seconds: all its work is lost."""
    for worker in range(len(server.free_s)):
        server.free_s[worker] = now
    server.state.fan_out_free_s = now
    server.state.blocked_until_s = now
    server.state.upgrade_due_s = now
    server.state.waiting = 0


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
    """Return a job's service time, seconds: the mean, or an exponential draw at an address."""
    if not rules.exponential:
        return mean_s
    return exponential(uniform(seed, replication, client, stream, k), mean_s)
