"""What a cut loses: nothing that the server has sent before, and all that it sends after."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl

CUT_S = 30.0
CUTS = {
    "restart": {"length_s": 3.0},
    "reset": {},
    "drain": {"length_s": 10.0, "batches": 5},
    "rolling_deploy": {"length_s": 2.0, "every_s": 4.0},
}
ENGINES = ("simpy", "compiled")


LAST_CHANGES_S = CUT_S - 0.4 + 0.04 * np.arange(10)


def board(kind, latency_s, publish_s=LAST_CHANGES_S, **changes):
    """Twenty clients, and ten changes in the last 0.4 s before the cut, which nothing repeats."""
    return sl.Scenario(
        transport="websocket",
        clients=20,
        ramp_s=5.0,
        horizon_s=60.0,
        updates={"kind": "times", "publish_s": publish_s},
        websocket={"resync": "none"},
        network={"rtt_s": 2.0 * latency_s},
        server={"nodes": 4 if kind == "rolling_deploy" else 1},
        faults=[{"kind": kind, "start_s": CUT_S, **CUTS[kind]}],
    ).replace(changes)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("latency_s", [0.0, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("kind", CUTS)
def test_what_was_sent_before_a_cut_arrives(kind, latency_s, engine):
    run = sl.simulate(board(kind, latency_s), engine=engine, progress=False)
    ledger = run.ledger
    assert (ledger.eligible, ledger.delivered, ledger.lost) == (200, 200, 0)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_cut_leaves_unsent_is_lost(engine):
    """A broadcast takes 1 s to twenty clients, and the server dies in the middle of it."""
    slow = board("restart", 0.2, [CUT_S - 0.5], **{"server.send_s": 0.05, "server.fan_out_s": 0})
    run = sl.simulate(slow, engine=engine, progress=False, keep=["deliveries"])
    latencies_s = run.frame("deliveries")["latency_s"].to_numpy()
    np.testing.assert_allclose(np.sort(latencies_s), 0.2 + 0.05 * np.arange(1, 11))
    assert run.ledger.lost == 10


@pytest.mark.parametrize("engine", ENGINES)
def test_clients_hear_of_the_end_behind_what_was_sent(engine):
    """A snapshot takes 2 s on a narrow path: the kernels go on sending after the process's end."""
    size = 5304
    narrow = {"kind": "bandwidth", "start_s": 0.0, "length_s": 60.0, "bytes_per_s": size / 2.0}
    cut = {"kind": "restart", "start_s": CUT_S, "length_s": 3.0}
    changes = {"websocket.push": "snapshot", "faults": [narrow, cut]}
    wide = board("restart", 0.1, [CUT_S - 0.01], **changes)
    run = sl.simulate(wide, engine=engine, progress=False)
    assert run.ledger.delivered == 20
    closed_s = run.frame("connections").query("cause == 'closed_by_server'")["closed_s"]
    assert closed_s.between(CUT_S + 2.0, CUT_S + 2.2).all()
    # What the process holds in its own memory ends with it.
    tight = sl.simulate(wide.replace({"server.socket_bytes": 1000}), engine=engine, progress=False)
    assert tight.ledger.delivered == 0
    closed_s = tight.frame("connections").query("cause == 'closed_by_server'")["closed_s"]
    assert closed_s.between(CUT_S + 0.4, CUT_S + 0.6).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_poll_that_was_answered_before_the_cut_does_not_fail(engine):
    """Every client polls at the same moment, 0.2 s before the server dies, or 0.2 s later."""
    changes = {
        "transport": "polling",
        "ramp_s": 0.0,
        "polling.interval_s": 29.0,
        "polling.retries": 0,
        "network.tls": False,
        "server.poll_s": 0.0,
        "server.accept_s": 0.0,
    }
    answered = board("restart", 0.15, **changes)  # the request sets out at 29.6 s
    run = sl.simulate(answered, engine=engine, progress=False, keep=["events"])
    events = run.frame("events").query("29 < t_s < 31")
    assert set(events["event"]) == {"deadline", "fetched"}
    on_its_way = answered.replace({"polling.interval_s": 29.3})
    run = sl.simulate(on_its_way, engine=engine, progress=False, keep=["events"])
    events = run.frame("events").query("29 < t_s < 31")
    assert set(events["event"]) == {"deadline", "failed"}


@pytest.mark.parametrize("engine", ENGINES)
def test_no_time_is_rounded_on_the_way_to_the_end_of_a_run(engine):
    """``now + (t - now)`` is not t: the run that ends at such a time has it in its tables."""
    horizon_s = 12.574180145196847
    changes = {
        "horizon_s": horizon_s,
        "faults": [{"kind": "reset", "start_s": 12.28, "share": 0.5}],
    }
    run = sl.simulate(
        board("reset", 0.02, [3.0], **changes), seed=10, engine=engine, progress=False
    )
    connections = run.frame("connections")
    still_open = connections.query("cause == 'open_at_end'")
    assert len(still_open) > 0
    assert (still_open["closed_s"] == horizon_s).all()


SNAPSHOT_S = 4.0
"""How long a snapshot takes on the path of `narrowed`."""


def narrowed(publish_s, cut, **changes):
    """One client, whose path carries a snapshot in four seconds."""
    narrow = {"kind": "bandwidth", "start_s": 0.0, "length_s": 60.0}
    faults = [{**narrow, "bytes_per_s": 5304 / SNAPSHOT_S}, cut]
    same = {"clients": 1, "websocket.push": "snapshot", "heartbeat.direction": "none"}
    return board("reset", 0.1, publish_s, faults=faults, **same, **changes)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_client_closed_for_slowness_loses_no_more_by_a_cut(engine):
    """The kernels have a snapshot when the server closes; a restart comes before it has arrived."""
    cut = {"kind": "restart", "start_s": CUT_S, "length_s": 3.0}
    limits = {"slow_consumers": "close", "buffer_bytes": 6000, "socket_bytes": 8000}
    changes = {f"server.{name}": value for name, value in limits.items()}
    scenario = narrowed(CUT_S - 1.0 + 0.1 * np.arange(4), cut, **changes)
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["deliveries"])
    assert run.frame("deliveries")["latency_s"].to_list() == pytest.approx([4.1], abs=0.02)
    closed_s = run.frame("connections").query("cause == 'closed_by_server'")["closed_s"]
    assert len(closed_s) == 1
    assert closed_s.iloc[0] > CUT_S - 1.0 + SNAPSHOT_S


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cut", [{"kind": "reset"}, {"kind": "restart", "length_s": 10.0}])
def test_a_safety_poll_after_a_cut_that_is_not_heard_yet_is_answered_or_fails(cut, engine):
    """It has a connection of its own, and three snapshots are ahead of the end of the socket."""
    cut = {**cut, "start_s": CUT_S}
    scenario = narrowed([29.0, 29.1, 29.2], cut, **{"websocket.safety_poll_s": 30.0})
    scenario = scenario.replace({"ramp_s": 0.0, "network.tls": False})
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["events"])
    events, timeline = run.frame("events").query("30 < t_s < 42"), run.frame("timeline")
    is_down = cut["kind"] == "restart"
    assert timeline["safety_polls"].iloc[:41].sum() == 1
    assert timeline["safety_errors"].sum() == is_down
    assert ("snapshot" in set(events["event"])) != is_down


@pytest.mark.parametrize("engine", ENGINES)
def test_an_end_that_is_on_its_way_is_lost_if_its_path_dies_before(engine):
    """A reset is heard after 2 s, and the path dies after one: the heartbeat notices at last."""
    faults = [
        {"kind": "reset", "start_s": CUT_S},
        {"kind": "path_loss", "start_s": CUT_S + 1.0, "length_s": 5.0},
    ]
    beats = {"heartbeat.interval_s": 5.0, "heartbeat.timeout_s": 10.0}
    run = sl.simulate(
        board("reset", 2.0, [10.0], faults=faults, **beats), engine=engine, progress=False
    )
    ends = run.frame("connections").query("opened_s < 20")
    assert set(ends["cause"]) == {"timed_out"}
    assert (ends["closed_s"] > CUT_S + 2.0).all()


DEATH_S = 31.0
DEATHS = [
    {"kind": "restart", "start_s": DEATH_S, "length_s": 5.0},
    {"kind": "rolling_deploy", "start_s": DEATH_S, "length_s": 0.1, "every_s": 0.1},
    {"kind": "reset", "start_s": DEATH_S},
]


def beside_a_dead_socket(death, lost_s=5.0, **changes):
    """A client whose socket has lost its path; it asks beside it at about 30 s, and waits for 2 s.

    So a death of the server does not reach it by its socket, as it would without the loss.
    """
    lost = {"kind": "path_loss", "start_s": lost_s, "length_s": 3.0}
    same = {"clients": 1, "ramp_s": 0.0, "heartbeat.direction": "none", "network.tls": False}
    nodes = 2 if death["kind"] == "rolling_deploy" else 1
    costs = {"server.nodes": nodes, "server.poll_s": 2.0, "websocket.safety_poll_s": 15.0}
    changes = {**same, **costs, "faults": [lost, death], **changes}
    return board("reset", 0.05, [25.0], **changes)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death["kind"])
def test_a_safety_poll_in_service_at_the_death_of_its_server_fails(death, engine):
    scenario = beside_a_dead_socket(death)
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["events"])
    events, timeline = run.frame("events"), run.frame("timeline").set_index("t_s")
    assert timeline["safety_polls"].loc[30.0] == 1
    assert timeline["safety_errors"].loc[:40.0].to_dict() == {
        t_s: int(t_s == DEATH_S) for t_s in timeline.loc[:40.0].index
    }
    assert "snapshot" not in set(events.query("30 < t_s < 40")["event"])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death["kind"])
def test_a_safety_poll_answered_before_the_death_of_its_server_arrives(death, engine):
    """The answer sets out at 29.5 s, and is on its way for 2 s."""
    changes = {"server.poll_s": 0.0, "network.rtt_s": 4.0, "websocket.safety_poll_s": 11.5}
    scenario = beside_a_dead_socket(death, lost_s=14.0, **changes)
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["events"])
    events, timeline = run.frame("events"), run.frame("timeline").set_index("t_s")
    shown_s = events.query("event == 'snapshot' and t_s > 25")["t_s"]
    assert shown_s.between(DEATH_S, DEATH_S + 2.0).any()
    assert timeline["safety_errors"].loc[:33.0].sum() == 0


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("death", DEATHS, ids=lambda death: death["kind"])
def test_a_fetch_in_service_at_the_death_of_its_server_fails_and_is_tried_again(death, engine):
    """The socket is dead, so only the connection of the fetch can say so."""
    scenario = beside_a_dead_socket(
        death, **{"transport": "notify", "websocket.safety_poll_s": 13.7}
    )
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["events"])
    events = run.frame("events").query("t_s > 28")
    told = events[events["event"].isin(["fetched", "unchanged", "failed"])].iloc[0]
    assert told["event"] == "failed"
    assert DEATH_S < told["t_s"] < DEATH_S + 0.2


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("cut", [DEATHS[0], DEATHS[2]], ids=lambda cut: cut["kind"])
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_fetch_after_a_cut_opens_a_connection_though_its_dead_socket_has_not_heard(
    is_cut, cut, engine
):
    """The connection of the first fetch would be kept for 75 s; its client opens another."""
    changes = {"transport": "notify", "websocket.safety_poll_s": 13.7, "server.poll_s": 0.0}
    cut = {**cut, "start_s": 20.0 if is_cut else 50.0}
    scenario = beside_a_dead_socket(cut, **changes)
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["events"])
    events = run.frame("events").query("27 < t_s < 30")
    assert events["event"].isin(["deadline", "fetched", "unchanged"]).all()
    asked_s, answered_s = events["t_s"]
    round_trips = 2 if is_cut else 1
    assert answered_s - asked_s == pytest.approx(0.1 * round_trips, abs=1e-3)


RESTART = {"kind": "restart", "start_s": CUT_S, "length_s": 30.0}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("direction", "interval_s"), [("client", 29.0), ("server", 29.2)])
def test_a_heartbeat_in_service_at_a_cut_is_not_sent_and_keeps_nothing_from_arriving(
    direction, interval_s, engine
):
    """The kernels have a snapshot, whose four seconds begin before the cut; then comes the end."""
    beats = {"direction": direction, "interval_s": interval_s, "timeout_s": 20.0}
    scenario = narrowed([29.2], RESTART, **{"server.heartbeat_s": 1.0, "ramp_s": 0.0})
    scenario = scenario.replace({"heartbeat": beats})
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["deliveries", "events"])
    assert run.frame("deliveries")["latency_s"].to_list() == pytest.approx([4.1], abs=0.02)
    events = run.frame("events").query("29 < t_s < 34")
    asks = ["deadline"] if direction == "client" else []
    assert events["event"].to_list() == [*asks, "push", "closed"]
    assert events["t_s"].iloc[-1] == pytest.approx(29.2 + 4.1, abs=0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_heartbeat_that_waits_its_turn_holds_up_nothing_on_its_way(engine):
    """The server takes two seconds for a ping; a push that it has sent before arrives at once."""
    slow = {"kind": "latency", "start_s": 0.0, "length_s": 60.0, "added_s": 0.1}
    beats = {"direction": "client", "interval_s": 27.4, "timeout_s": 20.0}
    # The fan-out begins at 28.4 s and takes half a second; the ping sets out in the middle of it.
    costs = {"server.heartbeat_s": 2.0, "server.send_s": 0.5, "ramp_s": 0.0, "clients": 1}
    scenario = board("reset", 0.1, [28.4], faults=[slow], heartbeat=beats, **costs)
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["deliveries", "events"])
    assert run.frame("deliveries")["latency_s"].to_list() == pytest.approx([0.65], abs=0.01)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("socket_bytes", "arrive"), [(6000, 1), (11_000, 2)])
@pytest.mark.parametrize("cut", [RESTART, {"kind": "reset", "start_s": CUT_S}])
def test_what_the_kernels_hold_at_a_cut_arrives_while_a_send_is_blocked(
    cut, socket_bytes, arrive, engine
):
    """Of four snapshots at once the last waits for room, or the last two: it comes too late."""
    limits = {"slow_consumers": "block", "buffer_bytes": 5400, "socket_bytes": socket_bytes}
    changes = {f"server.{name}": value for name, value in limits.items()}
    changes["reconnect"] = {"policy": "fixed", "base_s": 40.0, "cap_s": 40.0}
    scenario = narrowed(CUT_S - 1.0 + 0.1 * np.arange(4), cut, **changes)
    run = sl.simulate(scenario, engine=engine, progress=False, keep=["deliveries"])
    latencies_s = [SNAPSHOT_S + 0.1, 2 * SNAPSHOT_S][:arrive]
    assert run.frame("deliveries")["latency_s"].to_list() == pytest.approx(latencies_s, abs=0.02)
    closed_s = run.frame("connections").query("cause == 'closed_by_server'")["closed_s"]
    emptied_s = CUT_S + socket_bytes / 5304 * SNAPSHOT_S
    assert closed_s.to_list() == pytest.approx([emptied_s + 0.1], abs=0.02)
