"""The event list, interpreted, against a sorted one: whatever is guessed, the order is the same."""

from __future__ import annotations

import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.engines.compiled import event_list
from simlib.engines.compiled.event_list import CLIENT_MASK, LANES, STARTS, WHEEL

DELAYS_S = st.sampled_from([0.0, 0.0, 0.001, 0.5, 1.0, 7.0, 63.9, 64.0, 500.0, 4000.0])
LANE = st.sampled_from([*range(LANES), WHEEL])


def earliest(q):
    """Source and time of the next event; opens the wheel's buckets as the engine does."""
    while True:
        source = event_list.next_source(q)
        if source == WHEEL and q.hand[0].open == 0:
            event_list.turn(q)
            continue
        return source, q.head_t[source]


def with_room(q, entries=1):
    return q if event_list.room(q) >= entries else event_list.grow(q, entries)


@pytest.mark.parametrize("turn_s", [0.01, 64.0, 1e6])
@given(batches=st.lists(st.lists(st.tuples(LANE, DELAYS_S), max_size=60), max_size=12))
def test_events_come_in_the_order_of_time_and_scheduling(turn_s, batches):
    q = event_list.new_event_list(pending=0, turn_s=turn_s, horizon_s=5000.0)
    expected, now, load = [], 0.0, 0
    for batch in [*batches, []]:
        for lane, delay_s in batch:
            q = with_room(q)
            event_list.schedule(q, lane, now + delay_s, load % 5, load)
            if now + delay_s < 5000.0:
                heapq.heappush(expected, (now + delay_s, load))
            load += 1
        for _ in range(len(expected) if not batch else len(expected) // 2):
            source, t = earliest(q)
            client = q.head_word[source] & CLIENT_MASK
            q = with_room(q, 0)
            now, number = heapq.heappop(expected)
            assert (t, event_list.take(q, source), client) == (now, number, number % 5)
    assert earliest(q)[1] == event_list.NEVER_S
    assert event_list.room(q) > 0


def test_what_is_a_million_turns_away_is_found():
    q = event_list.new_event_list(pending=0, turn_s=1.0, horizon_s=1e9)
    for load in range(200):
        q = with_room(q)
        event_list.schedule(q, WHEEL, 1e6 - load, 0, load)
    times = []
    while earliest(q)[1] < event_list.NEVER_S:
        source, t = earliest(q)
        times.append((t, event_list.take(q, source)))
    assert times == [(1e6 - load, load) for load in reversed(range(200))]


def test_what_is_put_back_has_its_place_among_equals():
    q = event_list.new_event_list(pending=0, turn_s=1.0, horizon_s=10.0)
    q = with_room(q, 8)
    for load in range(4):
        event_list.schedule(q, 0, 5.0, 0, load)
    taken = [(int(q.head_word[earliest(q)[0]]), event_list.take(q, 0)) for _ in range(3)]
    for word, load in reversed(taken):
        event_list.put_back(q, 5.0, word, load)
    event_list.put_back(q, 10.0, taken[0][0], 7)
    assert [event_list.take(q, earliest(q)[0]) for _ in range(4)] == [0, 1, 2, 3]
    assert earliest(q)[1] == event_list.NEVER_S


def test_nothing_is_scheduled_from_the_horizon_on():
    q = event_list.new_event_list(pending=0, turn_s=1.0, horizon_s=10.0)
    event_list.schedule(q, 0, 10.0, 0, 1)
    assert earliest(q)[1] == event_list.NEVER_S


def test_chunks_are_used_again():
    q = event_list.new_event_list(pending=0, turn_s=1.0, horizon_s=1e9)
    for k in range(5000):
        event_list.schedule(q, 0, float(k), 0, k)
        event_list.schedule(q, WHEEL, float(k), 0, k)
        for _ in range(2):
            source, t = earliest(q)
            assert (t, event_list.take(q, source)) == (k, k)
    assert q.hand[0].fresh < 20


def test_what_grows_keeps_its_events_and_copies_what_is_used_alone():
    q = event_list.new_event_list(pending=0, turn_s=1.0, horizon_s=1e9)
    for k in range(300):
        event_list.schedule(q, WHEEL if k % 2 else 0, float(k // 2), 0, k)
    q = event_list.grow(q, 100_000)
    used = int(q.hand[0].fresh) * event_list.CHUNK
    assert event_list.room(q) >= 100_000
    assert not q.pool["load"][used:].any()
    taken = []
    while earliest(q)[1] < event_list.NEVER_S:
        taken.append(event_list.take(q, earliest(q)[0]))
    assert sorted(taken) == list(range(300))


@pytest.mark.parametrize("n", [0, 10, 200_000])
def test_zeros_are_zeros_of_their_kind_and_can_be_written(n):
    kind = (event_list.Row, [("t", "f8"), ("n", "i4")])
    found = event_list.zeros(n, kind)
    assert found.dtype == event_list.rows_of(n, kind[1]).dtype
    assert len(found) == n
    assert not found["t"].any()
    found["n"] = 7
    assert found["n"].sum() == 7 * n


def test_a_lane_says_which_event_comes_a_chunk_later():
    q = event_list.new_event_list(pending=200, turn_s=1.0, horizon_s=1e9)
    for k in range(80):
        event_list.schedule(q, 0, float(k), 0, k)
    for k in range(80):
        later = event_list.later_in(q, 0)
        assert (later >= 0) == (k + event_list.CHUNK < 80)
        if later >= 0:
            assert q.pool[later].load == k + event_list.CHUNK
        assert event_list.next_load(q, 0) == k
        assert event_list.take(q, 0) == k


def test_the_session_source_is_the_callers():
    q = event_list.new_event_list(pending=0, turn_s=1.0, horizon_s=10.0)
    q.head_t[STARTS], q.head_word[STARTS] = 3.0, 1
    event_list.schedule(q, 2, 3.0, 0, 7)
    assert event_list.next_source(q) == 2  # scheduled before the sessions were
    q.head_word[2] = 1 << event_list.CLIENT_BITS
    assert event_list.next_source(q) == STARTS
