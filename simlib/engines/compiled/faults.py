"""Faults, as the compiled loop schedules them.

The rules are those of `core.connection`, on the same rows. These functions pass a rule its arrays,
and schedule the events that its answer demands. The loop for a run without faults has none of them.
"""

from __future__ import annotations

from simlib.core import balancing, broadcasts, connection
from simlib.core import record as recording
from simlib.core.backpressure import SendingRules
from simlib.core.browser import MAIN
from simlib.core.client_state import NEVER_S, Rules
from simlib.core.connection import GIVES_UP, FaultSchedule, Nodes, Sent
from simlib.core.faults import FaultEffect, is_by_server
from simlib.core.protocol import has_socket
from simlib.core.record import Cause, Record
from simlib.core.resync import Resume
from simlib.core.server import Server, ServerRules
from simlib.core.streams import sent_as
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.balancing import let_go
from simlib.engines.compiled.event_list import WHEEL, EventList
from simlib.engines.compiled.numba_support import inlined, seldom
from simlib.engines.compiled.proxied import end_stream
from simlib.engines.compiled.state import (
    END_OF_STREAM,
    TRIP,
    ClientArrays,
    EngineOptions,
    Kind,
    catch_up,
    disconnect,
    end_fetches,
    is_queued,
    leave_undisturbed,
    load_of,
    loop_of,
    paths_of,
    put,
    release_up_to,
)


@inlined
def has_path_limits(arrays: ClientArrays) -> bool:
    """Return whether any path is slower or narrower at some time, or all clients share a link."""
    return len(arrays.delays) + len(arrays.limits) + len(arrays.shared) > 0


@inlined
def one_way_s(arrays: ClientArrays, rules: Rules, number: int, now: float) -> float:
    """Return how long a message sent now takes from one end to the other, seconds."""
    return connection.one_way_s(paths_of(arrays, rules), arrays.rows[number], now)


@inlined
def is_under(arrays: ClientArrays, rules: Rules, effect: int, number: int) -> bool:
    """Return whether an active fault affects a client."""
    schedule = FaultSchedule(arrays.fault_events, arrays.active)
    row = arrays.rows[number]
    return connection.is_under(schedule, effect, row, rules.seed, rules.replication)


@inlined
def cut_in_service_s(
    arrays: ClientArrays, rules: Rules, number: int, worker: int, now: float, done_s: float
) -> float:
    """Return when a request that a worker serves until `done_s` is cut; `NEVER_S` if it is not."""
    schedule = FaultSchedule(arrays.fault_events, arrays.active)
    node, row = worker // arrays.servers.free_s.shape[1], arrays.rows[number]
    address = rules.seed, rules.replication
    return connection.cut_in_service_s(schedule, row, node, *address, now, done_s)


@seldom
def reset_connection(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    rules: Rules,
    server_rules: ServerRules,
    number: int,
    now: float,
    lets_go: bool,
    by_server: bool,
) -> None:
    """Reset a connection at the server; the client hears of it behind all that was sent.

    The server lets go of the client's socket, unless that is on another node, which does not.
    """
    row, socket_bytes = arrays.rows[number], server_rules.sending.socket_bytes
    exchange = int(row.exchange)
    catch_up(arrays, record, number, arrays.state[0].published)
    is_end = connection.ends_stream(row, row, by_server, server_rules.ends_streams)
    end_stream(arrays, record, q, rules, number, now, exchange, is_end)
    heard_s = connection.end_arrives_s(paths_of(arrays, rules), row, exchange, socket_bytes, now)
    if lets_go:
        let_go(arrays, row, exchange)
    if not has_socket(row.transport) and not row.is_link_dead:
        closed_s, cause = connection.end_of_kept(row, now, Cause.CLOSED_BY_SERVER + 0)
        disconnect(arrays, record, number, closed_s, cause, row.transport + 0)
    in_queue = is_queued(arrays, number, MAIN)
    if connection.reset(row, row, server_rules.keep_alive_s, now, in_queue):
        load = load_of(exchange, Kind.FAIL, END_OF_STREAM * is_end)
        event_list.schedule_seldom(q, TRIP, heard_s, number, load)


@inlined
def _lose_path(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    options: EngineOptions,
    number: int,
    now: float,
) -> None:
    """Let the path of a connection die, which neither end notices."""
    row = arrays.rows[number]
    catch_up(arrays, record, number, arrays.state[0].published)
    if row.subscribed >= 0:
        leave_undisturbed(arrays, int(row.slot), -NEVER_S)
    if connection.lose_path(row, row, is_queued(arrays, number, MAIN)):
        load = load_of(row.exchange, Kind.UNANSWERED, 0)
        event_list.schedule_seldom(q, WHEEL, now + options.unanswered_s, number, load)


@seldom
def apply_fault(
    arrays: ClientArrays,
    record: Record,
    q: EventList,
    rules: Rules,
    server_rules: ServerRules,
    options: EngineOptions,
    now: float,
) -> None:
    """Start or end a fault."""
    state, schedule = arrays.state[0], FaultSchedule(arrays.fault_events, arrays.active)
    index = int(state.fault_event)
    state.fault_event += 1
    fault_event = schedule.events[index]
    effect = int(fault_event.effect)
    servers = arrays.servers
    for node in range(len(servers.state)):
        if connection.stops(fault_event, node):
            free_s, blocked_s = servers.free_s[node], servers.blocked_s[node]
            server = Server(free_s, blocked_s, servers.accepts_s[node], servers.state[node])
            connection.stop_server(server, node, record, now)
            balancing.forget_node(arrays.balancer, node)
            for worker in range(len(free_s)):
                broadcasts.end_loop(arrays.sends[node * len(free_s) + worker], now)
    nodes = Nodes(arrays.is_down, arrays.process, arrays.kept_from)
    connection.set_nodes(nodes, fault_event, state.published)
    connection.set_active(schedule, index)
    is_reset = connection.is_reset(effect)
    if connection.cuts_all(fault_event):
        for node in range(len(servers.state)):
            address, sockets = (rules.seed, rules.replication), int(servers.state[node].sockets)
            if broadcasts.forgets(server_rules.loop, *address, node, index, sockets):
                servers.state[node].has_forgotten = True
    if is_reset or effect == FaultEffect.PARTITION:
        for number in range(len(arrays.rows)):
            row = arrays.rows[number]
            if connection.affects(fault_event, row, rules.seed, rules.replication):
                if is_reset:
                    keep_alive_s, workers = server_rules.keep_alive_s, servers.free_s.shape[1]
                    if connection.ends_idle_fetches(fault_event, row, row, keep_alive_s, now):
                        end_fetches(arrays, record, number, now)
                    lets_go = not connection.goes_on_elsewhere(fault_event, row, workers)
                    settings, by_server = (rules, server_rules), is_by_server(fault_event)
                    reset_connection(arrays, record, q, *settings, number, now, lets_go, by_server)
                else:
                    _lose_path(arrays, record, q, options, number, now)
            elif connection.keeps_socket(fault_event, row, servers.free_s.shape[1]):
                catch_up(arrays, record, number, state.published)
                release_up_to(arrays, row, row.socket)
    if index + 1 < len(schedule.events):
        t = schedule.events[index + 1].t
        event_list.schedule_seldom(q, WHEEL, t, 0, load_of(0, Kind.FAULT, 0))


# -- paths that delay and narrow -----------------------------------------------------------------


@seldom
def carried_by(
    arrays: ClientArrays, rules: Rules, number: int, exchange: int, t: float, n_bytes: float
) -> float:
    """Return when the links on a client's path have carried a reply to a poll, sent at `t`."""
    return connection.reply_s(paths_of(arrays, rules), arrays.rows[number], exchange, t, n_bytes)


@inlined
def transmit(arrays: ClientArrays, rules: Rules, number: int, t: float, n_bytes: float) -> float:
    """Give a connection's path something to carry from `t` on; return when it arrives."""
    return connection.transmit(paths_of(arrays, rules), arrays.rows[number], t, n_bytes)


@inlined
def ready_s(
    arrays: ClientArrays, rules: Rules, number: int, now: float, outcome: int, missed: int
) -> float:
    """Return when READY, and what is replayed with it, arrives on a new connection."""
    transport = arrays.rows[number].transport
    n_bytes = arrays.sizes[sent_as(transport, Message.READY), 1] + 0
    if outcome == Resume.REPLAY:
        n_bytes += missed * arrays.sizes[sent_as(transport, Message.PUSH), 1]
    return connection.open_path(paths_of(arrays, rules), arrays.rows[number], now, float(n_bytes))


@inlined
def plan_send(
    arrays: ClientArrays, rules: Rules, sending: SendingRules, number: int, t: float
) -> tuple[int, float]:
    """Wait from `t` on until there is room for a message, under the policies that wait.

    Return what becomes of it, a `Sent`, and when.
    """
    paths, row = paths_of(arrays, rules), arrays.rows[number]
    is_aborting = connection.aborts(paths, sending)
    outcome = Sent.SENT + 0
    if is_aborting or connection.blocks(paths, sending):
        size = float(arrays.sizes[connection.change_message(row), 1])
        node, place = divmod(int(row.socket_worker), arrays.servers.free_s.shape[1])
        blocked_s, planned = arrays.servers.blocked_s[node], arrays.planned[number]
        if is_aborting:
            outcome, t = connection.aborting_send(
                paths, row, planned, blocked_s, place, sending, t, size
            )
        else:
            t = connection.blocking_send(paths, row, planned, blocked_s, place, sending, t, size)
    return outcome, t


@seldom
def try_send(
    arrays: ClientArrays,
    record: Record,
    rules: Rules,
    server_rules: ServerRules,
    number: int,
    now: float,
    exchange: int,
    version: int,
    n: int,
) -> int:
    """Send a message of a broadcast to a client whose path may be narrow, unless it has ended."""
    row, sending = arrays.rows[number], server_rules.sending
    if version != GIVES_UP:
        if not broadcasts.goes_on(server_rules.loop, loop_of(arrays, row), version):
            recording.leave_out(record, number, version, now)
            return n
    size = int(arrays.sizes[connection.change_message(row), 1])
    waiting_size = int(arrays.sizes[connection.waiting_message(row, rules, sending), 1])
    outcome, t = connection.try_send(
        paths_of(arrays, rules), row, record, sending, version, now, size, waiting_size
    )
    if outcome == Sent.SENT:
        n = put(arrays.out, n, WHEEL, t, Kind.PUSH, exchange, version)
    elif outcome == Sent.WAITS_FIRST:
        n = put(arrays.out, n, WHEEL, t, Kind.WRITABLE, exchange, 0)
    elif outcome == Sent.CLOSES:
        let_go(arrays, row, exchange)
        n = put(arrays.out, n, WHEEL, t, Kind.FAIL, exchange, 0)
    return n


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
    """Send the messages that wait for a client as its kernels take them."""
    paths, row = paths_of(arrays, rules), arrays.rows[number]
    message = connection.waiting_message(row, rules, sending)
    size, kind = int(arrays.sizes[message, 1]), Kind.PUSH + 0
    if connection.is_board(message):
        kind = Kind.SNAPSHOT + 0
    version, t = connection.drain(paths, row, now, size)
    n = put(arrays.out, n, WHEEL, t, kind, exchange, version)
    if row.waiting > 0:
        t = connection.writable_s(paths, row, sending, now, size)
        n = put(arrays.out, n, WHEEL, t, Kind.WRITABLE, exchange, 0)
    return n
