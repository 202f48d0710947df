"""What users do now and then: dragging a card, hiding the tab.

An alternating renewal process with exponential gaps and lengths, addressed by client and number,
so a driver walks it episode by episode and keeps nothing but the end of the last one.
"""

from __future__ import annotations

from simlib.core.draws import Stream, exponential, uniform
from simlib.core.protocol import Event

DRAG = (Stream.DRAG_GAP, Stream.DRAG_LENGTH, Event.DRAG_START, Event.DRAG_END)
HIDE = (Stream.HIDDEN_GAP, Stream.HIDDEN_LENGTH, Event.HIDE, Event.SHOW)
"""Each habit's streams (gap, length) and events (start, end)."""


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
    """Return start and end of a client's episode number `k`, given when the last one ended.

    Parameters
    ----------
    seed, replication, client : int
        The address of the draws.
    gap, length : Stream
        Which streams the episode uses.
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
