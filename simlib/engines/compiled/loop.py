"""The loop: it takes the earliest event, and handles it in stages.

Each stage is called from one place, so that each rule is compiled into the loop once:

1. `jobs`: what arrives at the server is queued for a worker, or turned away;
2. `arrivals`: what the event means, and which `Event` the client is fed, if any;
3. `actions.feed`: `step`, what is recorded of it, its timer, its actions;
4. `actions.follow_up`: polls that are due, and what follows the event in its journey.

What an event schedules is collected in ``arrays.out``, in the order in which the reference engine's
processes would have scheduled it, and goes to the event list at the end of the turn. So ties come
out alike, and runs are equal to the last bit.
"""

from __future__ import annotations

from simlib.core import record as recording
from simlib.core.answers import has_shortcuts
from simlib.core.balancing import is_counting
from simlib.core.broadcasts import may_end
from simlib.core.browser import CLAIMS, set_out
from simlib.core.client_state import NEVER_S, Rules, is_fallen
from simlib.core.connection import has_idle_fetches, is_held
from simlib.core.faults import FaultEffect
from simlib.core.protocol import Event, Heartbeat, State, Transport, fetches, has_socket
from simlib.core.record import Cause, Count, value_of
from simlib.core.server import Law
from simlib.core.stream_proxy import kept_back
from simlib.engines.compiled import event_list
from simlib.engines.compiled.actions import feed, follow_up
from simlib.engines.compiled.arrivals import arrive
from simlib.engines.compiled.attempts import (
    HANDLED,
    TIED,
    begin,
    book_unfinished,
    is_folded,
    is_next,
    is_out_of_order,
    may_fold,
    schedule_attempt,
    take_attempts,
)
from simlib.engines.compiled.beats import (
    beats_go_round,
    calm_all,
    ends_a_round,
    is_member,
    is_stale,
    joins_ring,
    least_deadline_s,
    settle,
    take_beats,
)
from simlib.engines.compiled.broadcast import belong, broadcast
from simlib.engines.compiled.event_list import (
    CLIENT_MASK,
    LAST_SEQUENCE,
    STARTS,
    WHEEL,
)
from simlib.engines.compiled.faults import apply_fault, has_path_limits, one_way_s
from simlib.engines.compiled.jobs import serve
from simlib.engines.compiled.numba_support import called, inlined, seldom
from simlib.engines.compiled.poll_round import fetch_clients, take, take_polls, turn_of
from simlib.engines.compiled.poll_turn import has_plain_polls, take_turns
from simlib.engines.compiled.proxied import is_behind, is_held_back
from simlib.engines.compiled.references import by_reference
from simlib.engines.compiled.state import (
    DATA_BITS,
    KIND_BITS,
    LAST_EXCHANGE,
    MOST_OUT,
    OTHERS,
    Kind,
    catch_up,
    disconnect,
    end_fetches,
    finalise,
    is_queued,
    is_up_to_date,
    leave_undisturbed,
    load_of,
    told_from_s,
)
from simlib.engines.compiled.turn import (
    CARRIES,
    GENERAL,
    IGNORED,
    POLLS,
    PUSHES,
    Turn,
    World,
    nothing,
    rules_of,
    world_of,
)

FINISHED = 0
NEEDS_ROOM = 1
TOO_MANY_EVENTS = 2
TOO_MANY_EXCHANGES = 3
MUST_NOT_FOLD = 4


def run(given: World, until_s: float) -> int:
    """Handle every event before `until_s`; return FINISHED, or why it stopped before one."""
    return _run(by_reference(given), until_s)


@called
def _run(world: World, until_s: float) -> int:
    arrays, q = world.arrays, world.q
    state, hand, head_t = arrays.state[0], q.hand[0], q.head_t
    at_once = _serves_at_once(world)
    goes_round = at_once and _goes_round(world)
    has_ring = PUSHES and beats_go_round(world)
    has_plain = has_plain_polls(world)
    folds = may_fold(world)
    budget = 0
    if hand.sequence == 0:
        _begin(world)
    while True:
        if budget <= 0:
            budget = _budget(world)
            if budget < 0:
                return -budget
        source = event_list.next_source(q)
        now = head_t[source]
        if PUSHES and arrays.beats.ring[0].next_s <= min(now, until_s):
            handled = _take_beats(world, source, until_s, budget)
            if handled > 0:
                budget -= handled
                continue
        if now >= until_s:
            return FINISHED
        if source == WHEEL and hand.open == 0:
            _open_bucket(world, folds)
            continue
        if source == WHEEL and not _has_room_for_all(world):
            return NEEDS_ROOM
        fast_until_s = _fast_until_s(world, until_s)
        if goes_round and source != STARTS:
            handled = take_polls(world, now, until_s, fast_until_s, budget)
            if handled > 0:
                budget -= handled
                state.in_rounds += handled
                continue
        turn, taken = _next_turns(world, source, until_s, fast_until_s, budget, folds)
        budget -= taken
        if PUSHES and not POLLS and turn.kind == TIED:
            return MUST_NOT_FOLD
        if GENERAL and has_plain:
            turn, taken = take_turns(world, turn, until_s, budget)
            budget -= taken
        if PUSHES and turn.kind == HANDLED:
            continue
        if PUSHES and turn.kind == Kind.PUBLISH:
            budget = 0  # a broadcast may have taken much room
            _publish(world, turn, fast_until_s, at_once)
            continue
        if GENERAL and turn.kind == Kind.FAULT:
            budget = 0  # as may a fault
            _fault(world, turn.now)
            continue
        if arrays.rows[turn.number].exchange >= LAST_EXCHANGE:
            return TOO_MANY_EXCHANGES
        if PUSHES and is_stale(world, turn):
            continue
        _handle(world, turn, has_ring, folds)


@inlined
def _take_beats(world: World, source: int, until_s: float, most: int) -> int:
    """Take heartbeats that come before the next event of a source; return how many."""
    now, word = world.q.head_t[source], 0
    if now < until_s:
        word += world.q.head_word[source]
    return take_beats(world, min(now, until_s), word, most)


@inlined
def _open_bucket(world: World, folds: bool) -> None:
    arrays, q = world.arrays, world.q
    event_list.turn(q)
    if not (folds and arrays.half_s[0] > 0.0):  # then a SYN does not touch its client
        fetch_clients(arrays, world.record.clients, q.heap, 0, q.hand[0].open)


@inlined
def _next_turns(
    world: World, source: int, until_s: float, fast_until_s: float, most: int, folds: bool
) -> tuple[Turn, int]:
    """Take the next event, or folded attempts; return what is left to do, and how many were taken.

    In place of its kind, `HANDLED` says that nothing is left, `TIED` that nothing may be folded.
    """
    if not (PUSHES and not POLLS and folds):
        return _next_turn(world, source, world.q.head_t[source]), 1
    if not is_next(world.q, source):
        turn = _next_turn(world, source, world.q.head_t[source])
        if is_out_of_order(world, turn):
            turn = Turn(turn.number, TIED + 0, 0, 0, turn.now, 0.0)
        return turn, 1
    until_s = min(until_s, world.arrays.beats.ring[0].next_s)
    becomes, number, taken, now = take_attempts(world, source, until_s, fast_until_s, most)
    exchange = int(world.arrays.rows[number].exchange + 0)
    return Turn(number, becomes, exchange, 0, now, 0.0), taken


@inlined
def _fast_until_s(world: World, until_s: float) -> float:
    """Return until when anything is served ahead of its time.

    What comes after the end of the run is not recorded: it is not served ahead either.
    """
    arrays, fault = world.arrays, world.arrays.state[0].fault_event
    fast_until_s = min(world.record.horizon_s, until_s)
    if GENERAL:
        if fault < len(arrays.fault_events):
            fast_until_s = min(fast_until_s, arrays.fault_events[fault].t)
    return fast_until_s


@inlined
def _serves_at_once(world: World) -> bool:
    """Say whether a broadcast may serve subscribers at once that nothing disturbs."""
    record, rules = world.record, world.rules
    at_once = not record.keep_events and not record.keep_deliveries
    at_once = at_once and world.options.idle_s == NEVER_S
    if GENERAL:
        at_once = at_once and not has_path_limits(world.arrays) and not rules.throttles_timers
        at_once = at_once and not may_end(world.server_rules.loop)
        for index in range(len(world.arrays.fault_events)):
            effect = world.arrays.fault_events[index].effect
            at_once = at_once and effect != FaultEffect.AGE_LIMIT
        for cohort in range(len(record.bins)):
            at_once = at_once and _only_shows(rules_of(world, cohort), cohort)
    return at_once


@inlined
def _only_shows(rules: Rules, cohort: int) -> bool:
    """Say whether a message moves nothing but the view and counts, for a cohort's clients."""
    transport = rules.transports[cohort] if rules.has_flag else rules.transport + 0
    # A message may answer for the pong that a client waits for, and so sets its timer anew.
    may_answer = rules.any_message and rules.heartbeat == Heartbeat.CLIENT
    return rules.safety_poll_s == NEVER_S and not fetches(transport) and not may_answer


@inlined
def _goes_round(world: World) -> bool:
    """Say whether polls may go round by themselves: only the order of their jobs matters.

    A timer that a response sets must not fire before others that are set later, see `poll_round`;
    at a fixed rate, or where intervals differ, it may.
    """
    goes_round = POLLS and len(world.arrays.half_s) == 1 and not world.rules.fixed_rate
    if PUSHES:
        goes_round = goes_round and world.rules.transport == Transport.POLLING
    if GENERAL:
        rules, etag = world.rules, world.options.etag
        goes_round = goes_round and not world.options.limit.polls and not rules.has_flag
        goes_round = goes_round and world.options.browser.connections == 0
        goes_round = goes_round and not has_shortcuts(world.server_rules, etag)
        goes_round = goes_round and not is_counting(world.arrays.balancer)
        is_adaptive = min(rules.hidden_interval_s, rules.active_interval_s) < NEVER_S
        goes_round = goes_round and not is_adaptive
    return goes_round and world.server_rules.law == Law.CONSTANT


@inlined
def _begin(world: World) -> None:
    """Schedule the first change, the first fault and the first session."""
    arrays, q, heard_s = world.arrays, world.q, world.arrays.heard_s
    hand = q.hand[0]
    if PUSHES and len(heard_s) > 0:
        event_list.schedule_seldom(q, WHEEL, heard_s[0], 0, load_of(0, Kind.PUBLISH, 1))
    if GENERAL and len(arrays.fault_events) > 0:
        hand.sequence = 0
        event_list.schedule_seldom(q, WHEEL, arrays.fault_events[0].t, 1, load_of(0, Kind.FAULT, 0))
    if PUSHES and not POLLS:
        begin(arrays.state[0])
    hand.sequence = 1
    q.head_word[STARTS] = 2  # only the first change and the first fault were there before
    if len(arrays.start_s) > 0:
        q.head_t[STARTS] = arrays.start_s[0]


@inlined
def _budget(world: World) -> int:
    """Return how many events may be handled, or, negative, why the loop stops before one.

    There has to be space for every event that one may schedule; the caller grows the arrays.
    """
    budget = _room(world)
    if budget <= 0:
        return -NEEDS_ROOM
    if world.q.hand[0].sequence >= LAST_SEQUENCE - MOST_OUT * budget:
        return -TOO_MANY_EVENTS
    return budget


@inlined
def _room(world: World) -> int:
    """Return how many events can be handled before the event list or a log may be full."""
    record, servers = world.record, world.arrays.servers
    room = event_list.room(world.q) // MOST_OUT
    if GENERAL and len(world.arrays.buffers) > 0:
        # A turn may pass on all that proxies have, or replay all changes.
        state = world.arrays.state[0]
        room = int((event_list.room(world.q) - state.held) // (MOST_OUT + state.published))
        room = min(room, (world.arrays.stretches.shape[1] - state.stretches) // 2)
    for node in range(len(servers.state) if GENERAL else 1):
        room = min(room, servers.accepts_s.shape[1] - servers.state[node].waiting)
    room = min(room, recording.rows_left(record.connections) // 2)
    if len(record.bins) > 1:
        room = min(room, recording.rows_left(record.exposures) // 2)
    if GENERAL:
        room = min(room, recording.rows_left(record.fallbacks) // 2)
    if record.keep_deliveries:
        room = min(room, recording.rows_left(record.deliveries) // (len(record.publish_s) + 1))
    if record.keep_events:
        room = min(room, recording.rows_left(record.events) // MOST_OUT)
    return room


@inlined
def most_of_a_broadcast(world: World) -> int:
    """Return how many events a broadcast may schedule; an idle connection's end is one more."""
    subscribers = int(world.arrays.state[0].subscribers)
    return 2 * subscribers if GENERAL and is_counting(world.arrays.balancer) else subscribers


@inlined
def _has_room_for_all(world: World) -> bool:
    """Say whether there is room for the wheel's next event, if it may concern all clients."""
    q, room = world.q, 1 << 62
    kind = (q.heap[0].load >> DATA_BITS) & ((1 << KIND_BITS) - 1)
    if PUSHES and kind == Kind.PUBLISH:
        room = event_list.room(q) - most_of_a_broadcast(world)
    if GENERAL and kind == Kind.FAULT:
        rows = recording.rows_left(world.record.connections) - len(world.arrays.start_s)
        room = min(event_list.room(q) - most_of_a_fault(world), rows)
    return room >= MOST_OUT


@inlined
def most_of_a_fault(world: World) -> int:
    """Return how many events a fault may schedule.

    One for each client, three for each whose heartbeats go round (what it waits for, and its two
    alarms), and what a proxy holds back.
    """
    arrays = world.arrays
    return int(arrays.state[0].held + 3 * arrays.beats.ring[0].members) + len(arrays.start_s)


@inlined
def _next_turn(world: World, source: int, now: float) -> Turn:
    """Take the next event of a source; `_handle` adds how far the client is from the server."""
    arrays, record, q = world.arrays, world.record, world.q
    state = arrays.state[0]
    state.events += 1
    if source == STARTS:
        number = int(state.started)
        state.started += 1
        q.head_t[STARTS] = NEVER_S
        if state.started < len(arrays.start_s):
            q.head_t[STARTS] = arrays.start_s[state.started]
        return Turn(number, Kind.START + 0, 0, 0, now, 0.0)
    number = q.head_word[source] & CLIENT_MASK
    return turn_of(arrays, number, take(arrays, record.clients, q, source), now)


@inlined
def _half_s(world: World, number: int, now: float) -> float:
    if GENERAL:
        return one_way_s(world.arrays, world.rules, number, now)
    return value_of(world.arrays.half_s, number) + 0.0


@seldom
def _fault(world: World, now: float) -> None:
    """A fault begins, or ends."""
    calm_all(world, now)
    settings = world.rules, world.server_rules, world.options
    apply_fault(world.arrays, world.record, world.q, *settings, now)


@seldom
def _publish(world: World, turn: Turn, fast_until_s: float, at_once: bool) -> None:
    """The state changes; the next change is scheduled."""
    state, heard_s, version = world.arrays.state[0], world.arrays.heard_s, turn.data
    state.published = version
    if state.subscribers > 0:
        served_until_s = min(fast_until_s, least_deadline_s(world))
        served = broadcast(world, turn.now, version, served_until_s, at_once)
        state.events += served
        state.at_once += served
    if version < len(heard_s):
        load = load_of(0, Kind.PUBLISH, version + 1)
        event_list.schedule_seldom(world.q, WHEEL, heard_s[version], 0, load)


@seldom
def _handle(world: World, taken: Turn, has_ring: bool, folds: bool) -> None:
    """Handle one client's event in stages, which get a world with the rules of its cohort.

    The general loop calls this: were it inlined there, LLVM would compute beforehand, at each turn,
    what any of its many branches may need.
    """
    between, arrays, number, now = world, world.arrays, taken.number, taken.now
    row = arrays.rows[number]
    half_s = _half_s(world, number, now)
    turn = Turn(number, taken.kind, taken.exchange, taken.data, now, half_s)
    if GENERAL:
        world = world_of(between, int(row.cohort))
    if PUSHES:
        catch_up(arrays, world.record, number, arrays.state[0].published)
    if turn.kind <= Kind.SYN:
        n = serve(world, turn)
        if n < 0:
            return
        outcome = nothing(n)
    else:
        outcome = arrive(world, turn)
        if outcome.flags & IGNORED:
            return
    if GENERAL:  # the flag may have put the client into a cohort
        cohort = outcome.value if outcome.event == Event.ASSIGNED else int(row.cohort)
        world = world_of(between, cohort)
    outgoing = follow_up(world, turn, feed(world, turn, outcome))
    if GENERAL and outgoing.flags & CARRIES:
        row.active_s = now
    n = outgoing.n
    if PUSHES and has_ring and ends_a_round(world, turn.kind):
        if joins_ring(world, turn, n):
            n = 0
    for place in range(n):
        item = arrays.out[place]
        lane, to = int(item.lane), number
        if GENERAL and lane >= OTHERS:
            to, lane = lane // OTHERS - 1, lane % OTHERS
        if PUSHES and not POLLS and folds and is_folded(world, number, item.load):
            schedule_attempt(world, number, item.t)
            continue
        event_list.schedule(world.q, lane, item.t, to, item.load)
    if PUSHES and row.subscribed >= 0:
        up_to_date = is_up_to_date(arrays, number)
        until_s = value_of(arrays.end_s, number)
        if not is_member(row):
            until_s = min(row.deadline_s, until_s)
        if GENERAL:
            up_to_date = up_to_date and row.lost_exchange < row.exchange
            up_to_date = up_to_date and not is_held(row) and not is_held_back(arrays, number)
            until_s = min(until_s, told_from_s(arrays, number))
            is_new = arrays.undisturbed_until_s[row.slot] == -NEVER_S
            if up_to_date and (is_new or outcome.event == Event.ASSIGNED):
                belong(arrays, world.record, number)
        leave_undisturbed(arrays, int(row.slot), until_s if up_to_date else -NEVER_S)


def finish(given: World, now: float) -> None:
    """Record what is still open, without what comes later: work after now is taken back."""
    _finish(by_reference(given), now)


@called
def _finish(world: World, now: float) -> None:
    arrays, record = world.arrays, world.record
    free_s = arrays.servers.free_s
    for node in range(len(free_s)):
        for worker in range(len(free_s[node])):
            recording.add_busy(record, node, now, free_s[node, worker], -1.0)
    for number in range(len(arrays.rows)):
        kept_until_s = arrays.rows[number].kept_until_s
        is_http = POLLS and not has_socket(arrays.rows[number].transport)
        if is_http and 0.0 <= kept_until_s < now:
            cause, transport = Cause.IDLE + 0, arrays.rows[number].transport + 0
            disconnect(arrays, record, number, kept_until_s, cause, transport)
        if GENERAL:
            row = arrays.rows[number]
            if has_idle_fetches(row, row, now):
                end_fetches(arrays, record, number, now)
            for place in range(CLAIMS):
                if is_queued(arrays, number, place):
                    set_out(arrays.claims[CLAIMS * number + place], record, number, now)
            if is_behind(arrays, number) and row.subscribed >= 0:
                mine = arrays.behind[number]
                held = kept_back(arrays.buffers[mine], arrays.stretches[mine], row.seen + 0)
                recording.count_in_bin(record, Count.HELD_BACK, number, now, held)
    for number in range(len(arrays.rows)):
        row = arrays.rows[number]
        if PUSHES and is_member(row):
            settle(world, number)
        if PUSHES:
            catch_up(arrays, record, number, arrays.state[0].published)
        if PUSHES and not POLLS:
            book_unfinished(world, number, now)
        if row.state != State.GONE:
            its_rules = rules_of(world, int(row.cohort)) if GENERAL else world.rules
            finalise(arrays, record, its_rules, number, now)
            if GENERAL and is_fallen(row, its_rules):
                recording.end_fallback(record, number, row.cohort + 0, row.since_s, now)
            if GENERAL and row.state != State.ABSENT:
                recording.end_exposure(record, number, now)
        disconnect(arrays, record, number, now, Cause.OPEN_AT_END + 0, row.transport + 0)
