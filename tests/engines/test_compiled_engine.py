"""The compiled engine: the reference engine's tables, to the last bit."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import combinations_with_replacement
from types import SimpleNamespace

import numba
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.core.protocol import SOCKET_TRANSPORTS, TRANSPORT_NAMES
from simlib.core.record import Count
from simlib.engines import reference
from simlib.engines.compiled import simulation as compiled
from simlib.errors import ScenarioError
from simlib.scenario import compile_workload, new_record
from simlib.scenario.presets import LIBRARIES, library
from tests.strategies import scenarios

ALWAYS = ("timeline", "clients", "latency", "waits", "connections")
KEPT = ("deliveries", "events")
INTERPRETED = bool(numba.config.DISABLE_JIT)
EXAMPLES = 25 if INTERPRETED else 60


def assert_equal_tables(one, other, keep=()):
    for name in (*ALWAYS, *keep):
        if columns := unlike(one.columns(name), other.columns(name)):
            pd.testing.assert_frame_equal(one.frame(name), other.frame(name), check_exact=True)
            raise AssertionError(f"{name}: {columns} differ in their last bits")


def unlike(one, other):
    """Name the columns of two tables that are not the same bytes.

    Examples
    --------
    >>> import numpy as np
    >>> table = {"t_s": np.array([0.0, 1.0]), "cause": np.array(["cut", "cut"], object)}
    >>> unlike(table, table), unlike(table, {**table, "t_s": np.array([-0.0, 1.0])})
    ([], ['t_s'])
    """
    if list(one) != list(other):
        return sorted(one.keys() ^ other.keys()) or list(other)
    return [name for name in one if not _are_alike(one[name], other[name])]


def _are_alike(one, other):
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return (
        one.tolist() == other.tolist() if one.dtype == object else one.tobytes() == other.tobytes()
    )


def assert_equal_runs(scenario, *, seed=3, keep=()):
    one, other = (
        sl.simulate(scenario, seed=seed, keep=keep, engine=engine, progress=False)
        for engine in ("simpy", "compiled")
    )
    assert_equal_tables(one, other, keep)
    return other


@settings(max_examples=EXAMPLES)
@given(scenario=scenarios(), seed=st.integers(0, 2**64 - 1))
def test_engines_agree_on_scenarios_of_every_kind(scenario, seed):
    assert_equal_runs(scenario, seed=seed)


@settings(max_examples=EXAMPLES)
@given(scenario=scenarios())
def test_engines_agree_on_each_delivery_and_event(scenario):
    assert_equal_runs(scenario, keep=KEPT)


LATTICE = {
    "ramp_s": 0.0,
    "network.rtt_s": 1.0,
    "network.rtt_spread": 0.0,
    "network.rtt_quantiles": None,
    "server.service": "constant",
    "server.service_cv": None,
    "polling.jitter_frac": 0.0,
}


@settings(max_examples=EXAMPLES)
@given(scenario=scenarios(), interval_s=st.sampled_from([0.5, 1.0, 2.0]), zero=st.booleans())
def test_engines_agree_where_everything_happens_at_once(scenario, interval_s, zero):
    services = ("accept_s", "poll_s", "handshake_s", "authenticate_s", "fan_out_s", "send_s")
    services += ("check_s", "cached_s")
    ties = {**LATTICE, "polling.interval_s": interval_s, "heartbeat.interval_s": interval_s}
    ties |= {f"server.{name}": 0.0 if zero else 0.5 for name in services}
    burst = {"kind": "bursts", "rate_per_s": 0.1, "burst_size": 4, "burst_gap_s": 0.0}
    assert_equal_runs(scenario.replace({**ties, "updates": burst}))


def test_engines_agree_on_a_socket_whose_client_polls_by_the_time_its_upgrade_is_served():
    at_once = dict.fromkeys(("accept_s", "poll_s", "handshake_s", "authenticate_s"), 0.5)
    board = sl.Scenario(
        updates={"rate_per_s": 0.0},
        transport="websocket",
        clients=2,
        ramp_s=0.0,
        horizon_s=20.0,
        websocket={"upgrade_timeout_s": 1.0},
        reconnect={"policy": "none"},
        fallback={},
        network={"rtt_s": 1.0, "tls": False},
        server={**at_once, "max_connections": 1, "nodes": 3},
    )
    assert_equal_runs(board.replace(LATTICE))


@pytest.mark.parametrize("name", LIBRARIES)
def test_engines_agree_on_every_client_library(name):
    board = sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.1},
        clients=20 if INTERPRETED else 200,
        horizon_s=200.0,
        server={"max_connections": 10 if INTERPRETED else 100},
        sessions={"arrivals_per_s": 0.2, "length_s": 60.0},
    )
    run = assert_equal_runs(board.replace(library(name)))
    assert run.frame("clients")["errors"].sum() > 0


FAULTS = {
    "restart": {"length_s": 5.0},
    "reset": {"share": 0.7},
    "drain": {"length_s": 10.0, "batches": 4},
    "lifetime": {"length_s": 25.0, "share": 0.7, "age_s": 4.0},
    "rolling_deploy": {"length_s": 5.0, "every_s": 5.0},
    "scale_out": {},
    "path_loss": {"length_s": 10.0, "share": 0.7},
    "block_upgrades": {"length_s": 10.0, "share": 0.7},
    "latency": {"length_s": 10.0, "share": 0.7, "added_s": 1.0, "jitter_s": 0.5},
    "bandwidth": {"length_s": 20.0, "share": 0.7, "bytes_per_s": 300.0},
}
PAIRS = [pair for pair in combinations_with_replacement(FAULTS, 2) if pair != ("scale_out",) * 2]
BOUNDED = ("block", "close", "drop_oldest")


def board_of(pair, transport, **more):
    """A pair of faults on a lattice of half seconds, so that everything ties with everything."""
    one, other = ({"kind": kind, **FAULTS[kind], **more.get(kind, {})} for kind in pair)
    apart = set(pair) <= {"restart", "rolling_deploy"}
    place = sorted(FAULTS).index(pair[0]) + sorted(FAULTS).index(pair[1])
    policy = ("unbounded", "coalesce", *BOUNDED)[place % 5]
    return sl.Scenario(
        transport=transport,
        updates={"kind": "bursts", "rate_per_s": 0.3, "burst_size": 4, "burst_gap_s": 0.5},
        clients=12,
        ramp_s=0.0,
        horizon_s=60.0,
        polling={"interval_s": 2.0, "retry_base_s": 0.5},
        websocket={
            "resync": ("none", "snapshot")[place % 2],
            "safety_poll_s": (None, 5.0)[place % 3 == 0],
        },
        heartbeat={"interval_s": 2.5, "timeout_s": 2.5},
        reconnect={"policy": "fixed", "base_s": 0.5, "cap_s": 0.5},
        fallback={"after_failures": 4, "return_s": 8.0},
        network={"rtt_s": 1.0, "tls": False},
        server={
            **dict.fromkeys(("accept_s", "poll_s", "handshake_s", "authenticate_s"), 0.5),
            "workers": 8,
            "nodes": 2,
            "socket_bytes": 500,
            "slow_consumers": policy,
            "buffer_bytes": 6000 if policy in BOUNDED else None,
            "admit_per_s": (None, 4.0)[place % 2],
        },
        faults=[{**one, "start_s": 10.0}, {**other, "start_s": 30.0 if apart else 10.0}],
    )


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_engines_agree_on_every_pair_of_faults(pair, transport):
    board = board_of(pair, transport)
    for seed in range(1 if INTERPRETED else 2):
        run = assert_equal_runs(board, seed=seed, keep=KEPT if seed == 0 else ())
    assert run.ledger.delivered > 0


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if kind != "scale_out"])
def test_engines_agree_on_every_fault_that_repeats(kind):
    for number, transport in enumerate(TRANSPORT_NAMES):
        board = board_of((kind,) * 2, transport)
        fault = board.faults[0].model_copy(update={"start_s": 3.0, "repeat_s": 25.0 + 4.0 / 3.0})
        assert_equal_runs(board.replace(faults=[fault.model_dump(exclude_none=True)]), seed=number)


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
@pytest.mark.parametrize(("nodes", "surge"), [(1, 1), (2, 1), (3, 2)])
def test_engines_agree_on_a_deploy_with_surge(nodes, surge, transport):
    board = board_of(("path_loss", "rolling_deploy"), transport, rolling_deploy={"surge": surge})
    run = assert_equal_runs(board.replace({"server.nodes": nodes}), keep=KEPT)
    assert run.ledger.delivered > 0


@pytest.mark.parametrize("name", LIBRARIES)
def test_engines_agree_on_every_client_library_under_faults(name):
    faults = [
        {"kind": "block_upgrades", "start_s": 5.0, "length_s": 8.3, "share": 0.3},
        {"kind": "path_loss", "start_s": 40.0, "length_s": 21.7, "share": 0.4},
        {"kind": "restart", "start_s": 110.0, "length_s": 6.1},
        {
            "kind": "block_upgrades",
            "start_s": 112.0,
            "length_s": 31.0,
            "share": 0.4,
            "answered": False,
        },
        {"kind": "reset", "start_s": 160.0, "share": 0.5},
    ]
    board = sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.2},
        clients=16 if INTERPRETED else 80,
        ramp_s=11.3,
        horizon_s=300.0,
        network={"rtt_spread": 0.4},
        hidden={"every_s": 17.0, "length_s": 23.0},
        timer_throttling=True,
        server={"authenticate_s": 0.013, "nodes": 2},
        faults=faults,
    )
    assert_equal_runs(board.replace(library(name)), keep=KEPT)
    assert_equal_runs(board.replace({**library(name), "timer_throttling": False}))


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize(("authenticate_s", "gets_in"), [(0.9, True), (1.5, False)])
def test_a_session_that_takes_longer_than_a_second_never_begins_for_python_socketio(
    authenticate_s, gets_in, engine
):
    board = sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.2},
        clients=10,
        horizon_s=200.0,
        server={"authenticate_s": authenticate_s, "workers": 10},
    )
    changes = {**library("python-socketio"), "reconnect.from_start": True}
    run = sl.simulate(board.replace(changes), engine=engine, progress=False)
    assert (len(run.frame("connections")) == 10) == gets_in
    attempts = run.frame("clients")["attempts"].sum()
    assert attempts == 10 if gets_in else attempts > 200
    assert len(run.frame("connections")) in (0, 10)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("name", ["websockets", "socket.io-client"])
def test_a_proxys_403_strands_the_clients_of_websockets_and_a_servers_503_does_not(name, engine):
    board = sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.2},
        clients=10,
        horizon_s=100.0,
        faults=[{"kind": "block_upgrades", "start_s": 0.0, "length_s": 50.0}],
    )
    full = board.replace({"faults": [], "server.max_connections": 4})
    blocked, shed = (
        sl.simulate(each.replace(library(name)), engine=engine, progress=False)
        for each in (board, full)
    )
    attempts = blocked.frame("clients")["attempts"]
    assert (attempts == 1).all() if name == "websockets" else (attempts > 5).all()
    assert len(blocked.frame("connections")) == (0 if name == "websockets" else 10)
    assert (shed.frame("clients")["attempts"] > 3).sum() == 6


BUSY = sl.Scenario(
    transport="websocket",
    clients=20,
    ramp_s=7.3,
    horizon_s=200.0,
    updates={"kind": "bursts", "rate_per_s": 0.011, "burst_size": 6, "burst_gap_s": 0.0},
    network={"rtt_spread": 0.4},
    server={"send_s": 0.5},  # a broadcast takes 10 s, and a ping waits for all six
)


@pytest.mark.parametrize("name", ["signalr", "centrifuge", "python-socketio", "socket.io-client"])
def test_no_time_out_behind_a_long_broadcast_is_false_where_any_message_counts(name):
    board = BUSY.replace(library(name)).replace({"heartbeat.interval_s": 15.0})
    board = board.replace({"heartbeat.timeout_s": 15.0})
    counts = board.heartbeat.any_message
    for any_message in (False, True):
        varied = board.replace({"heartbeat.any_message": any_message})
        assert_equal_runs(varied, keep=KEPT)
        run = assert_equal_runs(varied)
        time_outs = (run.frame("connections")["cause"] == "timed_out").sum()
        assert (time_outs == 0) == any_message
    assert counts == (name != "socket.io-client")


@pytest.mark.parametrize("direction", ["server", "client"])
@pytest.mark.parametrize("transport", ["websocket", "notify"])
def test_engines_agree_where_any_message_is_a_sign_of_life(transport, direction):
    cuts = [
        {"kind": "reset", "start_s": 60.0, "share": 0.5},
        {"kind": "path_loss", "start_s": 90.0, "length_s": 40.0, "share": 0.5},
        {"kind": "restart", "start_s": 150.0, "length_s": 5.0},
    ]
    heartbeat = {"direction": direction, "interval_s": 4.7, "timeout_s": 3.3, "any_message": True}
    board = BUSY.replace(
        {
            "transport": transport,
            "heartbeat": heartbeat,
            "faults": cuts,
            "updates.rate_per_s": 0.1,
            "updates.burst_size": 3,
            "updates.burst_gap_s": 1.3,
            "server.send_s": 0.02,
        }
    )
    for change in ({}, {"websocket.safety_poll_s": 6.1}, {"network.idle_s": 9.0}):
        for seed in (1, 2):
            assert_equal_runs(board.replace(change), seed=seed)
            assert_equal_runs(board.replace(change), seed=seed, keep=KEPT)


@pytest.mark.parametrize("other", FAULTS)
def test_engines_agree_on_upgrades_that_are_never_answered(other):
    silent = {"block_upgrades": {"answered": False}}
    board = board_of(("block_upgrades", other), "websocket", **silent)
    assert_equal_runs(board.replace({"websocket.open_timeout_s": 3.5}), keep=KEPT)


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_engines_agree_on_the_node_of_each_connection(transport):
    board = sl.Scenario(
        transport=transport,
        updates={"rate_per_s": 0.1},
        clients=20 if INTERPRETED else 200,
        horizon_s=200.0,
        server={"nodes": 3},
        reconnect={"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
        faults=[{"kind": "rolling_deploy", "start_s": 40.0, "length_s": 20.0, "every_s": 40.0}],
    )
    run = assert_equal_runs(board)
    assert set(run.frame("connections")["node"]) == {0, 1, 2}
    by_bin = run.frame("nodes").groupby("t_s")["connection_count"].sum()
    assert by_bin.to_numpy() == pytest.approx(run.frame("timeline")["connection_count"].to_numpy())
    if transport in SOCKET_TRANSPORTS:
        table = sl.metrics.by_node(run)
        assert table["end_connection_count"].sum() == board.clients
        assert table["end_connection_count"].iloc[-1] == 0  # restarted last, and nobody came back


@pytest.mark.parametrize("shed_wait_s", [None, 0.05, 0.5])
@pytest.mark.parametrize("etag", ["off", "content"])
def test_engines_agree_on_a_crowd_whose_polls_go_round_by_themselves(shed_wait_s, etag):
    # One round-trip time, no habits, no jitter: the tight loops. The server is nearly full, and
    # sheds load now and then; sessions come and go, and connections idle out.
    crowd = sl.Scenario(
        clients=60 if INTERPRETED else 900,
        horizon_s=60.0,
        ramp_s=2.0,
        updates={"rate_per_s": 2.0},
        polling={"interval_s": 3.0, "retry_base_s": 0.5, "etag": etag},
        network={"rtt_s": 0.5},
        server={"poll_s": 50e-3 if INTERPRETED else 3.3e-3, "shed_wait_s": shed_wait_s},
        sessions={"arrivals_per_s": 1.0, "length_s": 30.0},
    )
    run = assert_equal_runs(crowd)
    shed = run.frame("clients")["errors"].sum() > 0
    assert shed == (shed_wait_s is not None)


@pytest.mark.parametrize("stop_s", [7.3, 31.0, 31.9, 44.44])
def test_a_polling_run_that_is_stopped_has_worked_as_much_as_the_reference(stop_s):
    board = sl.Scenario(
        updates={"rate_per_s": 0.1},
        clients=300,
        horizon_s=600.0,
        polling={"interval_s": 10.0},
        network={"rtt_s": 2.0, "tls": False},
        server={"poll_s": 0.01},
    )
    busy = []
    for engine in (reference, compiled):
        workload = compile_workload(board, 1, 0)
        record = new_record(board, workload)
        simulation = engine.Simulation(workload, record)
        simulation.run_until(stop_s / 2.0)
        simulation.run_until(stop_s)
        record.end_at(stop_s)
        simulation.finish()
        busy.append(record.busy_s)
    assert busy[0].sum() > 0.0
    np.testing.assert_array_equal(*busy)


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_engines_agree_on_a_crowd(transport, pytestconfig):
    board = sl.Scenario.load(pytestconfig.rootpath / "data/scenarios/matters.toml")
    clients = 40 if INTERPRETED else 500
    changes = {"sessions": {"arrivals_per_s": 0.5, "length_s": 100.0}, "reconnect.cap_s": 5.0}
    crowd = board.replace({"transport": transport, "clients": clients, **changes})
    full = crowd.replace({"server.max_connections": clients // 2, "server.backlog": 20})
    for scenario in (crowd, full.replace(ramp_s=0.0)):
        run = assert_equal_runs(scenario)
        assert run.ledger.delivered > 0


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_where_a_run_is_cut_into_slices_changes_nothing(transport, pytestconfig):
    board = sl.Scenario.load(pytestconfig.rootpath / "data/scenarios/matters.toml")
    board = board.replace(transport=transport, clients=10 if INTERPRETED else 50)
    recording = []
    for slices in (1, 700):
        workload = compile_workload(board, 1, 0)
        record = new_record(board, workload)
        simulation = compiled.Simulation(workload, record)
        for k in range(1, slices + 1):
            simulation.run_until(board.horizon_s * k / slices)
        simulation.finish()
        recording.append(record)
    one, other = recording
    assert (one.bins == other.bins).all()
    assert (one.clients == other.clients).all()
    assert (one.histogram == other.histogram).all()
    assert (one.latency_ticks == other.latency_ticks).all()
    assert (one.busy_s == other.busy_s).all()
    assert one.bins[0, :, Count.DELIVERED].sum() > 0


def test_an_interrupted_run_is_whole_up_to_where_it_came(pytestconfig):
    board = sl.Scenario.load(pytestconfig.rootpath / "data/scenarios/matters.toml")
    board = board.replace(transport="websocket", clients=20 if INTERPRETED else 200)
    short = board.replace(horizon_s=300.0)
    workload = compile_workload(board, 1, 0)
    record = new_record(board, workload)
    simulation = compiled.Simulation(workload, record)
    simulation.run_until(300.0)
    record.end_at(simulation.now_s())
    simulation.finish()
    whole = sl.simulate(short.replace(cool_down_s=0.0), engine="compiled", progress=False)
    assert record.bins[0, :300, Count.MESSAGES].sum() == whole.frame("timeline")["messages"].sum()
    assert not record.bins[0, 301:].any()
    delivered, lost = record.clients[:, Count.DELIVERED], record.clients[:, Count.LOST]
    assert np.array_equal(delivered + lost + record.pending, record.eligible)


@pytest.mark.skipif(INTERPRETED, reason="30 million polls are for a compiler")
def test_a_client_that_polls_too_often_for_the_engine_is_refused_by_name():
    """Its events would not hold the number of its polls; it used to fall silent."""
    board = sl.Scenario(
        updates={"rate_per_s": 1e-3},
        clients=1,
        ramp_s=0.0,
        horizon_s=40_000.0,
        bin_s=1_000.0,
        polling={"interval_s": 1e-3},
        network={"rtt_s": 0.0, "tls": False},
        server={"poll_s": 0.0, "accept_s": 0.0},
    )
    with pytest.raises(ScenarioError, match=r"horizon_s: must be shorter: no client of the comp"):
        sl.simulate(board, engine="compiled", progress=False)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_crowd_too_large_for_memory_is_refused_before_it_is_made(engine, monkeypatch):
    def never(*_arguments):
        raise AssertionError("something was allocated")

    monkeypatch.setattr("simlib.engines.compile_workload", never)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8e9))
    crowd = sl.Scenario(clients=90_000_000, updates={"rate_per_s": 0.1}, horizon_s=60.0)
    with pytest.raises(ScenarioError, match=r"takes about \d+ GB .* 8 GB are free") as error:
        sl.simulate(crowd, engine=engine)
    assert error.value.path == "clients"


def test_a_timeline_of_many_nodes_too_large_for_memory_is_refused(monkeypatch):
    # A million bins took 0.7 GB with one node and 2.0 GB with 32 of them.
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1.5e9))
    fine = sl.Scenario(clients=2, updates={"rate_per_s": 0.1}, horizon_s=1000.0, bin_s=0.001)
    with pytest.raises(ScenarioError, match=r"takes about 2\.\d+ GB .* 1\.5 GB are free") as error:
        sl.simulate(fine.replace({"server.nodes": 32}), engine="simpy")
    assert error.value.path == "bin_s"


@pytest.mark.skipif(INTERPRETED, reason="this is the interpreted run")
@pytest.mark.slow
def test_without_a_compiler_the_engine_gives_the_same_bits(pytestconfig):
    some = "each_delivery_and_event or everything_happens_at_once"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", some]
    done = subprocess.run(
        command,
        cwd=pytestconfig.rootpath,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "CI": "true"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
