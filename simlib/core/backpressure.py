"""Slow consumers: what a server does with pushes that a client takes more slowly than they come.

A message that is sent goes into the buffers of the kernels, `socket_bytes` in all, and from there
down the path (`path`). When these buffers are full it stays in the server's own memory, where each
client has a buffer; some policies limit it to `buffer_bytes`. The policy says what happens then:

``unbounded``
    The buffer grows without limit. ``broadcast`` of the Python websockets does so; its
    documentation trusts the ping time-out to bound it, but its pings wait behind the same buffer.
``block``
    Once the buffer is full, the broadcast waits for that client: the clients after it and the next
    broadcasts wait too, as in a loop that awaits each send. The wait goes on even if the client
    leaves meanwhile; what is not written by then is never sent.
``abort``
    The broadcast waits for that client as under ``block``, but for ``write_timeout_s`` at most, and
    no other one waits with it. Then the connection is closed, and the broadcast ends there: those
    behind never get that update. Other broadcasts that come to this client meanwhile end there at
    once (two threads must not write to one socket). So does Tomcat's blocking send, in a loop that
    catches no exception; it has no buffer but the kernels'.
``close``
    Once the buffer is full, the connection is closed (Spring's ``sendBufferSizeLimit``). The client
    still receives what the kernels hold, and then the close.
``drop_oldest``
    Once the buffer is full, its oldest message is dropped and lost.
``coalesce``
    The buffer holds one snapshot of the latest board, in place of all messages that wait.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Overflow(IntEnum):
    """The policy for messages that a client does not take in time."""

    UNBOUNDED = 0
    BLOCK = 1
    CLOSE = 2
    DROP_OLDEST = 3
    COALESCE = 4
    ABORT = 5


class SendingRules(NamedTuple):
    """The settings: an `Overflow`, bytes a client in the server's memory and the kernels, a wait.

    Under ``abort`` a broadcast waits for one client for `write_timeout_s` at most, seconds.
    """

    overflow: int
    buffer_bytes: int
    socket_bytes: int
    write_timeout_s: float = 0.0


def has_room(rules: SendingRules, held: float, message_bytes: int) -> bool:
    """Return whether the kernels' buffers take a message; empty ones take a message of any size.

    Parameters
    ----------
    rules : SendingRules
    held : float
        Bytes that the buffers hold already.
    message_bytes : int

    Examples
    --------
    >>> rules = SendingRules(Overflow.UNBOUNDED, 0, 1000)
    >>> has_room(rules, 800.0, 200), has_room(rules, 801.0, 200), has_room(rules, 0.0, 5000)
    (True, False, True)
    """
    return held <= most_held(rules, message_bytes)


def most_held(rules: SendingRules, message_bytes: int) -> float:
    """Return how much the kernels' buffers may hold and still take one more message, bytes."""
    return max(0.0, float(rules.socket_bytes - message_bytes))


def buffered_bytes(rules: SendingRules, held: float) -> float:
    """Return how much of the bytes sent and not yet carried is in the server's memory, bytes.

    Examples
    --------
    >>> rules = SendingRules(Overflow.CLOSE, 500, 1000)
    >>> buffered_bytes(rules, 900.0), buffered_bytes(rules, 1300.0)
    (0.0, 300.0)
    """
    return max(0.0, held - rules.socket_bytes)


def kept(rules: SendingRules, waiting: int, message_bytes: int) -> int:
    """Return how many of the `waiting` messages the server's memory keeps, the latest ones.

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
