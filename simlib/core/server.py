"""The server: workers that serve jobs in the order of arrival, a listen backlog, a cap.

A worker is one event loop or one thread. With service times known on arrival, first-in first-out
over c workers needs no queue object: a job starts when the earliest worker is free (Kiefer and
Wolfowitz 1955, "On the theory of queues with many servers"). A broadcast to n connections holds
one worker for all its n sends, so the last client waits for the others; broadcasts are serialised,
as on any server that keeps the order of messages on a connection.

A new TCP connection waits in the listen backlog until a worker accepts it; a full backlog drops
the SYN without a word, and the client's kernel sends it again after 1, 3, 7 s (RFC 6298).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from simlib.core.draws import Stream, exponential, uniform
from simlib.core.reconnect import doubled_s

SYN_RETRY_S = 1.0
SYN_RETRIES = 6
"""Linux: ``tcp_syn_retries``; the attempt fails after 127 s."""


class ServerRules(NamedTuple):
    """The server's settings; service times are means in seconds, per job.

    Broadcast: `fan_out_s` once plus `send_s` for each connection. `shed_wait_s`: a poll or
    upgrade that would wait longer than this is answered 503 at once; infinite = never.
    """

    workers: int
    exponential: bool
    accept_s: float
    poll_s: float
    handshake_s: float
    authenticate_s: float
    fan_out_s: float
    send_s: float
    heartbeat_s: float
    max_connections: int
    backlog: int
    keep_alive_s: float
    shed_wait_s: float


class Server:
    """One server's state.

    Attributes
    ----------
    free_s : list of float, length workers
        When each worker is free.
    fan_out_free_s : float
        When the broadcast before has left.
    accepts_s : deque of float
        Start times of accepted jobs, oldest first: those in the future wait in the backlog.
    """

    __slots__ = ("accepts_s", "fan_out_free_s", "free_s")

    def __init__(self, workers: int) -> None:
        self.free_s = [0.0] * workers
        self.fan_out_free_s = 0.0
        self.accepts_s: deque[float] = deque()


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
    >>> server = Server(workers=1)
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
    """Give a broadcast to a worker; it starts when the broadcast before has left.

    The worker that waits for the broadcast before is blocked meanwhile, like a thread at a lock.
    """
    earliest = max(now, server.fan_out_free_s)
    start = admit(server, earliest, service_s)
    server.fan_out_free_s = start + service_s
    return start


def wait_s(server: Server, now: float) -> float:
    """Return how long a job that arrives `now` would wait for a worker."""
    return max(0.0, min(server.free_s) - now)


def accept(server: Server, rules: ServerRules, now: float, service_s: float) -> float:
    """Queue a new TCP connection for acceptance.

    Returns
    -------
    float
        When the accepting job starts, or -1 if the backlog was full and the SYN was dropped.
    """
    waiting = server.accepts_s
    while waiting and waiting[0] <= now:
        waiting.popleft()
    if len(waiting) >= rules.backlog:
        return -1.0
    start = admit(server, now, service_s)
    waiting.append(start)
    return start


def syn_retry_s(k: int) -> float:
    """Return how long after a dropped SYN (number `k`, from 0) the kernel sends the next.

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
    stream: Stream,
    k: int,
) -> float:
    """Return a job's service time: the mean, or an exponential draw addressed by its client."""
    if not rules.exponential:
        return mean_s
    return exponential(uniform(seed, replication, client, stream, k), mean_s)
