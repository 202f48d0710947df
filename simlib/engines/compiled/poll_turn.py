"""Polls that nothing disturbs, event by event, whatever else goes on beside them.

A poll has three events: its timer, its arrival at a worker, its answer. `loop` handles any event in
stages that ask for much which does not concern such a poll: what they do for it is done here at
once, for one such event after the other. Events keep their order, and each schedules what the
stages would have scheduled, so nothing is asked of the others. The conditions are those of
`poll_round` for a client; as the order is true, paths may differ in length, several things may
touch the server, and cohorts may have rules of their own. A timer that was replaced means nothing,
whoever's it is: it is dropped here too.
"""

from __future__ import annotations

from simlib.core import server as servers
from simlib.core.answers import has_shortcuts
from simlib.core.balancing import is_counting
from simlib.core.client_state import NEVER_S, assigned_transport
from simlib.core.connection import is_at_proxy, is_cut, served_at
from simlib.core.polling import is_kept
from simlib.core.protocol import Pause, State, Transport
from simlib.core.record import value_of
from simlib.core.server import Law
from simlib.engines.compiled import event_list
from simlib.engines.compiled.attempts import HANDLED
from simlib.engines.compiled.beats import is_member
from simlib.engines.compiled.event_list import CLIENT_MASK, STARTS, WHEEL, EventList
from simlib.engines.compiled.faults import has_path_limits
from simlib.engines.compiled.numba_support import called, inlined
from simlib.engines.compiled.poll_round import answer, ask, hear_answer, take, turn_of
from simlib.engines.compiled.state import (
    ALARM,
    DATA_BITS,
    DONE_TRIP,
    KIND_BITS,
    LAST_EXCHANGE,
    TRIP,
    Kind,
    load_of,
)
from simlib.engines.compiled.turn import GENERAL, Turn, World, rules_of, world_of

_NOT_HERE = -1
"""In place of a lane: the event is one for the stages."""


@inlined
def has_plain_polls(world: World) -> bool:
    """Say whether polls of a run may be handled here: each of their events means what it seems."""
    if not GENERAL:
        return False
    options, record = world.options, world.record
    is_plain = not record.keep_events and len(record.gaps) == 0 and options.idle_s == NEVER_S
    is_plain = is_plain and not has_path_limits(world.arrays) and not options.limit.polls
    is_plain = is_plain and options.browser.connections == 0
    is_plain = is_plain and not has_shortcuts(world.server_rules, options.etag)
    is_plain = is_plain and not is_counting(world.arrays.balancer)
    return is_plain and world.server_rules.law == Law.CONSTANT


@called
def take_turns(world: World, first: Turn, until_s: float, most: int) -> tuple[Turn, int]:
    """Handle events of polls that nothing disturbs, from one that was taken up to another kind.

    Return the turn that is left to do, of kind `HANDLED` if none is, and how many events were taken
    beside the first: at most `most`, and all before `until_s` and the next heartbeat of the ring.
    """
    arrays, q, turn, taken = world.arrays, world.q, first, 0
    end_s = min(until_s, arrays.beats.ring[0].next_s)
    while _take_turn(world, turn):
        source = event_list.next_source(q)
        now = q.head_t[source]
        if taken >= most or now >= end_s or not _is_of_a_poll(q, source):
            return Turn(turn.number, HANDLED + 0, 0, 0, turn.now, 0.0), taken
        number = q.head_word[source] & CLIENT_MASK
        turn = turn_of(arrays, number, take(arrays, world.record.clients, q, source), now)
        arrays.state[0].events += 1
        taken += 1
    return turn, taken


@inlined
def _is_of_a_poll(q: EventList, source: int) -> bool:
    """Say whether a source's next event may be one of a poll."""
    if source == STARTS or (source == WHEEL and q.hand[0].open == 0):
        return False
    load = int(q.heap[0].load) if source == WHEEL else event_list.next_load(q, source)
    kind = (load >> DATA_BITS) & ((1 << KIND_BITS) - 1)
    return bool(kind == Kind.DEADLINE or kind == Kind.POLL or kind == Kind.POLL_DONE)


@inlined
def _take_turn(world: World, turn: Turn) -> bool:
    """Handle an event of a poll that nothing disturbs; say whether it was one."""
    lane, t, load = _NOT_HERE + 0, NEVER_S, 0
    if turn.kind == Kind.DEADLINE:
        lane, t, load = _timer(world, turn)
    elif turn.kind == Kind.POLL:
        lane, t, load = _arrival(world, turn)
    elif turn.kind == Kind.POLL_DONE:
        lane, t, load = _answer(world, turn)
    if lane >= 0:
        event_list.schedule(world.q, lane, t, turn.number, load)
        world.arrays.state[0].in_turn += 1
    return lane >= 0


@inlined
def _timer(world: World, turn: Turn) -> tuple[int, float, int]:
    arrays, now = world.arrays, turn.now
    row = arrays.rows[turn.number]
    if is_member(row):
        return _NOT_HERE + 0, NEVER_S, 0
    if row.deadline_s != now:
        return ALARM + 0, NEVER_S, 0
    rules = rules_of(world, int(row.cohort))
    may_return = rules.fallback.is_on and assigned_transport(row, rules) != Transport.POLLING
    is_due = (
        row.transport == Transport.POLLING
        and row.state == State.IDLE
        and row.pauses == Pause.NONE
        and row.exchange < LAST_EXCHANGE
        and is_kept(row.opened_s, row.kept_until_s, now)
        and not row.is_link_dead
        and row.subscribed < 0
    )
    if not is_due or may_return:
        return _NOT_HERE + 0, NEVER_S, 0
    ask(world_of(world, int(row.cohort)), turn.number, now)
    row.kept_until_s = NEVER_S
    arrays.state[0].under_way += 1
    t = now + value_of(arrays.half_s, turn.number)
    return TRIP + 0, t, load_of(row.exchange, Kind.POLL, 0)


@inlined
def _arrival(world: World, turn: Turn) -> tuple[int, float, int]:
    arrays, now = world.arrays, turn.now
    row = arrays.rows[turn.number]
    node = served_at(row)
    free_s = arrays.servers.free_s[node]
    worker = servers.first_free(free_s)
    if (
        turn.data != 0
        or not _goes_on(world, turn)
        or is_at_proxy(row, world.options.bad_gateway)
        or servers.wait_for_s(free_s, worker, now) > world.server_rules.shed_wait_s
    ):
        return _NOT_HERE + 0, NEVER_S, 0
    done_s, load = answer(world, turn.number, node, worker, now)
    return DONE_TRIP + 0, done_s + value_of(arrays.half_s, turn.number), load


@inlined
def _answer(world: World, turn: Turn) -> tuple[int, float, int]:
    row = world.arrays.rows[turn.number]
    if not _goes_on(world, turn):
        return _NOT_HERE + 0, NEVER_S, 0
    t = hear_answer(world_of(world, int(row.cohort)), turn.number, turn.data, turn.now)
    return ALARM + 0, t, load_of(0, Kind.DEADLINE, 0)


@inlined
def _goes_on(world: World, turn: Turn) -> bool:
    """Say whether the client of an event still polls, and waits for the answer to this poll."""
    row = world.arrays.rows[turn.number]
    is_there = row.exchange == turn.exchange and not is_cut(row, turn.exchange)
    return is_there and row.transport == Transport.POLLING and row.subscribed < 0
