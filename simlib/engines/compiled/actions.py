"""Stages 3 and 4: the client is fed, does what the rules say, and the journey goes on.

`feed` puts an event through `core.driver.advance` and carries out the actions; READY is followed by
what the client has missed. `follow_up` sends the polls that are due, and schedules what belongs to
the event that was handled.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from simlib.core import record as recording
from simlib.core.activity import episode_s
from simlib.core.balancing import take_back
from simlib.core.browser import (
    BESIDE,
    CLAIMS,
    MAIN,
    ask,
    connections_asked,
    key_of,
    next_in_line,
    place_asked,
    settle,
)
from simlib.core.client_state import NEVER_S
from simlib.core.connection import (
    closes_with_frames,
    end_of_kept,
    is_at_proxy,
    opening_request,
    take_beside,
)
from simlib.core.draws import Stream
from simlib.core.driver import advance, cause_of
from simlib.core.polling import is_kept, request_of
from simlib.core.protocol import Action, Event, State, Transport, holds, is_stream
from simlib.core.record import Cause, Count, value_of
from simlib.core.resync import Resume
from simlib.core.streams import sent_as
from simlib.core.wire import Message
from simlib.engines.compiled.balancing import use_again
from simlib.engines.compiled.event_list import WHEEL
from simlib.engines.compiled.numba_support import inlined, seldom
from simlib.engines.compiled.state import (
    ALARM,
    IS_HELD,
    OTHERS,
    REQUEST_BITS,
    RESUME_BITS,
    TRIP,
    Kind,
    disconnect,
    end_fetches,
    is_queued,
    put,
)
from simlib.engines.compiled.turn import (
    CARRIES,
    FAILS,
    FIRST,
    GENERAL,
    POLLS,
    PUSHES,
    REQUESTS,
    SETS_OUT,
    Outcome,
    Turn,
    World,
)


class Outgoing(NamedTuple):
    """How many events are to be scheduled; `flags` as in `Outcome`."""

    n: int
    flags: int


@inlined
def feed(world: World, turn: Turn, outcome: Outcome) -> Outgoing:
    """Feed the client an event, and the changes that it missed before; carry out its actions."""
    row, number = world.arrays.rows[turn.number], turn.number
    event, value = outcome.event, outcome.value
    outgoing = Outgoing(outcome.n, outcome.flags)
    if outcome.message >= 0:
        outgoing = _count(world, turn, outgoing, outcome.message, 1)
    if outcome.flags & FAILS:
        recording.count(world.record, Count.ERRORS, number, turn.now)
        event = Event.FAILED + 0
        if PUSHES and (not POLLS or row.transport != Transport.POLLING):
            event = Event.CLOSED + 0
    if GENERAL and outcome.flags & SETS_OUT:
        outgoing = _set_out(world, turn, False, outgoing)
    if event >= 0:
        outgoing, event, value = _feed_one(world, turn, event, value, outgoing)
    if PUSHES and event >= 0:
        outgoing = _feed_missed(world, turn, event, value, outgoing)
    return outgoing


@seldom
def _feed_missed(world: World, turn: Turn, event: int, value: int, outgoing: Outgoing) -> Outgoing:
    """Feed the client what it has missed; nothing follows that at once."""
    # It is one of these two: then the compiler drops all that the rules do with other events.
    missed = Event.REPLAY + 0 if event == Event.REPLAY else Event.SNAPSHOT + 0
    return _feed_one(world, turn, missed, value, outgoing)[0]


@inlined
def _feed_one(
    world: World, turn: Turn, event: int, value: int, outgoing: Outgoing
) -> tuple[Outgoing, int, int]:
    """Feed the client one event; return also which follows at once, -1 for none, and its value."""
    row, number = world.arrays.rows[turn.number], turn.number
    was, n = row.transport + 0, outgoing.n
    actions, is_rearmed = advance(row, world.rules, world.record, event, turn.now, value)
    if is_rearmed and row.deadline_s < NEVER_S:
        n = put(world.arrays.out, n, ALARM, row.deadline_s, Kind.DEADLINE, 0, 0)
    outgoing = Outgoing(n, outgoing.flags)
    if actions != Action.NONE or (GENERAL and world.options.browser.connections > 0):
        outgoing = _carry_out(world, turn, event, actions, was, outgoing)
    resume = turn.data & ((1 << RESUME_BITS) - 1)
    if not (PUSHES and event == Event.READY and resume >= Resume.SNAPSHOT):
        return outgoing, -1, value
    event, value = Event.SNAPSHOT + 0, turn.data >> RESUME_BITS
    message, messages = Message.SNAPSHOT + 0, 1
    if resume == Resume.REPLAY:
        event = Event.REPLAY + 0
        message, messages = Message.PUSH + 0, value - row.seen
    if GENERAL:
        message = sent_as(row.transport, message)
    outgoing = _count(world, turn, outgoing, message, messages)
    recording.count(world.record, Count.MESSAGES, number, turn.now, messages)
    return outgoing, event, value


@inlined
def _count(world: World, turn: Turn, outgoing: Outgoing, message: int, messages: int) -> Outgoing:
    """Count messages; whether they carry something says whether the path was idle."""
    recording.count_messages(world.record, turn.number, turn.now, message, messages)
    sizes, flags = world.arrays.sizes, outgoing.flags
    if GENERAL and sizes[message, 0] + sizes[message, 1] > 0:
        flags |= CARRIES
    return Outgoing(outgoing.n, flags)


@inlined
def _put(
    out: Any, outgoing: Outgoing, lane: int, t: float, kind: int, exchange: int, data: int
) -> Outgoing:
    n = put(out, outgoing.n, lane, t, kind, exchange, data)
    return Outgoing(n, outgoing.flags)


@inlined
def _carry_out(
    world: World, turn: Turn, event: int, actions: int, was: int, outgoing: Outgoing
) -> Outgoing:
    """Do what the client asks for after `event`; `was` is the transport that it used before."""
    row, t = world.arrays.rows[turn.number], turn.now + turn.half_s
    gives_up, sets_out = False, actions & (Action.FETCH | Action.CONNECT) > 0
    if GENERAL:
        is_on_its_way = not is_queued(world.arrays, turn.number, BESIDE)
        gives_up = actions & Action.GIVE_UP_FETCH > 0 and is_on_its_way
    if actions & Action.CLOSE:
        outgoing = _close(world, turn, event, was, outgoing)
    if PUSHES and actions & Action.CONNECT:
        recording.count(world.record, Count.ATTEMPTS, turn.number, turn.now)
    if POLLS and actions & Action.FETCH:
        row.asked_s = turn.now
    if GENERAL and world.options.browser.connections > 0:
        outgoing = _settle(world, turn, outgoing)
        sets_out = sets_out and _ask_browser(world, turn, gives_up)
    if sets_out:
        outgoing = _set_out(world, turn, gives_up, outgoing)
    if PUSHES and actions & Action.SECURE:
        tls_s = turn.now + 2.0 * turn.half_s
        outgoing = _put(world.arrays.out, outgoing, WHEEL, tls_s, Kind.TLS_OPEN, row.exchange, 0)
    if PUSHES and actions & Action.UPGRADE:
        message, data = Message.UPGRADE_REQUEST + 0, 0
        if GENERAL:
            message, data = opening_request(row, row), int(is_stream(row.transport))
        outgoing = _count(world, turn, outgoing, message, 1)
        outgoing = _put(world.arrays.out, outgoing, TRIP, t, Kind.UPGRADE, row.exchange, data)
    if PUSHES and actions & Action.AUTHENTICATE:
        outgoing = _count(world, turn, outgoing, Message.AUTH + 0, 1)
        outgoing = _put(world.arrays.out, outgoing, TRIP, t, Kind.AUTHENTICATE, row.exchange, 0)
    if GENERAL and PUSHES and actions & Action.SAFETY_POLL:
        outgoing = _safety_poll(world, turn, outgoing)
    if PUSHES and actions & Action.SEND_PING:
        outgoing = _count(world, turn, outgoing, Message.PING_UP + 0, 1)
        outgoing = _put(world.arrays.out, outgoing, TRIP, t, Kind.PING_UP, row.exchange, 0)
    if PUSHES and actions & Action.SEND_PONG:
        outgoing = _count(world, turn, outgoing, Message.PONG_UP + 0, 1)
    return outgoing


@inlined
def _ask_browser(world: World, turn: Turn, gives_up: bool) -> bool:
    """Ask for what the client's request needs; say whether it sets out at once."""
    arrays, rules, number = world.arrays, world.options.browser, turn.number
    row = arrays.rows[number]
    asked, place = connections_asked(rules, row), place_asked(row)
    if asked == 0:
        return True
    pool, claim = arrays.pools[number // rules.tabs], arrays.claims[CLAIMS * number + place]
    if ask(rules, pool, claim, key_of(row, place), asked, turn.now):
        return True
    if gives_up:
        end_fetches(arrays, world.record, number, turn.now)
    return False


@seldom
def _settle(world: World, turn: Turn, outgoing: Outgoing) -> Outgoing:
    """Give back what the client no longer needs, to those that wait for it."""
    arrays, rules, number = world.arrays, world.options.browser, turn.number
    row, user = arrays.rows[number], number // rules.tabs
    pool, claims, has_given = arrays.pools[user], arrays.claims, False
    for place in range(CLAIMS):
        claim, key = claims[CLAIMS * number + place], key_of(row, place)
        if settle(pool, claim, key, world.record, number, turn.now):
            has_given = True
    first = CLAIMS * rules.tabs * user
    until = min(first + CLAIMS * rules.tabs, len(claims))
    while has_given:
        found = next_in_line(rules, pool, claims, first, until)
        has_given = found >= 0
        if has_given and claims[found].held == 1:
            other, which = divmod(found, CLAIMS)
            lane, key = OTHERS * (other + 1) + WHEEL, claims[found].key + 0
            outgoing = _put(arrays.out, outgoing, lane, turn.now, Kind.LEAVES_QUEUE, key, which)
    return outgoing


@inlined
def _set_out(world: World, turn: Turn, gives_up: bool, outgoing: Outgoing) -> Outgoing:
    """Send what the client has asked for: a poll, a fetch, an attempt to connect."""
    row = world.arrays.rows[turn.number]
    if PUSHES and (not POLLS or row.state == State.CONNECTING):
        if GENERAL:
            row.node = -1
        world.arrays.state[0].under_way += 1
        t = turn.now + turn.half_s
        return _put(world.arrays.out, outgoing, TRIP, t, Kind.SYN, row.exchange, 0)
    if GENERAL and row.state == State.OPEN:
        return _refetch(world, turn, gives_up, outgoing)
    return _fetch(world, turn, outgoing)


@seldom
def _close(world: World, turn: Turn, event: int, was: int, outgoing: Outgoing) -> Outgoing:
    """End a connection at the client; the server learns of it half a round trip later."""
    arrays, record, number, now = world.arrays, world.record, turn.number, turn.now
    row = arrays.rows[number]
    if POLLS and was == Transport.POLLING:
        closed_s, cause = end_of_kept(row, now, cause_of(event, was) + 0)
        disconnect(arrays, record, number, closed_s, cause, was)
        if GENERAL:
            take_back(arrays.balancer, number, int(row.exchange + 0))
        return outgoing
    if event == Event.DEADLINE:
        recording.count(record, Count.ERRORS, number, now)
    in_queue = GENERAL and is_queued(arrays, number, MAIN)
    if GENERAL and holds(was):
        if in_queue and row.transport == was and event == Event.DEADLINE:
            return outgoing  # nothing was sent, and an idle connection stays
        closed_s, cause = end_of_kept(row, now, cause_of(event, was) + 0)
        disconnect(arrays, record, number, closed_s, cause, was)
        if row.is_link_dead:
            take_back(arrays.balancer, number, row.exchange - 1)
            return outgoing
        t = now + turn.half_s
        return _put(arrays.out, outgoing, TRIP, t, Kind.CLOSE, row.exchange - 1, 0)
    if GENERAL and row.opened_s < NEVER_S:
        end_fetches(arrays, record, number, now)
    is_meant = event == Event.STOP or event == Event.ASSIGNED
    graceful = closes_with_frames(row, row, was, is_meant)
    disconnect(arrays, record, number, now, cause_of(event, was) + 0, was)
    if in_queue:
        return outgoing
    if graceful:
        outgoing = _count(world, turn, outgoing, Message.CLOSE_UP + 0, 1)
    t = now + turn.half_s
    return _put(world.arrays.out, outgoing, TRIP, t, Kind.CLOSE, row.exchange - 1, int(graceful))


@inlined
def _fetch(world: World, turn: Turn, outgoing: Outgoing) -> Outgoing:
    """A poll is due: on the connection that is kept, or on a new one."""
    arrays, number = world.arrays, turn.number
    row = arrays.rows[number]
    if is_kept(row.opened_s, row.kept_until_s, turn.now):
        return Outgoing(outgoing.n, outgoing.flags | REQUESTS)
    cause = Cause.IDLE + 0
    disconnect(arrays, world.record, number, row.kept_until_s, cause, row.transport + 0)
    row.kept_until_s = NEVER_S  # nothing is answered before there is a request
    if GENERAL:
        row.is_link_dead = False
        row.node = -1
    arrays.state[0].under_way += 1
    return _put(world.arrays.out, outgoing, TRIP, turn.now + turn.half_s, Kind.SYN, row.exchange, 0)


@seldom
def _refetch(world: World, turn: Turn, gives_up: bool, outgoing: Outgoing) -> Outgoing:
    """A fetch beside the open socket: on the connection of the one before, or on a new one."""
    arrays, record, row = world.arrays, world.record, world.arrays.rows[turn.number]
    trips, first = 1.0, 0
    if gives_up or not is_kept(row.opened_s, row.kept_until_s, turn.now):
        first += 1
        end_fetches(arrays, record, turn.number, turn.now)
        recording.count_messages(record, turn.number, turn.now, Message.TCP_OPEN + 0)
        recording.count_messages(record, turn.number, turn.now, Message.TLS_OPEN + 0)
        trips += 4.0 if world.rules.tls else 2.0
    recording.count(world.record, Count.POLLS, turn.number, turn.now)
    row.kept_until_s = NEVER_S
    request = request_of(world.options.etag, row.fetched_s, first)
    recording.count_messages(record, turn.number, turn.now, request)
    t = turn.now + trips * turn.half_s
    data = (int(row.fetch_number + 0) << REQUEST_BITS) | first
    return _put(arrays.out, outgoing, WHEEL, t, Kind.REFETCH, row.exchange, data)


@seldom
def _safety_poll(world: World, turn: Turn, outgoing: Outgoing) -> Outgoing:
    """A safety poll, on the connection that the one before has left, or on a new one."""
    arrays, record, number = world.arrays, world.record, turn.number
    row = arrays.rows[number]
    recording.count_safety_poll(record, number, turn.now)
    trips, first = 1.0, 0
    if not is_kept(row.opened_s, row.kept_until_s, turn.now):
        first += 1
        end_fetches(arrays, record, number, turn.now)
        recording.count_messages(record, number, turn.now, Message.TCP_OPEN + 0)
        recording.count_messages(record, number, turn.now, Message.TLS_OPEN + 0)
        trips += 4.0 if world.rules.tls else 2.0
    is_dead = take_beside(row)
    recording.count_messages(record, number, turn.now, Message.POLL_REQUEST - first)
    if is_dead:
        return outgoing
    t = turn.now + trips * turn.half_s
    return _put(arrays.out, outgoing, WHEEL, t, Kind.SAFETY_POLL, row.exchange, first)


# -- 4. requests, and what follows ---------------------------------------------------------------


@inlined
def follow_up(world: World, turn: Turn, outgoing: Outgoing) -> Outgoing:
    """Send the poll that is due, and schedule what belongs to the event that was handled."""
    if POLLS and outgoing.flags & REQUESTS:
        outgoing = _request(world, turn, outgoing)
    is_comment = GENERAL and is_stream(world.arrays.rows[turn.number].transport)
    if PUSHES and turn.kind == Kind.PING and not is_comment:
        t = turn.now + turn.half_s
        return _put(world.arrays.out, outgoing, TRIP, t, Kind.PONG_UP, turn.exchange, turn.data)
    if turn.kind == Kind.ACTIVITY:
        return _next_activity(world, turn, outgoing)
    if turn.kind == Kind.START:
        return _started(world, turn, outgoing)
    return outgoing


@inlined
def _request(world: World, turn: Turn, outgoing: Outgoing) -> Outgoing:
    arrays, record, number, now = world.arrays, world.record, turn.number, turn.now
    row, first = arrays.rows[number], int(outgoing.flags & FIRST > 0)
    if first and not (GENERAL and is_at_proxy(row, world.options.bad_gateway)):
        recording.open_connection(record, number, now)
        row.opened_s = now
    elif GENERAL and not first:
        use_again(arrays, number)
    recording.count(record, Count.POLLS, number, now)
    row.kept_until_s = NEVER_S
    request, data = request_of(world.options.etag, row.fetched_s, first), first
    if GENERAL and holds(row.transport):
        request, data = Message.HELD_REQUEST - first, IS_HELD | first
        idle_s = world.options.idle_s
        if idle_s < NEVER_S:
            outgoing = _put(arrays.out, outgoing, WHEEL, now + idle_s, Kind.IDLE, row.exchange, 0)
    outgoing = _count(world, turn, outgoing, request, 1)
    if GENERAL and row.is_link_dead:
        t = now + world.options.unanswered_s
        return _put(world.arrays.out, outgoing, WHEEL, t, Kind.UNANSWERED, row.exchange, 0)
    arrays.state[0].under_way += 1
    return _put(arrays.out, outgoing, TRIP, now + turn.half_s, Kind.POLL, row.exchange, data)


@inlined
def _next_activity(world: World, turn: Turn, outgoing: Outgoing) -> Outgoing:
    """An episode of the user's activity ends, or the next one begins."""
    arrays, activity = world.arrays, turn.data >> 1
    t = arrays.activity_end_s[activity, turn.number]
    if turn.data & 1:
        t = _episode(world, turn.number, activity, turn.now)
    if t < value_of(arrays.end_s, turn.number):
        return _put(world.arrays.out, outgoing, WHEEL, t, Kind.ACTIVITY, 0, turn.data ^ 1)
    return outgoing


@inlined
def _started(world: World, turn: Turn, outgoing: Outgoing) -> Outgoing:
    """Schedule the first activity of a session's user, and the session's end."""
    options, end_s = world.options, value_of(world.arrays.end_s, turn.number)
    for activity in range(2):
        every_s = options.drag_every_s if activity == 0 else options.hidden_every_s
        if every_s > 0.0:
            t = _episode(world, turn.number, activity, turn.now)
            if t < end_s:
                outgoing = _put(
                    world.arrays.out, outgoing, WHEEL, t, Kind.ACTIVITY, 0, 2 * activity
                )
    if end_s < world.record.horizon_s:
        outgoing = _put(world.arrays.out, outgoing, WHEEL, end_s, Kind.STOP, 0, 0)
    return outgoing


@inlined
def _episode(world: World, number: int, activity: int, after_s: float) -> float:
    """Return when the client's next episode of an activity starts, and store when it ends."""
    arrays, rules, options = world.arrays, world.rules, world.options
    k = arrays.activity_k[activity, number]
    if activity == 0:
        gap, length = Stream.DRAG_GAP, Stream.DRAG_LENGTH
        every_s, length_s = options.drag_every_s, options.drag_length_s
    else:
        gap, length = Stream.HIDDEN_GAP, Stream.HIDDEN_LENGTH
        every_s, length_s = options.hidden_every_s, options.hidden_length_s
    start_s, arrays.activity_end_s[activity, number] = episode_s(
        rules.seed, rules.replication, number, gap, length, k, after_s, every_s, length_s
    )
    arrays.activity_k[activity, number] = k + 1
    return start_s
