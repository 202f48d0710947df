"""Paths: added latency and limited bandwidth, for some time and for a share of the clients.

Both depend on the time alone and are known beforehand, so the arrival of a message can be computed
when it is sent. To a server, a narrow path and a tab that reads slowly look alike: its messages
wait, first in the kernels' buffers at both ends, then in its own memory. `backpressure` says what
the server does about it.

A narrow path carries a connection's messages one after the other (Lindley 1952, "The theory of
queues with a single server"). Its whole state is the bytes that it had still to carry at the last
send. Only the way down to the client is limited, since most bytes go there; and of these neither
what opens and closes connections nor refusals.

There may also be one link, such as the server's or an office's, that all messages to all clients
pass, in the order in which the server sends them and before each client's own path. Its whole state
is when it will have carried what it was given, so it has to be given each message when that is
sent. It holds nobody back: what waits for it is in no buffer of the server's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from simlib.core.draws import Stream, uniform
from simlib.core.faults import is_affected


class Window(NamedTuple):
    """Fault number `fault` acts from `start_s` to `end_s`, seconds, on a share of the clients.

    `amount` is the time that it adds to a round trip, seconds, with up to `jitter_s` more; or the
    bandwidth that it leaves, bytes per second.
    """

    start_s: float
    end_s: float
    share: float
    amount: float
    jitter_s: float
    fault: int


WINDOW = {
    "start_s": "f8",
    "end_s": "f8",
    "share": "f8",
    "amount": "f8",
    "jitter_s": "f8",
    "fault": "i8",
}
"""A window's columns, for an engine that keeps them in an array."""


class SharedLink:
    """The link that all clients share: its rate, and when it has carried all that it was given."""

    __slots__ = ("bytes_per_s", "free_s")

    def __init__(self, bytes_per_s: float) -> None:
        self.bytes_per_s = bytes_per_s
        self.free_s = 0.0


SHARED_LINK = {"bytes_per_s": "f8", "free_s": "f8"}
"""Its columns, for an engine that keeps it in an array."""


def shared_s(link: SharedLink, now: float, n_bytes: float) -> float:
    """Give the shared link something to carry `now`; return when it has carried it, seconds.

    Examples
    --------
    >>> link = SharedLink(100.0)
    >>> [shared_s(link, now, 50.0) for now in (10.0, 10.0, 20.0)]
    [10.5, 11.0, 20.5]
    """
    link.free_s = max(now, link.free_s) + n_bytes / link.bytes_per_s
    return link.free_s + 0.0


def added_s(
    delays: Sequence[Window], seed: int, replication: int, client: int, now: float
) -> float:
    """Return the latency added to one way of a message that is sent `now`, seconds.

    The jitter is drawn anew for each second.

    Examples
    --------
    >>> slow = Window(10.0, 20.0, 1.0, 0.5, 0.0, 0)
    >>> added_s([slow], 1, 0, 7, 15.0), added_s([slow], 1, 0, 7, 20.0)
    (0.25, 0.0)
    """
    total_s = 0.0
    for place in range(len(delays)):
        window = delays[place]
        if window.start_s <= now < window.end_s:
            fault = int(window.fault)
            if is_affected(seed, replication, client, fault, 0.0, window.share):
                total_s += window.amount
                if window.jitter_s > 0.0:
                    k = (fault << 32) + int(now)
                    u = uniform(seed, replication, client, Stream.LATENCY, k)
                    total_s += window.jitter_s * u
    return total_s / 2.0


def rate_at(
    limits: Sequence[Window], seed: int, replication: int, client: int, now: float
) -> tuple[float, float]:
    """Return a client's bandwidth, bytes per second, and until when it stays the same, seconds.

    Examples
    --------
    >>> thin = Window(10.0, 20.0, 1.0, 100.0, 0.0, 0)
    >>> [rate_at([thin], 1, 0, 7, t) for t in (5.0, 15.0, 20.0)]
    [(inf, 10.0), (100.0, 20.0), (inf, inf)]
    """
    rate, until_s = math.inf, math.inf
    for place in range(len(limits)):
        window = limits[place]
        if now < window.end_s:
            if is_affected(seed, replication, client, int(window.fault), 0.0, window.share):
                if now < window.start_s:
                    until_s = min(until_s, window.start_s)
                else:
                    until_s = min(until_s, window.end_s)
                    rate = min(rate, window.amount)
    return rate, until_s


def carried_s(
    limits: Sequence[Window],
    seed: int,
    replication: int,
    client: int,
    start_s: float,
    n_bytes: float,
) -> float:
    """Return when a path that has `n_bytes` to carry from `start_s` on has carried them, seconds.

    Examples
    --------
    >>> thin = Window(10.0, 20.0, 1.0, 100.0, 0.0, 0)
    >>> carried_s([thin], 1, 0, 7, 15.0, 200), carried_s([thin], 1, 0, 7, 15.0, 9000)
    (17.0, 20.0)
    """
    t, left = start_s, n_bytes + 0.0
    while True:
        rate, until_s = rate_at(limits, seed, replication, client, t)
        if rate == math.inf or left <= 0.0:
            return t
        done_s = t + left / rate
        if done_s <= until_s:
            return done_s
        left -= (until_s - t) * rate
        t = until_s


def left_bytes(
    limits: Sequence[Window],
    seed: int,
    replication: int,
    client: int,
    start_s: float,
    n_bytes: float,
    now: float,
) -> float:
    """Return how many of the `n_bytes` that a path had to carry at `start_s` are left `now`.

    Examples
    --------
    >>> thin = Window(10.0, 20.0, 1.0, 100.0, 0.0, 0)
    >>> [left_bytes([thin], 1, 0, 7, 15.0, 900.0, t) for t in (15.0, 17.0, 20.0, 20.5)]
    [900.0, 700.0, 0.0, 0.0]
    """
    t, left = start_s, n_bytes
    while left > 0.0:
        rate, until_s = rate_at(limits, seed, replication, client, t)
        if rate == math.inf:
            return 0.0
        if t >= now:
            return left
        until_s = min(until_s, now)
        left -= (until_s - t) * rate
        t = until_s
    return 0.0
