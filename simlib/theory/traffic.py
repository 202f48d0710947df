"""Bytes per client, and the rate of change at which push costs more than polling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize

from simlib.theory.arguments import FloatArray, plain, real, reals


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
    period_s = real("period_s", period_s, "(0, inf)")
    full_bytes, saved_bytes = _poll_bytes(full_bytes, unchanged_bytes)
    unchanged = np.exp(-reals("rate_per_s", rate_per_s, "[0, inf)") * period_s)
    return plain(np.asarray((full_bytes - saved_bytes * unchanged) / period_s))


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
    rate = reals("rate_per_s", rate_per_s, "[0, inf)")
    push_bytes = real("push_bytes", push_bytes, "[0, inf)")
    period_s = real("heartbeat_period_s", heartbeat_period_s, "(0, inf]")
    beat_bytes = real("heartbeat_bytes", heartbeat_bytes, "[0, inf)")
    return plain(np.asarray(rate * push_bytes + beat_bytes / period_s))


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
    period_s = real("period_s", period_s, "(0, inf)")
    push_bytes = real("push_bytes", push_bytes, "(0, inf)")
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
    full_bytes = real("full_bytes", full_bytes, "[0, inf)")
    if unchanged_bytes is None:
        return full_bytes, 0.0
    return full_bytes, full_bytes - real("unchanged_bytes", unchanged_bytes, "[0, inf)")
