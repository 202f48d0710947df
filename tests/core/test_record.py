"""The books: buckets, bins, and a ledger that can fail."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.core.record import (
    TICK_S,
    Count,
    Kept,
    Record,
    Wait,
    add_busy,
    bucket_edges_s,
    bucket_of,
    check,
    count,
    end_wait,
    finalise,
    resolve,
)
from simlib.errors import LedgerError

PUBLISH_S = np.array([1.0, 2.0, 3.0, 4.0, 9.5])


def record(**changes):
    settings = {"counted_s": (0.0, 10.0), "horizon_s": 10.0, "bin_s": 0.7}
    starts, ends = np.array([0.0, 2.5]), np.array([10.0, 9.0])
    return Record(PUBLISH_S, starts, ends, **(settings | changes))


@given(latency_s=st.floats(2.0**-20, 1e6))
def test_a_bucket_holds_its_latency_and_is_at_most_one_percent_wide(latency_s):
    edges_s, bucket = bucket_edges_s(), bucket_of(latency_s)
    assert edges_s[bucket] <= latency_s < edges_s[bucket + 1]
    assert edges_s[bucket + 1] / edges_s[bucket] < 1.01


@pytest.mark.parametrize(("latency_s", "place"), [(0.0, 0), (-1.0, 0), (1e-9, 0), (1e300, -1)])
def test_latencies_beyond_the_scale_go_to_its_ends(latency_s, place):
    buckets = len(bucket_edges_s()) - 1
    assert bucket_of(latency_s) == place % buckets


@given(start_s=st.floats(0.0, 12.0), length_s=st.floats(0.0, 12.0), bin_s=st.floats(0.05, 4.0))
def test_spread_seconds_are_conserved_and_stay_in_their_bins(start_s, length_s, bin_s):
    recording = record(bin_s=bin_s)
    end_s = start_s + length_s
    add_busy(recording, 0, start_s, end_s)
    column = recording.busy_s[0]
    inside = max(0.0, min(end_s, 10.0) - start_s)
    assert column.sum() == pytest.approx(inside, abs=1e-9)
    assert (column >= 0).all()
    assert (column[:-1] <= bin_s + 1e-9).all()


def test_eligible_is_what_was_published_in_a_session_and_inside_the_window():
    assert record().eligible.tolist() == [5, 2]
    assert record(counted_s=(3.5, 10.0)).eligible.tolist() == [2, 1]
    assert record(counted_s=(0.0, 4.0)).eligible.tolist() == [3, 1]


def test_the_books_of_an_interrupted_run_end_where_it_ended():
    recording = record()
    recording.end_at(3.2)
    assert recording.eligible.tolist() == [3, 1]


def test_a_snapshot_of_three_delivers_three_and_hides_two():
    recording = record(kept=Kept(deliveries=True))
    resolve(recording, 0, 0, 0, 3, 3.5)
    finalise(recording, 0, 3, True, True, 10.0)
    finalise(recording, 1, 2, False, False, 9.0)
    row = recording.clients[0]
    assert (row[Count.DELIVERED], row[Count.SUPERSEDED], recording.pending[0]) == (3, 2, 2)
    assert recording.clients[1, Count.LOST] == 2
    assert [one[3] - one[2] for one in recording.deliveries] == [2.5, 1.5, 0.5]
    assert recording.histogram.sum() == 3
    check(recording)


def test_a_gap_before_a_delta_is_lost():
    recording = record()
    resolve(recording, 0, 0, 3, 4, 4.1)
    assert recording.clients[0, Count.LOST] == 3
    assert recording.clients[0, Count.DELIVERED] == 1


def test_what_was_published_outside_the_session_is_seen_but_not_counted():
    recording = record()
    resolve(recording, 1, 2, 2, 5, 9.6)
    assert recording.clients[1, Count.DELIVERED] == 2


@pytest.mark.parametrize("what", Wait)
def test_a_wait_counts_in_the_bin_where_it_ends_and_after_the_warm_up_by_its_length(what):
    recording = record(counted_s=(2.0, 10.0))
    for t in (1.3, 2.05, 3.0):  # bins begin at 1.4, 2.1 and 2.8 s
        end_wait(recording, what, 0, 0.25, t)
    counted = Count[{"POLL": "ANSWERS", "CONNECTION": "OPENED"}[what.name]]
    assert np.flatnonzero(recording.bins[0, :, counted]).tolist() == [1, 2, 4]
    assert recording.bins.sum() == 3
    assert recording.wait_ticks[what].sum() * TICK_S == 0.75
    assert recording.wait_histogram[what, 0, bucket_of(0.25)] == recording.wait_histogram.sum() == 1


@pytest.mark.parametrize("what", [Count.DELIVERED, Count.LOST])
def test_a_ledger_that_does_not_balance_raises(what):
    recording = record()
    finalise(recording, 0, 0, True, True, 10.0)
    finalise(recording, 1, 2, True, True, 10.0)
    check(recording)
    count(recording, what, 1, 5.0)
    with pytest.raises(LedgerError, match="client 1"):
        check(recording)
