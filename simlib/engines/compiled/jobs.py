"""Stage 1: jobs. What arrives at the server is queued for a worker, or turned away."""

from __future__ import annotations

from typing import Any, NamedTuple

from simlib.core import record as recording
from simlib.core import server as servers
from simlib.core.answers import (
    NOTHING,
    Answer,
    answer_of,
    has_shortcuts,
    keep,
    version_named,
)
from simlib.core.balancing import take_turn
from simlib.core.broadcasts import change_set
from simlib.core.client_state import NEVER_S
from simlib.core.connection import accepted_by, is_at_proxy, served_at
from simlib.core.draws import Stream
from simlib.core.faults import FaultEffect
from simlib.core.limiter import passes_s
from simlib.core.notify import is_awaited
from simlib.core.polling import is_unchanged, reply_of
from simlib.core.protocol import BAD_GATEWAY, FORBIDDEN, UNAVAILABLE
from simlib.core.record import Count
from simlib.core.resync import Resume
from simlib.core.server import Server
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.balancing import give, keep_alive, node_of
from simlib.engines.compiled.event_list import WHEEL
from simlib.engines.compiled.faults import (
    carried_by,
    cut_in_service_s,
    has_path_limits,
    is_under,
    one_way_s,
)
from simlib.engines.compiled.held import answer, carried_s
from simlib.engines.compiled.numba_support import inlined, seldom
from simlib.engines.compiled.proxied import is_held_back
from simlib.engines.compiled.state import (
    ANSWERED,
    BEATS,
    BY_PROXY,
    CUT,
    DONE,
    DONE_TRIP,
    IS_EMPTY,
    IS_HELD,
    IS_PING,
    IS_STREAM,
    REFUSED,
    REFUSED_SYN,
    REPLY_BITS,
    REQUEST_BITS,
    TRIP,
    UNREACHED,
    Kind,
    fetch_address,
    is_at,
    load_of,
    put,
    release_up_to,
    resume_outcome_of,
)
from simlib.engines.compiled.turn import GENERAL, POLLS, PUSHES, Turn, World

_ADMITTED = 2
"""A bit of the data of a poll or upgrade that has waited at the rate limit: it has passed it. The
lowest bit says whether a poll is the first on its connection, and whether an upgrade is for a
stream, `IS_STREAM`."""


class Job(NamedTuple):
    """Work for a worker: its mean service time, negative for none, and the address of its draw.

    The service time is that beside the answer of a poll or a fetch, which `_answer_of` knows.
    `worker` is counted over all nodes; `data` is what the event that follows carries; `n` events
    are to be scheduled so far.
    """

    mean_s: float
    stream: int
    k: int
    worker: int
    data: int
    n: int


@inlined
def serve(world: World, turn: Turn) -> int:
    """Serve what arrives at the server; return how many events that schedules, -1: it was lost."""
    if GENERAL:
        if _is_lost(world, turn):
            return -1
    job = _job_of(world, turn)
    if job.mean_s < 0.0:
        return job.n
    rules, nodes, workers = world.rules, world.arrays.servers, world.server_rules.workers
    node, worker = divmod(job.worker, workers)
    answer, kind = Answer(0.0, 0.0, 0, False), turn.kind
    asks = POLLS and kind == Kind.POLL
    if GENERAL:
        asks = asks and not turn.data & IS_HELD  # whose check costs what a poll does
        asks = asks or kind == Kind.SAFETY_POLL or kind == Kind.REFETCH
    if asks:
        answer = _answer_of(world, turn, job.worker)
    service_s = answer.wait_s + servers.service_time_s(
        world.server_rules,
        job.mean_s + answer.cost_s,
        rules.seed,
        rules.replication,
        turn.number,
        job.stream,
        job.k,
    )
    if kind == Kind.SYN:
        begun_s = servers.accept(
            Server(
                nodes.free_s[node],
                nodes.blocked_s[node],
                nodes.accepts_s[node],
                nodes.state[node],
            ),
            world.server_rules,
            turn.now,
            service_s,
        )
    else:
        begun_s = servers.admit_to(nodes.free_s[node], worker, turn.now, service_s)
    done_s = begun_s + service_s
    if begun_s >= 0.0:
        recording.add_busy(world.record, node, begun_s, done_s)
    version = answer.version + 0
    if version == NOTHING:  # the board is read
        version = readable(world.arrays, world.record, done_s)
    if GENERAL and answer.is_kept:
        keep(world.server_rules, nodes.state[node], version, done_s)
    return _reply(world, turn, job, begun_s, done_s, version)


@inlined
def _answer_of(world: World, turn: Turn, worker: int) -> Answer:
    """Return how a worker, counted over all nodes, answers the poll or fetch that arrives."""
    arrays, server_rules, etag = world.arrays, world.server_rules, world.options.etag
    if GENERAL:
        if has_shortcuts(server_rules, etag):
            row, (node, place) = arrays.rows[turn.number], divmod(worker, server_rules.workers)
            start_s = max(turn.now, arrays.servers.free_s[node][place])
            named = NOTHING + 0
            if turn.kind != Kind.SAFETY_POLL:
                has_gaps = recording.has_gaps(world.record, turn.number)
                named = version_named(etag, row.fetched_s, row.seen, has_gaps)
            present = readable(arrays, world.record, start_s)
            state, heard_s = arrays.servers.state[node], arrays.heard_s
            return answer_of(server_rules, state, heard_s, etag, named, present, start_s)
    return Answer(0.0, server_rules.poll_s + 0.0, NOTHING, False)


@inlined
def _is_lost(world: World, turn: Turn) -> bool:
    """Return whether a message to the server is lost, as its connection is over or dead."""
    row, exchange, kind = world.arrays.rows[turn.number], turn.exchange, turn.kind
    is_dead = PUSHES and exchange <= row.lost_exchange
    if kind == Kind.PONG_UP and is_dead:
        t = turn.now + world.rules.heartbeat_timeout_s
        load = load_of(exchange, Kind.PEER_TIMEOUT, 0)
        event_list.schedule_seldom(world.q, WHEEL, t, turn.number, load)
    if kind == Kind.SAFETY_POLL or kind == Kind.REFETCH:
        is_dead = False  # it comes on a connection of its own
    if kind == Kind.SAFETY_POLL and exchange == row.exchange:
        return False  # the client has not heard of the socket's end
    if kind == Kind.HOLD_END:
        return False  # the server does not know
    if kind != Kind.BEAT and (exchange <= row.closed_exchange or is_dead):
        return True
    is_beat = kind == Kind.PONG_UP or kind == Kind.PING_UP
    return PUSHES and is_beat and row.subscribed != exchange


@inlined
def _job_of(world: World, turn: Turn) -> Job:
    """Return the job that an arrival gives a worker."""
    kind, server_rules = turn.kind, world.server_rules
    row, heartbeat_s = world.arrays.rows[turn.number], server_rules.heartbeat_s
    # The worker that the socket belongs to, or (until it is one) that has accepted it.
    worker = 0
    if GENERAL:
        is_handshake = kind == Kind.UPGRADE or kind == Kind.AUTHENTICATE
        accepted = accepted_by(row, server_rules.workers)
        worker += accepted if is_handshake else row.socket_worker
    if kind == Kind.POLL:
        return _poll_job(world, turn)
    authentication_s = 0.0
    asks_stream = GENERAL and kind == Kind.UPGRADE and turn.data & IS_STREAM > 0
    if PUSHES and (kind == Kind.AUTHENTICATE or asks_stream):
        authentication_s += _authentication_s(world, turn)
    if PUSHES and kind == Kind.UPGRADE:
        return _upgrade_job(world, turn, worker, authentication_s)
    if PUSHES and kind == Kind.AUTHENTICATE:
        if GENERAL:
            change_set(world.arrays.sends[worker])
        k = 2 * turn.exchange + 1
        return Job(authentication_s, Stream.HANDSHAKE_SERVICE + 0, k, worker, turn.data, 0)
    if PUSHES and kind == Kind.BEAT:
        if row.subscribed != turn.exchange:
            return _no_job(turn.data, 0)
        row.beats += 2
        beat = row.beats + 0
        return Job(heartbeat_s, Stream.HEARTBEAT_SERVICE + 0, beat, worker, beat, 0)
    if PUSHES and kind == Kind.PONG_UP:
        k = turn.data + 1
        return Job(heartbeat_s, Stream.HEARTBEAT_SERVICE + 0, k, worker, turn.data, 0)
    if GENERAL and PUSHES and kind == Kind.SAFETY_POLL:
        return _safety_poll_job(world, turn)
    if GENERAL and PUSHES and kind == Kind.REFETCH:
        return _refetch_job(world, turn)
    if GENERAL and PUSHES and kind == Kind.HOLD_END:
        if row.subscribed != turn.exchange:
            return _no_job(turn.data, 0)
        stream = Stream.HOLD_SERVICE + 0
        return Job(server_rules.send_s, stream, turn.exchange, worker, turn.data, 0)
    if PUSHES and kind == Kind.PING_UP:
        row.beats += 1
        k = row.beats + 0
        return Job(heartbeat_s, Stream.HEARTBEAT_SERVICE + 0, k, worker, turn.data, 0)
    return _accept_job(world, turn)


@inlined
def _authentication_s(world: World, turn: Turn) -> float:
    """Return how long a worker takes to let in a client that comes now, seconds."""
    mean_s = world.server_rules.authenticate_s + 0.0
    outcome = resume_outcome_of(
        world.arrays, world.record, world.rules, GENERAL, turn.number, turn.now
    )
    if outcome == Resume.SNAPSHOT:
        mean_s += world.server_rules.snapshot_s
    return mean_s


@inlined
def _no_job(data: int, n: int) -> Job:
    return Job(-1.0, 0, 0, 0, data, n)


@inlined
def _first_free(world: World, node: int) -> int:
    """Return the worker of a node that is free first, counted over all nodes."""
    free_s = world.arrays.servers.free_s[node]
    return int(node * len(free_s) + servers.first_free(free_s))


@inlined
def _passes_s(world: World, turn: Turn) -> float:
    """Return when a request passes the rate limit, -1 if it is refused; once it has waited, now."""
    if turn.data & _ADMITTED:
        return turn.now
    return passes_s(world.arrays.state[0], world.options.limit, turn.now)


@inlined
def _waits(world: World, turn: Turn, t: float) -> Job:
    """Let a request wait at the rate limit until `t`."""
    if turn.kind == Kind.POLL:
        world.arrays.state[0].under_way += 1
    data, exchange = turn.data | _ADMITTED, turn.exchange
    return _no_job(turn.data, put(world.arrays.out, 0, WHEEL, t, turn.kind, exchange, data))


@inlined
def _poll_job(world: World, turn: Turn) -> Job:
    server_rules, out = world.server_rules, world.arrays.out
    node, is_refused = served_at(world.arrays.rows[turn.number]) if GENERAL else 0, False
    if GENERAL and _is_answered_by_proxy(world, turn):
        t, data = turn.now + turn.half_s, turn.data | BY_PROXY
        return _no_job(turn.data, put(out, 0, TRIP, t, Kind.POLL_REFUSED, turn.exchange, data))
    if GENERAL and world.options.limit.polls:
        passed_s = _passes_s(world, turn)
        if passed_s > turn.now:
            return _waits(world, turn, passed_s)
        is_refused = passed_s < 0.0
    free_s = world.arrays.servers.free_s[node]
    if is_refused or servers.wait_s(free_s, turn.now) > server_rules.shed_wait_s:
        _keep_alive(world, turn, turn.now)
        t = turn.now + turn.half_s
        return _no_job(turn.data, put(out, 0, TRIP, t, Kind.POLL_REFUSED, turn.exchange, turn.data))
    worker, mean_s = _first_free(world, node), 0.0
    if GENERAL and turn.data & IS_HELD:
        mean_s += server_rules.poll_s
    return Job(mean_s, Stream.POLL_SERVICE + 0, turn.exchange, worker, turn.data, 0)


@inlined
def _is_answered_by_proxy(world: World, turn: Turn) -> bool:
    """Say whether a proxy answers a request, as it has found no node up for its connection."""
    row, has_waited = world.arrays.rows[turn.number], turn.data & _ADMITTED > 0
    return is_at_proxy(row, world.options.bad_gateway) and not has_waited


@inlined
def _address(turn: Turn) -> int:
    """Return where the reply to a fetch beside the socket goes."""
    return fetch_address(turn.exchange, turn.data >> REQUEST_BITS)


@inlined
def _keep_alive(world: World, turn: Turn, done_s: float) -> None:
    """The server keeps the connection of a request that it has answered at `done_s`."""
    keep_alive_s = world.server_rules.keep_alive_s
    keep_alive(world.arrays, world.q, keep_alive_s, turn.number, turn.exchange, done_s)


@inlined
def _upgrade_job(world: World, turn: Turn, worker: int, authentication_s: float) -> Job:
    """Return the job of an upgrade, or of a request for a stream, which has the token too."""
    server_rules, nodes = world.server_rules, world.arrays.servers
    node, place = divmod(worker, server_rules.workers)
    is_refused, status, may_block = False, UNAVAILABLE, not turn.data & IS_STREAM
    if GENERAL and not turn.data & _ADMITTED:
        swallow, block = FaultEffect.SWALLOW + 0, FaultEffect.BLOCK + 0
        if may_block and is_under(world.arrays, world.rules, swallow, turn.number):
            return _no_job(turn.data, 0)
        if may_block and is_under(world.arrays, world.rules, block, turn.number):
            is_refused, status = True, FORBIDDEN
        elif _is_answered_by_proxy(world, turn):
            is_refused, status = True, BAD_GATEWAY
        elif world.options.limit.upgrades:
            passed_s = _passes_s(world, turn)
            if passed_s > turn.now:
                return _waits(world, turn, passed_s)
            if passed_s < 0.0:
                is_refused, status = True, world.options.limit.status
    is_late = servers.wait_for_s(nodes.free_s[node], place, turn.now) > server_rules.shed_wait_s
    is_refused = is_refused or is_late
    if is_refused or not servers.admits_upgrade(nodes.state[node], server_rules, turn.now):
        out, t = world.arrays.out, turn.now + turn.half_s
        n = put(out, 0, TRIP, t, Kind.UPGRADE_REFUSED, turn.exchange, status)
        return _no_job(turn.data, n)
    if GENERAL and turn.data & IS_STREAM:
        change_set(world.arrays.sends[worker])
    mean_s = server_rules.handshake_s + authentication_s
    k = 2 * turn.exchange
    return Job(mean_s, Stream.HANDSHAKE_SERVICE + 0, k, worker, turn.data, 0)


@seldom
def _safety_poll_job(world: World, turn: Turn) -> Job:
    arrays, rules, server_rules = world.arrays, world.rules, world.server_rules
    node = node_of(arrays, rules, turn.number, turn.exchange)
    free_s = arrays.servers.free_s
    is_shed = node >= 0 and servers.wait_s(free_s[node], turn.now) > server_rules.shed_wait_s
    if is_under(arrays, rules, FaultEffect.PARTITION + 0, turn.number):
        return _no_job(turn.data, 0)
    if node >= 0 and world.options.limit.polls:
        passed_s = _passes_s(world, turn)
        if passed_s > turn.now:
            return _waits(world, turn, passed_s)
        is_shed = is_shed or passed_s < 0.0
    first = turn.data & 1
    if node < 0 or is_shed:
        by_proxy, t = int(node < 0 and world.options.bad_gateway), turn.now + turn.half_s
        reply = REFUSED if node >= 0 or by_proxy else UNREACHED
        reply |= (by_proxy << 1 | first) << REPLY_BITS
        n = put(arrays.out, 0, WHEEL, t, Kind.SAFETY_POLL_REPLY, turn.exchange, reply)
        return _no_job(turn.data, n)
    row = arrays.rows[turn.number]
    row.beats += 1
    take_turn(arrays.balancer, node)
    mean_s, worker = first * server_rules.accept_s, _first_free(world, node)
    return Job(mean_s, Stream.SAFETY_SERVICE + 0, row.beats + 0, worker, turn.data, 0)


@seldom
def _refetch_job(world: World, turn: Turn) -> Job:
    arrays, server_rules, first = world.arrays, world.server_rules, turn.data & 1
    row, exchange = arrays.rows[turn.number], turn.exchange
    is_cut = row.is_link_dead
    is_cut = is_cut or is_under(arrays, world.rules, FaultEffect.PARTITION + 0, turn.number)
    node = node_of(arrays, world.rules, turn.number, exchange)
    if is_cut or node < 0:
        t = turn.now + (world.options.unanswered_s if is_cut else turn.half_s)
        by_proxy = int(not is_cut and world.options.bad_gateway)
        reply = (by_proxy << REPLY_BITS) | UNREACHED
        n = put(arrays.out, 0, WHEEL, t, Kind.REFETCH_REPLY, _address(turn), reply)
        return _no_job(turn.data, n)
    is_refused = False
    if world.options.limit.polls:
        passed_s = _passes_s(world, turn)
        if passed_s > turn.now:
            return _waits(world, turn, passed_s)
        is_refused = passed_s < 0.0
    free_s = arrays.servers.free_s[node]
    if is_refused or servers.wait_s(free_s, turn.now) > server_rules.shed_wait_s:
        if not is_awaited(row, exchange, turn.data >> REQUEST_BITS):
            return _no_job(turn.data, 0)
        _keep_alive(world, turn, turn.now)
        reply, t = (first << REPLY_BITS) | REFUSED, turn.now + turn.half_s
        n = put(arrays.out, 0, WHEEL, t, Kind.REFETCH_REPLY, _address(turn), reply)
        return _no_job(turn.data, n)
    row.beats += 1
    take_turn(arrays.balancer, node)
    mean_s = first * server_rules.accept_s
    worker = _first_free(world, node)
    return Job(mean_s, Stream.SAFETY_SERVICE + 0, row.beats + 0, worker, turn.data, 0)


@inlined
def _accept_job(world: World, turn: Turn) -> Job:
    arrays, rules = world.arrays, world.rules
    if GENERAL:
        if is_under(arrays, rules, FaultEffect.PARTITION + 0, turn.number):
            return _no_job(turn.data, _syn_again(world, turn))
        row = arrays.rows[turn.number]
        row.node = node_of(arrays, rules, turn.number, turn.exchange)
        if row.node < 0 and world.options.bad_gateway:
            t = turn.now + turn.half_s
            return _no_job(turn.data, put(arrays.out, 0, TRIP, t, Kind.TCP_OPEN, turn.exchange, 0))
        if row.node < 0:
            t = turn.now + turn.half_s
            return _no_job(
                turn.data, put(arrays.out, 0, TRIP, t, Kind.FAIL, turn.exchange, REFUSED_SYN)
            )
        row.worker = servers.first_free(arrays.servers.free_s[row.node])
    mean_s = world.server_rules.accept_s
    worker = 0
    if GENERAL:
        worker += accepted_by(arrays.rows[turn.number], world.server_rules.workers)
    return Job(mean_s, Stream.ACCEPT_SERVICE + 0, turn.exchange, worker, turn.data, 0)


@inlined
def _syn_again(world: World, turn: Turn) -> int:
    """Repeat a SYN to which no answer came."""
    t = turn.now + max(0.0, servers.syn_retry_s(turn.data) - turn.half_s)
    return put(world.arrays.out, 0, WHEEL, t, Kind.SYN_AGAIN, turn.exchange, turn.data)


@inlined
def _reply(world: World, turn: Turn, job: Job, begun_s: float, done_s: float, version: int) -> int:
    """Schedule what follows a job, which shows a version of the board; return how many events."""
    kind, exchange, half_s, out = turn.kind, turn.exchange, turn.half_s, world.arrays.out
    if GENERAL and kind == Kind.POLL and turn.data & IS_HELD:
        data = (job.worker << 1) | (turn.data & 1)
        return put(out, 0, DONE, done_s, Kind.CHECKED, exchange, data)
    if kind == Kind.POLL:
        return _poll_done(world, turn, done_s, version)
    if GENERAL and PUSHES and kind == Kind.HOLD_END:
        release_up_to(world.arrays, world.arrays.rows[turn.number], exchange)
        data = turn.data | IS_EMPTY
        follows, t = answer(world, turn.number, exchange, done_s, data, half_s)
        return put(out, 0, DONE_TRIP, t, follows, exchange, data)
    if PUSHES and kind == Kind.UPGRADE:
        data = (job.worker << 1) | (turn.data & IS_STREAM)
        return put(out, 0, DONE, done_s, Kind.UPGRADE_SERVED, exchange, data)
    if PUSHES and kind == Kind.AUTHENTICATE:
        return put(out, 0, DONE, done_s, Kind.AUTHENTICATED, exchange, 0)
    if PUSHES and kind == Kind.BEAT:
        is_late = GENERAL and has_path_limits(world.arrays)
        if GENERAL:
            is_late = is_late or is_held_back(world.arrays, turn.number)
        if is_late:
            data = (job.data << 1) | IS_PING
            return put(out, 0, DONE, done_s, Kind.BEAT_SERVED, exchange, data)
        n = put(out, 0, DONE_TRIP, done_s + half_s, Kind.PING, exchange, job.data)
        if GENERAL and world.arrays.streams[turn.number]:
            t = done_s + world.rules.heartbeat_interval_s
            n = put(out, n, BEATS, t, Kind.BEAT, exchange, 0)
        return n
    if PUSHES and kind == Kind.PONG_UP:
        t = done_s + world.rules.heartbeat_interval_s
        return put(out, 0, BEATS, t, Kind.BEAT, exchange, 0)
    if GENERAL and PUSHES and kind == Kind.REFETCH:
        if not is_awaited(world.arrays.rows[turn.number], exchange, turn.data >> REQUEST_BITS):
            return 0  # the server has worked for nothing
    if GENERAL and PUSHES and (kind == Kind.SAFETY_POLL or kind == Kind.REFETCH):
        cut_s = cut_in_service_s(
            world.arrays, world.rules, turn.number, job.worker, turn.now, done_s
        )
        if cut_s < NEVER_S:
            return _cut(world, turn, cut_s, done_s)
    if GENERAL and PUSHES and kind == Kind.SAFETY_POLL:
        reply = (((version << 1) | (turn.data & 1)) << REPLY_BITS) | ANSWERED
        if len(world.arrays.shared) > 0:
            return put(out, 0, DONE, done_s, Kind.SAFETY_POLL_SENT, exchange, reply)
        return _send_safety_poll(world, turn, done_s, reply)
    if GENERAL and PUSHES and kind == Kind.REFETCH:
        return _refetched(world, turn, done_s, version)
    if PUSHES and kind == Kind.PING_UP:
        if GENERAL and has_path_limits(world.arrays):
            return put(out, 0, DONE, done_s, Kind.BEAT_SERVED, exchange, 0)
        return put(out, 0, DONE_TRIP, done_s + half_s, Kind.PONG, exchange, 0)
    if begun_s >= 0.0:
        if GENERAL:
            give(world.arrays, turn.number, exchange)
        return put(out, 0, TRIP, turn.now + half_s, Kind.TCP_OPEN, exchange, 0)
    recording.count_in_bin(world.record, Count.DROPPED_SYNS, turn.number, turn.now)
    return _syn_again(world, turn)


@inlined
def _poll_done(world: World, turn: Turn, done_s: float, version: int) -> int:
    arrays = world.arrays
    data = (version << 1) | (turn.data & 1)
    _keep_alive(world, turn, done_s)
    t = done_s + 0.0
    if GENERAL:
        if len(arrays.shared) > 0:
            return put(arrays.out, 0, DONE, done_s, Kind.POLL_SENT, turn.exchange, data)
        t = _reply_s(world, turn, turn.exchange, done_s, data)
    return put(arrays.out, 0, DONE_TRIP, t + turn.half_s, Kind.POLL_DONE, turn.exchange, data)


@inlined
def _reply_s(world: World, turn: Turn, exchange: int, t: float, data: int) -> float:
    """Return when a reply that is sent at `t` has been carried, by its version and place."""
    arrays, record = world.arrays, world.record
    row, version = arrays.rows[turn.number], data >> 1
    unchanged = is_unchanged(world.options.etag, row.fetched_s, row.seen, version)
    unchanged = unchanged and not recording.has_gaps(record, turn.number)
    size = float(arrays.sizes[reply_of(unchanged, data & 1), 1])
    return carried_by(arrays, world.rules, turn.number, exchange, t, size)


@inlined
def sent(world: World, turn: Turn) -> int:
    """Give what the server sends now to the link that all clients share."""
    out, kind, exchange, now = world.arrays.out, turn.kind, turn.exchange, turn.now
    if kind == Kind.HELD_SENT:
        t = carried_s(world, turn.number, exchange, now, turn.data) + turn.half_s
        return put(out, 0, DONE_TRIP, t, Kind.HELD_DONE, exchange, turn.data)
    if kind == Kind.SAFETY_POLL_SENT:
        return _send_safety_poll(world, turn, now, turn.data)
    if kind == Kind.REFETCH_SENT:
        row = world.arrays.rows[turn.number]
        if not is_at(row, exchange):
            return 0
        t = _reply_s(world, turn, row.exchange + 0, now, turn.data >> REPLY_BITS) + turn.half_s
        return put(out, 0, WHEEL, t, Kind.REFETCH_REPLY, exchange, turn.data)
    t = _reply_s(world, turn, exchange, now, turn.data) + turn.half_s
    return put(out, 0, DONE_TRIP, t, Kind.POLL_DONE, exchange, turn.data)


@inlined
def _send_safety_poll(world: World, turn: Turn, t: float, reply: int) -> int:
    message = Message.POLL_RESPONSE - ((reply >> REPLY_BITS) & 1)
    size = float(world.arrays.sizes[message, 1])
    t = carried_by(world.arrays, world.rules, turn.number, turn.exchange, t, size) + turn.half_s
    return put(world.arrays.out, 0, WHEEL, t, Kind.SAFETY_POLL_REPLY, turn.exchange, reply)


@seldom
def _cut(world: World, turn: Turn, cut_s: float, done_s: float) -> int:
    """Tell a client of the end of the connection on which it asks beside its socket."""
    arrival, exchange = Kind.SAFETY_POLL_REPLY + 0, turn.exchange + 0
    if turn.kind == Kind.REFETCH:
        _keep_alive(world, turn, done_s)
        arrival, exchange = Kind.REFETCH_REPLY + 0, _address(turn)
    t = cut_s + one_way_s(world.arrays, world.rules, turn.number, cut_s)
    return put(world.arrays.out, 0, WHEEL, t, arrival, exchange, CUT)


@seldom
def _refetched(world: World, turn: Turn, done_s: float, version: int) -> int:
    arrays = world.arrays
    data = (version << 1) | (turn.data & 1)
    _keep_alive(world, turn, done_s)
    reply = (data << REPLY_BITS) | ANSWERED
    if len(arrays.shared) > 0:
        return put(arrays.out, 0, DONE, done_s, Kind.REFETCH_SENT, _address(turn), reply)
    t = _reply_s(world, turn, turn.exchange, done_s, data) + turn.half_s
    return put(arrays.out, 0, WHEEL, t, Kind.REFETCH_REPLY, _address(turn), reply)


@inlined
def readable(arrays: Any, record: Any, t: float) -> int:
    """Return how many changes are published by `t`; searched from where the last search ended."""
    state, publish_s = arrays.state[0], record.publish_s
    version = state.readable
    while version < len(publish_s) and publish_s[version] <= t:
        version += 1
    while version > 0 and publish_s[version - 1] > t:
        version -= 1
    state.readable = version
    return version
