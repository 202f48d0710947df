"""Stage 2: arrivals. What an event means, and which `Event` the client is fed, if any.

Events are of three groups: the client's own (its timer, its user, its flag), what arrives at the
server and asks for no worker, and what arrives at the client. What arrives at the client is
ignored if its connection is over, and lost on a dead path: `_at_client` asks that once.
"""

from __future__ import annotations

from simlib.core import record as recording
from simlib.core.assignment import SERVER_CLOSED, SERVER_CLOSES
from simlib.core.balancing import take_back
from simlib.core.broadcasts import goes_on
from simlib.core.browser import CLAIMS, may_set_out, set_out
from simlib.core.client import is_expired
from simlib.core.client_state import NEVER_S
from simlib.core.connection import (
    GIVES_UP,
    bring_back_beside,
    change_message,
    hold,
    is_kept_in_vain,
    is_over,
    ready_value,
    refusal,
)
from simlib.core.faults import end_of_life_s
from simlib.core.polling import is_unchanged, reply_of
from simlib.core.protocol import (
    BAD_GATEWAY,
    UNAUTHORIZED,
    UNAVAILABLE,
    Event,
    Heartbeat,
    State,
    has_socket,
    is_stream,
)
from simlib.core.record import Cause, Count, Wait
from simlib.core.resync import Resume
from simlib.core.server import SYN_RETRIES
from simlib.core.streams import ENDED, sent_as
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.assignment import (
    assigned_cohort,
    close_for_rollback,
    enrol,
    is_still_to_close,
    is_unheard_of,
)
from simlib.engines.compiled.balancing import end_idle, keep_alive, let_go
from simlib.engines.compiled.broadcast import subscribe
from simlib.engines.compiled.event_list import WHEEL
from simlib.engines.compiled.faults import (
    drain,
    has_path_limits,
    ready_s,
    reset_connection,
    transmit,
    try_send,
)
from simlib.engines.compiled.held import answer, further_in, reply_data, reply_of_held
from simlib.engines.compiled.jobs import sent
from simlib.engines.compiled.numba_support import inlined, seldom
from simlib.engines.compiled.proxied import (
    begin_stream,
    end_stream,
    heard_of_s,
    is_held_back,
    release_stream,
    write_to_stream,
)
from simlib.engines.compiled.state import (
    ANSWERED,
    BEATS,
    BY_PROXY,
    CUT,
    DONE_TRIP,
    END_OF_STREAM,
    HELD_BITS,
    IS_EMPTY,
    IS_IDLE,
    IS_PING,
    IS_STREAM,
    REFUSED,
    REFUSED_SYN,
    REPLY_BITS,
    RESUME_BITS,
    TRIP,
    UNREACHED,
    Kind,
    await_flag,
    disconnect,
    end_fetches,
    finalise,
    is_at,
    is_told,
    keep_socket,
    load_of,
    loop_of,
    put,
    release_up_to,
    resume_outcome_of,
)
from simlib.engines.compiled.turn import (
    FAILS,
    FIRST,
    GENERAL,
    POLLS,
    PUSHES,
    REQUESTS,
    SETS_OUT,
    Outcome,
    Turn,
    World,
    ignored,
    nothing,
)

_TOO_OLD = 1  # the data of an IDLE event for a connection that reaches its age limit


@inlined
def arrive(world: World, turn: Turn) -> Outcome:
    """Return what an event means."""
    kind = turn.kind
    if GENERAL and kind == Kind.LEAVES_QUEUE:
        return _leaves_queue(world, turn)
    if GENERAL and kind >= Kind.POLL_SENT:
        return nothing(sent(world, turn))
    if kind <= Kind.FLAG:
        return _of_the_client(world, turn)
    if PUSHES and kind <= Kind.SEND:
        return _at_server(world, turn)
    if GENERAL and kind == Kind.IDLE:
        return _idle(world, turn)
    return _at_client(world, turn)


# -- the client's own ----------------------------------------------------------------------------


@inlined
def _of_the_client(world: World, turn: Turn) -> Outcome:
    arrays, record, rules = world.arrays, world.record, world.rules
    kind, number, now = turn.kind, turn.number, turn.now
    row = arrays.rows[number]
    if kind == Kind.DEADLINE:
        if row.deadline_s != now:
            return nothing(0)
        return Outcome(Event.DEADLINE + 0, 0, -1, 0, 0)
    if kind == Kind.START:
        if GENERAL and rules.has_flag:
            enrol(arrays, record, rules, world.flag, number, now)
        return Outcome(Event.START + 0, row.seen + 0, -1, 0, 0)
    if kind == Kind.STOP:
        finalise(arrays, record, rules, number, now)
        if GENERAL:
            recording.end_exposure(record, number, now)
        return Outcome(Event.STOP + 0, 0, -1, 0, 0)
    if GENERAL and kind == Kind.FLAG:
        return _flag(world, turn)
    return Outcome(Event.DRAG_START + turn.data, 0, -1, 0, 0)


@seldom
def _flag(world: World, turn: Turn) -> Outcome:
    """The client reads the percentage, or the server closes its connection for a rollback."""
    arrays, record, number, now = world.arrays, world.record, turn.number, turn.now
    is_told(arrays, number)
    if turn.data == SERVER_CLOSES:
        t = close_for_rollback(arrays, record, world.rules, world.server_rules, number, now)
        if t >= world.q.horizon_s:
            return nothing(0)
        await_flag(arrays, number, t)
        return nothing(put(arrays.out, 0, WHEEL, t, Kind.FLAG, 0, SERVER_CLOSED))
    if turn.data == SERVER_CLOSED and is_unheard_of(arrays, number):
        return nothing(0)
    row = arrays.rows[number]
    cohort = assigned_cohort(arrays, world.flag, number, turn.data, now)
    if row.state == State.GONE or cohort == row.cohort:
        return nothing(0)
    recording.end_exposure(record, number, now)
    recording.start_exposure(record, number, cohort, now)
    return Outcome(Event.ASSIGNED + 0, cohort, -1, 0, 0)


@inlined
def _leaves_queue(world: World, turn: Turn) -> Outcome:
    """A request sets out that has waited in the browser, unless it was given up."""
    claim = world.arrays.claims[CLAIMS * turn.number + turn.data]
    if not may_set_out(claim, turn.exchange):
        return ignored()
    set_out(claim, world.record, turn.number, turn.now)
    return Outcome(-1, 0, -1, 0, SETS_OUT)


# -- at the server, without a worker -------------------------------------------------------------


@inlined
def _at_server(world: World, turn: Turn) -> Outcome:
    arrays, kind, exchange = world.arrays, turn.kind, turn.exchange
    row = arrays.rows[turn.number]
    if kind == Kind.CLOSE:
        if GENERAL and exchange <= row.lost_exchange:
            return ignored()  # it never arrives
        row.closed_exchange = max(row.closed_exchange, exchange)
        if GENERAL and is_kept_in_vain(row):
            take_back(arrays.balancer, turn.number, exchange, int(row.lost_exchange + 0))
        else:
            let_go(arrays, row, exchange)
        if turn.data == 0:
            return nothing(0)
        t = turn.now + turn.half_s
        return nothing(put(arrays.out, 0, TRIP, t, Kind.CLOSE_REPLY, exchange, 0))
    if kind == Kind.UPGRADE_SERVED:
        n = _upgraded(world, turn)
        if n >= 0:
            return nothing(n)
    if kind == Kind.UPGRADE_SERVED or kind == Kind.AUTHENTICATED:
        return nothing(_authenticated(world, turn))
    if GENERAL and kind == Kind.CHECKED:
        return nothing(_checked(world, turn))
    if GENERAL and kind == Kind.PEER_TIMEOUT:
        if turn.data == IS_IDLE:
            end_idle(arrays, turn.number, turn.now)
        else:
            let_go(arrays, row, exchange)
        return nothing(0)
    if GENERAL and row.subscribed == exchange:
        return nothing(_send(world, turn))
    return nothing(0)


@inlined
def _upgraded(world: World, turn: Turn) -> int:
    """Answer an upgrade that a worker has served; return -1 if it is a stream that is let in."""
    arrays, exchange, t = world.arrays, turn.exchange, turn.now + turn.half_s
    row, states = arrays.rows[turn.number], arrays.servers.state
    workers = world.server_rules.workers
    if row.closed_exchange >= exchange:
        return 0
    # The client may have gone on meanwhile: the worker that has served the upgrade says where.
    worker, by_stream = turn.data >> 1, GENERAL and turn.data & IS_STREAM > 0
    node = worker // workers if GENERAL else 0
    if states[node].sockets >= world.server_rules.max_connections:
        recording.count_in_bin(world.record, Count.REFUSED, turn.number, turn.now)
        return put(arrays.out, 0, TRIP, t, Kind.UPGRADE_REFUSED, exchange, UNAVAILABLE)
    if by_stream and is_expired(world.rules, arrays.start_s[turn.number], turn.now):
        return put(arrays.out, 0, TRIP, t, Kind.UPGRADE_REFUSED, exchange, UNAUTHORIZED)
    if GENERAL:
        keep_socket(arrays, row, exchange, worker)
    else:
        states[node].sockets += int(row.socket < 0)
        row.socket = exchange
    if by_stream:
        return -1
    return put(arrays.out, 0, TRIP, t, Kind.UPGRADE_DONE, exchange, 0)


@seldom
def _checked(world: World, turn: Turn) -> int:
    """Answer a request if there is more than its client has seen, or hold it."""
    arrays, rules, number, now = world.arrays, world.rules, turn.number, turn.now
    row, out, exchange = arrays.rows[number], arrays.out, turn.exchange
    worker, first, n = turn.data >> 1, turn.data & 1, 0
    if row.closed_exchange >= exchange or row.exchange != exchange:
        return 0
    if is_still_to_close(arrays, rules, number):
        await_flag(arrays, number, now)
        n = put(out, n, WHEEL, now, Kind.FLAG, 0, SERVER_CLOSES)
    version = int(arrays.state[0].published)
    if version > row.seen:
        data = reply_data(version, first)
        kind, t = answer(world, number, exchange, now, data, turn.half_s)
        return put(out, n, DONE_TRIP, t, kind, exchange, data)
    server = arrays.servers.state[worker // world.server_rules.workers]
    if server.sockets >= world.server_rules.max_connections:
        recording.count_in_bin(world.record, Count.REFUSED, number, now)
        keep_alive(arrays, world.q, world.server_rules.keep_alive_s, number, exchange, now)
        return put(out, n, TRIP, now + turn.half_s, Kind.POLL_REFUSED, exchange, first)
    release_up_to(arrays, row, exchange)
    keep_socket(arrays, row, exchange, worker)
    subscribe(arrays, world.record, number, exchange)
    hold(row, worker, first, now)
    if server.has_forgotten:
        recording.count_in_bin(world.record, Count.FORGOTTEN, number, now)
    return put(out, n, BEATS, now + rules.hold_s, Kind.HOLD_END, exchange, first)


@seldom
def _authenticated(world: World, turn: Turn) -> int:
    """Authenticate a client, which subscribes now, and send it READY."""
    arrays, rules, number, now = world.arrays, world.rules, turn.number, turn.now
    exchange, out = turn.exchange, world.arrays.out
    if arrays.rows[number].closed_exchange >= exchange:
        return 0
    if is_expired(rules, arrays.start_s[number], now):
        return put(out, 0, TRIP, now + turn.half_s, Kind.AUTH_REFUSED, exchange, 0)
    subscribe(arrays, world.record, number, exchange)
    if GENERAL:
        arrays.rows[number].tail = 0
        node = arrays.rows[number].socket_worker // world.server_rules.workers
        if arrays.servers.state[node].has_forgotten:
            recording.count_in_bin(world.record, Count.FORGOTTEN, number, now)
        arrays.rows[number].let_in_by = arrays.process[arrays.rows[number].node]
        arrays.streams[number] = turn.kind == Kind.UPGRADE_SERVED
    outcome = resume_outcome_of(arrays, world.record, rules, GENERAL, number, now)
    version = int(arrays.state[0].published)
    is_behind_proxy = False
    if GENERAL:
        is_behind_proxy = is_held_back(arrays, number)
        if is_behind_proxy:
            begin_stream(arrays, world.q, rules, number, now, version, outcome)
    n = 0
    if rules.heartbeat == Heartbeat.SERVER:
        t = now + rules.heartbeat_interval_s
        n = put(out, n, BEATS, t, Kind.BEAT, exchange, 0)
    if GENERAL and is_still_to_close(arrays, rules, number):
        await_flag(arrays, number, now)
        n = put(out, n, WHEEL, now, Kind.FLAG, 0, SERVER_CLOSES)
    if is_behind_proxy:
        return _watch(world, turn, exchange, n)
    t = now + turn.half_s
    if GENERAL:
        missed = version - arrays.rows[number].seen
        t = ready_s(arrays, rules, number, now, outcome, missed)
        if outcome == Resume.SNAPSHOT and has_path_limits(arrays):
            # The snapshot comes by itself, behind READY.
            data = (version << RESUME_BITS) | Resume.NOTHING
            n = put(out, n, TRIP, t, Kind.READY, exchange, data)
            message = sent_as(arrays.rows[number].transport, Message.SNAPSHOT)
            t = transmit(arrays, rules, number, now, float(arrays.sizes[message, 1]))
            return put(out, n, WHEEL, t, Kind.SNAPSHOT, exchange, version)
    return put(out, n, TRIP, t, Kind.READY, exchange, (version << RESUME_BITS) | outcome)


@inlined
def _watch(world: World, turn: Turn, exchange: int, n: int) -> int:
    """Let a middlebox close a connection when it is idle, and the server when it is old."""
    arrays, rules, number, idle_s = world.arrays, world.rules, turn.number, world.options.idle_s
    if idle_s < NEVER_S:
        n = put(arrays.out, n, WHEEL, turn.now + idle_s, Kind.IDLE, exchange, 0)
    t = end_of_life_s(arrays.fault_events, rules.seed, rules.replication, number, turn.now)
    if t < NEVER_S:
        n = put(arrays.out, n, WHEEL, t, Kind.IDLE, exchange, _TOO_OLD)
    return n


@seldom
def _send(world: World, turn: Turn) -> int:
    """Handle a message for a client whose path may be narrow, or buffers that have room again."""
    arrays, rules, sending = world.arrays, world.rules, world.server_rules.sending
    if is_held_back(arrays, turn.number):
        if turn.kind == Kind.RELEASE:
            number, now = turn.number, turn.now
            release_stream(arrays, world.q, rules, number, now, turn.exchange)
            return 0
        if turn.kind == Kind.BEAT_SERVED or turn.data != GIVES_UP:
            return _write(world, turn)
        end_stream(
            *(arrays, world.record, world.q, rules),
            *(turn.number, turn.now, turn.exchange, False),
        )
    if turn.kind == Kind.BEAT_SERVED:
        message, kind = Message.PONG_DOWN + 0, Kind.PONG + 0
        if turn.data & IS_PING:
            message, kind = Message.PING_DOWN + 0, Kind.PING + 0
        is_comment = arrays.streams[turn.number]
        if is_comment:
            message = Message.STREAM_COMMENT + 0
        size = float(arrays.sizes[message, 1])
        t = transmit(arrays, rules, turn.number, turn.now, size)
        n = put(arrays.out, 0, DONE_TRIP, t, kind, turn.exchange, turn.data >> 1)
        if is_comment:
            t = turn.now + rules.heartbeat_interval_s
            n = put(arrays.out, n, BEATS, t, Kind.BEAT, turn.exchange, 0)
        return n
    if turn.kind == Kind.WRITABLE:
        return drain(arrays, rules, sending, turn.number, turn.now, turn.exchange, 0)
    return try_send(
        arrays,
        world.record,
        rules,
        world.server_rules,
        turn.number,
        turn.now,
        turn.exchange,
        turn.data,
        0,
    )


@seldom
def _write(world: World, turn: Turn) -> int:
    """Write a comment, or a change, to a stream of which a proxy holds something back."""
    arrays, rules, number = world.arrays, world.rules, turn.number
    row, is_comment = arrays.rows[number], turn.kind == Kind.BEAT_SERVED
    if not is_comment and not goes_on(world.server_rules.loop, loop_of(arrays, row), turn.data):
        recording.leave_out(world.record, number, turn.data, turn.now)
        return 0
    message, data = change_message(row), turn.data + 0
    if is_comment:
        message, data = Message.STREAM_COMMENT + 0, 0
    write_to_stream(
        *(arrays, world.q, rules, number, turn.now),
        *(turn.exchange, message, data, 1),
    )
    if not is_comment:
        return 0
    t = turn.now + rules.heartbeat_interval_s
    return put(arrays.out, 0, BEATS, t, Kind.BEAT, turn.exchange, 0)


@seldom
def _idle(world: World, turn: Turn) -> Outcome:
    """End a connection that was idle for too long (a middlebox) or is too old (the server)."""
    row = world.arrays.rows[turn.number]
    if turn.data == _TOO_OLD:
        if row.exchange == turn.exchange:
            _reset(world, turn)
        else:
            let_go(world.arrays, row, turn.exchange)
    elif row.exchange == turn.exchange and turn.exchange > max(
        row.closed_exchange, row.lost_exchange
    ):
        heard_s = heard_of_s(world.arrays, turn.number, row)
        t = heard_s + world.options.idle_s
        if turn.now < t:
            return nothing(put(world.arrays.out, 0, WHEEL, t, Kind.IDLE, turn.exchange, 0))
        _reset(world, turn)
    return nothing(0)


@seldom
def _reset(world: World, turn: Turn) -> None:
    settings, lets_go = (world.rules, world.server_rules), True
    by_server = turn.data == _TOO_OLD
    reset_connection(
        *(world.arrays, world.record, world.q, *settings),
        *(turn.number, turn.now, lets_go, by_server),
    )


# -- at the client -------------------------------------------------------------------------------


@inlined
def _at_client(world: World, turn: Turn) -> Outcome:
    arrays, kind, exchange = world.arrays, turn.kind, turn.exchange
    row = arrays.rows[turn.number]
    if POLLS and kind == Kind.POLL_DONE:
        return _polled(world, turn)
    if PUSHES and kind == Kind.CLOSE_REPLY:
        return Outcome(-1, 0, Message.CLOSE_DOWN + 0, 0, 0)
    if GENERAL and PUSHES and kind == Kind.SAFETY_POLL_REPLY:
        return _safety_poll_reply(world, turn)
    if GENERAL and PUSHES and kind == Kind.REFETCH_REPLY:
        return _refetch_reply(world, turn)
    if GENERAL and PUSHES and kind == Kind.HELD_DONE:
        return _held_reply(world, turn)
    if GENERAL and kind == Kind.FAIL:
        # A refused SYN says nothing new to a client that is about to hear of a cut.
        is_old_news = turn.data == REFUSED_SYN and exchange <= row.closed_exchange
        if row.exchange == exchange > row.lost_exchange and not is_old_news:
            if turn.data == END_OF_STREAM:
                return Outcome(-1, ENDED, Message.STREAM_END + 0, 0, FAILS)
            return Outcome(-1, 0, -1, 0, FAILS)
        return nothing(0)
    if GENERAL and kind == Kind.UNANSWERED:
        if row.exchange != exchange:
            return nothing(0)
        cause = Cause.TIMED_OUT + 0
        disconnect(arrays, world.record, turn.number, turn.now, cause, row.transport + 0)
        take_back(arrays.balancer, turn.number, int(row.exchange + 0))
        row.kept_until_s = -NEVER_S
        row.is_link_dead = False
        return Outcome(-1, 0, -1, 0, FAILS)
    if GENERAL and PUSHES and exchange <= row.lost_exchange:
        return _on_dead_path(world, turn)
    if row.exchange != exchange or (GENERAL and is_over(row, row, exchange)):
        return ignored()
    if kind <= Kind.POLL_REFUSED:
        return _on_transport(world, turn)
    if PUSHES:
        return _on_socket(world, turn)
    return ignored()


@inlined
def _polled(world: World, turn: Turn) -> Outcome:
    arrays, record = world.arrays, world.record
    row, version = arrays.rows[turn.number], turn.data >> 1
    if row.exchange != turn.exchange or (GENERAL and is_over(row, row, turn.exchange)):
        return nothing(0)
    event = Event.FETCHED + 0
    unchanged = is_unchanged(world.options.etag, row.fetched_s, row.seen, version)
    if GENERAL:
        unchanged = unchanged and not recording.has_gaps(record, turn.number)
    wait_s = turn.now - row.asked_s
    recording.end_wait(record, Wait.POLL + 0, turn.number, wait_s, turn.now)
    if unchanged:
        recording.count(record, Count.UNCHANGED, turn.number, turn.now)
        event = Event.UNCHANGED + 0
    return Outcome(event, version, reply_of(unchanged, turn.data & 1), 0, 0)


@inlined
def _held_reply(world: World, turn: Turn) -> Outcome:
    """The answer to a request that the server has held, or need not hold."""
    record, number, now, data = world.record, turn.number, turn.now, turn.data
    row = world.arrays.rows[number]
    if is_over(row, row, turn.exchange):
        return nothing(0)
    if data & IS_EMPTY:
        recording.count(record, Count.UNCHANGED, number, now)
        return Outcome(Event.UNCHANGED + 0, 0, reply_of_held(data), 0, 0)
    further = further_in(world, number, data)
    if further > 0:
        recording.count_messages(record, number, now, Message.HELD_CHANGE + 0, further)
    return Outcome(Event.FETCHED + 0, data >> HELD_BITS, reply_of_held(data), 0, 0)


@inlined
def _safety_poll_reply(world: World, turn: Turn) -> Outcome:
    record, reply = world.record, turn.data & ((1 << REPLY_BITS) - 1)
    row, data = world.arrays.rows[turn.number], turn.data >> REPLY_BITS
    if row.exchange != turn.exchange:
        return nothing(0)
    first, is_closed = data & 1, reply == CUT
    if reply in (ANSWERED, REFUSED):
        message, is_by_proxy = Message.POLL_RESPONSE - first, reply == REFUSED and data >> 1 > 0
        if reply == REFUSED:
            message = Message.POLL_REFUSED - first
        if is_by_proxy:
            message, is_closed = Message.BAD_GATEWAY + 0, True
            recording.count_in_bin(record, Count.BAD_GATEWAYS, turn.number, turn.now)
        recording.count_messages(record, turn.number, turn.now, message)
        if not is_by_proxy:
            is_closed = bring_back_beside(row, world.server_rules.keep_alive_s, turn.now)
    if is_closed or (reply == UNREACHED and not first):
        recording.count_messages(record, turn.number, turn.now, Message.TCP_CLOSE + 0)
    if reply == ANSWERED:
        return Outcome(Event.SNAPSHOT + 0, data >> 1, -1, 0, 0)
    recording.count_failed_safety_poll(record, turn.number, turn.now)
    return nothing(0)


@inlined
def _refetch_reply(world: World, turn: Turn) -> Outcome:
    """What a client was told of and has fetched, or the failure to fetch it."""
    arrays, record, number, now = world.arrays, world.record, turn.number, turn.now
    row, data = arrays.rows[number], turn.data >> REPLY_BITS
    reply = turn.data & ((1 << REPLY_BITS) - 1)
    if not is_at(row, turn.exchange):
        return nothing(0)
    if reply != UNREACHED and row.kept_until_s == NEVER_S:
        return nothing(0)  # the server has ended the connection before it was answered
    if reply != UNREACHED and row.is_link_dead:
        t = now + world.options.unanswered_s
        return nothing(put(arrays.out, 0, WHEEL, t, Kind.REFETCH_REPLY, turn.exchange, UNREACHED))
    if reply == UNREACHED and data:
        recording.count_messages(record, number, now, Message.BAD_GATEWAY + 0)
        recording.count_in_bin(record, Count.BAD_GATEWAYS, number, now)
    if reply in (UNREACHED, CUT):
        end_fetches(arrays, record, number, now)
        recording.count(record, Count.ERRORS, number, now)
        return Outcome(Event.FAILED + 0, 0, -1, 0, 0)
    first, version = data & 1, data >> 1
    if reply == REFUSED:
        recording.count(record, Count.ERRORS, number, now)
        event, message = Event.FAILED + 0, Message.POLL_REFUSED - first
    else:
        unchanged = is_unchanged(world.options.etag, row.fetched_s, row.seen, version)
        unchanged = unchanged and not recording.has_gaps(record, number)
        event, message = Event.FETCHED + 0, reply_of(unchanged, first)
        recording.end_wait(record, Wait.POLL + 0, number, now - row.asked_s, now)
        if unchanged:
            recording.count(record, Count.UNCHANGED, number, now)
            event = Event.UNCHANGED + 0
    recording.count_messages(record, number, now, message)
    return Outcome(event, version, -1, 0, 0)


@inlined
def _on_dead_path(world: World, turn: Turn) -> Outcome:
    """Lose what was sent on a dead path; the server notices when no acknowledgement comes."""
    kind, rules = turn.kind, world.rules
    is_message = kind == Kind.PUSH or kind == Kind.SNAPSHOT
    load = load_of(turn.exchange, Kind.PEER_TIMEOUT, 0)
    by_stream = world.arrays.streams[turn.number]
    if kind == Kind.PING and not by_stream:
        t = turn.now + rules.heartbeat_timeout_s
        event_list.schedule_seldom(world.q, WHEEL, t, turn.number, load)
    elif kind == Kind.PING or (is_message and (by_stream or rules.heartbeat != Heartbeat.SERVER)):
        t = turn.now + world.options.unanswered_s
        event_list.schedule_seldom(world.q, WHEEL, t, turn.number, load)
    return ignored()


@inlined
def _on_transport(world: World, turn: Turn) -> Outcome:
    """TCP and TLS come up, or not; a poll is refused."""
    arrays, kind, exchange = world.arrays, turn.kind, turn.exchange
    row, out = arrays.rows[turn.number], arrays.out
    if kind == Kind.SYN_AGAIN:
        if turn.data >= SYN_RETRIES:
            is_closed = GENERAL and exchange <= row.closed_exchange  # of which it is about to hear
            return nothing(0) if is_closed else Outcome(-1, 0, -1, 0, FAILS)
        arrays.state[0].under_way += 1
        t = turn.now + turn.half_s
        return nothing(put(out, 0, TRIP, t, Kind.SYN, exchange, turn.data + 1))
    is_pushed = PUSHES and (not POLLS or has_socket(row.transport))
    if kind == Kind.TCP_OPEN:
        message = Message.TCP_OPEN + 0
        if is_pushed:
            return Outcome(Event.CONNECTED + 0, 0, message, 0, 0)
        if world.rules.tls:
            t = turn.now + 2.0 * turn.half_s
            n = put(out, 0, WHEEL, t, Kind.TLS_OPEN, exchange, 0)
            return Outcome(-1, 0, message, n, 0)
        return Outcome(-1, 0, message, 0, REQUESTS | FIRST)
    if kind == Kind.TLS_OPEN:
        message = Message.TLS_OPEN + 0
        if is_pushed:
            return Outcome(Event.SECURED + 0, 0, message, 0, 0)
        return Outcome(-1, 0, message, 0, REQUESTS | FIRST)
    if GENERAL and turn.data & BY_PROXY:
        row.kept_until_s = -NEVER_S
        recording.count_messages(world.record, turn.number, turn.now, Message.TCP_CLOSE + 0)
        recording.count_in_bin(world.record, Count.BAD_GATEWAYS, turn.number, turn.now)
        return Outcome(-1, BAD_GATEWAY, Message.BAD_GATEWAY + 0, 0, FAILS)
    return Outcome(-1, UNAVAILABLE, Message.POLL_REFUSED - (turn.data & 1), 0, FAILS)


@inlined
def _on_socket(world: World, turn: Turn) -> Outcome:
    """A stage of the handshake, a message, a heartbeat comes to the client."""
    arrays, record, kind = world.arrays, world.record, turn.kind
    row, number, now = arrays.rows[turn.number], turn.number, turn.now
    if kind == Kind.PUSH:
        recording.count(record, Count.MESSAGES, number, now)
        message = Message.PUSH + 0
        if GENERAL:
            message = change_message(row)
        return Outcome(Event.PUSH + 0, turn.data, message, 0, 0)
    if kind == Kind.PING:
        message = Message.PING_DOWN + 0
        if GENERAL:
            message = sent_as(row.transport, Message.PING_DOWN)
        return Outcome(Event.PING + 0, 0, message, 0, 0)
    if kind == Kind.PONG:
        return Outcome(Event.PONG + 0, 0, Message.PONG_DOWN + 0, 0, 0)
    if kind == Kind.READY:
        return _ready(world, turn)
    if kind == Kind.UPGRADE_DONE:
        recording.count_messages(record, number, now, Message.HELLO + 0)
        row.has_upgraded = True
        return Outcome(Event.UPGRADED + 0, 0, Message.UPGRADE_RESPONSE + 0, 0, 0)
    if kind == Kind.UPGRADE_REFUSED:
        message = Message.UPGRADE_REFUSED + 0
        if GENERAL:
            message = refusal(row.transport, turn.data)
            if turn.data == BAD_GATEWAY:
                recording.count_in_bin(record, Count.BAD_GATEWAYS, number, now)
        return Outcome(-1, turn.data, message, 0, FAILS)
    if GENERAL and kind == Kind.SNAPSHOT:
        recording.count(record, Count.MESSAGES, number, now)
        message = sent_as(row.transport, Message.SNAPSHOT)
        return Outcome(Event.SNAPSHOT + 0, turn.data, message, 0, 0)
    recording.count(record, Count.ERRORS, number, now)
    return Outcome(Event.REJECTED + 0, 0, Message.AUTH_REFUSED + 0, 0, 0)


@inlined
def _ready(world: World, turn: Turn) -> Outcome:
    """The client is let in; what it has missed is fed after READY: see `actions`."""
    arrays, n = world.arrays, 0
    row, message = arrays.rows[turn.number], Message.READY + 0
    if GENERAL and is_stream(row.transport):
        message = Message.STREAM_READY + 0
        recording.count_messages(world.record, turn.number, turn.now, Message.STREAM_RESPONSE)
        row.has_upgraded = True
    recording.open_connection(world.record, turn.number, turn.now)
    row.opened_s = turn.now
    if GENERAL:
        row.served_by = row.let_in_by
        row.kept_until_s = -NEVER_S
        if not is_held_back(arrays, turn.number):
            n = _watch(world, turn, turn.exchange, n)
    outcome, version = turn.data & ((1 << RESUME_BITS) - 1), turn.data >> RESUME_BITS
    value = ready_value(row, outcome, version)
    return Outcome(Event.READY + 0, value, message, n, 0)
