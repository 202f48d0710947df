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
from simlib.core.protocol import SOCKET_TRANSPORTS, TRANSPORT_NAMES, Transport, is_stream
from simlib.core.record import Count
from simlib.core.wire import Message
from simlib.engines import reference
from simlib.engines.reference import Simulation
from simlib.scenario import compile_workload, new_record
from tests.quick import ENGINE
from tests.strategies import scenarios

TABLES = ("timeline", "clients", "latency", "connections", "deliveries", "events")


@settings(max_examples=100)
@given(scenario=scenarios())
def test_every_run_balances_and_its_tables_agree(scenario):
    run = sl.simulate(
        scenario, seed=3, keep=("deliveries", "events"), engine="simpy", progress=False
    )
    ledger = run.ledger
    assert ledger.delivered + ledger.lost + ledger.pending == ledger.eligible

    timeline, clients = run.frame("timeline"), run.frame("clients")
    for name in (what.name.lower() for what in Count if what < Count.SAFETY_POLLS):
        assert (clients[name] >= 0).all()
        assert timeline[name].sum() == clients[name].sum()
    assert timeline["safety_polls"].between(0, timeline["polls"]).all()
    assert timeline["safety_errors"].between(0, timeline["errors"]).all()
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

    pushes, rule, is_told = scenario.websocket, scenario.reconnect, scenario.transport == "notify"
    gives_up = rule.attempts or rule.give_up_s or pushes.token_resent
    resume_outcome = rule.policy != "none" and rule.from_start and not gives_up
    whole = pushes.resync == "snapshot" or pushes.or_snapshot or pushes.push == "snapshot"
    whole = whole and scenario.server.slow_consumers != "drop_oldest"
    if scenario.transport == "polling" or ((whole or is_told) and resume_outcome):
        assert ledger.lost == 0
    for _, mine in deliveries.groupby("client"):
        # A safety poll brings what is older than what came before.
        assert mine["version"].is_monotonic_increasing or pushes.safety_poll_s is not None
        assert mine["applied_s"].is_monotonic_increasing
    half_s = clients["rtt_s"].to_numpy()[deliveries["client"].astype(int)] / 2
    assert (deliveries["latency_s"] >= half_s - 1e-9).all()
    for _, mine in connections.groupby("client"):
        assert (mine["opened_s"].iloc[1:].to_numpy() >= mine["closed_s"].iloc[:-1]).all()
    assert (clients["reconnects"] == (clients["connections"] - 1).clip(lower=0)).all()
    assert len(connections) == clients["connections"].sum()
    # Whoever is cut counts until it hears of it, and polls are no part of the server's limit.
    if scenario.transport in SOCKET_TRANSPORTS and not scenario.faults and not scenario.fallback:
        most = scenario.server.nodes * scenario.server.max_connections
        assert (timeline["connection_count"] <= most + 1e-9).all()


FINGERPRINT = """
import sys
import pandas as pd
import simlib as sl

board = sl.Scenario.load(sys.argv[1]).replace(
    clients=20, sessions={"arrivals_per_s": 0.1, "length_s": 120.0}
)
for transport in sys.argv[2].split():
    scenario = board.replace(transport=transport)
    run = sl.simulate(
        scenario, seed=11, keep=("deliveries", "events"), engine="simpy", progress=False
    )
    for name in sys.argv[3:]:
        print(transport, name, pd.util.hash_pandas_object(run.frame(name)).sum())
"""


def test_the_same_seed_gives_identical_tables_in_two_processes(pytestconfig):
    path = pytestconfig.rootpath / "data/scenarios/matters.toml"
    command = [sys.executable, "-c", FINGERPRINT, str(path), " ".join(TRANSPORT_NAMES), *TABLES]
    one, two = (
        subprocess.run(
            command, capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout.splitlines()
        for seed in ("1", "2")
    )
    assert one == two
    assert len(one) == len(TRANSPORT_NAMES) * len(TABLES)


def test_all_transports_share_changes_sessions_and_drags(board):
    scenario = board.replace(
        sessions={"arrivals_per_s": 0.1, "length_s": 100.0},
        clients=20,
        hidden={"every_s": 90.0, "length_s": 10.0},
    )
    habits = ["drag_start", "drag_end", "hide", "show", "start", "stop"]
    runs = []
    for transport in TRANSPORT_NAMES:
        run = sl.simulate(
            scenario.replace(transport=transport), keep=("events",), engine="simpy", progress=False
        )
        events = run.frame("events")
        events = events[events["event"].isin(habits)]
        table = events.sort_values(["client", "t_s", "event"])[["client", "t_s", "event"]]
        runs.append((table.reset_index(drop=True), run.frame("clients")[["start_s", "end_s"]]))
    first, *others = runs
    assert len(first[0]) > 100
    for other in others:
        for one, same in zip(first, other, strict=True):
            pd.testing.assert_frame_equal(one, same, check_exact=True)


@pytest.fixture(scope="module")
def board(pytestconfig):
    return sl.Scenario.load(pytestconfig.rootpath / "data/scenarios/matters.toml")


# One percent is more than four of the standard errors that ten replications of 100 clients have.
STALE = sl.Scenario(
    clients=100,
    ramp_s=31.0,
    horizon_s=1200.0,
    warm_up_s=60.0,
    cool_down_s=60.0,
    bin_s=60.0,
    updates={"rate_per_s": 0.5},
    network={"rtt_s": 1.0, "tls": False},
    server={"poll_s": 1e-6, "accept_s": 0.0},
)


def assert_within_one_percent(runs, expected, *, levels):
    """The mean latency and its quantiles are those of a distribution that theory expects."""
    exact_s = {f"latency_p{level * 100:g}_s": expected.quantile(level) for level in levels}
    table = sl.metrics.table(*runs)
    for name, exact in {"average_latency_s": expected.mean, **exact_s}.items():
        mean, low, high = theory.mean_interval(table[name])
        print(f"{name}: {mean:.4f} [{low:.4f}, {high:.4f}] against {exact:.4f}")
        assert mean == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("jitter_frac", [0.0, 0.5])
def test_polling_staleness_is_within_one_percent_of_theory(jitter_frac):
    scenario = STALE.replace({"polling.jitter_frac": jitter_frac})
    runs = sl.replicate(scenario, 10, seed=5, engine=ENGINE, progress=False)
    if jitter_frac:
        expected = theory.staleness_jittered(30.0, jitter_frac, 1.0, 0.5)
    else:
        expected = theory.staleness_rearmed_timer(30.0, 1.0, 0.5)
    assert_within_one_percent(runs, expected, levels=(0.5, 0.95, 0.99))


@pytest.mark.parametrize(("interval_s", "period_s"), [(30.0, 30.0), (0.75, 1.5)])
def test_polling_at_a_fixed_rate_is_within_one_percent_of_theory(interval_s, period_s):
    """A fetch takes a second: the second timer skips every other tick."""
    timer = {"polling.timer": "fixed_rate", "polling.interval_s": interval_s}
    scenario = STALE.replace({**timer, "horizon_s": min(STALE.horizon_s, 400 * interval_s)})
    runs = sl.replicate(scenario, 10, seed=5, engine=ENGINE, progress=False)
    expected = theory.staleness_fixed_timer(interval_s, down_s=0.5, fetch_s=1.0)
    assert expected.mean == period_s / 2 + 0.5
    assert_within_one_percent(runs, expected, levels=(0.5, 0.95))


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
    table = sl.metrics.table(*sl.replicate(scenario, 12, seed=2, engine=ENGINE, progress=False))
    for name, exact in {
        "message_rate_per_s": expected.throughput_per_s,
        "utilisation": expected.utilisation,
        "poll_response_s": expected.mean_response_s,
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
        horizon_s=450.0,
        warm_up_s=30.0,
        updates={"rate_per_s": 5.0},
        heartbeat={"direction": "none"},
        network={"rtt_s": 0.02},
        server={"fan_out_s": 0.01, "send_s": 0.002},
    )
    expected = theory.fan_out(50, 0.002, 0.01, 5.0, down_s=0.01)
    table = sl.metrics.table(*sl.replicate(scenario, 8, seed=4, engine=ENGINE, progress=False))
    error = theory.standard_error(table["average_latency_s"])
    off = (table["average_latency_s"].mean() - expected.mean_latency_s) / error
    assert abs(off) < 4, f"{off:.1f} SE"
    # 17,000 changes: their number, and so the work, has a deviation of 0.8 percent.
    assert table["utilisation"].mean() == pytest.approx(expected.utilisation, rel=0.03)


def test_request_rate_and_superseded_share_are_as_theory_says():
    table = sl.metrics.table(*sl.replicate(STALE, 6, seed=9, engine=ENGINE, progress=False))
    rate = theory.poll_request_rate_per_s(100, 30.0, 1.0)
    assert table["message_rate_per_s"].mean() == pytest.approx(rate, rel=0.005)
    share = table["superseded"] / table["delivered"]
    exact = theory.superseded_frac(0.5, 31.0)
    assert abs(share.mean() - exact) < max(4 * theory.standard_error(share), 0.01 * exact)


PUSHED = sl.Scenario(
    transport="websocket", clients=6, ramp_s=0.0, horizon_s=200.0, updates={"rate_per_s": 0.5}
)


def test_the_server_pings_once_per_interval_and_round_trip():
    run = sl.simulate(PUSHED, keep=("events",), engine="simpy", progress=False)
    pings = run.frame("events").query("event == 'ping'").groupby("client").size()
    assert pings.tolist() == [6] * 6


def test_nothing_published_means_nothing_eligible():
    run = sl.simulate(PUSHED.replace({"updates.rate_per_s": 1e-9}), engine="simpy", progress=False)
    assert run.ledger == (0, 0, 0, 0, 0)
    assert np.isnan(run.latency_quantiles(0.5))


def test_when_everything_costs_nothing_a_push_arrives_when_it_is_published():
    free = dict.fromkeys(
        [f"server.{n}_s" for n in ("accept", "handshake", "authenticate", "fan_out", "send")], 0.0
    )
    run = sl.simulate(
        PUSHED.replace({"network.rtt_s": 0.0, **free}), engine="simpy", progress=False
    )
    assert run.ledger.delivered == run.ledger.eligible > 0
    assert run.frame("latency")["high_s"].max() == 0.0


def test_only_as_many_connections_open_as_the_cap_allows():
    run = sl.simulate(PUSHED.replace({"server.max_connections": 2}), engine="simpy", progress=False)
    clients = run.frame("clients")
    assert (clients["connections"] > 0).sum() == 2
    assert (clients["errors"] > 5).sum() == 4
    assert run.ledger.pending > 0


def test_a_client_that_may_not_reconnect_loses_what_it_misses():
    capped = {"server.max_connections": 2, "reconnect.policy": "none"}
    lost = {"websocket.resync": "none"}
    run = sl.simulate(PUSHED.replace(capped | lost), engine="simpy", progress=False)
    assert run.ledger.lost >= 4 * len(compile_workload(PUSHED, 1, 0).publish_s)


def test_a_full_backlog_delays_by_the_kernels_retries():
    slow = {"server.backlog": 1, "server.accept_s": 0.4, "network.tls": False}
    run = sl.simulate(PUSHED.replace(slow), engine="simpy", progress=False)
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
    run = sl.simulate(scenario, keep=("events",), engine="simpy", progress=False)
    events = run.frame("events")
    failed = events[events["event"] == "failed"].groupby("client")["t_s"].apply(list)
    times = failed[failed.map(len) >= 3].iloc[0]
    assert np.diff(times[:3]) == pytest.approx([1.04, 2.04])
    assert run.frame("clients")["errors"].sum() == len(events[events["event"] == "failed"])


def test_ctrl_c_keeps_a_balanced_run_that_says_it_is_incomplete(monkeypatch):
    real = Simulation.push

    def interrupted(self, client, exchange, version, *sent):
        if version == 50 and not self.is_interrupted:
            signal.raise_signal(signal.SIGINT)
        return real(self, client, exchange, version, *sent)

    monkeypatch.setattr(Simulation, "push", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(sl.Interrupted, match=r"the run came to .* of 200 s") as stopped:
        sl.simulate(PUSHED, engine="simpy", progress=False)
    assert signal.getsignal(signal.SIGINT) is before
    run = stopped.value.result
    assert not run.is_complete
    assert [warning.kind for warning in run.warnings] == ["incomplete"]
    fiftieth_s = compile_workload(PUSHED, 1, 0).publish_s[49]
    assert run.provenance["end_of_run_s"] == fiftieth_s
    assert run.ledger == (300, 294, 0, 6, 0)


def test_memory_and_unknown_tables_are_refused_before_the_run():
    with pytest.raises(sl.ScenarioError, match="must be empty for"):
        sl.simulate(PUSHED.replace(clients=1_000_000), keep=("deliveries",), engine="simpy")
    with pytest.raises(sl.ScenarioError, match=r'keep=\("deliveries",\)'):
        sl.simulate(PUSHED, engine="simpy", progress=False).frame("deliveries")


# --- who is still there, and who is not ----------------------------------------------------------

STILL = {"heartbeat.direction": "none", "network.tls": False, "server.accept_s": 0.0}


def finished(scenario):
    """A simulation that has run to its horizon: its server's side can be looked into."""
    workload = compile_workload(scenario, 1, 0)
    simulation = Simulation(workload, new_record(scenario, workload))
    simulation.run_until(scenario.horizon_s)
    return simulation


SHORT = {"arrivals_per_s": 0.05, "length_s": 8.0, "length": "constant"}


def test_the_server_forgets_whoever_has_left():
    scenario = PUSHED.replace(STILL | {"sessions": SHORT | {"arrivals_per_s": 1e-9}})
    simulation = finished(scenario)
    assert not simulation.subscribers
    assert not sum(server.state.sockets for server in simulation.servers)
    timeline = sl.simulate(scenario, engine="simpy", progress=False).frame("timeline")
    assert (timeline["utilisation"][timeline["t_s"] > 9] == 0).all()


def test_a_socket_that_has_closed_leaves_its_place_under_the_cap():
    scenario = PUSHED.replace(
        {**STILL, "sessions": SHORT, "clients": 1, "server.max_connections": 4, "horizon_s": 400.0}
    )
    run = sl.simulate(scenario, engine="simpy", progress=False)
    clients = run.frame("clients")
    assert len(clients) > 10
    assert (clients["errors"] == 0).all()
    assert (clients["connections"] == 1).all()
    causes = run.frame("connections").sort_values("opened_s")["cause"]
    assert (causes.iloc[:-1] == "session_ended").all()


@pytest.mark.parametrize("slow", ["handshake_s", "authenticate_s"])
def test_an_attempt_broken_off_while_the_server_works_leaves_nothing_behind(slow):
    scenario = PUSHED.replace(
        {
            **STILL,
            "websocket.open_timeout_s": 0.2,
            f"server.{slow}": 0.5,
            "reconnect.policy": "none",
            "server.workers": 6,
        }
    )
    simulation = finished(scenario)
    assert not sum(server.state.sockets for server in simulation.servers)
    assert not simulation.subscribers
    run = sl.simulate(scenario, engine="simpy", progress=False)
    assert run.frame("clients")["errors"].tolist() == [1] * 6
    assert run.ledger.lost == run.ledger.eligible > 0


def test_who_leaves_before_the_connection_stands_sends_nothing_and_is_no_error():
    sessions = SHORT | {"arrivals_per_s": 1e-9, "length_s": 0.5}
    run = sl.simulate(
        PUSHED.replace(STILL | {"sessions": sessions, "network.rtt_s": 2.0}), progress=False
    )
    clients = run.frame("clients")
    for name in ("up_bytes", "down_bytes", "errors", "connections"):
        assert (clients[name] == 0).all(), name
    assert (clients["attempts"] == 1).all()


def test_every_refused_attempt_is_one_error():
    run = sl.simulate(
        PUSHED.replace(STILL | {"server.max_connections": 2}), engine="simpy", progress=False
    )
    clients = run.frame("clients")
    under_way = clients["attempts"] - clients["connections"] - clients["errors"]
    assert under_way.between(0, 1).all()
    assert clients["errors"].sum() > 20


# --- polls and their connections -----------------------------------------------------------------

POLLED = sl.Scenario(
    clients=3,
    ramp_s=0.0,
    horizon_s=100.0,
    updates={"rate_per_s": 0.2},
    polling={"interval_s": 10.0},
    network={"rtt_s": 0.5, "tls": False},
    server={"workers": 3, "accept_s": 0.0, "poll_s": 0.25},
)


def test_a_keep_alive_longer_than_the_interval_keeps_one_connection():
    run = sl.simulate(POLLED.replace({"server.keep_alive_s": 12.0}), engine="simpy", progress=False)
    assert run.frame("clients")["connections"].tolist() == [1] * 3
    assert run.frame("connections")["cause"].tolist() == ["open_at_end"] * 3


def test_a_shorter_keep_alive_closes_after_each_poll_and_costs_a_round_trip():
    run = sl.simulate(POLLED.replace({"server.keep_alive_s": 4.0}), engine="simpy", progress=False)
    table = run.frame("connections").query("client == 0 and cause == 'idle'")
    # TCP for 0.5 s, half a trip, 0.25 s of work: then the server waits for 4 s in vain
    assert (table["closed_s"] - table["opened_s"]).tolist() == pytest.approx([4.5] * len(table))
    assert np.diff(table["opened_s"]) == pytest.approx(10.0 + 0.5 + 0.5 + 0.25)
    assert len(table) >= 8


def test_a_change_in_the_very_moment_of_the_answer_is_in_the_answer(tmp_path):
    (tmp_path / "changes.csv").write_text("publish_s\n0.5\n3\n", encoding="utf-8")
    scenario = POLLED.replace(
        {
            "updates": {"kind": "trace", "trace": str(tmp_path / "changes.csv")},
            "network.rtt_s": 0.0,
            "server.poll_s": 0.5,
        }
    )
    table = sl.simulate(scenario, keep=("deliveries",), engine="simpy", progress=False).frame(
        "deliveries"
    )
    assert table["applied_s"].tolist() == [0.5] * 3 + [11.0] * 3


@pytest.mark.parametrize(("shed_wait_s", "served"), [(0.7, 2), (1.2, 3), (None, 5)])
def test_a_poll_is_shed_when_it_would_wait_longer_than_allowed(shed_wait_s, served):
    shed = {"clients": 5, "server.workers": 1, "server.poll_s": 0.5, "polling.retries": 0}
    scenario = POLLED.replace({**shed, "server.shed_wait_s": shed_wait_s, "horizon_s": 9.0})
    run = sl.simulate(scenario, engine="simpy", progress=False)
    assert run.frame("clients")["errors"].sum() == 5 - served


def test_an_upgrade_is_shed_too_and_tried_again_until_all_are_in():
    shed = {"server.handshake_s": 0.5, "server.shed_wait_s": 0.7, "reconnect.policy": "fixed"}
    run = sl.simulate(
        PUSHED.replace(STILL | shed), keep=("events",), engine="simpy", progress=False
    )
    clients = run.frame("clients")
    assert (clients["connections"] == 1).all()
    first = run.frame("events").query("event in ['upgraded', 'closed']").groupby("client").first()
    assert (first["event"] == "upgraded").sum() == 2
    assert (clients["errors"] > 0).sum() == 4


@pytest.mark.parametrize(
    ("transport", "direction"),
    [
        (transport, direction)
        for transport in TRANSPORT_NAMES
        for direction in ("server", "client")
        if direction == "server" or not is_stream(Transport[transport.upper()])
    ],
)
def test_no_draw_of_a_service_time_is_used_twice(monkeypatch, transport, direction):
    addresses = []
    real = reference.service_time_s

    def noted(rules, mean_s, seed, replication, client, stream, k):
        addresses.append((client, stream, k))
        return real(rules, mean_s, seed, replication, client, stream, k)

    monkeypatch.setattr(reference, "service_time_s", noted)
    busy = {
        "transport": transport,
        "heartbeat.direction": direction,
        "heartbeat.interval_s": 2.0,
        "heartbeat.timeout_s": 0.3,  # now and then a late ping or pong breaks a connection
        "polling.interval_s": 3.0,
        "server.service": "exponential",
        "server.handshake_s": 0.2,
        "server.heartbeat_s": 0.1,
        "server.poll_s": 0.2,
    }
    run = sl.simulate(PUSHED.replace(busy), engine="simpy", progress=False)
    if transport == "websocket":
        assert run.frame("clients")["reconnects"].sum() > 5
    assert len(addresses) > 300
    assert len(set(addresses)) == len(addresses)


def test_the_last_bin_of_a_timeline_is_as_wide_as_what_is_left_of_the_run():
    widths = sl.simulate(POLLED.replace(bin_s=30.0), engine="simpy", progress=False).frame(
        "timeline"
    )["width_s"]
    assert widths.tolist() == [30.0, 30.0, 30.0, 10.0]


@pytest.mark.parametrize(
    ("direction", "ping", "pong"),
    [
        ("server", Message.PING_DOWN, Message.PONG_UP),
        ("client", Message.PING_UP, Message.PONG_DOWN),
    ],
)
def test_each_heartbeat_costs_the_bytes_of_a_ping_and_a_pong(direction, ping, pong):
    quiet = PUSHED.replace({"updates.rate_per_s": 1e-9})
    beating = sl.simulate(
        quiet.replace({"heartbeat.direction": direction}), engine="simpy", progress=False
    )
    silent = sl.simulate(
        quiet.replace({"heartbeat.direction": "none"}), engine="simpy", progress=False
    )
    names = ["up_bytes", "down_bytes"]
    more = beating.frame("clients")[names] - silent.frame("clients")[names]
    sizes = compile_workload(quiet, 1, 0).sizes
    assert more.to_numpy().tolist() == [(6 * (sizes[ping] + sizes[pong])[2:]).tolist()] * 6
