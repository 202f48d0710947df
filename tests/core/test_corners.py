"""Corners of the rules that the other files of this folder leave open."""

from __future__ import annotations

import heapq
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simlib as sl
from simlib.core.client import is_recoverable, step
from simlib.core.client_state import NEVER_S, Applied, Client
from simlib.core.draws import Stream, uniform
from simlib.core.polling import is_stale, next_tick_s
from simlib.core.protocol import Action, Event, Pause, State, Transport
from simlib.core.record import (
    TICK_S,
    Cause,
    Count,
    Kept,
    Record,
    add_busy,
    bin_of,
    close_connection,
    log_event,
    occupancy_s,
    resolve,
)
from simlib.core.resync import Resync
from simlib.core.server import (
    SYN_RETRIES,
    Law,
    admit,
    service_time_s,
    syn_retry_s,
)
from simlib.scenario import Scenario, compile_workload

BASE = compile_workload(Scenario(updates={"rate_per_s": 1.0}), 1, 0).rules
POLLING = BASE._replace(interval_s=1.0)
PUSH = BASE._replace(
    transport=Transport.WEBSOCKET, tls=False, resync=BASE.resync._replace(kind=Resync.NONE)
)


def played(rules, *steps):
    """A client that went through `steps`: (event, time) or (event, time, version)."""
    client = Client(3)
    for event, *rest in steps:
        step(client, rules, Event[event], *rest)
    return client


OPEN = [("START", 0.0), ("CONNECTED", 0.0), ("UPGRADED", 0.0), ("READY", 0.0)]


# --- polling -------------------------------------------------------------------------------------


def test_a_retry_that_is_not_due_yet_keeps_its_time_when_the_tab_is_shown():
    client = played(POLLING, ("START", 0.0), ("FAILED", 0.1), ("HIDE", 0.2), ("SHOW", 0.5))
    assert (client.state, client.deadline_s) == (State.RETRYING, 1.1)


@pytest.mark.parametrize("end", ["success", "error"])
def test_retries_start_from_one_second_again_after(end):
    client, now = played(BASE, ("START", 0.0)), 0.0
    for _ in range(3 if end == "success" else 4):
        step(client, BASE, Event.FAILED, now)
        if client.state == State.RETRYING:
            now = client.deadline_s
            step(client, BASE, Event.DEADLINE, now)
    if end == "success":
        step(client, BASE, Event.FETCHED, now)
    step(client, BASE, Event.DEADLINE, now + 30.0)
    step(client, BASE, Event.FAILED, now + 30.0)
    assert client.deadline_s == now + 31.0


def test_showing_the_tab_fetches_nothing_while_a_card_is_dragged():
    start = [("START", 0.0), ("FETCHED", 0.0), ("DRAG_START", 0.1), ("HIDE", 0.2), ("SHOW", 0.5)]
    client = played(POLLING, *start)
    assert (client.state, client.deadline_s) == (State.IDLE, NEVER_S)


def test_a_fetch_that_ends_during_a_drag_sets_no_timer():
    client = played(POLLING, ("START", 0.0), ("DRAG_START", 0.1), ("FETCHED", 0.2))
    assert client.deadline_s == NEVER_S


def test_each_jittered_tick_takes_the_next_draw_of_its_stream():
    rules, client = POLLING._replace(jitter_frac=0.5), played(POLLING, ("START", 0.0))
    for k in range(5):
        step(client, rules, Event.FETCHED, 10.0 * k)
        u = uniform(rules.seed, rules.replication, 3, Stream.POLL_JITTER, k)
        assert client.deadline_s == 10.0 * k + (1.0 + 0.5 * (2.0 * u - 1.0))
        step(client, rules, Event.DEADLINE, client.deadline_s)


@pytest.mark.parametrize(("u", "tick_s"), [(0.0, 5.0), (0.5, 10.0), (1.0, 15.0)])
def test_jitter_is_symmetric_about_the_interval(u, tick_s):
    assert next_tick_s(0.0, 10.0, 0.5, u) == tick_s


def test_data_is_stale_from_the_very_moment_its_time_is_up():
    assert [is_stale(t, 10.0, 5.0) for t in (14.9, 15.0)] == [False, True]


def test_an_older_response_moves_no_view_back():
    client = played(POLLING, ("START", 0.0, 5), ("FETCHED", 0.1, 4))
    assert client.seen == 5


def test_a_page_starts_from_the_version_that_it_was_loaded_with():
    client = played(POLLING, ("START", 0.0, 5))
    assert client.seen == 5


# --- push ----------------------------------------------------------------------------------------


def test_each_backoff_takes_the_next_draw_and_the_doubled_ceiling():
    rules = PUSH._replace(reconnect=PUSH.reconnect._replace(base_s=1.0, cap_s=60.0))
    client = played(rules, *OPEN, ("CLOSED", 0.0))
    for k in range(5):
        now = 100.0 * k
        u = uniform(rules.seed, rules.replication, 3, Stream.BACKOFF, k)
        assert client.deadline_s == now + u * 2.0**k
        step(client, rules, Event.DEADLINE, 100.0 * k + 90.0)
        step(client, rules, Event.CLOSED, 100.0 * (k + 1))


@pytest.mark.parametrize(
    ("rules", "steps"),
    [
        (PUSH, [*OPEN, ("CLOSED", 1.0)]),
        (PUSH, [*OPEN, ("STOP", 1.0)]),
        (PUSH, [*OPEN[:3], ("REJECTED", 1.0)]),
        (PUSH._replace(reconnect=PUSH.reconnect._replace(policy=0)), [*OPEN, ("CLOSED", 1.0)]),
        (POLLING, [("START", 0.0), ("STOP", 1.0)]),
    ],
)
def test_an_exchange_that_is_broken_off_gets_no_more_answers(rules, steps):
    assert played(rules, *steps).exchange == played(rules, *steps[:-1]).exchange + 1


def test_a_push_of_the_whole_board_loses_nothing_even_without_snapshot():
    rules = PUSH._replace(push_is_snapshot=True)
    client = played(rules, *OPEN[:3], ("READY", 0.0, 7), ("PUSH", 1.0, 9))
    assert (client.seen, client.applied) == (9, Applied.ALL)


def test_a_ping_is_answered_before_ready_too():
    client = played(PUSH, *OPEN[:3])
    timeout_s = client.deadline_s
    assert step(client, PUSH, Event.PING, 1.0) == (Action.SEND_PONG, timeout_s)


def test_a_new_connection_awaits_no_pong_of_the_one_before():
    rules = PUSH._replace(heartbeat=2)
    client = played(rules, *OPEN)
    step(client, rules, Event.DEADLINE, client.deadline_s)
    step(client, rules, Event.CLOSED, 31.0)
    step(client, rules, Event.DEADLINE, client.deadline_s)
    for event in (Event.CONNECTED, Event.UPGRADED, Event.READY):
        step(client, rules, event, 40.0)
    assert step(client, rules, Event.DEADLINE, client.deadline_s)[0] == Action.SEND_PING


@pytest.mark.parametrize("state", [State.CONNECTING, State.OPEN, State.WAITING, State.STRANDED])
@pytest.mark.parametrize(("snapshot", "whole"), itertools.product([False, True], repeat=2))
def test_what_is_outstanding_can_come_if_a_way_is_left(state, snapshot, whole):
    client = Client(0)
    client.state, client.transport = state, Transport.WEBSOCKET
    rules = PUSH._replace(
        resync=PUSH.resync._replace(kind=Resync.SNAPSHOT if snapshot else Resync.NONE),
        push_is_snapshot=whole,
    )
    expected = state != State.STRANDED and (state == State.OPEN or snapshot or whole)
    assert is_recoverable(client, rules) == expected
    client.transport = Transport.POLLING
    assert is_recoverable(client, rules)


# --- server --------------------------------------------------------------------------------------


def fifo_starts(jobs, workers):
    """First-in first-out told event by event: an explicit queue, and workers that come free."""
    starts, queue, busy, arrivals = {}, [], [], list(enumerate(jobs))
    while len(starts) < len(jobs):
        if busy and (not arrivals or busy[0] <= arrivals[0][1][0]):
            now = heapq.heappop(busy)
        else:
            number, (now, _) = arrivals.pop(0)
            queue.append(number)
        while queue and len(busy) < workers:
            number = queue.pop(0)
            starts[number] = now
            heapq.heappush(busy, now + jobs[number][1])
    return [starts[number] for number in range(len(jobs))]


HALVES = st.integers(0, 8).map(lambda n: n / 2)  # many ties


@given(jobs=st.lists(st.tuples(HALVES, HALVES), min_size=1, max_size=30), workers=st.integers(1, 4))
def test_workers_that_take_known_jobs_equal_a_queue_told_event_by_event(jobs, workers):
    arrivals = itertools.accumulate(gap for gap, _ in jobs)
    timed = [(t, service_s) for t, (_, service_s) in zip(arrivals, jobs, strict=True)]
    free_s = [0.0] * workers
    assert [admit(free_s, *job) for job in timed] == fifo_starts(timed, workers)


def test_a_connection_fails_127_seconds_after_its_first_syn():
    waits = [syn_retry_s(k) for k in range(SYN_RETRIES + 1)]
    assert np.cumsum(waits).tolist() == [1, 3, 7, 15, 31, 63, 127]


def test_constant_service_takes_the_mean_and_random_service_its_draw():
    rules = compile_workload(sl.Scenario(updates={"rate_per_s": 1.0}), 1, 0).server
    address = (7, 2, 5, Stream.POLL_SERVICE, 4)
    assert service_time_s(rules, 0.25, *address) == 0.25
    drawn = service_time_s(rules._replace(law=Law.EXPONENTIAL), 0.25, *address)
    assert drawn == -math.log(1.0 - uniform(*address)) * 0.25


# --- record --------------------------------------------------------------------------------------


def record(horizon_s=10.0, bin_s=0.7, **changes):
    settings = {"counted_s": (0.0, horizon_s)} | changes
    times = np.array([1.0, 2.0, 3.0]), np.array([0.0]), np.array([horizon_s])
    return Record(*times, horizon_s=horizon_s, bin_s=bin_s, **settings)


@given(start_s=st.floats(0, 12), length_s=st.floats(0, 12), bin_s=st.floats(0.05, 4))
def test_each_bin_gets_its_overlap_with_the_span(start_s, length_s, bin_s):
    recording, end_s = record(bin_s=bin_s), start_s + length_s
    add_busy(recording, 0, start_s, end_s)
    lows = np.arange(recording.bins.shape[1]) * bin_s
    highs = np.append(lows[1:], 10.0)
    overlap = np.minimum(min(end_s, 10.0), highs) - np.maximum(start_s, lows)
    assert recording.busy_s[0] == pytest.approx(np.maximum(overlap, 0.0), abs=1e-9)


@pytest.mark.parametrize(("horizon_s", "bin_s", "bins"), [(2.1, 0.7, 3), (0.3, 0.1, 3), (1, 3, 1)])
def test_bins_cover_the_horizon_without_an_empty_one(horizon_s, bin_s, bins):
    recording = record(horizon_s=horizon_s, bin_s=bin_s)
    assert (recording.bins.shape[1], bin_of(recording, horizon_s)) == (bins, bins - 1)


def test_a_change_at_the_moment_of_an_interruption_is_in_the_books():
    recording = record()
    recording.end_at(2.0)
    assert recording.eligible.tolist() == [2]


def test_latencies_are_summed_and_the_longest_is_kept():
    recording = record()
    resolve(recording, 0, 0, 0, 3, 4.0)
    assert recording.latency_max_s == 3.0
    assert recording.latency_ticks[0, bin_of(recording, 4.0)] * TICK_S == 6.0


@pytest.mark.parametrize("keep", [False, True])
def test_events_are_kept_only_when_asked_for(keep):
    recording = record(kept=Kept(events=keep))
    log_event(recording, 1.5, 0, Event.PUSH, State.OPEN, Action.NONE)
    assert recording.events == ([(1.5, 0, Event.PUSH, State.OPEN, Action.NONE)] if keep else [])


def test_a_closed_connection_is_listed():
    recording = record()
    close_connection(recording, 0, 0.5, 2.0, Cause.TIMED_OUT, 1, 2)
    assert recording.connections == [(0, 0.5, 2.0, 4, 1, 0, 2)]
    assert not recording.bins[0, :, Count.CONNECTIONS].any()


SPANS = st.lists(st.tuples(st.floats(0, 12), st.floats(-2, 12)), max_size=20)


@given(spans=SPANS, bin_s=st.floats(0.05, 4), bins=st.integers(1, 30))
def test_intervals_occupy_each_bin_by_their_overlap(spans, bin_s, bins):
    start_s = np.array([start for start, _ in spans])
    end_s = np.array([start + length for start, length in spans])
    lows = np.arange(bins) * bin_s
    highs = np.append(lows[1:], np.inf)
    overlaps = np.minimum.outer(end_s, highs) - np.maximum.outer(start_s, lows)
    expected = np.maximum(overlaps, 0.0).sum(axis=0)
    assert occupancy_s(start_s, end_s, bin_s, bins) == pytest.approx(expected, abs=1e-9)


def test_pauses_of_both_kinds_are_kept_apart():
    client = played(POLLING, ("START", 0.0), ("HIDE", 0.1), ("DRAG_START", 0.2), ("SHOW", 0.3))
    assert client.pauses == Pause.DRAGGING
