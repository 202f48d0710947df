"""What ends a broadcast before its last client: exceptions that leave the loop.

A server that is written in the plainest way goes through a set of sockets and sends to one after
the other, in the request of whoever has saved something. Whatever goes wrong on one of them ends
the loop: those behind never get that update, and its author is told that saving failed, although
it is saved. Nothing is late, it is lost. This can go wrong:

- Somebody **joins or leaves** while the loop goes through a plain set (``socket_set = "plain"``,
  Java's ConcurrentModificationException). All loops that have begun end before their next client.
- Two updates **meet**: the later one begins while the earlier one is being sent, and two threads
  must not send on one socket at once. With probability ``meeting_fails_frac`` the later one ends,
  before any of its clients with the same probability. Under ``meeting_closes`` that client is
  closed, which in turn is a leave: it is closed as far into the rest of the earlier broadcast.
- A client **reads nothing**, under ``slow_consumers = "abort"``: see `backpressure`.
- **Everybody is cut at once**, while the server goes on, and the plain set breaks, with probability
  ``forget_frac``: it loses its sockets, and all that come later, until its process ends. A node
  that has no socket then, as it is down or nobody has come yet, has nothing to break.

A request that is **held** (long polling) is in no such set. It can be answered but once, so that a
broadcast takes all of them out before it answers the first, each in its turn among the sockets;
were they in the set, the requests that follow its own answers would end it. So nothing above ends
their part, nor do they end anything: not when they are held, answered, or gone. A node that has
forgotten its sockets has forgotten them too: it answers when their time is over, that nothing is
new, and the next request at once, as it names what the client has seen.

A loop begins when its first client is sent to. A join counts when its token arrives: the request
threads of such a server do not wait for each other, as its jobs here do for a worker. Each worker
has a set of its own, and its broadcasts one after the other: a server that has one set for all its
threads is one worker. One that ends early leaves its worker free at the end that was planned for
it, unless it meets another or waits for a client: then at once.

References
----------
Measured on Spring Boot 3.5.16 (spring-websocket 6.2.19, Tomcat 10.1.56), with 200 clients.
"""

from __future__ import annotations

from typing import NamedTuple

from simlib.core.draws import Stream, uniform


class LoopRules(NamedTuple):
    """The settings: whether the set is plain, and the probabilities that something breaks."""

    is_plain: bool
    meeting_fails_frac: float
    meeting_closes: bool
    forget_frac: float


SOUND = LoopRules(False, 0.0, False, 0.0)
"""A loop that nothing ends."""


class Loop:
    """The broadcasts of one worker.

    Attributes
    ----------
    ends_s : float
        When the latest one is over, seconds.
    begun : int
        The latest change of which something was sent.
    cut : int
        The change up to which broadcasts were ended by a join or a leave.
    """

    __slots__ = ("begun", "cut", "ends_s")

    def __init__(self) -> None:
        self.ends_s = 0.0
        self.begun = 0
        self.cut = 0


LOOP = {"ends_s": "f8", "begun": "i8", "cut": "i8"}
"""Its columns, for an engine that keeps it in an array."""


def may_end(rules: LoopRules) -> bool:
    """Say whether a broadcast that has begun may end early, so that each send has to ask."""
    return rules.is_plain or rules.meeting_fails_frac > 0.0


def change_set(loop: Loop) -> None:
    """Somebody joins or leaves: the broadcasts that have begun end, if the set is plain.

    Examples
    --------
    >>> plain, loop = LoopRules(True, 0.0, False, 0.0), Loop()
    >>> first = goes_on(plain, loop, 7)
    >>> change_set(loop)
    >>> first, goes_on(plain, loop, 7), goes_on(plain, loop, 8)
    (True, False, True)
    """
    loop.cut = loop.begun


def end_loop(loop: Loop, now: float) -> None:
    """The worker's process ends `now`, seconds, and its broadcasts with it: nobody meets them.

    Examples
    --------
    >>> loop = Loop()
    >>> loop.ends_s = 10.002
    >>> end_loop(loop, 10.001)
    >>> fails_at(LoopRules(False, 1.0, False, 0.0), loop, 1, 0, 0, 7, 10.001)
    1.0
    """
    loop.ends_s = min(loop.ends_s, now)


def goes_on(rules: LoopRules, loop: Loop, version: int) -> bool:
    """Say whether a broadcast comes to its next client, and note that it has begun."""
    if not rules.is_plain:
        return True
    if version <= loop.cut:
        return False
    loop.begun = max(loop.begun, version)
    return True


def fails_at(
    rules: LoopRules,
    loop: Loop,
    seed: int,
    replication: int,
    worker: int,
    version: int,
    now: float,
) -> float:
    """Return after which share of its clients a broadcast ends that begins `now`; 1: it does not.

    Examples
    --------
    >>> meets, loop = LoopRules(False, 1.0, False, 0.0), Loop()
    >>> loop.ends_s = 10.002
    >>> [round(fails_at(meets, loop, 1, 0, 0, 7, now), 3) for now in (10.001, 10.002)]
    [0.472, 1.0]
    """
    if rules.meeting_fails_frac == 0.0 or now >= loop.ends_s:
        return 1.0
    u = uniform(seed, replication, worker, Stream.MEETING, version)
    return min(1.0, u / rules.meeting_fails_frac)


def closes_s(loop: Loop, share: float, now: float) -> float:
    """Return when a client is closed at which a broadcast ends that begins `now`, seconds.

    Parameters
    ----------
    loop : Loop
    share : float
        What `fails_at` has returned.
    now : float
        Seconds.

    Examples
    --------
    >>> loop = Loop()
    >>> loop.ends_s = 12.0
    >>> closes_s(loop, 0.25, 10.0)
    10.5
    """
    return now + share * (loop.ends_s - now)


def forgets(
    rules: LoopRules, seed: int, replication: int, node: int, index: int, sockets: int
) -> bool:
    """Say whether a node forgets its sockets as fault event `index` cuts all of them.

    A node that has none (`sockets`), as it is down or nobody has come yet, has nothing to break.

    Examples
    --------
    >>> [forgets(LoopRules(True, 0.0, False, 1.0), 1, 0, 0, 0, sockets) for sockets in (0, 200)]
    [False, True]
    """
    if rules.forget_frac == 0.0 or sockets == 0:
        return False
    return uniform(seed, replication, node, Stream.FORGET, index) < rules.forget_frac
