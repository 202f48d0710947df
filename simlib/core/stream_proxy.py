"""A proxy in front of the server that does not pass on at once what it reads of a stream.

It stands beside the server, so it has what the server writes as soon as that is written; what it
passes on goes down the client's path. It passes on

* whole pieces of `buffer_bytes`, counted from the first byte of the answer's head, as nginx does
  with ``proxy_buffering`` before 1.31 (its requests are HTTP/1.0: no heads of chunks are counted);
* or everything that it has, `delay_s` after the first byte that it has not passed on: TCP's own
  (Nagle's algorithm waits for an acknowledgement that the other end delays), behind HAProxy;
* or nothing before the stream has ended, as a proxy of a company or an antivirus does that looks
  through whole answers. Such a one is before a share of the clients alone (`held_frac`), and of
  theirs nothing else matters.

An event has arrived with the piece that has its last byte, READY among them, so that a client is
told that its stream is open with the first piece. When the stream comes to its proper end, what the
proxy has goes before that. When it is cut, a piece that is not full is thrown away; what is only
delayed arrives, since the kernel has it. Silence, after which such a proxy cuts a stream, is that
of the server. The proxy takes all that the server writes: no stream is slow for the server.

References
----------
nginx 1.22.1: src/event/ngx_event_pipe.c; src/http/ngx_http_upstream.c. Observed on it: pieces of
4,104 bytes (a chunk of 4,096), the first of 4,096 less the server's head; what it has is passed on
at a FIN, and not at a RST, nor after ``proxy_read_timeout``.
HAProxy 2.6.12: events that come alone 206 to 212 ms late, those that come meanwhile with the first.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.core.client_state import NEVER_S
from simlib.core.draws import Stream, uniforms_of_clients
from simlib.core.resync import Resume
from simlib.core.wire import Message


class ProxyRules(NamedTuple):
    """What proxies hold back of streams.

    The one before everybody passes on whole pieces of `buffer_bytes` (0: it needs no piece), and
    what it has after `delay_s` seconds (infinite: it waits for a piece). A share `held_frac` of the
    clients is behind one of its own that passes on nothing before the end. With a `fault` that
    blocks upgrades (its number; -1: there is none) they are those whom that meets, too.
    """

    buffer_bytes: int
    delay_s: float
    held_frac: float = 0.0
    fault: int = -1


AT_ONCE = ProxyRules(0, NEVER_S)
"""No proxy, or one that holds nothing back."""
HOLDS_ALL = ProxyRules(1 << 60, NEVER_S)
"""One that passes on nothing before the end: no stream fills such a piece."""


class ProxyBuffer:
    """What a proxy has of one client's latest stream, and has not passed on.

    Attributes
    ----------
    events : int
        How many events have not arrived as a whole.
    stretches, first : int
        How many rows of the client's `Stretch` are in use, and the first that has an event left.
    event_bytes : int
        The size of these events.
    part_bytes : int
        What has not been passed on, bytes: the end of `event_bytes`, or more while the answer's
        head is among it.
    due_s : float
        When all that is passed on, seconds; `NEVER_S` if only a full piece is.
    written_s : float
        When the server has last written, seconds.
    buffer_bytes, delay_s : int, float
        What the client's proxy passes on, and when: see `ProxyRules`.
    """

    __slots__ = (
        "buffer_bytes",
        "delay_s",
        "due_s",
        "event_bytes",
        "events",
        "first",
        "part_bytes",
        "stretches",
        "written_s",
    )

    def __init__(self, rules: ProxyRules) -> None:
        self.events = 0
        self.stretches = 0
        self.first = 0
        self.event_bytes = 0
        self.part_bytes = 0
        self.due_s = NEVER_S
        self.written_s = 0.0
        self.buffer_bytes = rules.buffer_bytes
        self.delay_s = rules.delay_s


PROXY_BUFFER_ROW = {
    "events": "i4",
    "stretches": "i4",
    "first": "i4",
    "event_bytes": "i8",
    "part_bytes": "i8",
    "due_s": "f8",
    "written_s": "f8",
    "buffer_bytes": "i8",
    "delay_s": "f8",
}
"""Its columns, for an engine that keeps it in an array."""


class Stretch:
    """Events of one kind, one after the other: `n` of them, each of `n_bytes`.

    `value` is what the first carries: the version of a change, and each after it the next.
    """

    __slots__ = ("message", "n", "n_bytes", "value")

    def __init__(self) -> None:
        self.message = 0
        self.n = 0
        self.n_bytes = 0
        self.value = 0


STRETCH_ROW = {"message": "i4", "n": "i4", "n_bytes": "i8", "value": "i8"}


def holds_back(rules: ProxyRules) -> bool:
    """Say whether the proxy before everybody does not pass on at once what it has.

    Examples
    --------
    >>> holds_back(AT_ONCE), holds_back(ProxyRules(4096, NEVER_S)), holds_back(ProxyRules(0, 0.2))
    (False, True, True)
    """
    return rules.buffer_bytes > 0 or rules.delay_s < NEVER_S


def are_held(rules: ProxyRules, seed: int, replication: int, clients: int) -> NDArray[np.bool_]:
    """Say which clients are behind a proxy that passes on nothing before the end.

    Parameters
    ----------
    rules : ProxyRules
    seed, replication : int
    clients : int
        How many there are.

    Returns
    -------
    ndarray of bool, shape (clients,)

    Examples
    --------
    >>> held = are_held(AT_ONCE._replace(held_frac=0.03), 1, 0, 100_000)
    >>> round(float(held.mean()), 3), bool(are_held(AT_ONCE, 1, 0, 100_000).any())
    (0.03, False)
    """
    if rules.held_frac == 0.0:
        return np.zeros(clients, np.bool_)
    # One proxy does both, and what is compared on common draws is compared on the same clients.
    address = (Stream.STREAM_PROXY, 0) if rules.fault < 0 else (Stream.FAULT, rules.fault)
    draws = uniforms_of_clients(seed, replication, clients, *address)
    return np.asarray(draws < rules.held_frac)


def begin(buffer: ProxyBuffer, now: float) -> None:
    """Begin a stream; what is left of the one before is gone."""
    buffer.events = 0
    buffer.stretches = 0
    buffer.first = 0
    buffer.event_bytes = 0
    buffer.part_bytes = 0
    buffer.due_s = NEVER_S
    buffer.written_s = now


def write_head(buffer: ProxyBuffer, head_bytes: int) -> None:
    """Write the head of the answer, which the first event follows at the same moment."""
    buffer.part_bytes += head_bytes
    if buffer.buffer_bytes > 0:
        buffer.part_bytes %= buffer.buffer_bytes


def write(
    buffer: ProxyBuffer,
    stretches: MutableSequence[Stretch],
    message: int,
    value: int,
    n: int,
    n_bytes: int,
    now: float,
) -> float:
    """Write `n` events of `n_bytes` each; then a driver takes those that have passed.

    Parameters
    ----------
    buffer : ProxyBuffer
    stretches : sequence of Stretch
        The client's, with room for one more.
    message : Message
    value : int
        What the first event carries; each of several carries one more.
    n, n_bytes : int
    now : float
        Seconds.

    Returns
    -------
    float
        When what has not passed is to be released, seconds, if that is new; else `NEVER_S`.

    Examples
    --------
    >>> buffer, stretches = ProxyBuffer(ProxyRules(100, NEVER_S)), [Stretch(), Stretch()]
    >>> for version in (1, 2, 3):
    ...     _ = write(buffer, stretches, Message.STREAM_PUSH, version, 1, 40, 0.0)
    ...     has_passed(buffer, stretches)
    False
    False
    True
    >>> [take(buffer, stretches)[1] for _ in range(2)], has_passed(buffer, stretches)
    ([1, 2], False)
    """
    buffer.written_s = now
    is_next = False
    if buffer.stretches > 0:
        last = stretches[int(buffer.stretches) - 1]
        is_next = last.message == message and last.n_bytes == n_bytes
        is_next = is_next and (message == Message.STREAM_COMMENT or value == last.value + last.n)
        if is_next:
            last.n += n
    if not is_next:
        new = stretches[int(buffer.stretches)]
        new.message = message
        new.n = n
        new.n_bytes = n_bytes
        new.value = value
        buffer.stretches += 1
    buffer.events += n
    buffer.event_bytes += n * n_bytes
    buffer.part_bytes += n * n_bytes
    is_full = buffer.buffer_bytes > 0 and buffer.part_bytes >= buffer.buffer_bytes
    if is_full:
        buffer.part_bytes %= buffer.buffer_bytes
    if buffer.part_bytes == 0:
        buffer.due_s = NEVER_S
    elif is_full or buffer.due_s == NEVER_S:
        buffer.due_s = now + buffer.delay_s
        return float(buffer.due_s)
    return NEVER_S


def release(buffer: ProxyBuffer) -> None:
    """Pass on all that the proxy has: a driver takes it.

    Examples
    --------
    >>> buffer, stretches = ProxyBuffer(ProxyRules(0, 0.25)), [Stretch(), Stretch()]
    >>> [
    ...     write(buffer, stretches, Message.STREAM_PUSH, version, 1, 40, t)
    ...     for version, t in ((1, 0.0), (2, 0.125))
    ... ]
    [0.25, inf]
    >>> release(buffer)
    >>> [take(buffer, stretches)[1] for _ in range(2)], has_passed(buffer, stretches)
    ([1, 2], False)
    """
    buffer.part_bytes = 0
    buffer.due_s = NEVER_S


def has_passed(buffer: ProxyBuffer, stretches: MutableSequence[Stretch]) -> bool:
    """Say whether the last byte of the first event has been passed on."""
    if buffer.events == 0:
        return False
    n_bytes = stretches[int(buffer.first)].n_bytes
    return bool(buffer.event_bytes - n_bytes >= buffer.part_bytes)


def take(buffer: ProxyBuffer, stretches: MutableSequence[Stretch]) -> tuple[int, int]:
    """Take the first event, which has passed: return its `Message` and what it carries."""
    first = stretches[int(buffer.first)]
    message, value = int(first.message), int(first.value)
    buffer.events -= 1
    buffer.event_bytes -= first.n_bytes
    first.n -= 1
    first.value += 1
    if first.n == 0:
        buffer.first += 1
    return message, value


def close_ranks(buffer: ProxyBuffer, stretches: MutableSequence[Stretch]) -> None:
    """Move what is left to the front, after all that has passed was taken."""
    kept = 0
    for place in range(int(buffer.first), int(buffer.stretches)):
        stretch, front = stretches[place], stretches[kept]
        front.message = stretch.message
        front.n = stretch.n
        front.n_bytes = stretch.n_bytes
        front.value = stretch.value
        kept += 1
    buffer.stretches = kept
    buffer.first = 0


def ready_data(version: int, outcome: int) -> int:
    """Return what READY carries where a proxy may hold it back: see `of_ready`."""
    return 2 * version + int(outcome == Resume.LOST)


def of_ready(data: int) -> tuple[int, int]:
    """Return the version that READY carries, and a `Resume`: what was missed comes by itself.

    Examples
    --------
    >>> [of_ready(ready_data(7, outcome)) for outcome in (Resume.LOST, Resume.REPLAY)] == [
    ...     (7, Resume.LOST),
    ...     (7, Resume.NOTHING),
    ... ]
    True
    """
    if data & 1:
        return data >> 1, Resume.LOST + 0
    return data >> 1, Resume.NOTHING + 0


def throws_away(buffer: ProxyBuffer, is_end: bool) -> bool:
    """Say whether what the proxy has is lost when the stream ends.

    Parameters
    ----------
    buffer : ProxyBuffer
    is_end : bool
        Whether that is its proper end.

    Examples
    --------
    >>> [throws_away(ProxyBuffer(HOLDS_ALL), is_end) for is_end in (False, True)]
    [True, False]
    """
    return bool(buffer.buffer_bytes > 0 and not is_end)


def drop(buffer: ProxyBuffer, stretches: MutableSequence[Stretch]) -> int:
    """Throw away what the proxy has; return how many changes, or boards, were in it.

    Examples
    --------
    >>> buffer, stretches = ProxyBuffer(HOLDS_ALL), [Stretch(), Stretch()]
    >>> _ = write(buffer, stretches, Message.STREAM_READY, 0, 1, 20, 0.0)
    >>> _ = write(buffer, stretches, Message.STREAM_PUSH, 5, 3, 40, 0.0)
    >>> drop(buffer, stretches), buffer.events
    (3, 0)
    """
    dropped = 0
    for place in range(int(buffer.first), int(buffer.stretches)):
        message = stretches[place].message
        if message != Message.STREAM_READY and message != Message.STREAM_COMMENT:
            dropped += int(stretches[place].n)
    begin(buffer, buffer.written_s)
    return dropped


def kept_back(buffer: ProxyBuffer, stretches: MutableSequence[Stretch], seen: int) -> int:
    """Return how many changes, or boards, the proxy has that are new to a client.

    Examples
    --------
    >>> buffer, stretches = ProxyBuffer(HOLDS_ALL), [Stretch(), Stretch()]
    >>> _ = write(buffer, stretches, Message.STREAM_READY, 0, 1, 20, 0.0)
    >>> _ = write(buffer, stretches, Message.STREAM_PUSH, 5, 3, 40, 0.0)
    >>> kept_back(buffer, stretches, 4), kept_back(buffer, stretches, 7)
    (3, 0)
    """
    n = 0
    for place in range(int(buffer.first), int(buffer.stretches)):
        stretch = stretches[place]
        is_news = stretch.value + stretch.n - 1 > seen
        if stretch.message != Message.STREAM_READY and stretch.message != Message.STREAM_COMMENT:
            n += int(stretch.n) * int(is_news)
    return n
