"""What goes wrong in a run: who is concerned, when, and what comes of it."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import simlib as sl
from simlib.core.faults import FAULTS, FaultEffect, fault_events_of, is_affected
from simlib.core.protocol import State
from simlib.engines.reference import Simulation
from simlib.scenario import compile_workload, new_record

BOARD = sl.Scenario(
    transport="websocket",
    clients=400,
    ramp_s=0.0,
    horizon_s=300.0,
    updates={"rate_per_s": 0.2},
    heartbeat={"interval_s": 25.0, "timeout_s": 20.0},
    reconnect={"policy": "fixed", "base_s": 2.0, "cap_s": 2.0},
)


def run_with(*faults, **changes):
    scenario = BOARD.replace({"faults": list(faults), **changes})
    return sl.simulate(scenario, engine="compiled", progress=False)


def ends(run, until_s=300.0):
    """Connections that ended before the run did."""
    table = run.frame("connections")
    return table[table["closed_s"] < until_s]


def opened_again(run):
    return run.frame("connections").groupby("client")["opened_s"].nth(1)


@pytest.mark.parametrize("kind", FAULTS)
def test_a_kinds_events_take_the_fields_that_its_row_names(kind):
    row = FAULTS[kind]
    fields = {"start_s": 1.0, "length_s": 2.0, "share": 0.5, "batches": 2, "every_s": 3.0}
    told = {name: fields.get(name, 1) for name in ("start_s", *row.needs, *row.may_have)}
    events = fault_events_of(kind, 0, 2, **told)
    assert bool(events) != bool(row.amount)
    assert [event.t for event in events] == sorted(event.t for event in events)
    if row.events is not None:
        with pytest.raises(TypeError):
            fault_events_of(kind, 0, 2, **told, added_s=1.0)


def test_what_the_lab_carries_out_has_a_module_there():
    parts = {row.lab_part for row in FAULTS.values()} - {None}
    assert parts == {"standby", "app_server", "proxy"}
    assert all(find_spec(f"simlib.live.{part}") for part in parts)


def test_the_lab_knows_every_fault_that_a_row_says_it_carries_out():
    live = Path(__file__).parents[2] / "simlib" / "live"
    by_effect = {
        "app_server": {FaultEffect.RESET, FaultEffect.AGE_LIMIT},
        "standby": {
            FaultEffect.SERVER_DOWN,
            FaultEffect.SERVER_UP,
            FaultEffect.NODE_DOWN,
            FaultEffect.NODE_UP,
        },
    }
    texts = [(live / name).read_text(encoding="utf-8") for name in ("proxy.py", "conditions.py")]
    for kind, row in FAULTS.items():
        if row.lab_part in by_effect:
            fields = {"start_s": 1.0, **dict.fromkeys(row.needs, 2)}
            if "share" in row.may_have:
                fields["share"] = 1.0
            effects = {event.effect for event in fault_events_of(kind, 0, 2, **fields)}
            assert effects <= by_effect[row.lab_part]
        elif row.lab_part is not None:
            assert any(f'"{kind}"' in text for text in texts), f"{kind} would not happen there"


def test_the_reference_lists_the_faults():
    text = (Path(__file__).parents[2] / "data" / "reference.md").read_text(encoding="utf-8")
    listed = text.partition("Faults: ")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", listed) == list(FAULTS)


def test_the_share_that_is_hit_is_drawn_once_per_client_and_fault():
    hits = np.array(
        [[is_affected(1, 0, n, fault, 0.0, 0.3) for n in range(5000)] for fault in (0, 1)]
    )
    assert hits.mean(axis=1) == pytest.approx([0.3, 0.3], abs=4 * np.sqrt(0.21 / 5000))
    both = (hits[0] & hits[1]).mean()
    assert both == pytest.approx(0.09, abs=0.02)


def test_what_ends_comes_before_what_begins_at_the_same_time():
    faults = [
        {"kind": "restart", "start_s": 20.0, "length_s": 5.0},
        {"kind": "restart", "start_s": 10.0, "length_s": 10.0},
    ]
    fault_events = compile_workload(BOARD.replace({"faults": faults}), 1, 0).fault_events
    assert [fault_event.effect for fault_event in fault_events] == [
        FaultEffect.SERVER_DOWN,
        FaultEffect.SERVER_UP,
    ] * 2


def test_a_restart_cuts_everybody_and_refuses_them_until_it_is_over():
    run = run_with({"kind": "restart", "start_s": 100.0, "length_s": 11.0})
    lost = ends(run)
    assert len(lost) == 400
    assert (lost["closed_s"] == 100.0 + run.scenario.network.rtt_s / 2).all()
    assert (lost["cause"] == "closed_by_server").all()
    # One refusal and 2 s after another; the first attempt after the restart succeeds.
    assert opened_again(run).between(111.0, 113.5).all()
    assert (run.frame("clients")["attempts"] == 1 + 6).all()
    timeline = run.frame("timeline").set_index("t_s")
    assert (timeline.loc[101.0:110.0, "connection_count"] == 0).all()
    assert (timeline.loc[101.0:110.0, "utilisation"] == 0).all()
    assert timeline["utilisation"].between(0.0, 1.0).all()


def test_a_restart_takes_back_the_work_that_it_cut_short():
    slow = {"server.send_s": 0.1, "faults": []}  # a broadcast to 400 takes 40 s
    whole = run_with(**slow)
    cut = run_with(
        {"kind": "restart", "start_s": 100.0, "length_s": 50.0}, **{"server.send_s": 0.1}
    )
    busy = [run.frame("timeline").set_index("t_s")["utilisation"] for run in (whole, cut)]
    assert busy[0].loc[101.0:149.0].mean() > 0.9
    assert busy[1].loc[101.0:149.0].max() == 0.0
    assert busy[1].between(-1e-12, 1.0 + 1e-9).all()
    assert busy[0].loc[:99.0].equals(busy[1].loc[:99.0])


def test_a_reset_cuts_its_share_and_they_are_back_after_one_wait():
    run = run_with({"kind": "reset", "start_s": 100.0, "share": 0.25})
    assert len(ends(run)) == pytest.approx(100, abs=4 * np.sqrt(400 * 0.25 * 0.75))
    assert opened_again(run).between(102.0, 102.5).all()


@pytest.mark.parametrize("batches", [1, 5, 20])
def test_a_drain_closes_a_batch_at_a_time(batches):
    fault = {"kind": "drain", "start_s": 100.0, "length_s": 60.0, "batches": batches}
    closed_s = ends(run_with(fault))["closed_s"]
    assert len(closed_s) == 400
    starts, sizes = np.unique(closed_s.round(6), return_counts=True)
    assert np.diff(starts) == pytest.approx(60.0 / batches)
    assert len(starts) == batches
    assert sizes.max() < 400 / batches + 4 * np.sqrt(400 / batches) + 1


def test_a_dead_path_is_noticed_by_the_heartbeat_and_by_nothing_else():
    run = run_with({"kind": "path_loss", "start_s": 100.0, "length_s": 5.0})
    lost = ends(run)
    assert (lost["cause"] == "timed_out").all()
    assert (lost["closed_s"] - 100.0).between(20.0, 45.1).all()
    deaf = run_with(
        {"kind": "path_loss", "start_s": 100.0, "length_s": 5.0}, **{"heartbeat.direction": "none"}
    )
    assert len(ends(deaf)) == 0
    assert deaf.ledger.pending > 0


def test_no_connection_is_made_while_the_path_is_lost():
    fault = {"kind": "path_loss", "start_s": 0.0, "length_s": 30.0}
    opened_s = run_with(fault).frame("connections")["opened_s"]
    assert opened_s.min() > 30.0


def open_sockets(simulation):
    return sum(server.state.sockets for server in simulation.servers)


@pytest.mark.parametrize(
    ("direction", "forgotten_s"), [("server", 145.1), ("client", 145.0), ("none", 145.0)]
)
def test_the_server_lets_go_of_whom_it_no_longer_hears(direction, forgotten_s):
    # By its own pings; or else when the kernel gives up on a push, 40 s after one within 5 s.
    scenario = BOARD.replace(
        {
            "updates": {"kind": "bursts", "rate_per_s": 5.0, "burst_size": 1, "burst_gap_s": 0.0},
            "clients": 40,
            "heartbeat.direction": direction,
            "network.unanswered_s": 40.0,
            "reconnect": {"policy": "none"},
            "faults": [{"kind": "path_loss", "start_s": 100.0, "length_s": 1.0}],
        }
    )
    workload = compile_workload(scenario, 1, 0)
    simulation = Simulation(workload, new_record(scenario, workload))
    simulation.run_until(119.0)
    assert len(simulation.subscribers) == open_sockets(simulation) == 40
    simulation.run_until(forgotten_s)
    assert len(simulation.subscribers) == open_sockets(simulation) == 0


def test_polls_on_a_dead_path_fail_when_the_kernel_gives_up():
    run = run_with(
        {"kind": "path_loss", "start_s": 100.0, "length_s": 1.0},
        transport="polling",
        **{"network.unanswered_s": 40.0, "polling.interval_s": 10.0},
    )
    lost = run.frame("connections").query("cause == 'timed_out'")
    assert len(lost) == 400
    # The next poll falls due within an interval, and waits for 40 s.
    assert lost["closed_s"].between(140.0, 151.0).all()
    assert run.ledger.lost == 0


def test_blocked_upgrades_leave_open_connections_alone():
    run = run_with(
        {"kind": "block_upgrades", "start_s": 50.0, "length_s": 200.0, "share": 0.5},
        {"kind": "reset", "start_s": 100.0, "share": 1.0},
    )
    assert (ends(run)["closed_s"] > 99.0).all()
    back_s = opened_again(run)
    at_once, late = back_s[back_s < 110.0], back_s[back_s > 249.0]
    assert len(at_once) + len(late) == 400
    assert 0.4 < len(late) / 400 < 0.6


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize(("answered", "attempt_s"), [(None, 0.12), (True, 0.12), (False, 7.0)])
def test_a_blocked_upgrade_fails_at_once_or_lasts_as_long_as_the_client_waits(
    answered, attempt_s, engine
):
    block = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 300.0, "answered": answered}
    changes = {"clients": 5, "websocket.open_timeout_s": 7.0, "faults": [block]}
    changes |= {"fallback": {"after_failures": 3}, "keep": ("events",)}
    keep = changes.pop("keep")
    run = sl.simulate(BOARD.replace(changes), engine=engine, keep=keep, progress=False)
    events = run.frame("events")
    for _, of_client in events.groupby("client"):
        fell_s = of_client.loc[of_client["actions"] == "fetch|close", "t_s"].iloc[0]
        # Three attempts with a wait of 2 s after the first and the second; TCP, TLS and the answer
        # take a round trip each, and the server a millisecond.
        assert fell_s == pytest.approx(3 * attempt_s + 2 * 2.0, abs=0.01)
    assert (run.frame("clients")["attempts"] == 3).all()
    assert (run.frame("clients")["errors"] == 3).all()


def test_what_is_swallowed_while_the_fault_lasts_is_never_answered_later():
    block = {"kind": "block_upgrades", "start_s": 0.0, "length_s": 3.0, "answered": False}
    changes = {"clients": 5, "horizon_s": 60.0, "websocket.open_timeout_s": 20.0}
    run = run_with(block, **changes)
    opened_s = run.frame("connections")["opened_s"]
    assert len(opened_s) == 5
    assert opened_s.between(22.0, 22.3).all()  # the time-out, a wait of 2 s, an attempt


def test_only_blocked_upgrades_are_answered_or_not():
    with pytest.raises(sl.ScenarioError, match=r"answered: has no meaning when kind is \"reset\""):
        BOARD.replace(faults=[{"kind": "reset", "start_s": 1.0, "answered": True}])


@pytest.mark.parametrize(
    ("websocket", "stranded"),
    [
        ({"token_valid_s": 60.0, "token_resent": True}, True),
        ({"token_valid_s": 200.0, "token_resent": True}, False),
        ({"token_valid_s": 60.0}, False),  # read anew at every connect
        ({}, False),
    ],
)
def test_who_resends_an_expired_token_is_stranded_by_the_first_loss(websocket, stranded):
    run = run_with({"kind": "reset", "start_s": 100.0}, websocket=websocket)
    clients = run.frame("clients")
    assert (clients["connections"] == (1 if stranded else 2)).all()
    assert (clients["errors"] == (2 if stranded else 1)).all()  # the loss, and the refusal
    assert (run.ledger.lost > 0) == stranded


@pytest.mark.parametrize(
    ("heartbeat", "is_cut"),
    [
        ({"direction": "server", "interval_s": 25.0}, False),
        ({"direction": "client", "interval_s": 59.0}, False),
        ({"direction": "server", "interval_s": 61.0, "timeout_s": 20.0}, True),
        ({"direction": "none"}, True),
    ],
)
def test_a_middlebox_closes_what_no_heartbeat_keeps_busy(heartbeat, is_cut):
    # A change every five minutes or so: now and then one comes in time.
    quiet = {"updates.rate_per_s": 1 / 300, "network.idle_s": 60.0}
    run = run_with(**{**quiet, "heartbeat": heartbeat, "horizon_s": 1200.0, "clients": 30})
    connections = run.frame("connections")
    ended = connections[connections["cause"] == "closed_by_server"]
    assert (len(ended) > 0) == is_cut
    if is_cut:
        assert (ended["closed_s"] - ended["opened_s"]).min() >= 60.0
        per_hour = run.metrics()["reconnection_rate_per_h"].iloc[0]
        assert 30.0 < per_hour < 60.0  # every 62 s at most, later where a change came


def test_traffic_of_any_kind_keeps_a_middlebox_from_closing():
    busy = {"updates.rate_per_s": 0.5, "network.idle_s": 30.0, "heartbeat.direction": "none"}
    connections = run_with(**busy).frame("connections")
    assert (connections["cause"] == "open_at_end").all()


def test_safety_polls_do_not_keep_a_middlebox_from_closing_the_socket_beside():
    quiet = {"updates.rate_per_s": 0.0, "network.idle_s": 30.0, "heartbeat.direction": "none"}
    run = run_with(**quiet, **{"websocket.safety_poll_s": 10.0, "horizon_s": 100.0})
    connections = run.frame("connections")
    ended = connections[connections["cause"] == "closed_by_server"]
    assert len(ended) >= run.scenario.clients
    assert run.frame("clients")["polls"].sum() > 0


# No service times: a connection is READY 3 round trips after its attempt, a loss is heard of half
# a trip later, and the next attempt is 2 s after that.
SHORT_LIVED = BOARD.replace(
    {
        "clients": 20,
        "horizon_s": 60.0,
        "network": {"rtt_s": 0.25, "tls": False},
        "server": dict.fromkeys(("accept_s", "handshake_s", "authenticate_s"), 0.0),
        "updates.rate_per_s": 4.0,
    }
)
LIFETIME = {"kind": "lifetime", "start_s": 0.0, "length_s": 60.0, "age_s": 10.0}
FULL_S = 0.75 + 10.0 + 0.125 + 2.0  # from one attempt to the next


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize(
    ("fault", "opened_s", "closed_s"),
    [
        # Everybody at once, again and again: the storm that a synchronised start makes of it.
        (
            LIFETIME,
            [0.75 + FULL_S * n for n in range(5)],
            [10.875 + FULL_S * n for n in range(4)] + [60.0],
        ),
        # Who is older when it begins goes then; who would reach the age after its end stays.
        (
            {**LIFETIME, "start_s": 25.0, "length_s": 15.0},
            [0.75, 27.875, 40.75],
            [25.125, 38.0, 60.0],
        ),
        # An age that is reached as it ends is not reached in time.
        (
            {**LIFETIME, "start_s": 5.0, "length_s": 5.75},
            [0.75],
            [60.0],
        ),
    ],
)
def test_a_lifetime_ends_sockets_at_an_age_that_counts_from_ready(
    engine, fault, opened_s, closed_s
):
    scenario = SHORT_LIVED.replace({"faults": [fault]})
    run = sl.simulate(scenario, engine=engine, progress=False)
    for _, connections in run.frame("connections").groupby("client"):
        assert connections["opened_s"].tolist() == opened_s
        assert connections["closed_s"].tolist() == closed_s
        assert (connections["cause"].iloc[:-1] == "closed_by_server").all()
    assert run.ledger.lost == 0
    assert len(opened_s) == 1 or run.frame("clients")["errors"].eq(len(opened_s) - 1).all()


def test_a_lifetime_ends_the_sockets_of_a_share_and_no_polling_connection():
    half = {**LIFETIME, "share": 0.5}
    many = SHORT_LIVED.replace({"clients": 400, "faults": [half]})
    run = sl.simulate(many, engine="compiled", seed=1, progress=False)
    connections = run.frame("clients")["connections"].to_numpy()
    is_hit = [is_affected(1, 0, number, 0, 0.0, 0.5) for number in range(400)]
    assert connections.tolist() == [5 if hit else 1 for hit in is_hit]
    polled = sl.simulate(many.replace({"transport": "polling"}), engine="compiled", progress=False)
    assert (polled.frame("connections")["cause"] == "open_at_end").all()


def test_the_server_ends_a_socket_of_a_certain_age_on_a_dead_path_too():
    lost = {"kind": "path_loss", "start_s": 5.0, "length_s": 1.0}
    scenario = SHORT_LIVED.replace({"faults": [LIFETIME, lost], "heartbeat.direction": "none"})
    workload = compile_workload(scenario, 1, 0)
    simulation = Simulation(workload, new_record(scenario, workload))
    simulation.run_until(10.7)
    assert len(simulation.subscribers) == open_sockets(simulation) == 20
    simulation.run_until(10.8)
    assert len(simulation.subscribers) == open_sockets(simulation) == 0
    simulation.run_until(60.0)
    assert {client.state for client in simulation.clients} == {State.OPEN}  # they know nothing


JOIN = {"kind": "scale_out", "start_s": 50.0}
DEPLOY = {"kind": "rolling_deploy", "start_s": 50.0, "length_s": 20.0, "every_s": 40.0}


@pytest.mark.parametrize(("nodes", "surge"), [(2, 0), (4, 0), (2, 1), (5, 1), (5, 2), (4, 4)])
def test_a_rolling_deploy_moves_tabs_as_often_as_theory_says(nodes, surge):
    run = sl.simulate(
        BOARD.replace(
            {
                "faults": [{**DEPLOY, "surge": surge}],
                "server.nodes": nodes,
                "clients": 20_000,
                "network.tls": False,
                "server.handshake_s": 0.0,
                "reconnect.base_s": 0.5,
                "reconnect.cap_s": 0.5,
                "updates.rate_per_s": 0.01,
            }
        ),
        engine="compiled",
        progress=False,
    )
    moves = run.frame("clients")["reconnects"].to_numpy()
    expected = sl.theory.rolling_deploy_moves(nodes, surge)
    seen = np.bincount(moves, minlength=nodes + 1) / len(moves)
    assert len(seen) == len(expected)
    assert seen == pytest.approx(expected, abs=4 * np.sqrt(0.25 / len(moves)))
    if surge == 0:
        mean = (nodes - 1) / nodes * ((nodes / (nodes - 1)) ** nodes - 1)
        assert moves.mean() == pytest.approx(mean, rel=0.02)


@pytest.mark.parametrize(("nodes", "surge"), [(1, 1), (3, 1), (3, 2), (3, 3)])
def test_with_surge_no_client_is_refused_and_only_the_last_turn_cuts_for_good(nodes, surge):
    """As many nodes as before are up at any time: who is cut is let in at once."""
    run = run_with({**DEPLOY, "surge": surge}, **{"server.nodes": nodes, "horizon_s": 200.0})
    clients = run.frame("clients")
    assert (clients["attempts"] == clients["reconnects"] + 1).all()
    lost = ends(run, 200.0)
    turns_s = np.array([70.0, 110.0, 150.0])[: -(-nodes // surge)]
    half_s = run.scenario.network.rtt_s / 2.0
    assert np.unique(lost["closed_s"]).tolist() == pytest.approx((turns_s + half_s).tolist())
    last = run.frame("connections").query("cause == 'open_at_end'")
    # A node's number is its place: whose turn is over are new.
    turn = last.get("node", 0) // surge
    assert (last["opened_s"].to_numpy() > turns_s[turn]).all()


def test_a_deploy_with_surge_is_over_when_the_last_new_node_is_ready():
    deploys = [
        {"kind": "restart", "start_s": 150.0, "length_s": 5.0},
        {**DEPLOY, "surge": 2},
    ]
    board = BOARD.replace({"faults": deploys, "server.nodes": 6})
    assert board.faults[1].end_s(6) == 150.0
    fault_events = compile_workload(board, 1, 0).fault_events
    assert [event.t for event in fault_events] == [70.0] * 2 + [110.0] * 2 + [150.0] * 3 + [155.0]
    # The restart, which begins then, finds the last new nodes up.
    assert [event.effect for event in fault_events[-4:]] == [
        *[FaultEffect.NODE_DOWN] * 2,
        FaultEffect.SERVER_DOWN,
        FaultEffect.SERVER_UP,
    ]


def test_a_node_that_is_added_is_empty_until_clients_come_anew():
    resets = [{"kind": "reset", "start_s": t} for t in (20.0, 100.0)]
    board = BOARD.replace({"faults": [JOIN, *resets], "server.nodes": 2})
    workload = compile_workload(board, 1, 0)
    simulation = Simulation(workload, new_record(board, workload))
    on_last = []
    for t in (49.0, 99.0, 150.0):
        simulation.run_until(t)
        on_last.append(np.mean([link.node == 1 for link in simulation.connection_rows]))
    # Nobody comes by itself; after a cut half of the clients are there.
    assert on_last[:2] == [0.0, 0.0]
    assert on_last[2] == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 400))


def test_a_node_that_is_added_has_none_of_the_changes_before():
    joins = {"kind": "scale_out", "start_s": 100.0}
    cut = {"kind": "reset", "start_s": 100.0}
    changes = {
        "clients": 2000,
        "websocket.resync": "replay",
        "websocket.replay_changes": 100,
        "reconnect": {"policy": "fixed", "base_s": 20.0, "cap_s": 20.0},
        "updates.rate_per_s": 1.0,
        "warm_up_s": 50.0,
    }
    run = run_with(joins, cut, **changes, **{"server.nodes": 2})
    clients = run.frame("clients")
    # Half come back to the new node, which had started before they missed anything.
    assert (clients["lost"] == 0).all()
    late = run_with({**joins, "start_s": 115.0}, cut, **changes, **{"server.nodes": 2})
    lost = late.frame("clients")["lost"] > 0
    assert lost.mean() == pytest.approx(0.5, abs=4 * np.sqrt(0.25 / 2000))


def test_no_two_nodes_are_out_at_a_time_however_times_are_rounded():
    fault_events = fault_events_of("rolling_deploy", 0, 30, start_s=0.1, length_s=0.7, every_s=0.7)
    times = [fault_event.t for fault_event in fault_events]
    assert times == sorted(times)
    assert [fault_event.effect for fault_event in fault_events] == [
        FaultEffect.NODE_DOWN,
        FaultEffect.NODE_UP,
    ] * 30


def test_a_session_is_recovered_only_where_the_client_comes_back_to_its_process():
    fault = {"kind": "reset", "start_s": 100.0}
    changes = {
        "clients": 2000,
        "websocket.resync": "recovery",
        "websocket.recovery_s": 120.0,
        "updates.rate_per_s": 1.0,
        "warm_up_s": 50.0,
    }
    lost = {
        nodes: (run_with(fault, **changes, **{"server.nodes": nodes}).frame("clients")["lost"] > 0)
        for nodes in (1, 4)
    }
    assert not lost[1].any()
    assert lost[4].mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.19 / 2000))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"faults": [DEPLOY]}, "rolling_deploy when server.nodes is 1"),
        (
            {"server.nodes": 3, "faults": [{**DEPLOY, "surge": 4}]},
            r"faults\.0\.surge: must be <= server.nodes \(3\), got 4",
        ),
        (
            {"faults": [{"kind": "reset", "start_s": 1.0, "surge": 1}]},
            "surge: has no meaning",
        ),
        (
            {"server.nodes": 2, "faults": [{**DEPLOY, "every_s": 10.0}]},
            "every_s: must be >= length_s",
        ),
        ({"server.nodes": 9, "faults": [DEPLOY]}, "every_s: must let it end by horizon_s"),
        (
            {"faults": [{"kind": "latency", "start_s": 1.0, "length_s": 1.0}]},
            "added_s: must be given",
        ),
        (
            {"faults": [{"kind": "bandwidth", "start_s": 1.0, "length_s": 1.0, "added_s": 1.0}]},
            "added_s: has no meaning",
        ),
        (
            {"faults": [{"kind": "reset", "start_s": 1.0, "jitter_s": 1.0}]},
            "jitter_s: has no meaning",
        ),
        (
            {"faults": [{"kind": "latency", "start_s": 1.0, "length_s": 1.0, "added_s": 0.0}]},
            "added_s: must be > 0 when there is no jitter_s",
        ),
        ({"faults": [JOIN]}, "scale_out when server.nodes is 1"),
        ({"server.nodes": 2, "faults": [JOIN, JOIN]}, "faults.1.kind: must not be scale_out twice"),
        (
            {"server.nodes": 2, "faults": [JOIN, {**DEPLOY, "start_s": 40.0, "every_s": 40.0}]},
            "faults.0.start_s: must be <= 40, the start of a restart or deploy",
        ),
        ({"server.admit_burst": 3}, "admit_burst: has no meaning without admit_per_s"),
    ],
)
def test_contradictions_among_faults_and_nodes_are_refused_by_name(changes, words):
    with pytest.raises(sl.ScenarioError, match=words):
        BOARD.replace(changes)


@pytest.mark.parametrize(("policy", "back_s"), [("full_jitter", 20.0), ("fixed", 80.0)])
def test_upgrades_beyond_the_rate_are_refused_and_who_comes_in_step_wastes_it(policy, back_s):
    run = run_with(
        {"kind": "restart", "start_s": 100.0, "length_s": 5.0},
        **{
            "server.admit_per_s": 20.0,
            "server.admit_burst": 5,
            "reconnect.policy": policy,
            "reconnect.base_s": 1.0,
            "reconnect.cap_s": 2.0,
        },
    )
    opened_s = np.sort(opened_again(run).to_numpy())
    assert len(opened_s) == 400
    in_a_second = np.searchsorted(opened_s, opened_s + 1.0) - np.arange(400)
    assert in_a_second.max() <= 20 + 5
    # In step, no more than a burst comes in at each try, once in about a second.
    assert opened_s[-1] - opened_s[0] == pytest.approx(back_s, rel=0.35)
