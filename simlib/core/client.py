"""One client, one event: the only place that knows how a client behaves.

`step` takes a client's row of state, an event and the time; it moves the row on, and returns the
actions to carry out and at most one deadline. It never sleeps, reads a clock, owns a generator
or touches a socket: SimPy and asyncio drive the very same function.

How a driver uses it:

1. feed an event through `driver.advance`: it calls `step`, and records what comes of it: changes
   up to `applied_from` are lost, those from there up to ``row.seen`` are delivered now;
2. if the timer is rearmed, arm ``row.deadline_s`` in place of the one before; when it comes, feed
   ``DEADLINE``;
3. carry out the actions, and feed back what comes of them with the exchange number that the row
   had when the action was asked for; drop what belongs to another exchange.

Versions count changes: version v means "the first v changes of the run". `value` is the version
that an event carries: what a response, a snapshot or a replay brings the client up to, the number
of one pushed change, or (READY) what the client will never be sent; for a client that fetches what
it is told of, PUSH and READY carry the number of the latest change. ASSIGNED carries a cohort, and
CLOSED the HTTP status if an upgrade was refused, else 0.
"""

from __future__ import annotations

from simlib.core.activity import throttled_s
from simlib.core.client_state import (
    NEVER_S,
    Applied,
    Client,
    Differs,
    Rules,
    assigned_transport,
    fetch,
    move,
    refuse,
)
from simlib.core.draws import Stream, uniform
from simlib.core.long_polling import on_held, set_out
from simlib.core.notify import concerns_data, on_data, on_pause
from simlib.core.polling import (
    change_poll_rules,
    is_disabled,
    is_stale,
    on_poll,
    rearm,
    start_ticks,
    stir,
)
from simlib.core.protocol import Action, Event, Pause, State, Transport, fetches, holds
from simlib.core.reconnect import runs_on
from simlib.core.resync import Resync
from simlib.core.websocket import change_socket_rules, hear, on_handshake, on_socket


def step(client: Client, rules: Rules, event: int, now: float, value: int = 0) -> tuple[int, float]:
    """Move one client on by one event.

    Parameters
    ----------
    client : Client
        The row; changed in place.
    rules : Rules
        Those of its cohort; of the cohort that it belongs to from now on, if it is assigned.
    event : Event
        What happened.
    now : float
        When, seconds.
    value : int, optional
        The version that the event carries (FETCHED, SNAPSHOT, REPLAY, PUSH), that the client's
        page starts from (START), or up to which nothing brings back what it missed (READY; for a
        client that fetches what it is told of, the latest change); or the cohort that the client
        belongs to from now on (ASSIGNED); or the HTTP status of an upgrade that was refused
        (CLOSED).

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
    if not _moves(client, rules, event, now):
        return Action.NONE + 0, client.deadline_s
    if event == Event.STOP:
        actions = _leave(client)
    elif event == Event.START:
        actions = _begin(client, rules, now, value)
    elif Event.DRAG_START <= event <= Event.SHOW:
        actions = _pause(client, rules, event, now)
    elif event == Event.ASSIGNED:
        actions = _assign(client, rules, now, value)
    elif client.transport == Transport.POLLING:
        actions = on_poll(client, rules, event, now, value)
    elif holds(client.transport):
        actions = on_held(client, rules, event, now, value)
    elif state == State.OPEN or event == Event.READY:
        if rules.any_message and _is_on_socket(rules, event):
            hear(client, rules, now)
        if fetches(client.transport) and concerns_data(client, event, now):
            actions = on_data(client, rules, event, now, value)
        else:
            actions = on_socket(client, rules, event, now, value)
    else:
        actions = on_handshake(client, rules, state, event, now, value)
    return actions, client.deadline_s


def step_poll(
    client: Client, rules: Rules, event: int, now: float, value: int = 0
) -> tuple[int, float]:
    """Do what `step` does if a polling client's timer, response or failure is all that can come.

    Parameters
    ----------
    client, rules, event, now, value
        As `step` has them; the client polls, and `event` is DEADLINE, FETCHED, UNCHANGED or FAILED.

    Returns
    -------
    actions : int
    deadline_s : float
    """
    actions = Action.NONE + 0
    if _moves(client, rules, event, now):
        actions = on_poll(client, rules, event, now, value)
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
    comes_back = comes_back or fetches(client.transport) or holds(client.transport)
    return client.state == State.OPEN or comes_back or rules.fallback.is_on


def fetches_boards(transport: int, rules: Rules) -> bool:
    """Say whether what a client of a transport fetches is the whole board, with all it has missed.

    What answers a request that was held may be only what came after the version that it names.

    Examples
    --------
    >>> from simlib.scenario import Scenario, compile_workload
    >>> rules = compile_workload(Scenario(updates={"rate_per_s": 0.1}), 1, 0).rules
    >>> fetches_boards(Transport.POLLING, rules), fetches_boards(Transport.LONG_POLLING, rules)
    (True, False)
    """
    return bool(not holds(transport) or rules.push_is_snapshot)


def mends_gaps(client: Client, rules: Rules) -> bool:
    """Say whether what a client has missed among what it has seen can still reach it.

    See `record.fill_gaps`: the whole board brings it, which a request that is held may not ask for.
    """
    boards_come = fetches_boards(client.transport, rules) or rules.fallback.is_on
    return bool(is_recoverable(client, rules) and boards_come)


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


def _begin(client: Client, rules: Rules, now: float, version: int) -> int:
    client.seen = version
    client.transport = assigned_transport(client, rules)
    if client.transport == Transport.POLLING:
        start_ticks(client, rules, now)
        return fetch(client)
    client.since_s = now
    return set_out(client, rules, now)


def _assign(client: Client, rules: Rules, now: float, cohort: int) -> int:
    """The flag puts the client into a cohort; a client that uses its transport already goes on."""
    client.cohort = cohort
    target = assigned_transport(client, rules)
    if client.transport == target and not _connects_anew(client, rules):
        if target == Transport.POLLING:
            return change_poll_rules(client, rules, now)
        change_socket_rules(client, rules, now)
        return Action.NONE
    move(client, Event.SWITCH)
    if runs_on(rules.reconnect.policy):
        client.check_s = NEVER_S
    client.fetch_due_s = NEVER_S
    if holds(client.transport):
        client.beat_s = NEVER_S
    client.transport = target
    client.failures = 0
    client.fallbacks = 0
    client.since_s = now
    if target == Transport.POLLING:
        return Action.CLOSE | fetch(client)
    return Action.CLOSE | set_out(client, rules, now)


def _connects_anew(client: Client, rules: Rules) -> bool:
    """Say whether the client needs a new connection, as the other side sends the pings from now on.

    The side that pings is settled when a connection opens. On the old one, a client would wait for
    pings that its server does not send, and would take the connection for dead.
    """
    is_connected = State.CONNECTING <= client.state <= State.OPEN
    return is_connected and rules.differs & Differs.WHO_PINGS > 0


def _is_on_socket(rules: Rules, event: int) -> bool:
    """Say whether an event is a message on the socket; a board may be the answer to a safety poll.

    Heartbeats are signs of life by themselves, and so is READY.
    """
    is_board = bool(event == Event.SNAPSHOT)
    is_message = bool(event == Event.PUSH or event == Event.REPLAY)
    return is_message or (is_board and rules.safety_poll_s == NEVER_S)


def _moves(client: Client, rules: Rules, event: int, now: float) -> bool:
    """Move a client on by the table; say whether anything follows: its timer may be held back."""
    move(client, event)
    if event == Event.DEADLINE:
        if rules.throttles_timers and _is_held(client, rules, now):
            return False
        client.deadline_s = NEVER_S
    return True


def _is_held(client: Client, rules: Rules, now: float) -> bool:
    """Say whether the browser delays a timer that is due; if so, set the deadline to its end."""
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
            client.deadline_s = now  # a delayed timer fires at once
    if event == Event.SHOW and client.state == State.WAITING and not rules.reconnect.while_hidden:
        client.failures = 0
        client.deadline_s = now
    if fetches(client.transport) and client.state == State.OPEN:
        return on_pause(client, rules, event, now)
    if client.transport != Transport.POLLING:
        return Action.NONE

    if event == Event.DRAG_END:
        stir(client, rules, now)
    if client.state == State.RETRYING and event == Event.SHOW and client.deadline_s == NEVER_S:
        return fetch(client)  # the retry fell due while the tab was hidden
    if client.state != State.IDLE:
        return Action.NONE  # a fetch is under way, which serves this cause too
    if event == Event.DRAG_START and rules.pause_while_dragging:
        client.deadline_s = NEVER_S
    elif event == Event.DRAG_END and rules.pause_while_dragging:
        if is_stale(now, client.fetched_s, rules.stale_s):
            return fetch(client)
        rearm(client, rules, now)
    elif (
        event == Event.SHOW
        and rules.refetch_on_focus
        and not is_disabled(client, rules)
        and is_stale(now, client.fetched_s, rules.stale_s)
    ):
        return fetch(client)
    return Action.NONE
