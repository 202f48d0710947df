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
whole numbers, whatever their order. The alarm for its time-out, which comes to nothing, would fire
only at the very moment of a later timer of its client, and that is drawn. The farewell after a
refusal tells the server of an exchange of which it keeps nothing. So a run is the same if events
that touch what clients share come in the same order. They come in the order of their times. Of
equal times the order is that in which events were scheduled, and an attempt schedules its own
sooner or later than single events would:

- an ATTEMPT that follows a refusal, at the refusal or at the request for it;
- each UPGRADE_ASKED, at its SYN;
- the time-out of an attempt that goes on singly: it is marked with `LATE`.

Each of them must be *alone*: nothing else happens at its very moment, before or after. What is
still to come at that moment is the head of another source (an unopened bucket shows an earlier
time, so it is opened before); what has come is among four times that are kept. If one is not
alone, the loop returns TIED, and the run begins anew with single events. What a lone event
schedules gets its place at the right moment, so by induction all other places are right.

Two kinds of ties are no accident, but their order by words is right. Requests for upgrades come in
the order of their SYNs, since with one round-trip time each event between keeps the order of those
before. And where sessions start together, the start itself schedules the first ATTEMPT. If messages
take no time, the requests of such a wave come at the moment of its starts and SYNs, but after all
of them: starts have the lowest word, and they have scheduled the SYNs before any request.
"""

from __future__ import annotations

from typing import Any

from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.client_state import NEVER_S, connect
from simlib.core.protocol import State
from simlib.core.reconnect import Policy
from simlib.core.record import Count
from simlib.core.server import Law, Server
from simlib.core.websocket import begin_upgrade, refused_attempt
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.beats import happens_at
from simlib.engines.compiled.event_list import (
    CLIENT_MASK,
    SOURCES,
    STARTS,
    WHEEL,
    EventList,
)
from simlib.engines.compiled.numba_support import called, inlined, seldom
from simlib.engines.compiled.poll_round import take
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
"""In place of the kind of an event: nothing is left to do; the run has to begin anew."""
IS_FIRST = 1
"""The bit in the data of ATTEMPT and UPGRADE_ASKED that tells a session's first attempt."""
LATE = 1
"""The data of DEADLINE for a time-out that was scheduled after its attempt had begun; else 0."""
_MARGIN_S = 1e-3
_ENDLESS = 64
"""From how many places for each client on a backlog counts as endless."""


@inlined
def may_fold(world: World) -> bool:
    """Say whether attempts of a run are folded: see the head of this module.

    Delays on a grid would tie all the time, and cost time without being wrong: only those policies
    count that draw from a continuous range.
    """
    arrays, rules, record, options = world.arrays, world.rules, world.record, world.options
    if POLLS or not PUSHES or len(arrays.half_s) != 1 or len(arrays.end_s) != 1:
        return False
    policy, half_s = rules.reconnect.policy, arrays.half_s[0]
    is_drawn = policy == Policy.FULL_JITTER or policy == Policy.EQUAL_JITTER
    is_decorrelated = policy == Policy.DECORRELATED_JITTER
    is_drawn = is_drawn or (is_decorrelated and rules.reconnect.cap_s > rules.reconnect.base_s)
    has_time = rules.open_timeout_s > 8.0 * half_s + _MARGIN_S
    has_time = has_time and rules.upgrade_timeout_s > 3.0 * half_s + _MARGIN_S
    is_plain = arrays.end_s[0] >= record.horizon_s and not record.keep_events
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
def is_next(q: EventList, source: int) -> bool:
    """Say whether the next event of a source is of a folded attempt; a start counts as one."""
    if source == WHEEL:
        return _kind(int(q.heap[0].load)) == Kind.ATTEMPT
    if source == TRIP:
        return _kind(event_list.next_load(q, TRIP)) == Kind.ATTEMPT
    return bool(source in (ASKED, STARTS))


@inlined
def _kind(load: int) -> int:
    return (load >> DATA_BITS) & ((1 << KIND_BITS) - 1)


@called
def take_attempts(
    world: World, source: int, until_s: float, fast_until_s: float, most: int
) -> tuple[int, int, int, float]:
    """Take events of folded attempts, from one that is next, up to one of another kind.

    Return what becomes of the last (HANDLED, TIED, or the kind of an event that the other stages go
    on with), its client, how many were taken, at most `most`, and the time of the last. Nothing is
    booked for `fast_until_s` or later.
    """
    arrays, q, counts = world.arrays, world.q, world.record.clients
    state, head_t, taken = arrays.state[0], q.head_t, 0
    while True:
        now = head_t[source]
        taken += 1
        if source == STARTS:
            number = int(state.started)
            state.started += 1
            head_t[STARTS] = NEVER_S
            if state.started < len(arrays.start_s):
                head_t[STARTS] = arrays.start_s[state.started]
            state.latest_start_s = now
            _start(world, number, now)
            becomes = HANDLED + 0
        else:
            number = int(q.head_word[source] & CLIENT_MASK)
            load = take(arrays, counts, q, source)
            becomes = _take(world, source, number, load, now, fast_until_s)
        if becomes != HANDLED or taken >= most:
            break
        source = event_list.next_source(q)
        if head_t[source] >= until_s or (source == WHEEL and q.hand[0].open == 0):
            break
        if not is_next(q, source):
            break
    state.events += taken
    return becomes, number, taken, now


@inlined
def _take(world: World, source: int, number: int, load: int, now: float, until_s: float) -> int:
    is_first = load & IS_FIRST > 0
    state, half_s = world.arrays.state[0], world.arrays.half_s[0]
    if source == ASKED:
        is_of_wave = is_first and half_s == 0.0
        is_late = not is_of_wave and state.latest_start_s == now
        if is_late or state.latest_attempt_s == now or not _is_alone(world, now, source):
            return TIED + 0
    else:
        if is_first:
            state.latest_start_s = now
        elif _is_met(state, now) or not _is_alone(world, now, SOURCES):
            return TIED + 0
        else:
            state.latest_attempt_s = now
        becomes = _accept(world, number, now)
        if becomes != Kind.UPGRADE_ASKED:
            return becomes
        if half_s > 0.0 or is_first:
            t = _open_s(world, now) + half_s
            event_list.schedule(
                world.q, ASKED, t, number, load_of(0, Kind.UPGRADE_ASKED, load & IS_FIRST)
            )
            return HANDLED + 0
    return _ask(world, number, now, until_s)


@inlined
def is_out_of_order(world: World, turn: Turn) -> bool:
    """Note an event of another kind; say whether it ties with others that come in no sure order."""
    state, now = world.arrays.state[0], turn.now
    is_tied = False
    if turn.kind == Kind.DEADLINE and turn.data == LATE:
        fires = world.arrays.rows[turn.number].deadline_s == now
        is_tied = fires and (_is_met(state, now) or not _is_alone(world, now, SOURCES))
    state.latest_s = now
    return bool(is_tied)


@inlined
def _is_alone(world: World, now: float, source: int) -> bool:
    """Say whether nothing else happens now but what the source itself has, if it is no wheel."""
    head_t = world.q.head_t
    is_alone = world.arrays.state[0].latest_s != now and not happens_at(world, now)
    for other in range(SOURCES):
        is_alone = is_alone and (head_t[other] != now or other == source)
    return bool(is_alone)


@inlined
def _is_met(state: Any, now: float) -> bool:
    """Say whether something of a folded attempt has happened now."""
    is_met = state.latest_start_s == now or state.latest_attempt_s == now
    return bool(is_met or state.latest_asked_s == now)


@inlined
def _start(world: World, number: int, now: float) -> None:
    """A session starts: its client waits for an attempt that begins now."""
    arrays = world.arrays
    row = arrays.rows[number]
    row.transport = world.rules.transport
    row.since_s = now
    row.state = State.WAITING + 0
    row.deadline_s = now
    load = load_of(0, Kind.ATTEMPT, IS_FIRST)
    event_list.schedule_seldom(world.q, TRIP, now + arrays.half_s[0], number, load)


@inlined
def is_folded(world: World, number: int, load: int) -> bool:
    """Say whether an alarm that is about to be scheduled begins an attempt that is folded."""
    is_alarm = _kind(load) == Kind.DEADLINE
    return bool(is_alarm and world.arrays.rows[number].state == State.WAITING)


@inlined
def schedule_attempt(world: World, number: int, start_s: float) -> None:
    """Schedule the SYN of an attempt that begins later, in place of the alarm for its beginning."""
    t = start_s + world.arrays.half_s[0]
    event_list.schedule(world.q, WHEEL, t, number, load_of(0, Kind.ATTEMPT, 0))


@inlined
def _is_endless(world: World) -> bool:
    """Say whether the backlog is so long that nobody keeps count of who waits in it.

    It cannot be full before so many have been accepted as it has places. A run that comes so far
    begins anew with single events.
    """
    return bool(world.server_rules.backlog >= _ENDLESS * len(world.arrays.rows))


@inlined
def _accept(world: World, number: int, now: float) -> int:
    """Say what becomes of a SYN that arrives; it is HANDLED if the backlog drops it."""
    nodes, state = world.arrays.servers, world.arrays.state[0]
    service_s = world.server_rules.accept_s + 0.0
    if _is_endless(world):
        state.accepted += 1
        if state.accepted >= world.server_rules.backlog:
            return TIED + 0
        begun_s = servers.admit_to(nodes.free_s[0], 0, now, service_s)
    else:
        node = Server(nodes.free_s[0], nodes.blocked_s[0], nodes.accepts_s[0], nodes.state[0])
        begun_s = servers.accept(node, world.server_rules, now, service_s)
        if begun_s < 0.0:
            _drop(world, number, now)
            return HANDLED + 0
    if service_s > 0.0:
        recording.add_busy(world.record, 0, begun_s, begun_s + service_s)
    return Kind.UPGRADE_ASKED + 0


@inlined
def _open_s(world: World, syn_s: float) -> float:
    """Return when TCP is open, and TLS if there is any, by when the SYN arrives, seconds."""
    half_s = world.arrays.half_s[0]
    tcp_s = syn_s + half_s
    return tcp_s + 2.0 * half_s if world.rules.tls else tcp_s


@seldom
def _drop(world: World, number: int, now: float) -> None:
    """The backlog is full: the SYN comes again later."""
    arrays, record, q = world.arrays, world.record, world.q
    row = arrays.rows[number]
    recording.count(record, Count.ATTEMPTS, number, row.deadline_s)
    connect(row, world.rules, row.deadline_s + 0.0)
    load = load_of(0, Kind.DEADLINE, LATE)
    event_list.schedule_seldom(q, ALARM, row.deadline_s, number, load)
    recording.count_in_bin(record, Count.DROPPED_SYNS, number, now)
    t = now + max(0.0, servers.syn_retry_s(0) - arrays.half_s[0])
    load = load_of(row.exchange, Kind.SYN_AGAIN, 0)
    event_list.schedule_seldom(q, WHEEL, t, number, load)


@inlined
def _ask(world: World, number: int, now: float, until_s: float) -> int:
    """A request for an upgrade arrives: it is refused, or the other stages go on with it."""
    arrays, server_rules = world.arrays, world.server_rules
    row, state, node = arrays.rows[number], arrays.state[0], arrays.servers.state[0]
    state.latest_asked_s = now
    per_s, burst = server_rules.admit_per_s, server_rules.admit_burst
    is_late = servers.wait_s(arrays.servers.free_s[0], now) > server_rules.shed_wait_s
    is_refused = is_late or not (
        per_s == NEVER_S or servers.is_admitted(node.upgrade_due_s, per_s, burst, now)
    )
    refused_s = now + arrays.half_s[0]
    if is_refused and refused_s < until_s and row.exchange < LAST_EXCHANGE:
        _refuse(world, number, refused_s)
        return HANDLED + 0
    _set_out(world, number)
    return Kind.UPGRADE + 0


@inlined
def _refuse(world: World, number: int, refused_s: float) -> None:
    """Book an attempt that is refused, and schedule the next one, if there is one."""
    arrays, record, rules = world.arrays, world.record, world.rules
    row, begun_s = arrays.rows[number], arrays.rows[number].deadline_s + 0.0
    place = recording.bin_of(record, begun_s)
    if recording.bin_of(record, refused_s) == place:
        _book_in(world, number, place)
    else:
        _book(world, number, begun_s, NEVER_S)
        recording.count(record, Count.ERRORS, number, refused_s)
        recording.count_messages(record, number, refused_s, Message.UPGRADE_REFUSED + 0)
    refused_attempt(row, rules, refused_s)
    arrays.state[0].folded += 1
    if row.state == State.WAITING:
        schedule_attempt(world, number, row.deadline_s)
    else:
        recording.count_in_bin(record, Count.GIVEN_UP, number, refused_s)


@inlined
def _book_in(world: World, number: int, place: int) -> None:
    """Book all that an attempt has counted that is refused, where it is in one time bin."""
    record = world.record
    bins, messages, sizes = record.bins[0, place], record.messages[0, place], record.sizes
    counts, traffic = record.clients[number], record.traffic[number]
    bins[Count.ATTEMPTS] += 1
    bins[Count.ERRORS] += 1
    counts[Count.ATTEMPTS] += 1
    counts[Count.ERRORS] += 1
    opening, asking, refusal = Message.TCP_OPEN, Message.UPGRADE_REQUEST, Message.UPGRADE_REFUSED
    messages[opening] += 1
    messages[asking] += 1
    messages[refusal] += 1
    up = sizes[opening, 2] + sizes[asking, 2] + sizes[refusal, 2]
    down = sizes[opening, 3] + sizes[asking, 3] + sizes[refusal, 3]
    if world.rules.tls:
        messages[Message.TLS_OPEN] += 1
        up += sizes[Message.TLS_OPEN, 2]
        down += sizes[Message.TLS_OPEN, 3]
    traffic[0] += up
    traffic[1] += down


@seldom
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
