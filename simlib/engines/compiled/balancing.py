"""The balancer, as the compiled loop asks it and tells it of connections.

The rules are those of `core.balancing`. Only the general loop has several nodes.
"""

from __future__ import annotations

from typing import Any

from simlib.core import balancing, connection
from simlib.core.client_state import Rules
from simlib.core.connection import Nodes
from simlib.core.protocol import has_socket
from simlib.engines.compiled import event_list
from simlib.engines.compiled.event_list import WHEEL, EventList
from simlib.engines.compiled.numba_support import inlined, seldom
from simlib.engines.compiled.state import IS_IDLE, ClientArrays, Kind, load_of, release_up_to
from simlib.engines.compiled.turn import GENERAL


@inlined
def node_of(arrays: ClientArrays, rules: Rules, number: int, exchange: int) -> int:
    """Return the node that a new connection comes to, -1 if none is up."""
    nodes = Nodes(arrays.is_down, arrays.process, arrays.kept_from)
    row, address = arrays.rows[number], (rules.seed, rules.replication)
    return connection.node_of(nodes, arrays.balancer, row, *address, exchange)


@inlined
def give(arrays: ClientArrays, number: int, exchange: int) -> None:
    """A node has accepted a client's connection, unless the client has given it up by now."""
    row = arrays.rows[number]
    if row.exchange == exchange:
        balancing.give(arrays.balancer, int(row.node + 0), number, exchange)


@inlined
def let_go(arrays: ClientArrays, row: Any, exchange: int) -> None:
    """A client's connections up to one have ended for the server."""
    release_up_to(arrays, row, exchange)
    if GENERAL:
        balancing.take_back(arrays.balancer, int(row.number + 0), exchange)


@seldom
def keep_alive(
    arrays: ClientArrays, q: EventList, keep_alive_s: float, number: int, exchange: int, t: float
) -> None:
    """The server keeps the connection of a request that it has answered at `t`, for a while.

    A client that has gone on meanwhile has closed it, and may have another.
    """
    row = arrays.rows[number]
    if row.exchange != exchange:
        return
    row.kept_until_s = t + keep_alive_s
    if GENERAL and balancing.is_counting(arrays.balancer) and not has_socket(row.transport):
        load = load_of(exchange, Kind.PEER_TIMEOUT, IS_IDLE)
        event_list.schedule_seldom(q, WHEEL, row.kept_until_s + 0.0, number, load)


@inlined
def end_idle(arrays: ClientArrays, number: int, now: float) -> None:
    """The server ends a connection of HTTP that is idle for too long, if it is now."""
    row = arrays.rows[number]
    if row.kept_until_s == now and not has_socket(row.transport):
        balancing.take_back(arrays.balancer, number, int(row.exchange + 0))


@inlined
def use_again(arrays: ClientArrays, number: int) -> None:
    """A client sends a request at the very moment at which its connection would be ended."""
    row, balancer = arrays.rows[number], arrays.balancer
    if balancing.is_counting(balancer) and not row.is_link_dead:
        balancing.count_again(balancer, int(row.node + 0), number, int(row.exchange + 0))
