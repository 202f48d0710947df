"""Sockets per node after restarts: closed forms beside simulations, and what HAProxy does."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import simlib as sl
from simlib import theory
from simlib.core.balancing import Balancing
from simlib.errors import ScenarioError

RULES = [rule.name.lower() for rule in Balancing]
INTERPRETED = bool(numba.config.DISABLE_JIT)
ENGINE = "simpy" if INTERPRETED else "compiled"
CLIENTS = 1_000 if INTERPRETED else 10_000
EVERY_S = 40.0
FREE = dict.fromkeys(("accept_s", "handshake_s", "authenticate_s", "heartbeat_s"), 0.0)


def board(nodes, balancing, clients, down_s, surge=0):
    """Sockets that come back a second after their node has stopped for `down_s`."""
    return sl.Scenario(
        transport="websocket",
        updates={"rate_per_s": 0.0},
        clients=clients,
        ramp_s=10.0,
        horizon_s=30.0 + EVERY_S * nodes,
        heartbeat={"direction": "none"},
        network={"rtt_s": 0.02},
        reconnect={"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
        server={**FREE, "nodes": nodes, "balancing": balancing, "backlog": clients},
        faults=[
            {
                "kind": "rolling_deploy",
                "start_s": 20.0,
                "length_s": down_s,
                "every_s": EVERY_S,
                "surge": surge,
            }
        ],
    )


def sockets(nodes, balancing, *, restarts, clients=CLIENTS, down_s=10.0, replications=1, surge=0):
    """How many sockets each node has after some restarts, a row a replication."""
    found = []
    for replication in range(replications):
        scenario = board(nodes, balancing, clients, down_s, surge)
        run = sl.simulate(scenario, replication=replication, engine=ENGINE, progress=False)
        table = run.frame("nodes")
        at = table[table["t_s"] == 20.0 + EVERY_S * restarts - 2.0]
        found.append(at["connection_count"].to_numpy())
        assert found[-1].sum() == pytest.approx(clients)
    return np.array(found)


@pytest.mark.parametrize("nodes", [2, 3, 5])
@pytest.mark.parametrize("balancing", ["round_robin", "least_connections"])
def test_after_a_rolling_deploy_each_node_has_as_many_sockets_as_theory_says(nodes, balancing):
    """What is not drawn is exact but for who is left over at each restart."""
    (found,) = sockets(nodes, balancing, restarts=nodes)
    expected = CLIENTS * theory.after_rolling_deploy(nodes, balancing)
    assert np.abs(found - expected).max() <= nodes
    assert found[-1] == 0


@pytest.mark.parametrize(("nodes", "surge"), [(2, 1), (4, 4), (5, 1), (5, 2)])
@pytest.mark.parametrize("balancing", ["round_robin", "least_connections"])
def test_after_a_deploy_with_surge_each_node_has_as_many_as_theory_says(nodes, surge, balancing):
    (found,) = sockets(nodes, balancing, restarts=nodes, surge=surge)
    expected = CLIENTS * theory.after_rolling_deploy(nodes, balancing, surge)
    assert np.abs(found - expected).max() <= nodes


@pytest.mark.parametrize(("nodes", "surge"), [(2, 0), (4, 0), (4, 1), (4, 3)])
@pytest.mark.parametrize("balancing", ["random", "random_of_two"])
def test_where_nodes_are_drawn_theory_is_within_three_standard_errors(nodes, surge, balancing):
    replications = 8
    found = sockets(nodes, balancing, restarts=nodes, replications=replications, surge=surge)
    expected = CLIENTS * theory.after_rolling_deploy(nodes, balancing, surge)
    error = found.std(axis=0, ddof=1) / np.sqrt(replications)
    # The last socket is whole, and so is the one before it.
    assert (np.abs(found.mean(axis=0) - expected) <= 3.0 * error + nodes).all(), (found, expected)


HAPROXY = {
    "least_connections": [100, 100, 100],
    "round_robin": [34, 133, 133],
    "random_of_two": [56, 122, 122],
}
"""Three servers, 300 WebSockets, the first restarts and is up after 0.3 s: HAProxy 2.6.12 in Debian
12, by ``leastconn``, ``roundrobin`` and ``random``, which draws two."""


@pytest.mark.parametrize("balancing", HAPROXY)
def test_a_node_that_restarts_at_once_gets_as_many_back_as_with_haproxy(balancing):
    measured = np.array(HAPROXY[balancing])
    is_drawn = balancing == "random_of_two"
    found = sockets(
        3, balancing, restarts=1, clients=300, down_s=0.3, replications=12 if is_drawn else 1
    )
    expected = 300 * theory.after_restart(3, balancing)
    assert np.abs(expected - measured).max() < 1.0
    error = found.std(axis=0, ddof=1) / np.sqrt(len(found)) if is_drawn else 0.0
    assert (np.abs(found.mean(axis=0) - expected) <= 3.0 * error + 1.0).all()


@pytest.mark.parametrize("nodes", [2, 3, 8, 64])
def test_shares_are_all_there_is_and_by_the_formulas_of_the_text(nodes):
    q, k = nodes / (nodes - 1), np.arange(nodes)
    formulas = {
        "random": (q**nodes - q ** (k + 1)) / nodes,
        "round_robin": (q**nodes - q ** (k + 1)) / nodes,
        "least_connections": np.where(k < nodes - 1, 1.0 / (nodes - 1), 0.0),
    }
    for rule in RULES:
        for shares in (
            theory.after_restart(nodes, rule),
            theory.after_rolling_deploy(nodes, rule),
        ):
            assert shares.sum() == pytest.approx(1.0)
            assert (shares >= 0.0).all()
        if rule in formulas:
            found = theory.after_rolling_deploy(nodes, rule)
            np.testing.assert_allclose(found, formulas[rule], atol=1e-9)
    of_two = theory.after_restart(nodes, "random_of_two")
    assert of_two[0] == pytest.approx((2 * nodes - 1) / nodes**3)
    spread = [theory.after_rolling_deploy(nodes, rule).std() for rule in formulas]
    assert theory.after_rolling_deploy(nodes, "random_of_two").std() <= spread[0] + 1e-9
    assert spread[2] <= theory.after_rolling_deploy(nodes, "random_of_two").std() + 1e-9


@pytest.mark.parametrize(("nodes", "surge"), [(2, 1), (4, 2), (12, 3), (64, 64)])
def test_shares_after_a_surge_are_by_the_formulas_of_the_text(nodes, surge):
    turns = nodes // surge
    q, turn = 1.0 + 1.0 / turns, np.arange(nodes) // surge
    of_rule = {rule: theory.after_rolling_deploy(nodes, rule, surge) for rule in RULES}
    for rule in ("random", "round_robin"):
        np.testing.assert_allclose(of_rule[rule], (q**turns - q**turn) / nodes, atol=1e-12)
    np.testing.assert_allclose(of_rule["least_connections"], 1.0 / nodes, atol=1e-9)
    assert of_rule["random_of_two"].sum() == pytest.approx(1.0)
    moves = theory.rolling_deploy_moves(nodes, surge)
    assert moves.sum() == pytest.approx(1.0)
    assert moves @ np.arange(nodes + 1) == pytest.approx(q**turns - 1.0)


def test_what_is_no_rule_and_what_is_no_number_of_nodes_is_refused():
    with pytest.raises(ScenarioError, match="balancing: must be random or round_robin"):
        theory.after_restart(3, "leastconn")
    with pytest.raises(ScenarioError, match="nodes"):
        theory.after_rolling_deploy(1, "random")
    with pytest.raises(ScenarioError, match="surge"):
        theory.after_rolling_deploy(4, "random", 5)
    with pytest.raises(ScenarioError, match="surge"):
        theory.rolling_deploy_moves(4, -1)
