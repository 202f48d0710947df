"""What a server does for a client that does not take its pushes as fast as they come.

A message that is sent goes into the buffers of the kernels, `socket_bytes` in all, and from there
down the path (`path`). When they are full it stays in the server's own memory:

``unbounded``
    for as long as it takes. So does ``broadcast`` of the Python websockets, whose documentation
    trusts the ping time-out to bound it; but its pings wait behind the same full buffer.
``block``
    and once a client's part is full, the broadcast waits for that client, and everybody after it
    with it, this broadcast and the next ones: a loop that awaits each send. It is waited for even
    if it leaves meanwhile.
``close``
    and once a client's part is full, its connection is closed (Spring's ``sendBufferSizeLimit``).
    The client hears of it behind what the kernels hold: that still comes.
``drop_oldest``
    and once a client's part is full, the oldest message there gives way: it is lost.
``coalesce``
    but as one snapshot of the latest board instead of all that could not be sent.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Overflow(IntEnum):
    """What becomes of messages that a client does not take in time."""

    UNBOUNDED = 0
    BLOCK = 1
    CLOSE = 2
    DROP_OLDEST = 3
    COALESCE = 4


class SendingRules(NamedTuple):
    """The settings: an `Overflow`, a client's part of the server's memory and of the kernels'."""

    overflow: int
    buffer_bytes: int
    socket_bytes: int


def has_room(rules: SendingRules, held: float, message_bytes: int) -> bool:
    """Say whether the kernels take a message; an empty one takes any.

    Parameters
    ----------
    rules : SendingRules
    held : float
        Bytes that the kernels have still to carry.
    message_bytes : int

    Examples
    --------
    >>> rules = SendingRules(Overflow.UNBOUNDED, 0, 1000)
    >>> has_room(rules, 800.0, 200), has_room(rules, 801.0, 200), has_room(rules, 0.0, 5000)
    (True, False, True)
    """
    return held <= most_held(rules, message_bytes)


def most_held(rules: SendingRules, message_bytes: int) -> float:
    """Return how much the kernels may hold for them to take one more message, bytes."""
    return max(0.0, float(rules.socket_bytes - message_bytes))


def buffered_bytes(rules: SendingRules, held: float) -> float:
    """Return how much of what was sent and not carried is in the server's own memory, bytes.

    Examples
    --------
    >>> rules = SendingRules(Overflow.CLOSE, 500, 1000)
    >>> buffered_bytes(rules, 900.0), buffered_bytes(rules, 1300.0)
    (0.0, 300.0)
    """
    return max(0.0, held - rules.socket_bytes)


def kept(rules: SendingRules, waiting: int, message_bytes: int) -> int:
    """Return how many of the latest `waiting` messages stay in the server's memory.

    Examples
    --------
    >>> kept(SendingRules(Overflow.DROP_OLDEST, 1000, 0), 12, 100)
    10
    >>> kept(SendingRules(Overflow.COALESCE, 0, 0), 12, 100)
    1
    """
    if rules.overflow == Overflow.COALESCE:
        return 1
    return min(waiting, rules.buffer_bytes // message_bytes)
