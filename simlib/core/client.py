"""One client, one event: the only place that knows how a client behaves.

`step` takes a client's row of state, an event and the time; it moves the row on, and returns the
actions to carry out and at most one deadline. It never sleeps, reads a clock, owns a generator
or touches a socket: SimPy and asyncio drive the very same function.

How a driver uses it:

1. feed an event: ``actions, deadline_s = step(row, rules, event, now, value)``;
2. if ``row.seen`` moved, book the changes: those up to `applied_from` are lost, those from there
   up to ``row.seen`` are delivered now (`record.resolve`);
3. arm the deadline in place of the one before; when it comes, feed ``DEADLINE``;
4. carry out the actions, and feed back what comes of them with the exchange number that the row
   had when the action was asked for; drop what belongs to another exchange.

Versions count changes: version v means "the first v changes of the run". `value` is the version
that an event carries: what a response, a snapshot or a replay brings the client up to, the number
of one pushed change, or (READY) what the client will never be sent. TOLD carries a transport.
"""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple, NoReturn

from simlib.core.activity import throttled_s
from simlib.core.draws import Stream, uniform
from simlib.core.fallback import FallbackRules, falls_back, returns
from simlib.core.polling import is_stale, next_tick_s, retry_delay_s
from simlib.core.protocol import (
    EVENTS,
    ILLEGAL,
    Action,
    Event,
    Heartbeat,
    Pause,
    State,
    Transport,
    transition_table,
)
from simlib.core.reconnect import (
    Policy,
    ReconnectRules,
    Reset,
    delay_s,
    drawn_delay_s,
    is_drawn,
    retries_at_once,
)
from simlib.core.resync import Resync, ResyncRules
from simlib.errors import ProtocolError

NEVER_S = math.inf
_TABLE = transition_table()


class Rules(NamedTuple):
    """The settings that every client of a run obeys; times in seconds.

    With `has_flag`, a client's own `target` is the transport that it is to use, else `transport`.
    """

    seed: int
    replication: int
    transport: int
    has_flag: bool
    interval_s: float
    jitter_frac: float
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
    token_valid_s: float
    safety_poll_s: float
    throttles_timers: bool
    heartbeat: int
    heartbeat_interval_s: float
    heartbeat_timeout_s: float
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
    transport, target : Transport
        Which it uses now, and which its flag says, if there is a flag.
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
        back, since when it polls.
    falls : int
        How often it has fallen back to polling since it was last pushed to.
    beat_s, asks_s : float
        When a heartbeat is due on an open connection, and a safety poll, if there are any.
    hidden_s, held_s : float
        Since when the tab is hidden, and until when the browser holds a timer back that is due.
    awaiting_pong : bool
    has_opened : bool
        Whether there has been a connection.
    draws : int
        Draws taken so far, of the jitter or of the back-off stream.
    seen : int
        Changes resolved so far: delivered to, or lost for, this client.
    shown : Shown
        How many of the changes that the last step resolved were delivered.
    """

    __slots__ = (
        "applied",
        "awaiting_pong",
        "beat_s",
        "deadline_s",
        "draws",
        "exchange",
        "failures",
        "fallbacks",
        "fetched_s",
        "has_opened",
        "held_s",
        "hidden_s",
        "number",
        "pauses",
        "safety_poll_due_s",
        "seen",
        "since_s",
        "state",
        "target",
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
        self.safety_poll_due_s = NEVER_S
        self.hidden_s = 0.0
        self.held_s = -NEVER_S
        self.awaiting_pong = False
        self.has_opened = False
        self.transport: int = Transport.POLLING
        self.target: int = Transport.POLLING
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
    "state": "i1",
    "pauses": "i1",
    "awaiting_pong": "?",
    "has_opened": "?",
    "transport": "i1",
    "target": "i1",
    "fallbacks": "i1",
    "applied": "i1",
    "deadline_s": "f8",
    "fetched_s": "f8",
    "since_s": "f8",
    "beat_s": "f8",
    "safety_poll_due_s": "f8",
    "hidden_s": "f8",
    "held_s": "f8",
}
"""A client's columns, for an engine that keeps its clients in an array."""


def step(client: Client, rules: Rules, event: int, now: float, value: int = 0) -> tuple[int, float]:
    """Move one client on by one event.

    Parameters
    ----------
    client : Client
        The row; changed in place.
    rules : Rules
    event : Event
        What happened.
    now : float
        When, seconds.
    value : int, optional
        The version that the event carries (FETCHED, SNAPSHOT, REPLAY, PUSH), that the client's
        page starts from (START), or up to which nothing brings back what it missed (READY); or the
        transport that the client is to use (TOLD).

    Returns
    -------
    actions : int
        Bits of `Action`.
    deadline_s : float
        When to feed DEADLINE next; `NEVER_S` for no timer. It replaces the one before.

    Raises
    ------
    ProtocolError
        The state does not know the event, or it is not a driver's to feed.
    """
    state = client.state
    if event >= Event.FETCH:
        refuse(client, event)
    _move(client, event)
    if event == Event.DEADLINE:
        if rules.throttles_timers and _is_held(client, rules, now):
            return Action.NONE + 0, client.deadline_s
        client.deadline_s = NEVER_S
    if event == Event.STOP:
        actions = _leave(client)
    elif event == Event.START:
        actions = _begin(client, rules, now, value)
    elif Event.DRAG_START <= event <= Event.SHOW:
        actions = _pause(client, rules, event, now)
    elif event == Event.ASSIGNED:
        actions = _assign(client, rules, now, value)
    elif client.transport == Transport.POLLING:
        actions = _poll(client, rules, event, now, value)
    elif state == State.OPEN or event == Event.READY:
        actions = _listen(client, rules, event, now, value)
    else:
        actions = _set_up(client, rules, state, event, now)
    return actions, client.deadline_s


def is_expired(rules: Rules, start_s: float, now: float) -> bool:
    """Say whether the token that a client shows `now` is no longer good.

    Parameters
    ----------
    rules : Rules
        `token_valid_s` is infinite where clients read a fresh token.
    start_s, now : float
        Start of the session and present time, seconds.
    """
    return now - start_s >= rules.token_valid_s


def is_recoverable(client: Client, rules: Rules) -> bool:
    """Say whether changes that have not reached the client yet can still reach it.

    This is what tells `pending` from `lost` when a client is last seen: a poll or a snapshot
    brings everything, a pushed delta comes once and only to an open connection.

    Parameters
    ----------
    client : Client
    rules : Rules

    Returns
    -------
    bool
    """
    if client.transport == Transport.POLLING or client.state == State.ABSENT:
        return True
    if client.state == State.STRANDED:
        return False
    comes_back = rules.resync.kind != Resync.NONE or rules.push_is_snapshot
    comes_back = comes_back or rules.safety_poll_s < NEVER_S
    return client.state == State.OPEN or comes_back or rules.fallback.is_on


def applied_from(client: Client, before: int) -> int:
    """Return from which version on the last step delivered what it resolved.

    Parameters
    ----------
    client : Client
        After the step.
    before : int
        What it had seen before.

    Examples
    --------
    >>> client = Client(0)
    >>> client.seen, client.applied = 7, Applied.LAST
    >>> applied_from(client, 4)
    6
    """
    if client.applied == Applied.ALL:
        return before
    if client.applied == Applied.LAST:
        return client.seen - 1
    return client.seen


def _move(client: Client, event: int) -> None:
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


def _begin(client: Client, rules: Rules, now: float, version: int) -> int:
    client.seen = version
    client.transport = _target(client, rules)
    if client.transport == Transport.POLLING:
        return _fetch(client)
    client.since_s = now
    return _connect(client, rules, now)


def _target(client: Client, rules: Rules) -> int:
    """Return the transport that a client is to use."""
    if rules.has_flag:
        return client.target + 0
    return rules.transport + 0


def _assign(client: Client, rules: Rules, now: float, target: int) -> int:
    """The flag names a transport; whoever uses it already goes on."""
    client.target = target
    if client.transport == target:
        return Action.NONE
    _move(client, Event.SWITCH)
    client.transport = target
    client.failures = 0
    client.fallbacks = 0
    client.since_s = now
    if target == Transport.POLLING:
        return Action.CLOSE | _fetch(client)
    return Action.CLOSE | _connect(client, rules, now)


def _is_held(client: Client, rules: Rules, now: float) -> bool:
    """Say whether the browser holds a timer back that is due; until when, is noted."""
    if not client.pauses & Pause.HIDDEN or client.deadline_s == client.held_s:
        return False
    phase = uniform(rules.seed, rules.replication, client.number, Stream.TIMERS, 0)
    due_s = throttled_s(now, client.hidden_s, phase)
    if due_s <= now:
        return False
    client.deadline_s = client.held_s = due_s
    return True


def _leave(client: Client) -> int:
    client.exchange += 1
    client.deadline_s = NEVER_S
    return Action.CLOSE


def _pause(client: Client, rules: Rules, event: int, now: float) -> int:
    """Dragging and hiding: two bits, and what their end sets off in a polling client."""
    if event == Event.DRAG_START:
        client.pauses |= Pause.DRAGGING
    elif event == Event.DRAG_END:
        client.pauses &= ~Pause.DRAGGING
    elif event == Event.HIDE:
        client.pauses |= Pause.HIDDEN
        if rules.throttles_timers:
            client.hidden_s = now
    else:
        client.pauses &= ~Pause.HIDDEN
        if rules.throttles_timers and client.deadline_s == client.held_s:
            client.deadline_s = now  # what was held back rings at once
    if client.transport != Transport.POLLING:
        return Action.NONE

    if client.state == State.RETRYING and event == Event.SHOW and client.deadline_s == NEVER_S:
        return _fetch(client)  # the retry fell due while the tab was hidden
    if client.state != State.IDLE:
        return Action.NONE  # a fetch is under way, and whatever comes up now joins it
    if event == Event.DRAG_START and rules.pause_while_dragging:
        client.deadline_s = NEVER_S
    elif event == Event.DRAG_END and rules.pause_while_dragging:
        if is_stale(now, client.fetched_s, rules.stale_s):
            return _fetch(client)
        _rearm(client, rules, now)
    elif (
        event == Event.SHOW
        and rules.refetch_on_focus
        and not _is_disabled(client, rules)
        and is_stale(now, client.fetched_s, rules.stale_s)
    ):
        return _fetch(client)
    return Action.NONE


def _poll(client: Client, rules: Rules, event: int, now: float, value: int) -> int:
    if event == Event.FETCHED or event == Event.UNCHANGED:
        client.failures = 0
        client.fetched_s = now
        if event == Event.FETCHED:
            _see(client, value)
        _rearm(client, rules, now)
    elif event == Event.FAILED:
        client.failures += 1
        if client.failures <= rules.retries:
            client.deadline_s = now + retry_delay_s(
                client.failures, rules.retry_base_s, rules.retry_cap_s
            )
        else:
            _move(client, Event.EXHAUST)
            client.failures = 0
            _rearm(client, rules, now)
    elif event == Event.DEADLINE:
        hidden = client.pauses & Pause.HIDDEN
        if client.state == State.RETRYING and hidden:
            return Action.NONE  # held back until the tab is shown
        if client.state == State.IDLE and hidden and rules.pause_while_hidden:
            _rearm(client, rules, now)  # the tick is skipped, the grid goes on
            return Action.NONE
        if (
            rules.fallback.is_on
            and _target(client, rules) == Transport.WEBSOCKET
            and client.state == State.IDLE
            and returns(rules.fallback, client.fallbacks, now - client.since_s)
        ):
            client.transport = Transport.WEBSOCKET + 0
            client.since_s = now
            return Action.CLOSE | _connect(client, rules, now)
        return _fetch(client)
    return Action.NONE


def _fetch(client: Client) -> int:
    _move(client, Event.FETCH)
    client.exchange += 1
    client.deadline_s = NEVER_S
    return Action.FETCH


def _is_disabled(client: Client, rules: Rules) -> bool:
    return bool(client.pauses & Pause.DRAGGING) and rules.pause_while_dragging


def _rearm(client: Client, rules: Rules, now: float) -> None:
    if _is_disabled(client, rules):
        client.deadline_s = NEVER_S
        return
    u = 0.5
    if rules.jitter_frac > 0.0:
        u = uniform(rules.seed, rules.replication, client.number, Stream.POLL_JITTER, client.draws)
        client.draws += 1
    client.deadline_s = next_tick_s(now, rules.interval_s, rules.jitter_frac, u)


def _connect(client: Client, rules: Rules, now: float) -> int:
    _move(client, Event.CONNECT)
    client.exchange += 1
    client.deadline_s = now + rules.open_timeout_s
    return Action.CONNECT


def _set_up(client: Client, rules: Rules, state: int, event: int, now: float) -> int:
    """The stages before OPEN, and the wait between attempts. `state`: before the event."""
    if event == Event.CONNECTED:
        if rules.tls:
            return Action.SECURE
        _move(client, Event.SECURED)
        return Action.UPGRADE
    if event == Event.SECURED:
        return Action.UPGRADE
    if event == Event.UPGRADED:
        if rules.reconnect.reset == Reset.TRANSPORT:
            client.failures = 0
        return Action.AUTHENTICATE
    if event == Event.PING:
        return Action.SEND_PONG
    if event == Event.REJECTED:
        client.deadline_s = NEVER_S
        client.exchange += 1
        return Action.CLOSE
    if event == Event.DEADLINE and state == State.WAITING:
        return _connect(client, rules, now)
    if event == Event.DEADLINE:
        _move(client, Event.TIME_OUT)
    return _back_off(client, rules, now)


def _listen(client: Client, rules: Rules, event: int, now: float, value: int) -> int:
    if Event.SNAPSHOT <= event <= Event.PUSH:
        if event == Event.PUSH and not rules.push_is_snapshot:
            _see_one(client, value)
        else:
            _see(client, value)
    elif event == Event.READY:
        client.since_s = now
        client.has_opened = True
        client.fallbacks = 0
        if rules.reconnect.reset == Reset.READY and rules.reconnect.stable_s == 0.0:
            client.failures = 0
        client.awaiting_pong = False
        if rules.safety_poll_s < NEVER_S:
            client.safety_poll_due_s = now + rules.safety_poll_s
        if not rules.push_is_snapshot:
            _miss(client, value)
        _expect_heartbeat(client, rules, now)
    elif event == Event.PING:
        if rules.heartbeat == Heartbeat.SERVER:
            _expect_heartbeat(client, rules, now)
        return Action.SEND_PONG
    elif event == Event.PONG:
        client.awaiting_pong = False
        _expect_heartbeat(client, rules, now)
    elif (
        event == Event.DEADLINE
        and rules.safety_poll_s < NEVER_S
        and client.safety_poll_due_s <= now
    ):
        client.safety_poll_due_s = now + rules.safety_poll_s
        _watch(client, rules, client.beat_s, now)
        return Action.SAFETY_POLL
    elif event == Event.DEADLINE and rules.heartbeat == Heartbeat.CLIENT:
        if not client.awaiting_pong:
            client.awaiting_pong = True
            _watch(client, rules, now + rules.heartbeat_timeout_s, now)
            return Action.SEND_PING
        _move(client, Event.TIME_OUT)
        return _lose(client, rules, now)
    elif event == Event.DEADLINE:
        _move(client, Event.TIME_OUT)
        return _lose(client, rules, now)
    else:
        return _lose(client, rules, now)
    return Action.NONE


def _expect_heartbeat(client: Client, rules: Rules, now: float) -> None:
    """Engine.IO's and websockets' rule: the period counts from the last pong (or ping) heard."""
    if rules.heartbeat == Heartbeat.CLIENT:
        _watch(client, rules, now + rules.heartbeat_interval_s, now)
    elif rules.heartbeat == Heartbeat.SERVER:
        beat_s = now + rules.heartbeat_interval_s + rules.heartbeat_timeout_s
        _watch(client, rules, beat_s, now)
    else:
        _watch(client, rules, NEVER_S, now)


def _watch(client: Client, rules: Rules, beat_s: float, now: float) -> None:
    """Wait for the heartbeat that is due at `beat_s`, or for the safety poll before it.

    Either may be overdue where a browser has held the timer back: then it rings now.
    """
    client.deadline_s = beat_s
    if rules.safety_poll_s < NEVER_S:
        client.beat_s = beat_s
        client.deadline_s = max(now, min(beat_s, client.safety_poll_due_s))


def _lose(client: Client, rules: Rules, now: float) -> int:
    """An open connection is gone: start counting, and perhaps anew."""
    rule = rules.reconnect
    if rule.reset == Reset.READY and now - client.since_s >= rule.stable_s:
        client.failures = 0
    client.since_s = now
    if retries_at_once(rule.policy):
        return _wait(client, now)  # only failures count, and the loss is none
    return _back_off(client, rules, now)


def _back_off(client: Client, rules: Rules, now: float) -> int:
    """In WAITING: there is no connection; wait for the next attempt, or give up."""
    rule = rules.reconnect
    away_s = now - client.since_s
    if falls_back(rules.fallback, client.failures + 1, client.fallbacks, away_s):
        return _fall_back(client, now)
    if (
        rule.policy == Policy.NONE
        or client.failures >= rule.attempts
        or away_s >= rule.give_up_s
        or not (rule.from_start or client.has_opened)
    ):
        if rules.fallback.is_on:
            return _fall_back(client, now)
        client.exchange += 1
        _move(client, Event.GIVE_UP)
        client.deadline_s = NEVER_S
        return Action.CLOSE
    wait_s = 0.0
    if is_drawn(rule.policy):
        wait_s += drawn_delay_s(
            rule, client.failures, rules.seed, rules.replication, client.number, client.draws
        )
        client.draws += 1
    else:
        wait_s += delay_s(rule, client.failures, 0.0)
    client.failures += 1
    return _wait(client, now + wait_s)


def _fall_back(client: Client, now: float) -> int:
    _move(client, Event.FALL_BACK)
    client.transport = Transport.POLLING + 0
    client.fallbacks = min(client.fallbacks + 1, 100)
    client.failures = 0
    client.since_s = now
    return Action.CLOSE | _fetch(client)


def _wait(client: Client, until_s: float) -> int:
    client.exchange += 1
    client.deadline_s = until_s
    return Action.CLOSE


def _see(client: Client, version: int) -> None:
    """The whole state up to `version` was shown: every change up to it is delivered."""
    client.applied = Applied.ALL
    client.seen = max(client.seen, version)


def _see_one(client: Client, version: int) -> None:
    """Change number `version` alone was shown: what lies between was never sent to this client."""
    if version > client.seen:
        client.applied = Applied.LAST
        client.seen = version


def _miss(client: Client, version: int) -> None:
    """The server pushes from `version` on and nothing brings back what came before."""
    client.applied = Applied.NONE
    client.seen = max(client.seen, version)
