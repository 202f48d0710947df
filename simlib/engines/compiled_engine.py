"""The compiled engine: the journeys of `simpy_engine`, cut at their waits, as one numba loop.

It knows what a driver knows (delays, who is told what) and calls the same rules: `core.client`
decides what a client does, `core.server` who is served when, `core.record` what is counted. They
are plain Python there and compiled from the same source here. Its state is in `fleet`, what goes
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

from simlib.core import record as books
from simlib.core import server as servers
from simlib.core.client import NEVER_S, Rules, applied_from, is_expired, step
from simlib.core.draws import Stream
from simlib.core.driver import cause_of
from simlib.core.faults import MOMENT, Change
from simlib.core.flags import CLOSED, CLOSES, PERCENT, FlagRules
from simlib.core.habits import episode_s
from simlib.core.path import WINDOW
from simlib.core.polling import is_kept, is_unchanged, reply_of, request_of
from simlib.core.protocol import Action, Event, Heartbeat, Pause, State, Transport
from simlib.core.record import Cause, Count, Record, of, one_or_all
from simlib.core.resync import Way
from simlib.core.sending import Overflow
from simlib.core.server import SYN_RETRIES, ServerRules
from simlib.core.wire import Message
from simlib.engines import event_list, mishaps, rollouts
from simlib.engines import fleet as fleets
from simlib.engines.compiling import fetch_ahead, loop, part
from simlib.engines.event_list import (
    CLIENT_MASK,
    LANES,
    LAST_SEQUENCE,
    STARTS,
    WHEEL,
    EventList,
    rows_of,
)
from simlib.engines.fleet import (
    ALARM,
    ANSWER_BITS,
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
    STATE,
    TRIP,
    UNREACHED,
    WAY_BITS,
    Books,
    Choices,
    Fleet,
    Kind,
    catch_up,
    disconnect,
    forget_up_to,
    is_up_to_date,
    load_of,
    put,
    settle,
    way_back_of,
)
from simlib.engines.mishaps import (
    carried_by,
    cut,
    half_of,
    is_uneven,
    meets,
    node_of,
    offer,
    pass_on,
    send_beat,
    strike,
    take_room,
    wait_for,
    welcome,
)
from simlib.engines.rollouts import NO_FLAG, announce, enter, heard, send_away
from simlib.errors import ScenarioError
from simlib.scenario.workload import Workload

POLLS = PUSHES = FAULTS = True
"""Which transports a loop serves, and whether anything goes wrong. Three copies are compiled: each
transport by itself where nothing does, and all of it."""

FINISHED = 0
NEEDS_ROOM = 1
TOO_LONG = 2


@part
def _listen(fleet: Fleet, number: int, exchange: int) -> None:
    """Put a listener at the end of the list, or leave it where it is."""
    row, state = fleet.rows[number], fleet.state[0]
    if row.listens < 0:
        if state.slots == len(fleet.order):
            _close_ranks(fleet)
        row.slot = state.slots
        fleet.order[state.slots] = number
        state.slots += 1
        state.listening += 1
    row.listens = exchange
    fleet.safe_s[row.slot] = -NEVER_S


@part
def _close_ranks(fleet: Fleet) -> None:
    kept = 0
    for slot in range(fleet.state[0].slots):
        number = fleet.order[slot]
        if number >= 0:
            fleet.order[kept] = number
            fleet.safe_s[kept] = fleet.safe_s[slot]
            fleet.rows[number].slot = kept
            kept += 1
    fleet.state[0].slots = kept


@part
def _broadcast(
    fleet: Fleet,
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
    listeners = fleet.state[0].listening
    service_s = servers.service_time_s(
        server_rules,
        servers.broadcast_s(server_rules, listeners),
        rules.seed,
        rules.replication,
        0,
        Stream.FAN_OUT_SERVICE,
        version,
    )
    busy_from_s = servers.free_from_s(server, now)
    start_s = servers.admit_fan_out(server, now, service_s)
    books.spread(record, busy_from_s, start_s + service_s)
    counted = record.first < version <= record.until
    up, down = fleet.sizes[Message.PUSH, 0], fleet.sizes[Message.PUSH, 1]
    position = 0
    served = 0  # of the bin in hand
    ticks = 0
    index = 0
    all_served = 0
    longest_s = 0.0
    for slot in range(fleet.state[0].slots):
        number = fleet.order[slot] + 0
        if number < 0:
            continue
        position += 1
        t = servers.sent_s(server_rules, start_s, position, listeners, service_s)
        kind = Kind.PUSH + 0
        if not (may_fail and is_uneven(fleet)):
            t += of(fleet.half_s, number)
        elif server_rules.sending.overflow == Overflow.BLOCK:
            t = wait_for(fleet, record, rules, server_rules.sending, server, number, t)
        else:
            kind = Kind.OFFER + 0
        if t < fleet.safe_s[slot] and t < until_s and may_serve_at_once:
            place = books.bin_of(record, t)
            if place != index:
                _fill_bin(record, index, served, ticks, counted, up, down)
                index, served, ticks = place, 0, 0
            served += 1
            all_served += 1
            if counted:
                latency_s = t - now
                ticks += books.ticks_of(latency_s)
                record.histogram[0, books.bucket_of(latency_s)] += 1
                longest_s = max(longest_s, latency_s)
        else:
            if fleet.safe_s[slot] > -NEVER_S:
                catch_up(fleet, record, number, version - 1)
                fleet.safe_s[slot] = -NEVER_S
            load = load_of(fleet.rows[number].listens, kind, version)
            event_list.schedule(q, BROADCASTS, t, number, load)
    _fill_bin(record, index, served, ticks, counted, up, down)
    record.latency_max_s[0] = max(record.latency_max_s[0], longest_s)
    return all_served


@part
def _fill_bin(
    record: Record, index: int, served: int, ticks: int, counted: bool, up: int, down: int
) -> None:
    record.bins[0, index, Count.MESSAGES] += served
    record.bins[0, index, Count.UP_BYTES] += served * up
    record.bins[0, index, Count.DOWN_BYTES] += served * down
    if counted:
        record.bins[0, index, Count.DELIVERED] += served
        record.latency_ticks[0, index] += ticks


@part
def _readable(fleet: Fleet, record: Record, t: float) -> int:
    """Return how many changes are published by `t`; searched from where the last search ended."""
    state, publish_s = fleet.state[0], record.publish_s
    version = state.readable
    while version < len(publish_s) and publish_s[version] <= t:
        version += 1
    while version > 0 and publish_s[version - 1] > t:
        version -= 1
    state.readable = version
    return version


@part
def _episode(
    fleet: Fleet, rules: Rules, choices: Choices, number: int, habit: int, after_s: float
) -> float:
    """Return when the client's next episode of a habit starts, and note when it ends."""
    k = fleet.habit_k[habit, number]
    if habit == 0:
        gap, length = Stream.DRAG_GAP, Stream.DRAG_LENGTH
        every_s, length_s = choices.drag_every_s, choices.drag_length_s
    else:
        gap, length = Stream.HIDDEN_GAP, Stream.HIDDEN_LENGTH
        every_s, length_s = choices.hidden_every_s, choices.hidden_length_s
    start_s, fleet.habit_s[habit, number] = episode_s(
        rules.seed, rules.replication, number, gap, length, k, after_s, every_s, length_s
    )
    fleet.habit_k[habit, number] = k + 1
    return start_s


@part
def _fetch_clients(fleet: Fleet, counts: Any, entries: Any, start: int, n: int) -> None:
    """Have the rows of the clients of some coming events at hand."""
    for place in range(start, start + n):
        number = entries[place].word & CLIENT_MASK
        fetch_ahead(fleet.rows, number)
        fetch_ahead(counts, number)


@part
def _take(fleet: Fleet, counts: Any, q: EventList, source: int) -> int:
    """Remove a source's next event and return its load; have the clients at hand that follow."""
    load = event_list.take(q, source)
    if source < LANES and q.lanes[source].read == 0:
        start, held = event_list.chunk_ahead(q, source)
        _fetch_clients(fleet, counts, q.pool, start, held)
    return load


@part
def _go_round(
    fleet: Fleet,
    record: Record,
    q: EventList,
    rules: Rules,
    server_rules: ServerRules,
    server: Any,
    etag: bool,
    now: float,
    until_s: float,
    calm_s: float,
    may_fail: bool,
    most: int,
) -> int:
    """Serve polls as they are sent, then take in responses, up to the first event of another kind.

    Return how many alarms and responses were taken, 0 if the next event is neither. A response is
    scheduled too early to settle a tie with an alarm that is yet to be set, so it must be back
    before any such alarm can ring. Until `calm_s` jobs are served as ever.
    """
    rows, sizes, head_t, head_word = fleet.rows, fleet.sizes, q.head_t, q.head_word
    half = fleet.half_s[0]
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
            and arrives_s < calm_s
            and not (may_fail and row.is_link_dead)
        )
        if not is_calm:
            break
        _take(fleet, record.clients, q, alarms)
        step(row, rules, Event.DEADLINE + 0, now, 0)
        books.count(record, Count.POLLS, number, now)
        message = request_of(etag, row.fetched_s, 0)
        books.add_bytes(record, number, now, sizes[message, 0], sizes[message, 1])
        begun_s = servers.admit(server, arrives_s, server_rules.poll_s)
        done_s = begun_s + server_rules.poll_s
        books.spread(record, begun_s, done_s)
        row.kept_until_s = done_s + server_rules.keep_alive_s
        load = load_of(row.exchange, Kind.POLL_DONE, _readable(fleet, record, done_s) << 1)
        event_list.schedule(q, DONE_TRIP, done_s + half, number, load)
        fleet.state[0].events += 2
        handled += 1
    end_s = min(end_s, head_t[alarms])
    while head_t[DONE_TRIP] < end_s and handled < most:
        now = head_t[DONE_TRIP]
        number = head_word[DONE_TRIP] & CLIENT_MASK
        row = rows[number]
        load = _take(fleet, record.clients, q, DONE_TRIP)
        exchange = load >> (KIND_BITS + DATA_BITS)
        if row.exchange == exchange and not (may_fail and exchange <= row.ended):
            version = (load & ((1 << DATA_BITS) - 1)) >> 1
            event = Event.FETCHED + 0
            unchanged = is_unchanged(etag, row.fetched_s, row.seen, version)
            if unchanged:
                books.count(record, Count.UNCHANGED, number, now)
                event = Event.UNCHANGED + 0
            before = row.seen
            deadline_s = step(row, rules, event, now, version)[1]
            if row.seen != before:
                books.resolve(record, number, before, applied_from(row, before), row.seen, now)
            message = reply_of(unchanged, load & 1)
            books.add_bytes(record, number, now, sizes[message, 0], sizes[message, 1])
            if deadline_s < NEVER_S:
                event_list.schedule(q, ALARM, deadline_s, number, load_of(0, Kind.DEADLINE, 0))
        fleet.state[0].events += 1
        handled += 1
    return handled


@part
def _room(record: Record, q: EventList, server: Any) -> int:
    """Return how many events surely find room for what they leave behind."""
    room = min(event_list.room(q) // MOST_OUT, len(server.accepts_s) - server.desk.waiting)
    room = min(room, books.rows_left(record.connections) // 2)
    if len(record.bins) > 1:
        room = min(room, books.rows_left(record.stays) // 2)
    if record.keep_deliveries:
        room = min(room, books.rows_left(record.deliveries) // (len(record.publish_s) + 1))
    if record.keep_events:
        room = min(room, books.rows_left(record.events) // MOST_OUT)
    return room


def _run(
    fleet: Fleet,
    record: Record,
    q: EventList,
    rules: Rules,
    server_rules: ServerRules,
    choices: Choices,
    flag: FlagRules,
    free_s: Any,
    accepts_s: Any,
    desk: Any,
    until_s: float,
) -> int:
    """Handle every event before `until_s`; return FINISHED, or why it stopped before one."""
    state, hand, sizes, out = fleet.state[0], q.hand[0], fleet.sizes, fleet.out
    rows, half_s, ends_s, safe_s = fleet.rows, fleet.half_s, fleet.end_s, fleet.safe_s
    start_s, head_t, head_word, publish_s = fleet.start_s, q.head_t, q.head_word, record.publish_s
    keep_events, keep_deliveries = record.keep_events, record.keep_deliveries
    seed, replication, keep_alive_s = rules.seed, rules.replication, server_rules.keep_alive_s
    sending = server_rules.sending
    tls, etag = rules.tls, choices.etag
    beat_every_s = rules.heartbeat_interval_s
    server = servers.Server(free_s, accepts_s, desk[0])
    at_once = not keep_events and not keep_deliveries and choices.idle_s == NEVER_S
    if FAULTS:
        at_once = at_once and not is_uneven(fleet) and not rules.throttles_timers
        at_once = at_once and rules.safety_poll_s == NEVER_S and not rules.has_flag
    clients_n = len(start_s)
    budget = 0
    if hand.sequence == 0:
        if PUSHES and len(publish_s) > 0:
            event_list.schedule(q, WHEEL, publish_s[0], 0, load_of(0, Kind.PUBLISH, 1))
        if FAULTS and len(fleet.moments) > 0:
            hand.sequence = 0
            event_list.schedule(q, WHEEL, fleet.moments[0].t, 1, load_of(0, Kind.FAULT, 0))
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
            _fetch_clients(fleet, record.clients, q.heap, 0, hand.open)
            continue
        if PUSHES and source == WHEEL and q.heap[0].load >> DATA_BITS == Kind.PUBLISH:
            if event_list.room(q) < state.listening + MOST_OUT:
                return NEEDS_ROOM
        if FAULTS and source == WHEEL:
            if (q.heap[0].load >> DATA_BITS) & ((1 << KIND_BITS) - 1) == Kind.FAULT:
                budget = 0
                room = min(event_list.room(q), books.rows_left(record.connections))
                if room < clients_n + MOST_OUT:
                    return NEEDS_ROOM
        # Room for what it may leave behind; the caller makes it.
        if budget <= 0:
            budget = _room(record, q, server)
            if budget <= 0:
                return NEEDS_ROOM
            if hand.sequence >= LAST_SEQUENCE - MOST_OUT * budget:
                return TOO_LONG
        calm_s = min(record.horizon_s, until_s)  # what comes later may never come: see `_finish`
        if FAULTS:
            if state.moment < len(fleet.moments):
                calm_s = min(calm_s, fleet.moments[state.moment].t)
        if goes_round and state.under_way == 0 and source != STARTS:
            handled = _go_round(
                fleet,
                record,
                q,
                rules,
                server_rules,
                server,
                etag,
                now,
                until_s,
                calm_s,
                FAULTS,
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
            load = _take(fleet, record.clients, q, source)
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
            if state.listening > 0:
                # Whoever hears of it at once is up to date before and after.
                state.events += _broadcast(
                    fleet,
                    record,
                    q,
                    rules,
                    server_rules,
                    server,
                    now,
                    data,
                    calm_s,
                    at_once,
                    FAULTS,
                )
            if data < len(publish_s):
                load = load_of(0, Kind.PUBLISH, data + 1)
                event_list.schedule(q, WHEEL, publish_s[data], 0, load)
            continue
        if FAULTS:
            if kind == Kind.FAULT:
                strike(fleet, record, q, rules, choices, server, now)
                continue

        row = rows[number]
        if row.exchange >= LAST_EXCHANGE:
            return TOO_LONG
        half = of(half_s, number) + 0.0
        if FAULTS:
            half = half_of(fleet, rules, number, now)
        is_pushed = PUSHES and (not POLLS or row.transport == Transport.WEBSOCKET)
        if PUSHES:
            catch_up(fleet, record, number, state.published)
        event = -1
        value = 0
        up = 0
        down = 0
        asks = False
        first = False
        fails = False

        # 1. Jobs.
        if kind <= Kind.SYN:
            if FAULTS:
                is_dead = PUSHES and exchange <= row.dead
                if kind == Kind.PONG_UP and is_dead:
                    t = now + rules.heartbeat_timeout_s
                    event_list.schedule(q, WHEEL, t, number, load_of(exchange, Kind.MISS, 0))
                if kind == Kind.ASK:
                    is_dead = False  # it comes on a connection of its own
                if kind != Kind.BEAT and (exchange <= row.ended or is_dead):
                    continue
                is_beat = kind == Kind.PONG_UP or kind == Kind.PING_UP
                if PUSHES and is_beat and row.listens != exchange:
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
                if FAULTS:
                    blocked = meets(fleet, rules, Change.BLOCK + 0, number)
                is_late = servers.wait_s(server, now) > server_rules.shed_wait_s
                if blocked or is_late or not servers.lets_in(server, server_rules, now):
                    n = put(out, n, TRIP, now + half, Kind.UPGRADE_REFUSED, exchange, 0)
                else:
                    mean_s, stream = server_rules.handshake_s, Stream.HANDSHAKE_SERVICE
                    k = 2 * exchange
            elif PUSHES and kind == Kind.AUTHENTICATE:
                mean_s, stream = server_rules.authenticate_s, Stream.HANDSHAKE_SERVICE
                if way_back_of(fleet, record, rules, FAULTS, number, now) == Way.SNAPSHOT:
                    mean_s += server_rules.snapshot_s
                k = 2 * exchange + 1
            elif PUSHES and kind == Kind.BEAT:
                if row.listens == exchange:
                    row.beats += 2
                    data = int(row.beats)
                    mean_s, stream = server_rules.heartbeat_s, Stream.HEARTBEAT_SERVICE
                    k = data
            elif PUSHES and kind == Kind.PONG_UP:
                mean_s, stream = server_rules.heartbeat_s, Stream.HEARTBEAT_SERVICE
                k = data + 1
            elif FAULTS and PUSHES and kind == Kind.ASK:
                node = node_of(fleet, rules, number, exchange)
                is_shed = servers.wait_s(server, now) > server_rules.shed_wait_s
                is_lost = meets(fleet, rules, Change.LOSE + 0, number)
                if not is_lost and (node < 0 or is_shed):
                    answer = REFUSED if node >= 0 else UNREACHED
                    n = put(out, n, WHEEL, now + half, Kind.ANSWER, exchange, answer)
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
                if FAULTS:
                    if meets(fleet, rules, Change.LOSE + 0, number):
                        t = now + max(0.0, servers.syn_retry_s(data) - half)
                        n = put(out, n, WHEEL, t, Kind.SYN_AGAIN, exchange, data)
                        mean_s = -1.0
                    else:
                        row.node = node_of(fleet, rules, number, exchange)
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
                    books.spread(record, begun_s, done_s)
                if kind == Kind.POLL:
                    version = _readable(fleet, record, done_s)
                    row.kept_until_s = done_s + keep_alive_s
                    t = done_s + 0.0
                    if FAULTS:
                        unchanged = is_unchanged(etag, row.fetched_s, row.seen, version)
                        unchanged = unchanged and not books.has_gaps(record, number)
                        size = float(sizes[reply_of(unchanged, data & 1), 1])
                        t = carried_by(fleet, rules, number, done_s, size)
                    data = (version << 1) | (data & 1)
                    n = put(out, n, DONE_TRIP, t + half, Kind.POLL_DONE, exchange, data)
                elif PUSHES and kind == Kind.UPGRADE:
                    n = put(out, n, DONE, done_s, Kind.UPGRADE_SERVED, exchange, 0)
                elif PUSHES and kind == Kind.AUTHENTICATE:
                    n = put(out, n, DONE, done_s, Kind.AUTHENTICATED, exchange, 0)
                elif PUSHES and kind == Kind.BEAT:
                    t = done_s + half
                    if FAULTS:
                        size = float(sizes[Message.PING_DOWN, 1])
                        t = send_beat(fleet, rules, number, done_s, size)
                    n = put(out, n, DONE_TRIP, t, Kind.PING, exchange, data)
                elif PUSHES and kind == Kind.PONG_UP:
                    t = done_s + beat_every_s
                    n = put(out, n, BEATS, t, Kind.BEAT, exchange, 0)
                elif FAULTS and PUSHES and kind == Kind.ASK:
                    version = _readable(fleet, record, done_s)
                    size = float(sizes[Message.POLL_RESPONSE_FIRST, 1])
                    t = carried_by(fleet, rules, number, done_s, size) + half
                    answer = (version << ANSWER_BITS) | ANSWERED
                    n = put(out, n, WHEEL, t, Kind.ANSWER, exchange, answer)
                elif kind == Kind.PING_UP:
                    t = done_s + half
                    if FAULTS:
                        size = float(sizes[Message.PONG_DOWN, 1])
                        t = send_beat(fleet, rules, number, done_s, size)
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
            if row.exchange == exchange and not (FAULTS and exchange <= row.ended):
                event, value = Event.FETCHED, data >> 1
                unchanged = is_unchanged(etag, row.fetched_s, row.seen, value)
                if FAULTS:
                    unchanged = unchanged and not books.has_gaps(record, number)
                if unchanged:
                    books.count(record, Count.UNCHANGED, number, now)
                    event = Event.UNCHANGED
                message = reply_of(unchanged, data & 1)
                up, down = sizes[message, 0], sizes[message, 1]
        elif kind == Kind.START:
            event, value = Event.START, row.seen + 0
            if FAULTS and rules.has_flag:
                enter(fleet, record, rules, flag, number, now)
        elif FAULTS and kind == Kind.FLAG and data == CLOSES:
            t = send_away(fleet, record, server, rules, server_rules, number, now)
            if t < NEVER_S:
                n = put(out, n, WHEEL, t, Kind.FLAG, 0, CLOSED)
        elif FAULTS and kind == Kind.FLAG:
            target = heard(fleet, flag, number, data, now)
            if row.state != State.GONE and target != row.target:
                books.leave(record, number, now)
                books.enter(record, number, target, now)
                event, value = Event.TOLD, target
        elif kind == Kind.STOP:
            settle(fleet, record, rules, number, now)
            if FAULTS:
                books.leave(record, number, now)
            event = Event.STOP
        elif kind == Kind.HABIT:
            event = Event.DRAG_START + data
        elif PUSHES and kind == Kind.FAREWELL:
            if FAULTS and exchange <= row.dead:
                continue  # it never arrives
            row.ended = max(row.ended, exchange)
            forget_up_to(fleet, row, exchange)
            if data:
                n = put(out, n, TRIP, now + half, Kind.ECHO, exchange, 0)
        elif PUSHES and kind == Kind.ECHO:
            up, down = sizes[Message.CLOSE_DOWN, 0], sizes[Message.CLOSE_DOWN, 1]
        elif PUSHES and kind == Kind.UPGRADE_SERVED:
            if row.ended < exchange:
                if state.sockets >= server_rules.max_connections:
                    n = put(out, n, TRIP, now + half, Kind.UPGRADE_REFUSED, exchange, 0)
                else:
                    if row.socket < 0:
                        state.sockets += 1
                    row.socket = exchange
                    n = put(out, n, TRIP, now + half, Kind.UPGRADE_DONE, exchange, 0)
        elif PUSHES and kind == Kind.AUTHENTICATED:
            if row.ended < exchange and is_expired(rules, start_s[number], now):
                n = put(out, n, TRIP, now + half, Kind.AUTH_REFUSED, exchange, 0)
            elif row.ended < exchange:
                _listen(fleet, number, exchange)
                if rules.heartbeat == Heartbeat.SERVER:
                    t = now + beat_every_s
                    n = put(out, n, BEATS, t, Kind.BEAT, exchange, 0)
                way = way_back_of(fleet, record, rules, FAULTS, number, now)
                t = now + half
                if FAULTS:
                    missed = int(state.published) - row.seen
                    t = welcome(fleet, rules, number, now, way, missed)
                is_apart = FAULTS and way == Way.SNAPSHOT and is_uneven(fleet)
                if is_apart:
                    way = Way.NOTHING + 0  # it comes by itself
                version = int(state.published)
                n = put(out, n, TRIP, t, Kind.READY, exchange, (version << WAY_BITS) | way)
                if is_apart:
                    size = float(sizes[Message.SNAPSHOT, 1])
                    t = pass_on(fleet, rules, number, now, size)
                    n = put(out, n, WHEEL, t, Kind.BOARD, exchange, version)
        elif FAULTS and kind == Kind.MISS:
            forget_up_to(fleet, row, exchange)
        elif FAULTS and kind == Kind.IDLE:
            if row.exchange == exchange and exchange > max(row.ended, row.dead):
                t = row.active_s + choices.idle_s
                if now < t:
                    n = put(out, n, WHEEL, t, Kind.IDLE, exchange, 0)
                else:
                    cut(fleet, record, q, rules, number, now)
        elif FAULTS and PUSHES and kind == Kind.OFFER:
            if row.listens == exchange:
                n = offer(
                    fleet,
                    record,
                    rules,
                    sending,
                    number,
                    now,
                    half,
                    exchange,
                    data,
                    n,
                )
        elif FAULTS and PUSHES and kind == Kind.ROOM:
            if row.listens == exchange:
                n = take_room(fleet, rules, sending, number, now, exchange, n)
        elif FAULTS and PUSHES and kind == Kind.ANSWER:
            answer = data & ((1 << ANSWER_BITS) - 1)
            if row.exchange == exchange:
                if answer != UNREACHED:
                    message = Message.POLL_RESPONSE_FIRST + 0
                    if answer == REFUSED:
                        message = Message.POLL_REFUSED_FIRST + 0
                    up = sizes[message, 0] + sizes[Message.TCP_CLOSE, 0]
                    down = sizes[message, 1] + sizes[Message.TCP_CLOSE, 1]
                if answer == ANSWERED:
                    event, value = Event.SNAPSHOT, data >> ANSWER_BITS
                else:
                    books.count_failed_ask(record, number, now)
        elif FAULTS and kind == Kind.FAIL:
            fails = row.exchange == exchange and (data == 0 or exchange > row.ended)
        elif FAULTS and kind == Kind.UNANSWERED:
            fails = row.exchange == exchange
            if fails:
                disconnect(fleet, record, number, now, Cause.TIMED_OUT, Transport.POLLING)
                row.kept_until_s = -NEVER_S
                row.is_link_dead = False
        elif FAULTS and PUSHES and exchange <= row.dead:
            is_message = kind == Kind.PUSH or kind == Kind.BOARD
            if kind == Kind.PING:
                t = now + rules.heartbeat_timeout_s
                event_list.schedule(q, WHEEL, t, number, load_of(exchange, Kind.MISS, 0))
            elif is_message and rules.heartbeat != Heartbeat.SERVER:
                t = now + choices.unanswered_s
                event_list.schedule(q, WHEEL, t, number, load_of(exchange, Kind.MISS, 0))
            continue
        elif row.exchange != exchange or (FAULTS and exchange <= row.ended):
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
            books.count(record, Count.ERRORS, number, now)
            event = Event.REJECTED
        elif PUSHES and kind == Kind.READY:
            up, down = sizes[Message.READY, 0], sizes[Message.READY, 1]
            books.open_connection(record, number, now)
            row.opened_s = now
            if FAULTS:
                row.served_by = fleet.process[row.node]
            if FAULTS and choices.idle_s < NEVER_S:
                n = put(out, n, WHEEL, now + choices.idle_s, Kind.IDLE, exchange, 0)
            event = Event.READY
            if data & ((1 << WAY_BITS) - 1) == Way.LOST:
                value = data >> WAY_BITS
        elif PUSHES and kind == Kind.PUSH:
            up, down = sizes[Message.PUSH, 0], sizes[Message.PUSH, 1]
            books.count(record, Count.MESSAGES, number, now)
            event, value = Event.PUSH, data
        elif FAULTS and PUSHES and kind == Kind.BOARD:
            up, down = sizes[Message.SNAPSHOT, 0], sizes[Message.SNAPSHOT, 1]
            books.count(record, Count.MESSAGES, number, now)
            event, value = Event.SNAPSHOT, data
        elif PUSHES and kind == Kind.PING:
            up, down = sizes[Message.PING_DOWN, 0], sizes[Message.PING_DOWN, 1]
            event = Event.PING
        else:
            up, down = sizes[Message.PONG_DOWN, 0], sizes[Message.PONG_DOWN, 1]
            event = Event.PONG
        if fails:
            books.count(record, Count.ERRORS, number, now)
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
                books.resolve(record, number, before, shown_from, row.seen, now)
            if FAULTS and PUSHES and (event == Event.SNAPSHOT or event == Event.FETCHED):
                books.fill_gaps(record, number, value, now)
            if keep_events:
                books.log_event(record, now, number, event, row.state, actions)
            if deadline_s != armed_s and deadline_s < NEVER_S:
                n = put(out, n, ALARM, deadline_s, Kind.DEADLINE, 0, 0)
            if POLLS and PUSHES and row.transport < was and event != Event.TOLD:
                books.count(record, Count.FALLBACKS, number, now)
            if actions & Action.CLOSE:
                if POLLS and was == Transport.POLLING:
                    if row.kept_until_s < now:
                        disconnect(
                            fleet, record, number, row.kept_until_s, Cause.IDLE, Transport.POLLING
                        )
                    else:
                        disconnect(fleet, record, number, now, cause_of(event, was), was)
                else:
                    if event == Event.DEADLINE:
                        books.count(record, Count.ERRORS, number, now)
                    graceful = (event == Event.STOP or event == Event.TOLD) and row.has_upgraded
                    row.has_upgraded = False
                    disconnect(fleet, record, number, now, cause_of(event, was), was)
                    if graceful:
                        up += sizes[Message.CLOSE_UP, 0]
                        down += sizes[Message.CLOSE_UP, 1]
                    ended = row.exchange - 1
                    n = put(out, n, TRIP, now + half, Kind.FAREWELL, ended, int(graceful))
            if POLLS and actions & Action.FETCH:
                if is_kept(row.opened_s, row.kept_until_s, now):
                    asks = True
                else:
                    disconnect(
                        fleet, record, number, row.kept_until_s, Cause.IDLE, Transport.POLLING
                    )
                    if FAULTS:
                        row.is_link_dead = False
                        row.node = -1
                    state.under_way += 1
                    n = put(out, n, TRIP, now + half, Kind.SYN, row.exchange, 0)
            if PUSHES and actions & Action.CONNECT:
                books.count(record, Count.ATTEMPTS, number, now)
                if FAULTS:
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
            if FAULTS and PUSHES and actions & Action.ASK:
                books.count_ask(record, number, now)
                for message in (Message.TCP_OPEN, Message.TLS_OPEN, Message.POLL_REQUEST_FIRST):
                    up += sizes[message, 0]
                    down += sizes[message, 1]
                round_trips = 2.0 if tls else 1.0
                t = now + (2.0 * round_trips + 1.0) * half
                n = put(out, n, WHEEL, t, Kind.ASK, row.exchange, 0)
            if PUSHES and actions & Action.SEND_PING:
                up += sizes[Message.PING_UP, 0]
                down += sizes[Message.PING_UP, 1]
                n = put(out, n, TRIP, now + half, Kind.PING_UP, row.exchange, 0)
            if PUSHES and actions & Action.SEND_PONG:
                up += sizes[Message.PONG_UP, 0]
                down += sizes[Message.PONG_UP, 1]
            if PUSHES and event == Event.READY and data & ((1 << WAY_BITS) - 1) >= Way.SNAPSHOT:
                event, value = Event.SNAPSHOT, data >> WAY_BITS
                message, messages = Message.SNAPSHOT + 0, 1
                if data & ((1 << WAY_BITS) - 1) == Way.REPLAY:
                    event = Event.REPLAY
                    message, messages = Message.PUSH + 0, value - row.seen
                up += messages * sizes[message, 0]
                down += messages * sizes[message, 1]
                books.count(record, Count.MESSAGES, number, now, messages)
            else:
                event = -1

        # 4. Requests, and what else follows.
        if POLLS and asks:
            if first:
                books.open_connection(record, number, now)
                row.opened_s = now
            books.count(record, Count.POLLS, number, now)
            row.kept_until_s = NEVER_S
            message = request_of(etag, row.fetched_s, first)
            up += sizes[message, 0]
            down += sizes[message, 1]
            if FAULTS and row.is_link_dead:
                t = now + choices.unanswered_s
                n = put(out, n, WHEEL, t, Kind.UNANSWERED, row.exchange, 0)
            else:
                state.under_way += 1
                n = put(out, n, TRIP, now + half, Kind.POLL, row.exchange, int(first))
        if PUSHES and kind == Kind.PING:
            n = put(out, n, TRIP, now + half, Kind.PONG_UP, exchange, data)
        elif kind == Kind.HABIT:
            habit = data >> 1
            t = fleet.habit_s[habit, number]
            if data & 1:
                t = _episode(fleet, rules, choices, number, habit, now)
            if t < of(ends_s, number):
                n = put(out, n, WHEEL, t, Kind.HABIT, 0, data ^ 1)
        elif kind == Kind.START:
            end_s = of(ends_s, number)
            for habit in range(2):
                every_s = choices.drag_every_s if habit == 0 else choices.hidden_every_s
                if every_s > 0.0:
                    t = _episode(fleet, rules, choices, number, habit, now)
                    if t < end_s:
                        n = put(out, n, WHEEL, t, Kind.HABIT, 0, 2 * habit)
            if end_s < record.horizon_s:
                n = put(out, n, WHEEL, end_s, Kind.STOP, 0, 0)
        books.add_bytes(record, number, now, up, down)
        if FAULTS and (up > 0 or down > 0):
            row.active_s = now
        for place in range(n):
            item = fleet.out[place]
            event_list.schedule(q, item.lane, item.t, number, item.load)
        if PUSHES:
            if row.listens >= 0:
                up_to_date = is_up_to_date(fleet, number)
                if FAULTS:
                    up_to_date = up_to_date and row.dead < row.exchange
                calm_s = min(row.deadline_s, of(ends_s, number))
                safe_s[row.slot] = calm_s if up_to_date else -NEVER_S


def _finish(
    fleet: Fleet, record: Record, rules: Rules, free_s: NDArray[np.float64], now: float
) -> None:
    """Close the books, without what comes later: idle ends before now, work after now."""
    for worker in range(len(free_s)):
        books.spread(record, now, free_s[worker], -1.0)
    for number in range(len(fleet.rows)):
        kept_until_s = fleet.rows[number].kept_until_s
        is_polling = POLLS and fleet.rows[number].transport == Transport.POLLING
        if is_polling and 0.0 <= kept_until_s < now:
            disconnect(fleet, record, number, kept_until_s, Cause.IDLE, Transport.POLLING)
    for number in range(len(fleet.rows)):
        row = fleet.rows[number]
        if PUSHES:
            catch_up(fleet, record, number, fleet.state[0].published)
        if row.state != State.GONE:
            settle(fleet, record, rules, number, now)
            if FAULTS and row.state != State.ABSENT:
                books.leave(record, number, now)
        disconnect(fleet, record, number, now, Cause.OPEN_AT_END, row.transport)


def _announce(
    fleet: Fleet, q: EventList, rules: Rules, flag: FlagRules, percent: float, now: float
) -> None:
    """From now on so many percent of the users are enrolled."""
    announce(fleet, q, rules, flag, percent, now)


# -- the engine ----------------------------------------------------------------------------------


@cache
def _loops(polls: bool, pushes: bool) -> list[Any]:
    names = {"POLLS": polls, "PUSHES": pushes, "FAULTS": polls and pushes}
    parts = (fleets, mishaps, rollouts)
    return [loop(function, parts, **names) for function in (_run, _finish, _announce)]


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
        habits_n = clients_n if workload.drag or workload.hidden else 0
        is_pushed = workload.rules.transport == Transport.WEBSOCKET
        is_mixed = (
            bool(workload.moments or workload.delays or workload.limits)
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
        self._run, self._finish, self._announce = _loops(*variant)
        self._flag = workload.flag or NO_FLAG
        self.is_interrupted = False
        self._now_s = 0.0
        self._record = record
        self._rules = workload.rules._replace(
            seed=_signed(workload.rules.seed), replication=_signed(workload.rules.replication)
        )
        self._server_rules = workload.server
        self._choices = Choices(
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
        record.clients, record.traffic = books.counts_in(np.asarray(rows["counts"]))
        rows["number"] = np.arange(clients_n, dtype=np.int32)
        rows["seen"] = record.entered
        rows["fetched_s"] = rows["kept_until_s"] = -NEVER_S
        rows["deadline_s"] = rows["opened_s"] = NEVER_S
        if links_n:
            rows["listens"] = rows["socket"] = rows["slot"] = -1
        if is_mixed:
            rows["dead"] = rows["served_by"] = rows["node"] = -1
        self._fleet = Fleet(
            rows=rows,
            habit_s=np.zeros((2, habits_n)),
            habit_k=np.zeros((2, habits_n), np.int32),
            order=np.zeros(2 * links_n, np.int32),
            safe_s=np.zeros(2 * links_n),
            start_s=workload.start_s,
            end_s=one_or_all(workload.end_s),
            half_s=one_or_all(workload.rtt_s) / 2.0,
            sizes=workload.sizes,
            out=rows_of(MOST_OUT, OUT),
            state=rows_of(1, STATE),
            moments=_table_of(workload.moments, MOMENT),
            active=np.zeros(len(workload.moments), np.bool_),
            delays=_table_of(workload.delays, WINDOW),
            limits=_table_of(workload.limits, WINDOW),
            places=workload.places,
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
        self._desk = rows_of(1, list(servers.DESK.items()))
        kept = {name: getattr(record, name) for name in Books._fields}
        kept["publish_s"] = workload.publish_s
        if is_mixed and record.cohort is None:
            kept["cohort"] = np.zeros(1, np.int8)
        for name, columns in LOGS.items():
            kept[name] = _new_log(columns)
        self._books = Books(**kept)

    @property
    def events(self) -> int:
        """How many events have been handled."""
        return int(self._fleet.state["events"][0])

    def run_until(self, t: float) -> None:
        """Let everything before `t` happen, seconds."""
        while True:
            done = self._run(
                self._fleet,
                self._books,
                self._events,
                self._rules,
                self._server_rules,
                self._choices,
                self._flag,
                self._free_s,
                self._accepts_s,
                self._desk,
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
        struck_n = len(self._fleet.rows) if len(self._fleet.moments) else 0
        entries = max(int(self._fleet.state[0].listening), struck_n) + MOST_OUT
        if event_list.room(self._events) < entries:
            self._events = event_list.grow(self._events, entries)
        if self._desk[0].waiting == len(self._accepts_s):
            ring, oldest = self._accepts_s, int(self._desk[0].oldest)
            ring = np.concatenate((ring[oldest:], ring[:oldest]))
            self._accepts_s, self._desk[0].oldest = event_list.longer(ring, len(ring)), 0
        self._room_for("connections", struck_n + MOST_OUT)
        self._room_for("stays", MOST_OUT)
        if self._books.keep_deliveries:
            self._room_for("deliveries", len(self._books.publish_s) + 1)
        self._room_for("events", MOST_OUT)

    def _room_for(self, log: str, rows: int) -> None:
        if books.rows_left(getattr(self._books, log)) < rows:
            table, filled = getattr(self._books, log)
            longer = event_list.longer(table, max(rows, len(table)))
            room: Any = {log: (longer, filled)}
            self._books = self._books._replace(**room)

    def announce(self, percent: float) -> None:
        """From now on so many percent of the users are enrolled."""
        entries = 2 * len(self._fleet.rows) + MOST_OUT
        if event_list.room(self._events) < entries:
            self._events = event_list.grow(self._events, entries)
        told, percents = int(self._fleet.state[0].percents), self._fleet.percents
        if told == len(percents):
            longer = event_list.longer(percents, max(16, told))
            self._fleet = self._fleet._replace(percents=longer)
        fleet, rules = self._fleet, self._rules
        self._announce(fleet, self._events, rules, self._flag, float(percent), self._now_s)

    def glance(self) -> books.Glance:
        """Return what is known now."""
        rows, now = self._fleet.rows, self._now_s
        is_present = (rows["state"] != State.ABSENT) & (rows["state"] != State.GONE)
        is_idle = (rows["transport"] == Transport.POLLING) & (rows["kept_until_s"] < now)
        return books.glance(self._books, is_present, (rows["opened_s"] < NEVER_S) & ~is_idle, now)

    def interrupt(self) -> None:
        """End `run_until` at the end of the slice in hand."""
        self.is_interrupted = True

    def now_s(self) -> float:
        """Return how far the run has come, seconds."""
        return self._now_s

    def finish(self) -> None:
        """Close the books."""
        self._events = event_list.new_event_list(0, 1.0, 1.0)  # its memory is needed no more
        for log in ("connections", "stays"):
            self._room_for(log, len(self._fleet.rows))
        record = self._record
        self._books = self._books._replace(last=record.last)
        self._finish(self._fleet, self._books, self._rules, self._free_s, self._now_s)
        for name in LOGS:
            log = getattr(self._books, name)
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
