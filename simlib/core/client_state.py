"""One client's row of state, the settings that it obeys, and the moves that all transports share.

`client` has the rules that do not depend on the transport, `polling` and `websocket` those that do;
they work on the row that is defined here.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import Any, NamedTuple, NoReturn

from simlib.core.fallback import FallbackRules
from simlib.core.protocol import (
    EVENTS,
    ILLEGAL,
    Action,
    Event,
    Pause,
    State,
    Transport,
    transition_table,
)
from simlib.core.reconnect import ReconnectRules
from simlib.core.resync import ResyncRules
from simlib.errors import ProtocolError

NEVER_S = math.inf
_TABLE = transition_table()


class Differs(IntEnum):
    """Bits of what the rules of two cohorts differ in, where a client has to act on it at once."""

    NOTHING = 0
    POLL_TIMER = 1
    WHO_PINGS = 2
    HEARTBEAT = 4
    SAFETY_POLL = 8
    SIGN_OF_LIFE = 16


class Rules(NamedTuple):
    """The settings that a client obeys; times in seconds.

    With `has_flag`, `transports` are those of the control and of the treatment cohort, and a client
    uses that of its own; else all use `transport`. Each cohort may have rules of its own, and
    `differs` are bits of `Differs` then, the same in both.
    """

    seed: int
    replication: int
    transport: int
    has_flag: bool
    transports: tuple[int, int]
    differs: int
    interval_s: float
    jitter_frac: float
    hidden_interval_s: float
    active_interval_s: float
    active_for_s: float
    fixed_rate: bool
    pause_while_dragging: bool
    pause_while_hidden: bool
    refetch_on_focus: bool
    stale_s: float
    retries: int
    retry_base_s: float
    retry_cap_s: float
    tls: bool
    push_is_snapshot: bool
    resync: ResyncRules
    open_timeout_s: float
    upgrade_timeout_s: float
    ready_timeout_s: float
    token_valid_s: float
    safety_poll_s: float
    safety_poll_restart: bool
    spread_s: float
    on_hint: int
    throttles_timers: bool
    heartbeat: int
    heartbeat_interval_s: float
    heartbeat_timeout_s: float
    any_message: bool
    closing_s: float
    watches: bool
    retries_http_errors: bool
    retries_ended: bool
    hold_s: float
    answer_timeout_s: float
    ask_pause_s: float
    reconnect: ReconnectRules
    fallback: FallbackRules


class Applied(IntEnum):
    """Which of the changes that a step resolved were delivered; the others are lost."""

    ALL = 0
    LAST = 1
    NONE = 2


class Client:
    """One client's row of state.

    Attributes
    ----------
    number : int
        The client's address for its draws, and its row in every table.
    transport : Transport
        Which it uses now.
    cohort : int
        To which cohort of a rollout it belongs; 0 without one.
    state : State
    exchange : int
        The number of the fetch or connection under way.
    deadline_s : float
        When the client wants to be woken; `NEVER_S` if not.
    pauses : Pause
    failures : int
        Tries of the present fetch that failed, or attempts to connect since the count was reset.
    fetched_s : float
        When data last arrived.
    since_s : float
        Since when the connection is open, since when there is none, or, if the client has fallen
        back or polls at a fixed rate, since when it polls.
    fallbacks : int
        How often it has fallen back to polling since it was last pushed to.
    beat_s, fetch_due_s : float
        When a heartbeat is due on an open connection, and a fetch beside it, if there are any; or
        when a client gives up a request that is held. Messages may put them off without setting
        the timer anew: it then fires too early, and the client goes on waiting. `fetch_due_s` of
        a polling client is until when it polls faster; `NEVER_S` if it does not.
    check_s : float
        When a client next checks whether its connection is stale, if its reconnect policy has a
        timer for that; `NEVER_S` before it starts.
    told : int
        The latest change that a client was told of that fetches what it is told of.
    fetch_number : int
        The number of its fetch that is under way, up to `FETCHES`, after which they begin anew;
        negative if none is, that of the last one then.
    fetch_failures : int
        How many tries of this fetch have failed; of a client whose requests are held, whether the
        server has not answered since the last failure, or since the first request.
    hidden_s, held_s : float
        Since when the tab is hidden, and until when the browser holds a timer back that is due.
    awaiting_pong : bool
    has_opened : bool
        Whether there has been a connection.
    draws : int
        Draws taken so far, of the jitter or of the back-off stream.
    seen : int
        Changes resolved so far: delivered to, or lost for, this client.
    applied : Applied
        How many of the changes that the last step resolved were delivered.
    """

    __slots__ = (
        "applied",
        "awaiting_pong",
        "beat_s",
        "check_s",
        "cohort",
        "deadline_s",
        "draws",
        "exchange",
        "failures",
        "fallbacks",
        "fetch_due_s",
        "fetch_failures",
        "fetch_number",
        "fetched_s",
        "has_opened",
        "held_s",
        "hidden_s",
        "number",
        "pauses",
        "seen",
        "since_s",
        "state",
        "told",
        "transport",
    )

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: int = State.ABSENT
        self.exchange = 0
        self.deadline_s = NEVER_S
        self.pauses: int = Pause.NONE
        self.failures = 0
        self.fetched_s = -NEVER_S
        self.since_s = 0.0
        self.beat_s = NEVER_S
        self.fetch_due_s = NEVER_S
        self.check_s = NEVER_S
        self.told = 0
        self.fetch_number = 0
        self.fetch_failures = 0
        self.hidden_s = 0.0
        self.held_s = -NEVER_S
        self.awaiting_pong = False
        self.has_opened = False
        self.transport: int = Transport.POLLING
        self.cohort = 0
        self.fallbacks = 0
        self.draws = 0
        self.seen = 0
        self.applied: int = Applied.ALL


ROW = {
    "number": "i4",
    "exchange": "i4",
    "failures": "i4",
    "draws": "i4",
    "seen": "i4",
    "told": "i4",
    "state": "i1",
    "pauses": "i1",
    "awaiting_pong": "?",
    "has_opened": "?",
    "fetch_number": "i2",
    "transport": "i1",
    "cohort": "i1",
    "fallbacks": "i1",
    "fetch_failures": "i1",
    "applied": "i1",
    "deadline_s": "f8",
    "fetched_s": "f8",
    "since_s": "f8",
    "beat_s": "f8",
    "fetch_due_s": "f8",
    "check_s": "f8",
    "hidden_s": "f8",
    "held_s": "f8",
}
"""A client's columns, for an engine that keeps its clients in an array."""


def move(client: Client, event: int) -> None:
    """Move a client on by the transition table; an illegal event is refused."""
    target = _TABLE[int(client.state) * EVENTS + event]
    if target == ILLEGAL:
        refuse(client, event)
    client.state = target


def refuse(client: Client, event: int) -> NoReturn:
    """Raise `ProtocolError`; compiled code raises it without the words."""
    what = "the client's own decision, also" if event >= Event.FETCH else "illegal"
    raise ProtocolError(
        f"client {client.number}: event {Event(event).name} is {what} in state "
        f"{State(client.state).name}"
    )


def assigned_transport(client: Client, rules: Rules) -> int:
    """Return the transport that a client is to use: that of its cohort, in a rollout."""
    if rules.has_flag:
        return rules.transports[client.cohort]
    return rules.transport + 0


def is_fallen(client: Client, rules: Rules) -> bool:
    """Say whether a client polls although its cohort is to be pushed to: it has fallen back.

    It has done so since its ``since_s``.
    """
    return bool(polls_instead(client.state, client.transport, assigned_transport(client, rules)))


def polls_instead(state: Any, transport: Any, meant: Any) -> Any:
    """Say whether a client in a state polls although another transport is meant for it.

    Examples
    --------
    >>> bool(polls_instead(State.IDLE, Transport.POLLING, Transport.WEBSOCKET))
    True
    """
    polls = (transport == Transport.POLLING) & (meant != Transport.POLLING)
    return (state >= State.IDLE) & (state <= State.RETRYING) & polls


def fetch(client: Client) -> int:
    """Begin an exchange of polling: a fetch."""
    move(client, Event.FETCH)
    client.exchange += 1
    client.deadline_s = NEVER_S
    return Action.FETCH


def connect(client: Client, rules: Rules, now: float) -> int:
    """Begin an exchange of push: an attempt to connect."""
    move(client, Event.CONNECT)
    client.exchange += 1
    client.deadline_s = now + rules.open_timeout_s
    return Action.CONNECT


def see_all(client: Client, version: int) -> None:
    """The whole state up to `version` was shown: every change up to it is delivered."""
    client.applied = Applied.ALL
    client.seen = max(client.seen, version)


def see_one(client: Client, version: int) -> None:
    """Change number `version` alone was shown: what lies between was never sent to this client."""
    if version > client.seen:
        client.applied = Applied.LAST
        client.seen = version


def miss_up_to(client: Client, version: int) -> None:
    """The server pushes from `version` on and nothing brings back what came before."""
    client.applied = Applied.NONE
    client.seen = max(client.seen, version)
