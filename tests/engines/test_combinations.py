"""Balancers, browsers' limits, proxies, the broker and dead paths, all of them together."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import simlib as sl
from simlib.core import browser
from simlib.core.assignment import Propagation
from simlib.core.protocol import TRANSPORT_NAMES, Transport
from simlib.engines import simulate
from tests.engines.test_balancing import balancers
from tests.engines.test_compiled_engine import KEPT, LATTICE, assert_equal_runs
from tests.engines.test_rollouts import (
    BOARD,
    PERCENTS,
    POLLED,
    TRANSPORTS,
    Script,
    assert_equal_rollouts,
    flags,
)
from tests.strategies import scenarios

INTERPRETED = bool(numba.config.DISABLE_JIT)
EXAMPLES = 25 if INTERPRETED else 60

DEAD_PATH = {"kind": "path_loss", "start_s": 2.0, "length_s": 10.0, "share": 1.0}
FAULTS = [
    [DEAD_PATH],
    [DEAD_PATH | {"share": 0.5}, {"kind": "restart", "start_s": 5.0, "length_s": 2.5}],
    [DEAD_PATH, {"kind": "rolling_deploy", "start_s": 5.0, "length_s": 0.5, "every_s": 4.0}],
    [DEAD_PATH | {"length_s": 2.5}, {"kind": "scale_out", "start_s": 7.5}],
    [{"kind": "rolling_deploy", "start_s": 2.0, "length_s": 2.5, "every_s": 4.0}],
    [DEAD_PATH, {"kind": "drain", "start_s": 5.0, "length_s": 5.0, "batches": 2}],
    [DEAD_PATH, {"kind": "lifetime", "start_s": 0.0, "length_s": 15.0, "share": 1.0, "age_s": 2.0}],
    [DEAD_PATH, {"kind": "reset", "start_s": 5.0, "share": 1.0}],
    [DEAD_PATH, {"kind": "block_upgrades", "start_s": 2.0, "length_s": 5.0, "share": 0.5}],
]
"""Paths die while sockets are cut, nodes are replaced, and attempts are refused."""

TOGETHER = st.fixed_dictionaries(
    {
        "transport": st.sampled_from(TRANSPORT_NAMES),
        "clients": st.integers(4, 9),
        "ramp_s": st.sampled_from([0.0, 5.0]),
        "horizon_s": st.sampled_from([20.0, 40.0]),
        "warm_up_s": st.just(0.0),
        "cool_down_s": st.just(0.0),
        "tabs_per_user": st.sampled_from([2, 3, 8]),
        "websocket.safety_poll_s": st.none(),
        "sse.streams_per_tab": st.sampled_from([1, 1, 2, 3]),
        "network.connections_per_user": st.sampled_from([1, 2, 3, 6]),
        "network.stream_buffer_bytes": st.sampled_from([None, 1, 64, 300, 4096]),
        "network.stream_delay_s": st.sampled_from([None, 0.2, 2.0]),
        "network.stream_held_frac": st.sampled_from([0.0, 0.5]),
        "network.unanswered_s": st.sampled_from([3.0, 900.0]),
        "server.nodes": st.sampled_from([2, 3]),
        "server.balancing": st.sampled_from(["least_connections", "random_of_two", "round_robin"]),
        "server.broker_s": st.sampled_from([0.0, 1e-3, 0.1, 0.5]),
        "server.ends_streams": st.booleans(),
        "updates": st.sampled_from(
            [
                {"rate_per_s": 0.5},
                {"rate_per_s": 2.0},
                {"kind": "bursts", "rate_per_s": 0.2, "burst_size": 4, "burst_gap_s": 0.0},
            ]
        ),
        "faults": st.sampled_from(FAULTS),
    }
)


@st.composite
def together(draw) -> sl.Scenario:
    """A scenario with all of it: each setting alone is in `scenarios`, seldom beside the others."""
    changes = draw(TOGETHER)
    if draw(st.booleans()):
        changes |= {name: value for name, value in LATTICE.items() if name != "ramp_s"}
    try:
        return draw(scenarios()).replace(changes)
    except sl.ScenarioError:
        reject()


def test_a_request_on_a_dead_path_does_not_count_at_a_node_that_has_restarted_since():
    """The node has no connection after its restart, of which its clients hear nothing."""
    board = sl.Scenario(
        transport="polling",
        clients=12,
        ramp_s=2.0,
        horizon_s=60.0,
        updates={"rate_per_s": 0.1},
        polling={"interval_s": 8.0},
        network={"unanswered_s": 30.0},
        server={"nodes": 2, "balancing": "least_connections"},
        faults=[
            {"kind": "path_loss", "start_s": 10.0, "length_s": 1.0},
            {"kind": "restart", "start_s": 12.0, "length_s": 2.0},
        ],
    )
    counts = [each.connections[:] for _, each in balancers(board, [11.9, 12.1, 20.0, 35.0, 60.0])]
    assert counts == [[6, 6], [0, 0], [0, 0], [0, 0], [6, 6]]
    assert_equal_runs(board, keep=KEPT)


@pytest.mark.parametrize(
    ("changes", "percent", "at_s", "told_s"),
    [
        # Both pause from 55 to 70 s, and the server has ended their connections at 58 s.
        ({"long_polling.pause_s": 15.0}, 0.0, 57.0, [57.5, 58.0]),
        ({"long_polling.pause_s": 15.0}, 0.0, 60.0, [70.5, 71.0]),
        # They take turns of 20 s on the one connection that their browser allows them.
        ({"tabs_per_user": 2, "network.connections_per_user": 1}, 30.0, 50.0, [60.5]),
    ],
)
@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_who_has_no_request_with_the_server_is_taken_back_when_it_asks_again(
    engine, changes, percent, at_s, told_s
):
    flag = POLLED._replace(
        propagation=Propagation.SESSION + 0,
        closes=True,
        transports=(Transport.POLLING + 0, Transport.LONG_POLLING + 0),
    )
    board = BOARD.replace(
        {
            "transport": "long_polling",
            "clients": 2,
            "ramp_s": 0.0,
            "horizon_s": 120.0,
            "updates.rate_per_s": 0.0,
            "long_polling": {"timeout_s": 20.0, "grace_s": 100.0},
            "network.rtt_s": 0.0,
            "server": {"keep_alive_s": 3.0, "close_s": 0.5, "accept_s": 0.0, "poll_s": 0.0},
            **changes,
        }
    )
    script = Script(flag, [(0.0, 100.0), (at_s, percent)])
    run = simulate(board, engine=engine, progress=False, controller=script)
    found_s = run.frame("exposures").query("cohort == 'control'")["from_s"]
    assert found_s.tolist() == pytest.approx(told_s, abs=0.01)


def test_three_tabs_by_hand_behind_a_browser_a_proxy_a_balancer_and_a_broker():
    """Two nodes make each change take the broker 2 s, and the proxy passes it on 1 s later.

    The browser has two connections for three streams. At 20 s both streams are cut, and the third
    tab, which has waited, comes first: its stream begins with the board, which is 1 s late too. The
    tabs that were cut come back after 1 s, and one of them waits from then on.
    """
    at_once = ("accept_s", "handshake_s", "authenticate_s", "snapshot_s", "send_s", "fan_out_s")
    board = sl.Scenario(
        transport="sse",
        clients=3,
        tabs_per_user=3,
        ramp_s=0.0,
        horizon_s=40.0,
        updates={"kind": "times", "publish_s": [5.0, 5.5, 30.0]},
        heartbeat={"direction": "none"},
        websocket={"open_timeout_s": 60.0, "resync": "snapshot"},
        reconnect={"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
        network={"rtt_s": 0.0, "tls": False, "connections_per_user": 2, "stream_delay_s": 1.0},
        server={
            **dict.fromkeys((*at_once, "hop_s"), 0.0),
            "nodes": 2,
            "broker_s": 1.0,
            "balancing": "least_connections",
        },
        faults=[{"kind": "reset", "start_s": 20.0}],
    )
    run = assert_equal_runs(board, keep=KEPT)
    told = run.frame("deliveries")
    latency_s = [told[told["client"] == tab]["latency_s"].tolist() for tab in range(3)]
    first_two = [7.0 + 1.0 - 5.0, 9.0 + 1.0 - 5.5]
    third = 32.0 + 1.0 - 30.0
    assert latency_s == [[*first_two, third], first_two, [21.0 - 5.0, 21.0 - 5.5, third]]
    assert run.ledger.pending == 1
    opened = run.frame("connections").sort_values(["opened_s", "client"])
    assert opened["client"].tolist() == [0, 1, 2, 0]
    assert opened["opened_s"].tolist() == [1.0, 1.0, 21.0, 22.0]
    assert opened["node"].tolist() == [0, 1, 0, 1]
    assert run.frame("clients")["queued_s"].tolist() == [0.0, 19.0, 20.0]


@settings(max_examples=EXAMPLES)
@given(scenario=together())
def test_balancers_browsers_and_nodes_count_only_what_is_there(scenario):
    for simulation, balancer in balancers(scenario, np.linspace(0.0, scenario.horizon_s, 15)[1:]):
        given_to, nodes = np.array(balancer.given_to, dtype=int), scenario.server.nodes
        per_node = np.bincount(given_to[given_to >= 0], minlength=nodes)
        assert balancer.connections == per_node.tolist()
        assert not per_node[simulation.nodes.is_down].any()
        of_user = browser.CLAIMS * scenario.tabs_per_user
        for user, pool in enumerate(simulation.pools):
            claims = simulation.claims[user * of_user : (user + 1) * of_user]
            assert pool.used == sum(claim.held for claim in claims)
            assert pool.waiting == sum(claim.waiting for claim in claims)
            assert pool.used <= scenario.network.connections_per_user
            assert pool.waiting == 0 or pool.used == scenario.network.connections_per_user
        for client, link in zip(simulation.clients, simulation.connection_rows, strict=True):
            if simulation.is_queued(client, browser.MAIN):
                assert max(link.socket, link.subscribed) != client.exchange
        sockets = np.zeros(nodes, dtype=int)
        for link in simulation.connection_rows:
            if link.socket >= 0:
                sockets[link.socket_worker // scenario.server.workers] += 1
        assert [server.state.sockets for server in simulation.servers] == sockets.tolist()


@settings(max_examples=EXAMPLES)
@given(scenario=together(), seed=st.integers(0, 2**64 - 1))
def test_engines_agree_on_all_that_stands_between_tabs_and_nodes(scenario, seed):
    assert_equal_runs(scenario, seed=seed, keep=KEPT)


@settings(max_examples=EXAMPLES)
@given(
    scenario=together(),
    treatment=scenarios(),
    transports=TRANSPORTS,
    flag=flags(),
    percents=PERCENTS,
)
def test_engines_agree_on_rollouts_through_all_that_stands_between(
    scenario, treatment, transports, flag, percents
):
    flag = flag._replace(transports=transports)
    assert_equal_rollouts(scenario, flag, percents, keep=KEPT, treatment=treatment)
