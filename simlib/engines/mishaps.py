"""What goes wrong, as the compiled loop carries it out: the twin of the reference engine's parts.

Connections that are cut or whose path dies, nodes that come and go, paths that delay and narrow
what they carry, and what the server does meanwhile. A run without faults is compiled without it.
"""

from __future__ import annotations

from typing import Any

from simlib.core import path
from simlib.core import record as books
from simlib.core import server as servers
from simlib.core.client import NEVER_S, Rules
from simlib.core.draws import Stream, uniform
from simlib.core.faults import Change, is_hit
from simlib.core.protocol import State, Transport
from simlib.core.record import Cause, Record, of
from simlib.core.resync import Way
from simlib.core.sending import Overflow, SendingRules, buffered_bytes, has_room, kept, most_held
from simlib.core.wire import Message
from simlib.engines import event_list
from simlib.engines.compiling import part
from simlib.engines.event_list import WHEEL, EventList
from simlib.engines.fleet import (
    TRIP,
    Choices,
    Fleet,
    Kind,
    catch_up,
    disconnect,
    forget_up_to,
    load_of,
    put,
)


@part
def is_uneven(fleet: Fleet) -> bool:
    """Say whether paths delay or narrow what they carry at any time of the run."""
    return len(fleet.delays) + len(fleet.limits) > 0


@part
def half_of(fleet: Fleet, rules: Rules, number: int, now: float) -> float:
    """Return how long what sets out now takes from one end to the other, seconds."""
    half_s = of(fleet.half_s, number) + 0.0
    if len(fleet.delays) > 0:
        half_s += path.added_s(fleet.delays, rules.seed, rules.replication, number, now)
    return half_s


@part
def node_of(fleet: Fleet, rules: Rules, number: int, exchange: int) -> int:
    """Return the node that a new connection comes to, -1 if none is up."""
    u = 0.0
    if len(fleet.is_down) > 1:
        u = uniform(rules.seed, rules.replication, number, Stream.NODE, exchange)
    return servers.node_for(fleet.is_down, u)


@part
def concerns(fleet: Fleet, rules: Rules, moment: int, number: int) -> bool:
    """Say whether a moment concerns a client."""
    place = fleet.moments[moment]
    if place.change == Change.LEAVE:
        return bool(fleet.rows[number].node == place.node)
    seed, replication, fault = rules.seed, rules.replication, int(place.fault)
    return is_hit(seed, replication, number, fault, place.low, place.high)


@part
def meets(fleet: Fleet, rules: Rules, change: int, number: int) -> bool:
    """Say whether a fault that goes on concerns a client."""
    for other in range(len(fleet.moments)):
        if fleet.active[other] and fleet.moments[other].change == change:
            if concerns(fleet, rules, other, number):
                return True
    return False


@part
def cut(fleet: Fleet, record: Record, q: EventList, rules: Rules, number: int, now: float) -> None:
    """The server's side of a connection is gone; the client hears of it half a trip later."""
    row = fleet.rows[number]
    exchange = int(row.exchange)
    catch_up(fleet, record, number, fleet.state[0].published)
    forget_up_to(fleet, row, exchange)
    if row.transport == Transport.POLLING:
        if row.is_link_dead:
            return
        if row.kept_until_s < now:
            disconnect(fleet, record, number, row.kept_until_s, Cause.IDLE, Transport.POLLING)
        else:
            disconnect(fleet, record, number, now, Cause.CLOSED_BY_SERVER, Transport.POLLING)
        row.kept_until_s = -NEVER_S
        if row.state != State.FETCHING:
            return
    elif row.dead >= exchange or not State.CONNECTING <= row.state <= State.OPEN:
        return
    if row.ended < exchange:
        row.ended = exchange
        t = now + half_of(fleet, rules, number, now)
        event_list.schedule(q, TRIP, t, number, load_of(exchange, Kind.FAIL, 0))


@part
def lose(
    fleet: Fleet,
    record: Record,
    q: EventList,
    choices: Choices,
    number: int,
    now: float,
) -> None:
    """The path of a connection dies; neither end hears of it."""
    row = fleet.rows[number]
    exchange = int(row.exchange)
    if row.transport == Transport.POLLING:
        if row.opened_s < NEVER_S and not row.is_link_dead:
            row.is_link_dead = True
            row.ended = exchange
            if row.state == State.FETCHING:
                load = load_of(exchange, Kind.UNANSWERED, 0)
                event_list.schedule(q, WHEEL, now + choices.unanswered_s, number, load)
    elif State.SECURING <= row.state <= State.OPEN:
        catch_up(fleet, record, number, fleet.state[0].published)
        row.dead = exchange
        if row.listens >= 0:
            fleet.safe_s[row.slot] = -NEVER_S


@part
def _come_and_go(fleet: Fleet, node: int, change: int) -> None:
    """A node's process ends, or its successor starts with empty hands."""
    if change == Change.DOWN or change == Change.LEAVE:
        fleet.is_down[node] = True
        fleet.process[node] += len(fleet.is_down)
    elif change == Change.UP or change == Change.JOIN:
        fleet.is_down[node] = False
        fleet.kept_from[node] = fleet.state[0].published


@part
def strike(
    fleet: Fleet,
    record: Record,
    q: EventList,
    rules: Rules,
    choices: Choices,
    server: Any,
    now: float,
) -> None:
    """Something goes wrong, or is put right."""
    state = fleet.state[0]
    moment = int(state.moment)
    state.moment += 1
    change, fault = fleet.moments[moment].change, fleet.moments[moment].fault
    if change == Change.DOWN:
        for worker in range(len(server.free_s)):
            books.spread(record, now, server.free_s[worker], -1.0)
        servers.empty(server, now)
    for node in range(len(fleet.is_down)):
        if change == Change.DOWN or change == Change.UP or node == fleet.moments[moment].node:
            _come_and_go(fleet, node, change)
    if change == Change.LOSE or change == Change.BLOCK:
        fleet.active[moment] = True
    elif change == Change.HEAL or change == Change.UNBLOCK:
        for other in range(moment):
            if fleet.moments[other].fault == fault:
                fleet.active[other] = False
    cuts = change == Change.DOWN or change == Change.LEAVE or change == Change.CUT
    if cuts or change == Change.LOSE:
        for number in range(len(fleet.rows)):
            if concerns(fleet, rules, moment, number):
                if change == Change.LOSE:
                    lose(fleet, record, q, choices, number, now)
                else:
                    cut(fleet, record, q, rules, number, now)
    if moment + 1 < len(fleet.moments):
        t = fleet.moments[moment + 1].t
        event_list.schedule(q, WHEEL, t, 0, load_of(0, Kind.FAULT, 0))


# -- paths that delay and narrow -----------------------------------------------------------------


@part
def carried_by(fleet: Fleet, rules: Rules, number: int, start_s: float, n_bytes: float) -> float:
    """Return when a client's path, idle before, has carried something."""
    if len(fleet.limits) == 0:
        return start_s
    return path.carried_s(fleet.limits, rules.seed, rules.replication, number, start_s, n_bytes)


@part
def _held_bytes(fleet: Fleet, rules: Rules, number: int, t: float) -> float:
    """Return what a client's path has still to carry at `t`."""
    if len(fleet.limits) == 0:
        return 0.0
    row = fleet.rows[number]
    return path.left_bytes(
        fleet.limits, rules.seed, rules.replication, number, row.link_s, row.link_bytes, t
    )


@part
def pass_on(fleet: Fleet, rules: Rules, number: int, t: float, n_bytes: float) -> float:
    """Give a connection's path something to carry from `t` on; return when it arrives.

    It is behind what the path has, and nothing overtakes on a connection.
    """
    half = half_of(fleet, rules, number, t)
    if not is_uneven(fleet):
        return t + half
    row = fleet.rows[number]
    t = max(t, row.link_s)
    held = _held_bytes(fleet, rules, number, t) + n_bytes
    row.link_s, row.link_bytes = t, held
    arrives_s = carried_by(fleet, rules, number, t, held) + half
    row.arrived_s = max(row.arrived_s, arrives_s)
    return float(row.arrived_s)


@part
def send_beat(fleet: Fleet, rules: Rules, number: int, t: float, n_bytes: float) -> float:
    """Return when a heartbeat arrives; a push that waits its turn is not ahead of it."""
    row = fleet.rows[number]
    if t < row.link_s:
        half = half_of(fleet, rules, number, t)
        return carried_by(fleet, rules, number, t, row.link_bytes + n_bytes) + half
    return pass_on(fleet, rules, number, t, n_bytes)


@part
def welcome(fleet: Fleet, rules: Rules, number: int, now: float, way: int, missed: int) -> float:
    """Return when READY, and what is replayed with it, arrives on a new connection."""
    if not is_uneven(fleet):
        return now + half_of(fleet, rules, number, now)
    row, n_bytes = fleet.rows[number], fleet.sizes[Message.READY, 1] + 0
    if way == Way.REPLAY:
        n_bytes += missed * fleet.sizes[Message.PUSH, 1]
    row.link_s = row.arrived_s = now
    row.link_bytes = 0.0
    row.waiting = 0
    return pass_on(fleet, rules, number, now, float(n_bytes))


@part
def wait_for(
    fleet: Fleet,
    record: Record,
    rules: Rules,
    sending: SendingRules,
    server: Any,
    number: int,
    t: float,
) -> float:
    """Send to a client what comes to it at `t`, wait until that is done; return its arrival."""
    message = float(fleet.sizes[Message.PUSH, 1])
    t = max(t, server.desk.gate_s, fleet.rows[number].link_s)
    held = _held_bytes(fleet, rules, number, t)
    over = held + message - (sending.socket_bytes + sending.buffer_bytes)
    if over > 0.0:
        t = carried_by(fleet, rules, number, t, over)
        held -= over
    server.desk.gate_s = t
    books.buffer(record, number, buffered_bytes(sending, held + message))
    return pass_on(fleet, rules, number, t, message)


@part
def offer(
    fleet: Fleet,
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
    row, size = fleet.rows[number], int(fleet.sizes[Message.PUSH, 1])
    held = _held_bytes(fleet, rules, number, now)
    waits = sending.overflow == Overflow.DROP_OLDEST or sending.overflow == Overflow.COALESCE
    if waits and (row.waiting > 0 or not has_room(sending, held, size)):
        row.tail = version
        row.waiting += 1
        if row.waiting == 1:
            n = _wait_for_room(fleet, rules, sending, number, now, exchange, n)
        row.waiting = kept(sending, int(row.waiting), size)
        books.buffer(record, number, float(row.waiting * size))
        return n
    buffered = buffered_bytes(sending, held + size)
    if sending.overflow == Overflow.CLOSE and buffered > sending.buffer_bytes:
        forget_up_to(fleet, row, exchange)
        in_kernels = min(held, float(sending.socket_bytes))
        t = carried_by(fleet, rules, number, now, in_kernels) + half
        return put(fleet.out, n, WHEEL, t, Kind.FAIL, exchange, 0)
    books.buffer(record, number, buffered)
    t = pass_on(fleet, rules, number, now, float(size))
    return put(fleet.out, n, WHEEL, t, Kind.PUSH, exchange, version)


@part
def take_room(
    fleet: Fleet,
    rules: Rules,
    sending: SendingRules,
    number: int,
    now: float,
    exchange: int,
    n: int,
) -> int:
    """What waits for a client goes out as its kernels take it."""
    row = fleet.rows[number]
    version = int(row.tail - row.waiting + 1)
    row.waiting -= 1
    kind, message = _waiting_message(rules, sending)
    t = pass_on(fleet, rules, number, now, float(fleet.sizes[message, 1]))
    n = put(fleet.out, n, WHEEL, t, kind, exchange, version)
    if row.waiting > 0:
        n = _wait_for_room(fleet, rules, sending, number, now, exchange, n)
    return n


@part
def _waiting_message(rules: Rules, sending: SendingRules) -> tuple[int, int]:
    """Return how what waits for a client comes in, and as which message."""
    if sending.overflow == Overflow.COALESCE and not rules.push_is_snapshot:
        return Kind.BOARD + 0, Message.SNAPSHOT + 0
    return Kind.PUSH + 0, Message.PUSH + 0


@part
def _wait_for_room(
    fleet: Fleet,
    rules: Rules,
    sending: SendingRules,
    number: int,
    now: float,
    exchange: int,
    n: int,
) -> int:
    size = int(fleet.sizes[_waiting_message(rules, sending)[1], 1])
    over = _held_bytes(fleet, rules, number, now) - most_held(sending, size)
    t = carried_by(fleet, rules, number, now, over)
    return put(fleet.out, n, WHEEL, t, Kind.ROOM, exchange, 0)
