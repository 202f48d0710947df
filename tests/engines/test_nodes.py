"""Nodes and workers: each sends to its own clients, all at once, a hop after the change."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib import theory

HOP_S = 0.01
CLIENTS = 20_000
CHANGES = 20
COSTS = {
    **dict.fromkeys(("accept_s", "handshake_s", "authenticate_s", "heartbeat_s"), 0.0),
    "fan_out_s": 1e-3,
    "send_s": 20e-6,
}


def board(publish_s, **changes):
    """A board whose changes come at given times, when nothing else goes on."""
    return sl.Scenario(
        transport="websocket",
        clients=CLIENTS,
        ramp_s=5.0,
        horizon_s=40.0,
        updates={"kind": "times", "publish_s": publish_s},
        heartbeat={"direction": "none"},
        network={"rtt_s": 0.04},
        server={**COSTS, "hop_s": HOP_S, "backlog": CLIENTS, "max_connections": CLIENTS},
    ).replace(changes)


def last_s(run):
    """Mean latency of the client that is served last, over the changes."""
    return run.frame("deliveries").groupby("version")["latency_s"].max().mean()


@pytest.mark.parametrize(("nodes", "workers"), [(1, 1), (2, 1), (4, 1), (8, 1), (2, 4)])
def test_the_last_client_of_a_sharded_broadcast_is_served_when_theory_says(nodes, workers):
    publish_s = 10.0 + np.arange(CHANGES)
    scenario = board(publish_s, **{"server.nodes": nodes, "server.workers": workers})
    # Which client is at which node is drawn anew in each replication: the last one's latency is
    # known to 0.3 % after eight.
    lasts = [
        last_s(
            sl.simulate(
                scenario, replication=k, engine="compiled", keep=["deliveries"], progress=False
            )
        )
        for k in range(1 if nodes == workers == 1 else 8)
    ]
    expected = theory.fan_out(
        CLIENTS,
        COSTS["send_s"],
        COSTS["fan_out_s"],
        0.0,
        down_s=0.02,
        workers=nodes * workers,
        hop_s=HOP_S if nodes > 1 else 0.0,
    )
    assert np.mean(lasts) == pytest.approx(expected.last_mean_s, rel=0.01)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_worker_sends_its_part_of_each_broadcast_in_turn(engine):
    """Four broadcasts at once to eight clients, each of which an idle worker has accepted."""
    scenario = board([20.0] * 4, clients=8, **{"server.workers": 8})
    scenario = scenario.replace({"server.send_s": 0.5})
    run = sl.simulate(scenario, engine=engine, keep=["deliveries"], progress=False)
    latency_s = np.sort(run.frame("deliveries")["latency_s"].to_numpy())
    expected_s = np.repeat(0.501 * np.arange(1, 5) + 0.02, 8)
    np.testing.assert_allclose(latency_s, expected_s, rtol=1e-9)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_each_node_has_its_own_limit_of_connections_and_its_own_backlog(engine):
    limits = {"server.max_connections": 10, "server.nodes": 3, "reconnect.base_s": 1.0}
    scenario = board([20.0], clients=100, **limits)
    run = sl.simulate(scenario, engine=engine, progress=False)
    per_node = run.frame("connections").query("cause == 'open_at_end'").groupby("node").size()
    assert per_node.tolist() == [10, 10, 10]


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_the_work_of_a_node_that_goes_is_lost_and_that_of_the_others_goes_on(engine):
    """One of two nodes goes in the middle of a broadcast that takes a second."""
    deploy = {"kind": "rolling_deploy", "start_s": 20.5, "length_s": 1.0, "every_s": 5.0}
    scenario = board(
        [20.0],
        clients=40,
        faults=[deploy],
        **{
            "server.nodes": 2,
            "server.send_s": 0.05,
            "server.fan_out_s": 0.0,
            "websocket.resync": "none",
        },
    )
    run = sl.simulate(scenario, engine=engine, keep=["deliveries"], progress=False)
    was_open = run.frame("connections").query("opened_s < 20").set_index("client")["node"]
    delivered = run.frame("deliveries")["client"]
    by_node = was_open.groupby(was_open).size()
    reached = was_open[delivered].groupby(was_open[delivered]).size()
    assert reached[1] == by_node[1]
    assert reached[0] == 9 < by_node[0]  # the tenth send ends after 0.01 + 0.5 s


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_node_that_is_down_has_no_sockets_and_sends_nothing(engine):
    """All paths die, and upgrades are blocked: clients poll, and the nodes think them open."""
    faults = [
        {"kind": "path_loss", "start_s": 10.0, "length_s": 1.0},
        {"kind": "block_upgrades", "start_s": 10.0, "length_s": 30.0},
        {"kind": "rolling_deploy", "start_s": 20.0, "length_s": 8.0, "every_s": 10.0},
    ]
    changes = {
        "heartbeat": {"direction": "client", "interval_s": 2.0, "timeout_s": 2.0},
        "fallback": {"after_failures": 1},
        "polling.interval_s": 100.0,
        "server.nodes": 2,
        "server.send_s": 0.01,
    }
    busy_s = {}
    for publish_s in (15.0, 25.0):  # while both nodes are up, and while the first is down
        scenario = board([publish_s], clients=100, faults=faults, **changes)
        run = sl.simulate(scenario, engine=engine, progress=False)
        timeline = run.frame("timeline")
        at_once = timeline["t_s"].between(publish_s, publish_s + 2.0)
        busy_s[publish_s] = 2.0 * (timeline["utilisation"] * timeline["width_s"])[at_once].sum()
    assert busy_s[15.0] == pytest.approx(1.0, rel=0.1)
    # Half of the sockets are on the other node, wherever their clients poll.
    assert 0.4 < busy_s[25.0] < 0.6


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_each_node_has_its_own_utilisation_and_the_servers_is_their_mean(engine):
    deploy = {"kind": "rolling_deploy", "start_s": 22.0, "length_s": 3.0, "every_s": 5.0}
    changes = {"server.nodes": 3, "server.workers": 2, "server.send_s": 0.05}
    scenario = board(20.0 + np.arange(16), clients=40, faults=[deploy], **changes)
    run = sl.simulate(scenario, engine=engine, progress=False)
    nodes = run.frame("nodes").pivot(index="t_s", columns="node", values="utilisation")
    timeline = run.frame("timeline").set_index("t_s")["utilisation"]
    np.testing.assert_allclose(nodes.mean(axis=1), timeline, rtol=1e-12, atol=1e-15)
    assert ((nodes >= 0.0) & (nodes <= 1.0 + 1e-9)).all(axis=None)
    for node in range(3):
        down = nodes.loc[22.0 + 5.0 * node : 24.0 + 5.0 * node]
        assert (down[node] == 0.0).all()
        assert (down.drop(columns=node).sum(axis=1) > 0.0).all()


def test_both_engines_have_each_node_busy_to_the_last_bit():
    deploy = {"kind": "rolling_deploy", "start_s": 22.3, "length_s": 3.1, "every_s": 4.7}
    scenario = board(20.0 + np.arange(10), clients=40, faults=[deploy], **{"server.nodes": 3})
    scenario = scenario.replace({"server.send_s": 0.0517, "server.service": "exponential"})
    one, other = (
        sl.simulate(scenario, engine=engine, progress=False).frame("nodes")
        for engine in ("simpy", "compiled")
    )
    assert one.equals(other)
