"""Each closed form against something that does not share its algebra.

Chance is fixed by seed, and a tolerance is four standard errors of what was drawn: about one
claim in 16,000 would fail by chance when the seed is changed.
"""

from __future__ import annotations

import heapq
import math
import pickle
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import integrate, special, stats

from simlib import theory

FULL, UNCHANGED, PUSH, BEAT_S, BEAT = 633 + 386 + 5304, 681 + 332, 144, 25.0, 10


def agrees(values, expected):
    """Whether the mean of replications is within four standard errors of what theory says."""
    return abs(np.mean(values) - expected) <= 4 * theory.standard_error(values)


def seconds(low, high):
    return st.floats(low, high, allow_nan=False)


@given(changes_per_s=seconds(0, 1000), length_s=seconds(1e-4, 1.0))
def test_a_broadcast_is_cut_by_the_first_change_during_it(changes_per_s, length_s):
    def missed(t):
        return changes_per_s * math.exp(-changes_per_s * t) * (1.0 - t / length_s)

    found = theory.cut_short(changes_per_s, length_s)
    assert found.updates_frac == pytest.approx(stats.expon.cdf(changes_per_s * length_s))
    expected, _ = integrate.quad(missed, 0.0, length_s, limit=500)
    assert found.missed_frac == pytest.approx(expected, abs=1e-7)
    if changes_per_s * length_s < 0.01:
        assert found.missed_frac == pytest.approx(found.updates_frac / 2.0, rel=0.01, abs=1e-7)


staleness = st.builds(
    theory.staleness_jittered,
    interval_s=seconds(1e-3, 1e4),
    jitter_frac=st.floats(0, 1),
    fetch_s=seconds(0, 100),
    down_s=seconds(0, 100),
)
shares = st.floats(0, 1)


# --- staleness ----------------------------------------------------------------------------------


def poll_staleness(rng, interval_s, jitter_frac, fetch_s, up_s, events=20_000):
    """Publish to applied, by laying out polls one after another and dropping events on them."""
    polls = 50_000
    spread = rng.uniform(1 - jitter_frac, 1 + jitter_frac, polls)
    starts = np.cumsum(interval_s * spread + fetch_s)
    published = rng.uniform(starts[0], starts[-2], events)
    read = starts + up_s
    return starts[np.searchsorted(read, published)] + fetch_s - published


@pytest.mark.parametrize("jitter_frac", [0.0, 0.2, 1.0])
def test_staleness_agrees_with_polls_laid_out_one_by_one(jitter_frac):
    rng = np.random.default_rng(11)
    expected = theory.staleness_jittered(30.0, jitter_frac, 2.0, 0.5)
    # Reading 1.5 s after the start of a fetch of 2 s leaves 0.5 s for the way down.
    replications = [poll_staleness(rng, 30.0, jitter_frac, 2.0, 1.5) for _ in range(20)]
    assert agrees([np.mean(one) for one in replications], expected.mean)
    for x_s in (0.4, 5.0, 25.0, 31.0, 40.0, 60.0):
        drawn = [np.mean(one <= x_s) for one in replications]
        assert agrees(drawn, expected.cdf(x_s)), x_s


def test_a_fixed_timer_gives_a_uniform_staleness():
    ours, reference = theory.staleness_fixed_timer(30.0, 0.25), stats.uniform(0.25, 30.0)
    x_s = np.linspace(-1, 32, 67)
    np.testing.assert_allclose(ours.cdf(x_s), reference.cdf(x_s), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ours.quantile([0, 0.3, 1]), reference.ppf([0, 0.3, 1]), rtol=1e-12)
    assert ours.mean == pytest.approx(reference.mean(), rel=1e-12)


def test_a_rearmed_timer_is_a_fixed_timer_with_the_fetch_in_its_period():
    rearmed = theory.staleness_rearmed_timer(30.0, 2.0, 0.5)
    assert rearmed == theory.staleness_fixed_timer(32.0, 0.5)
    assert theory.staleness_rearmed_timer(30.0, 0.0, 0.0).mean == 15.0


def test_a_heartbeat_of_25_s_and_20_s_finds_a_lost_path_after_20_to_45_s():
    detection, reference = theory.heartbeat_detection(25.0, 20.0), stats.uniform(20.0, 25.0)
    x_s = np.linspace(0, 50, 51)
    np.testing.assert_allclose(detection.cdf(x_s), reference.cdf(x_s), atol=1e-15)
    assert detection.mean == 32.5
    assert detection.quantile([0.0, 0.5, 1.0]).tolist() == [20.0, 32.5, 45.0]


def test_jitter_that_vanishes_leaves_the_rearmed_timer():
    exact = theory.staleness_rearmed_timer(30.0, 2.0, 0.5)
    assert theory.staleness_jittered(30.0, 0.0, 2.0, 0.5) == exact
    nearly = theory.staleness_jittered(30.0, 1e-7, 2.0, 0.5)
    x_s, q = np.linspace(0, 40, 401), np.linspace(0, 0.999, 100)
    np.testing.assert_allclose(nearly.cdf(x_s), exact.cdf(x_s), atol=1e-6)
    np.testing.assert_allclose(nearly.quantile(q), exact.quantile(q), atol=1e-5)
    assert nearly.mean == pytest.approx(exact.mean, rel=1e-12)


def test_the_jittered_mean_is_that_of_the_residual_life_by_integration():
    period = stats.uniform(32.0 - 9.0, 18.0)
    mean, _ = integrate.quad(lambda x: x * period.sf(x) / period.mean(), 0, 41, points=[23])
    assert theory.staleness_jittered(30.0, 0.3, 2.0, 0.5).mean == pytest.approx(mean + 0.5)
    assert theory.staleness_jittered(30.0, 0.3, 2.0, 0.0).mean == pytest.approx(
        16 + (30 * 0.3) ** 2 / (6 * 32)
    )


@given(staleness, st.lists(seconds(-10, 3e4), min_size=2))
def test_staleness_cdf_never_falls_and_stays_between_0_and_1(delay, x_s):
    share = delay.cdf(sorted(x_s))
    assert np.all(np.diff(share) >= -1e-12)
    assert share.min() >= 0
    assert share.max() <= 1
    assert delay.cdf(delay.after_s + delay.longest_s * (1 + 1e-9) + 1e-9) == 1


@given(staleness, shares)
def test_staleness_quantile_inverts_its_cdf(delay, q):
    assert delay.cdf(delay.quantile(q)) == pytest.approx(q, abs=1e-8)


@given(staleness)
def test_staleness_mean_is_the_integral_of_its_tail(delay):
    # The cdf is a line, then a parabola: Simpson's rule is exact on each piece.
    knots = delay.after_s + np.array([0.0, delay.shortest_s, delay.longest_s])
    pieces = [np.linspace(low, high, 3) for low, high in pairwise(knots)]
    tail = [integrate.simpson(1 - delay.cdf(piece), x=piece) for piece in pieces if np.ptp(piece)]
    assert delay.after_s + sum(tail) == pytest.approx(delay.mean, rel=1e-6)


@given(staleness, shares)
def test_one_number_gives_a_float_and_several_an_array_of_their_shape(delay, q):
    assert type(delay.quantile(q)) is float
    assert type(delay.cdf(q)) is float
    assert delay.quantile([[q, 0.5]]).shape == (1, 2)
    assert delay.quantile([[q, 0.5]])[0, 0] == delay.quantile(q)


# --- polling ------------------------------------------------------------------------------------


def test_the_request_rate_is_clients_over_the_period():
    assert theory.poll_request_rate_per_s(1000, 30.0, 10.0) == 25.0


def test_superseded_share_agrees_with_the_sum_over_poisson_counts():
    for changes in (1e-3, 0.5, 1.0, 7.0, 60.0):
        counts = np.arange(1, 400)
        hidden = (counts - 1) @ stats.poisson.pmf(counts, changes)
        assert theory.superseded_frac(changes / 30, 30.0) == pytest.approx(hidden / changes)


def test_superseded_share_agrees_with_changes_dropped_on_polls():
    rng = np.random.default_rng(12)
    counts = rng.poisson(0.1 * 30.0, size=(50, 2000))
    drawn = 1 - (counts > 0).sum(axis=1) / counts.sum(axis=1)
    assert agrees(drawn, theory.superseded_frac(0.1, 30.0))


def test_superseded_share_keeps_its_digits_at_rates_near_0_and_far_from_it():
    assert theory.superseded_frac(0.0, 30.0) == 0.0
    with localcontext() as context:
        context.prec = 60
        for changes in (1e-18, 1e-9, 1e-3, 0.3, 20.0, 50.0, 1e3, 1e9, 1e300):
            u = Decimal(changes)
            exact = float(1 - (1 - (-u).exp()) / u)
            assert theory.superseded_frac(changes, 1.0) == pytest.approx(exact, rel=1e-14)


# --- queues -------------------------------------------------------------------------------------


def lindley(rng, arrival_rate_per_s, serve, workers=1, warm=4000, kept=4000, replications=400):
    """Waits of customers one after another, a row a replication: who comes takes the first free."""
    free_s = np.zeros((replications, workers))
    waits = np.empty((replications, kept))
    for customer in range(-warm, kept):
        free_s = np.sort(free_s, axis=1)
        if customer >= 0:
            waits[:, customer] = free_s[:, 0]
        free_s[:, 0] += serve(replications)
        gap_s = rng.exponential(1 / arrival_rate_per_s, replications)
        free_s = np.maximum(free_s - gap_s[:, np.newaxis], 0.0)
    return waits


@pytest.mark.parametrize("name", ["mm1", "md1", "mmc"])
def test_waits_agree_with_customers_served_one_by_one(name):
    rng = np.random.default_rng(13)
    rate_per_s, service_s = 8.0, 0.1
    if name == "mm1":
        queue = theory.mm1(rate_per_s, service_s)
        waits = lindley(rng, rate_per_s, lambda n: rng.exponential(service_s, n))
    elif name == "md1":
        queue = theory.md1(rate_per_s, service_s)
        waits = lindley(rng, rate_per_s, lambda n: np.full(n, service_s))
    else:
        queue = theory.mmc(rate_per_s, 3 * service_s, 3)
        waits = lindley(rng, rate_per_s, lambda n: rng.exponential(3 * service_s, n), workers=3)
    assert agrees(waits.mean(axis=1), queue.mean_wait_s)
    assert agrees((waits > 0).mean(axis=1), queue.wait_probability)
    for x_s in (0.0, 0.05, 0.15, 0.4, 1.0):
        assert agrees((waits <= x_s).mean(axis=1), queue.wait_cdf(x_s)), x_s
    for q in (0.5, 0.9, 0.99):
        assert agrees((waits <= queue.wait_quantile_s(q)).mean(axis=1), q), q


@pytest.mark.parametrize("load", [0.0, 1e-9, 0.3, 0.99])
def test_mm1_has_the_textbook_means(load):
    queue = theory.mm1(load / 0.1, 0.1)
    assert queue.utilisation == pytest.approx(load)
    assert queue.wait_probability == pytest.approx(load)
    assert queue.mean_response_s == pytest.approx(0.1 / (1 - load))
    assert queue.mean_queue_length == pytest.approx(load**2 / (1 - load))


def steady_state(rates):
    """Long-run shares of a Markov chain from its matrix of rates."""
    generator = rates - np.diag(rates.sum(axis=1))
    system = np.vstack([generator.T, np.ones(len(rates))])
    return np.linalg.lstsq(system, np.append(np.zeros(len(rates)), 1.0), rcond=None)[0]


def birth_death(up, down):
    """Rates of a chain that moves one level at a time."""
    return np.diag(up, 1) + np.diag(down, -1)


@pytest.mark.parametrize(("load", "workers"), [(0.5, 1), (1.5, 2), (3.0, 4), (2.0, 5)])
def test_mmc_agrees_with_its_markov_chain_solved_as_a_matrix(load, workers):
    levels = np.arange(1, 250)
    busy = np.minimum(levels, workers)
    share = steady_state(birth_death(np.full(levels.size, load / 0.1), busy / 0.1))
    waiting = np.maximum(np.arange(250) - workers, 0) @ share
    queue = theory.mmc(load / 0.1, 0.1, workers)
    assert queue.mean_queue_length == pytest.approx(waiting, rel=1e-6, abs=1e-12)
    assert queue.wait_probability == pytest.approx(share[workers:].sum(), rel=1e-6)
    assert queue.utilisation == pytest.approx(load / workers)
    assert queue.throughput_per_s == load / 0.1


def test_mmc_stays_finite_with_ten_thousand_workers():
    queue = theory.mmc(99_500.0, 0.1, 10_000)
    # Halfin and Whitt: workers = load + beta * sqrt(load).
    beta = (10_000 - 9950) / math.sqrt(9950)
    limit = 1 / (1 + beta * stats.norm.cdf(beta) / stats.norm.pdf(beta))
    assert queue.wait_probability == pytest.approx(limit, rel=0.02)


def crommelin(x, load):
    """P(wait > x services) in M/D/1 by the alternating series, in 700 digits."""
    with localcontext() as context:
        context.prec = 700
        x, load, total = Decimal(x), Decimal(load), Decimal(0)
        for k in range(math.floor(x) + 1):
            y = load * (x - k)
            sign_power = (-y) ** k if k else Decimal(1)
            total += y.exp() * sign_power / math.factorial(k)
        return float(1 - (1 - load) * total)


@pytest.mark.parametrize("load", [0.01, 0.5, 0.9, 0.99, 0.9999])
def test_md1_tail_agrees_with_the_alternating_series_in_700_digits(load):
    x = np.array([0.0, 0.3, 1.0, 1.5, 4.25, 10.0, 20.5, 40.0, 150.2])
    tail = theory.md1(load / 0.1, 0.1).wait_tail(x * 0.1)
    exact = [crommelin(one, load) for one in x]
    # x * 0.1 / 0.1 is x only to the last bit, and the tail is steep at low load.
    np.testing.assert_allclose(tail, exact, rtol=1e-11)


def test_md1_waits_half_as_long_as_mm1():
    half = theory.mm1(9.0, 0.1).mean_wait_s / 2
    assert theory.md1(9.0, 0.1).mean_wait_s == pytest.approx(half)


@pytest.mark.parametrize(("clients", "workers"), [(1, 1), (2, 1), (6, 2), (6, 6), (7, 9), (40, 3)])
def test_machine_repairman_agrees_with_its_markov_chain_solved_as_a_matrix(clients, workers):
    think_s, service_s = 3.0, 0.7
    present = np.arange(clients + 1)
    busy = np.minimum(present, workers)
    asking = (clients - present[:-1]) / think_s
    share = steady_state(birth_death(asking, busy[1:] / service_s))
    throughput = share @ busy / service_s
    queue = theory.machine_repairman(clients, think_s, service_s, workers)
    assert queue.throughput_per_s == pytest.approx(throughput, rel=1e-9)
    assert queue.mean_response_s == pytest.approx(share @ present / throughput, rel=1e-9)
    assert queue.utilisation == pytest.approx(share @ busy / workers, rel=1e-9)
    # What a request finds: states weighted by how often a request comes in them.
    met = asking * share[:-1] / (asking @ share[:-1])
    assert queue.wait_probability == pytest.approx(met[workers:].sum(), rel=1e-9, abs=1e-12)
    for x_s in (0.0, 0.5, 3.0):
        ahead = np.arange(1, met[workers:].size + 1)
        late = met[workers:] @ stats.gamma.sf(x_s, ahead, scale=service_s / workers)
        assert queue.wait_cdf(x_s) == pytest.approx(1 - late, abs=1e-12)


def closed_loop(rng, clients, think_s, service_s, requests):
    """Mean wait of requests at one worker, think times constant but for the first."""
    asks = [(first, client) for client, first in enumerate(rng.uniform(0, think_s, clients))]
    heapq.heapify(asks)
    free_s, waits = 0.0, []
    for work_s in rng.exponential(service_s, requests).tolist():
        ask_s, client = heapq.heappop(asks)
        start_s = max(ask_s, free_s)
        waits.append(start_s - ask_s)
        free_s = start_s + work_s
        heapq.heappush(asks, (free_s + think_s, client))
    return np.mean(waits[requests // 5 :])


def test_machine_repairman_needs_only_the_mean_of_the_think_time():
    rng = np.random.default_rng(14)
    drawn = [closed_loop(rng, 5, 3.0, 0.7, 10_000) for _ in range(20)]
    assert agrees(drawn, theory.machine_repairman(5, 3.0, 0.7, 1).mean_wait_s)


def test_one_client_never_waits_for_itself():
    queue = theory.machine_repairman(1, 30.0, 0.5, 1)
    assert queue.mean_wait_s == queue.wait_probability == 0.0
    assert queue.mean_response_s == 0.5
    assert queue.wait_quantile_s([0.5, 1.0]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("think_s", "workers"), [(1.0, 1), (30.0, 4), (300.0, 4), (1e6, 1)])
def test_machine_repairman_obeys_its_bounds_with_100_000_clients(think_s, workers):
    clients, service_s = 100_000, 0.01
    queue = theory.machine_repairman(clients, think_s, service_s, workers)
    assert queue.throughput_per_s <= workers / service_s * (1 + 1e-12)
    cycle_s = clients / queue.throughput_per_s
    assert cycle_s == pytest.approx(think_s + queue.mean_response_s, rel=1e-9)
    overloaded_s = clients * service_s / workers - think_s - service_s
    assert queue.mean_wait_s >= overloaded_s * (1 - 1e-9)
    if overloaded_s > 0:
        assert queue.mean_wait_s == pytest.approx(overloaded_s, rel=1e-3)


def test_many_clients_who_think_long_make_an_open_queue():
    closed = theory.machine_repairman(100_000, 100_000 / 8.0, 0.1, 1)
    opened = theory.mm1(8.0, 0.1)
    assert closed.mean_wait_s == pytest.approx(opened.mean_wait_s, rel=1e-3)
    assert closed.wait_quantile_s(0.99) == pytest.approx(opened.wait_quantile_s(0.99), rel=1e-3)


loads = st.floats(0, 0.999)
queues = st.one_of(
    st.builds(lambda load: theory.mm1(load / 0.1, 0.1), loads),
    st.builds(lambda load: theory.md1(load / 0.1, 0.1), loads),
    st.builds(lambda load, c: theory.mmc(load * c / 0.1, 0.1, c), loads, st.integers(1, 20)),
    st.builds(
        theory.machine_repairman,
        st.integers(1, 200),
        seconds(1e-2, 1e3),
        seconds(1e-2, 10),
        st.integers(1, 8),
    ),
)


@given(queues, st.lists(st.floats(-1, 50), min_size=2))
def test_wait_cdf_never_falls_and_stays_between_0_and_1(queue, services):
    scale_s = queue.mean_response_s - queue.mean_wait_s
    share = queue.wait_cdf(np.sort(services) * scale_s)
    assert np.all(np.diff(share) >= -1e-12)
    assert share.min() >= -1e-12
    assert share.max() <= 1


@given(queues, st.floats(0, 1, exclude_max=True))
def test_wait_quantile_inverts_the_wait_cdf(queue, q):
    wait_s = queue.wait_quantile_s(q)
    if wait_s == 0:
        assert queue.wait_cdf(0.0) >= q - 1e-12
    else:
        assert queue.wait_cdf(wait_s) == pytest.approx(q, abs=1e-9)


@given(queues)
def test_mean_wait_is_the_integral_of_the_wait_tail(queue):
    # Gauss's rule on short pieces: the tail of M/D/1 has a kink at each whole service.
    service_s = queue.mean_response_s - queue.mean_wait_s
    end_s = queue.wait_quantile_s(1 - 1e-12)
    pieces = math.ceil(end_s / service_s)
    assume(pieces <= 500)
    node, weight = special.roots_legendre(12)
    x_s = (np.arange(pieces)[:, np.newaxis] + (node + 1) / 2) * service_s
    area = (1 - queue.wait_cdf(x_s)) @ weight * service_s / 2
    assert area.sum() == pytest.approx(queue.mean_wait_s, rel=1e-6, abs=1e-11 * service_s)


@given(queues)
def test_little_law_holds(queue):
    assert queue.mean_queue_length == pytest.approx(queue.throughput_per_s * queue.mean_wait_s)
    assert 0 <= queue.utilisation <= 1 + 1e-12
    assert 0 <= queue.wait_probability <= 1 + 1e-12


def test_the_longest_wait_has_no_bound_if_any_request_waits():
    assert theory.mm1(5.0, 0.1).wait_quantile_s([0.5, 1.0]).tolist() == [0.0, math.inf]
    assert theory.mm1(0.0, 0.1).wait_quantile_s(1.0) == 0.0


def test_queues_survive_a_trip_to_another_process():
    for queue in (theory.mmc(5.0, 0.1, 2), theory.md1(5.0, 0.1)):
        copy = pickle.loads(pickle.dumps(queue))
        assert copy == queue
        assert copy.wait_quantile_s(0.9) == queue.wait_quantile_s(0.9)


# --- fan-out ------------------------------------------------------------------------------------


def test_fan_out_agrees_with_broadcasts_sent_one_by_one():
    rng = np.random.default_rng(15)
    clients, send_s, overhead_s, rate_per_s, down_s = 40, 0.001, 0.02, 12.0, 0.3
    broadcast = theory.fan_out(clients, send_s, overhead_s, rate_per_s, down_s)
    batch_s = overhead_s + clients * send_s
    waits = lindley(rng, rate_per_s, lambda n: np.full(n, batch_s), replications=200)
    sends_s = overhead_s + send_s * np.arange(1, clients + 1) + down_s
    assert broadcast.utilisation == pytest.approx(rate_per_s * batch_s)
    assert agrees(waits.mean(axis=1), broadcast.mean_wait_s)
    assert agrees(waits.mean(axis=1) + sends_s.mean(), broadcast.mean_latency_s)
    assert agrees(waits.mean(axis=1) + sends_s[0], broadcast.first_mean_s)
    assert agrees(waits.mean(axis=1) + sends_s[-1], broadcast.last_mean_s)


@given(st.integers(1, 5000), st.integers(0, 5000))
@example(100, 7)  # 7 / 100 * 100 is a little above 7
def test_a_broadcast_that_need_not_wait_reaches_client_i_of_n_at_quantile_i_of_n(clients, place):
    place = min(place, clients)
    broadcast = theory.fan_out(clients, 1e-5, 0.002, 1.0, down_s=0.1)
    latency_s = 0.002 + max(place, 1) * 1e-5 + 0.1
    assert broadcast.unqueued_quantile_s(place / clients) == pytest.approx(latency_s, rel=1e-12)


def test_a_rare_broadcast_to_one_client_takes_the_overhead_and_one_send():
    broadcast = theory.fan_out(1, 0.001, 0.002, 0.0, down_s=0.1)
    assert broadcast.mean_latency_s == broadcast.first_mean_s == broadcast.last_mean_s
    assert broadcast.mean_latency_s == pytest.approx(0.103)


# --- bytes --------------------------------------------------------------------------------------


def test_polling_bytes_agree_with_polls_that_find_or_miss_changes():
    rng = np.random.default_rng(16)
    changed = rng.poisson(0.02 * 30.0, size=(50, 2000)) > 0
    drawn = np.where(changed, FULL, UNCHANGED).mean(axis=1) / 30.0
    assert agrees(drawn, theory.polling_bytes_per_s(0.02, 30.0, FULL, UNCHANGED))


def test_polling_without_etag_costs_the_same_at_every_rate():
    cost = theory.polling_bytes_per_s([0.0, 1.0, 1e3], 30.0, 6000)
    assert cost.tolist() == [200.0, 200.0, 200.0]


def test_push_bytes_are_messages_and_heartbeats():
    assert theory.push_bytes_per_s(2.0, 144) == 288.0
    assert theory.push_bytes_per_s([0.0, 2.0], 144, 25.0, 10).tolist() == [0.4, 288.4]


def test_a_5_3_kb_snapshot_every_30_s_costs_as_much_as_1_46_pushes_per_second():
    assert theory.crossover_rate_per_s(30.0, FULL, PUSH, None, BEAT_S, BEAT) == pytest.approx(
        (FULL / 30 - BEAT / BEAT_S) / PUSH, rel=1e-12
    )
    assert theory.crossover_rate_per_s(30.0, FULL, PUSH, None, BEAT_S, BEAT) == pytest.approx(
        1.46, abs=0.005
    )


sizes = st.floats(0, 1e5)


@given(
    period_s=st.floats(0.1, 600),
    full_bytes=sizes,
    push_bytes=st.floats(1, 1e4),
    unchanged_bytes=st.none() | sizes,
    beat_s=st.floats(1, 100) | st.just(math.inf),
    beat_bytes=st.floats(0, 1e3),
)
def test_push_costs_more_at_every_rate_above_the_crossover(
    period_s, full_bytes, push_bytes, unchanged_bytes, beat_s, beat_bytes
):
    crossing = theory.crossover_rate_per_s(
        period_s, full_bytes, push_bytes, unchanged_bytes, beat_s, beat_bytes
    )

    def excess(rate_per_s):
        push = theory.push_bytes_per_s(rate_per_s, push_bytes, beat_s, beat_bytes)
        poll = theory.polling_bytes_per_s(rate_per_s, period_s, full_bytes, unchanged_bytes)
        return push - poll

    scale = (full_bytes + (unchanged_bytes or 0)) / period_s + beat_bytes + push_bytes
    above = crossing * (1 + np.geomspace(1e-6, 100, 60)) + np.geomspace(1e-12, 1, 60) / period_s
    assert np.all(excess(above) >= -1e-9 * scale)
    if crossing > 0:
        assert excess(crossing) == pytest.approx(0, abs=1e-6 * scale)


@pytest.mark.parametrize("push_bytes", [50.0, 144.0, 600.0])
@pytest.mark.parametrize("beat_bytes", [0.0, 10.0, 845.0, 900.0, 2000.0])
def test_the_crossover_with_etag_is_the_upper_branch_of_lambert_w(push_bytes, beat_bytes):
    a = (FULL - beat_bytes / BEAT_S * 30.0) / push_bytes
    b = (FULL - UNCHANGED) / push_bytes
    root = (a + special.lambertw(-b * math.exp(-a), k=0).real) / 30.0
    crossing = theory.crossover_rate_per_s(30.0, FULL, push_bytes, UNCHANGED, BEAT_S, beat_bytes)
    assert crossing == pytest.approx(max(root, 0.0), rel=1e-9, abs=1e-12)


def test_of_two_crossings_the_upper_one_is_returned():
    # Heartbeats of 40 bytes/s against idle polls of 1013 bytes in 30 s.
    known = {"heartbeat_period_s": 1.0, "heartbeat_bytes": 40.0}
    upper = theory.crossover_rate_per_s(30.0, FULL, PUSH, UNCHANGED, **known)
    rates = np.linspace(0, 2, 200_001)
    push = theory.push_bytes_per_s(rates, PUSH, **known)
    dearer = push > theory.polling_bytes_per_s(rates, 30.0, FULL, UNCHANGED)
    changes = rates[1:][np.diff(dearer.astype(int)) != 0]
    assert dearer[0]
    assert changes.size == 2
    assert upper == pytest.approx(changes[-1], abs=1e-5)


@pytest.mark.parametrize("unchanged_bytes", [None, 0.0, 90.0, 110.0])
def test_the_crossover_is_0_where_polling_is_cheaper_at_every_rate(unchanged_bytes):
    assert theory.crossover_rate_per_s(30.0, 100, 144, unchanged_bytes, 1.0, 50) == 0.0
    assert theory.crossover_rate_per_s(30.0, 0, 144) == 0.0


def test_a_304_larger_than_the_full_answer_still_has_one_crossover():
    crossing = theory.crossover_rate_per_s(30.0, 100, 50, 400)
    push = theory.push_bytes_per_s(crossing, 50)
    assert theory.polling_bytes_per_s(crossing, 30.0, 100, 400) == pytest.approx(push)


# --- replications -------------------------------------------------------------------------------


def test_the_interval_is_that_of_scipy():
    values = np.random.default_rng(17).normal(5, 2, 12)
    mean, low, high = theory.mean_interval(values, confidence=0.9)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert mean == pytest.approx(values.mean())
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert theory.standard_error(values) == pytest.approx(stats.sem(values))


def test_ninety_intervals_of_a_hundred_hold_the_mean():
    rng = np.random.default_rng(18)
    intervals = [theory.mean_interval(one, 0.9) for one in rng.normal(3, 1, (4000, 5))]
    held = [float(low <= 3 <= high) for _, low, high in intervals]
    assert agrees(held, 0.9)


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf, True, "30", None, [30.0]])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("interval_s", lambda x: theory.staleness_fixed_timer(x)),
        ("down_s", lambda x: theory.staleness_fixed_timer(30.0, x)),
        ("fetch_s", lambda x: theory.staleness_fixed_timer(30.0, 0.0, x)),
        ("fetch_s", lambda x: theory.staleness_rearmed_timer(30.0, x, 0.0)),
        ("jitter_frac", lambda x: theory.staleness_jittered(30.0, x, 0.0, 0.0)),
        ("shortest_s", lambda x: theory.Staleness(x, 1.0)),
        ("longest_s", lambda x: theory.Staleness(1.0, x)),
        ("after_s", lambda x: theory.Staleness(1.0, 1.0, x)),
        ("timeout_s", lambda x: theory.heartbeat_detection(25.0, x)),
        ("clients", lambda x: theory.poll_request_rate_per_s(x, 30.0, 0.0)),
        ("period_s", lambda x: theory.superseded_frac(1.0, x)),
        ("arrival_rate_per_s", lambda x: theory.mm1(x, 0.1)),
        ("service_s", lambda x: theory.md1(1.0, x)),
        ("workers", lambda x: theory.mmc(1.0, 0.1, x)),
        ("think_s", lambda x: theory.machine_repairman(5, x, 0.1, 1)),
        ("send_s", lambda x: theory.fan_out(5, x, 0.0, 1.0)),
        ("overhead_s", lambda x: theory.fan_out(5, 0.1, x, 1.0)),
        ("full_bytes", lambda x: theory.polling_bytes_per_s(1.0, 30.0, x)),
        ("push_bytes", lambda x: theory.crossover_rate_per_s(30.0, 100, x)),
        ("heartbeat_bytes", lambda x: theory.push_bytes_per_s(1.0, 100, 25.0, x)),
        ("confidence", lambda x: theory.mean_interval([1.0, 2.0], x)),
    ],
)
def test_a_wrong_value_is_named_with_what_was_given_and_what_would_be_right(name, call, wrong):
    with pytest.raises(ValueError) as raised:
        call(wrong)
    message = str(raised.value)
    assert message.startswith(f"{name}: must be ")
    assert message.endswith(f"got {wrong!r}")


@pytest.mark.parametrize("wrong", [-0.01, 1.01, math.nan, True, "0.5", [0.5, 2.0]])
@pytest.mark.parametrize(
    "quantile",
    [
        theory.staleness_fixed_timer(30.0).quantile,
        theory.mm1(5.0, 0.1).wait_quantile_s,
        theory.fan_out(5, 0.01, 0.0, 1.0).unqueued_quantile_s,
    ],
)
def test_a_share_outside_0_to_1_is_refused(quantile, wrong):
    with pytest.raises(ValueError, match=r"q: must be a number in \[0, 1\], got"):
        quantile(wrong)


@pytest.mark.parametrize("wrong", [math.nan, math.inf, "1", True])
@pytest.mark.parametrize(
    "cdf", [theory.heartbeat_detection(25.0, 20.0).cdf, theory.md1(5.0, 0.1).wait_cdf]
)
def test_a_time_that_is_no_finite_number_is_refused(cdf, wrong):
    with pytest.raises(ValueError, match=r"x_s: must be a number in \(-inf, inf\)"):
        cdf(wrong)


@pytest.mark.parametrize(
    ("call", "limit"),
    [
        (lambda: theory.mm1(10.0, 0.1), r"arrival_rate_per_s: must be < 1 / service_s \(10\)"),
        (lambda: theory.md1(11.0, 0.1), r"arrival_rate_per_s: must be < 1 / service_s \(10\)"),
        (lambda: theory.mmc(20.0, 0.1, 2), r"must be < workers \(2\) / service_s \(20\)"),
        (
            lambda: theory.fan_out(100, 0.001, 0.1, 5.0),
            r"rate_per_s: must be < 1 / \(overhead_s \+ clients / workers \* send_s\) \(5\)",
        ),
    ],
)
def test_a_queue_that_cannot_keep_up_is_refused(call, limit):
    with pytest.raises(ValueError, match=limit):
        call()


@pytest.mark.parametrize("wrong", [0, 2.0, 2.5])
def test_a_count_is_a_whole_number_of_at_least_1(wrong):
    with pytest.raises(ValueError, match="must be a whole number in"):
        theory.mmc(1.0, 0.1, wrong)
    with pytest.raises(ValueError, match="must be a whole number in"):
        theory.machine_repairman(wrong, 30.0, 0.1, 1)


@pytest.mark.parametrize("wrong", [[], [1.0], 3.0, [[1.0, 2.0]]])
def test_an_interval_needs_two_replications(wrong):
    with pytest.raises(ValueError, match="values: must be a list of at least 2 numbers"):
        theory.mean_interval(wrong)


def test_a_longest_period_below_the_shortest_is_refused():
    with pytest.raises(ValueError, match=r"longest_s: must be a number in \[3.0, inf\), got 2.0"):
        theory.Staleness(3.0, 2.0)
    with pytest.raises(ValueError, match="longest_s"):
        theory.Staleness(0.0, 0.0)
