"""States, events, actions and the transition table of one client.

Theory of operation
-------------------
Rule 1: a client moves from one state to another by `TRANSITIONS` alone. `client.step` is the only
caller. A pair of state and event that is missing there is illegal and raises.

Three kinds of events:

* **the user's**: a session starts and stops, a card is dragged, the tab is hidden and shown;
* **the network's**: a response or a frame arrives, a stage of the handshake ends, a connection is
  lost;
* **decisions** of the client itself (the last block), which `step` takes after a deadline or
  another event. A decision is an event like the others, so the table stays deterministic: one
  state and one event give one next state.

The life of a polling client is IDLE -> FETCHING -> IDLE ..., with RETRYING between the tries of
one fetch. Dragging and hiding the tab are not states but two bits beside the state (`Pause`), since
either can begin and end in any state.

The life of a WebSocket client is CONNECTING (TCP) -> SECURING (TLS) -> UPGRADING (HTTP 101) ->
AUTHENTICATING -> OPEN. Every failure leads to WAITING, where the reconnect rule decides: CONNECT;
GIVE_UP, which leads to STRANDED; or FALL_BACK, which leads to a polling client's IDLE, from where
CONNECT leads back later. A rejected token leads to STRANDED at once: it would be rejected again.

A client that is told of changes (NOTIFY) has the same life. What it is told of it fetches while it
is OPEN: responses arrive beside the socket and leave the state unchanged.

A client of a stream (SSE, SSE_NOTIFY) has it too, without AUTHENTICATING: its request for the
stream has the token, so the head of the answer and READY come as one, in UPGRADING.

A client whose requests are held (LONG_POLLING) is FETCHING while the server holds one, and passes
IDLE on its way to the next. What fails leads to WAITING, as with a socket, and from there back to
FETCHING.

During a rollout, a client may be ASSIGNED to a cohort in any state. If that has another transport,
the client decides to SWITCH, which leads to IDLE, and from there to FETCHING or CONNECTING.

Messages belong to an *exchange*: one fetch, or one connection from its first attempt to its end.
The row's `exchange` number moves on when an exchange starts and when it is broken off. A driver
drops messages that arrive for another number, as a closed socket would. So no message arrives in a
state that it was not meant for.

Times: `step` returns one deadline at most. It is the client's only timer; a new one replaces it.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class State(IntEnum):
    """Where a client is in its life."""

    ABSENT = 0
    IDLE = 1
    FETCHING = 2
    RETRYING = 3
    CONNECTING = 4
    SECURING = 5
    UPGRADING = 6
    AUTHENTICATING = 7
    OPEN = 8
    WAITING = 9
    STRANDED = 10
    GONE = 11


class Event(IntEnum):
    """What happens to a client; the events of the last block are its own decisions."""

    START = 0
    STOP = 1
    DRAG_START = 2
    DRAG_END = 3
    HIDE = 4
    SHOW = 5
    DEADLINE = 6
    FETCHED = 7
    UNCHANGED = 8
    FAILED = 9
    CONNECTED = 10
    SECURED = 11
    UPGRADED = 12
    READY = 13
    SNAPSHOT = 14
    REPLAY = 15
    PUSH = 16
    PING = 17
    PONG = 18
    CLOSED = 19
    REJECTED = 20
    ASSIGNED = 21
    FETCH = 22
    EXHAUST = 23
    CONNECT = 24
    TIME_OUT = 25
    GIVE_UP = 26
    FALL_BACK = 27
    SWITCH = 28


class Action(IntEnum):
    """Bits of the actions that a driver must carry out after a step; several may be set."""

    NONE = 0
    FETCH = 1
    CONNECT = 2
    SECURE = 4
    UPGRADE = 8
    AUTHENTICATE = 16
    SEND_PING = 32
    SEND_PONG = 64
    CLOSE = 128
    SAFETY_POLL = 256
    GIVE_UP_FETCH = 512


class Pause(IntEnum):
    """Bits of the reasons why a client does not fetch, in the row's `pauses`."""

    NONE = 0
    DRAGGING = 1
    HIDDEN = 2


class Transport(IntEnum):
    """How changes reach a client."""

    POLLING = 0
    WEBSOCKET = 1
    NOTIFY = 2
    SSE = 3
    SSE_NOTIFY = 4
    LONG_POLLING = 5


class TransportRow(NamedTuple):
    """What a transport is.

    `has_socket` says whether a client keeps a connection open on which the server pushes, `fetches`
    whether it fetches by HTTP what it is told of there, `fallback` which transport it falls back
    to, if any, `is_stream` whether that connection is an answer of HTTP without an end (server-sent
    events) rather than a WebSocket, and `is_held` whether the server holds a client's requests
    until there is something new.
    """

    has_socket: bool
    fetches: bool
    fallback: Transport | None
    is_stream: bool = False
    is_held: bool = False

    @property
    def upgrades(self) -> bool:
        """Whether that connection is a WebSocket, whose upgrade a proxy may block."""
        return self.has_socket and not self.is_stream


TRANSPORTS = {
    Transport.POLLING: TransportRow(has_socket=False, fetches=False, fallback=None),
    Transport.WEBSOCKET: TransportRow(has_socket=True, fetches=False, fallback=Transport.POLLING),
    Transport.NOTIFY: TransportRow(has_socket=True, fetches=True, fallback=Transport.POLLING),
    Transport.SSE: TransportRow(
        has_socket=True, fetches=False, fallback=Transport.POLLING, is_stream=True
    ),
    Transport.SSE_NOTIFY: TransportRow(
        has_socket=True, fetches=True, fallback=Transport.POLLING, is_stream=True
    ),
    Transport.LONG_POLLING: TransportRow(
        has_socket=False, fetches=False, fallback=Transport.POLLING, is_held=True
    ),
}
TRANSPORT_NAMES = tuple(transport.name.lower() for transport in TRANSPORTS)
"""The names in scenarios and tables."""
SOCKET_TRANSPORTS = tuple(
    transport.name.lower() for transport, row in TRANSPORTS.items() if row.has_socket
)
"""The names of those whose clients keep a connection open on which the server pushes."""
TOLD_TRANSPORTS = tuple(
    transport.name.lower() for transport, row in TRANSPORTS.items() if row.has_socket or row.is_held
)
"""The names of those whose clients keep the server at hand to be told of changes: for each it has
a socket, or a request that it holds."""

NO_TRANSPORT = 255
HAS_SOCKET = bytes(row.has_socket for row in TRANSPORTS.values())
FETCHES = bytes(row.fetches for row in TRANSPORTS.values())
IS_STREAM = bytes(row.is_stream for row in TRANSPORTS.values())
IS_HELD = bytes(row.is_held for row in TRANSPORTS.values())
FALLBACK_OF = bytes(
    NO_TRANSPORT if row.fallback is None else row.fallback for row in TRANSPORTS.values()
)
"""Columns of `TRANSPORTS`, to be indexed by interpreted and compiled code alike."""


def fetches(transport: int) -> bool:
    """Say whether a client of a transport fetches what its socket tells it of.

    Examples
    --------
    >>> fetches(Transport.NOTIFY), fetches(Transport.WEBSOCKET)
    (True, False)
    """
    return FETCHES[int(transport)] > 0


def is_stream(transport: int) -> bool:
    """Say whether a client of a transport is pushed to on an answer of HTTP without an end.

    Examples
    --------
    >>> is_stream(Transport.SSE), is_stream(Transport.WEBSOCKET)
    (True, False)
    """
    return IS_STREAM[int(transport)] > 0


def has_socket(transport: int) -> bool:
    """Say whether a client of a transport keeps a connection open on which the server pushes.

    Examples
    --------
    >>> has_socket(Transport.NOTIFY), has_socket(Transport.LONG_POLLING)
    (True, False)
    """
    return HAS_SOCKET[int(transport)] > 0


def holds(transport: int) -> bool:
    """Say whether the server holds the requests of a transport until there is something new.

    Examples
    --------
    >>> holds(Transport.LONG_POLLING), holds(Transport.POLLING)
    (True, False)
    """
    return IS_HELD[int(transport)] > 0


class Heartbeat(IntEnum):
    """Who sends the pings."""

    NONE = 0
    SERVER = 1
    CLIENT = 2


_STAYS = (Event.DRAG_START, Event.DRAG_END, Event.HIDE, Event.SHOW, Event.ASSIGNED)


def _row(stays: tuple[Event, ...] = (), **moves: State) -> dict[Event, State | None]:
    """One state's row: user activity and assignments leave it unchanged (None), except `moves`."""
    row: dict[Event, State | None] = dict.fromkeys(_STAYS + stays)
    row[Event.STOP] = State.GONE
    row[Event.SWITCH] = State.IDLE
    row.update({Event[name]: target for name, target in moves.items()})
    return row


_SETTING_UP = {"CLOSED": State.WAITING, "TIME_OUT": State.WAITING}

TRANSITIONS: dict[State, dict[Event, State | None]] = {
    State.ABSENT: {Event.START: State.IDLE},
    State.IDLE: _row((Event.DEADLINE,), FETCH=State.FETCHING, CONNECT=State.CONNECTING),
    State.FETCHING: _row(
        (Event.DEADLINE,),
        FETCHED=State.IDLE,
        UNCHANGED=State.IDLE,
        FAILED=State.RETRYING,
        **_SETTING_UP,
    ),
    State.RETRYING: _row((Event.DEADLINE,), FETCH=State.FETCHING, EXHAUST=State.IDLE),
    State.CONNECTING: _row((Event.DEADLINE,), CONNECTED=State.SECURING, **_SETTING_UP),
    State.SECURING: _row((Event.DEADLINE,), SECURED=State.UPGRADING, **_SETTING_UP),
    State.UPGRADING: _row(
        (Event.DEADLINE,), UPGRADED=State.AUTHENTICATING, READY=State.OPEN, **_SETTING_UP
    ),
    State.AUTHENTICATING: _row(
        (Event.DEADLINE, Event.PING),
        READY=State.OPEN,
        REJECTED=State.STRANDED,
        **_SETTING_UP,
    ),
    State.OPEN: _row(
        (
            *(Event.DEADLINE, Event.SNAPSHOT, Event.REPLAY, Event.PUSH, Event.PING, Event.PONG),
            *(Event.FETCHED, Event.UNCHANGED, Event.FAILED),
        ),
        CLOSED=State.WAITING,
        TIME_OUT=State.WAITING,
    ),
    State.WAITING: _row(
        (Event.DEADLINE,),
        FETCH=State.FETCHING,
        CONNECT=State.CONNECTING,
        GIVE_UP=State.STRANDED,
        FALL_BACK=State.IDLE,
    ),
    State.STRANDED: _row(),
    State.GONE: {},
}
"""State -> event -> next state; None = stays; a missing pair is illegal."""


UNAUTHORIZED = 401
FORBIDDEN = 403
BAD_GATEWAY = 502
UNAVAILABLE = 503
"""The HTTP statuses of requests that are refused: for a stream, because of the token; an upgrade,
by a proxy that blocks it; any, by a proxy that finds no server up, or by the server."""

EVENTS = len(Event)
ILLEGAL = 255


def transition_table() -> bytes:
    """Return `TRANSITIONS` as bytes that interpreted and compiled code index alike.

    Returns
    -------
    bytes, length len(State) * EVENTS
        At ``state * EVENTS + event`` the next state, or `ILLEGAL`.

    Examples
    --------
    >>> table = transition_table()
    >>> State(table[State.OPEN * EVENTS + Event.CLOSED]).name
    'WAITING'
    >>> table[State.GONE * EVENTS + Event.PUSH] == ILLEGAL
    True
    """
    table = bytearray([ILLEGAL]) * (len(State) * EVENTS)
    for state, moves in TRANSITIONS.items():
        for event, target in moves.items():
            table[state * EVENTS + event] = state if target is None else target
    return bytes(table)


def action_names(actions: int) -> str:
    """Return the names of the actions whose bits are set.

    Examples
    --------
    >>> action_names(Action.CONNECT | Action.CLOSE), action_names(0)
    ('connect|close', 'none')
    """
    names = [action.name.lower() for action in Action if actions & action]
    return "|".join(names) or "none"
