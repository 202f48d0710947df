"""What a path does to what it carries: added latency and narrow bandwidth, for a time and a share.

Both are functions of the time alone, known beforehand, so a message's whole way can be told when
it sets out. A thin line and a tab that reads slowly are one thing to a server: what it sends stays
behind, first in the kernels at both ends, then in its own memory; see `sending` for what it does.

A narrow path carries a connection's messages one after the other (Lindley 1952, "The theory of
queues with a single server"): how much it had still to carry when it was last given something is
all that need be remembered of it. It is narrow downwards only, which is where the bytes are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from simlib.core.draws import Stream, uniform
from simlib.core.faults import is_affected


class Window(NamedTuple):
    """Fault number `fault` from `start_s` to `end_s`, seconds, for a share of the clients.

    `amount` is what it adds to a round trip, seconds, with up to `jitter_s` more; or what it leaves
    of the bandwidth, bytes per second.
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


def added_s(
    delays: Sequence[Window], seed: int, replication: int, client: int, now: float
) -> float:
    """Return what latency adds to one way of what sets out `now`, seconds.

    Its jitter is drawn anew each second.

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
    """Return how many bytes per second a client's path carries, and until when it stays so.

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
    """Return when a path that begins with some bytes at `start_s` has carried them.

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
    """Return how much of what a path began with at `start_s` it has still to carry `now`.

    Examples
    --------
    >>> thin = Window(10.0, 20.0, 1.0, 100.0, 0.0, 0)
    >>> [left_bytes([thin], 1, 0, 7, 15.0, 900.0, t) for t in (15.0, 17.0, 20.0, 20.5)]
    [900.0, 700.0, 400.0, 0.0]
    """
    t, left = start_s, n_bytes
    while t < now and left > 0.0:
        rate, until_s = rate_at(limits, seed, replication, client, t)
        if rate == math.inf:
            return 0.0
        until_s = min(until_s, now)
        left -= (until_s - t) * rate
        t = until_s
    return max(left, 0.0)
