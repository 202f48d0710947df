"""Polls that nothing disturbs go round in two tight loops: timers that send, responses that rearm.

Both go up to the first event of any other kind. A poll is served as it is sent, at the time of its
arrival, since with one round-trip time for all, and no other job under way, jobs arrive in the
order in which they are sent. Taking the timers before the responses is exact: the two touch
different clients, only timers touch the server, each loop keeps its order, and no timer that a
response sets fires before both are through.
"""

from __future__ import annotations

from typing import Any

from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.client import applied_from, step_poll
from simlib.core.client_state import NEVER_S
from simlib.core.connection import is_at_proxy, is_cut, served_at
from simlib.core.polling import is_kept, is_unchanged, reply_of, request_of
from simlib.core.protocol import Event, Pause, State, Transport
from simlib.core.record import Count, Wait
from simlib.engines.compiled import event_list
from simlib.engines.compiled.event_list import CLIENT_MASK, LANES, WHEEL, EventList
from simlib.engines.compiled.jobs import readable
from simlib.engines.compiled.numba_support import fetch_ahead, inlined, seldom
from simlib.engines.compiled.state import (
    ALARM,
    DATA_BITS,
    DONE_TRIP,
    KIND_BITS,
    LAST_EXCHANGE,
    TRIP,
    ClientArrays,
    Kind,
    load_of,
)
from simlib.engines.compiled.turn import GENERAL, POLLS, Turn, World


@inlined
def fetch_clients(arrays: ClientArrays, counts: Any, entries: Any, start: int, n: int) -> None:
    """Have the rows of the clients of some coming events at hand."""
    for place in range(start, start + n):
        number = entries[place].word & CLIENT_MASK
        fetch_ahead(arrays.rows, number)
        fetch_ahead(counts, number)


@inlined
def take(arrays: ClientArrays, counts: Any, q: EventList, source: int) -> int:
    """Remove a source's next event and return its load; have the clients at hand that follow."""
    load = event_list.take(q, source)
    if source < LANES:
        # One at a time and well ahead: a burst would wait for memory. Polls gain nothing by it.
        start, n = -1, 0
        if not POLLS:
            start = event_list.later_in(q, source)
            n = int(start >= 0)
        if n == 0 and q.lanes[source].read == 0:
            start, n = event_list.chunk_ahead(q, source)
        fetch_clients(arrays, counts, q.pool, start, n)
    return load


@inlined
def turn_of(arrays: ClientArrays, number: int, load: int, now: float) -> Turn:
    """Return the turn of an event that was taken; what is under way no more is not counted."""
    kind = (load >> DATA_BITS) & ((1 << KIND_BITS) - 1)
    if kind == Kind.POLL or kind == Kind.SYN:
        arrays.state[0].under_way -= 1
    exchange, data = load >> (KIND_BITS + DATA_BITS), load & ((1 << DATA_BITS) - 1)
    return Turn(number, kind, exchange, data, now, 0.0)


@inlined
def take_polls(world: World, now: float, until_s: float, fast_until_s: float, most: int) -> int:
    """Take polls in a round; or first serve those that are on their way, if any are.

    Return how many events were taken, at most `most`; 0 if the next is of another kind.
    """
    if world.arrays.state[0].under_way > 0:
        return catch_up_arrivals(world, now, fast_until_s, most)
    return go_round(world, now, until_s, fast_until_s, most)


@seldom
def catch_up_arrivals(world: World, now: float, fast_until_s: float, most: int) -> int:
    """Serve the polls that are on their way, at the times of their arrival, so that none is.

    Polls go round only while no job is under way, and from a busy server they never would again,
    once a poll is handled by itself: the next ones are sent before it has arrived. Serving them
    ahead is exact for the reason for which a poll may be served as it is sent: whatever a client
    does from now on reaches the server later. Return how many were taken, at most `most`.
    """
    arrays, q, state = world.arrays, world.q, world.arrays.state[0]
    rules, half = world.rules, arrays.half_s[0]
    soonest_s = min(rules.interval_s * (1.0 - rules.jitter_frac), rules.retry_base_s)
    handled = 0
    while state.under_way > 0 and handled < most and q.head_t[TRIP] < fast_until_s:
        t, load = q.head_t[TRIP], event_list.next_load(q, TRIP)
        number = q.head_word[TRIP] & CLIENT_MASK
        kind, data = (load >> DATA_BITS) & ((1 << KIND_BITS) - 1), load & ((1 << DATA_BITS) - 1)
        row = arrays.rows[number]
        is_plain = kind == Kind.POLL and data == 0
        is_plain = is_plain and row.exchange == load >> (KIND_BITS + DATA_BITS)
        if GENERAL:
            is_plain = is_plain and not is_cut(row, row.exchange) and not row.is_link_dead
            is_plain = is_plain and row.transport == Transport.POLLING and row.subscribed < 0
            is_plain = is_plain and not is_at_proxy(row, world.options.bad_gateway)
        if not is_plain:
            break
        node = served_at(row) if GENERAL else 0
        worker = servers.first_free(arrays.servers.free_s[node])
        wait_s = servers.wait_for_s(arrays.servers.free_s[node], worker, t)
        heard_s = t + wait_s + world.server_rules.poll_s + half
        if wait_s > world.server_rules.shed_wait_s or heard_s >= now + soonest_s:
            break
        take(arrays, world.record.clients, q, TRIP)
        state.under_way -= 1
        done_s, load = answer(world, number, node, worker, t)
        event_list.schedule(q, DONE_TRIP, done_s + half, number, load)
        state.events += 1
        handled += 1
    return handled


@seldom
def go_round(world: World, now: float, until_s: float, fast_until_s: float, most: int) -> int:
    """Take timers that send polls, then responses, up to the first event of another kind.

    Return how many were taken, at most `most`; 0 if the next event is neither. A response is
    scheduled too early to settle a tie with a timer that is yet to be set, so it must be back
    before any such timer can fire. From `fast_until_s` on jobs are served one by one.
    """
    head_t, rules = world.q.head_t, world.rules
    timers = WHEEL if head_t[WHEEL] < head_t[ALARM] else ALARM
    # A timer that is set here fires after a whole interval, or a retry, at the earliest.
    soonest_s = min(rules.interval_s * (1.0 - rules.jitter_frac), rules.retry_base_s)
    end_s = min(until_s, now + soonest_s)
    for source in range(event_list.SOURCES):
        if source != timers and source != DONE_TRIP:
            end_s = min(end_s, head_t[source])
    handled = _send_polls(world, timers, soonest_s, end_s, fast_until_s, most)
    end_s = min(end_s, head_t[timers])
    return handled + _take_responses(world, end_s, most - handled)


@inlined
def _send_polls(
    world: World, timers: int, soonest_s: float, end_s: float, fast_until_s: float, most: int
) -> int:
    arrays, record, q = world.arrays, world.record, world.q
    server_rules, rows, head_t, head_word = world.server_rules, arrays.rows, q.head_t, q.head_word
    nodes, half = arrays.servers, arrays.half_s[0]
    handled = 0
    while head_t[timers] < end_s and handled < most:
        if timers == WHEEL and (
            q.hand[0].open == 0
            or (q.heap[0].load >> DATA_BITS) & ((1 << KIND_BITS) - 1) != Kind.DEADLINE
        ):
            break
        now = head_t[timers]
        number = head_word[timers] & CLIENT_MASK
        row = rows[number]
        arrives_s = now + half
        node = served_at(row) if GENERAL else 0
        free_s = nodes.free_s[node]
        worker = servers.first_free(free_s)
        wait_s = servers.wait_for_s(free_s, worker, arrives_s)
        is_undisturbed = (
            row.state == State.IDLE
            and row.deadline_s == now
            and row.pauses == Pause.NONE
            and row.exchange < LAST_EXCHANGE
            and is_kept(row.opened_s, row.kept_until_s, now)
            and wait_s <= server_rules.shed_wait_s
            and arrives_s + wait_s + server_rules.poll_s + half < now + soonest_s
            and arrives_s < fast_until_s
            and not (GENERAL and (row.is_link_dead or row.transport != Transport.POLLING))
        )
        if not is_undisturbed:
            break
        take(arrays, record.clients, q, timers)
        ask(world, number, now)
        done_s, load = answer(world, number, node, worker, arrives_s)
        event_list.schedule(q, DONE_TRIP, done_s + half, number, load)
        arrays.state[0].events += 2
        handled += 1
    return handled


@inlined
def _take_responses(world: World, end_s: float, most: int) -> int:
    arrays, record, q = world.arrays, world.record, world.q
    head_t, head_word = q.head_t, q.head_word
    handled = 0
    while head_t[DONE_TRIP] < end_s and handled < most:
        now = head_t[DONE_TRIP]
        number = head_word[DONE_TRIP] & CLIENT_MASK
        row = arrays.rows[number]
        load = take(arrays, record.clients, q, DONE_TRIP)
        exchange = load >> (KIND_BITS + DATA_BITS)
        if row.exchange == exchange and not (GENERAL and exchange <= row.closed_exchange):
            deadline_s = hear_answer(world, number, load & ((1 << DATA_BITS) - 1), now)
            if deadline_s < NEVER_S:
                event_list.schedule(q, ALARM, deadline_s, number, load_of(0, Kind.DEADLINE, 0))
        arrays.state[0].events += 1
        handled += 1
    return handled


@seldom
def ask(world: World, number: int, now: float) -> None:
    """The timer of a polling client sends a poll on the connection that is kept."""
    row, record = world.arrays.rows[number], world.record
    step_poll(row, world.rules, Event.DEADLINE + 0, now, 0)
    row.asked_s = now
    recording.count(record, Count.POLLS, number, now)
    message = request_of(world.options.etag, row.fetched_s, 0)
    recording.count_messages(record, number, now, message)


@inlined
def answer(
    world: World, number: int, node: int, worker: int, arrives_s: float
) -> tuple[float, int]:
    """Answer a poll by a worker; return when, and the load of the event that its client hears."""
    arrays, record, server_rules = world.arrays, world.record, world.server_rules
    row, free_s = arrays.rows[number], arrays.servers.free_s[node]
    begun_s = servers.admit_to(free_s, worker, arrives_s, server_rules.poll_s)
    done_s = begun_s + server_rules.poll_s
    recording.add_busy(record, node, begun_s, done_s)
    row.kept_until_s = done_s + server_rules.keep_alive_s
    version = readable(arrays, record, done_s)
    return done_s, load_of(row.exchange, Kind.POLL_DONE, version << 1)


@seldom
def hear_answer(world: World, number: int, data: int, now: float) -> float:
    """A polling client hears the answer that it waits for; return when its timer fires next."""
    record, etag = world.record, world.options.etag
    row, version, event = world.arrays.rows[number], data >> 1, Event.FETCHED + 0
    unchanged = is_unchanged(etag, row.fetched_s, row.seen, version)
    recording.end_wait(record, Wait.POLL + 0, number, now - row.asked_s, now)
    if unchanged:
        recording.count(record, Count.UNCHANGED, number, now)
        event = Event.UNCHANGED + 0
    before = row.seen + 0
    deadline_s = step_poll(row, world.rules, event, now, version)[1]
    if row.seen != before:
        shown_from = applied_from(row, before)
        recording.resolve(record, number, before, shown_from, row.seen + 0, now)
    recording.count_messages(record, number, now, reply_of(unchanged, data & 1))
    return deadline_s + 0.0
