"""When nodes hear of changes: a queue in order, with one server."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib import theory
from simlib.core.broker import heard_s
from simlib.core.server import ServerRules
from simlib.scenario import compile_workload

RULES = ServerRules(**dict.fromkeys(ServerRules._fields, 0.0))


def test_without_work_of_its_own_it_is_a_hop():
    times_s = [0.1, 0.1, 0.7]
    assert heard_s(RULES._replace(hop_s=0.2), times_s) == [t + 0.2 for t in times_s]
    assert heard_s(RULES, []) == []


def test_even_changes_wait_for_nothing_below_its_ceiling_and_ever_longer_above():
    publish_s = np.arange(1, 101) * 0.5
    for cost_s, growth_s in ((0.375, 0.0), (0.5, 0.0), (0.75, 0.25)):
        heard = np.array(heard_s(RULES._replace(hop_s=0.25, broker_s=cost_s), publish_s))
        expected_s = publish_s + cost_s + 0.25 + growth_s * np.arange(100)
        np.testing.assert_array_equal(heard, expected_s)


def test_changes_at_once_are_told_of_one_after_the_other():
    assert heard_s(RULES._replace(broker_s=0.5), [2.0] * 4) == [2.5, 3.0, 3.5, 4.0]


@pytest.mark.parametrize("utilisation", [0.3, 0.7])
def test_independent_changes_wait_as_in_md1(utilisation):
    board = sl.Scenario(
        updates={"rate_per_s": 20.0},
        clients=1,
        horizon_s=2_000.0,
        bin_s=10.0,
        server={"nodes": 4, "broker_s": utilisation / 20.0 / 4, "hop_s": 0.0},
    )
    waits_s = []
    for replication in range(12):
        workload = compile_workload(board, 1, replication)
        heard = np.array(heard_s(workload.server, workload.publish_s.tolist()))
        waits_s.append((heard - workload.publish_s).mean())
    error_s = theory.standard_error(waits_s)
    expected = theory.md1(20.0, utilisation / 20.0)
    assert abs(np.mean(waits_s) - expected.mean_response_s) < 3.0 * error_s


@pytest.mark.parametrize("transport", ["websocket", "sse", "notify", "long_polling"])
@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_clients_see_each_change_later_by_what_the_broker_takes(engine, transport):
    board = sl.Scenario(
        transport=transport,
        updates={"kind": "times", "publish_s": [20.0, 20.25, 20.5, 30.0]},
        clients=6,
        ramp_s=5.0,
        horizon_s=40.0,
        server={"nodes": 2, "hop_s": 0.0},
    )
    before, after = (
        sl.simulate(
            board.replace({"server.broker_s": broker_s}),
            engine=engine,
            keep=["deliveries"],
            progress=False,
        ).frame("deliveries")
        for broker_s in (0.0, 0.5)
    )
    late_s, within_s = {1: 1.0, 2: 1.75, 3: 2.5, 4: 1.0}, 5e-3
    if transport == "notify":  # the board, which is fetched when the first has been told of
        late_s = {1: 1.0, 2: 0.75, 3: 0.5, 4: 1.0}
        within_s = 0.1  # of them all by one fetch, which opens a connection
    merged = before.merge(after, on=["client", "version"], suffixes=("", "_after"))
    assert len(merged) == 24
    grown_s = merged["applied_s_after"] - merged["applied_s"]
    np.testing.assert_allclose(grown_s, merged["version"].map(late_s), atol=within_s)


@pytest.mark.parametrize("change", [{"server.nodes": 1}, {"transport": "polling"}])
def test_one_node_needs_no_broker_and_a_poll_none_either(change):
    board = sl.Scenario(
        transport="websocket", updates={"rate_per_s": 1.0}, clients=5, horizon_s=30.0
    )
    board = board.replace({"server.nodes": 2, **change})
    slow, other = (
        sl.simulate(board.replace({"server.broker_s": broker_s}), progress=False, engine="simpy")
        for broker_s in (5.0, 0.0)
    )
    assert slow.frame("latency").equals(other.frame("latency"))
    assert slow.warnings == other.warnings


def test_a_lab_that_has_its_own_broker_refuses_to_play_a_slow_one():
    board = sl.Scenario(updates={"rate_per_s": 1.0}, server={"nodes": 2, "broker_s": 0.1})
    with pytest.raises(sl.ScenarioError, match=r"server\.broker_s: must be 0"):
        sl.on_loopback(board)
