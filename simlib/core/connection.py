"""One client's connection: its ends, its path, and the messages that are sent on it.

`client.step` says what a client does; this module says what reaches it. Each client has one row
for its connections, whatever their transport, as it has one for its own state. The rules here read
and change these rows and return what a driver has to schedule. They never schedule anything.

Connections are known by their *exchange*, the client's own number of a fetch or of a connection.
An exchange has ended for the server up to `closed_exchange`, and has lost its path up to
`lost_exchange`: both only ever grow, so one comparison tells whether a late message still counts.
What the server has sent before an end arrives, and the client hears of the end behind it.

In every function `link` is a `Connection` or a row with the columns of `CONNECTION_ROW`, and
`client` a `Client` or a row with the columns of `client_state.ROW`; the two may be one row.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Sequence
from enum import IntEnum
from typing import NamedTuple

from simlib.core import path
from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.backpressure import Overflow, SendingRules, buffered_bytes, has_room, most_held
from simlib.core.backpressure import kept as kept_messages
from simlib.core.balancing import Balancer, node_for
from simlib.core.client_state import NEVER_S, Client, Rules
from simlib.core.draws import Stream, uniform_block
from simlib.core.faults import FaultEffect, FaultEvent, is_affected
from simlib.core.path import SharedLink, Window
from simlib.core.polling import is_kept
from simlib.core.protocol import (
    BAD_GATEWAY,
    UNAUTHORIZED,
    State,
    Transport,
    fetches,
    has_socket,
    holds,
    is_stream,
)
from simlib.core.record import Cause, Count, Record
from simlib.core.resync import Resume, resume_outcome
from simlib.core.server import Server
from simlib.core.streams import sent_as
from simlib.core.wire import Message


class Connection:
    """One client's row of what is known about its connections.

    Attributes
    ----------
    number : int
        The client's number: the address of its draws, and its row in every table.
    opened_s : float
        Since when the connection is open, seconds; `NEVER_S` without one.
    opened_by : Transport
        The transport of the latest connection.
    kept_until_s : float
        Until when the server keeps an idle connection of HTTP, seconds; `NEVER_S` during a request,
        ``-NEVER_S`` without one. A polling client has no other connection; a client that fetches
        what it is told of, or makes safety polls, has this one beside its socket. Safety polls do
        not wait for each other: each takes it away, and brings it back with its answer.
    has_upgraded : bool
        Whether the WebSocket is up, so that it ends with a close frame; of streams, whether the
        client has had an event, which its next request names.
    subscribed, socket : int
        The exchange for which the server lists the client as a subscriber, and for which it keeps
        a socket; -1 for none. While it holds a request, that of the request, for both.
    closed_exchange : int
        The exchange up to which connections have ended.
    lost_exchange : int
        The exchange up to which WebSockets travel a dead path, -1 for none. Neither end knows.
    is_link_dead : bool
        Whether that connection travels a dead path.
    beats : int
        How many jobs of heartbeats and safety polls the server has had from this client.
    active_s : float
        When the connection last carried something, seconds.
    node : int
        The node that the connection is on; -1 for none, also if a proxy answers for the nodes.
    worker : int
        The worker of that node that has accepted the connection.
    socket_worker : int
        The worker that the socket belongs to, counted over all nodes.
    let_in_by, served_by : int
        The number of the process that has let in the latest WebSocket, and of the one whose READY
        has arrived; -1 for none.
    link_s : float
        When the path was last given something to carry, seconds.
    link_bytes : float
        What it had to carry then.
    arrived_s : float
        When the last message that it was given arrives, seconds.
    waiting : int
        How many messages wait for the client in the server's memory, because the kernels are full.
    tail : int
        The version of the latest message that waits; below 0 if what is subscribed is a request
        that is held, see `is_held`.
    """

    __slots__ = (
        "active_s",
        "arrived_s",
        "beats",
        "closed_exchange",
        "has_upgraded",
        "is_link_dead",
        "kept_until_s",
        "let_in_by",
        "link_bytes",
        "link_s",
        "lost_exchange",
        "node",
        "number",
        "opened_by",
        "opened_s",
        "served_by",
        "socket",
        "socket_worker",
        "subscribed",
        "tail",
        "waiting",
        "worker",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.opened_s = NEVER_S
        self.opened_by: int = Transport.POLLING
        self.kept_until_s = -NEVER_S
        self.has_upgraded = False
        self.subscribed = -1
        self.socket = -1
        self.closed_exchange = 0
        self.lost_exchange = -1
        self.is_link_dead = False
        self.beats = 0
        self.active_s = 0.0
        self.node = -1
        self.worker = 0
        self.socket_worker = 0
        self.let_in_by = -1
        self.served_by = -1
        self.link_s = 0.0
        self.link_bytes = 0.0
        self.arrived_s = 0.0
        self.waiting = 0
        self.tail = 0


CONNECTION_ROW = {
    "opened_s": "f8",
    "kept_until_s": "f8",
    "has_upgraded": "?",
    "subscribed": "i4",
    "socket": "i4",
    "closed_exchange": "i4",
    "lost_exchange": "i4",
    "is_link_dead": "?",
    "beats": "i4",
    "active_s": "f8",
    "node": "i1",
    "worker": "i2",
    "socket_worker": "i4",
    "let_in_by": "i2",
    "served_by": "i2",
    "link_s": "f8",
    "link_bytes": "f8",
    "arrived_s": "f8",
    "waiting": "i4",
    "tail": "i4",
}
"""A connection's columns, for an engine that keeps its clients in an array.

`number` is a column of the client already, and that engine knows `opened_by` from its events."""


class Planned:
    """A client's path as a worker plans to use it that waits for slow clients: see `blocking_send`.

    Attributes
    ----------
    number : int
        The client's number.
    exchange : int
        The exchange of the connection, -1 if nothing was ever planned.
    link_s, link_bytes : float
        When the latest of the planned messages is written, seconds, and what the path has to carry
        then.
    waits_until_s : float
        Until when a broadcast waits for this client, under the policy ``abort``, seconds; `NEVER_S`
        if it gives up then, and the connection is closed.
    """

    __slots__ = ("exchange", "link_bytes", "link_s", "number", "waits_until_s")

    def __init__(self, number: int) -> None:
        self.number = number
        self.exchange = -1
        self.link_s = 0.0
        self.link_bytes = 0.0
        self.waits_until_s = 0.0


PLANNED_ROW = {
    "number": "i4",
    "exchange": "i4",
    "link_s": "f8",
    "link_bytes": "f8",
    "waits_until_s": "f8",
}
"""Its columns, for an engine that keeps it in an array."""


class Paths(NamedTuple):
    """The paths between the clients and the server.

    `half_s` holds each client's one-way time in seconds, or a single one for all of them; `delays`
    and `limits` are the windows in which some paths are slower or narrower. `seed` and
    `replication` address the draws that say whose paths these are. `shared` has the link that all
    clients share, or nothing.
    """

    seed: int
    replication: int
    half_s: Sequence[float]
    delays: Sequence[Window]
    limits: Sequence[Window]
    shared: Sequence[SharedLink] = ()


class Nodes(NamedTuple):
    """The server's nodes, by number.

    Each has `is_down`, the number of its present or next `process`, and `kept_from`: how many
    changes had been published when that process started.
    """

    is_down: MutableSequence[bool]
    process: MutableSequence[int]
    kept_from: MutableSequence[int]


class FaultSchedule(NamedTuple):
    """The fault events in order of time, and which of the faults are active.

    `active` has a flag for each event: whether it began something that has not ended yet.
    """

    events: Sequence[FaultEvent]
    active: MutableSequence[bool]


class Sent(IntEnum):
    """What happens to a message that the server wants to send."""

    SENT = 0
    WAITS = 1
    WAITS_FIRST = 2
    CLOSES = 3
    FAILS = 4


GIVES_UP = 0
"""In place of the version of a message: the server closes the connection, where a send failed."""


# -- ends of connections -------------------------------------------------------------------------


def is_cut(link: Connection, exchange: int) -> bool:
    """Say whether an exchange has ended for the server, or has lost its path.

    Examples
    --------
    >>> link = Connection(0)
    >>> link.closed_exchange, link.lost_exchange = 3, 5
    >>> is_cut(link, 5), is_cut(link, 6)
    (True, False)
    """
    return bool(link.closed_exchange >= exchange or link.lost_exchange >= exchange)


def is_over(client: Client, link: Connection, exchange: int) -> bool:
    """Return whether a client ignores what comes to it for an exchange, which is over.

    TCP delivers what was sent before an end (RFC 9293, section 3.6), so on a WebSocket an exchange
    that has ended at the server goes on for the client until it hears of that. A poll ends where
    the server ends it, unless it `is_answered`.
    """
    if client.exchange != exchange or link.lost_exchange >= exchange:
        return True
    return bool(not has_socket(client.transport) and link.closed_exchange >= exchange)


def served_at(link: Connection) -> int:
    """Return the node that serves what comes from a client.

    What was sent on a connection that the client has given up, for another that no node has
    accepted yet, comes to the first.
    """
    return max(0, int(link.node))


def is_at_proxy(link: Connection, bad_gateway: bool) -> bool:
    """Say whether a client's connection ends at a proxy, which found no node up for it.

    The proxy answers the request on it with 502, and closes it.

    Examples
    --------
    >>> is_at_proxy(Connection(0), True), is_at_proxy(Connection(0), False)
    (True, False)
    """
    return bool(bad_gateway and link.node < 0)


def accepted_by(link: Connection, workers: int) -> int:
    """Return the worker that has accepted the latest connection, counted over all nodes.

    Examples
    --------
    >>> link = Connection(0)
    >>> link.node, link.worker = 2, 1
    >>> accepted_by(link, workers=4)
    9
    """
    return served_at(link) * workers + int(link.worker)


def hold(link: Connection, worker: int, first: int, now: float) -> None:
    """Hold a request `now`, which a worker, counted over all nodes, is to answer.

    A driver subscribes the client beside it. `first` says whether the request is the first on its
    connection, 1 or 0. Its answer finds the path empty.

    Examples
    --------
    >>> link = Connection(7)
    >>> hold(link, 2, 1, 5.0)
    >>> link.socket_worker, is_held(link), is_first_held(link)
    (2, True, True)
    """
    link.socket_worker = worker
    link.tail = -1 - first
    link.link_s = now
    link.arrived_s = now
    link.link_bytes = 0.0


def is_held(link: Connection) -> bool:
    """Say whether what a client is subscribed by is a request that is held; if not, a socket."""
    return bool(link.tail < 0)


def is_first_held(link: Connection) -> bool:
    """Say whether the request that is held, or was held last, is the first on its connection."""
    return bool(link.tail < -1)


def further_changes(push_is_snapshot: bool, seen: int, version: int) -> int:
    """Return how many changes an answer to a held request has beside the first.

    Examples
    --------
    >>> further_changes(False, 4, 7), further_changes(True, 4, 7)
    (2, 0)
    """
    if push_is_snapshot:
        return 0
    return max(0, version - seen - 1)


def is_unheard(link: Connection, exchange: int) -> bool:
    """Return whether a message from a subscriber is lost, or nobody reads it."""
    return bool(is_cut(link, exchange) or link.subscribed != exchange)


def end_of_kept(link: Connection, now: float, cause: int) -> tuple[float, int]:
    """Return when and why a polling client's connection has ended that ends `now` at the latest.

    An idle connection may have ended before: the server keeps it until `kept_until_s` only.

    Examples
    --------
    >>> link = Connection(0)
    >>> link.kept_until_s = 30.0
    >>> [end_of_kept(link, now, Cause.SESSION_ENDED) for now in (20.0, 40.0)]
    [(20.0, 1), (30.0, 2)]
    """
    if link.kept_until_s < now:
        return link.kept_until_s, Cause.IDLE + 0
    return now, cause + 0


def end_fetches(link: Connection, now: float) -> float:
    """Forget the connection beside a client's socket, since it has ended.

    Returns
    -------
    float
        When it has ended, seconds: `now` at the latest, ``-NEVER_S`` if there was none.

    Examples
    --------
    >>> link = Connection(0)
    >>> link.kept_until_s = 30.0
    >>> end_fetches(link, 40.0), end_fetches(link, 40.0)
    (30.0, -inf)
    """
    t = min(float(link.kept_until_s), now)
    link.kept_until_s = -NEVER_S
    link.is_link_dead = False
    return t


def has_idle_fetches(client: Client, link: Connection, now: float) -> bool:
    """Say whether the connection beside a client's socket has been idle for too long and ended."""
    is_beside = has_socket(client.transport) and link.opened_s < NEVER_S
    return bool(is_beside and link.kept_until_s < now)


def take_beside(link: Connection) -> bool:
    """Let a safety poll take the connection that is kept; say whether the path of it has died.

    Examples
    --------
    >>> link = Connection(0)
    >>> link.kept_until_s, link.is_link_dead = 30.0, True
    >>> take_beside(link), link.kept_until_s, link.is_link_dead
    (True, -inf, False)
    """
    is_dead = bool(link.is_link_dead)
    link.kept_until_s = -NEVER_S
    link.is_link_dead = False
    return is_dead


def bring_back_beside(link: Connection, keep_alive_s: float, now: float) -> bool:
    """Let the connection of a safety poll be kept, which has its answer now.

    Returns
    -------
    bool
        Whether it is closed, as the one of another safety poll is kept already.

    Examples
    --------
    >>> link = Connection(0)
    >>> bring_back_beside(link, 75.0, 5.0), bring_back_beside(link, 75.0, 6.0), link.kept_until_s
    (False, True, 81.0)
    """
    has_another = link.kept_until_s > -NEVER_S
    link.kept_until_s = now + keep_alive_s
    link.is_link_dead = False
    return bool(has_another)


def is_answered(link: Connection, keep_alive_s: float, now: float) -> bool:
    """Say whether the server has sent the answer to the latest request on a kept connection.

    Examples
    --------
    >>> link = Connection(0)
    >>> link.kept_until_s = 80.0  # it keeps the connection for 75 s after it has answered at 5 s
    >>> is_answered(link, 75.0, 4.0), is_answered(link, 75.0, 5.0)
    (False, True)
    """
    return bool(link.kept_until_s <= now + keep_alive_s)


def reset(
    client: Client, link: Connection, keep_alive_s: float, now: float, is_queued: bool = False
) -> bool:
    """Reset a client's connection at the server.

    A driver records the end of a polling client's connection before it calls this, and asks
    `end_arrives_s` when a client with a socket hears of it.

    Parameters
    ----------
    client : Client
    link : Connection
    keep_alive_s : float
        How long the server keeps a connection of HTTP after an answer, seconds.
    now : float
        Seconds.
    is_queued : bool, optional
        Whether the client's request, or its attempt to connect, still waits in the browser: it is
        on no connection. See `core.browser`.

    Returns
    -------
    bool
        Whether the client learns of it as the failure of its present exchange, which the driver
        schedules. A poll that has been answered does not fail: its answer arrives.
    """
    exchange, is_at_work = int(client.exchange), State.CONNECTING <= client.state <= State.OPEN
    if not has_socket(client.transport):
        if link.is_link_dead:
            return False
        was_answered = is_answered(link, keep_alive_s, now)
        link.kept_until_s = -NEVER_S
        if client.state != State.FETCHING or was_answered or is_queued:
            return False
    elif is_queued or link.lost_exchange >= exchange or not is_at_work:
        return False
    if link.closed_exchange >= exchange:
        return False  # it is about to hear of it
    if fetches(client.transport) and not is_answered(link, keep_alive_s, now):
        link.kept_until_s = NEVER_S  # what it fetches beside its socket is never answered
    link.closed_exchange = exchange
    return True


def is_kept_in_vain(link: Connection) -> bool:
    """Say whether the path of the socket that the server keeps has died, of which it knows nothing.

    Then it does not learn either that the client gives up what it has tried since.

    Examples
    --------
    >>> link = Connection(0)
    >>> link.socket, link.lost_exchange = 3, 3
    >>> is_kept_in_vain(link)
    True
    """
    return bool(0 <= link.socket <= link.lost_exchange)


def can_be_told(client: Client, link: Connection, now: float) -> bool:
    """Say whether the server has a connection on which to tell a client to go: see `is_deaf`.

    It is subscribed, or holds or awaits a request on a connection that it has not ended. A client
    that is between two attempts, waits in its browser or pauses for longer than an idle connection
    is kept, or polls because it has fallen back, is told when it comes back.

    Examples
    --------
    >>> client, link = Client(0), Connection(0)
    >>> client.transport, client.exchange, link.subscribed = Transport.SSE, 3, 3
    >>> can_be_told(client, link, 10.0)
    True
    >>> client.transport, link.opened_s, link.kept_until_s = Transport.LONG_POLLING, 0.0, 5.0
    >>> can_be_told(client, link, 4.0), can_be_told(client, link, 10.0)
    (True, False)
    """
    if holds(client.transport):
        return bool(is_kept(link.opened_s, link.kept_until_s, now))
    return bool(link.subscribed >= 0)


def is_deaf(client: Client, link: Connection) -> bool:
    """Say whether what the server says to a client now is lost, as the path of that has died."""
    if holds(client.transport):
        return bool(link.is_link_dead)
    return bool(link.subscribed >= 0 and link.lost_exchange >= link.subscribed)


def ends_stream(client: Client, link: Connection, by_server: bool, ends_streams: bool) -> bool:
    """Say whether the end of a client's connection is the proper end of a stream.

    Parameters
    ----------
    client : Client
    link : Connection
        Still subscribed, if it was.
    by_server : bool
        Whether the server ends it.
    ends_streams : bool
        Whether the server ends its streams properly then.
    """
    is_served = is_stream(client.transport) and link.subscribed == client.exchange
    return bool(is_served and by_server and ends_streams)


def lose_path(client: Client, link: Connection, is_queued: bool = False) -> bool:
    """Let the path of a client's connection die, which neither end notices.

    `is_queued` says whether the client's request still waits in the browser: see `reset`.

    Returns
    -------
    bool
        Whether a poll is under way. Its client's kernel gives up on it after `unanswered_s`, and
        the driver schedules that. A request that is held has been acknowledged: no kernel gives it
        up, only its client does.
    """
    exchange = int(client.exchange)
    if not has_socket(client.transport):
        if link.opened_s == NEVER_S or link.is_link_dead:
            return False
        link.is_link_dead = True
        link.closed_exchange = max(link.closed_exchange, exchange - int(is_queued))
        is_held_request = link.subscribed == exchange
        return bool(client.state == State.FETCHING and not is_queued and not is_held_request)
    if State.SECURING <= client.state <= State.OPEN:
        link.lost_exchange = exchange
        link.is_link_dead = link.kept_until_s > -NEVER_S
    return False


# -- faults and nodes ----------------------------------------------------------------------------


def is_reset(effect: int) -> bool:
    """Say whether a fault event cuts the connections of those it affects."""
    return bool(
        effect == FaultEffect.SERVER_DOWN
        or effect == FaultEffect.NODE_DOWN
        or effect == FaultEffect.RESET
    )


def cuts_all(fault_event: FaultEvent) -> bool:
    """Say whether a fault event cuts the connections of all clients, of a server that goes on."""
    is_of_all = fault_event.low == 0.0 and fault_event.high == 1.0
    return bool(fault_event.effect == FaultEffect.RESET and is_of_all)


def affects(fault_event: FaultEvent, link: Connection, seed: int, replication: int) -> bool:
    """Say whether a fault event affects a client.

    A node that goes down affects all clients on it, any other event a share of all clients.
    """
    if fault_event.effect == FaultEffect.NODE_DOWN:
        return bool(link.node == fault_event.node)
    fault, low, high = int(fault_event.fault), fault_event.low, fault_event.high
    return is_affected(seed, replication, int(link.number), fault, low, high)


def keeps_socket(fault_event: FaultEvent, link: Connection, workers: int) -> bool:
    """Say whether a node that goes down still keeps a client's socket.

    A client whose path had died may be on another node by now, and its old node not know of it.

    Examples
    --------
    >>> leaves, link = FaultEvent(5.0, FaultEffect.NODE_DOWN, 0, 0.0, 1.0, 1), Connection(7)
    >>> link.socket, link.socket_worker = 3, 5
    >>> keeps_socket(leaves, link, 4), keeps_socket(leaves, link, 2)
    (True, False)
    """
    is_leaving = fault_event.effect == FaultEffect.NODE_DOWN and link.socket >= 0
    return bool(is_leaving and link.socket_worker // workers == fault_event.node)


def goes_on_elsewhere(fault_event: FaultEvent, link: Connection, workers: int) -> bool:
    """Say whether a client's socket is on another node than the one that goes down.

    Its path had died before, and the client has connected anew, to this one. The other node does
    not know, and keeps the socket.

    Examples
    --------
    >>> leaves, link = FaultEvent(5.0, FaultEffect.NODE_DOWN, 0, 0.0, 1.0, 1), Connection(7)
    >>> link.socket, link.socket_worker = 3, 5
    >>> goes_on_elsewhere(leaves, link, 4), goes_on_elsewhere(leaves, link, 2)
    (False, True)
    """
    is_leaving = fault_event.effect == FaultEffect.NODE_DOWN and link.socket >= 0
    return bool(is_leaving and link.socket_worker // workers != fault_event.node)


def ends_idle_fetches(
    fault_event: FaultEvent, client: Client, link: Connection, keep_alive_s: float, now: float
) -> bool:
    """Say whether a cut ends the idle connection beside a socket whose client does not hear of it.

    The path of the socket has died. Other clients end this connection when they hear of the cut.
    """
    is_deaf = link.opened_s < NEVER_S and link.lost_exchange >= client.exchange
    if not has_socket(client.transport) or not is_deaf or link.is_link_dead:
        return False
    cuts_all = fault_event.effect != FaultEffect.NODE_DOWN  # a balancer's goes on without the node
    return bool(cuts_all and is_answered(link, keep_alive_s, now))


def is_under(
    schedule: FaultSchedule, effect: int, link: Connection, seed: int, replication: int
) -> bool:
    """Return whether an active fault with this effect affects a client.

    Examples
    --------
    >>> block = FaultEvent(5.0, FaultEffect.BLOCK, 0, 0.0, 1.0)
    >>> [
    ...     is_under(FaultSchedule([block], [is_on]), FaultEffect.BLOCK, Connection(7), 1, 0)
    ...     for is_on in (False, True)
    ... ]
    [False, True]
    """
    for other in range(len(schedule.events)):
        if schedule.active[other] and schedule.events[other].effect == effect:
            if affects(schedule.events[other], link, seed, replication):
                return True
    return False


def stops_s(schedule: FaultSchedule, node: int, now: float, done_s: float) -> float:
    """Return when a node's process ends that works from `now` to `done_s`, seconds; or `NEVER_S`.

    What is done at the very moment of its end is done.

    Examples
    --------
    >>> leaves = FaultEvent(5.0, FaultEffect.NODE_DOWN, 0, 0.0, 1.0, 1)
    >>> schedule = FaultSchedule([leaves], [False])
    >>> [stops_s(schedule, node, 4.0, t) for node, t in ((1, 6.0), (0, 6.0), (1, 5.0))]
    [5.0, inf, inf]
    """
    for index in range(len(schedule.events)):
        fault_event = schedule.events[index]
        if now <= fault_event.t < done_s and stops(fault_event, node):
            return float(fault_event.t)
    return NEVER_S


def cut_in_service_s(
    schedule: FaultSchedule,
    link: Connection,
    node: int,
    seed: int,
    replication: int,
    now: float,
    done_s: float,
) -> float:
    """Return when a request of its own connection is cut in service, seconds; `NEVER_S` if not.

    A poll beside a socket has a connection that no row knows of. It fails like any other poll if
    the process that serves it ends before it has answered, or if its client's connections are cut.

    Parameters
    ----------
    schedule : FaultSchedule
    link : Connection
        Of the client.
    node : int
        The node that serves the request.
    seed, replication : int
    now, done_s : float
        When the request has arrived at the node, and when it is to be answered, seconds.

    Examples
    --------
    >>> cut = FaultEvent(5.0, FaultEffect.RESET, 0, 0.0, 1.0)
    >>> schedule = FaultSchedule([cut], [False])
    >>> [cut_in_service_s(schedule, Connection(7), 0, 1, 0, 4.0, t) for t in (6.0, 5.0)]
    [5.0, inf]
    """
    cut_s = stops_s(schedule, node, now, done_s)
    for index in range(len(schedule.events)):
        fault_event = schedule.events[index]
        if fault_event.effect == FaultEffect.RESET and now <= fault_event.t < min(done_s, cut_s):
            if affects(fault_event, link, seed, replication):
                cut_s = float(fault_event.t)
    return cut_s


def set_active(schedule: FaultSchedule, index: int) -> None:
    """Note which faults are active after fault event number `index`."""
    effect, fault = schedule.events[index].effect, schedule.events[index].fault
    blocks = effect == FaultEffect.BLOCK or effect == FaultEffect.SWALLOW
    if effect == FaultEffect.PARTITION or blocks:
        schedule.active[index] = True
    elif effect == FaultEffect.HEAL or effect == FaultEffect.UNBLOCK:
        for other in range(index):
            if schedule.events[other].fault == fault:
                schedule.active[other] = False


def stops(fault_event: FaultEvent, node: int) -> bool:
    """Say whether a fault event ends a node's process.

    Examples
    --------
    >>> leaves = FaultEvent(5.0, FaultEffect.NODE_DOWN, 0, 0.0, 1.0, 1)
    >>> stops(leaves, 0), stops(leaves, 1)
    (False, True)
    """
    effect = fault_event.effect
    is_its_turn = effect == FaultEffect.NODE_DOWN and node == fault_event.node
    return bool(effect == FaultEffect.SERVER_DOWN or is_its_turn)


def set_nodes(nodes: Nodes, fault_event: FaultEvent, published: int) -> None:
    """Stop the processes of nodes, or start new ones, which lack the changes published so far.

    Examples
    --------
    >>> nodes = Nodes([False, False], [0, 1], [0, 0])
    >>> set_nodes(nodes, FaultEvent(5.0, FaultEffect.NODE_DOWN, 0, 0.0, 1.0, 1), 40)
    >>> nodes
    Nodes(is_down=[False, True], process=[0, 3], kept_from=[0, 0])
    """
    effect = fault_event.effect
    for node in range(len(nodes.is_down)):
        is_its_turn = effect == FaultEffect.NODE_UP and node == fault_event.node
        is_stopped = stops(fault_event, node)
        if is_stopped:
            nodes.is_down[node] = True
            nodes.process[node] += len(nodes.is_down)
        is_replaced = is_stopped and fault_event.is_replaced
        if effect == FaultEffect.SERVER_UP or is_its_turn or is_replaced:
            nodes.is_down[node] = False
            nodes.kept_from[node] = published


def stop_server(server: Server, node: int, record: Record, now: float) -> None:
    """Stop a node: its workers' busy time after `now` is taken back, and all work is lost."""
    for worker in range(len(server.free_s)):
        recording.add_busy(record, node, now, server.free_s[worker], -1.0)
    servers.clear_server(server, now)


def node_of(
    nodes: Nodes,
    balancer: Balancer,
    link: Connection,
    seed: int,
    replication: int,
    exchange: int,
) -> int:
    """Return the node that a balancer gives a client's new connection to; -1 if none is up."""
    u, v = 0.0, 0.0
    if len(nodes.is_down) > 1:
        number = int(link.number)
        u, v, _, _ = uniform_block(seed, replication, number, Stream.NODE, exchange, 0)
    return node_for(balancer, nodes.is_down, u, v)


def resume_outcome_of(
    client: Client,
    link: Connection,
    rules: Rules,
    nodes: Nodes,
    record: Record,
    published: int,
    now: float,
) -> int:
    """Return how a client that is let in `now` gets what it has missed, a `Resume`.

    A client that fetches what it is told of gets nothing more than READY.
    """
    if fetches(client.transport):
        return Resume.NOTHING + 0
    has_session = (
        record.clients[link.number, Count.MESSAGES] > 0
        and link.served_by == nodes.process[link.node]
    )
    kept_from, away_s = nodes.kept_from[link.node], now - client.since_s
    return resume_outcome(rules.resync, client.seen, published, kept_from, has_session, away_s)


def ready_value(client: Client, outcome: int, version: int) -> int:
    """Return what READY is fed with: up to where changes are lost, or the latest for a fetch."""
    if outcome == Resume.LOST or fetches(client.transport):
        return version + 0
    return 0


# -- paths ---------------------------------------------------------------------------------------


def has_path_limits(paths: Paths) -> bool:
    """Say whether any path is slower or narrower at any time of the run, or all share a link."""
    return len(paths.delays) + len(paths.limits) + len(paths.shared) > 0


def blocks(paths: Paths, sending: SendingRules) -> bool:
    """Say whether slow clients block their worker, which a link that all share never does."""
    return sending.overflow == Overflow.BLOCK and _has_slow_clients(paths)


def aborts(paths: Paths, sending: SendingRules) -> bool:
    """Say whether slow clients end broadcasts, which a link that all share never does."""
    return sending.overflow == Overflow.ABORT and _has_slow_clients(paths)


def _has_slow_clients(paths: Paths) -> bool:
    return len(paths.delays) + len(paths.limits) > 0 and len(paths.shared) == 0


def one_way_s(paths: Paths, link: Connection, t: float) -> float:
    """Return how long a message sent at `t` takes from one end to the other, seconds.

    Examples
    --------
    >>> slow = Window(10.0, 20.0, 1.0, 0.5, 0.0, 0)
    >>> paths = Paths(1, 0, [0.125], [slow], [])
    >>> one_way_s(paths, Connection(7), 5.0), one_way_s(paths, Connection(7), 15.0)
    (0.125, 0.375)
    """
    half_s: float = recording.value_of(paths.half_s, link.number) + 0.0
    if len(paths.delays) > 0:
        number = int(link.number)
        half_s += path.added_s(paths.delays, paths.seed, paths.replication, number, t)
    return half_s


def carried_s(paths: Paths, link: Connection, start_s: float, n_bytes: float) -> float:
    """Return when a client's path, idle before, has carried what it is given at `start_s`."""
    if len(paths.limits) == 0:
        return start_s
    number = int(link.number)
    return path.carried_s(paths.limits, paths.seed, paths.replication, number, start_s, n_bytes)


def reply_s(paths: Paths, link: Connection, exchange: int, t: float, n_bytes: float) -> float:
    """Return when a reply to a poll, sent at `t`, has been carried by the links on its path.

    Where all share a link, `t` is now; what was to be sent on a connection that has ended since is
    not given to it.
    """
    if len(paths.shared) > 0 and link.closed_exchange < exchange:
        t = path.shared_s(paths.shared[0], t, n_bytes)
    return carried_s(paths, link, t, n_bytes)


def held_bytes(paths: Paths, link: Connection | Planned, t: float) -> float:
    """Return what a client's path has still to carry at `t`."""
    if len(paths.limits) == 0:
        return 0.0
    number, since_s, held = int(link.number), link.link_s, link.link_bytes
    return path.left_bytes(paths.limits, paths.seed, paths.replication, number, since_s, held, t)


def transmit(paths: Paths, link: Connection, t: float, n_bytes: float) -> float:
    """Give a connection's path something to carry from `t` on; return when it arrives.

    It is behind what the path has, and nothing overtakes on a connection. Where all share a link,
    which carries it first, `t` is now.

    Examples
    --------
    >>> thin = Window(0.0, 60.0, 1.0, 100.0, 0.0, 0)
    >>> paths, link = Paths(1, 0, [0.5], [], [thin]), Connection(7)
    >>> transmit(paths, link, 10.0, 200.0), transmit(paths, link, 11.0, 100.0)
    (12.5, 13.5)
    """
    half_s = one_way_s(paths, link, t)
    if not has_path_limits(paths):
        return t + half_s
    if len(paths.shared) > 0:
        t = path.shared_s(paths.shared[0], t, n_bytes)
    t = max(t, link.link_s)
    held = held_bytes(paths, link, t) + n_bytes
    link.link_s, link.link_bytes = t, held
    arrives_s = carried_s(paths, link, t, held) + half_s
    link.arrived_s = max(link.arrived_s, arrives_s)
    return float(link.arrived_s)


def open_path(paths: Paths, link: Connection, now: float, n_bytes: float) -> float:
    """Send the first message on a new connection, whose path is empty; return when it arrives."""
    clear_path(paths, link, now)
    return transmit(paths, link, now, n_bytes)


def clear_path(paths: Paths, link: Connection, now: float) -> None:
    """Begin a new connection, on whose path nothing was sent yet."""
    if has_path_limits(paths):
        link.link_s = now
        link.arrived_s = now
        link.link_bytes = 0.0
        link.waiting = 0


def end_arrives_s(
    paths: Paths, link: Connection, exchange: int, socket_bytes: int, now: float
) -> float:
    """Return when a client hears that the server has ended its connection, seconds.

    The end is behind all that the kernels hold, since they go on sending. What waits in the
    server's memory is lost.

    Parameters
    ----------
    paths : Paths
    link : Connection
        Still subscribed, if it was.
    exchange : int
        The exchange that ends.
    socket_bytes : int
        What the kernels on both sides hold of a connection.
    now : float
        Seconds.

    Examples
    --------
    >>> thin = Window(0.0, 60.0, 1.0, 100.0, 0.0, 0)
    >>> paths, link = Paths(1, 0, [0.5], [], [thin]), Connection(7)
    >>> link.subscribed = 3
    >>> arrives_s = transmit(paths, link, 10.0, 200.0)
    >>> [end_arrives_s(paths, link, 3, most, 10.0) for most in (1000, 100)], arrives_s
    ([12.5, 11.5], 12.5)
    """
    t = now + one_way_s(paths, link, now)
    if not has_path_limits(paths) or link.subscribed != exchange:
        return t
    if link.link_s > now:
        return max(t, float(link.arrived_s))  # it is behind what the shared link has
    held = held_bytes(paths, link, now)
    t = max(t, kernels_empty_s(paths, link, held, socket_bytes, now))
    if held <= socket_bytes:
        t = max(t, float(link.arrived_s))
    return t


def kernels_empty_s(
    paths: Paths, link: Connection, held: float, socket_bytes: int, now: float
) -> float:
    """Return when what the kernels hold of `held` bytes has arrived at the other end, seconds."""
    in_kernels = min(held, float(socket_bytes))
    return carried_s(paths, link, now, in_kernels) + one_way_s(paths, link, now)


# -- slow consumers ------------------------------------------------------------------------------


def blocking_send(
    paths: Paths,
    link: Connection,
    planned: Planned,
    blocked_s: MutableSequence[float],
    worker: int,
    sending: SendingRules,
    t: float,
    n_bytes: float,
) -> float:
    """Plan a message whose turn is at `t`, and block the worker until there is room for it.

    The path is given the message when it is written, by `try_send`: a cut may come before.

    Returns
    -------
    float
        When it is written, seconds, from when on the worker goes on.

    Examples
    --------
    >>> thin = Window(0.0, 60.0, 1.0, 100.0, 0.0, 0)
    >>> paths, sending = Paths(1, 0, [0.5], [], [thin]), SendingRules(Overflow.BLOCK, 100, 200)
    >>> link, planned, blocked_s = Connection(7), Planned(7), [0.0]
    >>> [blocking_send(paths, link, planned, blocked_s, 0, sending, 10.0, 200.0) for _ in range(3)]
    [10.0, 11.0, 13.0]
    """
    _plan(planned, link)
    t = max(t, blocked_s[worker], planned.link_s)
    over = held_bytes(paths, planned, t) + n_bytes - (sending.socket_bytes + sending.buffer_bytes)
    if over > 0.0:
        t = carried_s(paths, link, t, over)
    blocked_s[worker] = t
    planned.link_bytes = held_bytes(paths, planned, t) + n_bytes
    planned.link_s = t
    return t


def _plan(planned: Planned, link: Connection) -> None:
    """Start from what is on the path, where nothing is planned that is not written."""
    if planned.exchange != link.subscribed:
        planned.waits_until_s = 0.0
    if planned.exchange != link.subscribed or planned.link_s <= link.link_s:
        planned.exchange = link.subscribed
        planned.link_s = link.link_s
        planned.link_bytes = link.link_bytes


def aborting_send(
    paths: Paths,
    link: Connection,
    planned: Planned,
    blocked_s: MutableSequence[float],
    worker: int,
    sending: SendingRules,
    t: float,
    n_bytes: float,
) -> tuple[int, float]:
    """Plan a message whose turn is at `t`, if the broadcast does not end at this client.

    Returns
    -------
    outcome : Sent
    t : float
        SENT: when it is written, from when on the broadcast goes on. CLOSES: when the broadcast
        stops waiting; the connection ends, and so does the broadcast. FAILS: another broadcast
        waits for this client, and this one ends at once. Seconds.

    Examples
    --------
    >>> thin, link, planned = Window(0.0, 60.0, 1.0, 100.0, 0.0, 0), Connection(7), Planned(7)
    >>> paths, sending = Paths(1, 0, [0.5], [], [thin]), SendingRules(Overflow.ABORT, 0, 300, 2.0)
    >>> [
    ...     aborting_send(paths, link, planned, [0.0], 0, sending, t, n_bytes)
    ...     for t, n_bytes in ((10.0, 300.0), (10.0, 150.0), (11.0, 50.0), (11.5, 300.0))
    ... ] == [(Sent.SENT, 10.0), (Sent.SENT, 11.5), (Sent.FAILS, 11.0), (Sent.CLOSES, 13.5)]
    True
    """
    _plan(planned, link)
    t = max(t, blocked_s[worker])
    if t < planned.waits_until_s:
        return Sent.FAILS + 0, t
    over = held_bytes(paths, planned, t) + n_bytes - sending.socket_bytes
    written_s = carried_s(paths, link, t, over) if over > 0.0 else t
    if written_s > t + sending.write_timeout_s:
        planned.waits_until_s = NEVER_S
        return Sent.CLOSES + 0, t + sending.write_timeout_s
    if over > 0.0:
        planned.waits_until_s = written_s
    blocked_s[worker] = written_s
    planned.link_bytes = held_bytes(paths, planned, written_s) + n_bytes
    planned.link_s = written_s
    return Sent.SENT + 0, written_s


def try_send(
    paths: Paths,
    link: Connection,
    record: Record,
    sending: SendingRules,
    version: int,
    now: float,
    n_bytes: int,
    waiting_bytes: int,
) -> tuple[int, float]:
    """Send a message of a broadcast to a client whose path may be narrow.

    Parameters
    ----------
    paths : Paths
    link : Connection
    record : Record
    sending : SendingRules
    version : int
        The change that the message carries, or `GIVES_UP`.
    now : float
        Seconds.
    n_bytes : int
        Size of the message.
    waiting_bytes : int
        Size of a message that has waited; see `waiting_message`.

    Returns
    -------
    outcome : Sent
    t : float
        SENT: when the message arrives. WAITS_FIRST: when the kernels take what waits, and the
        driver is to `drain` it. CLOSES: when the client hears that the server has closed the
        connection, which is behind what the kernels hold; it has ended there. WAITS: nothing is to
        be scheduled.
    """
    held = held_bytes(paths, link, now)
    if version == GIVES_UP:
        exchange = int(link.subscribed)
        link.closed_exchange = max(link.closed_exchange, exchange)
        return Sent.CLOSES + 0, end_arrives_s(paths, link, exchange, sending.socket_bytes, now)
    if not has_path_limits(paths):
        return Sent.SENT + 0, transmit(paths, link, now, float(n_bytes))
    waits = sending.overflow == Overflow.DROP_OLDEST or sending.overflow == Overflow.COALESCE
    if waits and (link.waiting > 0 or not has_room(sending, held, n_bytes)):
        outcome, t = Sent.WAITS + 0, now
        if link.waiting == 0:
            outcome, t = Sent.WAITS_FIRST + 0, writable_s(paths, link, sending, now, waiting_bytes)
        link.tail = version
        link.waiting = kept_messages(sending, int(link.waiting) + 1, n_bytes)
        recording.buffer(record, link.number, float(link.waiting * n_bytes))
        return outcome, t
    buffered = buffered_bytes(sending, held + n_bytes)
    if sending.overflow == Overflow.CLOSE and buffered > sending.buffer_bytes:
        link.closed_exchange = max(link.closed_exchange, link.subscribed)
        return Sent.CLOSES + 0, kernels_empty_s(paths, link, held, sending.socket_bytes, now)
    recording.buffer(record, link.number, buffered)
    return Sent.SENT + 0, transmit(paths, link, now, float(n_bytes))


def drain(paths: Paths, link: Connection, now: float, n_bytes: int) -> tuple[int, float]:
    """Send the oldest message that waits for a client; return its version and when it arrives."""
    version = int(link.tail - link.waiting + 1)
    link.waiting -= 1
    return version, transmit(paths, link, now, float(n_bytes))


def writable_s(
    paths: Paths, link: Connection, sending: SendingRules, now: float, n_bytes: int
) -> float:
    """Return from when on the kernels take a message of a size."""
    over = held_bytes(paths, link, now) - most_held(sending, n_bytes)
    return carried_s(paths, link, now, over)


def change_message(client: Client) -> int:
    """Return as which `Message` a client hears of a change."""
    if fetches(client.transport):
        return sent_as(client.transport, Message.NOTICE)
    return sent_as(client.transport, Message.PUSH)


def waiting_message(client: Client, rules: Rules, sending: SendingRules) -> int:
    """Return as which `Message` what waits for a client goes out."""
    is_coalesced = sending.overflow == Overflow.COALESCE and not rules.push_is_snapshot
    if is_coalesced and not fetches(client.transport):
        return sent_as(client.transport, Message.SNAPSHOT)
    return change_message(client)


def is_board(message: int) -> bool:
    """Say whether a message has the whole board in place of what a client missed."""
    return bool(message == Message.SNAPSHOT or message == Message.STREAM_SNAPSHOT)


# -- what opens and closes a connection ----------------------------------------------------------


def opening_request(client: Client, link: Connection) -> int:
    """Return as which `Message` a client asks for its WebSocket or its stream.

    Examples
    --------
    >>> client, link = Client(0), Connection(0)
    >>> client.transport, link.has_upgraded = Transport.SSE, True
    >>> Message(opening_request(client, link)).name
    'STREAM_REQUEST_AGAIN'
    """
    if is_stream(client.transport) and link.has_upgraded:
        return Message.STREAM_REQUEST_AGAIN + 0
    return sent_as(client.transport, Message.UPGRADE_REQUEST)


def refusal(transport: int, status: int) -> int:
    """Return as which `Message` that request is refused."""
    if status == UNAUTHORIZED and is_stream(transport):
        return sent_as(transport, Message.AUTH_REFUSED)
    if status == BAD_GATEWAY:
        return sent_as(transport, Message.UPGRADE_BAD_GATEWAY)
    return sent_as(transport, Message.UPGRADE_REFUSED)


def closes_with_frames(client: Client, link: Connection, was: int, is_meant: bool) -> bool:
    """Say whether a client that closes its connection of transport `was` sends a close frame.

    `is_meant` says whether the client, or its user, wants it closed. A client of a stream that
    waits for its next attempt goes on to name the last event that it has had.
    """
    has_frames = bool(is_meant and link.has_upgraded and not is_stream(was))
    if not is_stream(was) or client.state != State.WAITING:
        link.has_upgraded = False
    return has_frames
