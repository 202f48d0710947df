"""Long polling inside a run: nothing is lost in the gap, requests as theory says, their cost."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simlib as sl
from simlib import theory
from simlib.core.wire import Message
from simlib.scenario import compile_workload

ONE = sl.Scenario(
    transport="long_polling",
    clients=1,
    ramp_s=0.0,
    horizon_s=20_000.0,
    warm_up_s=50.0,
    cool_down_s=50.0,
    bin_s=50.0,
    updates={"rate_per_s": 0.5},
    network={"rtt_s": 0.8, "tls": False},
    server={"poll_s": 0.0, "accept_s": 0.0, "send_s": 0.0, "fan_out_s": 0.0},
)
BOARD = ONE.replace(
    {
        "clients": 10,
        "horizon_s": 100.0,
        "warm_up_s": 0.0,
        "cool_down_s": 0.0,
        "bin_s": 1.0,
        "network.rtt_s": 0.1,
        "updates": {"kind": "times", "publish_s": [30.0]},
    }
)
SERVED = {"server.poll_s": 0.01, "server.send_s": 0.2, "server.fan_out_s": 0.1}


def simulated(scenario, **options):
    return sl.simulate(scenario, engine=options.pop("engine", "simpy"), progress=False, **options)


@pytest.mark.parametrize(
    ("rate_per_s", "hold_s", "pause_s"),
    [(0.5, 25.0, 0.0), (0.05, 25.0, 0.0), (3.0, 25.0, 0.0), (0.5, 2.0, 0.7)],
)
def test_requests_and_staleness_are_within_one_percent_of_theory(rate_per_s, hold_s, pause_s):
    held = {"timeout_s": hold_s, "pause_s": pause_s}
    scenario = ONE.replace(
        {
            "updates.rate_per_s": rate_per_s,
            "long_polling": held,
            "horizon_s": 3_000.0 / min(rate_per_s, 0.5),
            "bin_s": 500.0,
        }
    )
    runs = sl.replicate(scenario, 4, seed=5, engine="simpy", progress=False)
    rate = np.mean([compile_workload(scenario, 5, k).publish_s.size for k in range(4)])
    given_ = rate / scenario.horizon_s, hold_s, 0.8 + pause_s  # the rate that was drawn
    clients = pd.concat([run.frame("clients") for run in runs])
    requests = clients["polls"].sum() / scenario.horizon_s / 4
    assert requests == pytest.approx(theory.held_requests_per_s(*given_), rel=0.01)
    empty = clients["unchanged"].sum() / clients["polls"].sum()
    assert empty == pytest.approx(theory.held_empty_frac(*given_), rel=0.05, abs=1e-3)
    stale_s = np.mean([run.metrics().iloc[0]["average_latency_s"] for run in runs])
    assert stale_s == pytest.approx(theory.held_staleness_s(*given_, down_s=0.4), rel=0.01)


@settings(max_examples=40)
@given(
    rtt_s=st.sampled_from([0.0, 0.05, 1.0]),
    pause_s=st.sampled_from([0.0, 0.3, 2.0]),
    hold_s=st.sampled_from([0.5, 5.0, 25.0]),
    nodes=st.integers(1, 3),
    hop_s=st.sampled_from([0.0, 0.2]),
    keep_alive_s=st.sampled_from([0.0, 75.0]),
    push=st.sampled_from(["delta", "snapshot"]),
    updates=st.sampled_from(
        [
            {"rate_per_s": 2.0},
            {"kind": "bursts", "rate_per_s": 0.2, "burst_size": 6, "burst_gap_s": 0.01},
            {"kind": "bursts", "rate_per_s": 0.2, "burst_size": 6, "burst_gap_s": 0.0},
        ]
    ),
    seed=st.integers(0, 2**32),
)
def test_without_faults_every_change_is_delivered_once_and_in_order(
    rtt_s, pause_s, hold_s, nodes, hop_s, keep_alive_s, push, updates, seed
):
    scenario = sl.Scenario(
        transport="long_polling",
        clients=4,
        ramp_s=5.0,
        horizon_s=80.0,
        cool_down_s=20.0,
        updates=updates,
        long_polling={"timeout_s": hold_s, "pause_s": pause_s},
        websocket={"push": push},
        network={"rtt_s": rtt_s},
        server={"nodes": nodes, "hop_s": hop_s, "keep_alive_s": keep_alive_s, "workers": 2},
        sessions={"arrivals_per_s": 0.1, "length_s": 200.0, "length": "constant"},
    )
    run = simulated(scenario, seed=seed, keep=("deliveries",))
    assert run.ledger.lost == run.ledger.pending == 0
    for _, mine in run.frame("deliveries").groupby("client"):
        assert (np.diff(mine["version"]) == 1).all()
        assert mine["applied_s"].is_monotonic_increasing
        assert (mine["latency_s"] >= rtt_s / 2.0 - 1e-9).all()


def test_changes_of_the_gap_come_in_one_answer():
    """The second and third come while the answer with the first, and the next request, travel."""
    times = {"updates.publish_s": [30.0, 30.02, 30.09], "clients": 1}
    run = simulated(BOARD.replace(times), keep=("deliveries",))
    deliveries = run.frame("deliveries")
    assert deliveries["applied_s"].to_numpy() == pytest.approx([30.05, 30.15, 30.15])
    # The first request, the one after 25 s, the first change's, the gap's; the last is held.
    clients = run.frame("clients").iloc[0]
    assert (clients["polls"], clients["unchanged"]) == (6, 3)


def test_bytes_of_an_answer_are_its_head_and_each_change():
    times = {"updates.publish_s": [30.0, 30.02, 30.09], "clients": 1, "horizon_s": 31.0}
    board = BOARD.replace(times)
    sizes = compile_workload(board, 1, 0).sizes
    down = simulated(board).frame("timeline")["payload_down_bytes"].sum()
    expected = (Message.HELD_EMPTY_FIRST, *[Message.HELD_REPLY] * 2, Message.HELD_CHANGE)
    assert down == sum(sizes[message, 1] for message in expected)


def test_answers_go_out_one_after_the_other_in_the_order_of_holding():
    run = simulated(
        BOARD.replace({**SERVED, "ramp_s": 5.0, "long_polling.timeout_s": 60.0}),
        keep=("deliveries",),
    )
    waits_s = run.frame("deliveries").sort_values("client")["latency_s"].to_numpy()
    assert waits_s == pytest.approx(0.1 + 0.2 * np.arange(1, 11) + 0.05)


def test_all_clients_ask_again_after_a_change_and_wait_for_each_other():
    """With n answers that take s each, the herd's checks queue behind them."""
    run = simulated(
        BOARD.replace({"server.poll_s": 0.5, "long_polling.timeout_s": 60.0}), keep=("deliveries",)
    )
    timeline = run.frame("timeline")
    assert timeline["polls"][30] == 10
    busy = timeline["utilisation"][30:36].to_numpy()
    assert busy[0] == pytest.approx(0.9, abs=0.02)
    assert busy[1:5] == pytest.approx(1.0)


def test_a_request_that_is_held_takes_a_place_among_the_connections():
    full = BOARD.replace({"server.max_connections": 4, "reconnect": {"policy": "fixed"}})
    run = simulated(full)
    assert run.frame("timeline")["refused"].sum() > 6
    assert run.frame("clients")["unchanged"].gt(0).sum() == 4
    assert "requests that were to be held were answered 503" in str(run.warnings[0])
    assert simulated(BOARD).frame("timeline")["refused"].sum() == 0


def test_a_dead_path_is_noticed_when_the_client_gives_up_its_request():
    loss = {"kind": "path_loss", "start_s": 40.0, "length_s": 1.0}
    scenario = BOARD.replace(
        {
            "faults": [loss],
            "updates.publish_s": [41.5],
            "clients": 1,
            "long_polling.timeout_s": 20.0,
            "long_polling.grace_s": 5.0,
            "reconnect": {"policy": "fixed", "base_s": 0.5},
        }
    )
    run = simulated(scenario, keep=("deliveries",))
    asked_s = 0.1 + 20.1  # a connection; the first request's empty answer
    again_s = asked_s + 25.0 + 0.5
    assert run.frame("deliveries")["applied_s"].iloc[0] == pytest.approx(again_s + 0.2, abs=1e-9)
    connections = run.frame("connections")
    assert connections["cause"].tolist() == ["timed_out", "open_at_end"]
    assert run.frame("clients")["errors"].sum() == 1


def test_a_middlebox_that_is_faster_than_the_server_cuts_every_silent_request():
    impatient = BOARD.replace({"network.idle_s": 10.0, "updates.publish_s": [95.0]})
    run = simulated(impatient)
    assert run.frame("clients")["errors"].min() >= 6
    assert "cut while held" in {warning.kind for warning in run.warnings}
    assert run.ledger.lost == 0
    patient = simulated(impatient.replace({"network.idle_s": 30.0}))
    assert patient.frame("clients")["errors"].sum() == 0


def test_blocked_upgrades_do_not_concern_it_and_a_restart_cuts_it():
    block = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 90.0}
    assert simulated(BOARD.replace(faults=[block])).frame("clients")["errors"].sum() == 0
    restart = {"kind": "restart", "start_s": 28.0, "length_s": 5.0}
    run = simulated(BOARD.replace(faults=[restart]), keep=("deliveries",))
    assert run.ledger.lost == 0
    assert run.frame("deliveries")["applied_s"].min() > 33.0
    cut = run.frame("connections").query("cause == 'closed_by_server'")
    assert len(cut) == BOARD.clients


def test_it_falls_back_to_polling_and_returns():
    board = BOARD.replace(
        {
            "faults": [{"kind": "restart", "start_s": 10.0, "length_s": 20.0}],
            "fallback": {"after_failures": 2, "return_s": 20.0},
            "polling.interval_s": 5.0,
            "updates.publish_s": [90.0],
        }
    )
    for engine in ("simpy", "compiled"):
        run = simulated(board, engine=engine)
        assert (run.frame("clients")["fallbacks"] >= 1).all()
        last = run.frame("connections").groupby("client")["transport"].last()
        assert (last == "long_polling").all()
        assert 0.1 < run.metrics().iloc[0]["fallback_to_polling_frac"] < 0.6


def test_a_server_that_has_forgotten_whom_to_answer_answers_when_the_time_is_over():
    forgets = {"server.socket_set": "plain", "server.forget_frac": 1.0}
    board = BOARD.replace({**forgets, "faults": [{"kind": "reset", "start_s": 10.0}]})
    for engine in ("simpy", "compiled"):
        run = simulated(board, engine=engine, keep=("deliveries",))
        asked = run.frame("timeline").query("t_s < 30.0")["forgotten"].sum()
        applied_s = run.frame("deliveries")["applied_s"]
        assert asked == BOARD.clients
        assert applied_s.between(10.0 + 25.0, 10.0 + 25.0 + 10.0).all()
        assert len(applied_s) == BOARD.clients
        assert any("requests were held by a server" in str(said) for said in run.warnings)


def test_requests_that_are_held_neither_end_a_broadcast_nor_miss_one():
    """Each answer is followed by a request, while the slow broadcast goes on."""
    slow = {"server.socket_set": "plain", "server.send_s": 0.2, "updates.publish_s": [30.0]}
    for engine in ("simpy", "compiled"):
        run = simulated(BOARD.replace(slow), engine=engine, keep=("deliveries",))
        assert run.frame("timeline")[["failed_updates", "unsent"]].to_numpy().sum() == 0
        waits_s = np.sort(run.frame("deliveries")["applied_s"]) - 30.0
        assert waits_s == pytest.approx(0.2 * np.arange(1, 11) + 0.05, abs=0.02)


@pytest.mark.parametrize("other", ["polling", "websocket", "notify", "sse"])
@pytest.mark.parametrize("goes", ["to", "from"])
def test_engines_agree_on_a_rollout_that_goes_back(other, goes):
    cohorts = [other, "long_polling"] if goes == "to" else ["long_polling", other]
    fleet = sl.Scenario(
        clients=20,
        horizon_s=400.0,
        updates={"rate_per_s": 0.1},
        sessions={"arrivals_per_s": 0.05, "length_s": 300.0},
        fallback={"after_failures": 2, "return_s": 30.0},
        faults=[{"kind": "restart", "start_s": 150.0, "length_s": 8.0}],
    )
    plan = sl.Plan(
        flag={"propagation": "polled", "every_s": 20.0},
        check_every_s=30.0,
        stages=[{"percent": 30, "bake_s": 90}, {"percent": 80, "bake_s": 90}],
        control={"transport": cohorts[0]},
        treatment={"transport": cohorts[1]},
        guardrails=[{"metric": "latency_p95_s", "below": 1e-4}],
        rollback={"sockets": "drained", "window_s": 20.0},
    )
    one, two = (
        sl.roll_out(plan, fleet, engine=engine, keep=("deliveries", "events"), progress=False)
        for engine in ("simpy", "compiled")
    )
    assert one.history["percent"].iloc[-1] == 0.0
    assert (one.run.frame("connections")["transport"] == "long_polling").any()
    for name in ("timeline", "clients", "connections", "latency", "deliveries", "events"):
        pd.testing.assert_frame_equal(one.run.frame(name), two.run.frame(name), check_exact=True)


@pytest.mark.parametrize(
    ("settings_", "fate"),
    [
        ({}, "lost"),
        ({"websocket.push": "snapshot"}, "delivered"),
        ({"fallback": {"after_failures": 9}}, "pending"),
    ],
)
def test_a_gap_of_before_is_not_mended_by_an_answer_with_later_changes_alone(settings_, fate):
    """The WebSocket was cut when the first change came; its safety poll was not due before 31 s."""
    board = BOARD.replace(
        {
            "transport": "websocket",
            "clients": 1,
            "websocket.resync": "none",
            "websocket.safety_poll_s": 30.0,
            "reconnect": {"policy": "fixed", "base_s": 2.0},
            "updates.publish_s": [6.0, 45.0],
            "faults": [{"kind": "reset", "start_s": 5.0}],
            **settings_,
        }
    )
    plan = sl.Plan(
        start_s=20.0,
        check_every_s=10.0,
        flag={"propagation": "polled", "every_s": 1.0},
        stages=[{"percent": 100, "bake_s": 50}],
        control={"transport": "websocket"},
        treatment={"transport": "long_polling"},
    )
    for engine in ("simpy", "compiled"):
        ledger = sl.roll_out(plan, board, engine=engine, progress=False).run.ledger
        expected = {"delivered": 1, "lost": 0, "pending": 0}
        expected[fate] += 1
        assert {name: getattr(ledger, name) for name in expected} == expected


def test_no_kernel_gives_up_a_request_that_is_held_as_it_has_been_acknowledged():
    """The path dies at 5 s: the client gives up 31 s after it has asked, and needs 0.5 s more."""
    board = BOARD.replace(
        {
            "clients": 1,
            "updates.publish_s": [50.0],
            "long_polling": {"timeout_s": 30.0, "grace_s": 1.0},
            "network.unanswered_s": 8.0,
            "reconnect": {"policy": "fixed", "base_s": 0.5},
            "faults": [{"kind": "path_loss", "start_s": 5.0, "length_s": 1.0}],
        }
    )
    for engine in ("simpy", "compiled"):
        connections = simulated(board, engine=engine).frame("connections")
        assert connections["closed_s"].iloc[0] == pytest.approx(31.0)
        assert connections["cause"].iloc[0] == "timed_out"
