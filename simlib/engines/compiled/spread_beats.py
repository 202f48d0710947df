"""Heartbeats that go round by themselves though clients are not equally far from the server.

In `beats`, who comes first stays first. Here that is true of one place alone: who rests does so for
one interval from the end of a round, and rounds end in order. So members that rest stand in
a queue; what is on its way, to the server or back, stands in an event list of its own, whose wheel
has buckets as narrow as so few events need. Each entry there and in the queue is a time and a word,
and a member that has left is known by its word, which is none of them.

**Why that is exact.** Events of both places are taken in the order (time, word), up to the next one
from outside, and what follows each gets its word at that moment, as it does in the event list. What
`beats` says of alarms is true here too: a member leaves before one of its events if what follows is
not due before its alarm. That its interval is longer than its round trip is asked of each member,
when it joins.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from simlib.core.client_state import NEVER_S
from simlib.core.protocol import Heartbeat
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
from simlib.engines.compiled.event_list import CLIENT_BITS, CLIENT_MASK, WHEEL
from simlib.engines.compiled.numba_support import called, fetch_ahead, inlined
from simlib.engines.compiled.state import Ring
from simlib.engines.compiled.turn import World

RESTS, SENT, ANSWERED = range(3)
"""Where a member is: its next round is to begin, its ping is under way, its answer is."""
_AHEAD = 8
_EARLIER_S = 1e-6


class _Next(NamedTuple):
    """What comes next: when, its word, and whether it begins a round."""

    t: float
    word: int
    begins: bool


@inlined
def are_spread(world: World) -> bool:
    """Say whether round-trip times differ."""
    return len(world.arrays.half_s) > 1


@inlined
def held_apart(beats: Ring) -> int:
    """Return how many entries there are, of members and of those that have left."""
    hand = beats.flying.hand[0]
    return int(beats.ring[0].resting + hand.open + hand.near + hand.far)


@inlined
def join_apart(world: World, number: int, t: float, word: int, deadline_s: float) -> None:
    """Let a client in, whose next round begins at `t`, with that event's word."""
    beats = world.arrays.beats
    ring, member = beats.ring[0], beats.apart[number]
    if ring.members == 0:
        ring.slack_s = ring.former_slack_s = NEVER_S
        ring.slack_from_s = t
    member.t, member.word, member.deadline_s = t, word, deadline_s
    member.alarm = member.former = 0  # they are in the event list
    member.half_s = world.arrays.half_s[number]
    member.place = RESTS + 0
    ring.slack_s = min(ring.slack_s, _slack_s(world, member))
    _rest(beats, t, word)


@inlined
def least_deadline_apart_s(world: World) -> float:
    """Return before when no member's connection can be taken for dead; it may be too early.

    None of what is to come is nearer to its member's deadline than anything was in two stretches of
    time, in each of which every member has moved on.
    """
    ring = world.arrays.beats.ring[0]
    return float(ring.next_s + min(ring.slack_s, ring.former_slack_s) - _EARLIER_S)


@inlined
def _slack_s(world: World, member: Any) -> float:
    """Return how long after what a member waits for it could be taken for dead."""
    if member.place == RESTS and world.rules.heartbeat == Heartbeat.CLIENT:
        return world.rules.heartbeat_timeout_s + 0.0
    return float(member.deadline_s - member.t)


@inlined
def _rest(beats: Ring, t: float, word: int) -> None:
    """Put a member at the end of the queue."""
    ring = beats.ring[0]
    last = beats.queue[ring.end_at]
    last.t, last.word = t, word
    ring.end_at = ring.end_at + 1 if ring.end_at + 1 < len(beats.queue) else 0
    ring.resting += 1
    ring.last_s = t
    ring.next_s = min(ring.next_s, t)


@inlined
def _next_of_two(beats: Ring) -> _Next:
    """Return the first of who rests or of what is under way, or a moment just before the latter."""
    ring, flying = beats.ring[0], beats.flying
    t, word, begins = flying.head_t[WHEEL], flying.head_word[WHEEL], False
    if ring.resting > 0:
        first = beats.queue[ring.resting_at]
        begins = first.t < t or (first.t == t and first.word < word)
        if begins:
            t, word = first.t, first.word
    return _Next(t, word, begins)


@inlined
def _take(beats: Ring, begins: bool) -> None:
    """Remove what comes next; have the member at hand that follows a little later."""
    ring, n = beats.ring[0], len(beats.queue)
    if begins:
        ring.resting -= 1
        ring.resting_at = ring.resting_at + 1 if ring.resting_at + 1 < n else 0
        ahead = ring.resting_at + _AHEAD
        ahead = ahead if ahead < n else 0
        fetch_ahead(beats.apart, beats.queue[ahead].word & CLIENT_MASK)
    else:
        event_list.take(beats.flying, WHEEL)


@called
def go_round_apart(world: World, limit_s: float, limit_word: int, most: int) -> tuple[int, int]:
    """Take what members wait for, up to the next event from outside, as `beats.take_beats` does.

    Return how many were taken, and who cannot stay, -1 for nobody: its event is not taken.
    """
    record, rules, beats = world.record, world.rules, world.arrays.beats
    ring, flying, interval_s = beats.ring[0], beats.flying, rules.heartbeat_interval_s
    is_by_server, service_s = rules.heartbeat == Heartbeat.SERVER, world.server_rules.heartbeat_s
    worker, sequence = at_work(world), int(world.q.hand[0].sequence)
    pings = pongs = Tally(0, 0, 0, -NEVER_S, 0)
    handled, leaver = 0, -1
    while handled < most:
        now, word, begins = _next_of_two(beats)
        if now >= limit_s and (now > limit_s or word >= limit_word):
            break
        if not begins and flying.hand[0].open == 0:
            event_list.turn(flying)
            continue
        _take(beats, begins)
        handled += 1
        ring.latest_s = max(ring.latest_s, now)
        number = word & CLIENT_MASK
        member = beats.apart[number]
        if member.word != word:
            continue  # it has left
        place = int(member.place + 0)
        if is_by_server != (place == SENT):  # it is a job
            begun_s = max(now, worker.free_s)
            done_s = begun_s + service_s
            t = done_s + (interval_s if place == ANSWERED else member.half_s)
            # Two alarms at one time are one: the first, out of order (as `advance` has it).
            is_same = not is_by_server and t + interval_s == member.deadline_s
            if t >= member.deadline_s or is_same:
                leaver = number
                break
            worker = work(record, worker, begun_s, done_s)
        elif place == ANSWERED:
            if now >= pongs.until_s:
                write(record, pongs, Message.PONG_DOWN + 0)
            pongs, t = one_more(record, pongs, number, now), now + interval_s
        else:
            if now >= pings.until_s:
                write_pings(record, pings, is_by_server)
            pings, t = one_more(record, pings, number, now), now + member.half_s
            _set_alarm(world, member, now, sequence)
            sequence += 1
        _move_on(world, member, t, (sequence << CLIENT_BITS) | number)
        sequence += 1
    write_pings(record, pings, is_by_server)
    write(record, pongs, Message.PONG_DOWN + 0)
    ring.rounds += pings.all
    _end(world, worker, sequence, handled)
    return handled, leaver


@inlined
def _set_alarm(world: World, member: Any, now: float, sequence: int) -> None:
    """Set a member's timer anew, as it is pinged or pings `now`, and count that."""
    rules = world.rules
    if rules.heartbeat == Heartbeat.SERVER:
        member.former_s, member.former = member.deadline_s, member.alarm
        member.deadline_s = now + rules.heartbeat_interval_s + rules.heartbeat_timeout_s
    else:
        member.deadline_s = now + rules.heartbeat_timeout_s
    member.alarm = (sequence << CLIENT_BITS) | ((member.alarm & CLIENT_MASK) + 1)


@inlined
def _move_on(world: World, member: Any, t: float, word: int) -> None:
    """Let a member wait for what follows, at `t`."""
    beats = world.arrays.beats
    member.t, member.word = t, word
    member.place = member.place + 1 if member.place < ANSWERED else RESTS
    beats.ring[0].slack_s = min(beats.ring[0].slack_s, _slack_s(world, member))
    if member.place == RESTS:
        _rest(beats, t, word)
    else:
        event_list.put_back(beats.flying, t, word, 0)


@inlined
def _end(world: World, worker: Worker, sequence: int, handled: int) -> None:
    """Write everything else down, and when members are to be looked at next."""
    arrays, rules = world.arrays, world.rules
    ring = arrays.beats.ring[0]
    ring.next_s = _next_of_two(arrays.beats).t
    # What a member waits for is due before its deadline, so no later than this after it is set.
    longest_s = rules.heartbeat_interval_s + rules.heartbeat_timeout_s
    if ring.latest_s - ring.slack_from_s > longest_s:
        ring.former_slack_s, ring.slack_s = ring.slack_s, NEVER_S
        ring.slack_from_s = ring.latest_s
    world.q.hand[0].sequence = sequence
    arrays.servers.free_s[0, 0] = worker.free_s
    write_work(world.record, worker)
    arrays.state[0].events += handled
