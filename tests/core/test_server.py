"""Queues against brute force and against theory; broadcasts; the backlog."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from simlib import theory
from simlib.core.draws import Stream, exponential, uniforms
from simlib.core.server import (
    Law,
    ServerRules,
    accept,
    admit,
    admit_to,
    begun_s,
    law_parameter,
    new_server,
    sent_s,
    service_time_s,
    syn_retry_s,
    wait_s,
)

TIMES = st.floats(0.0, 5.0)


def rules_with(**settings):
    return ServerRules(**{**dict.fromkeys(ServerRules._fields, 0.0), **settings})


@given(jobs=st.lists(st.tuples(TIMES, TIMES), max_size=30), workers=st.integers(1, 4))
def test_jobs_start_in_order_as_a_brute_force_queue_has_them(jobs, workers):
    free_s, busy_until, now = [0.0] * workers, [0.0] * workers, 0.0
    for gap_s, service_s in jobs:
        now += gap_s
        expected = max(now, min(busy_until))
        assert wait_s(free_s, now) == pytest.approx(expected - now)
        assert admit(free_s, now, service_s) == expected
        busy_until.remove(min(busy_until))
        busy_until.append(expected + service_s)


def mean_wait_s(rate_per_s, service_of, workers, replication, jobs=20_000):
    """Mean wait of a stream of jobs, the first tenth left out as warm-up."""
    ks = np.arange(jobs, dtype=np.uint64)
    gaps = uniforms(5, replication, 0, Stream.PUBLISH, ks).tolist()
    services = uniforms(5, replication, 0, Stream.POLL_SERVICE, ks).tolist()
    free_s, now, waits = [0.0] * workers, 0.0, []
    for gap, u in zip(gaps, services, strict=True):
        now += exponential(gap, 1.0 / rate_per_s)
        waits.append(admit(free_s, now, service_of(u)) - now)
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


def test_a_job_of_a_socket_waits_for_its_own_worker_though_another_is_free():
    free_s = [0.0, 0.0]
    assert [admit_to(free_s, 1, t, 2.0) for t in (0.0, 0.5)] == [0.0, 2.0]
    assert admit(free_s, 0.5, 2.0) == 0.5


LAWS = [
    ("constant", None, 0.0),
    ("exponential", None, 1.0),
    *((law, cv, cv) for law in ("lognormal", "gamma") for cv in (0.2, 1.0, 2.0)),
]


@pytest.mark.parametrize(("law", "given_cv", "cv"), LAWS)
def test_service_times_have_the_mean_and_the_variation_that_were_asked_for(law, given_cv, cv):
    law = Law[law.upper()]
    rules = rules_with(law=law, law_parameter=law_parameter(law, given_cv or 1.0))
    n = 20_000
    times = [service_time_s(rules, 3.0, 1, 0, 7, Stream.POLL_SERVICE, k) for k in range(n)]
    # The standard error of a CV grows with the fourth moment: this is five of them at CV 2.
    assert np.mean(times) == pytest.approx(3.0, rel=5.0 * cv / n**0.5 + 1e-12)
    assert np.std(times) / np.mean(times) == pytest.approx(cv, rel=0.15 if cv > 1.0 else 0.04)


@pytest.mark.parametrize("law", [Law.LOGNORMAL, Law.GAMMA])
@pytest.mark.parametrize("cv", [0.3, 1.5])
def test_service_times_have_the_distribution_that_was_asked_for(law, cv):
    parameter = law_parameter(law, cv)
    rules = rules_with(law=law, law_parameter=parameter)
    times = [service_time_s(rules, 1.0, 3, 0, 7, Stream.SEND_SERVICE, k) for k in range(5000)]
    expected = (
        scipy.stats.lognorm(parameter, scale=np.exp(-(parameter**2) / 2.0))
        if law == Law.LOGNORMAL
        else scipy.stats.gamma(parameter, scale=1.0 / parameter)
    )
    assert scipy.stats.kstest(times, expected.cdf).pvalue > 1e-3


def test_each_send_of_a_broadcast_draws_its_own_time():
    """The last of n sends is the sum of n times: its deviation grows as the root of n."""
    rules = rules_with(law=Law.EXPONENTIAL, send_s=1e-3, fan_out_s=0.0)
    lasts = []
    for version in range(400):
        t = begun_s(rules, 0.0, 1, 0, 0, version)
        for client in range(100):
            t = sent_s(rules, 0.0, t, client + 1, 1, 0, client, version)
        lasts.append(t)
    assert np.mean(lasts) == pytest.approx(0.1, rel=0.02)
    assert np.std(lasts) == pytest.approx(0.01, rel=0.15)


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
