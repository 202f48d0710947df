"""Several real servers behind a balancer: who is where, what a broadcast takes, who takes over."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

import simlib as sl
from simlib import theory
from simlib.core.faults import fault_events_of
from simlib.live import loopback
from simlib.live.loopback import on_loopback
from simlib.live.messages import ServerReport
from simlib.live.standby import merged, outages_of
from tests.live.together import Together

pytestmark = pytest.mark.live

SEED = 2
BOARD = sl.Scenario(
    transport="websocket",
    clients=40,
    ramp_s=1.0,
    horizon_s=12.0,
    updates={"rate_per_s": 4.0},
    websocket={"resync": "none"},
    heartbeat={"direction": "none"},
    reconnect={"policy": "fixed", "base_s": 0.3, "cap_s": 0.3},
    server={"nodes": 2},
)
DEPLOY = {"kind": "rolling_deploy", "start_s": 4.0, "length_s": 1.0, "every_s": 3.0}
JOIN = {"kind": "scale_out", "start_s": 4.0}
RESET = {"kind": "reset", "start_s": 6.0, "share": 0.5}
RESTART = {"kind": "restart", "start_s": 6.0, "length_s": 1.0}
# Of these clients, none polls within 60 ms of a moment at which a node dies or is back.
POLLING = {"transport": "polling", "polling.interval_s": 1.4, "server.hop_s": 0.5, "clients": 8}
CASES = {
    "a deploy": BOARD.replace(faults=[DEPLOY]),
    "a deploy of four": BOARD.replace({"server.nodes": 4, "faults": [DEPLOY], "horizon_s": 16.0}),
    "a deploy with surge": BOARD.replace(
        {"server.nodes": 3, "faults": [{**DEPLOY, "surge": 2}], "horizon_s": 14.0}
    ),
    "a node joins": BOARD.replace(faults=[JOIN, RESET]),
    "a restart of all nodes": BOARD.replace(faults=[JOIN, RESTART]),
    "a limit of each node": BOARD.replace({"server.max_connections": 5, "server.nodes": 3}),
    "a deploy under polls": BOARD.replace({**POLLING, "faults": [DEPLOY]}),
    "a deploy, and a snapshot": BOARD.replace({"websocket.resync": "snapshot", "faults": [DEPLOY]}),
    "a deploy, and a replay": BOARD.replace(
        {"websocket.resync": "replay", "websocket.replay_changes": 100, "faults": [DEPLOY]}
    ),
    "a deploy of who is told": BOARD.replace({"transport": "notify", "faults": [DEPLOY]}),
    "a hop": BOARD.replace({"server.hop_s": 0.2}),
}


@pytest.fixture(autouse=True)
def leaves_no_process():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


@pytest.fixture(scope="module")
def measured():
    return Together(CASES, seed=SEED, keep=("deliveries",))


def opened(run):
    """The node of each client's connections, in the order in which they were opened."""
    table = run.frame("connections").sort_values(["client", "opened_s"])
    return table.groupby("client")["node"].agg(list).to_dict()


@pytest.mark.parametrize("name", CASES)
def test_every_connection_is_on_the_node_that_the_simulation_draws(name, measured):
    live = measured[name]
    simulated = sl.simulate(live.scenario, seed=SEED, progress=False)
    assert opened(live) == opened(simulated)
    nodes = live.frame("nodes")
    assert list(nodes.dtypes) == list(simulated.frame("nodes").dtypes)
    per_node = [
        run.frame("nodes").groupby(["t_s", "node"])["connection_count"].sum().to_numpy()
        for run in (live, simulated)
    ]
    np.testing.assert_allclose(*per_node, atol=0.15 * live.scenario.clients)
    ledger = live.ledger
    assert ledger.delivered + ledger.lost + ledger.pending == ledger.eligible
    assert ledger.eligible == simulated.ledger.eligible


def test_a_deployed_nodes_clients_are_on_the_other_one_until_they_are_cut_there(measured):
    table = measured["a deploy"].frame("connections")
    cut = table[table["cause"] == "closed_by_server"]
    at_s = {0: 4.0, 1: 7.0}
    assert len(cut) > 50
    assert np.abs(cut["closed_s"] - cut["node"].map(at_s)).max() < 0.2
    assert (table[table["cause"] == "open_at_end"]["node"] == 0).all()


def test_with_surge_nobody_waits_for_a_node_that_is_down(measured):
    """Two new nodes are up at 5 s and a third at 8 s, when as many old ones go."""
    live = measured["a deploy with surge"]
    table = live.frame("connections")
    cut = table[table["cause"] == "closed_by_server"]
    at_s = {0: 5.0, 1: 5.0, 2: 8.0}
    assert len(cut) > 40
    assert np.abs(cut["closed_s"] - cut["node"].map(at_s)).max() < 0.2
    clients = live.frame("clients")
    assert (clients["attempts"] == clients["reconnects"] + 1).all()


def test_a_lone_node_is_replaced_without_an_outage_and_then_restarted():
    """The next process has other ports; after the restart, the first one's are open again."""
    faults = [{**DEPLOY, "surge": 1}, {"kind": "restart", "start_s": 8.0, "length_s": 0.5}]
    board = BOARD.replace({"server.nodes": 1, "faults": faults, "websocket.resync": "snapshot"})
    live = sl.measure(board, seed=SEED, progress=False)
    simulated = sl.simulate(live.scenario, seed=SEED, progress=False)
    for run in (live, simulated):
        assert (run.frame("clients")["connections"] == 3).all()
        ends_s = run.frame("connections").query("cause == 'closed_by_server'")["closed_s"]
        assert np.abs(np.sort(ends_s) - np.repeat([5.0, 8.0], 40)).max() < 0.2
        opened_s = run.frame("connections").groupby("client")["opened_s"].nth(1)
        assert opened_s.between(5.25, 5.75).all()
    assert live.ledger.lost == 0
    assert live.ledger.eligible == simulated.ledger.eligible


def test_a_process_that_opens_early_keeps_only_what_is_published_once_it_has_taken_over():
    """All are cut, miss changes, and come back when all nodes have been replaced."""
    changes = {
        "updates": {"kind": "times", "publish_s": 4.2 + 0.05 * np.arange(16)},
        "faults": [{**DEPLOY, "surge": 2}, {**RESET, "start_s": 4.1, "share": 1.0}],
        "reconnect": {"policy": "fixed", "base_s": 1.5, "cap_s": 1.5},
    }
    replay = {"websocket.resync": "replay", "websocket.replay_changes": 100}
    live = sl.measure(BOARD.replace({**changes, **replay}), seed=SEED, progress=False)
    simulated = sl.simulate(live.scenario, seed=SEED, progress=False)
    assert live.ledger == simulated.ledger
    assert live.ledger.lost == 40 * 16


def test_what_a_node_has_measured_outlives_a_deploy_of_it(measured):
    """Both processes of each node tell how late they published each change."""
    live = measured["a deploy"]
    assert live.provenance["publish_late_s"]["median"] > 0.0
    busy = live.frame("timeline").set_index("t_s")["utilisation"]
    assert (busy.loc[0.0:10.0] > 0.0).all()


def test_each_node_is_busy_by_itself_and_the_servers_utilisation_is_their_mean(measured):
    live = measured["a deploy of four"]
    nodes = live.frame("nodes").pivot(index="t_s", columns="node", values="utilisation")
    timeline = live.frame("timeline").set_index("t_s")["utilisation"]
    np.testing.assert_allclose(nodes.mean(axis=1), timeline, rtol=1e-9)
    assert (nodes.sum() > 0.0).all()
    busiest = live.metrics()["busiest_utilisation"].iloc[0]
    assert busiest == pytest.approx(sl.metrics.by_node(live)["utilisation"].max())


def test_a_node_that_joins_gets_connections_only_from_then_on(measured):
    live = measured["a node joins"]
    table = live.frame("connections")
    assert (table[table["opened_s"] < 4.0]["node"] == 0).all()
    assert 0 < (table["node"] == 1).sum() < 20


@pytest.mark.parametrize("name", ["a deploy, and a snapshot", "a deploy, and a replay"])
def test_a_deploy_whose_clients_get_what_they_missed_loses_nothing(name, measured):
    assert measured["a deploy"].ledger.lost > 0
    assert measured[name].ledger.lost == 0


def test_each_node_has_its_own_limit_of_connections(measured):
    table = measured["a limit of each node"].frame("connections")
    at_end = table[table["cause"] == "open_at_end"].groupby("node").size()
    assert at_end.tolist() == [5, 5, 5]


def test_a_change_is_pushed_a_hop_after_it_was_made_and_polled_at_once(measured):
    pushed = measured["a hop"].latency_quantiles([0.0, 0.5])
    assert pushed[0] >= 0.198  # a bucket of the histogram is 1 % wide
    assert pushed[1] == pytest.approx(0.2, abs=0.03)
    polled = measured["a deploy under polls"].latency_quantiles(0.1)
    assert polled < 0.3  # although the hop is 0.5 s


# -- a broadcast that all nodes send at once -------------------------------------------------------

SEND_S = 1e-3
HOP_S = 0.01
CROWD = BOARD.replace(
    {
        "clients": 1000,
        "ramp_s": 5.0,
        "horizon_s": 14.0,
        "updates": {"kind": "times", "publish_s": [7.0, 8.5, 10.0, 11.5]},
        "server.fan_out_s": 1e-3,
        "server.send_s": SEND_S,
        "server.hop_s": HOP_S,
    }
)


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_last_client_of_a_sharded_broadcast_is_served_when_theory_says(nodes):
    scenario = CROWD.replace({"server.nodes": nodes})
    keep = ("deliveries",)
    live = sl.measure(scenario, seed=SEED, keep=keep, emulate_sends=True, progress=False)
    simulated = sl.simulate(live.scenario, seed=SEED, keep=keep, progress=False)
    expected_s = theory.fan_out(
        scenario.clients,
        SEND_S,
        1e-3,
        0.0,
        down_s=live.scenario.network.rtt_s / 2.0,
        workers=nodes,
        hop_s=HOP_S if nodes > 1 else 0.0,
    ).last_mean_s
    lasts_s = [
        run.frame("deliveries").groupby("version")["latency_s"].max().mean()
        for run in (live, simulated)
    ]
    print(
        f"{nodes} nodes: the last of {scenario.clients:,} after {lasts_s[0]:.4f} s,"
        f" {lasts_s[0] / expected_s - 1.0:+.2%} of theory,"
        f" {lasts_s[0] / lasts_s[1] - 1.0:+.2%} of the simulation"
    )
    assert lasts_s[0] == pytest.approx(expected_s, rel=0.1)
    assert lasts_s[0] == pytest.approx(lasts_s[1], rel=0.1)
    assert live.ledger.delivered == live.ledger.eligible == 4 * scenario.clients


@pytest.mark.parametrize(
    ("transport", "lasts_s"), [("websocket", [2.0, 4.0]), ("long_polling", [2.0, 2.0])]
)
def test_emulated_sends_take_the_scenarios_time_and_broadcasts_queue(transport, lasts_s):
    """Two changes at once, at five times the clock's pace: the second waits for the first.

    Whose request was held asks again, and gets the second at once.
    """
    scenario = CROWD.replace(
        {
            "transport": transport,
            "clients": 20,
            "ramp_s": 1.0,
            "horizon_s": 12.0,
            "updates.publish_s": [5.0, 5.0],
            "server.nodes": 1,
            "server.send_s": 0.1,
        }
    )
    live = sl.measure(
        scenario, time_scale=5.0, keep=("deliveries",), emulate_sends=True, progress=False
    )
    assert live.scenario.server.send_s == 0.1
    assert live.provenance["emulates_sends"]
    predicted = sl.simulate(live.scenario, keep=("deliveries",), progress=False)
    for run in (live, predicted):
        last_s = run.frame("deliveries").groupby("version")["latency_s"].max()
        assert last_s.tolist() == pytest.approx(lasts_s, rel=0.1)


# -- parts -----------------------------------------------------------------------------------------


def test_a_nodes_outages_are_those_of_its_turn_and_of_all_nodes():
    events = [
        *fault_events_of("scale_out", 0, 3, start_s=2.0),
        *fault_events_of("rolling_deploy", 1, 3, start_s=5.0, length_s=1.0, every_s=2.0),
        *fault_events_of("restart", 2, 3, start_s=20.0, length_s=3.0),
    ]
    assert outages_of(events, 0, 60.0) == [(5.0, 6.0, False), (20.0, 23.0, True)]
    assert outages_of(events, 2, 60.0) == [
        (0.0, 2.0, False),
        (9.0, 10.0, False),
        (20.0, 23.0, True),
    ]
    assert outages_of(events[:-1], 2, 60.0)[-1] == (20.0, 60.0, True)
    surge = fault_events_of("rolling_deploy", 0, 3, start_s=5.0, length_s=1.0, every_s=2.0, surge=2)
    assert [outages_of(surge, node, 60.0) for node in (1, 2)] == [
        [(6.0, 6.0, False)],
        [(8.0, 8.0, False)],
    ]


def test_reports_of_several_processes_are_merged():
    reports = [
        ServerReport([0.1], 2.0, 0.5, {1: 10, 2: 30}, 100, {"requests": 1}),
        ServerReport([0.2, 0.3], 3.0, 0.5, {2: 20, 3: 5}, 80, {"requests": 2, "frames": 1}),
    ]
    assert merged(reports) == ServerReport(
        [0.1, 0.2, 0.3], 5.0, 1.0, {1: 10, 2: 30, 3: 5}, 100, {"requests": 3, "frames": 1}
    )


def test_more_standbys_than_this_machine_bears_are_refused_by_name():
    again = {"kind": "rolling_deploy", "start_s": 1.0, "length_s": 0.5, "every_s": 0.5}
    board = BOARD.replace({"server.nodes": 4, "horizon_s": 60.0})
    on_loopback(board.replace(faults=[{**again, "repeat_s": 5.0, "repeats": 7}]))
    with pytest.raises(sl.ScenarioError, match=r"^faults\.0\.repeat_s: must keep restarts"):
        on_loopback(board.replace(faults=[{**again, "repeat_s": 5.0, "repeats": 8}]))
    single = [{**again, "start_s": 1.0 + 5.0 * place} for place in range(9)]
    with pytest.raises(sl.ScenarioError, match=r"^server\.nodes: must keep restarts.*got 4"):
        on_loopback(board.replace(faults=single))


def test_there_is_a_proxy_where_there_are_nodes():
    assert loopback.needs_proxy(BOARD)
    lone = BOARD.replace({"server.nodes": 1})
    assert not loopback.needs_proxy(lone)
    assert loopback.needs_proxy(lone.replace(faults=[{**DEPLOY, "surge": 1}]))


BALANCED = {
    rule: BOARD.replace(
        {
            "server.nodes": 3,
            "server.balancing": rule,
            "horizon_s": 16.0,
            "faults": [{"kind": "rolling_deploy", "start_s": 4.0, "length_s": 0.6, "every_s": 4.0}],
            "reconnect.base_s": 1.0,
            "reconnect.cap_s": 1.0,
        }
    )
    for rule in ("round_robin", "least_connections", "random_of_two")
}


@pytest.fixture(scope="module")
def balanced():
    return Together(BALANCED, seed=SEED)


@pytest.mark.parametrize("rule", BALANCED)
def test_a_balancer_gives_real_sockets_by_the_rule_that_the_simulation_has(rule, balanced):
    """Who comes a millisecond earlier may change places with who comes later: two or three do."""
    live = balanced[rule]
    counts = []
    for run in (live, sl.simulate(live.scenario, seed=SEED, progress=False)):
        table = run.frame("nodes")
        quiet = table[table["t_s"].isin([3.0, 7.0, 11.0, 15.0])]
        counts.append(quiet["connection_count"].to_numpy().reshape(4, 3))
    np.testing.assert_allclose(*counts, atol=3.0)
    assert counts[0].sum(axis=1) == pytest.approx([40.0] * 4)
    if rule == "least_connections":
        assert np.ptp(counts[0][:3], axis=1).max() <= 1.0  # each restart is evened out
