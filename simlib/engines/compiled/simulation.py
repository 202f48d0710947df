"""The compiled engine: the journeys of `simpy_engine`, cut at their waits, as one numba loop.

It knows what a driver knows (delays, who is told what) and calls the same rules: `core.client`
decides what a client does, `core.server` who is served when, `core.record` what is counted. They
are plain Python there and compiled from the same source here. Its state is in `arrays`, what goes
wrong in `mishaps`.

One turn of the loop in `_run` takes the earliest event (`event_list`) and handles it in stages,
so that each rule is compiled into the loop once:

1. **jobs**: what arrives at the server is queued for a worker, or turned away;
2. **arrivals**: what the event means, and which `Event` the client is fed, if any;
3. **feeding**: `step`, its bookings, its deadline, its actions;
4. **requests** and **afterwards**: what follows the feeding in the journey.

What an event schedules is collected in `out`, in the order in which SimPy's journeys would have
scheduled it, and goes to the event list at the end of the turn. So ties come out alike, and runs
are equal to the last bit.

**Broadcasts** are one event each. A listener that nothing can disturb before its message arrives
(neither its deadline nor the end of its session, nor the end of this call) is served at once: the
histogram and the bins are filled there and then, its own row is brought up to date when it is next
looked at (`_catch_up`). That is exact, since a push moves nothing but the view and counts, and all
sums are independent of order. The others get an event each.

**Polls** that nothing disturbs go round in two tight loops (`_go_round`): alarms that send a poll,
then responses that set an alarm, both up to the first event of any other kind. A poll is served as
it is sent, at the time of its arrival, since with one round-trip time for all, and no other job
under way, jobs arrive in the order in which they are sent. Taking the alarms before the responses
is exact: the two touch different clients, only alarms touch the server, each loop keeps its order,
and no alarm that a response sets rings before both are through.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.activity import episode_s
from simlib.core.assignment import PERCENT, SERVER_CLOSED, SERVER_CLOSES, FlagRules
from simlib.core.backpressure import Overflow
from simlib.core.client import NEVER_S, Rules, applied_from, is_expired, step
from simlib.core.draws import Stream
from simlib.core.driver import cause_of
from simlib.core.faults import FAULT_EVENT, FaultEffect
from simlib.core.path import WINDOW
from simlib.core.polling import is_kept, is_unchanged, reply_of, request_of
from simlib.core.protocol import Action, Event, Heartbeat, Pause, State, Transport
from simlib.core.record import Cause, Count, Record, scalar_or_array, value_of
from simlib.core.resync import Resume
from simlib.core.server import SYN_RETRIES, ServerRules
from simlib.core.wire import Message
from simlib.engines.compiled import assignment, event_list, faults
from simlib.engines.compiled import state as state_module
from simlib.engines.compiled.assignment import (
    NO_FLAG,
    assigned_transport,
    close_for_rollback,
    enrol,
    set_percentage,
)
from simlib.engines.compiled.event_list import (
    CLIENT_MASK,
    LANES,
    LAST_SEQUENCE,
    STARTS,
    WHEEL,
    EventList,
    rows_of,
)
from simlib.engines.compiled.faults import (
    apply_fault,
    blocking_send,
    carried_by,
    drain,
    has_path_limits,
    is_under,
    node_of,
    one_way_s,
    ready_s,
    reset_connection,
    send_beat,
    transmit,
    try_send,
)
from simlib.engines.compiled.numba_support import fetch_ahead, inlined, loop
from simlib.engines.compiled.state import (
    ALARM,
    ANSWERED,
    BEATS,
    BROADCASTS,
    DATA_BITS,
    DONE,
    DONE_TRIP,
    KIND_BITS,
    LAST_EXCHANGE,
    LAYOUTS,
    LINE,
    LOG_ROWS,
    LOGS,
    MOST_OUT,
    OUT,
    REFUSED,
    REPLY_BITS,
    RESUME_BITS,
    STATE,
    TRIP,
    UNREACHED,
    ClientArrays,
    EngineOptions,
    Kind,
    RecordArrays,
    catch_up,
    disconnect,
    finalise,
    is_up_to_date,
    load_of,
    put,
    release_up_to,
    resume_outcome_of,
)
from simlib.errors import ScenarioError
from simlib.scenario.workload import Workload

POLLS = PUSHES = GENERAL = True
"""Which transports a loop serves, and whether anything goes wrong. Three copies are compiled: each
transport by itself where nothing does, and all of it."""

FINISHED = 0
NEEDS_ROOM = 1
TOO_LONG = 2


@inlined
def _listen(arrays: ClientArrays, number: int, exchange: int) -> None:
    """Put a listener at the end of the list, or leave it where it is."""
    row, state = arrays.rows[number], arrays.state[0]
    if row.subscribed < 0:
        if state.slots == len(arrays.order):
            _close_ranks(arrays)
        row.slot = state.slots
        arrays.order[state.slots] = number
        state.slots += 1
        state.subscribers += 1
    row.subscribed = exchange
    arrays.undisturbed_until_s[row.slot] = -NEVER_S


@inlined
def _close_ranks(arrays: ClientArrays) -> None:
    kept = 0
    for slot in range(arrays.state[0].slots):
        number = arrays.order[slot]
        if number >= 0:
            arrays.order[kept] = number
            arrays.undisturbed_until_s[kept] = arrays.undisturbed_until_s[slot]
            arrays.rows[number].slot = kept
            kept += 1
    arrays.state[0].slots = kept


@inlined
def _broadcast(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    rules: Rules,
    server_rules: ServerRules,
    server: Any,
    now: float,
    version: int,
    until_s: float,
    may_serve_at_once: bool,
    may_fail: bool,
) -> int:
    """One worker sends to one listener after the other; each message then travels."""
    subscribers = arrays.state[0].subscribers
    service_s = servers.service_time_s(
        server_rules,
        servers.broadcast_s(server_rules, subscribers),
        rules.seed,
        rules.replication,
        0,
        Stream.FAN_OUT_SERVICE,
        version,
    )
    busy_from_s = servers.free_from_s(server, now)
    start_s = servers.admit_fan_out(server, now, service_s)
    recording.add_busy(record, busy_from_s, start_s + service_s)
    counted = record.first < version <= record.until
    up, down = arrays.sizes[Message.PUSH, 0], arrays.sizes[Message.PUSH, 1]
    position = 0
    served = 0  # of the bin in hand
    ticks = 0
    index = 0
    all_served = 0
    longest_s = 0.0
    for slot in range(arrays.state[0].slots):
        number = arrays.order[slot] + 0
        if number < 0:
            continue
        position += 1
        t = servers.sent_s(server_rules, start_s, position, subscribers, service_s)
        kind = Kind.PUSH + 0
        if not (may_fail and has_path_limits(arrays)):
            t += value_of(arrays.half_s, number)
        elif server_rules.sending.overflow == Overflow.BLOCK:
            t = blocking_send(arrays, record, rules, server_rules.sending, server, number, t)
        else:
            kind = Kind.SEND + 0
        if t < arrays.undisturbed_until_s[slot] and t < until_s and may_serve_at_once:
            place = recording.bin_of(record, t)
            if place != index:
                _fill_bin(record, index, served, ticks, counted, up, down)
                index, served, ticks = place, 0, 0
            served += 1
            all_served += 1
            if counted:
                latency_s = t - now
                ticks += recording.ticks_of(latency_s)
                record.histogram[0, recording.bucket_of(latency_s)] += 1
                longest_s = max(longest_s, latency_s)
        else:
            if arrays.undisturbed_until_s[slot] > -NEVER_S:
                catch_up(arrays, record, number, version - 1)
                arrays.undisturbed_until_s[slot] = -NEVER_S
            load = load_of(arrays.rows[number].subscribed, kind, version)
            event_list.schedule(q, BROADCASTS, t, number, load)
    _fill_bin(record, index, served, ticks, counted, up, down)
    record.latency_max_s[0] = max(record.latency_max_s[0], longest_s)
    return all_served


@inlined
def _fill_bin(
    record: Record, index: int, served: int, ticks: int, counted: bool, up: int, down: int
) -> None:
    record.bins[0, index, Count.MESSAGES] += served
    record.bins[0, index, Count.UP_BYTES] += served * up
    record.bins[0, index, Count.DOWN_BYTES] += served * down
    if counted:
        record.bins[0, index, Count.DELIVERED] += served
        record.latency_ticks[0, index] += ticks


@inlined
def _readable(arrays: ClientArrays, record: Record, t: float) -> int:
    """Return how many changes are published by `t`; searched from where the last search ended."""
    state, publish_s = arrays.state[0], record.publish_s
    version = state.readable
    while version < len(publish_s) and publish_s[version] <= t:
        version += 1
    while version > 0 and publish_s[version - 1] > t:
        version -= 1
    state.readable = version
    return version


@inlined
def _episode(
    arrays: ClientArrays,
    rules: Rules,
    options: EngineOptions,
    number: int,
    activity: int,
    after_s: float,
) -> float:
    """Return when the client's next episode of a habit starts, and note when it ends."""
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


@inlined
def _fetch_clients(arrays: ClientArrays, counts: Any, entries: Any, start: int, n: int) -> None:
    """Have the rows of the clients of some coming events at hand."""
    for place in range(start, start + n):
        number = entries[place].word & CLIENT_MASK
        fetch_ahead(arrays.rows, number)
        fetch_ahead(counts, number)


@inlined
def _take(arrays: ClientArrays, counts: Any, q: EventList, source: int) -> int:
    """Remove a source's next event and return its load; have the clients at hand that follow."""
    load = event_list.take(q, source)
    if source < LANES and q.lanes[source].read == 0:
        start, held = event_list.chunk_ahead(q, source)
        _fetch_clients(arrays, counts, q.pool, start, held)
    return load


@inlined
def _go_round(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    rules: Rules,
    server_rules: ServerRules,
    server: Any,
    etag: bool,
    now: float,
    until_s: float,
    fast_until_s: float,
    may_fail: bool,
    most: int,
) -> int:
    """Serve polls as they are sent, then take in responses, up to the first event of another kind.

    Return how many alarms and responses were taken, 0 if the next event is neither. A response is
    scheduled too early to settle a tie with an alarm that is yet to be set, so it must be back
    before any such alarm can ring. Until `fast_until_s` jobs are served as ever.
    """
    rows, sizes, head_t, head_word = arrays.rows, arrays.sizes, q.head_t, q.head_word
    half = arrays.half_s[0]
    alarms = WHEEL if head_t[WHEEL] < head_t[ALARM] else ALARM
    # What is set here rings after a whole interval, or a retry.
    soonest_s = min(rules.interval_s * (1.0 - rules.jitter_frac), rules.retry_base_s)
    end_s = min(until_s, now + soonest_s)
    for source in range(event_list.SOURCES):
        if source != alarms and source != DONE_TRIP:
            end_s = min(end_s, head_t[source])
    handled = 0
    while head_t[alarms] < end_s and handled < most:
        if alarms == WHEEL and (
            q.hand[0].open == 0
            or (q.heap[0].load >> DATA_BITS) & ((1 << KIND_BITS) - 1) != Kind.DEADLINE
        ):
            break
        now = head_t[alarms]
        number = head_word[alarms] & CLIENT_MASK
        row = rows[number]
        arrives_s = now + half
        wait_s = servers.wait_s(server, arrives_s)
        is_calm = (
            row.state == State.IDLE
            and row.deadline_s == now
            and row.pauses == Pause.NONE
            and row.exchange < LAST_EXCHANGE
            and is_kept(row.opened_s, row.kept_until_s, now)
            and wait_s <= server_rules.shed_wait_s
            and arrives_s + wait_s + server_rules.poll_s + half < now + soonest_s
            and arrives_s < fast_until_s
            and not (may_fail and row.is_link_dead)
        )
        if not is_calm:
            break
        _take(arrays, record.clients, q, alarms)
        step(row, rules, Event.DEADLINE + 0, now, 0)
        recording.count(record, Count.POLLS, number, now)
        message = request_of(etag, row.fetched_s, 0)
        recording.add_bytes(record, number, now, sizes[message, 0], sizes[message, 1])
        begun_s = servers.admit(server, arrives_s, server_rules.poll_s)
        done_s = begun_s + server_rules.poll_s
        recording.add_busy(record, begun_s, done_s)
        row.kept_until_s = done_s + server_rules.keep_alive_s
        load = load_of(row.exchange, Kind.POLL_DONE, _readable(arrays, record, done_s) << 1)
        event_list.schedule(q, DONE_TRIP, done_s + half, number, load)
        arrays.state[0].events += 2
        handled += 1
    end_s = min(end_s, head_t[alarms])
    while head_t[DONE_TRIP] < end_s and handled < most:
        now = head_t[DONE_TRIP]
        number = head_word[DONE_TRIP] & CLIENT_MASK
        row = rows[number]
        load = _take(arrays, record.clients, q, DONE_TRIP)
        exchange = load >> (KIND_BITS + DATA_BITS)
        if row.exchange == exchange and not (may_fail and exchange <= row.closed_exchange):
            version = (load & ((1 << DATA_BITS) - 1)) >> 1
            event = Event.FETCHED + 0
            unchanged = is_unchanged(etag, row.fetched_s, row.seen, version)
            if unchanged:
                recording.count(record, Count.UNCHANGED, number, now)
                event = Event.UNCHANGED + 0
            before = row.seen
            deadline_s = step(row, rules, event, now, version)[1]
            if row.seen != before:
                recording.resolve(record, number, before, applied_from(row, before), row.seen, now)
            message = reply_of(unchanged, load & 1)
            recording.add_bytes(record, number, now, sizes[message, 0], sizes[message, 1])
            if deadline_s < NEVER_S:
                event_list.schedule(q, ALARM, deadline_s, number, load_of(0, Kind.DEADLINE, 0))
        arrays.state[0].events += 1
        handled += 1
    return handled


@inlined
def _room(record: Record, q: EventList, server: Any) -> int:
    """Return how many events surely find room for what they leave behind."""
    room = min(event_list.room(q) // MOST_OUT, len(server.accepts_s) - server.state.waiting)
    room = min(room, recording.rows_left(record.connections) // 2)
    if len(record.bins) > 1:
        room = min(room, recording.rows_left(record.exposures) // 2)
    if record.keep_deliveries:
        room = min(room, recording.rows_left(record.deliveries) // (len(record.publish_s) + 1))
    if record.keep_events:
        room = min(room, recording.rows_left(record.events) // MOST_OUT)
    return room


def _run(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    rules: Rules,
    server_rules: ServerRules,
    options: EngineOptions,
    flag: FlagRules,
    free_s: Any,
    accepts_s: Any,
    server_state: Any,
    until_s: float,
) -> int:
    """Handle every event before `until_s`; return FINISHED, or why it stopped before one."""
    state, hand, sizes, out = arrays.state[0], q.hand[0], arrays.sizes, arrays.out
    rows, half_s, ends_s, undisturbed_until_s = (
        arrays.rows,
        arrays.half_s,
        arrays.end_s,
        arrays.undisturbed_until_s,
    )
    start_s, head_t, head_word, publish_s = arrays.start_s, q.head_t, q.head_word, record.publish_s
    keep_events, keep_deliveries = record.keep_events, record.keep_deliveries
    seed, replication, keep_alive_s = rules.seed, rules.replication, server_rules.keep_alive_s
    sending = server_rules.sending
    tls, etag = rules.tls, options.etag
    beat_every_s = rules.heartbeat_interval_s
    server = servers.Server(free_s, accepts_s, server_state[0])
    at_once = not keep_events and not keep_deliveries and options.idle_s == NEVER_S
    if GENERAL:
        at_once = at_once and not has_path_limits(arrays) and not rules.throttles_timers
        at_once = at_once and rules.safety_poll_s == NEVER_S and not rules.has_flag
    clients_n = len(start_s)
    budget = 0
    if hand.sequence == 0:
        if PUSHES and len(publish_s) > 0:
            event_list.schedule(q, WHEEL, publish_s[0], 0, load_of(0, Kind.PUBLISH, 1))
        if GENERAL and len(arrays.fault_events) > 0:
            hand.sequence = 0
            event_list.schedule(q, WHEEL, arrays.fault_events[0].t, 1, load_of(0, Kind.FAULT, 0))
        hand.sequence = 1
        head_word[STARTS] = 2  # only the first change and the first fault were there before
        if clients_n > 0:
            head_t[STARTS] = start_s[0]

    # Polls go round by themselves where only the order of their jobs matters.
    goes_round = POLLS and at_once and len(half_s) == 1 and not server_rules.exponential
    if PUSHES:
        goes_round = goes_round and rules.transport == Transport.POLLING

    while True:
        source = event_list.next_source(q)
        now = head_t[source]
        if now >= until_s:
            return FINISHED
        if source == WHEEL and hand.open == 0:
            event_list.turn(q)
            _fetch_clients(arrays, record.clients, q.heap, 0, hand.open)
            continue
        if PUSHES and source == WHEEL and q.heap[0].load >> DATA_BITS == Kind.PUBLISH:
            if event_list.room(q) < state.subscribers + MOST_OUT:
                return NEEDS_ROOM
        if GENERAL and source == WHEEL:
            if (q.heap[0].load >> DATA_BITS) & ((1 << KIND_BITS) - 1) == Kind.FAULT:
                budget = 0
                room = min(event_list.room(q), recording.rows_left(record.connections))
                if room < clients_n + MOST_OUT:
                    return NEEDS_ROOM
        # Room for what it may leave behind; the caller makes it.
        if budget <= 0:
            budget = _room(record, q, server)
            if budget <= 0:
                return NEEDS_ROOM
            if hand.sequence >= LAST_SEQUENCE - MOST_OUT * budget:
                return TOO_LONG
        fast_until_s = min(
            record.horizon_s, until_s
        )  # what comes later may never come: see `_finish`
        if GENERAL:
            if state.fault_event < len(arrays.fault_events):
                fast_until_s = min(fast_until_s, arrays.fault_events[state.fault_event].t)
        if goes_round and state.under_way == 0 and source != STARTS:
            handled = _go_round(
                arrays,
                record,
                q,
                rules,
                server_rules,
                server,
                etag,
                now,
                until_s,
                fast_until_s,
                GENERAL,
                budget,
            )
            if handled > 0:
                budget -= handled
                continue
        budget -= 1
        kind = 0
        exchange = 0
        data = 0
        if source == STARTS:
            number = state.started
            state.started += 1
            head_t[STARTS] = NEVER_S
            if state.started < clients_n:
                head_t[STARTS] = start_s[state.started]
            kind += Kind.START
        else:
            number = head_word[source] & CLIENT_MASK
            load = _take(arrays, record.clients, q, source)
            data += load & ((1 << DATA_BITS) - 1)
            exchange += load >> (KIND_BITS + DATA_BITS)
            kind += (load >> DATA_BITS) & ((1 << KIND_BITS) - 1)
            if kind == Kind.POLL or kind == Kind.SYN:
                state.under_way -= 1
        state.events += 1
        n = 0
        if PUSHES and kind == Kind.PUBLISH:
            budget = 0  # a broadcast may have taken much room
            state.published = data
            if state.subscribers > 0:
                # Whoever hears of it at once is up to date before and after.
                state.events += _broadcast(
                    arrays,
                    record,
                    q,
                    rules,
                    server_rules,
                    server,
                    now,
                    data,
                    fast_until_s,
                    at_once,
                    GENERAL,
                )
            if data < len(publish_s):
                load = load_of(0, Kind.PUBLISH, data + 1)
                event_list.schedule(q, WHEEL, publish_s[data], 0, load)
            continue
        if GENERAL:
            if kind == Kind.FAULT:
                apply_fault(arrays, record, q, rules, options, server, now)
                continue

        row = rows[number]
        if row.exchange >= LAST_EXCHANGE:
            return TOO_LONG
        half = value_of(half_s, number) + 0.0
        if GENERAL:
            half = one_way_s(arrays, rules, number, now)
        is_pushed = PUSHES and (not POLLS or row.transport == Transport.WEBSOCKET)
        if PUSHES:
            catch_up(arrays, record, number, state.published)
        event = -1
        value = 0
        up = 0
        down = 0
        asks = False
        first = False
        fails = False

        # 1. Jobs.
        if kind <= Kind.SYN:
            if GENERAL:
                is_dead = PUSHES and exchange <= row.lost_exchange
                if kind == Kind.PONG_UP and is_dead:
                    t = now + rules.heartbeat_timeout_s
                    event_list.schedule(
                        q, WHEEL, t, number, load_of(exchange, Kind.PEER_TIMEOUT, 0)
                    )
                if kind == Kind.SAFETY_POLL:
                    is_dead = False  # it comes on a connection of its own
                if kind != Kind.BEAT and (exchange <= row.closed_exchange or is_dead):
                    continue
                is_beat = kind == Kind.PONG_UP or kind == Kind.PING_UP
                if PUSHES and is_beat and row.subscribed != exchange:
                    continue
            mean_s = -1.0
            stream = 0
            k = 0
            if kind == Kind.POLL:
                if servers.wait_s(server, now) > server_rules.shed_wait_s:
                    row.kept_until_s = now + keep_alive_s
                    n = put(out, n, TRIP, now + half, Kind.POLL_REFUSED, exchange, data)
                else:
                    mean_s, stream, k = server_rules.poll_s, Stream.POLL_SERVICE, exchange
            elif PUSHES and kind == Kind.UPGRADE:
                blocked = False
                if GENERAL:
                    blocked = is_under(arrays, rules, FaultEffect.BLOCK + 0, number)
                is_late = servers.wait_s(server, now) > server_rules.shed_wait_s
                if blocked or is_late or not servers.admits_upgrade(server, server_rules, now):
                    n = put(out, n, TRIP, now + half, Kind.UPGRADE_REFUSED, exchange, 0)
                else:
                    mean_s, stream = server_rules.handshake_s, Stream.HANDSHAKE_SERVICE
                    k = 2 * exchange
            elif PUSHES and kind == Kind.AUTHENTICATE:
                mean_s, stream = server_rules.authenticate_s, Stream.HANDSHAKE_SERVICE
                if (
                    resume_outcome_of(arrays, record, rules, GENERAL, number, now)
                    == Resume.SNAPSHOT
                ):
                    mean_s += server_rules.snapshot_s
                k = 2 * exchange + 1
            elif PUSHES and kind == Kind.BEAT:
                if row.subscribed == exchange:
                    row.beats += 2
                    data = int(row.beats)
                    mean_s, stream = server_rules.heartbeat_s, Stream.HEARTBEAT_SERVICE
                    k = data
            elif PUSHES and kind == Kind.PONG_UP:
                mean_s, stream = server_rules.heartbeat_s, Stream.HEARTBEAT_SERVICE
                k = data + 1
            elif GENERAL and PUSHES and kind == Kind.SAFETY_POLL:
                node = node_of(arrays, rules, number, exchange)
                is_shed = servers.wait_s(server, now) > server_rules.shed_wait_s
                is_lost = is_under(arrays, rules, FaultEffect.PARTITION + 0, number)
                if not is_lost and (node < 0 or is_shed):
                    reply = REFUSED if node >= 0 else UNREACHED
                    n = put(out, n, WHEEL, now + half, Kind.SAFETY_POLL_REPLY, exchange, reply)
                elif not is_lost:
                    row.beats += 1
                    mean_s = server_rules.accept_s + server_rules.poll_s
                    stream, k = Stream.SAFETY_SERVICE, int(row.beats)
            elif kind == Kind.PING_UP:
                row.beats += 1
                mean_s, stream = server_rules.heartbeat_s, Stream.HEARTBEAT_SERVICE
                k = int(row.beats)
            else:
                mean_s, stream, k = server_rules.accept_s, Stream.ACCEPT_SERVICE, exchange
                if GENERAL:
                    if is_under(arrays, rules, FaultEffect.PARTITION + 0, number):
                        t = now + max(0.0, servers.syn_retry_s(data) - half)
                        n = put(out, n, WHEEL, t, Kind.SYN_AGAIN, exchange, data)
                        mean_s = -1.0
                    else:
                        row.node = node_of(arrays, rules, number, exchange)
                    if mean_s >= 0.0 and row.node < 0:
                        n = put(out, n, TRIP, now + half, Kind.FAIL, exchange, 1)
                        mean_s = -1.0
            if mean_s >= 0.0:
                service_s = servers.service_time_s(
                    server_rules, mean_s, seed, replication, number, stream, k
                )
                if kind == Kind.SYN:
                    begun_s = servers.accept(server, server_rules, now, service_s)
                else:
                    begun_s = servers.admit(server, now, service_s)
                done_s = begun_s + service_s
                if begun_s >= 0.0:
                    recording.add_busy(record, begun_s, done_s)
                if kind == Kind.POLL:
                    version = _readable(arrays, record, done_s)
                    row.kept_until_s = done_s + keep_alive_s
                    t = done_s + 0.0
                    if GENERAL:
                        unchanged = is_unchanged(etag, row.fetched_s, row.seen, version)
                        unchanged = unchanged and not recording.has_gaps(record, number)
                        size = float(sizes[reply_of(unchanged, data & 1), 1])
                        t = carried_by(arrays, rules, number, done_s, size)
                    data = (version << 1) | (data & 1)
                    n = put(out, n, DONE_TRIP, t + half, Kind.POLL_DONE, exchange, data)
                elif PUSHES and kind == Kind.UPGRADE:
                    n = put(out, n, DONE, done_s, Kind.UPGRADE_SERVED, exchange, 0)
                elif PUSHES and kind == Kind.AUTHENTICATE:
                    n = put(out, n, DONE, done_s, Kind.AUTHENTICATED, exchange, 0)
                elif PUSHES and kind == Kind.BEAT:
                    t = done_s + half
                    if GENERAL:
                        size = float(sizes[Message.PING_DOWN, 1])
                        t = send_beat(arrays, rules, number, done_s, size)
                    n = put(out, n, DONE_TRIP, t, Kind.PING, exchange, data)
                elif PUSHES and kind == Kind.PONG_UP:
                    t = done_s + beat_every_s
                    n = put(out, n, BEATS, t, Kind.BEAT, exchange, 0)
                elif GENERAL and PUSHES and kind == Kind.SAFETY_POLL:
                    version = _readable(arrays, record, done_s)
                    size = float(sizes[Message.POLL_RESPONSE_FIRST, 1])
                    t = carried_by(arrays, rules, number, done_s, size) + half
                    reply = (version << REPLY_BITS) | ANSWERED
                    n = put(out, n, WHEEL, t, Kind.SAFETY_POLL_REPLY, exchange, reply)
                elif kind == Kind.PING_UP:
                    t = done_s + half
                    if GENERAL:
                        size = float(sizes[Message.PONG_DOWN, 1])
                        t = send_beat(arrays, rules, number, done_s, size)
                    n = put(out, n, DONE_TRIP, t, Kind.PONG, exchange, 0)
                elif begun_s >= 0.0:
                    n = put(out, n, TRIP, now + half, Kind.TCP_OPEN, exchange, 0)
                else:
                    t = now + max(0.0, servers.syn_retry_s(data) - half)
                    n = put(out, n, WHEEL, t, Kind.SYN_AGAIN, exchange, data)

        # 2. Arrivals.
        elif kind == Kind.DEADLINE:
            if row.deadline_s == now:
                event = Event.DEADLINE
        elif POLLS and kind == Kind.POLL_DONE:
            if row.exchange == exchange and not (GENERAL and exchange <= row.closed_exchange):
                event, value = Event.FETCHED, data >> 1
                unchanged = is_unchanged(etag, row.fetched_s, row.seen, value)
                if GENERAL:
                    unchanged = unchanged and not recording.has_gaps(record, number)
                if unchanged:
                    recording.count(record, Count.UNCHANGED, number, now)
                    event = Event.UNCHANGED
                message = reply_of(unchanged, data & 1)
                up, down = sizes[message, 0], sizes[message, 1]
        elif kind == Kind.START:
            event, value = Event.START, row.seen + 0
            if GENERAL and rules.has_flag:
                enrol(arrays, record, rules, flag, number, now)
        elif GENERAL and kind == Kind.FLAG and data == SERVER_CLOSES:
            t = close_for_rollback(arrays, record, server, rules, server_rules, number, now)
            if t < NEVER_S:
                n = put(out, n, WHEEL, t, Kind.FLAG, 0, SERVER_CLOSED)
        elif GENERAL and kind == Kind.FLAG:
            target = assigned_transport(arrays, flag, number, data, now)
            if row.state != State.GONE and target != row.target:
                recording.end_exposure(record, number, now)
                recording.start_exposure(record, number, target, now)
                event, value = Event.ASSIGNED, target
        elif kind == Kind.STOP:
            finalise(arrays, record, rules, number, now)
            if GENERAL:
                recording.end_exposure(record, number, now)
            event = Event.STOP
        elif kind == Kind.ACTIVITY:
            event = Event.DRAG_START + data
        elif PUSHES and kind == Kind.CLOSE:
            if GENERAL and exchange <= row.lost_exchange:
                continue  # it never arrives
            row.closed_exchange = max(row.closed_exchange, exchange)
            release_up_to(arrays, row, exchange)
            if data:
                n = put(out, n, TRIP, now + half, Kind.CLOSE_REPLY, exchange, 0)
        elif PUSHES and kind == Kind.CLOSE_REPLY:
            up, down = sizes[Message.CLOSE_DOWN, 0], sizes[Message.CLOSE_DOWN, 1]
        elif PUSHES and kind == Kind.UPGRADE_SERVED:
            if row.closed_exchange < exchange:
                if state.sockets >= server_rules.max_connections:
                    n = put(out, n, TRIP, now + half, Kind.UPGRADE_REFUSED, exchange, 0)
                else:
                    if row.socket < 0:
                        state.sockets += 1
                    row.socket = exchange
                    n = put(out, n, TRIP, now + half, Kind.UPGRADE_DONE, exchange, 0)
        elif PUSHES and kind == Kind.AUTHENTICATED:
            if row.closed_exchange < exchange and is_expired(rules, start_s[number], now):
                n = put(out, n, TRIP, now + half, Kind.AUTH_REFUSED, exchange, 0)
            elif row.closed_exchange < exchange:
                _listen(arrays, number, exchange)
                if rules.heartbeat == Heartbeat.SERVER:
                    t = now + beat_every_s
                    n = put(out, n, BEATS, t, Kind.BEAT, exchange, 0)
                outcome = resume_outcome_of(arrays, record, rules, GENERAL, number, now)
                t = now + half
                if GENERAL:
                    missed = int(state.published) - row.seen
                    t = ready_s(arrays, rules, number, now, outcome, missed)
                is_apart = GENERAL and outcome == Resume.SNAPSHOT and has_path_limits(arrays)
                if is_apart:
                    outcome = Resume.NOTHING + 0  # it comes by itself
                version = int(state.published)
                n = put(out, n, TRIP, t, Kind.READY, exchange, (version << RESUME_BITS) | outcome)
                if is_apart:
                    size = float(sizes[Message.SNAPSHOT, 1])
                    t = transmit(arrays, rules, number, now, size)
                    n = put(out, n, WHEEL, t, Kind.SNAPSHOT, exchange, version)
        elif GENERAL and kind == Kind.PEER_TIMEOUT:
            release_up_to(arrays, row, exchange)
        elif GENERAL and kind == Kind.IDLE:
            if row.exchange == exchange and exchange > max(row.closed_exchange, row.lost_exchange):
                t = row.active_s + options.idle_s
                if now < t:
                    n = put(out, n, WHEEL, t, Kind.IDLE, exchange, 0)
                else:
                    reset_connection(arrays, record, q, rules, number, now)
        elif GENERAL and PUSHES and kind == Kind.SEND:
            if row.subscribed == exchange:
                n = try_send(
                    arrays,
                    record,
                    rules,
                    sending,
                    number,
                    now,
                    exchange,
                    data,
                    n,
                )
        elif GENERAL and PUSHES and kind == Kind.WRITABLE:
            if row.subscribed == exchange:
                n = drain(arrays, rules, sending, number, now, exchange, n)
        elif GENERAL and PUSHES and kind == Kind.SAFETY_POLL_REPLY:
            reply = data & ((1 << REPLY_BITS) - 1)
            if row.exchange == exchange:
                if reply != UNREACHED:
                    message = Message.POLL_RESPONSE_FIRST + 0
                    if reply == REFUSED:
                        message = Message.POLL_REFUSED_FIRST + 0
                    up = sizes[message, 0] + sizes[Message.TCP_CLOSE, 0]
                    down = sizes[message, 1] + sizes[Message.TCP_CLOSE, 1]
                if reply == ANSWERED:
                    event, value = Event.SNAPSHOT, data >> REPLY_BITS
                else:
                    recording.count_failed_safety_poll(record, number, now)
        elif GENERAL and kind == Kind.FAIL:
            fails = row.exchange == exchange and (data == 0 or exchange > row.closed_exchange)
        elif GENERAL and kind == Kind.UNANSWERED:
            fails = row.exchange == exchange
            if fails:
                disconnect(arrays, record, number, now, Cause.TIMED_OUT, Transport.POLLING)
                row.kept_until_s = -NEVER_S
                row.is_link_dead = False
        elif GENERAL and PUSHES and exchange <= row.lost_exchange:
            is_message = kind == Kind.PUSH or kind == Kind.SNAPSHOT
            if kind == Kind.PING:
                t = now + rules.heartbeat_timeout_s
                event_list.schedule(q, WHEEL, t, number, load_of(exchange, Kind.PEER_TIMEOUT, 0))
            elif is_message and rules.heartbeat != Heartbeat.SERVER:
                t = now + options.unanswered_s
                event_list.schedule(q, WHEEL, t, number, load_of(exchange, Kind.PEER_TIMEOUT, 0))
            continue
        elif row.exchange != exchange or (GENERAL and exchange <= row.closed_exchange):
            continue  # what arrives belongs to an exchange that is over
        elif kind == Kind.SYN_AGAIN:
            if data < SYN_RETRIES:
                state.under_way += 1
                n = put(out, n, TRIP, now + half, Kind.SYN, exchange, data + 1)
            else:
                fails = True
        elif kind == Kind.TCP_OPEN:
            up, down = sizes[Message.TCP_OPEN, 0], sizes[Message.TCP_OPEN, 1]
            if is_pushed:
                event = Event.CONNECTED
            elif tls:
                n = put(out, n, WHEEL, now + 2.0 * half, Kind.TLS_OPEN, exchange, 0)
            else:
                asks = first = True
        elif kind == Kind.TLS_OPEN:
            up, down = sizes[Message.TLS_OPEN, 0], sizes[Message.TLS_OPEN, 1]
            if is_pushed:
                event = Event.SECURED
            else:
                asks = first = True
        elif POLLS and kind == Kind.POLL_REFUSED:
            message = Message.POLL_REFUSED - (data & 1)
            up, down = sizes[message, 0], sizes[message, 1]
            fails = True
        elif PUSHES and kind == Kind.UPGRADE_REFUSED:
            up, down = sizes[Message.UPGRADE_REFUSED, 0], sizes[Message.UPGRADE_REFUSED, 1]
            fails = True
        elif PUSHES and kind == Kind.UPGRADE_DONE:
            up = sizes[Message.UPGRADE_RESPONSE, 0] + sizes[Message.HELLO, 0]
            down = sizes[Message.UPGRADE_RESPONSE, 1] + sizes[Message.HELLO, 1]
            row.has_upgraded = True
            event = Event.UPGRADED
        elif PUSHES and kind == Kind.AUTH_REFUSED:
            up, down = sizes[Message.AUTH_REFUSED, 0], sizes[Message.AUTH_REFUSED, 1]
            recording.count(record, Count.ERRORS, number, now)
            event = Event.REJECTED
        elif PUSHES and kind == Kind.READY:
            up, down = sizes[Message.READY, 0], sizes[Message.READY, 1]
            recording.open_connection(record, number, now)
            row.opened_s = now
            if GENERAL:
                row.served_by = arrays.process[row.node]
            if GENERAL and options.idle_s < NEVER_S:
                n = put(out, n, WHEEL, now + options.idle_s, Kind.IDLE, exchange, 0)
            event = Event.READY
            if data & ((1 << RESUME_BITS) - 1) == Resume.LOST:
                value = data >> RESUME_BITS
        elif PUSHES and kind == Kind.PUSH:
            up, down = sizes[Message.PUSH, 0], sizes[Message.PUSH, 1]
            recording.count(record, Count.MESSAGES, number, now)
            event, value = Event.PUSH, data
        elif GENERAL and PUSHES and kind == Kind.SNAPSHOT:
            up, down = sizes[Message.SNAPSHOT, 0], sizes[Message.SNAPSHOT, 1]
            recording.count(record, Count.MESSAGES, number, now)
            event, value = Event.SNAPSHOT, data
        elif PUSHES and kind == Kind.PING:
            up, down = sizes[Message.PING_DOWN, 0], sizes[Message.PING_DOWN, 1]
            event = Event.PING
        else:
            up, down = sizes[Message.PONG_DOWN, 0], sizes[Message.PONG_DOWN, 1]
            event = Event.PONG
        if fails:
            recording.count(record, Count.ERRORS, number, now)
            event = Event.FAILED + 0
            if is_pushed:
                event = Event.CLOSED + 0

        # 3. Feeding.
        while event >= 0:
            before = row.seen
            was = row.transport + 0
            armed_s = NEVER_S if event == Event.DEADLINE else row.deadline_s
            actions, deadline_s = step(row, rules, event, now, value)
            if row.seen != before:
                shown_from = applied_from(row, before)
                recording.resolve(record, number, before, shown_from, row.seen, now)
            if GENERAL and PUSHES and (event == Event.SNAPSHOT or event == Event.FETCHED):
                recording.fill_gaps(record, number, value, now)
            if keep_events:
                recording.log_event(record, now, number, event, row.state, actions)
            if deadline_s != armed_s and deadline_s < NEVER_S:
                n = put(out, n, ALARM, deadline_s, Kind.DEADLINE, 0, 0)
            if POLLS and PUSHES and row.transport < was and event != Event.ASSIGNED:
                recording.count(record, Count.FALLBACKS, number, now)
            if actions & Action.CLOSE:
                if POLLS and was == Transport.POLLING:
                    if row.kept_until_s < now:
                        disconnect(
                            arrays, record, number, row.kept_until_s, Cause.IDLE, Transport.POLLING
                        )
                    else:
                        disconnect(arrays, record, number, now, cause_of(event, was), was)
                else:
                    if event == Event.DEADLINE:
                        recording.count(record, Count.ERRORS, number, now)
                    graceful = (event == Event.STOP or event == Event.ASSIGNED) and row.has_upgraded
                    row.has_upgraded = False
                    disconnect(arrays, record, number, now, cause_of(event, was), was)
                    if graceful:
                        up += sizes[Message.CLOSE_UP, 0]
                        down += sizes[Message.CLOSE_UP, 1]
                    closed_exchange = row.exchange - 1
                    n = put(out, n, TRIP, now + half, Kind.CLOSE, closed_exchange, int(graceful))
            if POLLS and actions & Action.FETCH:
                if is_kept(row.opened_s, row.kept_until_s, now):
                    asks = True
                else:
                    disconnect(
                        arrays, record, number, row.kept_until_s, Cause.IDLE, Transport.POLLING
                    )
                    if GENERAL:
                        row.is_link_dead = False
                        row.node = -1
                    state.under_way += 1
                    n = put(out, n, TRIP, now + half, Kind.SYN, row.exchange, 0)
            if PUSHES and actions & Action.CONNECT:
                recording.count(record, Count.ATTEMPTS, number, now)
                if GENERAL:
                    row.node = -1
                state.under_way += 1
                n = put(out, n, TRIP, now + half, Kind.SYN, row.exchange, 0)
            if PUSHES and actions & Action.SECURE:
                n = put(out, n, WHEEL, now + 2.0 * half, Kind.TLS_OPEN, row.exchange, 0)
            if PUSHES and actions & Action.UPGRADE:
                up += sizes[Message.UPGRADE_REQUEST, 0]
                down += sizes[Message.UPGRADE_REQUEST, 1]
                n = put(out, n, TRIP, now + half, Kind.UPGRADE, row.exchange, 0)
            if PUSHES and actions & Action.AUTHENTICATE:
                up += sizes[Message.AUTH, 0]
                down += sizes[Message.AUTH, 1]
                n = put(out, n, TRIP, now + half, Kind.AUTHENTICATE, row.exchange, 0)
            if GENERAL and PUSHES and actions & Action.SAFETY_POLL:
                recording.count_safety_poll(record, number, now)
                for message in (Message.TCP_OPEN, Message.TLS_OPEN, Message.POLL_REQUEST_FIRST):
                    up += sizes[message, 0]
                    down += sizes[message, 1]
                round_trips = 2.0 if tls else 1.0
                t = now + (2.0 * round_trips + 1.0) * half
                n = put(out, n, WHEEL, t, Kind.SAFETY_POLL, row.exchange, 0)
            if PUSHES and actions & Action.SEND_PING:
                up += sizes[Message.PING_UP, 0]
                down += sizes[Message.PING_UP, 1]
                n = put(out, n, TRIP, now + half, Kind.PING_UP, row.exchange, 0)
            if PUSHES and actions & Action.SEND_PONG:
                up += sizes[Message.PONG_UP, 0]
                down += sizes[Message.PONG_UP, 1]
            if (
                PUSHES
                and event == Event.READY
                and data & ((1 << RESUME_BITS) - 1) >= Resume.SNAPSHOT
            ):
                event, value = Event.SNAPSHOT, data >> RESUME_BITS
                message, messages = Message.SNAPSHOT + 0, 1
                if data & ((1 << RESUME_BITS) - 1) == Resume.REPLAY:
                    event = Event.REPLAY
                    message, messages = Message.PUSH + 0, value - row.seen
                up += messages * sizes[message, 0]
                down += messages * sizes[message, 1]
                recording.count(record, Count.MESSAGES, number, now, messages)
            else:
                event = -1

        # 4. Requests, and what else follows.
        if POLLS and asks:
            if first:
                recording.open_connection(record, number, now)
                row.opened_s = now
            recording.count(record, Count.POLLS, number, now)
            row.kept_until_s = NEVER_S
            message = request_of(etag, row.fetched_s, first)
            up += sizes[message, 0]
            down += sizes[message, 1]
            if GENERAL and row.is_link_dead:
                t = now + options.unanswered_s
                n = put(out, n, WHEEL, t, Kind.UNANSWERED, row.exchange, 0)
            else:
                state.under_way += 1
                n = put(out, n, TRIP, now + half, Kind.POLL, row.exchange, int(first))
        if PUSHES and kind == Kind.PING:
            n = put(out, n, TRIP, now + half, Kind.PONG_UP, exchange, data)
        elif kind == Kind.ACTIVITY:
            activity = data >> 1
            t = arrays.activity_end_s[activity, number]
            if data & 1:
                t = _episode(arrays, rules, options, number, activity, now)
            if t < value_of(ends_s, number):
                n = put(out, n, WHEEL, t, Kind.ACTIVITY, 0, data ^ 1)
        elif kind == Kind.START:
            end_s = value_of(ends_s, number)
            for activity in range(2):
                every_s = options.drag_every_s if activity == 0 else options.hidden_every_s
                if every_s > 0.0:
                    t = _episode(arrays, rules, options, number, activity, now)
                    if t < end_s:
                        n = put(out, n, WHEEL, t, Kind.ACTIVITY, 0, 2 * activity)
            if end_s < record.horizon_s:
                n = put(out, n, WHEEL, end_s, Kind.STOP, 0, 0)
        recording.add_bytes(record, number, now, up, down)
        if GENERAL and (up > 0 or down > 0):
            row.active_s = now
        for place in range(n):
            item = arrays.out[place]
            event_list.schedule(q, item.lane, item.t, number, item.load)
        if PUSHES:
            if row.subscribed >= 0:
                up_to_date = is_up_to_date(arrays, number)
                if GENERAL:
                    up_to_date = up_to_date and row.lost_exchange < row.exchange
                fast_until_s = min(row.deadline_s, value_of(ends_s, number))
                undisturbed_until_s[row.slot] = fast_until_s if up_to_date else -NEVER_S


def _finish(
    arrays: ClientArrays, record: Record, rules: Rules, free_s: NDArray[np.float64], now: float
) -> None:
    """Close the books, without what comes later: idle ends before now, work after now."""
    for worker in range(len(free_s)):
        recording.add_busy(record, now, free_s[worker], -1.0)
    for number in range(len(arrays.rows)):
        kept_until_s = arrays.rows[number].kept_until_s
        is_polling = POLLS and arrays.rows[number].transport == Transport.POLLING
        if is_polling and 0.0 <= kept_until_s < now:
            disconnect(arrays, record, number, kept_until_s, Cause.IDLE, Transport.POLLING)
    for number in range(len(arrays.rows)):
        row = arrays.rows[number]
        if PUSHES:
            catch_up(arrays, record, number, arrays.state[0].published)
        if row.state != State.GONE:
            finalise(arrays, record, rules, number, now)
            if GENERAL and row.state != State.ABSENT:
                recording.end_exposure(record, number, now)
        disconnect(arrays, record, number, now, Cause.OPEN_AT_END, row.transport)


def _set_percentage(
    arrays: ClientArrays, q: EventList, rules: Rules, flag: FlagRules, percent: float, now: float
) -> None:
    """From now on so many percent of the users are enrolled."""
    set_percentage(arrays, q, rules, flag, percent, now)


# -- the engine ----------------------------------------------------------------------------------


@cache
def _loops(polls: bool, pushes: bool) -> list[Any]:
    names = {"POLLS": polls, "PUSHES": pushes, "GENERAL": polls and pushes}
    parts = (state_module, faults, assignment)
    return [loop(function, parts, **names) for function in (_run, _finish, _set_percentage)]


class Simulation:
    """One run in compiled time; the same face as the reference engine's.

    Parameters
    ----------
    workload : Workload
    record : Record
        Filled as time goes by.
    """

    def __init__(self, workload: Workload, record: Record) -> None:
        clients_n = len(workload.start_s)
        activities_n = clients_n if workload.drag or workload.hidden else 0
        is_pushed = workload.rules.transport == Transport.WEBSOCKET
        is_mixed = (
            bool(workload.fault_events or workload.delays or workload.limits)
            or workload.nodes > 1
            or workload.rules.throttles_timers
            or workload.flag is not None
            or (
                is_pushed
                and (
                    workload.rules.fallback.is_on
                    or workload.idle_s < NEVER_S
                    or workload.rules.safety_poll_s < NEVER_S
                )
            )
        )
        variant = is_mixed or not is_pushed, is_mixed or is_pushed
        links_n = clients_n if variant[1] else 0
        self._run, self._finish, self._set_percentage = _loops(*variant)
        self._flag = workload.flag or NO_FLAG
        self.is_interrupted = False
        self._now_s = 0.0
        self._record = record
        self._rules = workload.rules._replace(
            seed=_signed(workload.rules.seed), replication=_signed(workload.rules.replication)
        )
        self._server_rules = workload.server
        self._options = EngineOptions(
            workload.etag,
            *((workload.drag.every_s, workload.drag.length_s) if workload.drag else (-1.0, 0.0)),
            *(
                (workload.hidden.every_s, workload.hidden.length_s)
                if workload.hidden
                else (-1.0, 0.0)
            ),
            workload.idle_s,
            workload.unanswered_s,
        )
        layout = LAYOUTS[variant]
        rows = _on_lines(clients_n, layout)
        record.clients, record.traffic = recording.counts_in(np.asarray(rows["counts"]))
        rows["number"] = np.arange(clients_n, dtype=np.int32)
        rows["seen"] = record.entered
        rows["fetched_s"] = rows["kept_until_s"] = -NEVER_S
        rows["deadline_s"] = rows["opened_s"] = NEVER_S
        if links_n:
            rows["subscribed"] = rows["socket"] = rows["slot"] = -1
        if is_mixed:
            rows["lost_exchange"] = rows["served_by"] = rows["node"] = -1
        self._fleet = ClientArrays(
            rows=rows,
            activity_end_s=np.zeros((2, activities_n)),
            activity_k=np.zeros((2, activities_n), np.int32),
            order=np.zeros(2 * links_n, np.int32),
            undisturbed_until_s=np.zeros(2 * links_n),
            start_s=workload.start_s,
            end_s=scalar_or_array(workload.end_s),
            half_s=scalar_or_array(workload.rtt_s) / 2.0,
            sizes=workload.sizes,
            out=rows_of(MOST_OUT, OUT),
            state=rows_of(1, STATE),
            fault_events=_table_of(workload.fault_events, FAULT_EVENT),
            active=np.zeros(len(workload.fault_events), np.bool_),
            delays=_table_of(workload.delays, WINDOW),
            limits=_table_of(workload.limits, WINDOW),
            buckets=workload.buckets,
            percents=_table_of((), PERCENT),
            is_down=np.zeros(workload.nodes, np.bool_),
            process=np.arange(workload.nodes),
            kept_from=np.zeros(workload.nodes, np.int64),
        )
        rules = workload.rules
        turn_s = max(rules.interval_s, rules.reconnect.cap_s, rules.heartbeat_interval_s)
        self._events = event_list.new_event_list(
            clients_n, min(2.0 * turn_s, record.horizon_s), record.horizon_s
        )
        self._free_s = np.zeros(workload.server.workers)
        self._accepts_s = np.zeros(1024)
        self._server_state = rows_of(1, list(servers.SERVER_STATE.items()))
        kept = {name: getattr(record, name) for name in RecordArrays._fields}
        kept["publish_s"] = workload.publish_s
        if is_mixed and record.cohort is None:
            kept["cohort"] = np.zeros(1, np.int8)
        for name, columns in LOGS.items():
            kept[name] = _new_log(columns)
        self._arrays = RecordArrays(**kept)

    @property
    def events(self) -> int:
        """How many events have been handled."""
        return int(self._fleet.state["events"][0])

    def run_until(self, t: float) -> None:
        """Let everything before `t` happen, seconds."""
        while True:
            done = self._run(
                self._fleet,
                self._arrays,
                self._events,
                self._rules,
                self._server_rules,
                self._options,
                self._flag,
                self._free_s,
                self._accepts_s,
                self._server_state,
                t,
            )
            if done == FINISHED:
                self._now_s = t
                return
            if done == TOO_LONG:
                raise ScenarioError("horizon_s", self._record.horizon_s, "must be shorter")
            self._make_room()

    def _make_room(self) -> None:
        """Lengthen what the loop has found too short."""
        affected_n = len(self._fleet.rows) if len(self._fleet.fault_events) else 0
        entries = max(int(self._fleet.state[0].subscribers), affected_n) + MOST_OUT
        if event_list.room(self._events) < entries:
            self._events = event_list.grow(self._events, entries)
        if self._server_state[0].waiting == len(self._accepts_s):
            ring, oldest = self._accepts_s, int(self._server_state[0].oldest)
            ring = np.concatenate((ring[oldest:], ring[:oldest]))
            self._accepts_s, self._server_state[0].oldest = event_list.longer(ring, len(ring)), 0
        self._room_for("connections", affected_n + MOST_OUT)
        self._room_for("exposures", MOST_OUT)
        if self._arrays.keep_deliveries:
            self._room_for("deliveries", len(self._arrays.publish_s) + 1)
        self._room_for("events", MOST_OUT)

    def _room_for(self, log: str, rows: int) -> None:
        if recording.rows_left(getattr(self._arrays, log)) < rows:
            table, filled = getattr(self._arrays, log)
            longer = event_list.longer(table, max(rows, len(table)))
            room: Any = {log: (longer, filled)}
            self._arrays = self._arrays._replace(**room)

    def set_percentage(self, percent: float) -> None:
        """From now on so many percent of the users are enrolled."""
        entries = 2 * len(self._fleet.rows) + MOST_OUT
        if event_list.room(self._events) < entries:
            self._events = event_list.grow(self._events, entries)
        told, percents = int(self._fleet.state[0].percents), self._fleet.percents
        if told == len(percents):
            longer = event_list.longer(percents, max(16, told))
            self._fleet = self._fleet._replace(percents=longer)
        arrays, rules = self._fleet, self._rules
        self._set_percentage(arrays, self._events, rules, self._flag, float(percent), self._now_s)

    def snapshot(self) -> recording.MetricsSnapshot:
        """Return what is known now."""
        rows, now = self._fleet.rows, self._now_s
        is_present = (rows["state"] != State.ABSENT) & (rows["state"] != State.GONE)
        is_idle = (rows["transport"] == Transport.POLLING) & (rows["kept_until_s"] < now)
        return recording.snapshot(
            self._arrays, is_present, (rows["opened_s"] < NEVER_S) & ~is_idle, now
        )

    def interrupt(self) -> None:
        """End `run_until` at the end of the slice in hand."""
        self.is_interrupted = True

    def now_s(self) -> float:
        """Return how far the run has come, seconds."""
        return self._now_s

    def finish(self) -> None:
        """Close the books."""
        self._events = event_list.new_event_list(0, 1.0, 1.0)  # its memory is needed no more
        for log in ("connections", "exposures"):
            self._room_for(log, len(self._fleet.rows))
        record = self._record
        self._arrays = self._arrays._replace(last=record.last)
        self._finish(self._fleet, self._arrays, self._rules, self._free_s, self._now_s)
        for name in LOGS:
            log = getattr(self._arrays, name)
            rows = log if isinstance(log, list) else log[0][: log[1][0]]
            setattr(record, name, rows)


def _on_lines(n: int, layout: np.dtype[Any]) -> Any:
    """Return rows of zeros that begin where a line of memory begins."""
    space = np.zeros(n * layout.itemsize + LINE, np.uint8)
    start = -space.ctypes.data % LINE
    return space[start : start + n * layout.itemsize].view(layout).view(np.recarray)


def _table_of(values: tuple[Any, ...], columns: dict[str, str]) -> Any:
    """Named tuples as rows."""
    table = rows_of(len(values), list(columns.items()))
    for row, value in zip(table, values, strict=True):
        for name in columns:
            row[name] = getattr(value, name)
    return table


def _new_log(columns: dict[str, str]) -> Any:
    """Rows and how many are filled; interpreted code keeps a list."""
    if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
        return []
    return np.zeros(LOG_ROWS, list(columns.items())), np.zeros(1, np.int64)


def _signed(word: int) -> int:
    """The same 64 bits as a signed number."""
    return word - (1 << 64) if word >= 1 << 63 else word
