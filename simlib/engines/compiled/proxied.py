"""Streams behind a proxy that holds back what they carry, as the compiled loop schedules them.

The rules are those of `core.stream_proxy`, on the same rows. What the proxy passes on is scheduled
at once, and so before what the turn schedules at its end.
"""

from __future__ import annotations

from typing import Any

from simlib.core import connection
from simlib.core import record as recording
from simlib.core import stream_proxy as rule
from simlib.core.client_state import NEVER_S, Rules
from simlib.core.protocol import is_stream
from simlib.core.record import Count, Record
from simlib.core.resync import Resume
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.event_list import WHEEL, EventList
from simlib.engines.compiled.numba_support import inlined, seldom
from simlib.engines.compiled.state import (
    RESUME_BITS,
    ClientArrays,
    Kind,
    load_of,
    paths_of,
)


@inlined
def is_behind(arrays: ClientArrays, number: int) -> bool:
    """Say whether a client is behind a proxy that holds streams back."""
    return bool(len(arrays.behind) > 0 and arrays.behind[number] >= 0)


@inlined
def is_held_back(arrays: ClientArrays, number: int) -> bool:
    """Say whether what the server writes to a client is held back by a proxy."""
    return bool(is_behind(arrays, number) and arrays.streams[number])


@seldom
def begin_stream(
    arrays: ClientArrays,
    q: EventList,
    rules: Rules,
    number: int,
    now: float,
    version: int,
    outcome: int,
) -> None:
    """Write the head of a stream, READY, and what the client has missed up to `version`."""
    row, buffer = arrays.rows[number], arrays.buffers[arrays.behind[number]]
    exchange, first = int(row.subscribed), int(row.seen) + 1
    connection.clear_path(paths_of(arrays, rules), row, now)
    arrays.state[0].held -= buffer.events
    rule.begin(buffer, now)
    rule.write_head(buffer, arrays.stream_bytes[Message.STREAM_RESPONSE])
    message, data, n = Message.STREAM_READY + 0, rule.ready_data(version, outcome), 1
    for part in range(2):
        if part == 1 and outcome == Resume.SNAPSHOT:
            message, data = Message.STREAM_SNAPSHOT + 0, version
        elif part == 1 and outcome == Resume.REPLAY:
            message, data, n = Message.STREAM_PUSH + 0, first, version - first + 1
        elif part == 1:
            continue
        write_to_stream(
            *(arrays, q, rules, number, now),
            *(exchange, message, data, n),
        )


@seldom
def write_to_stream(
    arrays: ClientArrays,
    q: EventList,
    rules: Rules,
    number: int,
    now: float,
    exchange: int,
    message: int,
    data: int,
    n: int,
) -> None:
    """Write to a stream what a proxy may hold back, and send on what it passes on."""
    state, n_bytes = arrays.state[0], int(arrays.stream_bytes[message])
    place = arrays.behind[number]
    buffer, stretches = arrays.buffers[place], arrays.stretches[place]
    due_s = rule.write(buffer, stretches, message, data, n, n_bytes, now)
    state.held += n
    state.stretches = max(state.stretches, buffer.stretches)
    pass_on(arrays, q, rules, number, now, exchange)
    if due_s < NEVER_S:
        event_list.schedule_seldom(q, WHEEL, due_s, number, load_of(exchange, Kind.RELEASE, 0))


@seldom
def pass_on(
    arrays: ClientArrays, q: EventList, rules: Rules, number: int, now: float, exchange: int
) -> None:
    """Send on the events whose last byte the proxy passes on."""
    place = arrays.behind[number]
    buffer, stretches = arrays.buffers[place], arrays.stretches[place]
    row, paths = arrays.rows[number], paths_of(arrays, rules)
    while rule.has_passed(buffer, stretches):
        message, data = rule.take(buffer, stretches)
        arrays.state[0].held -= 1
        t = connection.transmit(paths, row, now, float(arrays.sizes[message, 1]))
        kind = Kind.PUSH + 0
        if message == Message.STREAM_READY:
            version, outcome = rule.of_ready(data)
            kind, data = Kind.READY + 0, (version << RESUME_BITS) | outcome
        elif message == Message.STREAM_COMMENT:
            kind, data = Kind.PING + 0, 0
        elif connection.is_board(message):
            kind = Kind.SNAPSHOT + 0
        event_list.schedule_seldom(q, WHEEL, t, number, load_of(exchange, kind, data))
    rule.close_ranks(buffer, stretches)


@seldom
def release_stream(
    arrays: ClientArrays, q: EventList, rules: Rules, number: int, now: float, exchange: int
) -> None:
    """The proxy passes on what it has, unless a piece was full before."""
    buffer = arrays.buffers[arrays.behind[number]]
    if buffer.due_s == now:
        rule.release(buffer)
        pass_on(arrays, q, rules, number, now, exchange)


@seldom
def end_stream(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    rules: Rules,
    number: int,
    now: float,
    exchange: int,
    is_end: bool,
) -> None:
    """A stream ends, if the client has one: what the proxy has goes before, or is lost."""
    if arrays.rows[number].subscribed != exchange or not is_held_back(arrays, number):
        return
    place = arrays.behind[number]
    buffer, stretches = arrays.buffers[place], arrays.stretches[place]
    if rule.throws_away(buffer, is_end):
        arrays.state[0].held -= buffer.events
        lost = rule.drop(buffer, stretches)
        recording.count_in_bin(record, Count.THROWN_AWAY, number, now, lost)
    else:
        rule.release(buffer)
        pass_on(arrays, q, rules, number, now, exchange)


@inlined
def heard_of_s(arrays: ClientArrays, number: int, row: Any) -> float:
    """Return when the connection last carried something, as a middlebox sees it, seconds."""
    if is_behind(arrays, number) and is_stream(row.transport):
        return float(arrays.buffers[arrays.behind[number]].written_s)
    return float(row.active_s)
