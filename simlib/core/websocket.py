"""A client that is pushed to: its handshake, its open socket, the wait between two attempts.

Heartbeats follow Engine.IO and websockets: the period counts from the last ping or pong heard. With
`Rules.any_message` it counts from the last message of any kind, as in SignalR and others. Such
messages come often, so the timer is not set anew for each: it fires, and the client waits on.

ActionCable has one timer for all: it checks, now and then, whether the connection is stale, and
then opens another one. So a stale connection goes unnoticed until the next check, and a lost one is
tried again at a check too. Between checks nothing depends on them, so they are counted only when
needed. When the next attempt comes is for `reconnect` to say, and when the client polls instead,
for `fallback`.
"""

from __future__ import annotations

from simlib.core.client_state import (
    NEVER_S,
    Client,
    Differs,
    Rules,
    connect,
    fetch,
    miss_up_to,
    move,
    refuse,
    see_all,
    see_one,
)
from simlib.core.fallback import falls_back
from simlib.core.protocol import (
    Action,
    Event,
    Heartbeat,
    Pause,
    State,
    Transport,
    fetches,
    is_stream,
)
from simlib.core.reconnect import (
    Policy,
    Reset,
    delay_s,
    drawn_delay_s,
    is_drawn,
    retries_at_once,
    runs_on,
)
from simlib.core.streams import heard_pings, is_final

_CHECKS_BACK = 64.0
"""How many of the shortest delays back checks are counted, at most: older ones are forgotten."""


def on_handshake(
    client: Client, rules: Rules, state: int, event: int, now: float, value: int
) -> int:
    """The stages before OPEN, and the wait between attempts.

    `state` is that before the event; `value`, with CLOSED, the HTTP status of a refused upgrade.
    """
    if event == Event.CONNECTED and rules.tls:
        return Action.SECURE
    if event == Event.CONNECTED:
        move(client, Event.SECURED)
    if event == Event.CONNECTED or event == Event.SECURED:
        _expect_upgrade(client, rules, now)
        return Action.UPGRADE
    if event == Event.UPGRADED:
        if rules.ready_timeout_s < NEVER_S:
            client.deadline_s = now + rules.ready_timeout_s
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
        if client.pauses & Pause.HIDDEN and not rules.reconnect.while_hidden:
            return Action.NONE  # until the tab is shown
        return connect(client, rules, now)
    if event == Event.DEADLINE:
        move(client, Event.TIME_OUT)
    is_refused_for_good = 400 <= value < 500 and not rules.reconnect.retries_4xx
    if is_refused_for_good or _ends_stream(client, rules, value):
        return _give_up(client, rules, now)
    # Where the count starts anew with the transport, what fails after it is a lost connection.
    rule = rules.reconnect
    is_loss = state == State.AUTHENTICATING and rule.reset == Reset.TRANSPORT
    return back_off(client, rules, now, is_loss and retries_at_once(rule.policy), 0.0)


def begin_upgrade(client: Client, rules: Rules, open_s: float) -> None:
    """A client that connects has TCP, and TLS if there is any, from `open_s` on, seconds.

    It does what `step` does with CONNECTED and SECURED; the driver counts and sends.
    """
    move(client, Event.CONNECTED)
    move(client, Event.SECURED)
    _expect_upgrade(client, rules, open_s)


def _expect_upgrade(client: Client, rules: Rules, now: float) -> None:
    """Wait for the answer to an upgrade for as long as the rules say, if they say so."""
    if rules.upgrade_timeout_s < NEVER_S:
        client.deadline_s = now + rules.upgrade_timeout_s


def refused_attempt(client: Client, rules: Rules, now: float) -> None:
    """Begin and end an attempt of a client that waits for it: it is refused `now`, seconds.

    It does what `step` does with DEADLINE, CONNECTED, SECURED and CLOSED, the latter with a status
    for which clients try again, if a socket is meant and no tab is hidden.
    """
    client.exchange += 1
    back_off(client, rules, now, False, 0.0)


def on_socket(client: Client, rules: Rules, event: int, now: float, value: int) -> int:
    """Handle an event of an open connection: a message, a heartbeat, its timer, its end."""
    if Event.SNAPSHOT <= event <= Event.PUSH:
        if rules.safety_poll_restart:
            client.fetch_due_s = now + rules.safety_poll_s
        if event == Event.PUSH and not rules.push_is_snapshot:
            see_one(client, value)
        else:
            see_all(client, value)
    elif event == Event.READY:
        if rules.safety_poll_s < NEVER_S or rules.differs & Differs.SAFETY_POLL:
            client.fetch_due_s = now + rules.safety_poll_s
        if not rules.push_is_snapshot:
            miss_up_to(client, value)
        opened(client, rules, now)
    elif event == Event.PING:
        if _pings(client, rules) == Heartbeat.SERVER:
            _expect_heartbeat(client, rules, now)
        return Action.NONE + 0 if is_stream(client.transport) else Action.SEND_PONG + 0
    elif event == Event.PONG:
        client.awaiting_pong = False
        _expect_heartbeat(client, rules, now)
    elif event == Event.DEADLINE and rules.safety_poll_s < NEVER_S and client.fetch_due_s <= now:
        client.fetch_due_s = now + rules.safety_poll_s
        watch(client, rules, client.beat_s, now)
        return Action.SAFETY_POLL
    elif event == Event.DEADLINE and _keeps_beat(client, rules) and now < client.beat_s:
        watch(client, rules, client.beat_s, now)  # what was due has been put off meanwhile
    elif event == Event.DEADLINE and _pings(client, rules) == Heartbeat.CLIENT:
        if not client.awaiting_pong:
            client.awaiting_pong = True
            watch(client, rules, now + rules.heartbeat_timeout_s, now)
            return Action.SEND_PING
        move(client, Event.TIME_OUT)
        return _lose(client, rules, now, False, rules.closing_s)
    elif event == Event.DEADLINE:
        is_watched = _pings(client, rules) == Heartbeat.SERVER
        is_checking = runs_on(rules.reconnect.policy) and is_watched
        if is_checking and _awaits_check(client, rules, now):
            return Action.NONE
        move(client, Event.TIME_OUT)
        return _lose(client, rules, now, is_checking, rules.closing_s)
    elif event == Event.CLOSED and _ends_stream(client, rules, value):
        client.since_s = now
        return _give_up(client, rules, now)
    elif event == Event.CLOSED:
        return _lose(client, rules, now, False, 0.0)
    else:
        refuse(client, event)  # a reply to a fetch, which a client that is pushed to never makes
    return Action.NONE


def opened(client: Client, rules: Rules, now: float) -> None:
    """A socket is open, and its heartbeats begin."""
    if runs_on(rules.reconnect.policy):
        _count_checks(client, rules, now)
    client.since_s = now
    client.has_opened = True
    client.fallbacks = 0
    # The head of a stream's answer is READY.
    is_up = rules.reconnect.reset == Reset.TRANSPORT and is_stream(client.transport)
    is_reset = rules.reconnect.reset == Reset.READY and rules.reconnect.stable_s == 0.0
    if is_up or is_reset:
        client.failures = 0
    client.awaiting_pong = False
    if rules.any_message:
        client.beat_s = now + 0.0
    _expect_heartbeat(client, rules, now)


def hear(client: Client, rules: Rules, now: float) -> None:
    """A message has arrived, and any message is a sign of life."""
    pings = _pings(client, rules)
    if pings == Heartbeat.SERVER:
        beat_s = now + rules.heartbeat_interval_s + rules.heartbeat_timeout_s
        client.beat_s = max(client.beat_s, beat_s)
    elif pings == Heartbeat.CLIENT and client.awaiting_pong:
        client.awaiting_pong = False  # it need not be answered any more
        _expect_heartbeat(client, rules, now)
    elif pings == Heartbeat.CLIENT:
        client.beat_s = now + rules.heartbeat_interval_s


def change_socket_rules(client: Client, rules: Rules, now: float) -> None:
    """A client with a socket obeys other rules from now on, which the flag gave to its tab.

    An open connection stays. Its heartbeat changes at the next beat: a ping of the server's that is
    under way may still come after the old interval, so the client waits for the later of the two.
    A fetch of what the client was told of stays due when it was.
    """
    if client.state != State.OPEN:
        return
    beat_s = client.deadline_s
    if client.fetch_due_s < NEVER_S or fetches(client.transport) or _may_put_off(rules):
        beat_s = client.beat_s
    awaits_data = client.fetch_number > 0 or client.told > client.seen
    if rules.differs & Differs.SAFETY_POLL and not (fetches(client.transport) and awaits_data):
        client.fetch_due_s = now + rules.safety_poll_s
    if rules.differs & Differs.HEARTBEAT and _pings(client, rules) == Heartbeat.SERVER:
        beat_s = max(beat_s, now + rules.heartbeat_interval_s + rules.heartbeat_timeout_s)
    if rules.differs & (Differs.SAFETY_POLL | Differs.HEARTBEAT):
        watch(client, rules, beat_s, now)


def _expect_heartbeat(client: Client, rules: Rules, now: float) -> None:
    """Engine.IO's and websockets' rule: the period counts from the last pong (or ping) heard."""
    pings = _pings(client, rules)
    if pings == Heartbeat.CLIENT:
        watch(client, rules, now + rules.heartbeat_interval_s, now)
    elif pings == Heartbeat.SERVER:
        beat_s = now + rules.heartbeat_interval_s + rules.heartbeat_timeout_s
        put_off_s = client.beat_s  # by a message that an engine took a little ahead of its time
        watch(client, rules, beat_s, now)
        if rules.any_message:
            client.beat_s = max(put_off_s, beat_s)
    else:
        watch(client, rules, NEVER_S, now)


def _pings(client: Client, rules: Rules) -> int:
    """Return whose pings tell the client that its connection lives."""
    return heard_pings(client.transport, rules.heartbeat, rules.watches)


def _ends_stream(client: Client, rules: Rules, status: int) -> bool:
    """Say whether the client's stream has been answered, or ended, for good."""
    return is_final(client.transport, rules.retries_http_errors, rules.retries_ended, status)


def watch(client: Client, rules: Rules, beat_s: float, now: float) -> None:
    """Wait for the heartbeat that is due at `beat_s`, or for the fetch before it.

    Either may be overdue if a browser has delayed the timer: then it fires now.
    """
    client.deadline_s = beat_s
    if _keeps_beat(client, rules):
        client.beat_s = beat_s
    if rules.safety_poll_s < NEVER_S or fetches(client.transport):
        client.deadline_s = max(now, min(beat_s, client.fetch_due_s))


def _keeps_beat(client: Client, rules: Rules) -> bool:
    """Say whether the timer may be due when the heartbeat is not."""
    fetches_too = rules.safety_poll_s < NEVER_S or fetches(client.transport)
    return bool(fetches_too or _may_put_off(rules))


def _may_put_off(rules: Rules) -> bool:
    """Say whether the timer may not be that of the heartbeat, under the rules of either cohort."""
    is_told = rules.any_message or runs_on(rules.reconnect.policy)
    return bool(is_told or rules.differs & Differs.SIGN_OF_LIFE)


def _lose(client: Client, rules: Rules, now: float, at_once: bool, closing_s: float) -> int:
    """An open connection is lost: start to retry, with a count of failures that may start anew.

    The client first waits for `closing_s` until the connection has closed. With `at_once` nothing
    follows but the next attempt.
    """
    rule = rules.reconnect
    if rule.reset == Reset.READY and now - client.since_s >= rule.stable_s:
        client.failures = 0
    client.since_s = now
    if retries_at_once(rule.policy):
        # Only failed attempts delay the next one, and a loss is none.
        return _wait(client, now + closing_s)
    return back_off(client, rules, now, at_once, closing_s)


def back_off(client: Client, rules: Rules, now: float, at_once: bool, closing_s: float) -> int:
    """In WAITING: nothing reaches the client; wait for the next attempt, or give up.

    With `at_once`, there is no wait but `closing_s`.
    """
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
        return _give_up(client, rules, now)
    if at_once:
        if runs_on(rule.policy):
            _count_stale_check(client, rules, now)
        return _wait(client, now + closing_s)
    if runs_on(rule.policy):
        return _wait(client, _next_attempt_s(client, rules, now) + closing_s)
    wait_s = closing_s + 0.0
    if is_drawn(rule.policy):
        wait_s += drawn_delay_s(
            rule, client.failures, rules.seed, rules.replication, client.number, client.draws
        )
        client.draws += 1
    else:
        wait_s += delay_s(rule, client.failures, 0.0)
    client.failures += 1
    return _wait(client, now + wait_s)


def _give_up(client: Client, rules: Rules, now: float) -> int:
    """The library gives up; the application may poll instead."""
    if rules.fallback.is_on:
        return _fall_back(client, now)
    client.exchange += 1
    move(client, Event.GIVE_UP)
    client.deadline_s = NEVER_S
    return Action.CLOSE


def _fall_back(client: Client, now: float) -> int:
    move(client, Event.FALL_BACK)
    client.check_s = NEVER_S
    client.fetch_due_s = NEVER_S
    client.transport = Transport.POLLING + 0
    client.fallbacks = min(client.fallbacks + 1, 100)
    client.failures = 0
    client.since_s = now
    return Action.CLOSE | fetch(client)


def _wait(client: Client, until_s: float) -> int:
    client.exchange += 1
    client.deadline_s = until_s
    return Action.CLOSE


# -- checks of the connection, by a timer that runs on ---------------------------------------------


def _stale_from_s(client: Client, rules: Rules) -> float:
    """Return from when on a connection counts as stale, or the lack of one, seconds."""
    if _pings(client, rules) == Heartbeat.SERVER and client.beat_s < NEVER_S:
        return client.beat_s + 0.0
    return client.since_s + rules.reconnect.base_s


def _count_checks(client: Client, rules: Rules, until_s: float) -> None:
    """Count the checks up to `until_s`, which have changed nothing but the count of failures."""
    rule, stale_s = rules.reconnect, _stale_from_s(client, rules)
    if client.check_s == NEVER_S:
        client.check_s = client.since_s + _interval_s(client, rules)
    client.check_s = max(client.check_s, until_s - _CHECKS_BACK * rule.base_s)
    while client.check_s <= until_s:
        if client.check_s > stale_s:
            client.failures += 1
        client.check_s += _interval_s(client, rules)


def _awaits_check(client: Client, rules: Rules, now: float) -> bool:
    """Say whether a connection that is stale will be checked later; the timer is set for that."""
    _count_checks(client, rules, client.beat_s)
    client.deadline_s = client.check_s + 0.0
    if rules.safety_poll_s < NEVER_S or fetches(client.transport):
        client.deadline_s = min(client.deadline_s, client.fetch_due_s)
    return bool(client.check_s > now)


def _count_stale_check(client: Client, rules: Rules, t: float) -> None:
    """A check at `t` has found the connection stale; the next one follows."""
    client.failures += 1
    client.check_s = t + _interval_s(client, rules)


def _next_attempt_s(client: Client, rules: Rules, now: float) -> float:
    """Return the time of the check that opens another connection.

    It finds the old one stale, and lost for at least the shortest delay.
    """
    _count_checks(client, rules, max(now, _stale_from_s(client, rules)))
    while True:
        t = client.check_s + 0.0
        _count_stale_check(client, rules, t)
        if t - client.since_s >= rules.reconnect.base_s:
            return t


def _interval_s(client: Client, rules: Rules) -> float:
    """Draw the time from one check to the next; it is never below the shortest delay."""
    rule = rules.reconnect
    wait_s = drawn_delay_s(
        rule, client.failures, rules.seed, rules.replication, client.number, client.draws
    )
    client.draws += 1
    return max(rule.base_s, wait_s)
