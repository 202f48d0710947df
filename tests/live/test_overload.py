"""Clients that read slowly, come too many at once, or miss something: on the real server."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.analysis import outages

pytestmark = pytest.mark.live

SCALE = 2.0
BOUND = 65_536
BOARD = sl.Scenario(
    transport="websocket",
    clients=40,
    ramp_s=1.0,
    horizon_s=14.0,
    warm_up_s=2.0,
    updates={"rate_per_s": 20.0, "delta_bytes": 4000},
    heartbeat={"direction": "none"},
    reconnect={"policy": "full_jitter", "base_s": 1.0, "cap_s": 2.0},
    server={"socket_bytes": 65_536},
    faults=[
        {
            "kind": "bandwidth",
            "start_s": 3.0,
            "length_s": 9.0,
            "share": 0.1,
            "bytes_per_s": 10_000.0,
        }
    ],
)


def both(policy):
    bound = {} if policy in ("unbounded", "coalesce") else {"server.buffer_bytes": BOUND}
    scenario = BOARD.replace({"server.slow_consumers": policy, **bound})
    keep = ("deliveries",)
    live = sl.measure(scenario, time_scale=SCALE, keep=keep, progress=False)
    simulated = sl.simulate(live.scenario, keep=keep, progress=False)
    ledger = live.ledger
    assert ledger.delivered + ledger.lost + ledger.pending == ledger.eligible
    return outages.slow_consumers(live, simulated).to_dict("records")


def test_without_a_bound_the_real_server_keeps_all_and_says_so():
    measured, predicted = both("unbounded")
    assert measured["buffered_bytes"] > 4 * BOUND
    assert measured["buffered_bytes"] == pytest.approx(predicted["buffered_bytes"], rel=0.15)
    assert measured["slow_p99_s"] == pytest.approx(predicted["slow_p99_s"], rel=0.15)
    assert measured["lost"] == 0


@pytest.mark.parametrize("policy", ["close", "drop_oldest", "coalesce"])
def test_a_bounded_policy_bounds_the_real_servers_memory_and_spares_the_others(policy):
    measured, predicted = both(policy)
    assert 0 < measured["buffered_bytes"] <= BOUND
    assert measured["others_p99_s"] < 0.1 * measured["slow_p99_s"]
    assert measured["slow_p99_s"] == pytest.approx(predicted["slow_p99_s"], rel=0.35)
    if policy == "close":
        assert measured["reconnects"] >= 1.0
        assert measured["reconnects"] == pytest.approx(predicted["reconnects"], abs=1.1)
    if policy == "drop_oldest":
        assert measured["lost"] == pytest.approx(predicted["lost"], rel=0.4)
    else:
        assert measured["lost"] == 0


def test_blocking_makes_everybody_wait_on_the_real_server_too():
    measured, predicted = both("block")
    assert measured["others_p99_s"] > 1.0
    assert predicted["others_p99_s"] > 1.0
    assert measured["buffered_bytes"] <= BOUND + 4200  # the message that is waited for


def test_a_safety_poll_brings_back_on_real_sockets_what_a_reset_cost():
    board = BOARD.replace(
        {
            "horizon_s": 24.5,
            "updates": {"rate_per_s": 2.0},
            "websocket.resync": "none",
            "websocket.safety_poll_s": 6.0,
            "cool_down_s": 8.0,
            "reconnect": {"policy": "fixed", "base_s": 2.0, "cap_s": 2.0},
            "faults": [{"kind": "reset", "start_s": 8.0}],
        }
    )
    live = sl.measure(board, time_scale=SCALE, progress=False)
    simulated = sl.simulate(live.scenario, progress=False)
    assert live.ledger.lost == simulated.ledger.lost == 0
    assert live.ledger.pending == simulated.ledger.pending == 0
    polls = [run.frame("clients")["polls"].sum() for run in (live, simulated)]
    assert polls[0] == polls[1] > 100
    late_s = [float(run.latency_quantiles(1.0)) for run in (live, simulated)]
    assert late_s[0] == pytest.approx(late_s[1], abs=0.3)
    assert late_s[1] > 6.0


def test_upgrades_come_in_at_the_rate_on_the_real_server_as_predicted():
    board = BOARD.replace(
        {
            "horizon_s": 12.0,
            "updates": {"rate_per_s": 1.0},
            "server.admit_per_s": 10.0,
            "server.admit_burst": 5,
            "reconnect": {"policy": "full_jitter", "base_s": 1.0, "cap_s": 2.0},
            "faults": [],
        }
    )
    live = sl.measure(board, time_scale=SCALE, progress=False)
    simulated = sl.simulate(live.scenario, progress=False)
    opened_s = [
        run.frame("connections")["opened_s"].quantile([0.1, 0.5, 0.9]).tolist()
        for run in (live, simulated)
    ]
    assert opened_s[0] == pytest.approx(opened_s[1], abs=0.5)
    assert opened_s[1][2] > 3.0
    attempts = [run.frame("clients")["attempts"].sum() for run in (live, simulated)]
    assert attempts[0] == pytest.approx(attempts[1], rel=0.15)
