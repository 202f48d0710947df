"""Heartbeats that nothing disturbs go round by themselves, in a ring beside the event list.

With one round-trip time for all, one worker and a constant service, all connections do the same in
the same order, round after round: who comes first stays first. So the ring is a queue in a circle,
with an entry for each connection, its *member*, and three places at which entries move on::

    answered ---------------- sent ---------------- resting ------------------- end
        its answer is under way   its ping is under way   its next round is to begin

What a member waits for is one event, with its time and its word. If the server pings: BEAT, a job,
with which the round begins; PING, at the client; PONG_UP, a job. If the client does: DEADLINE, its
timer, with which the round begins; PING_UP, a job; PONG, at the client. After the third, the entry
goes to the end of the queue. A member's row knows nothing of that: its deadline is `IN_RING`, its
bytes and its number of beats are those of the day when it joined. Before anything else concerns a
member it is *calmed down*: its row and the event list become what they were without a ring.

Where round-trip times differ, members go round in `spread_beats`, in true order; who joins, and how
it leaves, is the same.

**Why that is exact.** An event gets the word that it would have had, in the order of all words.

- If clients ping, `_client_round` takes all jobs of half a round trip in that order, then all
  DEADLINEs, then all PONGs. What any of them leads to is due half a round trip later at the
  soonest, so none of another kind depends on it; and the order of two events of which one is no job
  means nothing. If a job has its member leave, only what was due before it is taken.
- If the server pings, `_server_round` takes jobs in that order, and PINGs only when something
  depends on them: an event from outside, before which all earlier PINGs are taken, or the PONG_UP
  that follows. So what a PING at p leads to, a PONG_UP at p + half and an alarm at p + interval +
  timeout, may get a later word than PINGs and BEATs of other members that jobs between p and
  p + half have led to. The order of a PING and another client's PONG_UP means nothing, as only one
  of them is a job. Such a BEAT is due after p + interval, thus after the PONG_UP, since interval >
  2 half. And both are due before the alarm, since they are before those of their own members, which
  were set before.
- Of a BEAT and a PONG_UP that are due at once the BEAT was scheduled first, an interval ago.
- No alarm of a member ever comes: a member leaves the ring before one of its events if what follows
  is not due before its alarm.
- Former alarms mean nothing, unless one is due at the very moment of a later timer of its client:
  then it is the one that fires, with its own word. As the timeout is no longer than the interval,
  at most one of a former round is still to come when a member leaves: it is kept, and put back like
  the present one. Those that are in the event list (of a handshake, of the round before it joined)
  calm a member down if they are due with its ping.
- Members stay in order: a worker ends its jobs in the order in which they come, and the delays
  between are constant. Who joins comes last, since its own round has just ended.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from simlib.core.client_state import NEVER_S, Differs, Rules
from simlib.core.protocol import Heartbeat, State, Transport
from simlib.core.reconnect import runs_on
from simlib.core.record import Record
from simlib.core.server import Law
from simlib.core.wire import Message
from simlib.engines.compiled import event_list
from simlib.engines.compiled.beat_tally import (
    Tally,
    Worker,
    at_work,
    one_more,
    work,
    write,
    write_pings,
    write_work,
)
from simlib.engines.compiled.event_list import CLIENT_BITS, CLIENT_MASK, Row, rows_of
from simlib.engines.compiled.faults import has_path_limits
from simlib.engines.compiled.numba_support import called, inlined, seldom
from simlib.engines.compiled.spread_beats import (
    ANSWERED,
    SENT,
    are_spread,
    go_round_apart,
    held_apart,
    join_apart,
    least_deadline_apart_s,
)
from simlib.engines.compiled.state import (
    ENTRY,
    MEMBER,
    QUEUED,
    RING,
    Kind,
    Ring,
    is_up_to_date,
    leave_undisturbed,
    load_of,
)
from simlib.engines.compiled.turn import GENERAL, Turn, World

IN_RING = -NEVER_S
"""The deadline in the row of a member."""
_TURN = 0.125
"""A turn of the wheel for what is under way, of the interval: its buckets hold about eight."""
_GONE = -1
"""The word of an entry whose member has left."""
_AFTER_ALL = 2**63 - 1
"""A word after all others."""


class _Queue(NamedTuple):
    """The places in the ring, how many entries are at each, and the next word's number."""

    answered_at: int
    sent_at: int
    resting_at: int
    end_at: int
    answered: int
    sent: int
    resting: int
    sequence: int


class _Waiting(NamedTuple):
    """What a member waits for, its alarms, and where it is: see `state.ENTRY`."""

    t: float
    word: int
    deadline_s: float
    alarm: int
    former_s: float
    former: int
    is_sent: bool
    is_answered: bool


def new_ring(clients: int, are_spread: bool, interval_s: float) -> Ring:
    """Return an empty ring with room for all clients; of those that differ, in `spread_beats`.

    Parameters
    ----------
    clients : int
    are_spread : bool
        Whether their round-trip times differ.
    interval_s : float
        Between two heartbeats, seconds.
    """
    ring = rows_of(1, RING)
    ring["next_s"] = NEVER_S
    ring["latest_s"] = -NEVER_S
    alike, apart = (0, clients) if are_spread else (clients, 0)
    flying = event_list.new_event_list(apart, _TURN * interval_s, NEVER_S)
    entries, place = rows_of(alike, ENTRY), np.zeros(alike, np.int32)
    members, queue = event_list.zeros(apart, (Row, MEMBER)), event_list.zeros(apart, (Row, QUEUED))
    return Ring(entries, place, ring, members, queue, flying)


@inlined
def beats_go_round(world: World) -> bool:
    """Say whether heartbeats may go round by themselves, as all connections do the same."""
    arrays, rules = world.arrays, world.rules
    are_alike = len(arrays.half_s) == 1
    may = len(arrays.beats.entries) > 0 if are_alike else len(arrays.beats.apart) > 0
    may = may and world.server_rules.law == Law.CONSTANT and arrays.servers.free_s.size == 1
    may = may and not world.record.keep_events and rules.heartbeat != Heartbeat.NONE
    may = may and not (are_alike and rules.heartbeat_interval_s <= 2.0 * arrays.half_s[0])
    may = may and rules.heartbeat_timeout_s <= rules.heartbeat_interval_s
    if GENERAL:
        options, other = world.options, world.treatment_rules
        may = may and not has_path_limits(arrays) and options.idle_s == NEVER_S
        may = may and options.browser.connections == 0
        may = may and _has_plain_timers(rules) and _has_plain_timers(other)
        may = may and not rules.differs & ~Differs.POLL_TIMER
        may = may and rules.heartbeat == other.heartbeat
        may = may and rules.heartbeat_interval_s == other.heartbeat_interval_s
        may = may and rules.heartbeat_timeout_s == other.heartbeat_timeout_s
    return may


@inlined
def _has_plain_timers(rules: Rules) -> bool:
    """Say whether the timer of an open socket is that of its heartbeat, and never late."""
    is_plain = not rules.throttles_timers and rules.safety_poll_s == NEVER_S
    return is_plain and not rules.any_message and not runs_on(rules.reconnect.policy)


@inlined
def is_member(row: Any) -> bool:
    """Say whether a client's heartbeats go round by themselves."""
    return row.deadline_s == IN_RING


@inlined
def happens_at(world: World, now: float) -> bool:
    """Say whether the latest or the next thing that members have waited for happens `now`."""
    ring = world.arrays.beats.ring[0]
    return bool(ring.latest_s == now or ring.next_s == now)


@inlined
def is_stale(world: World, turn: Turn) -> bool:
    """Say whether an event is a member's stale alarm; calm it down if another concerns it.

    A change moves its view and counts only, and what its user does is only noted.
    """
    kind = turn.kind
    if not is_member(world.arrays.rows[turn.number]):
        return False
    if kind == Kind.DEADLINE:
        # A former alarm that is due with the present one is the one that fires.
        fires = is_due(world, turn)
        if fires:
            calm_down(world, turn.number, turn.now)
        return not fires
    if kind != Kind.PUSH and kind != Kind.ACTIVITY:
        calm_down(world, turn.number, turn.now)
    return False


@inlined
def is_due(world: World, turn: Turn) -> bool:
    """Say whether a member, if clients ping, is to do so at the moment of an event."""
    found = _waiting(world, turn.number)
    is_by_client = world.rules.heartbeat == Heartbeat.CLIENT
    return bool(is_by_client and not found.is_sent and found.t == turn.now)


@inlined
def ends_a_round(world: World, kind: int) -> bool:
    """Say whether an event is the last of a round."""
    last = Kind.PONG_UP if world.rules.heartbeat == Heartbeat.SERVER else Kind.PONG
    return bool(kind == last)


@inlined
def joins_ring(world: World, turn: Turn, n: int) -> bool:
    """Let a client in whose round has ended undisturbed, with the event that it has scheduled."""
    arrays, q, number = world.arrays, world.q, turn.number
    beats, row, t = arrays.beats, arrays.rows[number], arrays.out[0].t
    ring = beats.ring[0]
    may = n == 1 and row.exchange == turn.exchange > row.closed_exchange
    may = may and row.state == State.OPEN and row.subscribed >= 0 and is_up_to_date(arrays, number)
    if GENERAL:
        may = may and row.transport == Transport.WEBSOCKET and not arrays.streams[number]
        may = may and row.lost_exchange < row.exchange
    is_by_server = world.rules.heartbeat == Heartbeat.SERVER
    may = may and ring.last_s <= t < (row.deadline_s if is_by_server else q.horizon_s)
    may = may and t < q.horizon_s
    if are_spread(world):
        may = may and world.rules.heartbeat_interval_s > 2.0 * arrays.half_s[number]
        may = may and held_apart(beats) < len(beats.apart)
    else:
        may = may and ring.answered + ring.sent + ring.resting < len(beats.entries)
    if may:
        hand, deadline_s = q.hand[0], row.deadline_s + 0.0
        word = (hand.sequence << CLIENT_BITS) | number
        hand.sequence += 1
        row.deadline_s = IN_RING
        if are_spread(world):
            join_apart(world, number, t, word, deadline_s)
        else:
            _join(world, number, t, word, deadline_s)
        ring.members += 1
    return may


@inlined
def _join(world: World, number: int, t: float, word: int, deadline_s: float) -> None:
    beats = world.arrays.beats
    ring, entry = beats.ring[0], beats.entries[beats.ring[0].end_at]
    entry.t, entry.word, entry.deadline_s = t, word, deadline_s
    entry.alarm = entry.former = 0  # they are in the event list
    beats.place[number] = ring.end_at
    ring.end_at = _after(ring.end_at, len(beats.entries))
    ring.resting += 1
    ring.last_s = t
    ring.next_s = min(ring.next_s, t)


@inlined
def _waiting(world: World, number: int) -> _Waiting:
    """Return what a member waits for."""
    beats = world.arrays.beats
    if are_spread(world):
        member = beats.apart[number]
        is_answered = bool(member.place == ANSWERED)
        is_sent = is_answered or bool(member.place == SENT)
        return _waits(member, is_sent, is_answered)
    place, ring = int(beats.place[number]), beats.ring[0]
    entry, behind = beats.entries[place], (place - ring.answered_at) % len(beats.entries)
    is_sent, is_answered = behind < ring.answered + ring.sent, behind < ring.answered
    return _waits(entry, bool(is_sent), bool(is_answered))


@inlined
def _waits(entry: Any, is_sent: bool, is_answered: bool) -> _Waiting:
    return _Waiting(
        *(entry.t + 0.0, int(entry.word + 0), entry.deadline_s + 0.0, int(entry.alarm + 0)),
        *(entry.former_s + 0.0, int(entry.former + 0), is_sent, is_answered),
    )


@inlined
def least_deadline_s(world: World) -> float:
    """Return before when no member's connection can be taken for dead.

    In every part of the ring deadlines rise, as times do: those of who is sent a ping are the
    oldest, if the server sends it, and those of who is to answer, if the client does.
    """
    beats, rules = world.arrays.beats, world.rules
    ring, entries = beats.ring[0], beats.entries
    if ring.members == 0:
        return NEVER_S
    if are_spread(world):
        return least_deadline_apart_s(world)
    if rules.heartbeat == Heartbeat.SERVER:
        place = ring.sent_at if ring.sent + ring.resting > 0 else ring.answered_at
        return float(entries[place].deadline_s)
    if ring.answered + ring.sent > 0:
        return float(entries[ring.answered_at].deadline_s)
    return float(entries[ring.resting_at].t + rules.heartbeat_timeout_s)


# -- leaving -------------------------------------------------------------------------------------


@called
def settle(world: World, number: int) -> int:
    """Bring a member's row up to date, which is no member from now on; return what it waited for.

    The alarm that it has, and that event, are still to be put into the event list.
    """
    arrays, record, row = world.arrays, world.record, world.arrays.rows[number]
    entry, is_by_server = _waiting(world, number), world.rules.heartbeat == Heartbeat.SERVER
    pings, is_sent, is_answered = entry.alarm & CLIENT_MASK, entry.is_sent, entry.is_answered
    row.deadline_s = entry.deadline_s
    if is_by_server:
        row.beats += 2 * (pings + int(is_sent and not is_answered))
        kind, pongs = Kind.PONG_UP if is_answered else Kind.PING if is_sent else Kind.BEAT, pings
        down, up = Message.PING_DOWN + 0, Message.PONG_UP + 0
    else:
        row.beats += pings - int(is_sent and not is_answered)
        row.awaiting_pong = is_sent
        if not is_sent:
            row.deadline_s = entry.t
        kind, pongs = Kind.PONG if is_answered else Kind.PING_UP, pings - int(is_sent)
        kind = kind if is_sent else Kind.DEADLINE
        down, up = Message.PONG_DOWN + 0, Message.PING_UP + 0
    downs, ups = (pings, pongs) if is_by_server else (pongs, pings)
    for layer in range(2):
        of_down, of_up = record.sizes[down, 2 + layer], record.sizes[up, 2 + layer]
        record.traffic[number, layer] += downs * of_down + ups * of_up
    arrays.beats.ring[0].members -= 1
    until_s = min(arrays.undisturbed_until_s[row.slot], row.deadline_s)
    leave_undisturbed(arrays, int(row.slot), until_s)
    return int(kind + 0)


@called
def calm_down(world: World, number: int, now: float) -> None:
    """Make a client no member: its row and the event list become what they were without a ring."""
    arrays, q, beats = world.arrays, world.q, world.arrays.beats
    row, entry = arrays.rows[number], _waiting(world, number)
    kind = settle(world, number)
    _put_back(q, number, entry.deadline_s, entry.alarm, now)
    _put_back(q, number, entry.former_s, entry.former, now)
    exchange, data = int(row.exchange), 0
    if kind == Kind.PING or kind == Kind.PONG_UP:
        data = int(row.beats)
    load = load_of(0 if kind == Kind.DEADLINE else exchange, kind, data)
    event_list.put_back(q, entry.t, entry.word, load)
    if are_spread(world):
        beats.apart[number].word = _GONE + 0
    else:
        beats.entries[beats.place[number]].word = _GONE + 0


@inlined
def _put_back(q: Any, number: int, t: float, alarm: int, now: float) -> None:
    """Put back an alarm that is still to come, unless there never was one."""
    if alarm > CLIENT_MASK and t > now:
        word = (alarm & ~CLIENT_MASK) | number
        event_list.put_back(q, t, word, load_of(0, Kind.DEADLINE, 0))


@seldom
def calm_all(world: World, now: float) -> None:
    """Make nobody a member: what comes now may concern all."""
    beats = world.arrays.beats
    ring, n = beats.ring[0], len(beats.entries)
    if are_spread(world):
        for number in range(len(beats.apart)):
            if is_member(world.arrays.rows[number]):
                calm_down(world, number, now)
        return
    held = int(ring.answered + ring.sent + ring.resting)
    for behind in range(held):
        word = int(beats.entries[(ring.answered_at + behind) % n].word)
        if word >= 0:
            calm_down(world, word & CLIENT_MASK, now)
    ring.answered_at = ring.sent_at = ring.resting_at = ring.end_at
    ring.answered = ring.sent = ring.resting = 0
    ring.next_s, ring.last_s = NEVER_S, 0.0


@inlined
def _after(place: int, n: int) -> int:
    return place + 1 if place + 1 < n else 0


# -- going round ---------------------------------------------------------------------------------


@inlined
def take_beats(world: World, limit_s: float, limit_word: int, most: int) -> int:
    """Take what members wait for, up to the next event from outside; return how many, up to `most`.

    That event is due at `limit_s` and has `limit_word`. 0 says that it is the next.
    """
    if are_spread(world):
        handled, leaver = go_round_apart(world, limit_s, limit_word, most)
        if leaver >= 0:
            calm_down(world, leaver, world.arrays.beats.ring[0].latest_s)
        return handled
    if world.rules.heartbeat == Heartbeat.SERVER:
        return _server_round(world, limit_s, limit_word, most)
    return _client_round(world, limit_s, limit_word, most)


@called
def _server_round(world: World, limit_s: float, limit_word: int, most: int) -> int:
    arrays, record, rules = world.arrays, world.record, world.rules
    beats, ring, entries = arrays.beats, arrays.beats.ring[0], arrays.beats.entries
    half_s, service_s = arrays.half_s[0], world.server_rules.heartbeat_s
    interval_s = rules.heartbeat_interval_s
    queue, worker, pings = _queue_of(world), at_work(world), Tally(0, 0, 0, -NEVER_S, 0)
    handled, leaver, latest_s = 0, -1, -NEVER_S
    while handled < most:
        beat_s, pong_s, is_heard = NEVER_S, NEVER_S, queue.answered > 0
        if queue.resting > 0:
            beat_s = entries[queue.resting_at].t
        if is_heard:
            pong_s = entries[queue.answered_at].t
        elif queue.sent > 0:
            pong_s = entries[queue.sent_at].t + half_s
        is_beat = beat_s <= pong_s
        now, place = (beat_s, queue.resting_at) if is_beat else (pong_s, queue.answered_at)
        if now >= limit_s:
            has_word = is_beat or is_heard
            if now > limit_s or not (has_word and entries[place].word < limit_word):
                break
        entry, latest_s = entries[place], now
        handled += 1
        if not is_beat and not is_heard:
            pings = _hear(world, entry, queue.sequence, pings)
            queue = _answered(queue, len(entries))
        if entry.word >= 0:
            number = entry.word & CLIENT_MASK
            begun_s = max(now, worker.free_s)
            done_s = begun_s + service_s
            next_s = done_s + (half_s if is_beat else interval_s)
            if next_s >= entry.deadline_s:
                leaver = number
                break
            worker = work(record, worker, begun_s, done_s)
            entry.t = next_s
            entry.word = (queue.sequence << CLIENT_BITS) | number
        queue = _sent(queue, len(entries)) if is_beat else _rested(beats, queue)
    if leaver < 0 and handled < most:
        while queue.sent > 0:
            entry = entries[queue.sent_at]
            if entry.t >= limit_s and (entry.t > limit_s or entry.word >= limit_word):
                break
            latest_s = max(latest_s, entry.t)
            pings = _hear(world, entry, queue.sequence, pings)
            queue = _answered(queue, len(entries))
    write_pings(record, pings, True)
    ring.rounds += pings.all
    ring.latest_s = max(ring.latest_s, latest_s)
    return _end_round(world, queue, worker, handled + pings.all, leaver)


@inlined
def _hear(world: World, entry: Any, sequence: int, pings: Tally) -> Tally:
    """Let a ping of the server's arrive at its client, which answers, and sets its timer anew."""
    record, rules = world.record, world.rules
    if entry.word >= 0:
        number, now = entry.word & CLIENT_MASK, entry.t + 0.0
        if now >= pings.until_s:
            write_pings(record, pings, True)
        pings = one_more(record, pings, number, now)
        entry.former_s, entry.former = entry.deadline_s, entry.alarm
        entry.deadline_s = now + rules.heartbeat_interval_s + rules.heartbeat_timeout_s
        entry.alarm = (sequence << CLIENT_BITS) | ((entry.alarm & CLIENT_MASK) + 1)
        entry.word = ((sequence + 1) << CLIENT_BITS) | number
        entry.t = now + world.arrays.half_s[0]
    return pings


@called
def _client_round(world: World, limit_s: float, limit_word: int, most: int) -> int:
    record, rules, beats = world.record, world.rules, world.arrays.beats
    ring, entries = beats.ring[0], beats.entries
    half_s, service_s = world.arrays.half_s[0], world.server_rules.heartbeat_s
    interval_s, timeout_s = rules.heartbeat_interval_s, rules.heartbeat_timeout_s
    queue, worker = _queue_of(world), at_work(world)
    pings = pongs = Tally(0, 0, 0, -NEVER_S, 0)
    handled, before, leaver, latest_s = 0, -1, -1, -NEVER_S
    while before < handled < most and leaver < 0:
        before, end_s, end_word = handled, _next_s(queue, entries) + half_s, _AFTER_ALL + 0
        if end_s >= limit_s:
            end_s, end_word = limit_s, limit_word
        while queue.sent > 0 and handled < most:
            entry = entries[queue.sent_at]
            if _is_later(entry, end_s, end_word):
                break
            handled += 1
            latest_s = max(latest_s, entry.t)
            if entry.word >= 0:
                begun_s = max(entry.t, worker.free_s)
                done_s = begun_s + service_s
                next_s = done_s + half_s
                # Two alarms at one time are one: the first, out of order (as `advance` has it).
                if next_s >= entry.deadline_s or next_s + interval_s == entry.deadline_s:
                    leaver, end_s, end_word = entry.word & CLIENT_MASK, entry.t + 0.0, _GONE + 0
                    break
                worker = work(record, worker, begun_s, done_s)
                _goes_on(entry, next_s, queue.sequence)
            queue = _answered(queue, len(entries))
        while queue.resting > 0 and handled < most:
            entry = entries[queue.resting_at]
            if _is_later(entry, end_s, end_word):
                break
            handled += 1
            latest_s = max(latest_s, entry.t)
            if entry.word >= 0:
                pings = _ping(record, entry, queue.sequence, pings, timeout_s)
                _goes_on(entry, entry.t + half_s, queue.sequence + 1)
            queue = _sent(queue, len(entries))
        while queue.answered > 0 and handled < most:
            entry = entries[queue.answered_at]
            if _is_later(entry, end_s, end_word):
                break
            handled += 1
            latest_s = max(latest_s, entry.t)
            if entry.word >= 0:
                pongs = _pong(record, entry, pongs)
                _goes_on(entry, entry.t + interval_s, queue.sequence)
            queue = _rested(beats, queue)
    write_pings(record, pings, False)
    write(record, pongs, Message.PONG_DOWN + 0)
    ring.rounds += pings.all
    ring.latest_s = max(ring.latest_s, latest_s)
    return _end_round(world, queue, worker, handled, leaver)


@inlined
def _is_later(entry: Any, end_s: float, end_word: int) -> bool:
    """Say whether what a member waits for comes after an event, by its time and word."""
    return bool(entry.t >= end_s and (entry.t > end_s or entry.word >= end_word))


@inlined
def _ping(record: Record, entry: Any, sequence: int, pings: Tally, timeout_s: float) -> Tally:
    """Let a client send its ping, and set its timer."""
    now = entry.t + 0.0
    if now >= pings.until_s:
        write_pings(record, pings, False)
    entry.deadline_s = now + timeout_s
    entry.alarm = (sequence << CLIENT_BITS) | ((entry.alarm & CLIENT_MASK) + 1)
    return one_more(record, pings, entry.word & CLIENT_MASK, now)


@inlined
def _pong(record: Record, entry: Any, pongs: Tally) -> Tally:
    """Let the answer to a ping arrive at its client."""
    now = entry.t + 0.0
    if now >= pongs.until_s:
        write(record, pongs, Message.PONG_DOWN + 0)
    return one_more(record, pongs, entry.word & CLIENT_MASK, now)


@inlined
def _goes_on(entry: Any, t: float, sequence: int) -> None:
    """A member waits for its next event."""
    entry.t = t
    entry.word = (sequence << CLIENT_BITS) | (entry.word & CLIENT_MASK)


# -- the parts of a round ------------------------------------------------------------------------


@inlined
def _next_s(queue: _Queue, entries: Any) -> float:
    """Return when the next thing happens that members wait for."""
    t = NEVER_S
    if queue.resting > 0:
        t = min(t, entries[queue.resting_at].t)
    if queue.sent > 0:
        t = min(t, entries[queue.sent_at].t)
    if queue.answered > 0:
        t = min(t, entries[queue.answered_at].t)
    return t


@inlined
def _queue_of(world: World) -> _Queue:
    ring = world.arrays.beats.ring[0]
    return _Queue(
        int(ring.answered_at),
        int(ring.sent_at),
        int(ring.resting_at),
        int(ring.end_at),
        int(ring.answered),
        int(ring.sent),
        int(ring.resting),
        int(world.q.hand[0].sequence),
    )


@inlined
def _sent(queue: _Queue, n: int) -> _Queue:
    """Return the queue after the first that rested has sent, or is sent, a ping."""
    answered_at, sent_at, resting_at, end_at, answered, sent, resting, sequence = queue
    return _Queue(
        *(answered_at, sent_at, _after(resting_at, n), end_at),
        *(answered, sent + 1, resting - 1, sequence + 2),
    )


@inlined
def _answered(queue: _Queue, n: int) -> _Queue:
    """Return the queue after the first ping under way is answered."""
    answered_at, sent_at, resting_at, end_at, answered, sent, resting, sequence = queue
    return _Queue(
        *(answered_at, _after(sent_at, n), resting_at, end_at),
        *(answered + 1, sent - 1, resting, sequence + 2),
    )


@inlined
def _rested(beats: Ring, queue: _Queue) -> _Queue:
    """Return the queue after the first answer; the entry goes to its end, if there is a member."""
    entries = beats.entries
    answered_at, sent_at, resting_at, end_at, answered, sent, resting, sequence = queue
    entry, n = entries[answered_at], len(entries)
    if entry.word >= 0:
        to = entries[end_at]
        to.t, to.word, to.deadline_s, to.alarm = entry.t, entry.word, entry.deadline_s, entry.alarm
        to.former_s, to.former = entry.former_s, entry.former
        beats.place[entry.word & CLIENT_MASK] = end_at
        end_at = _after(end_at, n)
        resting += 1
    return _Queue(
        *(_after(answered_at, n), sent_at, resting_at, end_at),
        *(answered - 1, sent, resting, sequence + 2),
    )


@inlined
def _end_round(world: World, queue: _Queue, worker: Worker, events: int, leaver: int) -> int:
    """Write everything down, and when the ring is to be looked at next; who cannot stay leaves."""
    arrays, beats, record = world.arrays, world.arrays.beats, world.record
    ring, entries = beats.ring[0], beats.entries
    if queue.resting > 0:
        ring.last_s = entries[(queue.end_at if queue.end_at > 0 else len(entries)) - 1].t
    ring.next_s = _next_s(queue, entries)
    ring.answered_at, ring.sent_at = queue.answered_at, queue.sent_at
    ring.resting_at, ring.end_at = queue.resting_at, queue.end_at
    ring.answered, ring.sent, ring.resting = queue.answered, queue.sent, queue.resting
    world.q.hand[0].sequence = queue.sequence
    arrays.servers.free_s[0, 0] = worker.free_s
    write_work(record, worker)
    arrays.state[0].events += events
    if leaver >= 0:
        calm_down(world, leaver, ring.latest_s)
    return events
