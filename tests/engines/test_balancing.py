"""Balancers in whole runs: what they count is what is there, in both engines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings

import simlib as sl
from simlib.core.client_state import NEVER_S
from simlib.core.protocol import TRANSPORT_NAMES, State, Transport, has_socket
from simlib.engines import reference
from simlib.engines.compiled import simulation as compiled
from simlib.scenario import compile_workload, new_record
from tests.engines.test_compiled_engine import INTERPRETED, KEPT, assert_equal_runs
from tests.strategies import scenarios

BALANCINGS = ["random", "round_robin", "least_connections", "random_of_two"]
SOON_S = 10.0
"""By then all that was on its way has arrived, except under a fault that delays it."""


def balancers(scenario, stops_s):
    """The reference engine after each of some times, with what its balancer counts."""
    workload = compile_workload(scenario, 3, 0)
    simulation = reference.Simulation(workload, new_record(scenario, workload))
    for stop_s in stops_s:
        simulation.run_until(stop_s)
        yield simulation, simulation.balancer


def is_on_a_node(client, link, now):
    """Say whether a client has a connection of which it and the server both know."""
    exchange = client.exchange
    is_dead = link.lost_exchange >= exchange or link.is_link_dead
    if is_dead or link.opened_s == NEVER_S or link.closed_exchange >= exchange:
        return False
    return has_socket(client.transport) or link.kept_until_s > now


@settings(max_examples=25 if INTERPRETED else 100)
@given(scenario=scenarios())
def test_a_balancer_counts_each_connection_that_is_open_and_none_of_who_has_left(scenario):
    assume(scenario.server.nodes > 1)
    counting = scenario.replace({"server.balancing": "least_connections"})
    stops_s = np.linspace(0.0, scenario.horizon_s, 12)[1:]
    may_die = any(fault.kind == "path_loss" for fault in scenario.faults)
    is_slow = any(fault.kind in ("latency", "bandwidth") for fault in scenario.faults)
    for simulation, balancer in balancers(counting, stops_s):
        now, given_to = simulation.clock.now, np.array(balancer.given_to)
        per_node = np.bincount(given_to[given_to >= 0], minlength=scenario.server.nodes)
        assert balancer.connections == per_node.tolist()
        for client, link in zip(simulation.clients, simulation.connection_rows, strict=True):
            number = client.number
            if is_on_a_node(client, link, now):
                assert given_to[number] == link.node, number
            elif may_die or is_slow:
                continue
            elif client.state == State.GONE and simulation.end_s[number] < now - SOON_S:
                assert given_to[number] == -1, number


@pytest.mark.parametrize("balancing", BALANCINGS)
@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_engines_agree_on_who_is_where_by_every_rule(transport, balancing):
    board = sl.Scenario(
        transport=transport,
        updates={"rate_per_s": 0.2},
        clients=15 if INTERPRETED else 200,
        ramp_s=5.0,
        horizon_s=120.0,
        sessions={"arrivals_per_s": 0.1, "length_s": 40.0},
        polling={"interval_s": 4.0},
        long_polling={"timeout_s": 9.0},
        reconnect={"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
        network={"rtt_s": 0.25},
        server={"nodes": 3, "balancing": balancing, "keep_alive_s": 3.0, "backlog": 4},
        faults=[
            {"kind": "rolling_deploy", "start_s": 20.0, "length_s": 5.0, "every_s": 10.0},
            {"kind": "path_loss", "start_s": 60.0, "length_s": 5.0, "share": 0.5},
            {"kind": "reset", "start_s": 70.0, "share": 0.5},
            {"kind": "restart", "start_s": 80.0, "length_s": 2.0},
        ],
    )
    run = assert_equal_runs(board, keep=KEPT)
    assert set(run.frame("connections")["node"]) == {0, 1, 2}


def test_a_polling_client_counts_as_long_as_its_connection_is_kept():
    """With intervals beyond keep-alive, a node has nobody most of the time."""
    board = sl.Scenario(
        transport="polling",
        updates={"rate_per_s": 0.1},
        clients=20,
        ramp_s=10.0,
        horizon_s=100.0,
        polling={"interval_s": 40.0},
        server={"nodes": 2, "balancing": "least_connections", "keep_alive_s": 1.0},
    )
    counts = [sum(each.connections) for _, each in balancers(board, np.arange(1.0, 100.0))]
    assert counts[20] == 0
    assert 0 < max(counts[:20]) < 10
    assert sum(counts[40:51]) > 0
    kept = board.replace({"server.keep_alive_s": 75.0})
    counts = [each.connections[:] for _, each in balancers(kept, [20.0, 50.0, 99.0])]
    assert counts == [[10, 10]] * 3


@pytest.mark.parametrize("engine", [reference, compiled])
def test_a_node_that_joins_gets_all_new_connections_until_it_has_as_many_as_the_others(engine):
    board = sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.0},
        clients=60,
        ramp_s=60.0,
        horizon_s=70.0,
        server={"nodes": 3, "balancing": "least_connections"},
        faults=[{"kind": "scale_out", "start_s": 30.0}],
    )
    workload = compile_workload(board, 1, 0)
    simulation = engine.Simulation(workload, new_record(board, workload))
    found = []
    for stop_s in (30.0, 40.0, 70.0):
        simulation.run_until(stop_s)
        balancer = simulation.balancer if engine is reference else simulation._world.arrays.balancer
        found.append([int(each) for each in balancer.connections])
    started = [int((workload.start_s < stop_s).sum()) for stop_s in (30.0, 40.0)]
    assert abs(found[0][0] - found[0][1]) <= 1
    assert found[0][2] == 0
    assert found[1] == [*found[0][:2], started[1] - started[0]]
    assert found[2] == [20, 20, 20]


def test_nobody_is_counted_on_a_transport_that_a_client_has_left():
    """A client that falls back polls on a connection of its own, and its socket is gone."""
    board = sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.1},
        clients=12,
        ramp_s=1.0,
        horizon_s=60.0,
        fallback={"after_failures": 1},
        reconnect={"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
        server={"nodes": 2, "balancing": "random_of_two"},
        faults=[
            {"kind": "block_upgrades", "start_s": 20.0, "length_s": 40.0},
            {"kind": "reset", "start_s": 30.0},
        ],
    )
    found = [
        (sum(balancer.connections), {client.transport for client in simulation.clients})
        for simulation, balancer in balancers(board, [20.0, 59.0])
    ]
    assert found == [(12, {Transport.WEBSOCKET}), (12, {Transport.POLLING})]


def test_a_request_on_a_dead_path_counts_until_its_client_gives_it_up():
    board = sl.Scenario(
        transport="polling",
        updates={"rate_per_s": 0.1},
        clients=12,
        ramp_s=2.0,
        horizon_s=60.0,
        polling={"interval_s": 2.0},
        network={"unanswered_s": 3.0},
        server={"nodes": 2, "balancing": "least_connections"},
        faults=[{"kind": "path_loss", "start_s": 10.0, "length_s": 20.0}],
    )
    counts = [sum(each.connections) for _, each in balancers(board, [10.0, 12.0, 16.0, 60.0])]
    assert counts == [12, 12, 0, 12]


def test_who_tries_again_in_vain_leaves_no_connection_that_counts():
    """The old socket's path is dead, of which its node knows nothing; no attempt gets further.

    What counts is one connection a client at most: the attempt's until it is given up, and none
    from then on, since a client counts once.
    """
    board = sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.0},
        clients=12,
        ramp_s=2.0,
        horizon_s=90.0,
        heartbeat={"direction": "client", "interval_s": 5.0, "timeout_s": 2.0},
        reconnect={"policy": "fixed", "base_s": 2.0, "cap_s": 2.0},
        server={"nodes": 2, "balancing": "least_connections"},
        faults=[
            {"kind": "path_loss", "start_s": 20.0, "length_s": 20.0},
            {"kind": "block_upgrades", "start_s": 20.0, "length_s": 50.0},
        ],
    )
    found = [each.connections[:] for _, each in balancers(board, [20.0, 39.0, 60.9, 90.0])]
    assert found[0] == found[1] == [6, 6]  # neither the nodes nor the balancer know
    assert sum(found[2]) < 6
    assert found[3] == [6, 6]
    assert_equal_runs(board, keep=KEPT)
