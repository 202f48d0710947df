"""The reference engine: balanced, repeatable, and as theory says."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings

import simlib as sl
from simlib import theory
from simlib.core.record import Count
from simlib.engines.simpy_engine import Simulation
from simlib.scenario import compile_workload
from tests.strategies import scenarios

TABLES = ("timeline", "clients", "latency", "connections", "deliveries", "events")


@settings(max_examples=250)
@given(scenario=scenarios())
def test_every_run_balances_and_its_tables_agree(scenario):
    run = sl.simulate(scenario, seed=3, keep=("deliveries", "events"), progress=False)
    ledger = run.ledger
    assert ledger.delivered + ledger.lost + ledger.pending == ledger.eligible

    timeline, clients = run.frame("timeline"), run.frame("clients")
    for what in Count:
        name = what.name.lower()
        assert (clients[name] >= 0).all()
        assert timeline[name].sum() == clients[name].sum()
    deliveries = run.frame("deliveries")
    assert len(deliveries) == ledger.delivered == run.frame("latency")["count"].sum()
    assert not deliveries.duplicated(["client", "version"]).any()
    assert (deliveries["latency_s"] >= 0).all()
    present_s = (clients["end_s"] - clients["start_s"]).sum()
    assert (timeline["present_count"] * timeline["width_s"]).sum() == pytest.approx(present_s)
    connections = run.frame("connections")
    assert connections["opened_s"].between(0, scenario.horizon_s).all()
    assert (connections["closed_s"] >= connections["opened_s"]).all()
    assert (connections["closed_s"] <= scenario.horizon_s).all()
    open_s = (timeline["connection_count"] * timeline["width_s"]).sum()
    assert open_s == pytest.approx((connections["closed_s"] - connections["opened_s"]).sum())
    assert timeline["utilisation"].between(0, 1 + 1e-9).all()
    assert run.frame("events")["t_s"].is_monotonic_increasing


FINGERPRINT = """
import sys
import pandas as pd
import simlib as sl

scenario = sl.Scenario.load(sys.argv[1]).replace(
    transport=sys.argv[2], clients=20, sessions={"arrivals_per_s": 0.1, "length_s": 120.0}
)
run = sl.simulate(scenario, seed=11, keep=("deliveries", "events"), progress=False)
for name in sys.argv[3:]:
    print(name, pd.util.hash_pandas_object(run.frame(name)).sum())
"""


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_the_same_seed_gives_identical_tables_in_two_processes(transport, pytestconfig):
    path = pytestconfig.rootpath / "data/scenarios/matters.toml"
    command = [sys.executable, "-c", FINGERPRINT, str(path), transport, *TABLES]
    one, two = (
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    )
    assert one == two
    assert len(one.splitlines()) == len(TABLES)


def test_both_transports_share_changes_sessions_and_drags(board):
    scenario = board.replace(
        sessions={"arrivals_per_s": 0.1, "length_s": 100.0},
        clients=20,
        hidden={"every_s": 90.0, "length_s": 10.0},
    )
    habits = ["drag_start", "drag_end", "hide", "show", "start", "stop"]
    both = []
    for transport in ("polling", "websocket"):
        run = sl.simulate(scenario.replace(transport=transport), keep=("events",), progress=False)
        events = run.frame("events")
        events = events[events["event"].isin(habits)]
        table = events.sort_values(["client", "t_s", "event"])[["client", "t_s", "event"]]
        both.append((table.reset_index(drop=True), run.frame("clients")[["start_s", "end_s"]]))
    assert len(both[0][0]) > 100
    for one, other in zip(*both, strict=True):
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.fixture(scope="module")
def board(pytestconfig):
    return sl.Scenario.load(pytestconfig.rootpath / "data/scenarios/matters.toml")


STALE = sl.Scenario(
    clients=300,
    ramp_s=31.0,
    horizon_s=1200.0,
    warm_up_s=60.0,
    cool_down_s=60.0,
    bin_s=60.0,
    updates={"rate_per_s": 0.5},
    network={"rtt_s": 1.0, "tls": False},
    server={"poll_s": 1e-6, "accept_s": 0.0},
)


@pytest.mark.parametrize("jitter_frac", [0.0, 0.5])
def test_polling_staleness_is_within_one_percent_of_theory(jitter_frac):
    scenario = STALE.replace({"polling.jitter_frac": jitter_frac})
    runs = sl.replicate(scenario, 10, seed=5, progress=False)
    if jitter_frac:
        expected = theory.staleness_jittered(30.0, jitter_frac, 1.0, 0.5)
    else:
        expected = theory.staleness_rearmed_timer(30.0, 1.0, 0.5)
    table = sl.metrics.summary(*runs)
    for name, exact in {
        "average_latency_s": expected.mean,
        "latency_p50_s": expected.quantile(0.5),
        "latency_p95_s": expected.quantile(0.95),
        "latency_p99_s": expected.quantile(0.99),
    }.items():
        mean, low, high = theory.mean_interval(table[name])
        print(f"{name}: {mean:.4f} [{low:.4f}, {high:.4f}] against {exact:.4f}")
        assert mean == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("workers", [1, 2])
def test_pollers_that_queue_are_a_machine_repairman_within_four_standard_errors(workers):
    scenario = sl.Scenario(
        clients=40,
        ramp_s=10.0,
        horizon_s=1500.0,
        warm_up_s=300.0,
        bin_s=10.0,
        updates={"rate_per_s": 0.01},
        polling={"interval_s": 10.0},
        network={"rtt_s": 0.0, "tls": False},
        server={"workers": workers, "service": "exponential", "poll_s": 0.3, "accept_s": 0.0},
    )
    expected = theory.machine_repairman(40, 10.0, 0.3, workers)
    table = sl.metrics.summary(*sl.replicate(scenario, 12, seed=2, progress=False))
    for name, exact in {
        "message_rate_per_s": expected.throughput_per_s,
        "utilisation": expected.utilisation,
    }.items():
        error = theory.standard_error(table[name])
        off = (table[name].mean() - exact) / error
        assert abs(off) < 4, f"{name}: {table[name].mean():.4f} against {exact:.4f}, {off:.1f} SE"
    # Little's law: clients = throughput * (think time + response)
    response = 40 / table["message_rate_per_s"] - 10.0
    error = theory.standard_error(response)
    assert abs(response.mean() - expected.mean_response_s) < 4 * error


def test_push_latency_is_a_fan_out_within_four_standard_errors():
    scenario = sl.Scenario(
        transport="websocket",
        clients=50,
        ramp_s=5.0,
        horizon_s=900.0,
        warm_up_s=30.0,
        updates={"rate_per_s": 5.0},
        heartbeat={"direction": "none"},
        network={"rtt_s": 0.02},
        server={"fan_out_s": 0.01, "send_s": 0.002},
    )
    expected = theory.fan_out(50, 0.002, 0.01, 5.0, down_s=0.01)
    table = sl.metrics.summary(*sl.replicate(scenario, 8, seed=4, progress=False))
    error = theory.standard_error(table["average_latency_s"])
    off = (table["average_latency_s"].mean() - expected.mean_latency_s) / error
    assert abs(off) < 4, f"{off:.1f} SE"
    assert table["utilisation"].mean() == pytest.approx(expected.utilisation, rel=0.03)


def test_request_rate_and_superseded_share_are_as_theory_says():
    table = sl.metrics.summary(*sl.replicate(STALE, 6, seed=9, progress=False))
    rate = theory.poll_request_rate_per_s(300, 30.0, 1.0)
    assert table["message_rate_per_s"].mean() == pytest.approx(rate, rel=0.005)
    share = table["superseded"] / table["delivered"]
    exact = theory.superseded_frac(0.5, 31.0)
    assert abs(share.mean() - exact) < max(4 * theory.standard_error(share), 0.01 * exact)


PUSHED = sl.Scenario(
    transport="websocket", clients=6, ramp_s=0.0, horizon_s=200.0, updates={"rate_per_s": 0.5}
)


def test_the_server_pings_once_per_interval_and_round_trip():
    run = sl.simulate(PUSHED, keep=("events",), progress=False)
    pings = run.frame("events").query("event == 'ping'").groupby("client").size()
    assert pings.tolist() == [6] * 6


def test_nothing_published_means_nothing_eligible():
    run = sl.simulate(PUSHED.replace({"updates.rate_per_s": 1e-9}), progress=False)
    assert run.ledger == (0, 0, 0, 0, 0)
    assert np.isnan(run.latency_quantiles(0.5))


def test_when_everything_costs_nothing_a_push_arrives_when_it_is_published():
    free = dict.fromkeys(
        [f"server.{n}_s" for n in ("accept", "handshake", "authenticate", "fan_out", "send")], 0.0
    )
    run = sl.simulate(PUSHED.replace({"network.rtt_s": 0.0, **free}), progress=False)
    assert run.ledger.delivered == run.ledger.eligible > 0
    assert run.frame("latency")["high_s"].max() == 0.0


def test_only_as_many_connections_open_as_the_cap_allows():
    run = sl.simulate(PUSHED.replace({"server.max_connections": 2}), progress=False)
    clients = run.frame("clients")
    assert (clients["connections"] > 0).sum() == 2
    assert (clients["errors"] > 5).sum() == 4
    assert run.ledger.pending > 0


def test_a_client_that_may_not_reconnect_loses_what_it_misses():
    capped = {"server.max_connections": 2, "reconnect.policy": "none"}
    lost = {"websocket.snapshot_on_open": False}
    run = sl.simulate(PUSHED.replace(capped | lost), progress=False)
    assert run.ledger.lost >= 4 * len(compile_workload(PUSHED, 1, 0).publish_s)


def test_a_full_backlog_delays_by_the_kernels_retries():
    slow = {"server.backlog": 1, "server.accept_s": 0.4, "network.tls": False}
    run = sl.simulate(PUSHED.replace(slow), progress=False)
    # one is being accepted and one waits; the others' SYNs go out again 1 s and 3 s later
    opened_s = run.frame("connections")["opened_s"].sort_values()
    assert np.floor(opened_s).tolist() == [0, 0, 1, 1, 3, 3]


def test_shed_polls_are_tried_again_after_one_two_and_four_seconds():
    scenario = sl.Scenario(
        clients=30,
        ramp_s=0.0,
        horizon_s=25.0,
        updates={"rate_per_s": 0.2},
        server={"poll_s": 0.5, "shed_wait_s": 0.4, "accept_s": 0.0},
        network={"tls": False},
    )
    run = sl.simulate(scenario, keep=("events",), progress=False)
    events = run.frame("events")
    failed = events[events["event"] == "failed"].groupby("client")["t_s"].apply(list)
    times = failed[failed.map(len) >= 3].iloc[0]
    assert np.diff(times[:3]) == pytest.approx([1.04, 2.04])
    assert run.frame("clients")["errors"].sum() == len(events[events["event"] == "failed"])


def test_ctrl_c_keeps_a_balanced_run_that_says_it_is_incomplete(monkeypatch):
    real = Simulation.push

    def interrupted(self, client, exchange, version, sent_s):
        if version == 50 and not self.is_interrupted:
            signal.raise_signal(signal.SIGINT)
        return real(self, client, exchange, version, sent_s)

    monkeypatch.setattr(Simulation, "push", interrupted)
    before = signal.getsignal(signal.SIGINT)
    run = sl.simulate(PUSHED, progress=False)
    assert signal.getsignal(signal.SIGINT) is before
    assert not run.is_complete
    fiftieth_s = compile_workload(PUSHED, 1, 0).publish_s[49]
    assert run.provenance["end_of_run_s"] == fiftieth_s
    assert run.ledger == (300, 294, 0, 6, 0)


def test_memory_and_unknown_tables_are_refused_before_the_run():
    with pytest.raises(sl.ScenarioError, match="must be empty for"):
        sl.simulate(PUSHED.replace(clients=1_000_000), keep=("deliveries",))
    with pytest.raises(sl.ScenarioError, match=r'keep=\("deliveries",\)'):
        sl.simulate(PUSHED, progress=False).frame("deliveries")
