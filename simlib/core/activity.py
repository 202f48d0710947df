"""User activity: dragging a card and hiding the tab, and how a browser throttles a hidden tab.

Each activity is an alternating renewal process: gaps and episodes have exponential lengths. Draws
are addressed by client and by the episode's number, so a driver goes from episode to episode and
keeps only the end of the last one.
"""

from __future__ import annotations

import math

from simlib.core.draws import Stream, exponential, uniform
from simlib.core.protocol import Event

DRAG = (Stream.DRAG_GAP, Stream.DRAG_LENGTH, Event.DRAG_START, Event.DRAG_END)
HIDE = (Stream.HIDDEN_GAP, Stream.HIDDEN_LENGTH, Event.HIDE, Event.SHOW)
"""Each activity's streams (gap, length) and events (start, end)."""


THROTTLED_S = 1.0
INTENSIVELY_S = 60.0
INTENSIVELY_AFTER_S = 300.0
"""A hidden tab's timers fire once a second; after five minutes, once a minute."""


def throttled_s(now: float, hidden_s: float, phase: float) -> float:
    """Return when a timer that is due `now` fires in a hidden tab.

    Every timer is treated as a chained one, which sets itself again: timers that reconnect and poll
    are. An open connection does not exempt a tab, as in Chrome.

    Parameters
    ----------
    now, hidden_s : float
        When the timer is due, and since when the tab is hidden, seconds.
    phase : float
        Phase of the grid of times at which the browser lets timers fire, in [0, 1).

    References
    ----------
    Chrome for Developers, "Heavy throttling of chained JS timers beginning in Chrome 88" (2021).

    Examples
    --------
    >>> throttled_s(100.25, 90.0, 0.5), throttled_s(500.25, 90.0, 0.5)
    (100.5, 510.0)
    """
    step_s = INTENSIVELY_S if now - hidden_s >= INTENSIVELY_AFTER_S else THROTTLED_S
    offset_s = phase * step_s
    t = offset_s + math.ceil((now - offset_s) / step_s) * step_s
    return max(t, now)


def episode_s(
    seed: int,
    replication: int,
    client: int,
    gap: Stream,
    length: Stream,
    k: int,
    after_s: float,
    every_s: float,
    length_s: float,
) -> tuple[float, float]:
    """Return start and end of a client's episode `k`, given the end of the one before.

    Parameters
    ----------
    seed, replication, client : int
        The address of the draws.
    gap, length : Stream
        The streams that the gap and the length are drawn from.
    k : int
        Number of the episode, from 0.
    after_s : float
        End of the episode before, or the start of the session, seconds.
    every_s, length_s : float
        Mean gap and mean length, seconds.

    Returns
    -------
    tuple of float
        Start and end, seconds; start >= after_s.

    Examples
    --------
    >>> start, end = episode_s(1, 0, 5, Stream.DRAG_GAP, Stream.DRAG_LENGTH, 0, 10.0, 60.0, 3.0)
    >>> 10.0 <= start <= end
    True
    """
    start = after_s + exponential(uniform(seed, replication, client, gap, k), every_s)
    return start, start + exponential(uniform(seed, replication, client, length, k), length_s)
