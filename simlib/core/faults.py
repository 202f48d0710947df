"""What goes wrong, when, and for whom.

A fault is a value: a kind, a time, a length, a share of the clients. Here it becomes *moments*, at
which the world changes; a driver carries them out. Six kinds:

``restart``
    The server's process is gone: every connection is cut, whatever it was at is lost, and new
    ones are refused until it is back, idle and with empty hands.
``reset``
    The connections of those concerned are cut at once, by a proxy say; the server stays.
``drain``
    The server closes the connections of those concerned, batch after batch over the fault's length.
``rolling_deploy``
    One node after the other is gone for a while: its connections are cut, and the balancer gives
    new ones to the other nodes.
``path_loss``
    The paths of those concerned die without a word, as when a NAT forgets them or a laptop moves
    to another network: connections that stood at the start are dead for good though both ends
    think otherwise, and new ones cannot be made until the fault ends.
``block_upgrades``
    A proxy answers the upgrades of those concerned with 403 as long as the fault lasts.

Two more kinds, ``latency`` and ``bandwidth``, need no moments: see `path`.

Who is concerned is drawn once per client and fault, so it does not depend on what else happens.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from simlib.core.draws import Stream, uniform


class Change(IntEnum):
    """What happens at a moment."""

    CUT = 0
    DOWN = 1
    UP = 2
    LOSE = 3
    HEAL = 4
    BLOCK = 5
    UNBLOCK = 6
    LEAVE = 7
    JOIN = 8


ENDS = (Change.UP, Change.HEAL, Change.UNBLOCK, Change.JOIN)
"""What ends a fault."""


class Moment(NamedTuple):
    """A change of the world at `t`, seconds.

    It concerns the clients whose draw for fault number `fault` lies in [`low`, `high`), or those
    whom node number `node` serves; a restart, all nodes.
    """

    t: float
    change: int
    fault: int
    low: float
    high: float
    node: int = 0


MOMENT = {"t": "f8", "low": "f8", "high": "f8", "change": "i8", "fault": "i8", "node": "i8"}
"""A moment's columns, for an engine that keeps them in an array."""


def moments_of(
    kind: str, fault: int, start_s: float, length_s: float, share: float, batches: int
) -> list[Moment]:
    """Return what a fault does, in order of time.

    Parameters
    ----------
    kind : str
        One of those above but ``rolling_deploy``, which `deploy_moments` knows.
    fault : int
        Its number in the scenario.
    start_s, length_s : float
        Seconds.
    share : float
        Part of the clients that it concerns, (0, 1].
    batches : int
        Into how many a drain is cut, >= 1.

    Examples
    --------
    >>> [(moment.t, Change(moment.change).name) for moment in moments_of("restart", 0, 9, 5, 1, 1)]
    [(9, 'DOWN'), (14, 'UP')]
    """
    if kind == "reset":
        return [Moment(start_s, Change.CUT, fault, 0.0, share)]
    if kind == "drain":
        return [
            Moment(
                start_s + length_s * batch / batches,
                Change.CUT,
                fault,
                share * batch / batches,
                share * (batch + 1) / batches,
            )
            for batch in range(batches)
        ]
    begins, ends = {
        "restart": (Change.DOWN, Change.UP),
        "path_loss": (Change.LOSE, Change.HEAL),
        "block_upgrades": (Change.BLOCK, Change.UNBLOCK),
    }[kind]
    return [
        Moment(start_s, begins, fault, 0.0, share),
        Moment(start_s + length_s, ends, fault, 0.0, share),
    ]


def deploy_moments(
    fault: int, start_s: float, length_s: float, every_s: float, nodes: int
) -> list[Moment]:
    """Return what a rolling deploy does, in order of time.

    Parameters
    ----------
    fault : int
        Its number in the scenario.
    start_s, length_s, every_s : float
        When the first node goes, how long each is out, from one to the next; seconds.
    nodes : int

    Examples
    --------
    >>> [(moment.t, Change(moment.change).name) for moment in deploy_moments(0, 9.0, 5.0, 8.0, 2)]
    [(9.0, 'LEAVE'), (14.0, 'JOIN'), (17.0, 'LEAVE'), (22.0, 'JOIN')]
    """
    moments = []
    for node in range(nodes):
        leaves_s = start_s + node * every_s
        # Back by the next one's turn, which rounding may put a little earlier.
        joins_s = min(leaves_s + length_s, start_s + (node + 1) * every_s)
        moments.append(Moment(leaves_s, Change.LEAVE, fault, 0.0, 1.0, node))
        moments.append(Moment(joins_s, Change.JOIN, fault, 0.0, 1.0, node))
    return moments


def is_hit(seed: int, replication: int, client: int, fault: int, low: float, high: float) -> bool:
    """Say whether a moment concerns a client.

    Examples
    --------
    >>> is_hit(1, 0, 7, 0, 0.0, 1.0)
    True
    """
    if low <= 0.0 and high >= 1.0:
        return True
    return low <= uniform(seed, replication, client, Stream.FAULT, fault) < high
