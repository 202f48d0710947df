"""Queues against brute force and against theory; broadcasts; the backlog."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib import theory
from simlib.core.draws import Stream, exponential, uniforms
from simlib.core.server import (
    ServerRules,
    accept,
    admit,
    admit_fan_out,
    new_server,
    syn_retry_s,
    wait_s,
)

TIMES = st.floats(0.0, 5.0)


def rules_with(**settings):
    return ServerRules(**{**dict.fromkeys(ServerRules._fields, 0.0), **settings})


@given(jobs=st.lists(st.tuples(TIMES, TIMES), max_size=30), workers=st.integers(1, 4))
def test_jobs_start_in_order_as_a_brute_force_queue_has_them(jobs, workers):
    server, busy_until, now = new_server(workers), [0.0] * workers, 0.0
    for gap_s, service_s in jobs:
        now += gap_s
        expected = max(now, min(busy_until))
        assert wait_s(server, now) == pytest.approx(expected - now)
        assert admit(server, now, service_s) == expected
        busy_until.remove(min(busy_until))
        busy_until.append(expected + service_s)


def mean_wait_s(rate_per_s, service_of, workers, replication, jobs=20_000):
    """Mean wait of a stream of jobs, the first tenth left out as warm-up."""
    ks = np.arange(jobs, dtype=np.uint64)
    gaps = uniforms(5, replication, 0, Stream.PUBLISH, ks).tolist()
    services = uniforms(5, replication, 0, Stream.POLL_SERVICE, ks).tolist()
    server, now, waits = new_server(workers), 0.0, []
    for gap, u in zip(gaps, services, strict=True):
        now += exponential(gap, 1.0 / rate_per_s)
        waits.append(admit(server, now, service_of(u)) - now)
    return float(np.mean(waits[jobs // 10 :]))


@pytest.mark.parametrize(
    ("rate_per_s", "workers", "law", "queue"),
    [
        (0.7, 1, "exponential", theory.mm1(0.7, 1.0)),
        (1.6, 2, "exponential", theory.mmc(1.6, 1.0, 2)),
        (4.0, 5, "exponential", theory.mmc(4.0, 1.0, 5)),
        (0.8, 1, "constant", theory.md1(0.8, 1.0)),
    ],
)
def test_mean_waits_are_within_four_standard_errors_of_theory(rate_per_s, workers, law, queue):
    def service_of(u):
        return exponential(u, 1.0) if law == "exponential" else 1.0

    waits = [mean_wait_s(rate_per_s, service_of, workers, number) for number in range(12)]
    error = theory.standard_error(waits)
    off = (np.mean(waits) - queue.mean_wait_s) / error
    assert abs(off) < 4, f"{np.mean(waits):.4f} against {queue.mean_wait_s:.4f}: {off:.1f} SE"


def test_broadcasts_do_not_overtake_each_other_even_on_many_workers():
    server = new_server(workers=3)
    starts = [admit_fan_out(server, t, 2.0) for t in (0.0, 0.1, 0.2)]
    assert starts == [0.0, 2.0, 4.0]


def test_a_full_backlog_drops_and_an_emptied_one_accepts():
    rules = rules_with(accept_s=1.0, max_connections=10, backlog=2)
    server = new_server(1)
    assert [accept(server, rules, 0.0, 1.0) for _ in range(4)] == [0.0, 1.0, 2.0, -1.0]
    assert accept(server, rules, 1.0, 1.0) == 3.0


def test_a_backlog_may_hold_more_than_its_ring_began_with():
    rules = rules_with(accept_s=1.0, max_connections=10, backlog=1000)
    server = new_server(1)
    assert [accept(server, rules, 2.5, 1.0) for _ in range(3)] == [2.5, 3.5, 4.5]
    starts = [accept(server, rules, 4.0, 1.0) for _ in range(100)]
    assert starts == [5.5 + k for k in range(100)]
    assert server.state.waiting == 101
    assert accept(server, rules, 50.5, 1.0) == 105.5
    assert server.state.waiting == 55


def test_a_dropped_syn_is_sent_again_after_1_3_and_7_seconds():
    assert np.cumsum([syn_retry_s(k) for k in range(3)]).tolist() == [1.0, 3.0, 7.0]
