"""A client whose requests the server holds: long polling.

A request names the version that the client has seen. If there is a newer one, the server answers at
once; else it holds the request until a change comes, or for `Rules.hold_s`, after which the answer
is empty. The next request follows as soon as the answer has come, or `Rules.ask_pause_s` later.
What is published between an answer and the arrival of the next request, in the *gap*, is newer
than the version that this request names: it is answered at once, and several changes in one answer.
So nothing is lost, and no node need have served the client before: each learns of every change by
the broker, and a client's next connection may come to another node. (Socket.IO's long polling names
a session instead, which one server has in its memory, and so it needs sticky balancing.)

A request that is refused or cut has *failed*, and so has one without an answer for
`Rules.answer_timeout_s`, as on a dead path: the server's time to hold it and some grace, CometD's
``maxNetworkDelay``. The next one follows by the reconnect policy, as the transports of libraries
do it: in engine.io-client 6.6.8 an error of a poll closes the transport, and socket.io-client's
manager reconnects; a poll that fails closes SignalR's connection, which reconnects by its table;
CometD waits ``backoffIncrement`` longer after each failure. A poll of TanStack Query would give up
after three retries until its interval is over, and a client that is told has no interval. The count
of failures starts anew with an answer. A client that gives up, or falls back, polls or is stranded
as one with a socket is.

Until its first answer a client cannot tell a request that is held from one that is lost. So the
time until then, from its start or from its last failure, counts as time without a connection
(``fallback.after_s``, ``reconnect.give_up_s``), and a further failure as one in a row. Libraries
that have a handshake (Engine.IO, CometD), or whose server answers the first poll at once (SignalR),
know sooner.

Neither dragging a card nor hiding the tab stops the requests, as nothing stops a socket's messages:
an answer is no timer, and ``enabled`` and ``refetchIntervalInBackground`` belong to a query that is
polled. Timers may be throttled in hidden tabs: the pause, the time-out, the wait after a failure.

The time-out is like a heartbeat's: answers put it off without setting the timer anew, which then
fires too early, and the client goes on waiting. So a client has one timer, however often it asks.
"""

from __future__ import annotations

from simlib.core.client_state import (
    NEVER_S,
    Client,
    Rules,
    connect,
    move,
    refuse,
    see_all,
)
from simlib.core.protocol import Action, Event, Pause, State, holds
from simlib.core.reconnect import Reset, retries_at_once
from simlib.core.websocket import back_off

_TOO_LATE = 1
"""In `fetch_failures`: nothing has been answered since a failure, or since the first request."""


def set_out(client: Client, rules: Rules, now: float) -> int:
    """Begin to be told of changes: by requests that are held, or by a socket."""
    if not holds(client.transport):
        return connect(client, rules, now)
    client.fetch_failures = _TOO_LATE
    return _ask(client, rules, now)


def on_held(client: Client, rules: Rules, event: int, now: float, value: int) -> int:
    """Handle an event of a client whose requests are held: an answer, a failure, its timer."""
    if event == Event.FETCHED or event == Event.UNCHANGED:
        if event == Event.FETCHED:
            see_all(client, value)
        client.fetched_s = now
        if client.fetch_failures > 0:
            _is_back(client, rules, now)
        if rules.ask_pause_s > 0.0:
            client.deadline_s = now + rules.ask_pause_s
            return Action.NONE + 0
        return _ask(client, rules, now)
    if event == Event.DEADLINE and client.state == State.FETCHING:
        if now < client.beat_s:
            client.deadline_s = client.beat_s + 0.0  # answers have put it off
            return Action.NONE + 0
        move(client, Event.TIME_OUT)
        return _fail(client, rules, now) | Action.CLOSE
    if event == Event.DEADLINE:
        is_put_off = client.pauses & Pause.HIDDEN > 0 and not rules.reconnect.while_hidden
        if client.state == State.WAITING and is_put_off:
            return Action.NONE + 0  # until the tab is shown
        return _ask(client, rules, now)
    if event != Event.CLOSED:
        refuse(client, event)
    return _fail(client, rules, now)


def _ask(client: Client, rules: Rules, now: float) -> int:
    """Send a request."""
    move(client, Event.FETCH)
    client.exchange += 1
    client.beat_s = now + rules.answer_timeout_s
    if not now <= client.deadline_s <= client.beat_s:
        client.deadline_s = client.beat_s + 0.0
    return Action.FETCH + 0


def _is_back(client: Client, rules: Rules, now: float) -> None:
    """The server answers: for the first time, or again."""
    client.fetch_failures = 0
    client.since_s = now
    client.has_opened = True
    client.fallbacks = 0
    if rules.reconnect.reset != Reset.NEVER and rules.reconnect.stable_s == 0.0:
        client.failures = 0


def _fail(client: Client, rules: Rules, now: float) -> int:
    """In WAITING: a request has failed. A connection that was only refused something stays open."""
    rule, was_back = rules.reconnect, client.fetch_failures == 0
    client.fetch_failures = _TOO_LATE
    client.beat_s = NEVER_S
    if was_back:
        if rule.reset == Reset.READY and now - client.since_s >= rule.stable_s:
            client.failures = 0
        client.since_s = now
    if was_back and retries_at_once(rule.policy):
        client.exchange += 1
        client.deadline_s = now  # only failed attempts delay the next one, and a loss is none
        return Action.NONE + 0
    actions = back_off(client, rules, now, False, 0.0)
    if client.state == State.WAITING:
        return Action.NONE + 0
    return actions + 0
