"""The real server under a rollout plan: stages, a kill switch, the way back, beside predictions."""

from __future__ import annotations

import numpy as np
import psutil
import pytest

import simlib as sl
from simlib.errors import ScenarioError

pytestmark = pytest.mark.live

SCALE = 20.0
BOARD = sl.Scenario(
    clients=300,
    ramp_s=10.0,
    horizon_s=240.0,
    updates={"rate_per_s": 0.2},
    reconnect={"policy": "full_jitter"},
)
PLAN = sl.Plan(
    start_s=20.0,
    check_every_s=10.0,
    stages=[{"percent": percent, "bake_s": 30.0} for percent in (10, 50, 100)],
    flag={"propagation": "polled", "every_s": 20.0},
    kill_s=163.0,
)


@pytest.fixture(autouse=True)
def leaves_no_process():
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= before


def both(plan, board=BOARD):
    live = sl.roll_out(plan, board, engine="live", time_scale=SCALE, progress=False)
    return live, sl.roll_out(plan, live.run.scenario, progress=False)


def test_the_kill_switch_brings_300_real_clients_back_and_loses_nothing():
    live, simulated = both(PLAN)
    history = live.history
    assert history.loc[history["event"] == "started", "percent"].tolist() == [10.0, 50.0, 100.0]
    assert history[["t_s", "percent", "event"]].equals(
        simulated.history[["t_s", "percent", "event"]]
    )
    at_s = [49.0, 79.0, 159.0, 239.0]
    table = sl.rollouts.compare(simulated.run, live.run, at_s, back_s=163.0).set_index("figure")
    measured, predicted = table["measured"], table["predicted"]
    for t, expected in zip(at_s, (28.0, 153.0, 300.0, 0.0), strict=True):
        figure = f"push connections at {t:g} s"
        assert measured[figure] == predicted[figure] == expected
    for share in ("50%", "90%", "99%", "100%"):
        figure = f"{share} back within (s)"
        assert measured[figure] == pytest.approx(predicted[figure], abs=0.15 * SCALE)
    assert measured["100% back within (s)"] < 20.0 + 0.15 * SCALE
    for to in ("websocket", "polling"):
        assert measured[f"switch to {to}, 50% within (s)"] < 0.1 * SCALE
    ledger = live.run.ledger
    assert ledger.lost == 0
    assert ledger.delivered + ledger.pending == ledger.eligible == simulated.run.ledger.eligible
    clients = live.run.frame("clients")
    assert len(clients) == 300
    assert (clients["polls"] > 0).all()
    after = live.run.frame("timeline").query("cohort == 'control' and t_s >= 200.0")
    assert after["polls"].sum() >= 300  # everybody polls again


@pytest.mark.parametrize("transport", ["sse", "sse_notify"])
def test_real_clients_get_streams_and_are_taken_back_to_polling(transport):
    plan = PLAN.replace(treatment={"transport": transport})
    live, simulated = both(plan, BOARD.replace(clients=100))
    assert live.history[["t_s", "percent", "event"]].equals(
        simulated.history[["t_s", "percent", "event"]]
    )
    at_s = [49.0, 79.0, 159.0, 239.0]
    table = sl.rollouts.compare(simulated.run, live.run, at_s, back_s=163.0).set_index("figure")
    for t in at_s:
        figure = f"push connections at {t:g} s"
        assert table.loc[figure, "measured"] == table.loc[figure, "predicted"]
    assert table.loc["push connections at 159 s", "measured"] == 100.0
    assert live.run.ledger.lost == 0
    assert live.run.ledger.eligible == simulated.run.ledger.eligible


def test_real_clients_of_each_cohort_poll_at_their_own_interval():
    faster = {"transport": "polling", "changes": {"polling.interval_s": 10}}
    stages = [{"percent": 50, "bake_s": 200.0}]
    plan = PLAN.replace(treatment=faster, stages=stages, kill_s=None)
    live, simulated = both(plan, BOARD.replace(clients=100))
    measured, predicted = (each.run.metrics().set_index("cohort") for each in (live, simulated))
    for cohort in ("control", "treatment"):
        for name in ("average_latency_s", "message_rate_per_s"):
            expected = pytest.approx(predicted.loc[cohort, name], rel=0.05)
            assert measured.loc[cohort, name] == expected
    assert live.run.ledger.lost == 0


def test_a_gradual_rollback_drains_the_real_servers_sockets():
    plan = PLAN.replace(
        rollback={"sockets": "drained", "window_s": 10.0, "percents": [50, 0], "every_s": 40},
        guardrails=[{"metric": "connection_count", "below": 200.0}],
        decision={"failures": 1},
        kill_s=None,
    )
    live, simulated = both(plan, BOARD.replace(horizon_s=200.0))
    assert live.history["event"].tolist()[-2:] == ["rolled_back", "rolled_back"]
    assert live.history[["t_s", "event"]].equals(simulated.history[["t_s", "event"]])
    back_s = float(live.history.loc[live.history["event"] == "rolled_back", "t_s"].min())
    at_s = [back_s + 30.0, back_s + 70.0]
    table = sl.rollouts.compare(simulated.run, live.run, at_s).set_index("figure")
    assert table["measured"].tolist()[:2] == table["predicted"].tolist()[:2] == [153.0, 0.0]
    assert live.run.ledger.lost == 0


@pytest.mark.parametrize("nodes", [1, 2])
def test_the_server_closes_the_sockets_of_tabs_that_would_not_hear_of_it(nodes):
    """They read the flag at the start of their session alone."""
    visits = BOARD.replace(
        clients=0,
        ramp_s=0.0,
        horizon_s=190.0,
        sessions={"arrivals_per_s": 1.0, "length_s": 300.0, "length": "constant"},
        server={"nodes": nodes},
    )
    kill = PLAN.replace({"flag": {"propagation": "session"}, "rollback": {"sockets": "closed"}})
    live, simulated = both(kill, visits)
    measured, predicted = (sl.rollouts.rollback_time(one.run, 163.0) for one in (live, simulated))
    assert measured["tabs"] == predicted["tabs"] > 20
    assert measured["t100_s"] < 0.25 * SCALE
    assert live.run.ledger.lost == 0
    deaf = sl.roll_out(kill.replace(rollback={}), live.run.scenario, progress=False)
    assert np.isnan(sl.rollouts.rollback_time(deaf.run, 163.0)["t50_s"])  # nobody else tells them


def test_a_guardrail_rolls_a_real_broken_rollout_back_and_falls_back_are_counted():
    blocked = {"kind": "block_upgrades", "share": 0.3, "start_s": 0.0, "length_s": 120.0}
    board = BOARD.replace(
        {
            "clients": 100,
            "horizon_s": 120.0,
            "faults": [blocked],
            "fallback": {"after_failures": 2},
        }
    )
    plan = PLAN.replace(
        guardrails=[{"metric": "error_rate_per_h", "below": 30.0}],
        decision={"failures": 2},
        kill_s=None,
    )
    live, simulated = both(plan, board)
    assert live.history["event"].iloc[-1] == simulated.history["event"].iloc[-1] == "rolled_back"
    assert live.history["t_s"].iloc[-1] == simulated.history["t_s"].iloc[-1]
    bold = plan.replace(guardrails=[])
    live, simulated = both(bold, board)
    falls = "share on polling instead of push"
    table = sl.rollouts.compare(simulated.run, live.run, [110.0]).set_index("figure")
    assert 0.1 < table.loc[falls, "measured"] < 0.5
    assert table.loc[falls, "measured"] == pytest.approx(table.loc[falls, "predicted"], abs=0.05)
    assert live.history["utilisation"].max() > 0.0  # what the server has told so far


def test_what_the_lab_cannot_do_is_refused_and_nothing_is_started():
    restart = BOARD.replace(faults=[{"kind": "restart", "start_s": 30.0, "length_s": 2.0}])
    closes = PLAN.replace({"rollback.sockets": "closed"})
    with pytest.raises(ScenarioError, match=r"faults\.0\.kind: must not be restart"):
        sl.roll_out(closes, restart, engine="live", time_scale=SCALE)
    deploy = {"kind": "rolling_deploy", "start_s": 30.0, "length_s": 2.0, "every_s": 5.0}
    deployed = BOARD.replace({"faults": [deploy], "server.nodes": 2})
    with pytest.raises(ScenarioError, match=r"faults\.0\.kind: must not be rolling_deploy"):
        sl.roll_out(closes, deployed, engine="live", time_scale=SCALE)
    with pytest.raises(ScenarioError, match="time_scale: has no meaning"):
        sl.roll_out(PLAN, BOARD, time_scale=SCALE)
    with pytest.raises(ScenarioError, match="engine: must be one of"):
        sl.roll_out(PLAN, BOARD, engine="real")


def test_the_labs_server_does_not_push_to_some_and_tell_others():
    told = PLAN.replace({"control": {"transport": "websocket"}, "treatment.transport": "notify"})
    with pytest.raises(ScenarioError, match=r"treatment\.transport: must hear of changes as"):
        sl.roll_out(told, BOARD, engine="live", progress=False)


def test_the_labs_server_closes_no_request_that_it_holds():
    held = PLAN.replace({"treatment.transport": "long_polling", "rollback.sockets": "closed"})
    with pytest.raises(ScenarioError, match=r"treatment\.transport: must not be long_polling"):
        sl.roll_out(held, BOARD, engine="live", progress=False)
