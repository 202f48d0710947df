"""Balancing: which node gets a new connection.

A balancer in front of several nodes gives each new connection to one that is up, by a rule of
`Balancing`. It gives a connection when a node accepts it: what a full backlog drops is not given,
and comes to the balancer again.

Two of the rules look at how many connections each node has. What is counted are the connections by
which clients poll, hold a request or are told of changes: from when a node has accepted one until
its end has come to the balancer. That is

* when the client's close arrives there; a polling client's, when it closes;
* when the server or a middlebox ends it: a cut, a limit, an idle connection of HTTP that is kept no
  longer, a node whose process ends, which then has none;
* on a path that is dead, when the server gives the client up, or a polling client its request, or
  when the client has got its next connection, whichever is first. A client counts once.

Requests on connections of their own beside a socket (safety polls, what is fetched) last for
moments: they are given by the same rule, and not counted.

Of nodes that have as few, the next in turn gets the connection: the first one, by number, after
the node that was given to last. nginx (``least_conn``) and HAProxy (``leastconn``) go round such
nodes too. Of two that are drawn and have as few, the second does (nginx ``random two``; HAProxy
``random(2)``). The two are drawn each by itself, as by HAProxy and Envoy, so that they may be the
same; nginx draws two that differ.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from enum import IntEnum
from typing import NamedTuple


class Balancing(IntEnum):
    """The rule by which a balancer chooses among the nodes that are up."""

    RANDOM = 0
    ROUND_ROBIN = 1
    LEAST_CONNECTIONS = 2
    RANDOM_OF_TWO = 3


class Balancer(NamedTuple):
    """What a balancer goes by: lists, or arrays.

    Attributes
    ----------
    rule : Balancing
    latest : sequence of int, length 1
        The node that was given a connection last, -1 if none was.
    connections : sequence of int, one for each node
        How many connections each has that are not closed; 0 if nothing is counted.
    given_to, given_for : sequence of int, one for each client
        On which node the client's connection is that is counted, -1 for none, and since which of
        its exchanges. Empty if nothing is counted.
    """

    rule: int
    latest: MutableSequence[int]
    connections: MutableSequence[int]
    given_to: MutableSequence[int]
    given_for: MutableSequence[int]


def counts_connections(rule: int, nodes: int) -> bool:
    """Say whether a rule looks at how many connections each of so many nodes has.

    Examples
    --------
    >>> counts_connections(Balancing.RANDOM_OF_TWO, 2), counts_connections(Balancing.ROUND_ROBIN, 2)
    (True, False)
    """
    looks = rule == Balancing.LEAST_CONNECTIONS or rule == Balancing.RANDOM_OF_TWO
    return bool(looks and nodes > 1)


def new_balancer(rule: int, nodes: int, clients: int) -> Balancer:
    """Return a balancer that has given nothing yet."""
    counted = clients if counts_connections(rule, nodes) else 0
    return Balancer(rule, [-1], [0] * nodes, [-1] * counted, [0] * counted)


def is_counting(balancer: Balancer) -> bool:
    """Say whether connections are counted."""
    return len(balancer.given_to) > 0


def node_for(balancer: Balancer, is_down: Sequence[bool], u: float, v: float) -> int:
    """Return the node that a new connection is to be given to, -1 if none is up.

    Parameters
    ----------
    balancer : Balancer
    is_down : sequence of bool, one for each node
    u, v : float
        Two uniform draws of the connection's, for the rules that draw.

    Examples
    --------
    >>> two_busy = Balancer(Balancing.LEAST_CONNECTIONS, [0], [3, 2, 2], [-1], [0])
    >>> is_down = [False, False, False]
    >>> [node_for(two_busy._replace(rule=rule), is_down, 0.1, 0.7) for rule in Balancing]
    [0, 1, 1, 2]
    >>> node_for(two_busy, [True, True, True], 0.1, 0.7)
    -1
    """
    if balancer.rule == Balancing.RANDOM or balancer.rule == Balancing.RANDOM_OF_TWO:
        first = _drawn(is_down, u)
        if balancer.rule == Balancing.RANDOM or first < 0:
            return first
        second = _drawn(is_down, v)
        has_fewer = balancer.connections[first] < balancer.connections[second]
        return first if has_fewer else second
    found, nodes = -1, len(is_down)
    for place in range(nodes):
        node = int(balancer.latest[0] + 1 + place) % nodes
        if is_down[node]:
            continue
        if balancer.rule == Balancing.ROUND_ROBIN:
            return node
        if found < 0 or balancer.connections[node] < balancer.connections[found]:
            found = node
    return found


def _drawn(is_down: Sequence[bool], u: float) -> int:
    """Return a node that is up, by a uniform draw; -1: all are down."""
    up = 0
    for node in range(len(is_down)):
        if not is_down[node]:
            up += 1
    place = int(u * up)
    for node in range(len(is_down)):
        if not is_down[node]:
            if place == 0:
                return node
            place -= 1
    return -1


def take_turn(balancer: Balancer, node: int) -> None:
    """Give a node a request on a connection of its own, which is not counted."""
    balancer.latest[0] = node


def give(balancer: Balancer, node: int, client: int, exchange: int) -> None:
    """Give a node a client's new connection, in place of its connection before.

    Examples
    --------
    >>> balancer = new_balancer(Balancing.LEAST_CONNECTIONS, 2, 10)
    >>> for node, client, exchange in ((0, 7, 1), (1, 8, 1), (1, 7, 2)):
    ...     give(balancer, node, client, exchange)
    >>> balancer.connections, balancer.latest
    ([0, 2], [1])
    """
    balancer.latest[0] = node
    count(balancer, node, client, exchange)


def count(balancer: Balancer, node: int, client: int, exchange: int) -> None:
    """Count a client's connection at a node, in place of its connection before."""
    if len(balancer.given_to) > 0:
        take_back(balancer, client, exchange)
        balancer.connections[node] += 1
        balancer.given_to[client] = node
        balancer.given_for[client] = exchange


def count_again(balancer: Balancer, node: int, client: int, exchange: int) -> None:
    """Count a connection whose next request sets out at the very moment at which it would be ended.

    Not on a dead path: the request does not come, and the end of the connection stands.

    Examples
    --------
    >>> balancer = new_balancer(Balancing.LEAST_CONNECTIONS, 2, 10)
    >>> give(balancer, 1, 7, 1)
    >>> take_back(balancer, 7, 1)
    >>> for _ in range(2):
    ...     count_again(balancer, 1, 7, 2)
    >>> balancer.connections
    [0, 1]
    """
    if balancer.given_to[client] < 0 and node >= 0:
        count(balancer, node, client, exchange)


def take_back(balancer: Balancer, client: int, exchange: int, after: int = -1) -> None:
    """Count a client's connection no longer: those up to an exchange have ended.

    Those up to exchange `after` have not, of whose end the balancer does not hear.

    Examples
    --------
    >>> balancer = new_balancer(Balancing.LEAST_CONNECTIONS, 2, 10)
    >>> give(balancer, 1, 7, 3)
    >>> take_back(balancer, 7, 2)  # the end of its connection before is late
    >>> balancer.connections
    [0, 1]
    >>> take_back(balancer, 7, 3)
    >>> balancer.connections
    [0, 0]
    """
    if len(balancer.given_to) > 0:
        node = int(balancer.given_to[client] + 0)
        if node >= 0 and after < balancer.given_for[client] <= exchange:
            balancer.connections[node] -= 1
            balancer.given_to[client] = -1


def forget_node(balancer: Balancer, node: int) -> None:
    """Count none of a node's connections any longer: its process has ended.

    Examples
    --------
    >>> balancer = new_balancer(Balancing.LEAST_CONNECTIONS, 2, 10)
    >>> for client in range(5):
    ...     give(balancer, client % 2, client, 1)
    >>> forget_node(balancer, 0)
    >>> balancer.connections
    [0, 2]
    """
    for client in range(len(balancer.given_to)):
        if balancer.given_to[client] == node:
            balancer.connections[node] -= 1
            balancer.given_to[client] = -1
