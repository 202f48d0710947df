"""Times to come back after an outage: closed forms against each other, and runs against them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import simlib as sl
from simlib import theory
from simlib.errors import ScenarioError
from simlib.theory.replications import standard_error

OUTAGE_S, CRASH_S = 5.0, 10.0


def storm(**reconnect):
    """A server that is away for a while, and does everything in no time."""
    costs = ("accept_s", "handshake_s", "authenticate_s", "send_s", "fan_out_s")
    scenario = sl.Scenario(
        transport="websocket",
        clients=100_000,
        ramp_s=0.0,
        horizon_s=CRASH_S + OUTAGE_S + 60.0,
        updates={"rate_per_s": 1e-3},
        network={"rtt_s": 0.0, "tls": False},
        heartbeat={"direction": "none"},
        server={"max_connections": 1_000_000, **dict.fromkeys(costs, 0.0)},
        reconnect=reconnect,
        faults=[{"kind": "restart", "start_s": CRASH_S, "length_s": OUTAGE_S}],
    )
    run = sl.simulate(scenario, engine="compiled", progress=False)
    connections = run.frame("connections")
    back_s = connections.loc[connections["opened_s"] > CRASH_S, "opened_s"] - CRASH_S
    assert len(back_s) == scenario.clients
    return run.frame("clients")["attempts"] - 1, back_s


def test_a_full_jitter_storm_is_as_enumerated_within_one_percent():
    attempts, back_s = storm(policy="full_jitter", base_s=1.0, cap_s=30.0)
    exact = theory.recovery_full_jitter(OUTAGE_S, 1.0, 30.0)
    assert attempts.mean() == pytest.approx(exact.mean_attempts, rel=0.01)
    assert back_s.mean() == pytest.approx(exact.mean_s, rel=0.01)
    assert np.quantile(back_s, 0.95) == pytest.approx(exact.quantile_s(0.95), rel=0.01)
    assert abs(attempts.mean() - exact.mean_attempts) < 4 * standard_error(attempts)
    assert abs(back_s.mean() - exact.mean_s) < 4 * standard_error(back_s)


def test_an_exponential_storm_comes_back_in_one_moment():
    attempts, back_s = storm(policy="exponential", base_s=0.4, cap_s=3.0, factor=1.5)
    tries, exact_s = theory.recovery_exponential(OUTAGE_S, 0.4, 3.0, 1.5)
    assert (attempts == tries).all()
    assert back_s.to_numpy() == pytest.approx(exact_s, rel=1e-12)


@pytest.mark.parametrize("outage_s", [0.1, 0.5, 1.0])
def test_within_one_ceiling_attempts_are_a_renewal_count(outage_s):
    # U(0, 1) waits: the mean number of attempts up to t <= 1 is e**t (Feller 1971, XI.1).
    exact = theory.recovery_full_jitter(outage_s, 1.0, 1.0)
    assert exact.mean_attempts == pytest.approx(math.exp(outage_s), rel=1e-3)
    # Wald: the time of the attempt that succeeds is the number of waits times their mean.
    assert exact.mean_s == pytest.approx(0.5 * math.exp(outage_s), rel=1e-3)


def test_long_outages_lose_the_memory_of_their_start():
    # The overshoot of a renewal process: E[X**2] / 2 E[X] = a third of the ceiling.
    exact = theory.recovery_full_jitter(200.0, 3.0, 3.0)
    assert exact.mean_s - 200.0 == pytest.approx(1.0, rel=1e-3)
    assert exact.quantile_s([0.5]) - 200.0 == pytest.approx(3.0 * (1 - math.sqrt(0.5)), rel=2e-3)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        ((0.0, 1.0, 2.0), "outage_s"),
        ((5.0, 0.0, 2.0), "base_s"),
        ((5.0, 3.0, 2.0), "cap_s"),
        ((5.0, 1.0, 2.0, 0.5), "factor"),
        ((0.01, 1.0, 30.0), "cap_s"),
    ],
)
def test_what_has_no_answer_is_refused(arguments, path):
    with pytest.raises(ScenarioError) as error:
        theory.recovery_full_jitter(*arguments)
    assert error.value.path == path


def test_batches_that_overlap_add_up():
    window_s, spread_s = 60.0, 7.0
    for batches in (1, 5, 20, 60):
        starts = np.arange(batches) * window_s / batches
        waits_s = spread_s * (np.arange(20_000) + 0.5) / 20_000
        back_s = (starts[:, None] + waits_s).ravel()
        rate = np.histogram(back_s, bins=np.arange(0.0, 70.0, 0.25))[0] / 0.25
        peak = theory.drain_peak_per_s(len(back_s), window_s, batches, spread_s)
        assert rate.max() == pytest.approx(peak, rel=0.01)


def test_several_windows_and_several_drops_are_answered_one_by_one():
    windows_s = [10.0, 30.0, 120.0]
    peaks = theory.drain_peak_per_s(5000, windows_s, 10, 5.0)
    assert list(peaks) == [theory.drain_peak_per_s(5000, one, 10, 5.0) for one in windows_s]
    assert isinstance(theory.drain_peak_per_s(5000, 10.0, 10, 5.0), float)
    assert theory.leaked_connections([4, 0], closes_old=True) == [5, 1]
    with pytest.raises(ScenarioError, match=r"^window_s: must be a number in"):
        theory.drain_peak_per_s(5000, [10.0, 0.0], 10, 5.0)
    with pytest.raises(ScenarioError, match=r"^drops: must be a whole number in"):
        theory.leaked_connections([1, 2.5], closes_old=True)
