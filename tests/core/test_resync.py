"""What brings back what a client missed, and what a run loses under each rule."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.core.resync import Resume, Resync, ResyncRules, resume_outcome
from simlib.core.wire import Message, message_sizes
from simlib.scenario import compile_workload

NONE, SNAPSHOT, REPLAY, RECOVERY = (
    ResyncRules(kind, replay_changes=10, recovery_s=120.0, or_snapshot=False) for kind in Resync
)


@pytest.mark.parametrize(
    ("rules", "seen", "kept_from", "has_session", "away_s", "outcome"),
    [
        (NONE, 20, 0, True, 1.0, Resume.NOTHING),
        (NONE, 19, 0, True, 1.0, Resume.LOST),
        (SNAPSHOT, 20, 0, False, 1e9, Resume.SNAPSHOT),
        (REPLAY, 20, 0, False, 1e9, Resume.NOTHING),
        (REPLAY, 10, 0, False, 1e9, Resume.REPLAY),
        (REPLAY, 9, 0, False, 1.0, Resume.LOST),
        (REPLAY, 15, 15, False, 1.0, Resume.REPLAY),
        (REPLAY, 15, 16, False, 1.0, Resume.LOST),  # a new process has kept nothing older
        (REPLAY._replace(or_snapshot=True), 9, 0, False, 1.0, Resume.SNAPSHOT),
        (RECOVERY, 0, 0, True, 120.0, Resume.REPLAY),
        (RECOVERY, 0, 0, True, 120.1, Resume.LOST),
        (RECOVERY, 0, 0, False, 1.0, Resume.LOST),  # a fresh client, or another process
        (RECOVERY._replace(or_snapshot=True), 0, 0, False, 1.0, Resume.SNAPSHOT),
    ],
)
def test_each_rule_has_its_own_conditions(rules, seen, kept_from, has_session, away_s, outcome):
    assert resume_outcome(rules, seen, 20, kept_from, has_session, away_s) == outcome


def after(fault, **changes):
    """A run in which 20 changes a minute are pushed and everybody is away for a while."""
    scenario = sl.Scenario(
        transport="websocket",
        clients=50,
        ramp_s=0.0,
        horizon_s=300.0,
        updates={"rate_per_s": 1 / 3},
        heartbeat={"interval_s": 25.0, "timeout_s": 20.0},
        reconnect={"policy": "fixed", "base_s": 5.0, "cap_s": 5.0},
        faults=[fault],
    )
    kept = {"replay": {"replay_changes": 1000}, "recovery": {"recovery_s": 120.0}}
    changes = {**kept.get(changes["resync"], {}), **changes}
    scenario = scenario.replace({f"websocket.{name}": value for name, value in changes.items()})
    return sl.simulate(scenario, seed=4, progress=False)


RESTART = {"kind": "restart", "start_s": 100.0, "length_s": 30.0}
PATH_LOSS = {"kind": "path_loss", "start_s": 100.0, "length_s": 1.0}


@pytest.mark.parametrize(
    ("fault", "resync", "loses"),
    [
        (RESTART, "none", True),
        (RESTART, "snapshot", False),
        (RESTART, "replay", True),  # the log went with the process
        (RESTART, "recovery", True),
        (PATH_LOSS, "none", True),
        (PATH_LOSS, "snapshot", False),
        (PATH_LOSS, "replay", False),
        (PATH_LOSS, "recovery", False),
    ],
)
def test_what_is_lost_depends_on_the_fault_and_on_the_rule(fault, resync, loses):
    ledger = after(fault, resync=resync).ledger
    assert (ledger.lost > 0) == loses
    assert ledger.delivered + ledger.lost + ledger.pending == ledger.eligible


def test_what_a_path_loss_costs_is_what_is_published_until_the_heartbeat_notices():
    run = after(PATH_LOSS, resync="none")
    connections = run.frame("connections")
    lost_s = connections.loc[connections["closed_s"] < 300.0].set_index("client")["closed_s"]
    back_s = connections.groupby("client")["opened_s"].max()
    assert (lost_s - 100.0).between(20.0, 45.0 + 0.1).all()
    # Nothing reaches a dead path, so each client misses what is published until it is back.
    publish_s = compile_workload(run.scenario, 4, 0).publish_s
    missed = [((publish_s > 100.0) & (publish_s < t)).sum() for t in back_s]
    assert run.ledger.lost == pytest.approx(sum(missed), abs=2 * len(missed))
    assert run.ledger.lost >= sum(missed) / 2 > 0


def test_a_log_that_is_too_short_loses_what_it_has_dropped():
    lost = [after(PATH_LOSS, resync="replay", replay_changes=n).ledger.lost for n in (1, 1000)]
    assert lost[0] > 0
    assert lost[1] == 0


def test_a_snapshot_stands_in_for_what_cannot_be_replayed():
    run = after(PATH_LOSS, resync="replay", replay_changes=1, or_snapshot=True)
    assert run.ledger.lost == 0


def test_a_replay_costs_a_push_for_each_change_and_a_snapshot_one_board():
    replay = after(PATH_LOSS, resync="replay")
    snapshot = after(PATH_LOSS, resync="snapshot")
    missed = replay.frame("clients")["messages"].sum() - snapshot.frame("clients")["messages"].sum()
    assert missed > 0  # on opening for the first time, a board is sent and a replay has nothing
    assert (
        replay.frame("clients")["down_bytes"].sum() < snapshot.frame("clients")["down_bytes"].sum()
    )


def test_reading_boards_keeps_the_server_busy_after_a_restart():
    idle, busy = (
        sl.simulate(
            sl.Scenario(
                transport="websocket",
                clients=200,
                horizon_s=200.0,
                updates={"rate_per_s": 0.1},
                server={"snapshot_s": snapshot_s},
                reconnect={"policy": "fixed"},
                faults=[RESTART],
            ),
            progress=False,
        )
        for snapshot_s in (0.0, 0.02)
    )
    extra_s = sum(
        (run.frame("timeline")["utilisation"] * run.frame("timeline")["width_s"]).sum() * sign
        for run, sign in ((idle, -1), (busy, 1))
    )
    assert extra_s == pytest.approx(0.02 * 400, rel=0.02)  # everybody opens twice


# -- safety polls ---------------------------------------------------------------------------------


def test_a_safety_poll_brings_late_what_nothing_else_would_have_brought():
    board = sl.Scenario(
        transport="websocket",
        clients=100,
        ramp_s=0.0,
        horizon_s=400.0,
        warm_up_s=10.0,
        cool_down_s=60.0,
        updates={"rate_per_s": 1.0},
        websocket={"resync": "none"},
        reconnect={"policy": "fixed", "base_s": 5.0, "cap_s": 5.0},
        faults=[{"kind": "reset", "start_s": t} for t in (100.0, 103.0, 110.0, 200.0)],
    )
    options = {"engine": "simpy", "progress": False}
    without = sl.simulate(board, **options)
    polled = sl.simulate(board.replace({"websocket.safety_poll_s": 50.0}), **options)
    assert without.ledger.lost > 100 * 10
    assert polled.ledger.lost == 0
    assert polled.ledger.pending == 0
    gained = polled.ledger.delivered - without.ledger.delivered
    assert gained == without.ledger.lost
    # Each comes within one interval of the last return: those that are back at 105 are cut again.
    assert 60.0 < polled.latency_quantiles(1.0) <= 50.0 + 15.2
    assert polled.latency_quantiles(0.5) == pytest.approx(without.latency_quantiles(0.5), rel=0.01)


ALONE = sl.Scenario(
    transport="websocket",
    clients=1,
    ramp_s=0.0,
    updates={"rate_per_s": 0.0},
    heartbeat={"direction": "none"},
)
"""A client to which nothing is sent, so that all its bytes are those of its safety polls."""


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("transport", ["websocket", "sse"])
@pytest.mark.parametrize(("keep_alive_s", "opened"), [(75.0, 1), (29.0, 6)])
def test_safety_polls_share_a_connection_that_the_server_keeps(
    transport, keep_alive_s, opened, engine
):
    """As a browser's do: six of them, 30 s apart."""
    polls = {"websocket.safety_poll_s": 30.0, "server.keep_alive_s": keep_alive_s}
    board = ALONE.replace({"transport": transport, "horizon_s": 200.0, **polls})
    run = sl.simulate(board, engine=engine, progress=False)
    unpolled = board.replace({"websocket.safety_poll_s": None})
    beside = sl.simulate(unpolled, engine=engine, progress=False)
    sizes = message_sizes(board.wire_spec(), "ip")
    new = Message.TCP_OPEN, Message.TLS_OPEN, Message.POLL_REQUEST_FIRST
    new = (*new, Message.POLL_RESPONSE_FIRST)
    again = Message.POLL_REQUEST, Message.POLL_RESPONSE
    expected = opened * sizes[[*new]].sum(axis=0) + (6 - opened) * sizes[[*again]].sum(axis=0)
    expected += (opened - (keep_alive_s > 20.0)) * sizes[Message.TCP_CLOSE]  # the last one is open
    for place, name in enumerate(("up_bytes", "down_bytes")):
        more = run.frame("clients")[name].iloc[0] - beside.frame("clients")[name].iloc[0]
        assert more == expected[place], name


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_safety_poll_beside_one_that_is_under_way_has_a_connection_of_its_own(engine):
    """Each takes 2.5 s, and one starts each second: three at once, of which one stays."""
    slow_polls = {"websocket.safety_poll_s": 1.0, "server.poll_s": 2.5, "server.workers": 4}
    board = ALONE.replace({"horizon_s": 20.0, "network.rtt_s": 0.0, **slow_polls})
    run = sl.simulate(board, engine=engine, progress=False)
    polls = int(run.frame("timeline")["safety_polls"].sum())
    slow = board.replace({"server.keep_alive_s": 0.0})
    alone = sl.simulate(slow, engine=engine, progress=False)
    assert run.frame("clients")["polls"].equals(alone.frame("clients")["polls"])
    saved = alone.frame("clients")["up_bytes"] - run.frame("clients")["up_bytes"]
    each = message_sizes(board.wire_spec(), "ip")[[Message.TCP_OPEN, Message.TLS_OPEN], 0].sum()
    assert 0.5 * each < saved.iloc[0] / polls < 1.5 * each


def test_a_safety_poll_reaches_a_client_whose_path_is_dead_and_does_not_know():
    board = sl.Scenario(
        transport="websocket",
        clients=50,
        ramp_s=0.0,
        horizon_s=400.0,
        cool_down_s=40.0,
        updates={"rate_per_s": 0.5},
        heartbeat={"direction": "none"},
        faults=[{"kind": "path_loss", "start_s": 100.0, "length_s": 1.0}],
    )
    deaf = sl.simulate(board, progress=False)
    polled = sl.simulate(board.replace({"websocket.safety_poll_s": 30.0}), progress=False)
    assert deaf.ledger.pending > 0.5 * deaf.ledger.eligible
    assert polled.ledger.pending == 0
    # The first one after the loss is sent on the connection of the one before, which is dead too.
    assert 30.0 < polled.latency_quantiles(0.99) < 61.0
    new = {"websocket.safety_poll_s": 30.0, "server.keep_alive_s": 5.0}
    assert 29.0 < sl.simulate(board.replace(new), progress=False).latency_quantiles(0.99) < 31.0


def test_more_gaps_than_are_remembered_cost_the_oldest():
    faults = [{"kind": "reset", "start_s": 20.0 + 5.0 * k} for k in range(8 + 2)]
    board = sl.Scenario(
        transport="websocket",
        clients=5,
        ramp_s=0.0,
        horizon_s=200.0,
        warm_up_s=10.0,
        updates={"rate_per_s": 10.0},
        websocket={"resync": "none", "safety_poll_s": 100.0},
        reconnect={"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
        faults=faults,
    )
    runs = [sl.simulate(board, engine=engine, progress=False) for engine in ("simpy", "compiled")]
    assert runs[0].ledger == runs[1].ledger
    per_gap = 10.0 * 1.1 * 5
    assert runs[0].ledger.lost == pytest.approx(2 * per_gap, rel=0.5)
    assert runs[0].ledger.delivered + runs[0].ledger.lost == runs[0].ledger.eligible


DROPPING = sl.Scenario(
    transport="websocket",
    clients=20,
    ramp_s=0.0,
    horizon_s=300.0,
    warm_up_s=10.0,
    updates={"rate_per_s": 5.0},
    websocket={"resync": "replay", "replay_changes": 10_000},
    reconnect={"policy": "fixed", "base_s": 1.0, "cap_s": 1.0},
    server={"slow_consumers": "drop_oldest", "buffer_bytes": 1000, "socket_bytes": 300},
    faults=[
        {"kind": "bandwidth", "start_s": 50.0, "length_s": 20.0, "bytes_per_s": 300.0},
        {"kind": "reset", "start_s": 100.0},
    ],
)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_replay_brings_what_came_after_and_not_what_was_dropped_before(engine):
    dropped = sl.simulate(DROPPING, engine=engine, progress=False).ledger
    too_late = sl.simulate(
        DROPPING.replace({"websocket.safety_poll_s": 1000.0}), engine=engine, progress=False
    ).ledger
    polled = sl.simulate(
        DROPPING.replace({"websocket.safety_poll_s": 30.0}), engine=engine, progress=False
    ).ledger
    assert dropped.lost > 500
    assert too_late.delivered == dropped.delivered
    assert (too_late.lost, too_late.pending) == (0, dropped.lost + dropped.pending)
    assert polled.lost == 0
    assert polled.delivered >= dropped.delivered + dropped.lost


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_busy_board_is_never_polled_where_each_push_starts_the_safety_poll_anew(engine):
    board = sl.Scenario(
        transport="websocket",
        clients=20,
        ramp_s=0.0,
        horizon_s=200.0,
        updates={"kind": "bursts", "rate_per_s": 0.2, "burst_size": 2, "burst_gap_s": 3.0},
        websocket={"safety_poll_s": 30.0, "resync": "none"},
        faults=[{"kind": "reset", "start_s": 60.0}],
        reconnect={"policy": "fixed", "base_s": 20.0},
    )
    healed, missed = (
        sl.simulate(
            board.replace({"websocket.safety_poll_restart": restart}), engine=engine, progress=False
        )
        for restart in (False, True)
    )
    assert healed.frame("clients")["polls"].sum() == 20 * 4  # at 30 s, and thrice from 80 s on
    assert healed.ledger.lost == 0
    # With this seed the longest silence is shorter than 30 s.
    assert missed.frame("clients")["polls"].sum() == 0
    assert missed.ledger.delivered < healed.ledger.delivered


def test_a_safety_poll_is_shed_like_any_other_and_one_that_fails_is_an_error():
    board = sl.Scenario(
        transport="websocket",
        clients=40,
        ramp_s=0.0,
        horizon_s=200.0,
        updates={"rate_per_s": 0.1},
        heartbeat={"direction": "none"},
        websocket={"safety_poll_s": 20.0},
        server={"poll_s": 0.01, "accept_s": 0.0, "handshake_s": 0.0, "authenticate_s": 0.0},
    )
    calm = sl.simulate(board, progress=False).frame("clients").sum()
    shed = sl.simulate(board.replace({"server.shed_wait_s": 0.105}), progress=False)
    assert (calm["errors"], calm["polls"]) == (0, 40 * 9)
    assert shed.frame("clients")["polls"].sum() == calm["polls"]
    # All 40 ask at once, and the server takes 10 ms for each: 11 have waited for 0.105 s at most.
    assert shed.frame("clients")["errors"].sum() == (40 - 11) * 9
    dead = [
        {"kind": "path_loss", "start_s": 50.0, "length_s": 1.0},
        {"kind": "restart", "start_s": 55.0, "length_s": 20.0},
    ]
    new = board.replace({"faults": dead, "server.keep_alive_s": 5.0})  # each opens a connection
    down = sl.simulate(new, progress=False).frame("clients").sum()
    assert down["errors"] == 40  # the one poll of each that finds nobody
