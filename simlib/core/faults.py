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


class FaultEffect(IntEnum):
    """What happens at a moment."""

    RESET = 0
    SERVER_DOWN = 1
    SERVER_UP = 2
    PARTITION = 3
    HEAL = 4
    BLOCK = 5
    UNBLOCK = 6
    NODE_DOWN = 7
    NODE_UP = 8


ENDS = (FaultEffect.SERVER_UP, FaultEffect.HEAL, FaultEffect.UNBLOCK, FaultEffect.NODE_UP)
"""What ends a fault."""


class FaultEvent(NamedTuple):
    """A change of the world at `t`, seconds.

    It concerns the clients whose draw for fault number `fault` lies in [`low`, `high`), or those
    whom node number `node` serves; a restart, all nodes.
    """

    t: float
    effect: int
    fault: int
    low: float
    high: float
    node: int = 0


FAULT_EVENT = {"t": "f8", "low": "f8", "high": "f8", "effect": "i8", "fault": "i8", "node": "i8"}
"""A moment's columns, for an engine that keeps them in an array."""


def fault_events_of(
    kind: str, fault: int, start_s: float, length_s: float, share: float, batches: int
) -> list[FaultEvent]:
    """Return what a fault does, in order of time.

    Parameters
    ----------
    kind : str
        One of those above but ``rolling_deploy``, which `deploy_events` knows.
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
    >>> [
    ...     (fault_event.t, FaultEffect(fault_event.effect).name)
    ...     for fault_event in fault_events_of("restart", 0, 9, 5, 1, 1)
    ... ]
    [(9, 'DOWN'), (14, 'UP')]
    """
    if kind == "reset":
        return [FaultEvent(start_s, FaultEffect.RESET, fault, 0.0, share)]
    if kind == "drain":
        return [
            FaultEvent(
                start_s + length_s * batch / batches,
                FaultEffect.RESET,
                fault,
                share * batch / batches,
                share * (batch + 1) / batches,
            )
            for batch in range(batches)
        ]
    begins, ends = {
        "restart": (FaultEffect.SERVER_DOWN, FaultEffect.SERVER_UP),
        "path_loss": (FaultEffect.PARTITION, FaultEffect.HEAL),
        "block_upgrades": (FaultEffect.BLOCK, FaultEffect.UNBLOCK),
    }[kind]
    return [
        FaultEvent(start_s, begins, fault, 0.0, share),
        FaultEvent(start_s + length_s, ends, fault, 0.0, share),
    ]


def deploy_events(
    fault: int, start_s: float, length_s: float, every_s: float, nodes: int
) -> list[FaultEvent]:
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
    >>> [
    ...     (fault_event.t, FaultEffect(fault_event.effect).name)
    ...     for fault_event in deploy_events(0, 9.0, 5.0, 8.0, 2)
    ... ]
    [(9.0, 'LEAVE'), (14.0, 'JOIN'), (17.0, 'LEAVE'), (22.0, 'JOIN')]
    """
    fault_events = []
    for node in range(nodes):
        leaves_s = start_s + node * every_s
        # Back by the next one's turn, which rounding may put a little earlier.
        joins_s = min(leaves_s + length_s, start_s + (node + 1) * every_s)
        fault_events.append(FaultEvent(leaves_s, FaultEffect.NODE_DOWN, fault, 0.0, 1.0, node))
        fault_events.append(FaultEvent(joins_s, FaultEffect.NODE_UP, fault, 0.0, 1.0, node))
    return fault_events


def is_affected(
    seed: int, replication: int, client: int, fault: int, low: float, high: float
) -> bool:
    """Say whether a moment concerns a client.

    Examples
    --------
    >>> is_affected(1, 0, 7, 0, 0.0, 1.0)
    True
    """
    if low <= 0.0 and high >= 1.0:
        return True
    return low <= uniform(seed, replication, client, Stream.FAULT, fault) < high
