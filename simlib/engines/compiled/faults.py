"""What goes wrong, as the compiled loop carries it out: the twin of the reference engine's parts.

Connections that are cut or whose path dies, nodes that come and go, paths that delay and narrow
what they carry, and what the server does meanwhile. A run without faults is compiled without it.
"""

from __future__ import annotations

from typing import Any

from simlib.core import path
from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.backpressure import (
    Overflow,
    SendingRules,
    buffered_bytes,
    has_room,
    kept,
    most_held,
)
from simlib.core.client_state import NEVER_S, Rules
from simlib.core.draws import Stream, uniform
from simlib.core.faults import FaultEffect, is_affected
from simlib.core.protocol import State, Transport
from simlib.core.record import Cause, Record, value_of
from simlib.core.resync import Resume
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.event_list import WHEEL, EventList
from simlib.engines.compiled.numba_support import inlined
from simlib.engines.compiled.state import (
    TRIP,
    ClientArrays,
    EngineOptions,
    Kind,
    catch_up,
    disconnect,
    load_of,
    put,
    release_up_to,
)


@inlined
def has_path_limits(arrays: ClientArrays) -> bool:
    """Say whether paths delay or narrow what they carry at any time of the run."""
    return len(arrays.delays) + len(arrays.limits) > 0


@inlined
def one_way_s(arrays: ClientArrays, rules: Rules, number: int, now: float) -> float:
    """Return how long what sets out now takes from one end to the other, seconds."""
    half_s = value_of(arrays.half_s, number) + 0.0
    if len(arrays.delays) > 0:
        half_s += path.added_s(arrays.delays, rules.seed, rules.replication, number, now)
    return half_s


@inlined
def node_of(arrays: ClientArrays, rules: Rules, number: int, exchange: int) -> int:
    """Return the node that a new connection comes to, -1 if none is up."""
    u = 0.0
    if len(arrays.is_down) > 1:
        u = uniform(rules.seed, rules.replication, number, Stream.NODE, exchange)
    return servers.node_for(arrays.is_down, u)


@inlined
def affects(arrays: ClientArrays, rules: Rules, fault_event: int, number: int) -> bool:
    """Say whether a moment concerns a client."""
    place = arrays.fault_events[fault_event]
    if place.effect == FaultEffect.NODE_DOWN:
        return bool(arrays.rows[number].node == place.node)
    seed, replication, fault = rules.seed, rules.replication, int(place.fault)
    return is_affected(seed, replication, number, fault, place.low, place.high)


@inlined
def is_under(arrays: ClientArrays, rules: Rules, effect: int, number: int) -> bool:
    """Say whether a fault that goes on concerns a client."""
    for other in range(len(arrays.fault_events)):
        if arrays.active[other] and arrays.fault_events[other].effect == effect:
            if affects(arrays, rules, other, number):
                return True
    return False


@inlined
def reset_connection(
    arrays: ClientArrays, record: Record, q: EventList, rules: Rules, number: int, now: float
) -> None:
    """The server's side of a connection is gone; the client hears of it half a trip later."""
    row = arrays.rows[number]
    exchange = int(row.exchange)
    catch_up(arrays, record, number, arrays.state[0].published)
    release_up_to(arrays, row, exchange)
    if row.transport == Transport.POLLING:
        if row.is_link_dead:
            return
        if row.kept_until_s < now:
            disconnect(arrays, record, number, row.kept_until_s, Cause.IDLE, Transport.POLLING)
        else:
            disconnect(arrays, record, number, now, Cause.CLOSED_BY_SERVER, Transport.POLLING)
        row.kept_until_s = -NEVER_S
        if row.state != State.FETCHING:
            return
    elif row.lost_exchange >= exchange or not State.CONNECTING <= row.state <= State.OPEN:
        return
    if row.closed_exchange < exchange:
        row.closed_exchange = exchange
        t = now + one_way_s(arrays, rules, number, now)
        event_list.schedule(q, TRIP, t, number, load_of(exchange, Kind.FAIL, 0))


@inlined
def lose_path(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    options: EngineOptions,
    number: int,
    now: float,
) -> None:
    """The path of a connection dies; neither end hears of it."""
    row = arrays.rows[number]
    exchange = int(row.exchange)
    if row.transport == Transport.POLLING:
        if row.opened_s < NEVER_S and not row.is_link_dead:
            row.is_link_dead = True
            row.closed_exchange = exchange
            if row.state == State.FETCHING:
                load = load_of(exchange, Kind.UNANSWERED, 0)
                event_list.schedule(q, WHEEL, now + options.unanswered_s, number, load)
    elif State.SECURING <= row.state <= State.OPEN:
        catch_up(arrays, record, number, arrays.state[0].published)
        row.lost_exchange = exchange
        if row.subscribed >= 0:
            arrays.undisturbed_until_s[row.slot] = -NEVER_S


@inlined
def _come_and_go(arrays: ClientArrays, node: int, effect: int) -> None:
    """A node's process ends, or its successor starts with empty hands."""
    if effect == FaultEffect.SERVER_DOWN or effect == FaultEffect.NODE_DOWN:
        arrays.is_down[node] = True
        arrays.process[node] += len(arrays.is_down)
    elif effect == FaultEffect.SERVER_UP or effect == FaultEffect.NODE_UP:
        arrays.is_down[node] = False
        arrays.kept_from[node] = arrays.state[0].published


@inlined
def apply_fault(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    rules: Rules,
    options: EngineOptions,
    server: Any,
    now: float,
) -> None:
    """Something goes wrong, or is put right."""
    state = arrays.state[0]
    fault_event = int(state.fault_event)
    state.fault_event += 1
    effect, fault = arrays.fault_events[fault_event].effect, arrays.fault_events[fault_event].fault
    if effect == FaultEffect.SERVER_DOWN:
        for worker in range(len(server.free_s)):
            recording.add_busy(record, now, server.free_s[worker], -1.0)
        servers.clear_server(server, now)
    for node in range(len(arrays.is_down)):
        if (
            effect == FaultEffect.SERVER_DOWN
            or effect == FaultEffect.SERVER_UP
            or node == arrays.fault_events[fault_event].node
        ):
            _come_and_go(arrays, node, effect)
    if effect == FaultEffect.PARTITION or effect == FaultEffect.BLOCK:
        arrays.active[fault_event] = True
    elif effect == FaultEffect.HEAL or effect == FaultEffect.UNBLOCK:
        for other in range(fault_event):
            if arrays.fault_events[other].fault == fault:
                arrays.active[other] = False
    cuts = (
        effect == FaultEffect.SERVER_DOWN
        or effect == FaultEffect.NODE_DOWN
        or effect == FaultEffect.RESET
    )
    if cuts or effect == FaultEffect.PARTITION:
        for number in range(len(arrays.rows)):
            if affects(arrays, rules, fault_event, number):
                if effect == FaultEffect.PARTITION:
                    lose_path(arrays, record, q, options, number, now)
                else:
                    reset_connection(arrays, record, q, rules, number, now)
    if fault_event + 1 < len(arrays.fault_events):
        t = arrays.fault_events[fault_event + 1].t
        event_list.schedule(q, WHEEL, t, 0, load_of(0, Kind.FAULT, 0))


# -- paths that delay and narrow -----------------------------------------------------------------


@inlined
def carried_by(
    arrays: ClientArrays, rules: Rules, number: int, start_s: float, n_bytes: float
) -> float:
    """Return when a client's path, idle before, has carried something."""
    if len(arrays.limits) == 0:
        return start_s
    return path.carried_s(arrays.limits, rules.seed, rules.replication, number, start_s, n_bytes)


@inlined
def _held_bytes(arrays: ClientArrays, rules: Rules, number: int, t: float) -> float:
    """Return what a client's path has still to carry at `t`."""
    if len(arrays.limits) == 0:
        return 0.0
    row = arrays.rows[number]
    return path.left_bytes(
        arrays.limits, rules.seed, rules.replication, number, row.link_s, row.link_bytes, t
    )


@inlined
def transmit(arrays: ClientArrays, rules: Rules, number: int, t: float, n_bytes: float) -> float:
    """Give a connection's path something to carry from `t` on; return when it arrives.

    It is behind what the path has, and nothing overtakes on a connection.
    """
    half = one_way_s(arrays, rules, number, t)
    if not has_path_limits(arrays):
        return t + half
    row = arrays.rows[number]
    t = max(t, row.link_s)
    held = _held_bytes(arrays, rules, number, t) + n_bytes
    row.link_s, row.link_bytes = t, held
    arrives_s = carried_by(arrays, rules, number, t, held) + half
    row.arrived_s = max(row.arrived_s, arrives_s)
    return float(row.arrived_s)


@inlined
def send_beat(arrays: ClientArrays, rules: Rules, number: int, t: float, n_bytes: float) -> float:
    """Return when a heartbeat arrives; a push that waits its turn is not ahead of it."""
    row = arrays.rows[number]
    if t < row.link_s:
        half = one_way_s(arrays, rules, number, t)
        return carried_by(arrays, rules, number, t, row.link_bytes + n_bytes) + half
    return transmit(arrays, rules, number, t, n_bytes)


@inlined
def ready_s(
    arrays: ClientArrays, rules: Rules, number: int, now: float, outcome: int, missed: int
) -> float:
    """Return when READY, and what is replayed with it, arrives on a new connection."""
    if not has_path_limits(arrays):
        return now + one_way_s(arrays, rules, number, now)
    row, n_bytes = arrays.rows[number], arrays.sizes[Message.READY, 1] + 0
    if outcome == Resume.REPLAY:
        n_bytes += missed * arrays.sizes[Message.PUSH, 1]
    row.link_s = row.arrived_s = now
    row.link_bytes = 0.0
    row.waiting = 0
    return transmit(arrays, rules, number, now, float(n_bytes))


@inlined
def blocking_send(
    arrays: ClientArrays,
    record: Record,
    rules: Rules,
    sending: SendingRules,
    server: Any,
    number: int,
    t: float,
) -> float:
    """Send to a client what comes to it at `t`, wait until that is done; return its arrival."""
    message = float(arrays.sizes[Message.PUSH, 1])
    t = max(t, server.state.blocked_until_s, arrays.rows[number].link_s)
    held = _held_bytes(arrays, rules, number, t)
    over = held + message - (sending.socket_bytes + sending.buffer_bytes)
    if over > 0.0:
        t = carried_by(arrays, rules, number, t, over)
        held -= over
    server.state.blocked_until_s = t
    recording.buffer(record, number, buffered_bytes(sending, held + message))
    return transmit(arrays, rules, number, t, message)


@inlined
def try_send(
    arrays: ClientArrays,
    record: Record,
    rules: Rules,
    sending: SendingRules,
    number: int,
    now: float,
    half: float,
    exchange: int,
    version: int,
    n: int,
) -> int:
    """A message of a broadcast comes to a client whose path may be narrow."""
    row, size = arrays.rows[number], int(arrays.sizes[Message.PUSH, 1])
    held = _held_bytes(arrays, rules, number, now)
    waits = sending.overflow == Overflow.DROP_OLDEST or sending.overflow == Overflow.COALESCE
    if waits and (row.waiting > 0 or not has_room(sending, held, size)):
        row.tail = version
        row.waiting += 1
        if row.waiting == 1:
            n = _wait_until_writable(arrays, rules, sending, number, now, exchange, n)
        row.waiting = kept(sending, int(row.waiting), size)
        recording.buffer(record, number, float(row.waiting * size))
        return n
    buffered = buffered_bytes(sending, held + size)
    if sending.overflow == Overflow.CLOSE and buffered > sending.buffer_bytes:
        release_up_to(arrays, row, exchange)
        in_kernels = min(held, float(sending.socket_bytes))
        t = carried_by(arrays, rules, number, now, in_kernels) + half
        return put(arrays.out, n, WHEEL, t, Kind.FAIL, exchange, 0)
    recording.buffer(record, number, buffered)
    t = transmit(arrays, rules, number, now, float(size))
    return put(arrays.out, n, WHEEL, t, Kind.PUSH, exchange, version)


@inlined
def drain(
    arrays: ClientArrays,
    rules: Rules,
    sending: SendingRules,
    number: int,
    now: float,
    exchange: int,
    n: int,
) -> int:
    """What waits for a client goes out as its kernels take it."""
    row = arrays.rows[number]
    version = int(row.tail - row.waiting + 1)
    row.waiting -= 1
    kind, message = _waiting_message(rules, sending)
    t = transmit(arrays, rules, number, now, float(arrays.sizes[message, 1]))
    n = put(arrays.out, n, WHEEL, t, kind, exchange, version)
    if row.waiting > 0:
        n = _wait_until_writable(arrays, rules, sending, number, now, exchange, n)
    return n


@inlined
def _waiting_message(rules: Rules, sending: SendingRules) -> tuple[int, int]:
    """Return how what waits for a client comes in, and as which message."""
    if sending.overflow == Overflow.COALESCE and not rules.push_is_snapshot:
        return Kind.SNAPSHOT + 0, Message.SNAPSHOT + 0
    return Kind.PUSH + 0, Message.PUSH + 0


@inlined
def _wait_until_writable(
    arrays: ClientArrays,
    rules: Rules,
    sending: SendingRules,
    number: int,
    now: float,
    exchange: int,
    n: int,
) -> int:
    size = int(arrays.sizes[_waiting_message(rules, sending)[1], 1])
    over = _held_bytes(arrays, rules, number, now) - most_held(sending, size)
    t = carried_by(arrays, rules, number, now, over)
    return put(arrays.out, n, WHEEL, t, Kind.WRITABLE, exchange, 0)
