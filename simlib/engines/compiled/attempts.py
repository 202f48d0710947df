"""Attempts to connect whose clients are told of them only when they end: storms.

When a server that is saturated turns everybody away, an attempt is seven events, and only two of
them touch more than its own client: the SYN, which takes a place in the backlog and a worker's
time, and the request for an upgrade, which is refused by how long it would wait. So two events
are left of it, `Kind.ATTEMPT` and `Kind.UPGRADE_ASKED`, at the times of the two; one, if messages
take no time. In between the client's row stays as it was, WAITING with the attempt's start for its
deadline, and nobody looks at it. When the request is refused, `_refuse` books the whole attempt at
the times of its events, and the next one follows. In any other case (the SYN is dropped, the
request waits for a worker, the refusal comes after the end of this call) `_set_out` brings the row
to where the other loops have it by then, with an alarm for its time-out, and events go on singly.

**Why it is exact.** `may_fold` asks that nothing else comes to a client between the start of an
attempt and its refusal: no activity, no end of its session before the horizon, no time-out before
that. What is left of an attempt is then a function of its start, and what it counts are sums of
whole numbers, whatever their order. The farewell after a refusal tells the server of an exchange
of which it keeps nothing. So a run is the same if events that touch what clients share come in
the same order. They come in the order of their times. Of equal times the order is that in which
events were scheduled, and an attempt schedules its own sooner or later than single events would:

- an ATTEMPT that follows a refusal, at the refusal or at the request for it;
- each UPGRADE_ASKED, at its SYN;
- the time-out of an attempt that goes on singly: it is marked with `LATE`.

Each of them must be *alone*: nothing else happens at its very moment, before or after. What is
still to come at that moment is the head of another source (an unopened bucket shows an earlier
time, so it is opened before); what has come is among four times that are kept. If one is not
alone, the loop returns TIED, and the run begins anew with single events. What a lone event
schedules gets its place at the right moment, so by induction all other places are right.

Two kinds of ties are no accident, but order by words is right for them. Requests for upgrades come
in the order of their SYNs, since with one round-trip time each event between keeps the order of
those before. And sessions that start together: their first ATTEMPT is scheduled by the start itself.
If messages take no time, the requests of a wave come at the moment of its starts and SYNs, but
after all of them: starts have the lowest word, and SYNs were scheduled by them, before any request.
"""

from __future__ import annotations

from typing import Any

from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.client_state import NEVER_S, connect
from simlib.core.protocol import UNAVAILABLE, State
from simlib.core.reconnect import Policy
from simlib.core.record import Count
from simlib.core.server import Law, Server
from simlib.core.websocket import begin_upgrade, refused_attempt
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.event_list import SOURCES, WHEEL
from simlib.engines.compiled.numba_support import inlined, seldom
from simlib.engines.compiled.state import (
    ALARM,
    ASKED,
    DATA_BITS,
    KIND_BITS,
    LAST_EXCHANGE,
    TRIP,
    Kind,
    load_of,
)
from simlib.engines.compiled.turn import POLLS, PUSHES, Turn, World

HANDLED, TIED = -1, -2
"""In place of the kind of a turn: nothing is left to do; the run has to begin anew."""
IS_FIRST = 1
"""The bit in the data of ATTEMPT and UPGRADE_ASKED that tells a session's first attempt."""
LATE = 1
"""The data of DEADLINE for a time-out that was scheduled after its attempt had begun; else 0."""
_MARGIN_S = 1e-3


@inlined
def may_fold(world: World) -> bool:
    """Say whether attempts of a run are folded: see the head of this module.

    Delays on a grid would tie all the time, and cost time without being wrong: only those policies
    count that draw from a continuous range.
    """
    if POLLS or not PUSHES:
        return False
    arrays, rules, record, options = world.arrays, world.rules, world.record, world.options
    policy, half_s = rules.reconnect.policy, arrays.half_s[0]
    is_drawn = policy == Policy.FULL_JITTER or policy == Policy.EQUAL_JITTER
    is_drawn = is_drawn or policy == Policy.DECORRELATED_JITTER
    has_time = rules.open_timeout_s > 8.0 * half_s + _MARGIN_S
    has_time = has_time and rules.upgrade_timeout_s > 3.0 * half_s + _MARGIN_S
    is_plain = len(arrays.half_s) == 1 and len(arrays.end_s) == 1
    is_plain = is_plain and arrays.end_s[0] >= record.horizon_s and not record.keep_events
    is_plain = is_plain and options.drag_every_s <= 0.0 and options.hidden_every_s <= 0.0
    is_plain = is_plain and world.server_rules.law == Law.CONSTANT
    return bool(arrays.state[0].may_fold > 0 and is_drawn and has_time and is_plain)


@inlined
def begin(state: Any) -> None:
    """Nothing has happened yet."""
    state.latest_s = -NEVER_S
    state.latest_start_s = -NEVER_S
    state.latest_attempt_s = -NEVER_S
    state.latest_asked_s = -NEVER_S


@inlined
def take_attempt(world: World, source: int, turn: Turn, until_s: float) -> Turn:
    """Handle the event that has been taken, if it is of a folded attempt; return what is left.

    Nothing is booked for `until_s` or later.
    """
    state, kind, now = world.arrays.state[0], turn.kind, turn.now
    if kind == Kind.START:
        state.latest_start_s = now
        _start(world, turn)
        return _instead(turn, HANDLED)
    if kind == Kind.ATTEMPT:
        return _arrive(world, turn, until_s)
    if kind == Kind.UPGRADE_ASKED:
        is_of_wave = turn.data == IS_FIRST and world.arrays.half_s[0] == 0.0
        is_late = not is_of_wave and state.latest_start_s == now
        if is_late or state.latest_attempt_s == now or not _is_alone(world, now, source):
            return _instead(turn, TIED)
        return _ask(world, turn, until_s)
    if kind == Kind.DEADLINE and turn.data == LATE:
        fires = world.arrays.rows[turn.number].deadline_s == now
        if fires and (_is_met(state, now) or not _is_alone(world, now, SOURCES)):
            return _instead(turn, TIED)
    state.latest_s = now
    return turn


@inlined
def _instead(turn: Turn, kind: int) -> Turn:
    return Turn(turn.number, int(kind + 0), 0, 0, turn.now, 0.0)


@inlined
def _is_alone(world: World, now: float, source: int) -> bool:
    """Say whether nothing else happens now but what the source itself has, if it is no wheel."""
    head_t = world.q.head_t
    is_alone = world.arrays.state[0].latest_s != now
    for other in range(SOURCES):
        is_alone = is_alone and (head_t[other] != now or other == source)
    return bool(is_alone)


@inlined
def _is_met(state: Any, now: float) -> bool:
    """Say whether something of a folded attempt has happened now."""
    is_met = state.latest_start_s == now or state.latest_attempt_s == now
    return bool(is_met or state.latest_asked_s == now)


@inlined
def _start(world: World, turn: Turn) -> None:
    """A session starts: its client waits for an attempt that begins now."""
    arrays, now = world.arrays, turn.now
    row = arrays.rows[turn.number]
    row.transport = world.rules.transport
    row.since_s = now
    row.state = State.WAITING + 0
    row.deadline_s = now
    load = load_of(0, Kind.ATTEMPT, IS_FIRST)
    event_list.schedule_seldom(world.q, TRIP, now + arrays.half_s[0], turn.number, load)


@inlined
def is_folded(world: World, number: int, load: int) -> bool:
    """Say whether an alarm that is about to be scheduled begins an attempt that is folded."""
    is_alarm = (load >> DATA_BITS) & ((1 << KIND_BITS) - 1) == Kind.DEADLINE
    return bool(is_alarm and world.arrays.rows[number].state == State.WAITING)


@inlined
def schedule_attempt(world: World, number: int, start_s: float) -> None:
    """Schedule the SYN of an attempt that begins later, in place of the alarm for its beginning."""
    t = start_s + world.arrays.half_s[0]
    event_list.schedule(world.q, WHEEL, t, number, load_of(0, Kind.ATTEMPT, 0))


@inlined
def _arrive(world: World, turn: Turn, until_s: float) -> Turn:
    """A SYN arrives: a worker accepts it, or the backlog is full."""
    arrays, server_rules, now = world.arrays, world.server_rules, turn.now
    state, nodes, half_s = arrays.state[0], arrays.servers, arrays.half_s[0]
    if turn.data == IS_FIRST:
        state.latest_start_s = now
    else:
        if _is_met(state, now) or not _is_alone(world, now, SOURCES):
            return _instead(turn, TIED)
        state.latest_attempt_s = now
    node = Server(nodes.free_s[0], nodes.blocked_s[0], nodes.accepts_s[0], nodes.state[0])
    service_s = server_rules.accept_s + 0.0
    begun_s = servers.accept(node, server_rules, now, service_s)
    if begun_s < 0.0:
        _drop(world, turn)
        return _instead(turn, HANDLED)
    recording.add_busy(world.record, 0, begun_s, begun_s + service_s)
    if half_s == 0.0 and turn.data != IS_FIRST:
        return _ask(world, turn, until_s)
    t = _open_s(world, now) + half_s
    load = load_of(0, Kind.UPGRADE_ASKED, turn.data)
    event_list.schedule(world.q, ASKED, t, turn.number, load)
    return _instead(turn, HANDLED)


@inlined
def _open_s(world: World, syn_s: float) -> float:
    """Return when TCP is open, and TLS if there is any, by when the SYN arrives, seconds."""
    half_s = world.arrays.half_s[0]
    tcp_s = syn_s + half_s
    return tcp_s + 2.0 * half_s if world.rules.tls else tcp_s


@seldom
def _drop(world: World, turn: Turn) -> None:
    """The backlog is full: the SYN comes again later."""
    arrays, record, q, number = world.arrays, world.record, world.q, turn.number
    row = arrays.rows[number]
    recording.count(record, Count.ATTEMPTS, number, row.deadline_s)
    connect(row, world.rules, row.deadline_s + 0.0)
    load = load_of(0, Kind.DEADLINE, LATE)
    event_list.schedule_seldom(q, ALARM, row.deadline_s, number, load)
    recording.count_in_bin(record, Count.DROPPED_SYNS, number, turn.now)
    t = turn.now + max(0.0, servers.syn_retry_s(0) - arrays.half_s[0])
    load = load_of(row.exchange, Kind.SYN_AGAIN, 0)
    event_list.schedule_seldom(q, WHEEL, t, number, load)


@inlined
def _ask(world: World, turn: Turn, until_s: float) -> Turn:
    """A request for an upgrade arrives: it is refused, or the other stages go on with it."""
    arrays, server_rules, now = world.arrays, world.server_rules, turn.now
    row, state, node = arrays.rows[turn.number], arrays.state[0], arrays.servers.state[0]
    state.latest_asked_s = now
    per_s, burst = server_rules.admit_per_s, server_rules.admit_burst
    is_late = servers.wait_s(arrays.servers.free_s[0], now) > server_rules.shed_wait_s
    is_refused = is_late or not (
        per_s == NEVER_S or servers.is_admitted(node.upgrade_due_s, per_s, burst, now)
    )
    refused_s = now + arrays.half_s[0]
    if is_refused and refused_s < until_s and row.exchange < LAST_EXCHANGE:
        _refuse(world, turn.number, refused_s)
        return _instead(turn, HANDLED)
    _set_out(world, turn.number)
    return Turn(turn.number, Kind.UPGRADE + 0, int(row.exchange + 0), 0, now, 0.0)


@inlined
def _refuse(world: World, number: int, refused_s: float) -> None:
    """Book an attempt that is refused, and schedule the next one, if there is one."""
    arrays, record, rules = world.arrays, world.record, world.rules
    row = arrays.rows[number]
    _book(world, number, row.deadline_s + 0.0, NEVER_S)
    recording.count(record, Count.ERRORS, number, refused_s)
    recording.count_messages(record, number, refused_s, Message.UPGRADE_REFUSED + 0)
    refused_attempt(row, rules, refused_s)
    arrays.state[0].folded += 1
    if row.state == State.WAITING:
        schedule_attempt(world, number, row.deadline_s)
    else:
        recording.count_in_bin(record, Count.GIVEN_UP, number, refused_s)


@inlined
def _book(world: World, number: int, begun_s: float, until_s: float) -> None:
    """Book what an attempt has counted before `until_s`, up to its request for an upgrade."""
    record, half_s = world.record, world.arrays.half_s[0]
    recording.count(record, Count.ATTEMPTS, number, begun_s)
    syn_s = begun_s + half_s
    tcp_s, open_s = syn_s + half_s, _open_s(world, syn_s)
    if tcp_s < until_s:
        recording.count_messages(record, number, tcp_s, Message.TCP_OPEN + 0)
    if open_s < until_s:
        if world.rules.tls:
            recording.count_messages(record, number, open_s, Message.TLS_OPEN + 0)
        recording.count_messages(record, number, open_s, Message.UPGRADE_REQUEST + 0)


@seldom
def _set_out(world: World, number: int) -> None:
    """Bring a client to where it is when its request for an upgrade arrives."""
    arrays, row = world.arrays, world.arrays.rows[number]
    begun_s = row.deadline_s + 0.0
    _book(world, number, begun_s, NEVER_S)
    connect(row, world.rules, begun_s)
    begin_upgrade(row, world.rules, _open_s(world, begun_s + arrays.half_s[0]))
    load = load_of(0, Kind.DEADLINE, LATE)
    event_list.schedule_seldom(world.q, ALARM, row.deadline_s, number, load)


@seldom
def book_unfinished(world: World, number: int, now: float) -> None:
    """Book what an attempt that is under way when a run ends has counted before that."""
    row = world.arrays.rows[number]
    if row.state == State.WAITING and row.deadline_s < now:
        _book(world, number, row.deadline_s + 0.0, now)
