"""Faults: what fails, when, and for which clients.

A fault is a value: a kind, a time, and further fields of its kind, such as a length or the share of
the clients that it affects. `FAULTS` has a row for each kind. This module turns faults into the
events of a fault schedule, which a driver carries out. Faults that make paths slower or narrower
have no events: see `path`.

Whether a fault affects a client is drawn once, so it does not depend on other events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from simlib.core.draws import Stream, uniform


class FaultEffect(IntEnum):
    """What a fault event does."""

    RESET = 0
    SERVER_DOWN = 1
    SERVER_UP = 2
    PARTITION = 3
    HEAL = 4
    BLOCK = 5
    UNBLOCK = 6
    NODE_DOWN = 7
    NODE_UP = 8
    AGE_LIMIT = 9
    SWALLOW = 10


ENDS = (FaultEffect.SERVER_UP, FaultEffect.HEAL, FaultEffect.UNBLOCK, FaultEffect.NODE_UP)
"""The effects that end a fault."""


class FaultEvent(NamedTuple):
    """One event of a fault schedule, at `t`, seconds.

    It affects the clients whose draw for fault number `fault` lies in [`low`, `high`), or the
    clients of node number `node`. A restart affects all nodes. A limit on the age of connections
    allows `age_s` and is over at `until_s`, seconds. `is_drain` says of a reset whether the server
    closes the connections, rather than what is between it and its clients. `is_replaced` says of a
    node that goes down whether another one, which has started beside it, is up in its place.
    """

    t: float
    effect: int
    fault: int
    low: float
    high: float
    node: int = 0
    age_s: float = 0.0
    until_s: float = 0.0
    is_drain: bool = False
    is_replaced: bool = False


FAULT_EVENT = {
    **dict.fromkeys(("t", "low", "high", "age_s", "until_s"), "f8"),
    **dict.fromkeys(("effect", "fault", "node"), "i8"),
    **dict.fromkeys(("is_drain", "is_replaced"), "?"),
}
"""The columns of a fault event, for an engine that keeps them in an array."""


def _reset(fault: int, _nodes: int, start_s: float, share: float) -> list[FaultEvent]:
    return [FaultEvent(start_s, FaultEffect.RESET, fault, 0.0, share)]


def _drain(
    fault: int, _nodes: int, start_s: float, length_s: float, batches: int, share: float
) -> list[FaultEvent]:
    return [
        FaultEvent(
            start_s + length_s * batch / batches,
            FaultEffect.RESET,
            fault,
            share * batch / batches,
            share * (batch + 1) / batches,
            is_drain=True,
        )
        for batch in range(batches)
    ]


def _lifetime(
    fault: int, _nodes: int, start_s: float, length_s: float, age_s: float, share: float
) -> list[FaultEvent]:
    until_s = start_s + length_s
    limit = FaultEffect.AGE_LIMIT
    return [FaultEvent(start_s, limit, fault, 0.0, share, age_s=age_s, until_s=until_s)]


def _from_to(
    begins: FaultEffect,
    ends: FaultEffect,
    fault: int,
    _nodes: int,
    start_s: float,
    length_s: float,
    share: float = 1.0,
) -> list[FaultEvent]:
    return [
        FaultEvent(start_s, begins, fault, 0.0, share),
        FaultEvent(start_s + length_s, ends, fault, 0.0, share),
    ]


def _blocked(
    fault: int,
    nodes: int,
    start_s: float,
    length_s: float,
    share: float,
    answered: bool | None = None,
) -> list[FaultEvent]:
    begins = FaultEffect.SWALLOW if answered is False else FaultEffect.BLOCK
    return _from_to(begins, FaultEffect.UNBLOCK, fault, nodes, start_s, length_s, share)


def _node_after_node(
    fault: int, nodes: int, start_s: float, length_s: float, every_s: float, surge: int = 0
) -> list[FaultEvent]:
    fault_events = []
    for node in range(nodes):
        turn = node // max(1, surge)
        leaves_s = start_s + turn * every_s
        # The node is back when the next one leaves; rounding may put that a little earlier.
        joins_s = min(leaves_s + length_s, start_s + (turn + 1) * every_s)
        down = FaultEvent(leaves_s, FaultEffect.NODE_DOWN, fault, 0.0, 1.0, node)
        if surge > 0:
            fault_events.append(down._replace(t=joins_s, is_replaced=True))
        else:
            up = FaultEvent(joins_s, FaultEffect.NODE_UP, fault, 0.0, 1.0, node)
            fault_events.extend((down, up))
    return fault_events


def _last_node_joins(fault: int, nodes: int, start_s: float) -> list[FaultEvent]:
    if start_s == 0.0:
        return []
    return [
        FaultEvent(0.0, FaultEffect.NODE_DOWN, fault, 0.0, 1.0, nodes - 1),
        FaultEvent(start_s, FaultEffect.NODE_UP, fault, 0.0, 1.0, nodes - 1),
    ]


class FaultRow(NamedTuple):
    """The facts about a kind of fault.

    Attributes
    ----------
    summary : str
        What it does.
    needs : tuple of str
        The fields that a scenario's fault of this kind must have, beside its kind and its start. A
        field that a row names neither here nor in `may_have` is refused.
    may_have : tuple of str
        The fields that it may have. A kind without ``share`` affects all clients.
    events : callable or None
        Returns the events of a fault, given its number, the number of nodes and, by name, its start
        and the fields above. None: it has no events.
    amount : str
        The field that says how much slower or narrower a path gets; ``""``: paths stay as they are.
    stops_servers : bool
        Whether it stops servers. No two such faults may overlap.
    adds_node : bool
        Whether it adds a node, which is down from time 0 until the fault starts.
    lab_part : str or None
        The module of `live` that carries it out on real sockets; None: it is simulated only.
    """

    summary: str
    needs: tuple[str, ...] = ()
    may_have: tuple[str, ...] = ()
    events: Callable[..., list[FaultEvent]] | None = None
    amount: str = ""
    stops_servers: bool = False
    adds_node: bool = False
    lab_part: str | None = None


FAULTS = {
    "restart": FaultRow(
        "The server's process stops: every connection is cut, all its work is lost, and new "
        "connections are refused until it is back, without state.",
        needs=("length_s",),
        events=partial(_from_to, FaultEffect.SERVER_DOWN, FaultEffect.SERVER_UP),
        stops_servers=True,
        lab_part="standby",
    ),
    "reset": FaultRow(
        "Connections are cut at once, by a proxy for instance; the server goes on.",
        may_have=("share",),
        events=_reset,
        lab_part="app_server",
    ),
    "drain": FaultRow(
        "The server closes connections, batch after batch over the fault's length.",
        needs=("length_s", "batches"),
        may_have=("share",),
        events=_drain,
        lab_part="app_server",
    ),
    "lifetime": FaultRow(
        "The server or its platform ends every WebSocket that reaches an age, without a close "
        "frame. The age counts from READY. What is older when the fault begins ends at that "
        "moment. Polling connections stay.",
        needs=("length_s", "age_s"),
        may_have=("share",),
        events=_lifetime,
        lab_part="app_server",
    ),
    "rolling_deploy": FaultRow(
        "One node after the other stops for a while: its connections are cut, and the balancer "
        "gives new ones to the other nodes. With surge, new nodes start first, and are ready "
        "after length_s. As many old ones go at that moment, and leave them their numbers. The "
        "balancer gives what was cut to any node, also to old ones that have yet to go.",
        needs=("length_s", "every_s"),
        may_have=("surge",),
        events=_node_after_node,
        stops_servers=True,
        lab_part="standby",
    ),
    "scale_out": FaultRow(
        "The last node joins: until then it is down, and the balancer gives it nothing. It starts "
        "empty, and open connections stay where they are.",
        events=_last_node_joins,
        adds_node=True,
        lab_part="standby",
    ),
    "path_loss": FaultRow(
        "Paths die without a word, as when a NAT forgets them or a laptop moves to another "
        "network: connections that stood at the start are dead for good though both ends think "
        "otherwise, and new ones cannot be made until the fault ends.",
        needs=("length_s",),
        may_have=("share",),
        events=partial(_from_to, FaultEffect.PARTITION, FaultEffect.HEAL),
        lab_part="proxy",
    ),
    "block_upgrades": FaultRow(
        "A proxy blocks upgrades as long as the fault lasts: it answers them with 403 or, if "
        "answered is false, never. The client then waits for as long as it waits for any attempt.",
        needs=("length_s",),
        may_have=("share", "answered"),
        events=_blocked,
        lab_part="proxy",
    ),
    "latency": FaultRow(
        "Round trips take longer.",
        needs=("length_s", "added_s"),
        may_have=("share", "jitter_s"),
        amount="added_s",
        lab_part="proxy",
    ),
    "bandwidth": FaultRow(
        "Paths carry fewer bytes per second down to the client.",
        needs=("length_s", "bytes_per_s"),
        may_have=("share",),
        amount="bytes_per_s",
        lab_part="proxy",
    ),
}
"""A row for each kind of fault, by its name in a scenario."""


def fault_events_of(kind: str, fault: int, nodes: int, **fields: Any) -> list[FaultEvent]:
    """Return the events of a fault, in order of time.

    Parameters
    ----------
    kind : str
        One of `FAULTS`.
    fault : int
        Its number in the scenario.
    nodes : int
        How many nodes the server has, >= 1.
    **fields
        Its ``start_s`` and all that its row says it needs or may have.

    Examples
    --------
    >>> [
    ...     (fault_event.t, FaultEffect(fault_event.effect).name)
    ...     for fault_event in fault_events_of("restart", 0, 1, start_s=9, length_s=5)
    ... ]
    [(9, 'SERVER_DOWN'), (14, 'SERVER_UP')]
    >>> [
    ...     (fault_event.t, FaultEffect(fault_event.effect).name, fault_event.node)
    ...     for fault_event in fault_events_of(
    ...         "rolling_deploy", 0, 2, start_s=9, length_s=5, every_s=8
    ...     )
    ... ]
    [(9, 'NODE_DOWN', 0), (14, 'NODE_UP', 0), (17, 'NODE_DOWN', 1), (22, 'NODE_UP', 1)]
    """
    events = FAULTS[kind].events
    return [] if events is None else events(fault, nodes, **fields)


def is_end(fault_event: FaultEvent) -> bool:
    """Say whether an event ends a fault, or a turn of it: at one time, it is before what begins.

    Examples
    --------
    >>> deploy = {"start_s": 9, "length_s": 5, "every_s": 8}
    >>> [
    ...     [
    ...         is_end(each)
    ...         for each in fault_events_of("rolling_deploy", 0, 2, **deploy, surge=surge)
    ...     ]
    ...     for surge in (0, 1)
    ... ]
    [[False, True, False, True], [True, True]]
    """
    return fault_event.effect in ENDS or fault_event.is_replaced


def is_by_server(fault_event: FaultEvent) -> bool:
    """Say whether an event that ends connections is the server's own doing.

    Examples
    --------
    >>> drain = fault_events_of("drain", 0, 1, start_s=9, length_s=5, batches=1, share=1.0)
    >>> [is_by_server(each) for each in (drain[0], drain[0]._replace(is_drain=False))]
    [True, False]
    """
    return bool(fault_event.effect != FaultEffect.RESET or fault_event.is_drain)


def is_affected(
    seed: int, replication: int, client: int, fault: int, low: float, high: float
) -> bool:
    """Return whether a fault event affects a client.

    Examples
    --------
    >>> is_affected(1, 0, 7, 0, 0.0, 1.0)
    True
    """
    if low <= 0.0 and high >= 1.0:
        return True
    return low <= uniform(seed, replication, client, Stream.FAULT, fault) < high


def end_of_life_s(
    fault_events: Sequence[FaultEvent], seed: int, replication: int, client: int, opened_s: float
) -> float:
    """Return when a limit on their age ends a client's connection; infinity if none does.

    Parameters
    ----------
    fault_events : sequence of FaultEvent
        All of a run, or an array with the columns of `FAULT_EVENT`.
    seed, replication, client : int
        The address of the draw that says whom a fault affects.
    opened_s : float
        Since when the connection is open, seconds.

    Examples
    --------
    >>> limit = fault_events_of("lifetime", 0, 1, start_s=100, length_s=50, age_s=30, share=1.0)
    >>> [end_of_life_s(limit, 1, 0, 7, opened_s) for opened_s in (0.0, 90.0, 120.0)]
    [100.0, 120.0, inf]
    """
    end_s = math.inf
    for index in range(len(fault_events)):
        limit = fault_events[index]
        if limit.effect == FaultEffect.AGE_LIMIT:
            t = max(float(limit.t), opened_s + limit.age_s)
            if t < min(end_s, limit.until_s) and is_affected(
                seed, replication, client, int(limit.fault), limit.low, limit.high
            ):
                end_s = t
    return end_s
